//! The status of the host.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use ostler_config::Paths;
use ostler_protocol::methods::{HttpStatus, PROTOCOL, Status};
use ostler_storage::Storage;

use crate::event_stream::EventStreams;
use crate::queue::dispatch::Dispatcher;
use crate::redactors::Redactors;
use crate::sandbox::SandboxService;
use crate::setup::CurrentConfig;
use crate::setup::reload::ReloadState;
use crate::tokens::ProviderTokens;

/// Collects the status of the host from the other services.
pub struct StatusReporter {
    pub(crate) paths: Paths,
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) reloads: Arc<ReloadState>,
    pub(crate) tokens: Arc<ProviderTokens>,
    pub(crate) sandbox: Arc<SandboxService>,
    /// The file of the key that seals payloads.
    pub(crate) seal_key: PathBuf,
    pub(crate) started_at: Timestamp,
    /// Whether the host ends by itself when it is idle.
    pub(crate) background: bool,
    pub(crate) streams: EventStreams,
    /// Where the API is available over TCP, if it is.
    pub(crate) http: OnceLock<HttpStatus>,
}

impl fmt::Debug for StatusReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusReporter").finish_non_exhaustive()
    }
}

impl StatusReporter {
    /// Sets where the API is available over TCP.
    pub fn set_http(&self, http: HttpStatus) {
        let _ = self.http.set(http);
    }

    /// Adds a problem that exists until the host ends, and logs it.
    pub fn report_problem(&self, problem: String) {
        tracing::warn!(problem);
        self.reloads.report(problem);
    }

    /// The status of the host.
    #[must_use]
    pub fn get(&self) -> Status {
        let active = self.config.load();
        let (counts, pauses) = (self.dispatcher.counts(), self.dispatcher.pauses());
        let mut problems = self.reloads.problems(&active);
        problems.extend(self.tokens.problems());
        problems.extend(self.storage.trouble().map(|trouble| trouble.to_string()));
        let redactor = self.redactors.for_diagnostics();
        let token_store = self.tokens.describe(active.config.tokens.store);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            started_at: self.started_at,
            background: self.background,
            data_folder: self.paths.data_dir.clone(),
            socket: self.paths.socket.clone(),
            http: self.http.get().cloned(),
            log_file: self.paths.log_file(),
            config_file: self.paths.config_file.clone(),
            running: counts.running as u64,
            ready: counts.ready as u64,
            scheduled: counts.scheduled as u64,
            held: counts.held as u64,
            queue_paused: pauses.all,
            paused_providers: pauses.lanes.into_iter().collect(),
            global_limit: u32::try_from(active.config.scheduler.global).unwrap_or(u32::MAX),
            capacity: u32::try_from(active.config.scheduler.capacity).unwrap_or(u32::MAX),
            subscribers: self.streams.count() as u64,
            cursor: *self.storage.events_watch().borrow(),
            tokens_storable: token_store.is_ok(),
            token_store: token_store.unwrap_or_else(|error| format!("none: {}", error.message)),
            seal_key: format!("file {}", self.seal_key.display()),
            sandbox: Some(self.sandbox.support()),
            problems: problems.iter().map(|problem| redactor.redact(problem).text.into_owned()).collect(),
            reloads: self.reloads.reloads(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, SECRET, Services, enqueue};
    use ostler_protocol::methods::SubscribeParams;

    #[test]
    fn status_counts_jobs_and_streams_and_names_problems_without_secrets() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let reporter = StatusReporter {
            paths: fixture.paths(),
            storage: fixture.storage.clone(),
            config: fixture.config.clone(),
            redactors: fixture.redactors.clone(),
            dispatcher: Arc::clone(&services.dispatcher),
            reloads: Arc::clone(&services.reloads),
            tokens: Arc::clone(&services.tokens),
            sandbox: Arc::clone(&services.sandbox),
            seal_key: services.sealer.key_file().to_owned(),
            started_at: Timestamp::UNIX_EPOCH,
            background: true,
            streams: EventStreams::new(fixture.storage.clone()),
            http: OnceLock::new(),
        };
        enqueue(&services.dispatcher, fixture.insert_run("codex"), None);
        let streams = [(); 2].map(|()| reporter.streams.open(&SubscribeParams::default()).unwrap());
        reporter.report_problem(format!("failed to use {SECRET}"));
        let http = HttpStatus { url: "http://127.0.0.1:1".to_owned(), token_file: fixture.folder() };
        reporter.set_http(http.clone());
        let status = reporter.get();
        assert_eq!((status.ready, status.running, status.subscribers), (1, 0, streams.len() as u64));
        assert_eq!((status.background, status.http, status.data_folder), (true, Some(http), fixture.paths().data_dir));
        assert!(status.problems.contains(&"failed to use [REDACTED:test-key]".to_owned()), "{:?}", status.problems);
    }
}
