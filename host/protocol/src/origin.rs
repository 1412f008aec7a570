//! Origin of the value of a setting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration that is built in.
    Default,
    /// The user's file.
    File,
    /// Set at run time, over both.
    Override,
}
