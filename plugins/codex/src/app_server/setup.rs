//! What a thread and its first turn are started with.

use ostler_plugin::Problems;
use ostler_plugin::provider::RunRequest;
use ostler_provider_kit::duplex::Duplex;
use ostler_provider_kit::payload::{FlagValue, Harness, Payload, Permissions, attachments};
use ostler_provider_kit::{prepare, session};
use serde_json::{Map, Value, json};

use super::requests::text_input;
use crate::prepare::image_problem;

/// Sources of threads that `continueSession` continues: all that a user or a host started, and no sub-agents.
const SOURCES: [&str; 4] = ["cli", "vscode", "exec", "appServer"];

/// Notifications that contain nothing that others do not, or nothing about the run.
const UNUSED: [&str; 14] = [
    "account/updated",
    "app/list/updated",
    "item/fileChange/outputDelta",
    "remoteControl/status/changed",
    "skills/changed",
    "thread/goal/cleared",
    "thread/goal/updated",
    "thread/name/updated",
    "thread/queue/changed",
    "thread/readState/changed",
    "thread/settings/updated",
    "turn/diff/updated",
    "turn/moderationMetadata",
    "windows/worldWritableWarning",
];

/// Whether a notification is not used, whether or not codex omits it.
pub(super) fn is_unused(method: &str) -> bool {
    UNUSED.contains(&method)
}

/// The approval policy of codex that a run gets. Only with `untrusted` codex asks before every command and every patch.
pub(crate) fn approval_policy(duplex: Duplex, permissions: &Permissions) -> &'static str {
    if duplex.every_tool {
        return "untrusted";
    }
    match permissions.approval_policy.as_deref() {
        Some("never") => "never",
        Some("untrusted") => "untrusted",
        None if permissions.auto_approve == Some(false) => "untrusted",
        _ => "on-request",
    }
}

/// Whether codex is made to ask about uses that it would not ask about by the payload. The host then decides only whether a policy
/// objects.
fn shows_uses(duplex: Duplex, permissions: &Permissions) -> bool {
    duplex.every_tool && approval_policy(Duplex { every_tool: false, ..duplex }, permissions) != "untrusted"
}

/// Parameters of the protocol that depend on the run.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub interactive: bool,
    pub cwd: String,
    pub requested_session: Option<String>,
    pub continues: bool,
    pub fresh_id: String,
    model: Option<String>,
    approval_policy: &'static str,
    /// Whether codex asks about more than it would by the payload, so that the policies see each use of a tool.
    pub shows_uses: bool,
    ephemeral: bool,
    thread_source: Option<String>,
    schema: Option<Value>,
    /// Input of the first turn. Empty if a session starts without a prompt.
    pub first: Vec<Value>,
}

impl Setup {
    pub(super) fn of(request: &RunRequest) -> Self {
        // The host has called `prepare` with the same request, so the payload is valid.
        let payload = Payload::parse(&request.payload).unwrap_or_default();
        let duplex = Duplex::of(request).unwrap_or_default();
        let harness = &payload.harness;
        let thread_source = match payload.optional_flags.get("--thread-source") {
            Some(FlagValue::One(source)) => Some(source.to_string()),
            _ => None,
        };
        Self {
            interactive: duplex.interactive,
            cwd: request.cwd.clone(),
            requested_session: request.resume_session.clone(),
            continues: request.resume_session.is_none() && harness.continue_session == Some(true),
            fresh_id: request.fresh_id.clone(),
            model: request.model.clone(),
            approval_policy: approval_policy(duplex, &harness.permissions),
            shows_uses: shows_uses(duplex, &harness.permissions),
            ephemeral: crate::flags::is_on(&payload.optional_flags, "--ephemeral"),
            thread_source,
            schema: harness.structured_output.as_ref().map(|wanted| wanted.schema.clone()),
            first: first_input(request, harness),
        }
    }

    pub(super) const fn wants_structure(&self) -> bool {
        self.schema.is_some()
    }

    pub(super) fn initialize() -> Value {
        json!({
            "clientInfo": { "name": "ostler", "title": "Ostler", "version": env!("CARGO_PKG_VERSION") },
            // For `thread/backgroundTerminals`.
            "capabilities": { "experimentalApi": true, "optOutNotificationMethods": UNUSED },
        })
    }

    pub(super) fn list(&self) -> Value {
        json!({ "cwd": self.cwd, "limit": 1, "sortKey": "updated_at", "sourceKinds": SOURCES })
    }

    pub(super) fn start(&self) -> Value {
        let mut params = self.thread();
        if self.ephemeral {
            params.insert("ephemeral".to_owned(), true.into());
        }
        if let Some(source) = &self.thread_source {
            params.insert("threadSource".to_owned(), source.as_str().into());
        }
        params.into()
    }

    pub(super) fn resume(&self, thread: &str) -> Value {
        let mut params = self.thread();
        params.insert("threadId".to_owned(), thread.into());
        params.insert("excludeTurns".to_owned(), true.into());
        params.into()
    }

    /// The sandbox is not part of it: the command line sets it together with its details.
    fn thread(&self) -> Map<String, Value> {
        let mut params = Map::new();
        params.insert("cwd".to_owned(), self.cwd.as_str().into());
        params.insert("approvalPolicy".to_owned(), self.approval_policy.into());
        // The user's own configuration may name a model as the reviewer.
        params.insert("approvalsReviewer".to_owned(), "user".into());
        if let Some(model) = &self.model {
            params.insert("model".to_owned(), model.as_str().into());
        }
        params
    }

    /// Why the thread cannot be used although codex has started it: the settings of an administrator may replace those of the
    /// run.
    pub(super) fn refused(&self, result: &Value) -> Option<String> {
        let wanted = [("approvalPolicy", self.approval_policy), ("approvalsReviewer", "user")];
        wanted.into_iter().find_map(|(key, wanted)| {
            let used = result.get(key).filter(|used| used.as_str() != Some(wanted))?;
            Some(format!(
                "codex uses {key} {used} instead of \"{wanted}\", so the run's tool uses would not be decided"
            ))
        })
    }

    pub(super) fn turn(&self, thread: &str, input: &[Value]) -> Value {
        let mut params = json!({ "threadId": thread, "input": input });
        if let Some(schema) = &self.schema {
            params["outputSchema"] = schema.clone();
        }
        params
    }

    /// Whether a thread is newer than the attempt. None if that cannot be determined.
    pub(super) fn is_newer(&self, thread: &str) -> Option<bool> {
        session::is_newer(thread, &self.fresh_id)
    }
}

/// The prompt with files and piped text, and the images.
fn first_input(request: &RunRequest, harness: &Harness) -> Vec<Value> {
    let (mut files, mut images) = (Vec::new(), Vec::new());
    for placed in attachments(request, harness) {
        let attachment = placed.attachment;
        if !placed.image {
            files.push((attachment.name.as_str(), attachment.mime_type.as_str(), attachment.path.as_str()));
        } else if image_problem(attachment).is_none() {
            images.push(json!({ "type": "localImage", "path": attachment.path }));
        }
    }
    let text = prepare::input(request, harness, &files, &mut Problems::default());
    let mut input = Vec::new();
    if !text.trim().is_empty() {
        input.push(text_input(&text));
    }
    input.extend(images);
    input
}
