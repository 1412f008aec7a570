//! Parameters and results of the methods, except those that are records of their own.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod access;
mod conversations;
mod descriptor;
mod host;
mod profiles;
mod retention;
mod runs;
mod sessions;
mod settings;
mod streams;
mod tokens;

pub use access::*;
pub use conversations::*;
pub use descriptor::{METHODS, MethodDescriptor};
pub use host::*;
pub use profiles::*;
pub use retention::*;
pub use runs::*;
pub use sessions::*;
pub use settings::*;
pub use streams::*;
pub use tokens::*;

/// Version of the API protocol. Client and host must agree on it and on the package version.
pub const PROTOCOL: u32 = 1;

/// Name of the line protocol in the `Upgrade` header: JSON-RPC with one frame on each line.
pub const LINES_PROTOCOL: &str = "ostler-lines";

/// Header that carries the package version in every request and response.
pub const VERSION_HEADER: &str = "x-ostler-version";

/// Header with the origin of a request: `cli`, `rpc`, `http` or `mcp`.
pub const ORIGIN_HEADER: &str = "x-ostler-origin";

/// `grant_workspace`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantWorkspaceParams {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Whether runs use agent settings in the folder itself (hooks, permissions, MCP servers). Without it, an existing
    /// grant keeps its value, and a new grant does not trust them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_settings: Option<bool>,
}

/// `revoke_workspace`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceParams {
    /// The folder, absolute.
    pub path: PathBuf,
}

/// Parameters of methods that take none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}
