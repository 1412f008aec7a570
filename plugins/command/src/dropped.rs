//! Options that a plain program cannot apply or enforce.

use ostler_plugin::DroppedOptions;
use ostler_plugin::provider::{DroppedOption, RunRequest};
use ostler_provider_kit::payload::Payload;

use crate::prepare::mentions;
use crate::template::{Group, Placeholder};

pub(crate) fn options(args: &[Group], request: &RunRequest, payload: &Payload) -> Vec<DroppedOption> {
    let mut dropped = DroppedOptions::default();
    conveniences(args, request, payload, &mut dropped);
    restrictions(payload, &mut dropped);
    dropped.into_vec()
}

fn conveniences(args: &[Group], request: &RunRequest, payload: &Payload, dropped: &mut DroppedOptions) {
    let harness = &payload.harness;
    let mut no = |given: bool, pointer: &str, reason: &str| {
        if given {
            dropped.convenience(pointer, reason);
        }
    };
    let plain = "this provider is a plain program and does not support it";
    no(request.model.is_some() && !mentions(args, Placeholder::Model), "/model", "`settings.args` has no `{model}`");
    no(
        request.resume_session.is_some() && !mentions(args, Placeholder::Session),
        "/harness/resumeSessionId",
        "`settings.args` has no `{session}`; a new session is started",
    );
    no(harness.continue_session == Some(true), "/harness/continueSession", plain);
    let format = payload.output_format.as_deref();
    no(format.is_some_and(|format| format != "text"), "/outputFormat", "the program prints plain text");
    let format = harness.input_format.as_deref();
    no(format.is_some_and(|format| format != "text"), "/harness/inputFormat", "the program reads plain text");
    no(
        !payload.optional_flags.is_empty(),
        "/optionalFlags",
        "this provider supports no flags; put them into `settings.args`",
    );
    no(!harness.additional_directories.is_empty(), "/harness/additionalDirectories", plain);
    no(!harness.mcp.servers.is_empty(), "/harness/mcp", plain);
    no(harness.structured_output.is_some(), "/harness/structuredOutput", plain);
    no(harness.system_prompt.is_some(), "/harness/systemPrompt", plain);
    no(harness.append_system_prompt.is_some(), "/harness/appendSystemPrompt", plain);
    no(!harness.images.is_empty(), "/harness/images", plain);
    no(!harness.files.is_empty(), "/harness/files", plain);
    let permissions = &harness.permissions;
    no(permissions.network_access == Some(true), "/harness/permissions/networkAccess", plain);
    no(permissions.auto_approve == Some(true), "/harness/permissions/autoApprove", plain);
    no(permissions.sandbox_mode.as_deref() == Some("full-access"), "/harness/permissions/sandboxMode", plain);
    no(
        harness.limits.max_tool_result_lines.is_some_and(|lines| lines > 0),
        "/harness/limits/maxToolResultLines",
        "the program does not report results of tools",
    );
}

fn restrictions(payload: &Payload, dropped: &mut DroppedOptions) {
    let harness = &payload.harness;
    let permissions = &harness.permissions;
    let mut no = |given: bool, pointer: &str| {
        if given {
            dropped.restriction(pointer, "this provider is a plain program and cannot enforce it");
        }
    };
    no(harness.tools.is_some(), "/harness/tools");
    no(
        permissions.sandbox_mode.as_deref().is_some_and(|mode| mode != "full-access"),
        "/harness/permissions/sandboxMode",
    );
    no(permissions.network_access == Some(false), "/harness/permissions/networkAccess");
    no(permissions.auto_approve == Some(false), "/harness/permissions/autoApprove");
    no(permissions.approval_policy.is_some(), "/harness/permissions/approvalPolicy");
    no(harness.limits.max_turns.is_some(), "/harness/limits/maxTurns");
    no(harness.limits.max_budget_usd.is_some(), "/harness/limits/maxBudgetUsd");
}
