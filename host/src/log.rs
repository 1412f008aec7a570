//! The host's own log: daily files in the log folder. All lines are redacted.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::log_files::LogFiles;
use ostler_config::{LogConfig, LogLevel};
use ostler_plugin_host::{Level, LogEntry, PluginLog};
use ostler_redaction::RunRedactor;

/// The redactor for every line of the log. Empty until it is loaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter(Arc<ArcSwapOption<RunRedactor>>);

/// The active log and its changeable settings.
#[derive(Debug)]
pub(super) struct Log {
    filter: Filter,
    folder: PathBuf,
    files: Arc<ArcSwap<LogFiles>>,
    level: reload::Handle<LevelFilter, Registry>,
    kept: Mutex<usize>,
}

impl Log {
    /// Starts to log. A second call in one process has no effect.
    pub(super) fn init(folder: &Path, config: &LogConfig) -> io::Result<Self> {
        let files = Arc::new(ArcSwap::from_pointee(LogFiles::open(folder, config.keep_files)?));
        let filter = Filter::default();
        let (level, handle) = reload::Layer::new(filter_of(config.level));
        let writer = Redacting { files: Arc::clone(&files), filter: filter.clone() };
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(writer);
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(level).with(lines));
        std::panic::set_hook(Box::new(|panic| {
            // Log only the location of a panic, because its message may contain secrets.
            let location = panic.location().map_or_else(String::new, ToString::to_string);
            tracing::error!(
                place = location,
                thread = std::thread::current().name().unwrap_or_default(),
                "the host panicked"
            );
        }));
        let folder = folder.to_owned();
        Ok(Self { filter, folder, files, level: handle, kept: Mutex::new(config.keep_files) })
    }

    /// The receiver for log entries of plugins.
    pub(super) fn plugin_lines(&self) -> PluginLines {
        PluginLines { filter: self.filter.clone() }
    }

    /// Applies a new configuration and a new redactor. Returns the problems of settings that could not be applied.
    pub(super) fn apply(&self, config: &LogConfig, redactor: RunRedactor) -> Vec<String> {
        self.filter.0.store(Some(Arc::new(redactor)));
        // This fails only if another logger was installed first.
        let _ = self.level.reload(filter_of(config.level));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept == config.keep_files {
            return Vec::new();
        }
        match LogFiles::open(&self.folder, config.keep_files) {
            Ok(files) => {
                self.files.store(Arc::new(files));
                *kept = config.keep_files;
                Vec::new()
            }
            Err(error) => vec![format!("the log keeps {} files as before: {error}", *kept)],
        }
    }
}

const fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

struct Redacting {
    files: Arc<ArcSwap<LogFiles>>,
    filter: Filter,
}

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { files: self.files.load_full(), filter: &self.filter, text: Vec::new() }
    }
}

/// One line, written as a whole when it is complete.
struct Line<'a> {
    files: Arc<LogFiles>,
    filter: &'a Filter,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        // Redact before the file is locked: a redactor plugin may run, and may itself write to the log.
        let redactor = self.filter.0.load_full();
        let redacted = redactor.as_ref().map(|redactor| redactor.redact(&text));
        let text = redacted.as_ref().map_or(&*text, |redacted| &*redacted.text);
        // A log that cannot be written must not end the host.
        let _ = self.files.write(one_line(text).as_bytes());
    }
}

/// Escapes the line ends within a log entry, so that text of plugins and programs cannot imitate entries of the host.
fn one_line(entry: &str) -> Cow<'_, str> {
    let (body, end) = entry.strip_suffix('\n').map_or((entry, ""), |body| (body, "\n"));
    if body.contains(['\n', '\r']) {
        Cow::Owned(format!("{}{end}", body.replace('\n', "\\n").replace('\r', "\\r")))
    } else {
        Cow::Borrowed(entry)
    }
}

/// Writes log entries of plugins to the log.
#[derive(Debug)]
pub(super) struct PluginLines {
    filter: Filter,
}

impl PluginLog for PluginLines {
    fn record(&self, entry: LogEntry<'_>) {
        let (plugin, kind) = (entry.plugin, entry.kind.as_str());
        // A plugin may log its input. Its messages are withheld until a redactor is loaded.
        let message =
            if self.filter.0.load().is_some() { entry.message } else { "(withheld: nothing is redacted yet)" };
        match entry.level {
            Level::Error => tracing::error!(plugin, kind, "{message}"),
            Level::Warn => tracing::warn!(plugin, kind, "{message}"),
            Level::Info => tracing::info!(plugin, kind, "{message}"),
            Level::Debug => tracing::debug!(plugin, kind, "{message}"),
            Level::Trace => tracing::trace!(plugin, kind, "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_entry_is_one_line() {
        assert_eq!(one_line("INFO fine\n"), "INFO fine\n");
        assert_eq!(one_line("INFO a\n2026 ERROR forged\r\n"), "INFO a\\n2026 ERROR forged\\r\n");
        assert_eq!(one_line("no end"), "no end");
    }
}
