//! Reads a plugin's request for approval, and makes of it what clients see.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::record::Recorder;
use ostler_plugin_host::types::{self as plugin, ToolCall};
use ostler_protocol::{Approval, ApprovalId, ApprovalKind, ApprovalQuestion, RunId};

/// Maximum length of a title, in characters.
const MAX_TITLE: usize = 200;

/// Maximum number of questions, and of choices of one question.
const MAX_QUESTIONS: usize = 32;

/// When a CLI asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It shows a tool use before it happens, and applies its own rules afterwards. Allowing it means that no policy
    /// objects.
    Use,
    /// It waits for the decision of a user.
    #[default]
    Ask,
}

/// What a plugin says about a request beside the tool use: the member `extra`.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestFacts {
    pub(crate) kind: Option<ApprovalKind>,
    pub(crate) phase: Phase,
    pub(crate) title: Option<String>,
    pub(crate) editable: bool,
    pub(crate) deny_by_default: bool,
    pub(crate) questions: Vec<ApprovalQuestion>,
    pub(crate) schema: Option<Value>,
}

/// The members of `extra`. Each may be missing or malformed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Extra {
    kind: Value,
    phase: Value,
    title: Value,
    editable: Value,
    deny_by_default: Value,
    questions: Value,
    schema: Value,
}

impl RequestFacts {
    /// Reads the member `extra` of a request.
    pub(crate) fn read(extra: Option<&str>) -> Self {
        let extra: Extra = extra.and_then(|extra| serde_json::from_str(extra).ok()).unwrap_or_default();
        let mut questions: Vec<ApprovalQuestion> = serde_json::from_value(extra.questions).unwrap_or_default();
        questions.truncate(MAX_QUESTIONS);
        questions.iter_mut().for_each(|question| question.options.truncate(MAX_QUESTIONS));
        Self {
            kind: extra.kind.as_str().and_then(ApprovalKind::from_name),
            phase: if extra.phase == "use" { Phase::Use } else { Phase::Ask },
            title: extra.title.as_str().map(str::to_owned),
            editable: extra.editable == true,
            deny_by_default: extra.deny_by_default == true,
            questions,
            schema: Some(extra.schema).filter(|schema| !schema.is_null()),
        }
    }

    /// What the approval is about. A plugin of an older version does not say it.
    pub(crate) fn kind_of(&self, call: &ToolCall) -> ApprovalKind {
        self.kind.unwrap_or(match call.kind.as_str() {
            "shell" => ApprovalKind::Command,
            "file_write" | "file_edit" => ApprovalKind::Patch,
            "question" => ApprovalKind::Question,
            "web_fetch" | "web_search" => ApprovalKind::Network,
            _ => ApprovalKind::Tool,
        })
    }
}

/// What an approval is opened with.
pub(crate) struct OpenApproval<'a> {
    pub(crate) run: RunId,
    pub(crate) provider: &'a str,
    pub(crate) cwd: &'a Path,
    pub(crate) request: &'a plugin::ApprovalRequest,
    pub(crate) facts: &'a RequestFacts,
    /// The finding of a policy that asks.
    pub(crate) asked_by_policy: Option<String>,
    pub(crate) opened_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// The approval as clients see it: every text is redacted.
pub(crate) fn approval(open: OpenApproval<'_>, recorder: &Recorder) -> Approval {
    let OpenApproval { run, provider, cwd, request, facts, asked_by_policy, opened_at, expires_at } = open;
    let (call, kind) = (&request.call, facts.kind_of(&request.call));
    let text = |text: &str| recorder.clean(text);
    let command = (!call.commands.is_empty()).then(|| text(&call.commands.join("\n")));
    let diff = {
        let changes: Vec<&str> = call.files.iter().filter_map(|file| file.change.as_deref()).collect();
        (!changes.is_empty()).then(|| text(&changes.join("\n")))
    };
    let json = |value: &Value| {
        let mut value = value.clone();
        recorder.redactor().redact_json(&mut value);
        value
    };
    let questions = serde_json::to_value(&facts.questions).map(|questions| json(&questions));
    let questions = questions.ok().and_then(|questions| serde_json::from_value(questions).ok()).unwrap_or_default();
    let input = match kind {
        ApprovalKind::Elicitation => facts.schema.clone(),
        _ => serde_json::from_str(&call.input).ok().filter(|input: &Value| !input.is_null()),
    };
    let reason = [asked_by_policy.as_deref(), request.reason.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    Approval {
        id: ApprovalId::generate(),
        run_id: run,
        provider: provider.to_owned(),
        kind,
        title: title(&text(&facts.title.clone().unwrap_or_else(|| default_title(kind, call)))),
        command,
        cwd: Some(PathBuf::from(text(&call.cwd.as_ref().map_or_else(|| cwd.display().to_string(), Clone::clone)))),
        diff,
        reason: (!reason.is_empty()).then(|| text(&reason.join("; "))),
        questions,
        input: input.as_ref().map(json),
        editable: facts.editable,
        opened_at,
        expires_at,
        deny_by_default: facts.deny_by_default || asked_by_policy.is_some(),
    }
}

/// A title where the plugin gives none.
fn default_title(kind: ApprovalKind, call: &ToolCall) -> String {
    let files = || call.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ");
    match kind {
        ApprovalKind::Command if !call.commands.is_empty() => format!("run {}", call.commands.join("; ")),
        ApprovalKind::Patch if !call.files.is_empty() => format!("change {}", files()),
        ApprovalKind::Network if !call.urls.is_empty() => format!("reach {}", call.urls.join(", ")),
        ApprovalKind::Question => "a question".to_owned(),
        _ => match &call.mcp {
            Some(mcp) => format!("use {} of the MCP server {}", mcp.tool, mcp.server),
            None if call.name.is_empty() => "use a tool".to_owned(),
            None if call.files.is_empty() => format!("use {}", call.name),
            None => format!("use {} on {}", call.name, files()),
        },
    }
}

/// One line of at most [`MAX_TITLE`] characters.
fn title(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
