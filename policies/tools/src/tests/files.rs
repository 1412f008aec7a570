//! Files, addresses and MCP tools.

use ostler_plugin::policy::{Context, FileEffect, McpTool, ToolCall};
use serde_json::json;

use super::{call, context, defaults, files, findings_of, policy, summary};

#[test]
fn files_of_tools_are_judged_where_they_are() {
    use FileEffect::{Create, Delete, Modify, Read};
    let policy = defaults();
    for (kind, path, effect, expected) in [
        ("file_read", "src/a.rs", Read, "allow"),
        ("file_read", "/usr/include/a.h", Read, "allow"),
        ("file_read", "/home/me/.ssh/id_rsa", Read, "deny key-material"),
        ("file_read", ".env", Read, "ask key-material"),
        ("file_read", "a/b/.env", Read, "ask key-material"),
        ("content_search", "/home/me/.ssh", Read, "deny key-material"),
        ("file_write", "src/a.rs", Create, "allow"),
        ("file_write", "/tmp/x", Create, "allow"),
        ("file_write", "/etc/hosts", Create, "ask outside-workspace"),
        ("file_edit", "/home/me/other/x", Modify, "ask outside-workspace"),
        ("file_edit", "x", Delete, "allow"),
    ] {
        let (call, at) = files(kind, &[(path, effect)]);
        assert_eq!(summary(&findings_of(&policy, call, at)), expected, "{kind} {path}");
    }
}

#[test]
fn links_count_by_where_they_lead() {
    let (call, mut at) = files("file_read", &[("notes.txt", FileEffect::Read)]);
    at.paths[0].resolved = "/home/me/.ssh/id_rsa".to_owned();
    at.paths[0].grant = None;
    assert_eq!(summary(&findings_of(&defaults(), call, at)), "deny key-material");
    let (call, mut at) = files("file_write", &[("link/x", FileEffect::Create)]);
    at.paths[0].resolved = "/etc/x".to_owned();
    at.paths[0].grant = None;
    assert_eq!(summary(&findings_of(&defaults(), call, at)), "ask outside-workspace");
}

#[test]
fn files_that_the_host_has_not_resolved_are_asked_about() {
    let (call, mut at) = files("file_write", &[("x", FileEffect::Create)]);
    at.paths.clear();
    assert_eq!(summary(&findings_of(&defaults(), call, at)), "ask unclear-command");
}

#[test]
fn other_grants_are_inside_unless_the_workspace_is_the_folder() {
    let other = || {
        let (call, mut at) = files("file_write", &[("/home/me/lib/x", FileEffect::Create)]);
        at.paths[0].grant = Some("/home/me/lib".to_owned());
        (call, at)
    };
    let (call, at) = other();
    assert_eq!(summary(&findings_of(&defaults(), call, at)), "allow");
    let (call, at) = other();
    assert_eq!(summary(&findings_of(&policy(&json!({"workspace": "folder"})), call, at)), "ask outside-workspace");
}

#[test]
fn the_folder_of_a_use_counts() {
    let shell = ToolCall { cwd: Some("/etc".to_owned()), ..super::shell("rm -rf x") };
    assert_eq!(summary(&findings_of(&defaults(), shell, context())), "deny destructive-files");
    let shell = ToolCall { cwd: Some("sub".to_owned()), ..super::shell("rm -rf x") };
    assert_eq!(summary(&findings_of(&defaults(), shell, context())), "ask destructive-files");
}

#[test]
fn rules_match_tools_mcp_and_hosts() {
    let policy = policy(&json!({"defaults": false, "rules": [
        {"name": "no-deletes", "decision": "deny", "mcp": ["github/delete_*"]},
        {"name": "github", "decision": "ask", "mcp": ["github/*"]},
        {"name": "fetch", "decision": "deny", "kinds": ["web_fetch"], "hosts": ["*.evil.example", "evil.example"]},
        {"name": "search", "decision": "ask", "kinds": ["web_*"], "tools": ["WebSearch"]},
        {"name": "curl-evil", "decision": "deny", "kinds": ["shell"], "hosts": ["*.evil.example"]},
        {"name": "offline", "decision": "ask", "kinds": ["shell"], "network": true},
        {"name": "no-agents", "decision": "deny", "kinds": ["task"]},
    ]}));
    let mcp = |tool: &str| ToolCall {
        mcp: Some(McpTool { server: "github".to_owned(), tool: tool.to_owned() }),
        ..call("mcp", "mcp__github")
    };
    let web = |url: &str| ToolCall { urls: vec![url.to_owned()], ..call("web_fetch", "WebFetch") };
    for (call, expected) in [
        (mcp("delete_repo"), "deny rule:no-deletes"),
        (mcp("list_issues"), "ask rule:github"),
        (web("https://a.evil.example/x"), "deny rule:fetch"),
        (web("https://EVIL.example:443"), "deny rule:fetch"),
        (web("https://u@evil.example."), "deny rule:fetch"),
        (web("evil.example/x"), "deny rule:fetch"),
        (web("https://good.example/?evil.example"), "allow"),
        (call("web_search", "WebSearch"), "ask rule:search"),
        (super::shell("curl https://x.evil.example"), "deny rule:curl-evil"),
        (super::shell("git clone https://x.evil.example/r.git"), "deny rule:curl-evil"),
        (super::shell("curl \"$URL\""), "ask rule:curl-evil"),
        (super::shell("wget good.example"), "ask rule:offline"),
        (super::shell("echo https://x.evil.example"), "allow"),
        (call("task", "Task"), "deny rule:no-agents"),
        (call("file_read", "Read"), "allow"),
    ] {
        let name = format!("{call:?}");
        assert_eq!(summary(&findings_of(&policy, call, Context { ..context() })), expected, "{name}");
    }
}
