//! Names that only a running host knows: open sessions and approvals.
//!
//! A host is asked if one is running. None is started, and any error means that there are no names.

use super::super::context::VERSION;
use super::super::{clean, format};
use super::Named;
use ostler_client::{Client, ClientConfig, ClientError};
use ostler_config::Paths;
use ostler_protocol::RunMode;
use ostler_protocol::methods::ListRunsParams;

/// Runs that are searched for sessions, the newest ones.
const LIMIT: u32 = 200;

/// Open sessions, newest first.
pub(super) fn sessions(paths: &Paths) -> Vec<Named> {
    ask(paths, async |client| {
        let page = client.list_runs(&ListRunsParams { limit: Some(LIMIT), ..ListRunsParams::default() }).await?;
        let open = page.items.into_iter().filter(|run| run.mode == RunMode::Interactive && !run.status.ended());
        Ok(open.map(|run| named(&run.run_id.to_string(), &format!("{}: {}", run.provider, run.title))).collect())
    })
}

/// Open approvals, oldest first.
pub(super) fn approvals(paths: &Paths) -> Vec<Named> {
    ask(paths, async |client| {
        let approvals = client.list_approvals(None).await?;
        Ok(approvals.iter().map(|approval| named(&approval.id.to_string(), &approval.title)).collect())
    })
}

fn named(id: &str, about: &str) -> Named {
    Named { value: format::short_id(id), long: Some(id.to_owned()), about: clean::line(about) }
}

fn ask(paths: &Paths, call: impl AsyncFnOnce(&Client) -> Result<Vec<Named>, ClientError>) -> Vec<Named> {
    let Ok(runtime) = crate::new_runtime() else { return Vec::new() };
    let names = runtime.block_on(async {
        let client = Client::connect(ClientConfig::new(paths.socket.clone(), VERSION)).await?;
        call(&client).await
    });
    names.unwrap_or_default()
}
