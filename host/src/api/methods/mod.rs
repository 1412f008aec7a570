//! The methods: one table, which every transport serves.

mod host;
mod runs;
mod workspace;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rpc::Caller;
use crate::engine::Engine;
use crate::model::{ApiError, validate_document};

/// One method.
pub(crate) struct Method {
    /// Its name on the wire.
    pub(crate) name: &'static str,
    /// Names of its parameters, in the order in which an array gives them; empty where it takes one whole object.
    pub(crate) params: &'static [&'static str],
    /// Does it. Blocks.
    pub(crate) call: fn(&Arc<Engine>, &Caller, Value) -> Result<Value, ApiError>,
}

/// Every method that works.
static METHODS: &[Method] = &[
    Method { name: "start_run", params: &[], call: runs::start },
    Method { name: "cancel_run", params: &["runId"], call: runs::cancel },
    Method { name: "get_run", params: &["runId"], call: runs::get },
    Method {
        name: "list_runs",
        params: &["provider", "status", "conversationId", "search", "dateFrom", "dateTo", "limit", "offset"],
        call: runs::list,
    },
    Method { name: "get_run_events", params: &["runId", "after", "limit"], call: runs::events },
    Method { name: "list_queue_jobs", params: &["state"], call: runs::jobs },
    Method { name: "list_capabilities", params: &["refresh"], call: host::capabilities },
    Method { name: "list_workspace_grants", params: &[], call: workspace::list },
    Method { name: "grant_workspace", params: &["path"], call: workspace::grant },
    Method { name: "revoke_workspace", params: &["path"], call: workspace::revoke },
    Method { name: "list_plugins", params: &[], call: host::plugins },
    Method { name: "get_status", params: &[], call: host::status },
    Method { name: "stop", params: &["ifIdle"], call: host::stop },
];

/// The method of that name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// The name that `name` most likely stands for.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    METHODS
        .iter()
        .map(|method| (strsim::normalized_damerau_levenshtein(name, method.name), method.name))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

/// Reads the parameters, calls, and writes the result.
fn call<P, R>(params: Value, call: impl FnOnce(P) -> Result<R, ApiError>) -> Result<Value, ApiError>
where
    P: DeserializeOwned + JsonSchema + 'static,
    R: Serialize,
{
    let result = call(validate_document(params)?)?;
    serde_json::to_value(result).map_err(|error| ApiError::internal(format!("failed to write the result: {error}")))
}
