//! The plugins that are built into the binary.

use super::error::Kind;

/// A component that is part of the host. Its own identity counts; `name` and `kind` are for messages before it is
/// loaded.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Name of the plugin.
    pub name: &'static str,
    /// Kind of the plugin.
    pub kind: Kind,
    /// The component.
    pub component: &'static [u8],
    /// Its machine code, compiled by the build script; empty if there is none for this target.
    pub code: &'static [u8],
}

/// All bundled plugins, as the build script has built them.
pub const BUNDLED: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/bundled_plugins.rs"));
