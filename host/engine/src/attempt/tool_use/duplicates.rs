//! Finds the reports of a CLI about tool uses that were not reported before.

use std::collections::{HashSet, VecDeque};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::size_limit::MAX_SHOWN;
use super::{OTHER, ToolUse};
use ostler_plugin_host::types::{Semantic, ToolCall, ToolOutput};

/// Number of uses of an attempt that are remembered. A use that is reported again after this many others is evaluated again.
pub(super) const MAX_KNOWN: usize = 100_000;

/// The reported uses.
#[derive(Debug, Default)]
pub(super) struct Known {
    ids: Recent,
    calls: Recent,
}

impl Known {
    /// The use that an event reports for the first time. A start with a known id and another content is a report of its own:
    /// the id alone must not cover a use that was not evaluated.
    pub(super) fn take(&mut self, event: &Semantic) -> Option<ToolUse> {
        match event {
            Semantic::ToolStart(call) => {
                let nameless = call.id.is_empty();
                let is_new = self.ids.insert(call.id.as_bytes()) || nameless;
                let differs = serde_json::to_vec(call).map_or(true, |text| self.calls.insert(&text));
                (differs || nameless).then(|| ToolUse { call: call.clone(), is_new })
            }
            // Some CLIs omit starts.
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

/// A bounded set that forgets the oldest entry.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) digests: HashSet<[u8; 32]>,
    pub(super) order: VecDeque<[u8; 32]>,
}

impl Recent {
    /// Inserts an entry. Returns whether it is new.
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
