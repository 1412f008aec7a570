//! Log messages of plugins: cut, limited in rate, and passed to the host, which redacts and stores them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::error::Kind;
use super::limits::Limits;

pub use super::bindings::provider::ostler::plugin::log::Level;

/// One message of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry<'a> {
    /// Name of the plugin.
    pub plugin: &'a str,
    /// Kind of the plugin.
    pub kind: Kind,
    /// The level that the plugin chose.
    pub level: Level,
    /// Not redacted; no control characters but tab and line feed; at most [`Limits::log_message`] bytes.
    pub message: &'a str,
}

/// Receives the messages. It is called on the thread of the guest call, within its time limit.
pub trait PluginLog: Send + Sync {
    /// Redacts and stores one message.
    fn record(&self, entry: LogEntry<'_>);
}

/// Discards every message.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLog;

impl PluginLog for NoLog {
    fn record(&self, _: LogEntry<'_>) {}
}

/// The rate limit of one plugin, which all its instances share.
pub(super) struct LogGate {
    name: String,
    kind: Kind,
    sink: Arc<dyn PluginLog>,
    max_bytes: usize,
    rate: u32,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    refilled: Instant,
    suppressed: u64,
}

impl LogGate {
    pub(super) fn new(name: &str, kind: Kind, sink: Arc<dyn PluginLog>, limits: &Limits) -> Self {
        let bucket = Mutex::new(Bucket { tokens: f64::from(limits.log_rate), refilled: Instant::now(), suppressed: 0 });
        Self { name: name.to_owned(), kind, sink, max_bytes: limits.log_message, rate: limits.log_rate, bucket }
    }

    /// The same gate with other limits.
    pub(super) fn with_limits(&self, limits: &Limits) -> Self {
        Self::new(&self.name, self.kind, Arc::clone(&self.sink), limits)
    }

    /// Records a message, or counts it as suppressed. The count is recorded before the next message that passes.
    pub(super) fn write(&self, level: Level, message: &str) {
        self.write_at(level, message, Instant::now());
    }

    fn write_at(&self, level: Level, message: &str, now: Instant) {
        let suppressed = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            let rate = f64::from(self.rate);
            let passed = now.saturating_duration_since(bucket.refilled).as_secs_f64();
            bucket.tokens = passed.mul_add(rate, bucket.tokens).min(rate);
            bucket.refilled = now;
            if bucket.tokens < 1.0 {
                bucket.suppressed += 1;
                return;
            }
            bucket.tokens -= 1.0;
            std::mem::take(&mut bucket.suppressed)
        };
        if suppressed > 0 {
            self.record(
                Level::Warn,
                &format!(
                    "{suppressed} messages of this plugin were left out: it logs more than {} a second",
                    self.rate
                ),
            );
        }
        self.record(level, &clean(message, self.max_bytes));
    }

    fn record(&self, level: Level, message: &str) {
        self.sink.record(LogEntry { plugin: &self.name, kind: self.kind, level, message });
    }
}

/// Cuts a message to `max_bytes` at a character boundary and replaces control characters: a plugin must not write escape
/// codes to a terminal.
pub(super) fn clean(message: &str, max_bytes: usize) -> String {
    let mut clean = String::with_capacity(message.len().min(max_bytes));
    for character in message.chars() {
        let character =
            if character.is_control() && !matches!(character, '\n' | '\t') { '\u{fffd}' } else { character };
        if clean.len() + character.len_utf8() > max_bytes {
            break;
        }
        clean.push(character);
    }
    clean
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Collected(Mutex<Vec<String>>);

    impl PluginLog for Collected {
        fn record(&self, entry: LogEntry<'_>) {
            self.0.lock().unwrap().push(entry.message.to_owned());
        }
    }

    #[test]
    fn suppressed_messages_are_counted_and_reported() {
        let collected = Arc::new(Collected::default());
        let gate = LogGate::new(
            "x",
            Kind::Policy,
            Arc::clone(&collected) as Arc<dyn PluginLog>,
            &Limits { log_rate: 3, ..Limits::default() },
        );
        let start = Instant::now();
        for number in 0..10 {
            gate.write_at(Level::Info, &number.to_string(), start);
        }
        assert_eq!(*collected.0.lock().unwrap(), ["0", "1", "2"]);
        gate.write_at(Level::Info, "later", start + Duration::from_secs(1));
        let collected = collected.0.lock().unwrap();
        assert!(collected[3].starts_with("7 messages"), "{collected:?}");
        assert_eq!(collected[4], "later");
    }

    #[test]
    fn messages_are_cut_and_cleaned() {
        assert_eq!(clean("a\u{1b}[31mb\n\tc", 100), "a\u{fffd}[31mb\n\tc");
        assert_eq!(clean("äöü", 5), "äö");
    }
}
