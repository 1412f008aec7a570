#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::denials::{MAX_NAME, MAX_RECORDED};
use super::duplicates::{MAX_KNOWN, Recent};
use super::size_limit::{ENTRY, MAX_SHOWN, MAX_WORD};
use super::*;
use crate::policy::policy_set;
use crate::test_support::redactor_masking;
use ostler_plugin_host::types::{FileAccess, FileEffect};
use ostler_protocol::{AuditedTool, Finding, PolicyAudit, Verdict};

fn call(id: &str, command: &str) -> ToolCall {
    ToolCall {
        kind: "shell".to_owned(),
        name: "Bash".to_owned(),
        commands: vec![command.to_owned()],
        extra: None,
        ..call_of(&result(id))
    }
}

fn result(id: &str) -> ToolOutput {
    ToolOutput { id: id.to_owned(), output: "out".to_owned(), is_error: true, exit_code: Some(3), extra: None }
}

#[test]
fn use_that_is_reported_as_start_twice_and_as_result_is_evaluated_once() {
    let mut known = Known::default();
    let start = Semantic::ToolStart(call("1", "ls"));
    assert!(known.take(&start).unwrap().is_new);
    for again in [start, Semantic::ToolResult(result("1"))] {
        assert_eq!(known.take(&again), None, "{again:?}");
    }
    assert!(known.take(&Semantic::ToolStart(call("2", "ls"))).unwrap().is_new);
}

#[test]
fn start_with_a_known_id_and_another_content_is_evaluated_and_not_counted() {
    let mut known = Known::default();
    known.take(&Semantic::ToolStart(call("1", "ls"))).unwrap();
    let other = known.take(&Semantic::ToolStart(call("1", "rm -r ."))).unwrap();
    assert_eq!((other.call.commands[0].as_str(), other.is_new), ("rm -r .", false));
}

#[test]
fn result_without_a_start_is_evaluated_as_an_unknown_tool_with_its_result() {
    let mut known = Known::default();
    let found = known.take(&Semantic::ToolResult(result("1"))).unwrap();
    assert!(found.is_new);
    assert_eq!((found.call.id.as_str(), found.call.kind.as_str(), found.call.name.as_str()), ("1", "other", ""));
    let extra: Value = serde_json::from_str(&found.call.extra.unwrap()).unwrap();
    assert_eq!(extra["result"], json!({"output": "out", "isError": true, "exitCode": 3}));
    assert_eq!(known.take(&Semantic::ToolResult(result("1"))), None);
}

#[test]
fn uses_without_an_id_are_evaluated_each_time() {
    let mut known = Known::default();
    for _ in 0..2 {
        assert!(known.take(&Semantic::ToolResult(result(""))).is_some());
    }
    for _ in 0..2 {
        assert!(known.take(&Semantic::ToolStart(call("", "ls"))).unwrap().is_new);
    }
    assert_eq!(known.take(&Semantic::ToolResult(result(""))), None, "it belongs to a start");
}

#[test]
fn number_of_remembered_uses_is_bounded_and_the_oldest_is_forgotten_first() {
    let mut recent = Recent::default();
    for number in 0..=MAX_KNOWN {
        assert!(recent.insert(&number.to_le_bytes()));
    }
    assert_eq!((recent.digests.len(), recent.order.len()), (MAX_KNOWN, MAX_KNOWN));
    assert!(!recent.contains(&0_usize.to_le_bytes()) && recent.contains(&MAX_KNOWN.to_le_bytes()));
}

#[test]
fn tally_counts_by_kind_and_bounds_the_kinds() {
    let mut tally = Tally::default();
    for kind in ["shell", "mcp", "shell"] {
        tally.count(kind);
    }
    assert_eq!(serde_json::to_value(&tally).unwrap(), json!({"total": 3, "byKind": {"mcp": 1, "shell": 2}}));
    for number in 0..2 * MAX_KINDS {
        tally.count(&format!("kind-{number}"));
    }
    assert_eq!(tally.total, 3 + 2 * MAX_KINDS as u64);
    assert_eq!(tally.by_kind.len(), MAX_KINDS + 1);
    assert_eq!(tally.by_kind.values().sum::<u64>(), tally.total);
}

#[test]
fn files_are_looked_up_in_the_folder_of_the_use_and_links_are_followed() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (grant, elsewhere) = (inside.path().canonicalize().unwrap(), outside.path().canonicalize().unwrap());
    std::fs::create_dir(grant.join("sub")).unwrap();
    std::fs::write(grant.join("sub/there"), "").unwrap();
    std::os::unix::fs::symlink(&elsewhere, grant.join("sub/link")).unwrap();
    let grants = Grants::new([(grant.clone(), false)]);
    let absolute = elsewhere.join("a").display().to_string();
    // Above both folders, where no other file has the name.
    let above = format!("../../{}-not-there", grant.file_name().unwrap().to_str().unwrap());
    let paths = ["there", "link/x", above.as_str(), absolute.as_str()];
    let file = |path: &str| FileAccess { path: path.to_owned(), effect: FileEffect::Read, change: None };
    let mut call = ToolCall { files: paths.map(file).to_vec(), ..call("1", "") };
    let look = |call: &ToolCall| {
        let found = checked_paths(call, &grant, &grants, &mut Lookups::new()).into_iter();
        let found = found.map(|path| (path.pointer, path.path, path.exists, path.grant.is_some()));
        found.collect::<Vec<_>>()
    };
    let expected = |exists: bool| {
        [exists, false, false, false]
            .into_iter()
            .enumerate()
            .map(|(index, exists)| (format!("/files/{index}"), paths[index].to_owned(), exists))
            .collect::<Vec<_>>()
    };
    let reported = |found: &[(String, String, bool, bool)]| {
        found.iter().map(|(pointer, path, exists, _)| (pointer.clone(), path.clone(), *exists)).collect::<Vec<_>>()
    };
    let granted = |found: &[(String, String, bool, bool)]| found.iter().map(|path| path.3).collect::<Vec<_>>();
    // In the folder of the run.
    let found = look(&call);
    assert_eq!(reported(&found), expected(false));
    assert_eq!(granted(&found), [true, true, false, false]);
    // In a folder of its own.
    call.cwd = Some("sub".to_owned());
    let found = look(&call);
    assert_eq!(found[0], ("/cwd".to_owned(), "sub".to_owned(), true, true));
    assert_eq!(reported(&found[1..]), expected(true));
    assert_eq!(granted(&found[1..]), [true, false, false, false]);
}

fn lengths(call: &ToolCall) -> usize {
    let files = call.files.iter().map(|file| file.path.len() + file.change.as_ref().map_or(0, String::len));
    let texts = call.commands.iter().chain(&call.urls).chain(&call.cwd).chain(&call.extra);
    let words = [&call.id, &call.kind, &call.name, &call.input];
    files.sum::<usize>() + texts.chain(words).map(String::len).sum::<usize>()
}

fn cut(call: &ToolCall) -> Vec<String> {
    let extra: Value = serde_json::from_str(call.extra.as_deref().unwrap_or("null")).unwrap();
    serde_json::from_value(extra["cut"].clone()).unwrap_or_default()
}

#[test]
fn use_of_common_size_is_not_cut() {
    let file = FileAccess { path: "a".to_owned(), effect: FileEffect::Modify, change: Some("x".repeat(1000)) };
    let call = ToolCall {
        files: vec![file; 100],
        input: Value::from("x".repeat(MAX_SHOWN / 2)).to_string(),
        extra: Some("{\"a\":1}".to_owned()),
        ..call("1", "ls")
    };
    assert_eq!(shorten(call.clone()), call);
}

#[test]
fn long_use_is_cut_to_the_maximum_and_names_the_cut_fields() {
    let long = || "ä\"".repeat(MAX_SHOWN);
    let file =
        |path: &str, change| FileAccess { path: path.to_owned(), effect: FileEffect::Create, change: Some(change) };
    let all = ToolCall {
        name: long(),
        cwd: Some(long()),
        commands: vec!["ls".to_owned(), long(), long()],
        files: vec![file("a", long())],
        urls: vec!["a.example".to_owned()],
        input: Value::from(long()).to_string(),
        extra: Some(json!({"a": long()}).to_string()),
        ..call("1", "")
    };
    let found = shorten(all);
    assert!(lengths(&found) < MAX_SHOWN + 4096, "{}", lengths(&found));
    assert_eq!((found.id.as_str(), found.commands[0].as_str(), found.files[0].path.as_str()), ("1", "ls", "a"));
    assert_eq!(cut(&found), ["/name", "/cwd", "/commands/1", "/commands/2", "/files/0/change", "/input", "/extra"]);
    let input: Value = serde_json::from_str(&found.input).unwrap();
    assert!(input.is_string());

    let alone = ToolCall {
        input: json!({"content": long()}).to_string(),
        extra: Some(json!({"a": 1}).to_string()),
        ..call("1", "ls")
    };
    let found = shorten(alone);
    assert_eq!(cut(&found), ["/input", "/extra"]);
    let input: String = serde_json::from_str(&found.input).unwrap();
    assert!(input.starts_with("{\"content\":\"ä") && found.input.len() > MAX_SHOWN / 4, "{}", found.input.len());
    assert!(lengths(&found) < MAX_SHOWN + 4096);

    // Each is short.
    let many = ToolCall {
        files: vec![file("a", String::new()); MAX_SHOWN],
        commands: vec![String::new(); MAX_SHOWN],
        urls: vec!["b".to_owned(); MAX_SHOWN],
        ..call("1", "")
    };
    let found = shorten(many);
    assert_eq!(cut(&found)[..3], ["/files", "/urls", "/commands"]);
    assert!(found.files.len() + found.urls.len() + found.commands.len() <= MAX_SHOWN / ENTRY);
}

#[test]
fn long_result_without_a_start_is_cut_at_its_end() {
    let output = ToolOutput { output: "x".repeat(MAX_SHOWN), ..result("1") };
    let found = shorten(call_of(&output));
    let extra: Value = serde_json::from_str(found.extra.as_deref().unwrap()).unwrap();
    assert_eq!(extra["result"]["output"].as_str().unwrap().len(), MAX_SHOWN / 2);
    assert_eq!(cut(&found), ["/extra/result/output"]);
}

#[test]
fn folder_that_was_cut_is_not_looked_up() {
    let file = FileAccess { path: "a".to_owned(), effect: FileEffect::Read, change: None };
    let call = shorten(ToolCall { cwd: Some("/".repeat(3 * MAX_WORD)), files: vec![file], ..call("1", "") });
    assert_eq!(checked_paths(&call, Path::new("/"), &Grants::default(), &mut Lookups::new()).len(), 0);
}

#[test]
fn policy_that_fails_for_many_uses_of_an_attempt_is_no_longer_called() {
    let mut tally = Tally::default();
    for _ in 0..MAX_FAULTS {
        assert!(!tally.is_given_up("evil"));
        tally.note_faults(&["evil".to_owned()]);
    }
    assert!(tally.is_given_up("evil") && !tally.is_given_up("strict"));
    assert_eq!(serde_json::to_value(&tally).unwrap(), json!({"total": 0, "byKind": {}}));
}

#[test]
fn files_beyond_the_bounds_are_not_looked_up() {
    let grants = Grants::default();
    let file = |path: String| FileAccess { path, effect: FileEffect::Read, change: None };
    let odd = ["x".repeat(MAX_PATH + 1), "a/".repeat(MAX_DEPTH + 1), "plain".to_owned()];
    let mut call = ToolCall { files: odd.map(file).to_vec(), ..call("1", "") };
    let mut lookups = Lookups::new();
    let found = checked_paths(&call, Path::new("/"), &grants, &mut lookups);
    assert_eq!(found.iter().map(|path| path.pointer.as_str()).collect::<Vec<_>>(), ["/files/2"]);
    call.files = vec![file("plain".to_owned()); MAX_FILES + 1];
    assert_eq!(checked_paths(&call, Path::new("/"), &grants, &mut lookups).len(), MAX_FILES);
}

const SECRET: &str = "hunter2-hunter2";

fn recorder() -> Recorder {
    Recorder::new(None, None, redactor_masking(&[SECRET]))
}

/// The record of a use of a tool of this name with these findings of a policy.
fn audit(name: &str, verdicts: &[Verdict]) -> PolicyAudit {
    let finding = |verdict: &Verdict| Finding {
        policy: "strict".to_owned(),
        digest: String::new(),
        check: "no-shell".to_owned(),
        verdict: *verdict,
        pointer: None,
        message: format!("not with {SECRET}"),
        hint: Some("do without".to_owned()),
    };
    PolicyAudit {
        stage: "tool".to_owned(),
        tool: Some(AuditedTool { id: "1".to_owned(), tool: "shell".to_owned(), name: name.to_owned() }),
        findings: verdicts.iter().map(finding).collect(),
        ..PolicyAudit::default()
    }
}

fn texts(events: &[NewEvent]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(&event.payload).unwrap()).collect()
}

#[test]
fn finding_that_denies_nothing_is_only_recorded() {
    let recorder = recorder();
    let mut denials = Denials::new(&recorder, ReportedTools::End);
    for verdict in [Verdict::Allow, Verdict::Warn] {
        let judged = denials.follow(audit("Bash", &[verdict]));
        assert!(
            matches!(judged, ToolDecision::Recorded(event) if event.kind.name() == "run.policy_audit"),
            "{verdict:?}"
        );
    }
    assert_eq!((denials.recorded, denials.left_out), (0, 0));
}

#[test]
fn denied_use_warns_with_tool_policy_and_message_redacted() {
    let recorder = recorder();
    let mut denials = Denials::new(&recorder, ReportedTools::Warn);
    for (verdict, words) in [(Verdict::Deny, "which the policy strict denies"), (Verdict::Ask, "nobody can be asked")] {
        let name = format!("Bash {SECRET}");
        let ToolDecision::Denied { events, end: None } = denials.follow(audit(&name, &[verdict, Verdict::Warn])) else {
            panic!("{verdict:?}");
        };
        let shown = texts(&events);
        assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
        let [record, warning] = shown.as_slice() else { panic!("{shown:?}") };
        assert_eq!(record["findings"].as_array().unwrap().len(), 2);
        let facts = ["code", "id", "tool", "name", "policy", "check"].map(|fact| warning[fact].as_str().unwrap());
        assert_eq!(facts, ["TOOL_DENIED", "1", "shell", "Bash [REDACTED:thing]", "strict", "no-shell"]);
        let message = warning["message"].as_str().unwrap();
        for part in ["the tool Bash [REDACTED:thing],", words, ": not with [REDACTED:thing]"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn denied_use_ends_the_run_with_tool_policy_message_and_hint() {
    let recorder = recorder();
    let mut denials = Denials::new(&recorder, ReportedTools::End);
    let ToolDecision::Denied { events, end: Some(end) } = denials.follow(audit("Bash", &[Verdict::Deny])) else {
        panic!("it does not end the run");
    };
    assert_eq!(events.iter().map(|event| event.kind.name()).collect::<Vec<_>>(), ["run.policy_audit"]);
    assert!(end.message.contains("the tool Bash, which the policy strict denies"), "{}", end.message);
    assert_eq!(end.hint.as_deref(), Some("do without"));
}

#[test]
fn long_name_of_a_tool_is_cut_after_redaction() {
    let recorder = recorder();
    let denials = Denials::new(&recorder, ReportedTools::End);
    let name = format!("{}{SECRET}", "x".repeat(MAX_NAME - 7));
    let audit = audit(&name, &[Verdict::Deny]);
    let message = denials.message(audit.tool.as_ref().unwrap(), &audit.findings[0]);
    assert!(!message.contains("tool hunter2") && !message.contains("xhunter2"), "{message}");
    assert!(message.len() < 3 * MAX_NAME, "{message}");
}

#[test]
fn message_about_a_denied_use_repeats_nothing() {
    let recorder = recorder();
    let denials = Denials::new(&recorder, ReportedTools::Warn);
    let say = |name: &str, kind: &str, finding: &Finding| {
        let tool = AuditedTool { id: String::new(), tool: kind.to_owned(), name: name.to_owned() };
        denials.message(&tool, finding)
    };
    let found = Finding { message: "no".to_owned(), ..audit("", &[Verdict::Deny]).findings.remove(0) };
    assert_eq!(
        say("", OTHER, &found),
        "the CLI has used a tool that it did not name, which the policy strict denies: no"
    );
    assert_eq!(
        say("", "shell", &found),
        "the CLI has used a tool of the kind shell, which the policy strict denies: no"
    );
    let failed = Finding {
        check: policy_set::POLICY_FAILED.to_owned(),
        message: format!("{}it ran too long", policy_set::failure_begins("strict")),
        ..found
    };
    assert_eq!(
        say("Bash", "shell", &failed),
        "the CLI has used the tool Bash, about which the policy strict could not be asked: it ran too long"
    );
    let late = &not_judged(ENDING).findings[0];
    assert_eq!(
        say("Bash", "shell", late),
        "the CLI has used the tool Bash, about which no policy was asked: the run was being ended"
    );
    let line = &not_judged(LONG_LINE).findings[0];
    let message = say("", OTHER, line);
    assert_eq!(
        message,
        "the CLI may have used a tool about which no policy was asked: a line of its output was too long to be read"
    );
}

#[test]
fn denials_beyond_the_bound_are_counted() {
    let recorder = recorder();
    let mut denials = Denials::new(&recorder, ReportedTools::Warn);
    let mut recorded = 0;
    for _ in 0..MAX_RECORDED + 3 {
        assert!(denials.left_out().is_none_or(|_| recorded == 2 * MAX_RECORDED));
        let ToolDecision::Denied { events, .. } = denials.follow(audit("Bash", &[Verdict::Deny])) else { panic!() };
        recorded += events.len() as u64;
    }
    assert_eq!(recorded, 2 * MAX_RECORDED);
    let rest = texts(&[denials.left_out().unwrap()]);
    assert_eq!((&rest[0]["code"], &rest[0]["count"]), (&json!("TOOL_DENIED"), &json!(3)));
}

#[test]
fn denial_that_is_too_long_to_be_recorded_ends_the_run() {
    let recorder = recorder();
    let mut denials = Denials::new(&recorder, ReportedTools::End);
    denials.room = 2000;
    let long = audit(&"x".repeat(2000), &[Verdict::Deny]);
    let ToolDecision::Denied { events, end: Some(_) } = denials.follow(long) else { panic!("it does not end the run") };
    assert!(events.is_empty() && denials.left_out().is_some());
    let ToolDecision::Denied { events, .. } = denials.follow(audit("Bash", &[Verdict::Deny])) else { panic!() };
    assert_eq!(events.len(), 1, "a short one has room");
}
