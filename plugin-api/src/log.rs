//! Logging to the host's log.

pub use crate::bindings::common::ostler::plugin::log::Level;

/// Writes a message to the host's log, where it is tagged with the plugin's name, redacted, and limited in rate and length. In
/// native builds, such as a plugin's own tests, the message goes to standard error.
pub fn write(level: Level, message: &str) {
    if cfg!(target_arch = "wasm32") {
        crate::bindings::common::ostler::plugin::log::write(level, message);
    } else {
        eprintln!("{level:?}: {message}");
    }
}

/// Writes a formatted message with a [`Level`] to the host's log: `log!(Warn, "no such item: {id}")`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        $crate::write_log($crate::Level::$level, &::std::format!($($message)+))
    };
}
