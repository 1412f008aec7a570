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

use crate::attempt::outcome::Denial;
use crate::lookup::Lookups;
use crate::policy::native_policy::{POLICY as HOST, deny};
use crate::policy::policy_request::PolicyRequest;
use crate::policy::policy_set::{self, Grants, PolicyDecision, PolicySet};
use crate::record::Recorder;
use ostler_config::ReportedTools;
use ostler_plugin_host::types::{Action, CheckedPath, Semantic, ToolCall, ToolOutput};
use ostler_protocol::{AuditedTool, Finding, NewEvent, Payload, PolicyAudit, Verdict, WarningCode};

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

/// Tool uses of an attempt over which a policy may fail. It is not asked about later ones, and denies them.
const MAX_FAULTS: u32 = 5;

/// What policies are shown of one use, in bytes: of all texts together, of what names the use, and of its folder. An entry
/// of a list takes some itself.
const MAX_SHOWN: usize = 1 << 20;
const MAX_WORD: usize = 2 * MAX_PATH;
const ENTRY: usize = 64;

/// Places of one use that are named as cut.
const MAX_CUT: usize = 100;

/// Tool uses of an attempt, for the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    total: u64,
    by_kind: BTreeMap<String, u64>,
    /// Uses over which a policy has failed, by its name.
    #[serde(skip)]
    faults: BTreeMap<String, u32>,
}

impl Tally {
    /// Whether a policy is not to be asked any more.
    pub(crate) fn is_given_up(&self, policy: &str) -> bool {
        self.faults.get(policy).is_some_and(|count| *count >= MAX_FAULTS)
    }

    fn note_faults(&mut self, policies: &[String]) {
        for policy in policies {
            *self.faults.entry(policy.clone()).or_default() += 1;
        }
    }

    fn count(&mut self, kind: &str) {
        self.total += 1;
        let known = self.by_kind.contains_key(kind) || self.by_kind.len() < MAX_KINDS;
        *self.by_kind.entry(if known { kind } else { OTHER }.to_owned()).or_default() += 1;
    }
}

/// Shows the policies what an attempt's CLI reports.
#[derive(Debug)]
pub(crate) struct ToolUses<'a> {
    gate: &'a PolicySet,
    question: PolicyRequest<'a>,
    /// The payload as the policies see it: written once, because an agent uses many tools.
    payload: Option<Box<RawValue>>,
    /// Whether some policy is asked about tool uses.
    judges: bool,
    lookups: Lookups,
    known: Known,
    tally: Tally,
    denials: Denials<'a>,
}

/// What comes of a tool use.
#[derive(Debug)]
pub(crate) enum Judged {
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
    pub(crate) fn new(
        gate: &'a PolicySet,
        question: PolicyRequest<'a>,
        recorder: &'a Recorder,
        rule: ReportedTools,
    ) -> Self {
        let judges = gate.judges_tools();
        let payload = judges.then(|| question.payload_fact(gate)).flatten();
        Self {
            gate,
            question,
            payload,
            judges,
            lookups: Lookups::new(),
            known: Known::default(),
            tally: Tally::default(),
            denials: Denials::new(recorder, rule),
        }
    }

    /// The uses in a step that have not been judged.
    pub(crate) fn news(&mut self, events: &[Semantic]) -> Vec<ToolUse> {
        if !self.judges {
            return Vec::new();
        }
        events.iter().filter_map(|event| self.known.take(event)).collect()
    }

    /// Asks the policies about a use. Where there is no time left for that, it counts as denied. Blocks; calls plugins.
    pub(crate) fn judge(&mut self, tool_use: ToolUse, in_time: bool) -> Judged {
        let ToolUse { call, is_new } = tool_use;
        let (kind, question) = (call.kind.clone(), &self.question);
        let call = shown(call);
        let (action, ruling) = if in_time {
            let paths = checked_paths(&call, question.cwd, question.grants, &mut self.lookups);
            let action = Action::Tool(call);
            let ruling = question.judge(self.gate, &action, paths, self.payload.as_deref(), &self.tally);
            (action, ruling)
        } else {
            (Action::Tool(call), not_judged(ENDING))
        };
        self.tally.note_faults(&ruling.failed);
        if is_new {
            self.tally.count(&kind);
        }
        if ruling.findings.is_empty() {
            return Judged::Nothing;
        }
        self.denials.follow(self.question.audit(&action, &ruling))
    }

    /// What follows from a line of the CLI's protocol that was too long to be read: it could tell of a use. None where no
    /// policy would be asked about that.
    pub(crate) fn unread_line(&mut self) -> Option<Judged> {
        let nothing =
            ToolOutput { id: String::new(), output: String::new(), is_error: false, exit_code: None, extra: None };
        let action = Action::Tool(ToolCall { input: String::new(), extra: None, ..call_of(&nothing) });
        self.judges.then(|| self.denials.follow(self.question.audit(&action, &not_judged(LONG_LINE))))
    }

    /// Whether the run is to end where nobody can say any more what tools it uses.
    pub(crate) fn end_unseen(&self) -> bool {
        self.denials.rule == ReportedTools::End
    }

    /// How many denied uses have no record of their own, if any.
    pub(crate) fn left_out(&self) -> Option<NewEvent> {
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
                events.push(self.recorder.warning(WarningCode::ToolDenied, message, facts));
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
        Some(self.recorder.warning(WarningCode::ToolDenied, message, json!({"count": count})))
    }

    fn message(&self, tool: &AuditedTool, finding: &Finding) -> String {
        let (policy, found) = (&finding.policy, &finding.message);
        if *policy == HOST && finding.check == NOT_JUDGED && finding.message == LONG_LINE {
            return format!("the CLI may have used a tool about which no policy was asked: {found}");
        }
        // Redaction first: a cut could take away the part by which a key is recognized.
        let cut = |text: &str| {
            let mut text = self.recorder.clean(text);
            text.truncate(text.floor_char_boundary(MAX_NAME));
            text
        };
        let tool = match (tool.name.as_str(), tool.tool.as_str()) {
            ("", "" | OTHER) => "a tool that it did not name".to_owned(),
            ("", kind) => format!("a tool of the kind {}", cut(kind)),
            (name, _) => format!("the tool {}", cut(name)),
        };
        let reason = found
            .strip_prefix(&policy_set::failure_begins(policy))
            .filter(|_| finding.check == policy_set::POLICY_FAILED);
        let judgement = match (finding.verdict, reason) {
            (_, Some(reason)) => format!("about which the policy {policy} could not be asked: {reason}"),
            _ if *policy == HOST && finding.check == NOT_JUDGED => format!("about which no policy was asked: {found}"),
            (Verdict::Ask, _) => {
                format!("for which the policy {policy} wants a person's consent, and nobody can be asked: {found}")
            }
            _ => format!("which the policy {policy} denies: {found}"),
        };
        format!("the CLI has used {tool}, {judgement}")
    }
}

/// A tool use that is to be judged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolUse {
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
    let kept = &output[..output.floor_char_boundary(MAX_SHOWN / 2)];
    let mut extra = json!({"result": {"output": kept, "isError": is_error, "exitCode": exit_code}});
    if kept.len() < output.len() {
        extra["cut"] = json!(["/extra/result/output"]);
    }
    ToolCall { id: id.clone(), extra: Some(extra.to_string()), ..unknown_tool() }
}

/// A use of a tool of which nothing is known.
pub(crate) fn unknown_tool() -> ToolCall {
    ToolCall {
        id: String::new(),
        kind: OTHER.to_owned(),
        name: String::new(),
        input: "null".to_owned(),
        commands: Vec::new(),
        cwd: None,
        files: Vec::new(),
        urls: Vec::new(),
        mcp: None,
        parent: None,
        extra: None,
    }
}

/// A use as the policies are shown it: no longer than they can be expected to take. What names it comes first, and then
/// what is short. Where something is left out, `extra.cut` says where.
fn shown(mut call: ToolCall) -> ToolCall {
    let (mut room, mut cut) = (MAX_SHOWN, Vec::new());
    let words = [("/id", &mut call.id), ("/kind", &mut call.kind), ("/name", &mut call.name)];
    let optional = [("/parent", &mut call.parent), ("/cwd", &mut call.cwd)];
    let optional = optional.into_iter().filter_map(|(pointer, word)| Some((pointer, word.as_mut()?)));
    let mcp = call.mcp.iter_mut().flat_map(|mcp| [("/mcp/server", &mut mcp.server), ("/mcp/tool", &mut mcp.tool)]);
    for (pointer, word) in words.into_iter().chain(optional).chain(mcp) {
        shorten(word, MAX_WORD, pointer, &mut cut);
        room = room.saturating_sub(word.len());
    }
    // Half of a path or an address would be another one.
    let fitting = |lengths: &mut dyn Iterator<Item = usize>, room: &mut usize| {
        let fits = |length: &usize| room.checked_sub(length + ENTRY).map(|rest| *room = rest).is_some();
        lengths.take_while(fits).count()
    };
    let count = fitting(&mut call.files.iter().map(|file| file.path.len()), &mut room);
    truncate(&mut call.files, count, "/files", &mut cut);
    let count = fitting(&mut call.urls.iter().map(String::len), &mut room);
    truncate(&mut call.urls, count, "/urls", &mut cut);
    let count = room / ENTRY;
    truncate(&mut call.commands, count, "/commands", &mut cut);
    room -= call.commands.len() * ENTRY;
    for (index, command) in call.commands.iter_mut().enumerate() {
        shorten(command, room, &format!("/commands/{index}"), &mut cut);
        room -= command.len();
    }
    for (index, file) in call.files.iter_mut().enumerate() {
        if let Some(change) = &mut file.change {
            shorten(change, room, &format!("/files/{index}/change"), &mut cut);
            room -= change.len();
        }
    }
    if call.input.len() > room {
        // It is JSON, and as a text at most twice as long: what has to be escaped in it is escaped already.
        shorten(&mut call.input, room / 2, "/input", &mut cut);
        call.input = serde_json::Value::from(call.input).to_string();
        room = 0;
    }
    if call.extra.as_ref().is_some_and(|extra| extra.len() > room) {
        cut.push("/extra".to_owned());
        call.extra = None;
    }
    if !cut.is_empty() {
        mark(&mut call.extra, cut);
    }
    call
}

fn shorten(text: &mut String, most: usize, pointer: &str, cut: &mut Vec<String>) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        cut.push(pointer.to_owned());
    }
}

fn truncate<T>(list: &mut Vec<T>, most: usize, pointer: &str, cut: &mut Vec<String>) {
    if list.len() > most {
        list.truncate(most);
        cut.push(pointer.to_owned());
    }
}

/// Says in `extra` what was cut. Of more than a policy needs to see it, the first.
fn mark(extra: &mut Option<String>, mut cut: Vec<String>) {
    cut.truncate(MAX_CUT);
    let known = extra.as_ref().and_then(|extra| serde_json::from_str(extra).ok());
    let mut fields: serde_json::Map<String, serde_json::Value> = known.unwrap_or_default();
    if let Some(before) = fields.get("cut").and_then(serde_json::Value::as_array) {
        cut.extend(before.iter().filter_map(|pointer| pointer.as_str().map(str::to_owned)));
    }
    fields.insert("cut".to_owned(), cut.into());
    *extra = Some(serde_json::Value::from(fields).to_string());
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

/// The paths of a use: its folder, and its files relative to that. They are what the host sees there now, as far as it
/// gets to see it.
fn checked_paths(call: &ToolCall, cwd: &Path, grants: &Grants, lookups: &mut Lookups) -> Vec<CheckedPath> {
    let folder = call.cwd.as_ref().map_or_else(|| cwd.to_owned(), |folder| cwd.join(folder));
    let told_folder = call.cwd.iter().map(|told| ("/cwd".to_owned(), told, folder.clone()));
    let files = call.files.iter().take(MAX_FILES).enumerate();
    let files = files.map(|(index, file)| (format!("/files/{index}"), &file.path, folder.join(&file.path)));
    let bounded = |path: &Path| path.as_os_str().len() <= MAX_PATH && path.components().count() <= MAX_DEPTH;
    let (told, paths): (Vec<_>, Vec<_>) = told_folder
        .chain(files)
        .filter(|(_, _, path)| bounded(path))
        .map(|(pointer, told, path)| ((pointer, told), path))
        .unzip();
    let found = told.into_iter().zip(lookups.look_up(paths));
    found.filter_map(|((pointer, told), path)| Some(grants.checked(pointer, told.clone(), &path?))).collect()
}

/// Name of the check in the host's findings about what no policy was asked about.
const NOT_JUDGED: &str = "tool-not-judged";

/// Why no policy was asked.
const ENDING: &str = "the run was being ended";
const LONG_LINE: &str = "a line of its output was too long to be read";

/// What the host says where no policy was asked.
fn not_judged(reason: &str) -> PolicyDecision {
    let finding = Finding { pointer: None, hint: None, ..deny(NOT_JUDGED, String::new(), reason.to_owned(), "") };
    PolicyDecision { findings: vec![finding], failed: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use ostler_plugin_host::types::{FileAccess, FileEffect};
    use ostler_redaction::{IgnoreFaults, KnownSecret, Masks, OperatorRules, Redactor, RunRedactor};

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
        assert_eq!(found[0], ("/cwd".to_owned(), "sub".to_owned(), true, true));
        assert_eq!(told(&found[1..]), expected(true));
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
    fn use_of_common_size_is_shown_as_it_is() {
        let file = FileAccess { path: "a".to_owned(), effect: FileEffect::Modify, change: Some("x".repeat(1000)) };
        let call = ToolCall {
            files: vec![file; 100],
            input: Value::from("x".repeat(MAX_SHOWN / 2)).to_string(),
            extra: Some("{\"a\":1}".to_owned()),
            ..call("1", "ls")
        };
        assert_eq!(shown(call.clone()), call);
    }

    #[test]
    fn long_use_is_shown_within_the_bound_and_says_what_is_cut() {
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
        let found = shown(all);
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
        let found = shown(alone);
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
        let found = shown(many);
        assert_eq!(cut(&found)[..3], ["/files", "/urls", "/commands"]);
        assert!(found.files.len() + found.urls.len() + found.commands.len() <= MAX_SHOWN / ENTRY);
    }

    #[test]
    fn long_result_without_a_start_is_shown_by_its_beginning() {
        let output = ToolOutput { output: "x".repeat(MAX_SHOWN), ..result("1") };
        let found = shown(call_of(&output));
        let extra: Value = serde_json::from_str(found.extra.as_deref().unwrap()).unwrap();
        assert_eq!(extra["result"]["output"].as_str().unwrap().len(), MAX_SHOWN / 2);
        assert_eq!(cut(&found), ["/extra/result/output"]);
    }

    #[test]
    fn folder_that_was_cut_is_not_looked_up() {
        let file = FileAccess { path: "a".to_owned(), effect: FileEffect::Read, change: None };
        let call = shown(ToolCall { cwd: Some("/".repeat(3 * MAX_WORD)), files: vec![file], ..call("1", "") });
        assert_eq!(checked_paths(&call, Path::new("/"), &Grants::default(), &mut Lookups::new()).len(), 0);
    }

    #[test]
    fn policy_that_fails_over_many_uses_of_an_attempt_is_given_up() {
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

    fn texts(events: &[NewEvent]) -> Vec<Value> {
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
    fn message_about_a_denied_use_says_each_thing_once() {
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
        let mut told = 0;
        for _ in 0..MAX_RECORDED + 3 {
            assert!(denials.left_out().is_none_or(|_| told == 2 * MAX_RECORDED));
            let Judged::Denied { events, .. } = denials.follow(audit("Bash", &[Verdict::Deny])) else { panic!() };
            told += events.len() as u64;
        }
        assert_eq!(told, 2 * MAX_RECORDED);
        let rest = texts(&[denials.left_out().unwrap()]);
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
