//! Tool uses that a CLI reports without asking. Each is shown to the policies once, after the fact: by then the CLI may
//! have done it, so that a denial prevents nothing. It warns, or ends the run.
//!
//! What a CLI neither asks about nor reports, nobody sees here; only a sandbox bounds that.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::gate::{Gate, Grants, Ruling};
use super::native_policy::deny;
use super::question::Question;
use super::record::Recorder;
use super::verdict::Denial;
use crate::config::ReportedTools;
use crate::model::{AuditedTool, Finding, NewEvent, Payload, PolicyAudit, Verdict, warning_code};
use crate::plugins::types::{Action, CheckedPath, Semantic, ToolCall, ToolOutput};

/// The kind of a tool that is not known, and of those beyond [`MAX_KINDS`].
const OTHER: &str = "other";

/// Kinds that are counted one by one. The plugin guide has a dozen; a plugin may say anything.
const MAX_KINDS: usize = 64;

/// Uses of an attempt that are remembered. One that is reported again after so many others is judged again.
const MAX_KNOWN: usize = 100_000;

/// Denied uses of an attempt that have a record of their own, and bytes of those. They are told beyond what a run may
/// store, so that no flood of output hides them.
const MAX_RECORDED: u64 = 1000;
const MAX_RECORDED_BYTES: usize = 16 << 20;

/// Files of one use that are looked up, and the longest and deepest path that is. A policy is told of none that is not.
const MAX_FILES: usize = 256;
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 128;

/// Most of a tool's name that stands in a message, in bytes.
const MAX_NAME: usize = 100;

/// Tool uses of an attempt, for the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    total: u64,
    by_kind: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, kind: &str) {
        self.total += 1;
        let known = self.by_kind.contains_key(kind) || self.by_kind.len() < MAX_KINDS;
        *self.by_kind.entry(if known { kind } else { OTHER }.to_owned()).or_default() += 1;
    }
}

/// Shows the policies what an attempt's CLI reports.
#[derive(Debug)]
pub(crate) struct ToolUses<'a> {
    gate: &'a Gate,
    question: Question<'a>,
    /// The payload as the policies see it: written once, because an agent uses many tools.
    payload: Option<Box<RawValue>>,
    known: Known,
    tally: Tally,
    denials: Denials<'a>,
}

/// What comes of a tool use.
#[derive(Debug)]
pub(super) enum Judged {
    /// No policy has found anything.
    Nothing,
    /// Something was found and nothing denied: the record of it.
    Noted(NewEvent),
    /// It was denied.
    Denied {
        /// What is told of it.
        events: Vec<NewEvent>,
        /// Why the run ends, where it does.
        end: Option<Denial>,
    },
}

impl<'a> ToolUses<'a> {
    /// Of an attempt that `question` describes.
    pub(super) fn new(gate: &'a Gate, question: Question<'a>, recorder: &'a Recorder, rule: ReportedTools) -> Self {
        let payload = question.payload_fact(gate);
        let denials = Denials::new(recorder, rule);
        Self { gate, question, payload, known: Known::default(), tally: Tally::default(), denials }
    }

    /// The uses in a step that have not been judged.
    pub(super) fn news(&mut self, events: &[Semantic]) -> Vec<ToolUse> {
        events.iter().filter_map(|event| self.known.take(event)).collect()
    }

    /// Asks the policies about a use. Where there is no time left for that, it counts as denied. Blocks; calls plugins.
    pub(super) fn judge(&mut self, tool_use: ToolUse, in_time: bool) -> Judged {
        let ToolUse { call, is_new } = tool_use;
        let (kind, question) = (call.kind.clone(), &self.question);
        let paths = if in_time { checked_paths(&call, question.cwd, question.grants) } else { Vec::new() };
        let action = Action::Tool(call);
        let ruling = if in_time {
            question.judge(self.gate, &action, paths, self.payload.as_deref(), &self.tally)
        } else {
            Ruling { findings: vec![not_asked()] }
        };
        if is_new {
            self.tally.count(&kind);
        }
        if ruling.findings.is_empty() {
            return Judged::Nothing;
        }
        self.denials.follow(self.question.audit(&action, &ruling))
    }

    /// How many denied uses have no record of their own, if any.
    pub(super) fn left_out(&self) -> Option<NewEvent> {
        self.denials.left_out()
    }
}

/// What follows from denials.
#[derive(Debug)]
struct Denials<'a> {
    recorder: &'a Recorder,
    rule: ReportedTools,
    recorded: u64,
    /// Bytes that further records may have.
    room: usize,
    left_out: u64,
}

impl<'a> Denials<'a> {
    const fn new(recorder: &'a Recorder, rule: ReportedTools) -> Self {
        Self { recorder, rule, recorded: 0, room: MAX_RECORDED_BYTES, left_out: 0 }
    }

    /// What follows from what was found of a use, the strictest first.
    fn follow(&mut self, audit: PolicyAudit) -> Judged {
        let denial = audit.findings.first().filter(|finding| finding.verdict >= Verdict::Ask).cloned();
        let tool = audit.tool.clone().unwrap_or_default();
        let record = self.recorder.event(&Payload::PolicyAudit(audit));
        let Some(denial) = denial else { return Judged::Noted(record) };
        let message = self.message(&tool, &denial);
        let mut events = vec![record];
        let end = match self.rule {
            ReportedTools::Warn => {
                let AuditedTool { id, tool, name } = tool;
                let facts =
                    json!({"id": id, "tool": tool, "name": name, "policy": denial.policy, "check": denial.check});
                events.push(self.recorder.warning(warning_code::TOOL_DENIED, message, facts));
                None
            }
            ReportedTools::End => Some(Denial { message, hint: denial.hint }),
        };
        let size = events.iter().map(|event| event.payload.len()).sum();
        match self.room.checked_sub(size).filter(|_| self.recorded < MAX_RECORDED) {
            Some(room) => (self.room, self.recorded) = (room, self.recorded + 1),
            None => {
                self.left_out += 1;
                events.clear();
            }
        }
        Judged::Denied { events, end }
    }

    fn left_out(&self) -> Option<NewEvent> {
        let count = Some(self.left_out).filter(|count| *count > 0)?;
        let message = format!("{count} further tool uses were denied, and have no record of their own");
        Some(self.recorder.warning(warning_code::TOOL_DENIED, message, json!({"count": count})))
    }

    fn message(&self, tool: &AuditedTool, finding: &Finding) -> String {
        // Redaction first: a cut could take away the part by which a key is recognized.
        let mut name = self.recorder.clean(if tool.name.is_empty() { &tool.tool } else { &tool.name });
        name.truncate(name.floor_char_boundary(MAX_NAME));
        let (policy, found) = (&finding.policy, &finding.message);
        let judgement = match finding.verdict {
            Verdict::Ask => format!("for which the policy {policy} wants a person's consent, and nobody can be asked"),
            _ => format!("which the policy {policy} denies"),
        };
        format!("the CLI has used the tool {name}, {judgement}: {found}")
    }
}

/// A tool use that is to be judged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToolUse {
    call: ToolCall,
    /// Whether nothing was reported of it before.
    is_new: bool,
}

/// What has been reported so far.
#[derive(Debug, Default)]
struct Known {
    ids: Recent,
    calls: Recent,
}

impl Known {
    /// The use of which an event is the first report. A start that says something else than the one before is a report of
    /// its own: an id alone must not cover what nobody has judged.
    fn take(&mut self, event: &Semantic) -> Option<ToolUse> {
        match event {
            Semantic::ToolStart(call) => {
                let nameless = call.id.is_empty();
                let is_new = self.ids.insert(call.id.as_bytes()) || nameless;
                let differs = serde_json::to_vec(call).map_or(true, |text| self.calls.insert(&text));
                (differs || nameless).then(|| ToolUse { call: call.clone(), is_new })
            }
            // Some CLIs leave starts out.
            Semantic::ToolResult(result) => {
                let id = result.id.as_bytes();
                let is_new = if id.is_empty() { !self.ids.contains(id) } else { self.ids.insert(id) };
                is_new.then(|| ToolUse { call: call_of(result), is_new })
            }
            _ => None,
        }
    }
}

/// A use of which only the result is known.
fn call_of(result: &ToolOutput) -> ToolCall {
    let ToolOutput { id, output, is_error, exit_code, extra: _ } = result;
    ToolCall {
        id: id.clone(),
        kind: OTHER.to_owned(),
        name: String::new(),
        input: "null".to_owned(),
        commands: Vec::new(),
        cwd: None,
        files: Vec::new(),
        urls: Vec::new(),
        mcp: None,
        parent: None,
        extra: Some(json!({"result": {"output": output, "isError": is_error, "exitCode": exit_code}}).to_string()),
    }
}

/// A set that forgets what was inserted first.
#[derive(Debug, Default)]
struct Recent {
    digests: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Recent {
    /// Whether it was not in the set.
    fn insert(&mut self, bytes: &[u8]) -> bool {
        let digest = Sha256::digest(bytes).into();
        if !self.digests.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
        true
    }

    fn contains(&self, bytes: &[u8]) -> bool {
        self.digests.contains::<[u8; 32]>(&Sha256::digest(bytes).into())
    }
}

/// The paths of a use: its folder, and its files relative to that. They are what the host sees there now.
fn checked_paths(call: &ToolCall, cwd: &Path, grants: &Grants) -> Vec<CheckedPath> {
    let folder = call.cwd.as_ref().map_or_else(|| cwd.to_owned(), |folder| cwd.join(folder));
    let check = |pointer: String, told: &String| {
        let path = folder.join(told);
        let bounded = path.as_os_str().len() <= MAX_PATH && path.components().count() <= MAX_DEPTH;
        bounded.then(|| CheckedPath { path: told.clone(), ..grants.check(pointer, &path) })
    };
    let files = call.files.iter().take(MAX_FILES).enumerate();
    let files = files.filter_map(|(index, file)| check(format!("/files/{index}"), &file.path));
    call.cwd.iter().filter_map(|told| check("/cwd".to_owned(), told)).chain(files).collect()
}

/// What the host says of a use for which there was no time.
fn not_asked() -> Finding {
    let message = "the policies were not asked about it, because the run was being ended".to_owned();
    Finding { pointer: None, hint: None, ..deny("tool-not-judged", String::new(), message, "") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::plugins::types::{FileAccess, FileEffect};
    use crate::redaction::{IgnoreFaults, KnownSecret, Masks, OperatorRules, Redactor, RunRedactor};

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
    fn use_that_is_reported_as_start_again_and_as_result_is_taken_once() {
        let mut known = Known::default();
        let start = Semantic::ToolStart(call("1", "ls"));
        assert!(known.take(&start).unwrap().is_new);
        for again in [start, Semantic::ToolResult(result("1"))] {
            assert_eq!(known.take(&again), None, "{again:?}");
        }
        assert!(known.take(&Semantic::ToolStart(call("2", "ls"))).unwrap().is_new);
    }

    #[test]
    fn start_with_a_known_id_and_another_content_is_taken_and_not_counted() {
        let mut known = Known::default();
        known.take(&Semantic::ToolStart(call("1", "ls"))).unwrap();
        let other = known.take(&Semantic::ToolStart(call("1", "rm -r ."))).unwrap();
        assert_eq!((other.call.commands[0].as_str(), other.is_new), ("rm -r .", false));
    }

    #[test]
    fn result_without_a_start_is_taken_as_an_unknown_tool_with_its_result() {
        let mut known = Known::default();
        let found = known.take(&Semantic::ToolResult(result("1"))).unwrap();
        assert!(found.is_new);
        assert_eq!((found.call.id.as_str(), found.call.kind.as_str(), found.call.name.as_str()), ("1", "other", ""));
        let extra: Value = serde_json::from_str(&found.call.extra.unwrap()).unwrap();
        assert_eq!(extra["result"], json!({"output": "out", "isError": true, "exitCode": 3}));
        assert_eq!(known.take(&Semantic::ToolResult(result("1"))), None);
    }

    #[test]
    fn uses_without_an_id_are_taken_each_time() {
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
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
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
        let paths = ["there", "link/x", "../../up", absolute.as_str()];
        let file = |path: &str| FileAccess { path: path.to_owned(), effect: FileEffect::Read, change: None };
        let mut call = ToolCall { files: paths.map(file).to_vec(), ..call("1", "") };
        let look = |call: &ToolCall| {
            let found = checked_paths(call, &grant, &grants).into_iter();
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
        let told = |found: &[(String, String, bool, bool)]| {
            found.iter().map(|(pointer, path, exists, _)| (pointer.clone(), path.clone(), *exists)).collect::<Vec<_>>()
        };
        let granted = |found: &[(String, String, bool, bool)]| found.iter().map(|path| path.3).collect::<Vec<_>>();
        // In the folder of the run.
        let found = look(&call);
        assert_eq!(told(&found), expected(false));
        assert_eq!(granted(&found), [true, true, false, false]);
        // In a folder of its own.
        call.cwd = Some("sub".to_owned());
        let found = look(&call);
        assert_eq!(found[0], ("/cwd".to_owned(), "sub".to_owned(), false, true));
        assert_eq!(told(&found[1..]), expected(true));
        assert_eq!(granted(&found[1..]), [true, false, false, false]);
    }

    #[test]
    fn files_beyond_the_bounds_are_not_looked_up() {
        let grants = Grants::default();
        let file = |path: String| FileAccess { path, effect: FileEffect::Read, change: None };
        let odd = ["x".repeat(MAX_PATH + 1), "a/".repeat(MAX_DEPTH + 1), "plain".to_owned()];
        let mut call = ToolCall { files: odd.map(file).to_vec(), ..call("1", "") };
        let found = checked_paths(&call, Path::new("/"), &grants);
        assert_eq!(found.iter().map(|path| path.pointer.as_str()).collect::<Vec<_>>(), ["/files/2"]);
        call.files = vec![file("plain".to_owned()); MAX_FILES + 1];
        assert_eq!(checked_paths(&call, Path::new("/"), &grants).len(), MAX_FILES);
    }

    const SECRET: &str = "hunter2-hunter2";

    fn recorder() -> Recorder {
        let redactor = Arc::new(Redactor::compile(Vec::new(), OperatorRules::default()).unwrap());
        let masks = Masks::new([KnownSecret { name: "thing".to_owned(), value: SECRET.to_owned() }]);
        Recorder::new(None, None, RunRedactor::new(redactor, Arc::new(masks), Arc::new(IgnoreFaults)))
    }

    /// The record of a use by a tool of this name about which a policy has found these.
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

    fn shown(events: &[NewEvent]) -> Vec<Value> {
        events.iter().map(|event| serde_json::from_str(&event.payload).unwrap()).collect()
    }

    #[test]
    fn finding_that_denies_nothing_is_recorded_and_no_more() {
        let recorder = recorder();
        let mut denials = Denials::new(&recorder, ReportedTools::End);
        for verdict in [Verdict::Allow, Verdict::Warn] {
            let judged = denials.follow(audit("Bash", &[verdict]));
            assert!(matches!(judged, Judged::Noted(event) if event.kind.name() == "run.policy_audit"), "{verdict:?}");
        }
        assert_eq!((denials.recorded, denials.left_out), (0, 0));
    }

    #[test]
    fn denied_use_warns_with_tool_policy_and_message_redacted() {
        let recorder = recorder();
        let mut denials = Denials::new(&recorder, ReportedTools::Warn);
        for (verdict, words) in
            [(Verdict::Deny, "which the policy strict denies"), (Verdict::Ask, "nobody can be asked")]
        {
            let name = format!("Bash {SECRET}");
            let Judged::Denied { events, end: None } = denials.follow(audit(&name, &[verdict, Verdict::Warn])) else {
                panic!("{verdict:?}");
            };
            let shown = shown(&events);
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
        let Judged::Denied { events, end: Some(end) } = denials.follow(audit("Bash", &[Verdict::Deny])) else {
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
    fn denials_beyond_the_bound_are_counted() {
        let recorder = recorder();
        let mut denials = Denials::new(&recorder, ReportedTools::Warn);
        let mut told = 0;
        for _ in 0..MAX_RECORDED + 3 {
            assert!(denials.left_out().is_none_or(|_| told == 2 * MAX_RECORDED));
            let Judged::Denied { events, .. } = denials.follow(audit("Bash", &[Verdict::Deny])) else { panic!() };
            told += events.len() as u64;
        }
        assert_eq!(told, 2 * MAX_RECORDED);
        let rest = shown(&[denials.left_out().unwrap()]);
        assert_eq!((&rest[0]["code"], &rest[0]["count"]), (&json!("TOOL_DENIED"), &json!(3)));
    }

    #[test]
    fn denial_that_is_too_long_to_be_recorded_ends_the_run_all_the_same() {
        let recorder = recorder();
        let mut denials = Denials::new(&recorder, ReportedTools::End);
        denials.room = 2000;
        let long = audit(&"x".repeat(2000), &[Verdict::Deny]);
        let Judged::Denied { events, end: Some(_) } = denials.follow(long) else { panic!("it does not end the run") };
        assert!(events.is_empty() && denials.left_out().is_some());
        let Judged::Denied { events, .. } = denials.follow(audit("Bash", &[Verdict::Deny])) else { panic!() };
        assert_eq!(events.len(), 1, "a short one has room");
    }
}
