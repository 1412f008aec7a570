//! The methods of the API.

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

/// Maximum number of ending hosts that a submit waits for. Usually there is at most one.
const ENDING_HOSTS: u32 = 3;

impl Client {
    /// Calls any method of the host by name.
    ///
    /// If the connection breaks before the answer is complete, an idempotent call is repeated once
    /// ([`MethodDescriptor::idempotent`](ostler_protocol::methods::MethodDescriptor::idempotent)). Any other call fails
    /// with [`ClientError::Broken`]: the host may have executed it.
    ///
    /// # Errors
    /// The error of the host, or of the connection.
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

    /// Opens a connection for JSON-RPC with one frame per line, in both directions.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn lines(&self) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ClientError> {
        self.connector.lines().await
    }

    /// Submits a run. `payload` is the start payload with the additional member `clientEnvironment`.
    ///
    /// A host that is ending accepts no runs. If a host may be started, waits for its end and submits the run to the
    /// next host.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn start_run(&self, payload: &Value) -> Result<StartRunResult, ClientError> {
        self.start("start_run", payload).await
    }

    /// As [`start_run`](Self::start_run), for any method that starts a run: `rerun`, `send_conversation_message`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn start(&self, method: &str, params: &Value) -> Result<StartRunResult, ClientError> {
        self.submit(method, params).await
    }

    /// Calls a method that starts a run. Waits for the next host if this one is ending.
    pub(crate) async fn submit<P: Serialize + Sync, R: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
    ) -> Result<R, ClientError> {
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

    /// Cancels a run and waits until it has ended.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn cancel_run(&self, run_id: RunId) -> Result<CancelResult, ClientError> {
        self.call("cancel_run", &RunParams { run_id }).await
    }

    /// Deletes an ended run permanently.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if it has not ended.
    pub async fn delete_run(&self, run_id: RunId) -> Result<DeletedRun, ClientError> {
        self.call("delete_run", &RunParams { run_id }).await
    }

    /// Deletes a conversation with its runs permanently.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if a run has not ended.
    pub async fn delete_conversation(
        &self,
        conversation_id: ConversationId,
    ) -> Result<DeletedConversation, ClientError> {
        self.call("delete_conversation", &ConversationParams { conversation_id }).await
    }

    /// A run with all its data.
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

    /// Changes the title of a conversation.
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

    /// Creates a profile, or changes the one with this id.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn save_profile(&self, params: &SaveProfileParams) -> Result<Profile, ClientError> {
        self.call("save_profile", params).await
    }

    /// Deletes the profile with this name or id.
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

    /// Queued and running jobs. Neither starts a host nor repeats the call.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`ClientError::NotRunning`].
    pub async fn try_list_queue(&self) -> Result<Vec<JobRecord>, ClientError> {
        self.connector.call("list_queue_jobs", &ListJobsParams::default()).await
    }

    /// Queued and running jobs.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_queue_jobs(&self, params: &ListJobsParams) -> Result<Vec<JobRecord>, ClientError> {
        self.call("list_queue_jobs", params).await
    }

    /// Pauses one provider, or the whole queue: no more runs start.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn pause_queue(&self, provider: Option<String>) -> Result<QueuePauses, ClientError> {
        self.call("pause_queue", &PauseParams { provider }).await
    }

    /// Resumes one provider, or the queue.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn resume_queue(&self, provider: Option<String>) -> Result<QueuePauses, ClientError> {
        self.call("resume_queue", &PauseParams { provider }).await
    }

    /// Changes the priority of a waiting run.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if the run is not waiting.
    pub async fn set_queue_priority(&self, run_id: RunId, priority: i32) -> Result<JobRecord, ClientError> {
        self.call("set_queue_priority", &SetQueuePriorityParams { run_id, priority }).await
    }

    /// The features of the installed CLIs.
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

    /// Allows runs to work in a folder, until it is revoked. `trust_settings`: whether runs use agent settings in it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn grant_workspace(&self, path: PathBuf, trust_settings: Option<bool>) -> Result<Grant, ClientError> {
        self.call("grant_workspace", &GrantWorkspaceParams { path, trust_settings }).await
    }

    /// Revokes a grant.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn revoke_workspace(&self, path: PathBuf) -> Result<Value, ClientError> {
        self.call("revoke_workspace", &WorkspaceParams { path }).await
    }

    /// Stores a token for a provider.
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

    /// Verifies the audit trail.
    ///
    /// # Errors
    /// As [`call`](Self::call). A trail that is not intact is not an error, but a result.
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

    /// The plugins and their provider instances.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_plugins(&self) -> Result<ListPluginsResult, ClientError> {
        self.call("list_plugins", &NoParams {}).await
    }

    /// What a provider plugin that waits for approval runs and reads. With its digest, approves it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn trust_plugin(&self, name: String, digest: Option<String>) -> Result<TrustPluginResult, ClientError> {
        self.call("trust_plugin", &TrustPluginParams { name, digest }).await
    }

    /// Reloads the configuration and the plugins of the host.
    ///
    /// # Errors
    /// As [`call`](Self::call); `INVALID_PARAMS` or `IO` if the configuration could not be applied.
    pub async fn reload(&self) -> Result<Reload, ClientError> {
        self.call("reload", &NoParams {}).await
    }

    /// The active settings; with `origins`, also the origin of each value.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_settings(&self, origins: bool) -> Result<Settings, ClientError> {
        self.call("get_settings", &GetSettingsParams { origins: Some(origins) }).await
    }

    /// Sets values that override the configuration; null resets a value. Returns the active settings and their origins.
    ///
    /// # Errors
    /// As [`call`](Self::call); `INVALID_PARAMS` with all problems.
    pub async fn update_settings(&self, patch: Map<String, Value>) -> Result<Settings, ClientError> {
        self.call("update_settings", &UpdateSettingsParams { patch, origins: Some(true) }).await
    }

    /// The retention limits of finished runs, and the current usage.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_retention(&self) -> Result<RetentionState, ClientError> {
        self.call("get_retention", &NoParams {}).await
    }

    /// Sets the retention limits of a scope.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn set_retention(&self, params: &SetRetentionParams) -> Result<RetentionPolicy, ClientError> {
        self.call("set_retention", params).await
    }

    /// Resets the retention limits of a scope.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn unset_retention(&self, params: &UnsetRetentionParams) -> Result<RetentionState, ClientError> {
        self.call("unset_retention", params).await
    }

    /// Deletes finished runs that exceed a retention limit, or only reports what would be deleted.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn apply_retention(&self, params: &ApplyRetentionParams) -> Result<RetentionReport, ClientError> {
        self.call("apply_retention", params).await
    }

    /// The status of the host.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_status(&self) -> Result<Status, ClientError> {
        self.call("get_status", &NoParams {}).await
    }

    /// Stops the host.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if `if_idle` is set and runs are running or queued.
    pub async fn stop(&self, if_idle: bool) -> Result<StopResult, ClientError> {
        // Not repeated: a host that is gone has stopped, and none must be started for this call.
        self.connector.call("stop", &StopParams { if_idle }).await
    }

    /// Follows the events of a run or of the host: stored events from the start of the run or after a cursor, then new
    /// ones.
    ///
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn follow(&self, params: SubscribeParams) -> EventStream {
        EventStream::open(self.connector.clone(), params)
    }

    /// Waits until the host of this client has ended.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it is still running after `limit`.
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
