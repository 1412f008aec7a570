//! The contract, over every transport: each command succeeds and fails in each way that the document lists, each event
//! occurs in a run, and all calls, errors and events match the OpenRPC document of the host.

pub mod channel;
pub mod document;
pub mod sessions;
pub mod walk;

use crate::support::duplex::{Stdio, Web};
use channel::{Channel, Http};
use serde_json::json;
use std::collections::BTreeSet;
use walk::{ContractHost, ContractWalk};

/// Commands of the contract, and those that a front end needs in addition.
const COMMANDS: &[&str] = &[
    "answer_approval",
    "archive_conversation",
    "cancel_run",
    "clear_provider_token",
    "create_conversation",
    "delete_profile",
    "end_session",
    "export_run",
    "get_conversation",
    "get_run",
    "get_run_events",
    "get_settings",
    "get_status",
    "grant_workspace",
    "has_provider_token",
    "list_approvals",
    "list_capabilities",
    "list_conversations",
    "list_plugins",
    "list_profiles",
    "list_queue_jobs",
    "list_runs",
    "list_workspace_grants",
    "reload",
    "rename_conversation",
    "rerun",
    "resume_session",
    "revoke_workspace",
    "save_profile",
    "save_provider_token",
    "send_conversation_message",
    "send_session_input",
    "start_interactive_session",
    "start_run",
    "subscribe",
    "update_settings",
];

/// Commands that the host has in addition to the contract.
const HOST_COMMANDS: &[&str] = &[
    "acknowledge_failures",
    "apply_retention",
    "create_access_token",
    "delete_conversation",
    "delete_run",
    "get_inbox",
    "get_retention",
    "interrupt_turn",
    "list_access_tokens",
    "list_audit",
    "pause_queue",
    "prune_audit",
    "resize_terminal",
    "resume_queue",
    "revoke_access_token",
    "set_queue_priority",
    "set_retention",
    "stop",
    "trust_plugin",
    "unset_retention",
    "unsubscribe",
    "update_conversation",
    "verify_audit",
];

/// Events of the contract.
const EVENTS: &[&str] = &[
    "conversation.archived",
    "conversation.created",
    "conversation.message_sent",
    "conversation.renamed",
    "conversation.session_updated",
    "conversation.updated",
    "run.canceled",
    "run.chunk.stderr",
    "run.chunk.stdout",
    "run.cli_exit",
    "run.cli_missing",
    "run.compatibility_warning",
    "run.completed",
    "run.cwd_missing",
    "run.failed",
    "run.policy_audit",
    "run.progress",
    "run.runner_metrics",
    "run.semantic",
    "run.started",
    "run.structured_output",
    "run.structured_output_invalid",
    "run.warning",
    "session.closed",
    "session.input_accepted",
    "session.opened",
];

/// Events that the host has in addition to the contract. Whether a run emits them depends on its sandbox.
const HOST_EVENTS: &[&str] = &["run.network"];

fn names<'a>(lists: &[&[&'a str]]) -> BTreeSet<&'a str> {
    lists.concat().into_iter().collect()
}

fn check_contract(contract_host: &ContractHost, channel: &mut dyn Channel) {
    let stays = channel.stays();
    let mut walk = ContractWalk::begin(contract_host, channel);
    assert_eq!(walk.document().methods().collect::<BTreeSet<_>>(), names(&[COMMANDS, HOST_COMMANDS]));
    assert_eq!(walk.document().events(), names(&[EVENTS, HOST_EVENTS]));

    walk.methods_without_runs();
    walk.stored_settings();
    walk.submits();
    walk.sessions();
    walk.events();
    let made = walk.check_events();
    let made = made.iter().map(String::as_str).filter(|name| !HOST_EVENTS.contains(name));
    assert_eq!(made.collect::<BTreeSet<_>>(), names(&[EVENTS]), "each event occurred");

    let (document, seen) = walk.end();
    let mut promised = BTreeSet::new();
    for method in document.methods() {
        // A connection that ends with the answer has no streams, so that these methods fail with one error only.
        let streams = !stays && matches!(method, "subscribe" | "unsubscribe");
        let outcomes: Vec<&str> = if streams {
            vec!["CONFLICT"]
        } else {
            // Other suites cause these errors: they need 64 streams, an audit trail that was changed, or a plugin that traps
            // or cannot enforce a restriction in a session.
            let elsewhere = [
                ("unsubscribe", "CONFLICT"),
                ("prune_audit", "CONFLICT"),
                ("start_interactive_session", "UNENFORCEABLE"),
                ("resume_session", "UNENFORCEABLE"),
                ("send_session_input", "PLUGIN_FAILED"),
                ("interrupt_turn", "PLUGIN_FAILED"),
                ("answer_approval", "PLUGIN_FAILED"),
            ];
            let errors = document.errors(method).filter(|kind| !elsewhere.contains(&(method, *kind)));
            errors.chain(["ok"]).collect()
        };
        promised.extend(outcomes.into_iter().map(|outcome| (method.to_owned(), outcome.to_owned())));
        // Disk faults and defects cause `IO` and `INTERNAL`: the suites of faults test them.
        promised.insert((method.to_owned(), "INVALID_PARAMS".to_owned()));
    }
    let missing: Vec<_> = promised.difference(&seen).collect();
    assert!(missing.is_empty(), "in the document, but not seen: {missing:#?}");
}

#[test]
fn contract_holds_over_the_socket() {
    let contract_host = ContractHost::start();
    check_contract(&contract_host, &mut Http::Socket(contract_host.host.socket()));
}

/// The address of the scene's port, and a token that may do everything there.
fn port(contract_host: &ContractHost) -> (String, String) {
    let status = contract_host.host.call("get_status", &json!({})).unwrap();
    let address = status["http"]["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let token =
        contract_host.host.call("create_access_token", &json!({"name": "all", "accessClass": "operate"})).unwrap();
    (address, token["token"].as_str().unwrap().to_owned())
}

#[test]
fn contract_holds_over_tcp() {
    let contract_host = ContractHost::start();
    let (address, token) = port(&contract_host);
    check_contract(&contract_host, &mut Http::Port { address, token });
}

#[test]
fn contract_holds_over_a_websocket() {
    let contract_host = ContractHost::start();
    let (address, token) = port(&contract_host);
    check_contract(&contract_host, &mut Web::over_tcp(&address, &token));
}

#[test]
fn contract_holds_over_standard_input_and_output() {
    let contract_host = ContractHost::start();
    check_contract(&contract_host, &mut Stdio::open(&contract_host.host));
}
