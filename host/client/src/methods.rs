//! The calls, by name.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Client, ClientError, EventStream};
use ostler_protocol::methods::{
    ApplyRetentionParams, ArchiveConversationParams, CancelResult, ConversationParams, ConversationResult,
    CreateAccessTokenParams, CreateConversationParams, CreatedAccessToken, DeletedConversation, DeletedRun,
    ExportRunParams, ExportRunResult, GetConversationParams, GetSettingsParams, GrantWorkspaceParams, ListAuditParams,
    ListAuditResult, ListCapabilitiesParams, ListConversationsParams, ListJobsParams, ListPluginsResult,
    ListProfilesParams, ListRunsParams, NoParams, PauseParams, ProfileParams, ProviderParams, ProviderTokenParams,
    PruneAuditParams, PruneAuditResult, QueuePauses, Reload, RenameConversationParams, RetentionState,
    RevokeAccessTokenParams, RunEventsParams, RunEventsResult, RunParams, SaveProfileParams, SetQueuePriorityParams,
    SetRetentionParams, Settings, StartRunResult, Status, StopParams, StopResult, SubscribeParams, TokenState,
    TrustPluginParams, TrustPluginResult, UnsetRetentionParams, UpdateSettingsParams, WorkspaceParams,
};
use ostler_protocol::{
    AccessToken, AuditVerdict, CapabilitySnapshot, Conversation, ConversationId, ConversationSummary, ErrorKind, Grant,
    JobRecord, Page, Profile, RetentionPolicy, RetentionReport, RunId, RunRecord, RunSummary,
};

/// How many hosts that are about to end one submit outlasts. There is one in ordinary conditions.
const ENDING_HOSTS: u32 = 3;

impl Client {
    /// Any method of the host, by name.
    ///
    /// Where the connection breaks before the answer is complete, an idempotent call is repeated once
    /// ([`MethodDescriptor::idempotent`](ostler_protocol::methods::MethodDescriptor::idempotent)). Any other call fails with
    /// [`ClientError::Broken`]: the host may have done what was asked.
    ///
    /// # Errors
    /// What the host says, or what happened to the connection.
    pub async fn call<P: Serialize + Sync, R: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
    ) -> Result<R, ClientError> {
        match self.connector.call(method, params).await {
            Err(ClientError::NotRunning { .. } | ClientError::Broken { uncertain: false, .. }) => {
                self.connector.ensure().await?;
                self.connector.call(method, params).await
            }
            other => other,
        }
    }

    /// A connection that carries JSON-RPC as lines, in both directions.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn lines(&self) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ClientError> {
        self.connector.lines().await
    }

    /// Submits a run. `payload` is the start payload, with `clientEnvironment` beside its fields.
    ///
    /// A host that is about to end takes no runs. Where one may be started in its place, it is waited for, and the run
    /// is submitted to its successor.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn start_run(&self, payload: &Value) -> Result<StartRunResult, ClientError> {
        self.start("start_run", payload).await
    }

    /// The same for any method that starts a run: `rerun`, `send_conversation_message`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn start(&self, method: &str, params: &Value) -> Result<StartRunResult, ClientError> {
        for _ in 0..ENDING_HOSTS {
            match self.call(method, params).await {
                Err(ClientError::Api(refused)) if refused.kind == ErrorKind::Conflict && refused.retryable => {
                    if !self.connector.is_replaced().await? {
                        return Err(ClientError::Api(refused));
                    }
                }
                other => return other,
            }
        }
        self.call(method, params).await
    }

    /// Ends a run and waits until it has ended.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn cancel_run(&self, run_id: RunId) -> Result<CancelResult, ClientError> {
        self.call("cancel_run", &RunParams { run_id }).await
    }

    /// Deletes an ended run for good.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if it has not ended.
    pub async fn delete_run(&self, run_id: RunId) -> Result<DeletedRun, ClientError> {
        self.call("delete_run", &RunParams { run_id }).await
    }

    /// Deletes a conversation with its runs for good.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if one of them has not ended.
    pub async fn delete_conversation(
        &self,
        conversation_id: ConversationId,
    ) -> Result<DeletedConversation, ClientError> {
        self.call("delete_conversation", &ConversationParams { conversation_id }).await
    }

    /// A run with all that is known of it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_run(&self, run_id: RunId) -> Result<RunRecord, ClientError> {
        self.call("get_run", &RunParams { run_id }).await
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_runs(&self, params: &ListRunsParams) -> Result<Page<RunSummary>, ClientError> {
        self.call("list_runs", params).await
    }

    /// Creates a conversation.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn create_conversation(&self, params: &CreateConversationParams) -> Result<Conversation, ClientError> {
        self.call("create_conversation", params).await
    }

    /// Conversations, the last changed first.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_conversations(
        &self,
        params: &ListConversationsParams,
    ) -> Result<Page<ConversationSummary>, ClientError> {
        self.call("list_conversations", params).await
    }

    /// A conversation with its runs.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_conversation(&self, params: &GetConversationParams) -> Result<ConversationResult, ClientError> {
        self.call("get_conversation", params).await
    }

    /// Gives a conversation another title.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn rename_conversation(&self, params: &RenameConversationParams) -> Result<Conversation, ClientError> {
        self.call("rename_conversation", params).await
    }

    /// Archives or unarchives a conversation.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn archive_conversation(&self, params: &ArchiveConversationParams) -> Result<Conversation, ClientError> {
        self.call("archive_conversation", params).await
    }

    /// The profiles, by name.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_profiles(&self) -> Result<Vec<Profile>, ClientError> {
        self.call("list_profiles", &ListProfilesParams::default()).await
    }

    /// Makes a profile, or changes the one of that id.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn save_profile(&self, params: &SaveProfileParams) -> Result<Profile, ClientError> {
        self.call("save_profile", params).await
    }

    /// Deletes the profile of that name or id.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn delete_profile(&self, profile_id: String) -> Result<Profile, ClientError> {
        self.call("delete_profile", &ProfileParams { profile_id }).await
    }

    /// A page of the events of a run.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_run_events(&self, params: &RunEventsParams) -> Result<RunEventsResult, ClientError> {
        self.call("get_run_events", params).await
    }

    /// Writes a run to a file.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn export_run(&self, params: &ExportRunParams) -> Result<ExportRunResult, ClientError> {
        self.call("export_run", params).await
    }

    /// Jobs that wait or work, of the host that is there: where it went away, none is started for this.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`ClientError::NotRunning`].
    pub async fn try_list_queue(&self) -> Result<Vec<JobRecord>, ClientError> {
        self.connector.call("list_queue_jobs", &ListJobsParams::default()).await
    }

    /// Jobs that wait or work.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_queue_jobs(&self, params: &ListJobsParams) -> Result<Vec<JobRecord>, ClientError> {
        self.call("list_queue_jobs", params).await
    }

    /// Starts no more runs, of one provider or at all.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn pause_queue(&self, provider: Option<String>) -> Result<QueuePauses, ClientError> {
        self.call("pause_queue", &PauseParams { provider }).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn resume_queue(&self, provider: Option<String>) -> Result<QueuePauses, ClientError> {
        self.call("resume_queue", &PauseParams { provider }).await
    }

    /// Gives a waiting run another priority.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if it does not wait.
    pub async fn set_queue_priority(&self, run_id: RunId, priority: i32) -> Result<JobRecord, ClientError> {
        self.call("set_queue_priority", &SetQueuePriorityParams { run_id, priority }).await
    }

    /// What the installed CLIs can do.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_capabilities(
        &self,
        params: &ListCapabilitiesParams,
    ) -> Result<Vec<CapabilitySnapshot>, ClientError> {
        self.call("list_capabilities", params).await
    }

    /// The folders in which runs may work.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_workspace_grants(&self) -> Result<Vec<Grant>, ClientError> {
        self.call("list_workspace_grants", &NoParams {}).await
    }

    /// Lets runs work in a folder, for good.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn grant_workspace(&self, path: PathBuf, trust_settings: Option<bool>) -> Result<Grant, ClientError> {
        self.call("grant_workspace", &GrantWorkspaceParams { path, trust_settings }).await
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn revoke_workspace(&self, path: PathBuf) -> Result<Value, ClientError> {
        self.call("revoke_workspace", &WorkspaceParams { path }).await
    }

    /// Keeps a token for a provider.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn save_provider_token(&self, params: &ProviderTokenParams) -> Result<TokenState, ClientError> {
        self.call("save_provider_token", params).await
    }

    /// Deletes the token of a provider.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn clear_provider_token(&self, provider: String) -> Result<TokenState, ClientError> {
        self.call("clear_provider_token", &ProviderParams { provider }).await
    }

    /// Whether a provider has a token.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn has_provider_token(&self, provider: String) -> Result<TokenState, ClientError> {
        self.call("has_provider_token", &ProviderParams { provider }).await
    }

    /// The access tokens, without the tokens themselves.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_access_tokens(&self) -> Result<Vec<AccessToken>, ClientError> {
        self.call("list_access_tokens", &NoParams {}).await
    }

    /// Creates an access token.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn create_access_token(
        &self,
        params: &CreateAccessTokenParams,
    ) -> Result<CreatedAccessToken, ClientError> {
        self.call("create_access_token", params).await
    }

    /// Revokes an access token.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn revoke_access_token(&self, name: String) -> Result<AccessToken, ClientError> {
        self.call("revoke_access_token", &RevokeAccessTokenParams { name }).await
    }

    /// Records of the audit trail.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_audit(&self, params: &ListAuditParams) -> Result<ListAuditResult, ClientError> {
        self.call("list_audit", params).await
    }

    /// Checks the audit trail.
    ///
    /// # Errors
    /// As [`call`](Self::call). A trail that is not intact is no error.
    pub async fn verify_audit(&self) -> Result<AuditVerdict, ClientError> {
        self.call("verify_audit", &NoParams {}).await
    }

    /// Deletes the oldest records of the audit trail.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn prune_audit(&self, params: &PruneAuditParams) -> Result<PruneAuditResult, ClientError> {
        self.call("prune_audit", params).await
    }

    /// The plugins, and the providers that they make.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_plugins(&self) -> Result<ListPluginsResult, ClientError> {
        self.call("list_plugins", &NoParams {}).await
    }

    /// What a provider plugin that waits runs and sees; with its digest, approves it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn trust_plugin(&self, name: String, digest: Option<String>) -> Result<TrustPluginResult, ClientError> {
        self.call("trust_plugin", &TrustPluginParams { name, digest }).await
    }

    /// Has the host read its configuration and look at its plugins again.
    ///
    /// # Errors
    /// As [`call`](Self::call); `INVALID_PARAMS` or `IO` where the configuration could not be taken over.
    pub async fn reload(&self) -> Result<Reload, ClientError> {
        self.call("reload", &NoParams {}).await
    }

    /// The settings in force; with `origins`, where each value comes from.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_settings(&self, origins: bool) -> Result<Settings, ClientError> {
        self.call("get_settings", &GetSettingsParams { origins: Some(origins) }).await
    }

    /// Sets values over the configuration; null takes back what was set. Answers with the settings and their origins.
    ///
    /// # Errors
    /// As [`call`](Self::call); `INVALID_PARAMS` with everything that is wrong.
    pub async fn update_settings(&self, patch: Map<String, Value>) -> Result<Settings, ClientError> {
        self.call("update_settings", &UpdateSettingsParams { patch, origins: Some(true) }).await
    }

    /// How long and how much is kept of ended runs, and what there is.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_retention(&self) -> Result<RetentionState, ClientError> {
        self.call("get_retention", &NoParams {}).await
    }

    /// Sets limits of a scope.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn set_retention(&self, params: &SetRetentionParams) -> Result<RetentionPolicy, ClientError> {
        self.call("set_retention", params).await
    }

    /// Takes back what was set for a scope.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn unset_retention(&self, params: &UnsetRetentionParams) -> Result<RetentionState, ClientError> {
        self.call("unset_retention", params).await
    }

    /// Deletes what is too old or too much, or says what would go.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn apply_retention(&self, params: &ApplyRetentionParams) -> Result<RetentionReport, ClientError> {
        self.call("apply_retention", params).await
    }

    /// How the host is.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_status(&self) -> Result<Status, ClientError> {
        self.call("get_status", &NoParams {}).await
    }

    /// Ends the host.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if it is busy and only an idle one was to end.
    pub async fn stop(&self, if_idle: bool) -> Result<StopResult, ClientError> {
        // Not repeated: a host that went away has done what was asked, and none is to be started for it.
        self.connector.call("stop", &StopParams { if_idle }).await
    }

    /// The events of a run from its start, or after a cursor, and then as they happen.
    ///
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn follow(&self, params: SubscribeParams) -> EventStream {
        EventStream::open(self.connector.clone(), params)
    }

    /// Waits until the host that this client found has gone.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it is still there after `limit`.
    pub async fn wait_gone(&self, limit: std::time::Duration) -> Result<(), ClientError> {
        if self.connector.is_gone_by(self.host.pid, std::time::Instant::now() + limit).await {
            return Ok(());
        }
        Err(ClientError::Unreachable {
            socket: self.connector.config.socket.clone(),
            reason: format!("the host (pid {}) was asked to end and is still there", self.host.pid),
        })
    }
}
