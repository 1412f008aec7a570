//! Which reports of a CLI are about a tool use that was not reported before.

use std::collections::{HashSet, VecDeque};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::size_limit::MAX_SHOWN;
use super::{OTHER, ToolUse};
use ostler_plugin_host::types::{Semantic, ToolCall, ToolOutput};

/// Uses of an attempt that are remembered. One that is reported again after so many others is judged again.
pub(super) const MAX_KNOWN: usize = 100_000;

/// What has been reported so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    ids: Recent,
    calls: Recent,
}

impl Known {
    /// The use of which an event is the first report. A start that says something else than the one before is a report of
    /// its own: an id alone must not cover what nobody has judged.
    pub(super) fn take(&mut self, event: &Semantic) -> Option<ToolUse> {
        match event {
            Semantic::ToolStart(call) => {
                let nameless = call.id.is_empty();
                let is_new = self.ids.insert(call.id.as_bytes()) || nameless;
                let differs = serde_json::to_vec(call).map_or(true, |text| self.calls.insert(&text));
                (differs || nameless).then(|| ToolUse { call: call.clone(), is_new })
            }
            // Some CLIs leave starts out.
            Semantic::ToolResult(result) => {
                let id = result.id.as_bytes();
                let is_new = if id.is_empty() { !self.ids.contains(id) } else { self.ids.insert(id) };
                is_new.then(|| ToolUse { call: call_of(result), is_new })
            }
            _ => None,
        }
    }
}

/// A use of which only the result is known.
pub(super) fn call_of(result: &ToolOutput) -> ToolCall {
    let ToolOutput { id, output, is_error, exit_code, extra: _ } = result;
    let kept = &output[..output.floor_char_boundary(MAX_SHOWN / 2)];
    let mut extra = json!({"result": {"output": kept, "isError": is_error, "exitCode": exit_code}});
    if kept.len() < output.len() {
        extra["cut"] = json!(["/extra/result/output"]);
    }
    ToolCall { id: id.clone(), extra: Some(extra.to_string()), ..unknown_tool() }
}

/// A use of a tool of which nothing is known.
pub(crate) fn unknown_tool() -> ToolCall {
    ToolCall {
        id: String::new(),
        kind: OTHER.to_owned(),
        name: String::new(),
        input: "null".to_owned(),
        commands: Vec::new(),
        cwd: None,
        files: Vec::new(),
        urls: Vec::new(),
        mcp: None,
        parent: None,
        extra: None,
    }
}

/// A set that forgets what was inserted first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) digests: HashSet<[u8; 32]>,
    pub(super) order: VecDeque<[u8; 32]>,
}

impl Recent {
    /// Whether it was not in the set.
    pub(super) fn insert(&mut self, bytes: &[u8]) -> bool {
        let digest = Sha256::digest(bytes).into();
        if !self.digests.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
        true
    }

    pub(super) fn contains(&self, bytes: &[u8]) -> bool {
        self.digests.contains::<[u8; 32]>(&Sha256::digest(bytes).into())
    }
}
