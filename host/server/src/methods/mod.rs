//! The method table. Every transport serves it, and the OpenRPC document is generated from it.

mod access;
mod audit;
mod conversations;
mod host;
mod profiles;
mod retention;
mod runs;
mod sessions;
mod streams;
mod tokens;
mod workspace;

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::document;
use super::rpc::Caller;
use ostler_engine::Engine;
use ostler_protocol::ErrorKind::{self, *};
use ostler_protocol::methods::{
    AcknowledgeParams, AcknowledgeResult, AnswerApprovalParams, ApplyRetentionParams, ArchiveConversationParams,
    CancelResult, ConversationParams, ConversationResult, CreateAccessTokenParams, CreateConversationParams,
    CreatedAccessToken, DeletedConversation, DeletedRun, EndSessionResult, ExportRunParams, ExportRunResult,
    GetConversationParams, GetSettingsParams, GrantWorkspaceParams, Inbox, InterruptResult, ListApprovalsParams,
    ListAuditParams, ListAuditResult, ListCapabilitiesParams, ListConversationsParams, ListJobsParams,
    ListPluginsResult, ListProfilesParams, ListRunsParams, NoParams, PauseParams, ProfileParams, ProviderParams,
    ProviderTokenParams, PruneAuditParams, PruneAuditResult, QueuePauses, Reload, RenameConversationParams,
    RerunParams, ResizeTerminalParams, ResumeSessionParams, RetentionState, RevokeAccessTokenParams, RunEventsParams,
    RunEventsResult, RunParams, SaveProfileParams, SendMessageParams, SessionInputParams, SessionInputResult,
    SessionResult, SetQueuePriorityParams, SetRetentionParams, Settings, StartRunParams, StartRunResult,
    StartSessionParams, Status, StopParams, StopResult, SubscribeParams, SubscribeResult, TokenState,
    TrustPluginParams, TrustPluginResult, UnsetRetentionParams, UnsubscribeParams, UnsubscribeResult,
    UpdateConversationParams, UpdateSettingsParams, WorkspaceParams,
};
use ostler_protocol::{
    AccessClass, AccessToken, ApiError, Approval, ApprovalDecision, AuditVerdict, CapabilitySnapshot, Conversation,
    ConversationSummary, Grant, JobRecord, Page, Profile, RetentionPolicy, RetentionReport, RunRecord, RunSummary,
    TerminalSize,
};
use ostler_schema::validate_document;

/// One method.
pub(crate) struct Method {
    /// Its name on the wire.
    pub(crate) name: &'static str,
    /// Its description in the document.
    pub(crate) about: &'static str,
    /// Names of its parameters in the order of positional calls. New ones come last: clients that were generated from
    /// an earlier document call by position.
    pub(crate) params: &'static [&'static str],
    /// The required class. If it depends on the parameters, the lowest one; the method checks the rest.
    pub(crate) class: AccessClass,
    /// Possible errors in addition to [`COMMON_ERRORS`].
    pub(crate) errors: &'static [ErrorKind],
    /// Schemas of its parameters, as one object, and of its result.
    pub(crate) schemas: fn(&mut SchemaGenerator) -> (Schema, Schema),
    /// Runs the method and serializes the result. Blocks.
    pub(crate) call: fn(&Arc<Engine>, &Caller, Value) -> Answer,
}

/// A result as JSON text, or the error.
type Answer = Result<Box<RawValue>, ApiError>;

/// Errors of every method: invalid parameters, a client without the required class, a failed disk or database, a defect
/// of the host.
pub(crate) const COMMON_ERRORS: &[ErrorKind] = &[InvalidParams, PolicyDenied, Io, Internal];

/// An entry of the table: `/// about`, `class name(order of parameters): Params => Result, [errors], call`. `call` gets
/// parsed and validated parameters; after `raw` it gets the JSON value.
macro_rules! method {
    ($(#[doc = $about:literal])+ $class:ident $name:ident ($($param:literal),*): $params:ty => $result:ty, [$($error:ident),*], raw $call:path) => {
        method!(@entry $class $name, concat!($($about, "\n"),+), [$($param),*], $params, $result, [$($error),*], $call)
    };
    ($(#[doc = $about:literal])+ $class:ident $name:ident ($($param:literal),*): $params:ty => $result:ty, [$($error:ident),*], $call:path) => {
        method!(@entry $class $name, concat!($($about, "\n"),+), [$($param),*], $params, $result, [$($error),*],
            |engine, caller, params| call::<$params, $result>(engine, caller, params, $call))
    };
    (@entry $class:ident $name:ident, $about:expr, [$($param:literal),*], $params:ty, $result:ty, [$($error:ident),*], $call:expr) => {
        Method {
            name: stringify!($name),
            about: $about,
            params: &[$($param),*],
            class: method!(@class $class),
            errors: &[$($error),*],
            schemas: |generator| (<$params>::json_schema(generator), generator.subschema_for::<$result>()),
            call: $call,
        }
    };
    (@class read) => { AccessClass::Read };
    (@class run) => { AccessClass::Run };
    (@class operate) => { AccessClass::Operate };
}

/// All methods.
pub(crate) static METHODS: &[Method] = &[
    method! {
        /// Starts a run: merges and validates the payload, evaluates the policies, stores and queues the run. An
        /// acknowledged run is never lost.
        run start_run(
            "prompt", "provider", "title", "model", "mode", "outputFormat", "cwd", "optionalFlags", "profileId", "queuePriority",
            "timeoutSeconds", "scheduledAt", "startAfter", "maxRetries", "retryBackoffMs", "harness", "clientEnvironment",
            "terminal"
        ): StartRunParams => StartRunResult,
        [PolicyDenied, Unenforceable, NotFound, QueueFull, CliMissing, CwdMissing, ProviderBlocked, PluginFailed, Conflict],
        raw runs::start
    },
    method! {
        /// Creates a conversation: a thread of runs of one provider. The default title is the first line of its first
        /// prompt.
        run create_conversation("provider", "title", "metadata"):
        CreateConversationParams => Conversation, [NotFound], conversations::create
    },
    method! {
        /// Conversations, most recently changed first. Archived ones only on request.
        read list_conversations("provider", "includeArchived", "search", "limit", "offset"):
        ListConversationsParams => Page<ConversationSummary>, [], conversations::list
    },
    method! {
        /// A conversation with its newest runs, in order.
        read get_conversation("conversationId", "limit", "offset"):
        GetConversationParams => ConversationResult, [NotFound], conversations::get
    },
    method! {
        /// Starts a run as the next message of a conversation. It resumes the session of the conversation when the
        /// earlier messages have ended, and works in the folder of the last one. Fails if the conversation is archived.
        run send_conversation_message(
            "conversationId", "prompt", "title", "model", "outputFormat", "cwd", "optionalFlags", "profileId", "queuePriority",
            "timeoutSeconds", "scheduledAt", "startAfter", "maxRetries", "retryBackoffMs", "harness", "clientEnvironment"
        ): SendMessageParams => StartRunResult,
        [PolicyDenied, Unenforceable, NotFound, QueueFull, CliMissing, CwdMissing, ProviderBlocked, PluginFailed, Conflict],
        raw conversations::send
    },
    method! {
        /// Gives a conversation another title.
        run rename_conversation("conversationId", "title"):
        RenameConversationParams => Conversation, [NotFound], conversations::rename
    },
    method! {
        /// Changes the metadata of a conversation with a JSON merge patch, and its title.
        run update_conversation("conversationId", "title", "metadata"):
        UpdateConversationParams => Conversation, [NotFound], raw conversations::update
    },
    method! {
        /// Archives or unarchives a conversation. Messages that were already accepted still run.
        run archive_conversation("conversationId", "archived"):
        ArchiveConversationParams => Conversation, [NotFound], conversations::archive
    },
    method! {
        /// Deletes a conversation with all its runs, as `delete_run` does. None of them may be queued or running.
        operate delete_conversation("conversationId"):
        ConversationParams => DeletedConversation, [NotFound, Conflict], conversations::delete
    },
    method! {
        /// Starts a run with the effective payload of another one, with overrides merged into it. A message becomes the
        /// next message of its conversation. Secrets of the payload are deleted when the run ends, so the overrides
        /// must supply them.
        run rerun("runId", "overrides", "clientEnvironment"): RerunParams => StartRunResult,
        [PolicyDenied, Unenforceable, NotFound, QueueFull, CliMissing, CwdMissing, ProviderBlocked, PluginFailed, Conflict],
        raw runs::rerun
    },
    method! {
        /// The profiles, by name.
        read list_profiles("provider"): ListProfilesParams => Vec<Profile>, [], profiles::list
    },
    method! {
        /// Creates a profile, or changes the one with this id. A profile that contains secrets is refused, because
        /// profiles are not encrypted.
        run save_profile("name", "provider", "config", "id"):
        SaveProfileParams => Profile, [NotFound, Conflict], profiles::save
    },
    method! {
        /// Deletes a profile. Existing runs keep the values that they got from it.
        run delete_profile("profileId"): ProfileParams => Profile, [NotFound], profiles::delete
    },
    method! {
        /// Cancels a run and returns when it has ended. If it had already ended, that is not an error; the result
        /// reports it.
        run cancel_run("runId"): RunParams => CancelResult, [NotFound], runs::cancel
    },
    method! {
        /// Deletes an ended run: its rows, events, files in the host's folders and words in the search index, also from
        /// free pages and the write-ahead log. The audit trail keeps a record of the deletion. Returns when this is
        /// done.
        operate delete_run("runId"): RunParams => DeletedRun, [NotFound, Conflict], runs::delete
    },
    method! {
        /// A run with its warnings, capability snapshot, artifacts and newest job.
        read get_run("runId"): RunParams => RunRecord, [NotFound], runs::get
    },
    method! {
        /// Runs, newest first.
        read list_runs("provider", "status", "conversationId", "cwd", "search", "dateFrom", "dateTo", "limit", "offset"):
        ListRunsParams => Page<RunSummary>, [], runs::list
    },
    method! {
        /// A page of the events of a run, oldest first: those after a cursor, or the newest ones before a cursor.
        read get_run_events("runId", "after", "limit", "before"): RunEventsParams => RunEventsResult, [NotFound], runs::events
    },
    method! {
        /// Starts a session: a run over the CLI's own two-way protocol, or in a terminal, that accepts more input.
        /// `timeoutSeconds` limits its idle time, `harness.limits.timeoutMs` its time in all. Without a prompt, the session
        /// waits for input. Returns when the CLI has opened the session, or when the run must wait for a slot.
        run start_interactive_session(
            "prompt", "provider", "title", "model", "mode", "outputFormat", "cwd", "optionalFlags", "profileId", "queuePriority",
            "timeoutSeconds", "scheduledAt", "startAfter", "maxRetries", "retryBackoffMs", "harness", "clientEnvironment",
            "terminal"
        ): StartSessionParams => SessionResult,
        [PolicyDenied, Unenforceable, NotFound, QueueFull, CliMissing, CwdMissing, ProviderBlocked, PluginFailed, Conflict],
        raw sessions::start
    },
    method! {
        /// Sends a message to the agent of a session. While a turn runs, the message is added to the turn or becomes the
        /// next one, as the CLI allows. In a session with a terminal, it is typed, followed by Enter; with `keys`, it is
        /// typed as it is.
        run send_session_input("runId", "data", "keys"):
        SessionInputParams => SessionInputResult, [NotFound, Conflict, PluginFailed], sessions::send_input
    },
    method! {
        /// Changes the size of a session's terminal. All clients see the same terminal, so the last size counts.
        run resize_terminal("runId", "rows", "columns"): ResizeTerminalParams => TerminalSize, [NotFound, Conflict],
        sessions::resize_terminal
    },
    method! {
        /// Interrupts the current turn of a session. The session stays open.
        run interrupt_turn("runId"): RunParams => InterruptResult, [NotFound, Conflict, PluginFailed], sessions::interrupt
    },
    method! {
        /// Ends a session in order and returns when its run has ended: a turn that runs is interrupted, then the input of
        /// the CLI is closed, and a CLI that does not end is stopped.
        run end_session("runId"): RunParams => EndSessionResult, [NotFound, Conflict], sessions::end
    },
    method! {
        /// Attaches to an open session, or resumes the session of an ended run in a new run. Subscribe to the events of the
        /// run, with the cursor of the last one, to read what was said meanwhile.
        run resume_session("runId", "after", "prompt", "clientEnvironment"): ResumeSessionParams => SessionResult,
        [PolicyDenied, Unenforceable, NotFound, QueueFull, CliMissing, CwdMissing, ProviderBlocked, PluginFailed, Conflict],
        sessions::resume
    },
    method! {
        /// What agents wait for, oldest first: decisions about tools, and answers to questions.
        read list_approvals("runId"): ListApprovalsParams => Vec<Approval>, [NotFound], sessions::list_approvals
    },
    method! {
        /// Answers an approval. Exactly one answer wins; whoever is later learns who answered.
        run answer_approval("runId", "requestId", "allow", "message", "input", "answers", "stopTurn"):
        AnswerApprovalParams => ApprovalDecision, [NotFound, Conflict, PluginFailed], sessions::answer
    },
    method! {
        /// What waits for a person: open approvals, failures that nobody has acknowledged, and providers whose runs do not
        /// start.
        read get_inbox(): NoParams => Inbox, [], sessions::inbox
    },
    method! {
        /// Removes failed runs from the inbox.
        run acknowledge_failures("runIds"): AcknowledgeParams => AcknowledgeResult, [NotFound], sessions::acknowledge
    },
    method! {
        /// Writes a run to a file, redacted again with the current rules, and records the file with the run. A `path`
        /// requires the class `operate`, and must not lead through a link or into the host's own folders. Over TCP,
        /// only files that an earlier export has written are replaced.
        run export_run("runId", "format", "path", "overwrite", "transient"):
        ExportRunParams => ExportRunResult, [NotFound, Conflict], runs::export
    },
    method! {
        /// Starts an event stream on a persistent connection: stored events after a cursor, then every new one, each as
        /// a notification `run_event`. Without a cursor, the stream starts now, or for a run or conversation at its
        /// beginning.
        read subscribe("after", "runId", "conversationId", "types"):
        SubscribeParams => SubscribeResult, [NotFound, Conflict], streams::subscribe
    },
    method! {
        /// Ends an event stream of this connection. Events that were already sent may still arrive.
        read unsubscribe("subscriptionId"): UnsubscribeParams => UnsubscribeResult, [NotFound, Conflict], streams::unsubscribe
    },
    method! {
        /// Jobs with their position and effective priority, in the order in which they will start.
        read list_queue_jobs("state"): ListJobsParams => Vec<JobRecord>, [], runs::jobs
    },
    method! {
        /// Pauses a provider or the whole queue until `resume_queue`: no more runs start. Running runs continue, and
        /// new runs are accepted. Survives a restart of the host.
        operate pause_queue("provider"): PauseParams => QueuePauses, [NotFound], runs::pause
    },
    method! {
        /// Resumes a provider or the queue. Providers that were paused individually stay paused when the queue is
        /// resumed.
        operate resume_queue("provider"): PauseParams => QueuePauses, [NotFound], runs::resume
    },
    method! {
        /// Changes the priority of a waiting run.
        run set_queue_priority("runId", "priority"):
        SetQueuePriorityParams => JobRecord, [NotFound, Conflict], runs::set_priority
    },
    method! {
        /// The features of the installed CLIs: the newest snapshot for each provider. Missing CLIs are `blocked`, with
        /// a hint. `refresh` starts programs and requires the class `run`.
        read list_capabilities("refresh", "provider", "clientEnvironment"):
        ListCapabilitiesParams => Vec<CapabilitySnapshot>, [NotFound], host::capabilities
    },
    method! {
        /// The folders in which runs may work.
        read list_workspace_grants(): NoParams => Vec<Grant>, [], workspace::list
    },
    method! {
        /// Allows runs to work in a folder and everything below it. It is not an error if the grant exists.
        operate grant_workspace("path", "trustSettings"): GrantWorkspaceParams => Grant, [CwdMissing], workspace::grant
    },
    method! {
        /// Revokes a grant. Running runs continue.
        operate revoke_workspace("path"): WorkspaceParams => Grant, [NotFound], workspace::revoke
    },
    method! {
        /// The retention limits of finished runs, current usage, and the last deletion.
        read get_retention(): NoParams => RetentionState, [], retention::get
    },
    method! {
        /// Sets limits of a scope, which override the configuration file. They take effect within an hour.
        operate set_retention("scope", "name", "days", "megabytes"):
        SetRetentionParams => RetentionPolicy, [NotFound], retention::set
    },
    method! {
        /// Removes the limits that were set for a scope: the configuration file and the wider scopes apply again.
        operate unset_retention("scope", "name"): UnsetRetentionParams => RetentionState, [NotFound], retention::unset
    },
    method! {
        /// Deletes finished runs that exceed a retention limit, oldest first, or only reports what would be deleted.
        operate apply_retention("dryRun"): ApplyRetentionParams => RetentionReport, [], retention::apply
    },
    method! {
        /// Stores a token for a provider and replaces an earlier one. Its runs get it in the variable that the plugin
        /// names.
        operate save_provider_token("provider", "token"):
        ProviderTokenParams => TokenState, [NotFound, PluginFailed], tokens::save
    },
    method! {
        /// Deletes the token of a provider. It is not an error if there is none.
        operate clear_provider_token("provider"): ProviderParams => TokenState, [NotFound], tokens::clear
    },
    method! {
        /// Whether a provider has a token. The token itself is never returned.
        read has_provider_token("provider"): ProviderParams => TokenState, [NotFound, PluginFailed], tokens::has
    },
    method! {
        /// The access tokens for the TCP API and their classes. The tokens themselves are never returned.
        operate list_access_tokens(): NoParams => Vec<AccessToken>, [], access::list
    },
    method! {
        /// Creates an access token and returns it once. It is valid immediately.
        operate create_access_token("name", "accessClass", "expiresInSeconds"):
        CreateAccessTokenParams => CreatedAccessToken, [Conflict], access::create
    },
    method! {
        /// Revokes an access token. All further calls with it are refused, and its connections and event streams are
        /// closed.
        operate revoke_access_token("name"): RevokeAccessTokenParams => AccessToken, [NotFound], access::revoke
    },
    method! {
        /// Records of the audit trail: the newest ones, or the ones after a number.
        read list_audit("kind", "runId", "after", "limit"): ListAuditParams => ListAuditResult, [], audit::list
    },
    method! {
        /// Checks that no record of the audit trail was changed, moved or deleted, and returns the first one that does
        /// not match.
        read verify_audit(): NoParams => AuditVerdict, [], audit::verify
    },
    method! {
        /// Deletes the oldest records of an intact audit trail. The remaining records can still be verified.
        operate prune_audit("olderThanDays"): PruneAuditParams => PruneAuditResult, [Conflict], audit::prune
    },
    method! {
        /// Every plugin that was found, with its state, and the provider instances of the plugins.
        read list_plugins(): NoParams => ListPluginsResult, [], host::plugins
    },
    method! {
        /// What a provider plugin that waits for approval would run and read. With its digest, approves it; nothing of
        /// a new provider runs before that.
        operate trust_plugin("name", "digest"): TrustPluginParams => TrustPluginResult,
        [NotFound, Conflict, PluginFailed], host::trust_plugin
    },
    method! {
        /// Reloads the configuration and the plugin folder and applies changes. Running runs keep what they started
        /// with. The host does this automatically when the files change.
        operate reload(): NoParams => Reload, [], host::reload
    },
    method! {
        /// The active settings: defaults, overridden by the configuration file, overridden by values that were set at
        /// run time.
        read get_settings("origins"): GetSettingsParams => Settings, [], host::settings
    },
    method! {
        /// Overrides values of the configuration, or resets them, and returns the active settings. The patch is applied
        /// and stored as a whole, or not at all. Settings that decide what the host trusts and runs can only be set in
        /// the configuration file.
        operate update_settings("patch", "origins"): UpdateSettingsParams => Settings, [], raw host::update_settings
    },
    method! {
        /// The status of the host: running and queued jobs, limits, paths and problems.
        read get_status(): NoParams => Status, [], host::status
    },
    method! {
        /// Stops the host. Running runs are interrupted; queued ones continue after its next start.
        operate stop("ifIdle"): StopParams => StopResult, [Conflict], host::stop
    },
    Method {
        name: "rpc.discover",
        about: "The OpenRPC document of this host: all methods and events with their schemas.\n",
        params: &[],
        class: AccessClass::Read,
        errors: &[],
        schemas: |generator| (NoParams::json_schema(generator), generator.subschema_for::<Value>()),
        call: |engine, caller, params| call::<NoParams, _>(engine, caller, params, |_, _, _| Ok(document::openrpc())),
    },
];

/// The method with this name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// The known name that is most similar to `name`.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    ostler_protocol::nearest(name, METHODS.iter().map(|method| method.name))
}

/// Validates the parameters, runs the method, and serializes the result.
fn call<P, R>(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: Value,
    call: impl FnOnce(&Arc<Engine>, &Caller, &P) -> Result<R, ApiError>,
) -> Answer
where
    P: DeserializeOwned + JsonSchema + 'static,
    R: Serialize,
{
    result(&call(engine, caller, &validate_document(params)?)?)
}

/// Serializes a result to JSON text, which is sent without being parsed again.
fn result(result: &impl Serialize) -> Answer {
    to_raw_value(result).map_err(|error| ApiError::internal(format!("failed to write the result: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeSet;

    use ostler_protocol::methods::{METHODS as DESCRIPTORS, MethodDescriptor};

    use super::*;

    #[test]
    fn positional_parameters_cover_every_parameter() {
        let mut generator = document::generator();
        for method in METHODS {
            let (params, _) = (method.schemas)(&mut generator);
            let known = params.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
            assert_eq!(known, method.params.iter().copied().collect(), "{}", method.name);
        }
    }

    /// Methods that a client with the class `read` may call, because they change nothing.
    #[test]
    fn methods_that_change_state_need_more_than_read() {
        for method in METHODS.iter().filter(|method| method.class == AccessClass::Read) {
            let looks = ["get_", "list_", "has_", "verify_", "subscribe", "unsubscribe", "rpc.discover"];
            assert!(looks.iter().any(|begin| method.name.starts_with(begin)), "{}", method.name);
        }
        for name in
            ["update_settings", "grant_workspace", "save_provider_token", "create_access_token", "reload", "stop"]
        {
            assert_eq!(find(name).unwrap().class, AccessClass::Operate, "{name}");
        }
        assert_eq!(find("start_run").unwrap().class, AccessClass::Run);
    }

    /// Clients use the descriptors of the protocol, the host serves this table.
    #[test]
    fn table_matches_the_descriptors_of_the_protocol() {
        let described: Vec<&str> = DESCRIPTORS.iter().map(|method| method.name).collect();
        let served: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        assert_eq!(described, served);
        for method in METHODS {
            let descriptor = MethodDescriptor::of(method.name).unwrap();
            let starts_run = method.errors.contains(&QueueFull);
            assert_eq!(descriptor.starts_run, starts_run, "{}", method.name);
            assert!(!(descriptor.starts_run && descriptor.idempotent), "{}", method.name);
            assert!(method.class != AccessClass::Read || descriptor.idempotent, "{}", method.name);
        }
    }
}
