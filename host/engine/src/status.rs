//! The status of the host.

use std::sync::atomic::Ordering;

use ostler_protocol::methods::{PROTOCOL, Status};

use crate::Engine;

impl Engine {
    /// How the host is.
    pub fn status(&self) -> Status {
        let setup = self.config.load();
        let (counts, pauses) = (self.dispatcher.counts(), self.dispatcher.pauses());
        let mut problems = self.reloading.problems(&setup);
        problems.extend(self.tokens.problems());
        problems.extend(self.storage.trouble().map(|trouble| trouble.to_string()));
        let redactor = self.redactors.for_diagnostics();
        let token_store = self.tokens.describe(setup.config.tokens.store);
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
            global_limit: u32::try_from(setup.config.scheduler.global).unwrap_or(u32::MAX),
            capacity: u32::try_from(setup.config.scheduler.capacity).unwrap_or(u32::MAX),
            subscribers: self.subscribers.load(Ordering::Relaxed) as u64,
            cursor: *self.storage.events_watch().borrow(),
            tokens_storable: token_store.is_ok(),
            token_store: token_store.unwrap_or_else(|error| format!("none: {}", error.message)),
            seal_key: format!("file {}", self.sealer.key_file().display()),
            sandbox: Some(self.sandbox_support()),
            problems: problems.iter().map(|problem| redactor.redact(problem).text.into_owned()).collect(),
            reloads: self.reloading.reloads(),
        }
    }
}
