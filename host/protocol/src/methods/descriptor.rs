//! Properties of a method that a caller must know before the call.

/// A method of the API, by name. The host's table has the rest: parameters, result, errors, access class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodDescriptor {
    /// The name.
    pub name: &'static str,
    /// Whether a second call with the same parameters has no further effect and the same result. Only such a call may
    /// be repeated after a broken connection, because the first call may have arrived.
    pub idempotent: bool,
    /// Whether it starts a run.
    pub starts_run: bool,
}

impl MethodDescriptor {
    /// The method of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }
}

/// A method that can be repeated.
const fn idempotent(name: &'static str) -> MethodDescriptor {
    MethodDescriptor { name, idempotent: true, starts_run: false }
}

/// A method that must not be repeated: a second call would have a further effect, or would fail after the first
/// succeeded.
const fn once(name: &'static str) -> MethodDescriptor {
    MethodDescriptor { name, idempotent: false, starts_run: false }
}

const fn starts_run(name: &'static str) -> MethodDescriptor {
    MethodDescriptor { name, idempotent: false, starts_run: true }
}

/// All methods, in the order of the host's table.
pub const METHODS: &[MethodDescriptor] = &[
    starts_run("start_run"),
    once("create_conversation"),
    idempotent("list_conversations"),
    idempotent("get_conversation"),
    starts_run("send_conversation_message"),
    idempotent("rename_conversation"),
    idempotent("update_conversation"),
    idempotent("archive_conversation"),
    once("delete_conversation"),
    starts_run("rerun"),
    idempotent("list_profiles"),
    once("save_profile"),
    once("delete_profile"),
    idempotent("cancel_run"),
    once("delete_run"),
    idempotent("get_run"),
    idempotent("list_runs"),
    idempotent("get_run_events"),
    starts_run("start_interactive_session"),
    once("send_session_input"),
    idempotent("resize_terminal"),
    idempotent("interrupt_turn"),
    idempotent("end_session"),
    starts_run("resume_session"),
    idempotent("list_approvals"),
    once("answer_approval"),
    idempotent("get_inbox"),
    idempotent("acknowledge_failures"),
    once("export_run"),
    idempotent("subscribe"),
    idempotent("unsubscribe"),
    idempotent("list_queue_jobs"),
    idempotent("pause_queue"),
    idempotent("resume_queue"),
    idempotent("set_queue_priority"),
    idempotent("list_capabilities"),
    idempotent("list_workspace_grants"),
    idempotent("grant_workspace"),
    once("revoke_workspace"),
    idempotent("get_retention"),
    idempotent("set_retention"),
    idempotent("unset_retention"),
    once("apply_retention"),
    idempotent("save_provider_token"),
    idempotent("clear_provider_token"),
    idempotent("has_provider_token"),
    idempotent("list_access_tokens"),
    once("create_access_token"),
    once("revoke_access_token"),
    idempotent("list_audit"),
    idempotent("verify_audit"),
    once("prune_audit"),
    idempotent("list_plugins"),
    idempotent("trust_plugin"),
    idempotent("reload"),
    idempotent("get_settings"),
    idempotent("update_settings"),
    idempotent("get_status"),
    once("stop"),
    idempotent("rpc.discover"),
];
