//! Logging into the host's own log.

pub use crate::bindings::common::ostler::plugin::log::Level;

/// Writes one message into the host's log, tagged there with the plugin's name, redacted and limited in rate and
/// length. Natively, in a plugin's own tests, it goes to standard error.
pub fn write(level: Level, message: &str) {
    if cfg!(target_arch = "wasm32") {
        crate::bindings::common::ostler::plugin::log::write(level, message);
    } else {
        eprintln!("{level:?}: {message}");
    }
}

/// Writes a formatted message of the given [`Level`] into the host's log: `log!(Warn, "no such item: {id}")`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        $crate::write_log($crate::Level::$level, &::std::format!($($message)+))
    };
}
