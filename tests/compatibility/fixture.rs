//! One release behind private hosts, and what its runs report.

use super::{cases::Case, release::Release};
use crate::support::{
    AgentFixture, TestHost, answer, check_run_events, end_of, model_server::Seen, of_type, semantics,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    cell::{OnceCell, RefCell},
    fmt, fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// Time limit of a run, so that one that never ends is found. A busy machine needs much more than an idle one.
pub(crate) const RUN_MS: u64 = 75_000;

/// The message of the host about a CLI that is too slow for detection.
const NO_ANSWER: &str = "did not answer";

/// How often detection is repeated for a CLI that is too slow. The host waits longer each time.
const DETECTIONS: usize = 3;

/// Longest note in the table, in characters.
const MAX_NOTE: usize = 400;

/// The state of a cell, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// The option has its effect.
    Works,
    /// It has no effect, and a warning or the capabilities say so.
    Degraded,
    /// The run is refused, with the reason.
    Blocked,
    /// It has no effect, and nothing says so.
    Wrong,
}

/// A cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) state: State,
    pub(crate) note: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Works => return f.write_str("works"),
            State::Degraded => "degraded",
            State::Blocked => "blocked",
            State::Wrong => "WRONG",
        };
        write!(f, "{state}: {}", self.note)
    }
}

impl Verdict {
    pub(crate) fn new(state: State, note: impl Into<String>) -> Self {
        let note: String = note.into();
        let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { state, note: note.chars().take(MAX_NOTE).collect() }
    }

    pub(crate) fn works() -> Self {
        Self::new(State::Works, "")
    }

    pub(crate) fn wrong(note: impl Into<String>) -> Self {
        Self::new(State::Wrong, note)
    }

    /// `Works` if the option has its effect; otherwise `Wrong` with this note.
    pub(crate) fn that(has_effect: bool, seen: impl Into<String>) -> Self {
        if has_effect { Self::works() } else { Self::wrong(seen) }
    }

    /// The worse of two.
    pub(crate) fn and(self, other: Self) -> Self {
        if other.state > self.state { other } else { self }
    }

    /// The same with the part of the case that the verdict is about.
    pub(crate) fn on(self, part: &str) -> Self {
        if self.state == State::Works { self } else { Self::new(self.state, format!("{part}: {}", self.note)) }
    }
}

/// A run, or its refusal.
pub(crate) struct RunReport {
    /// The refusal.
    pub(crate) refused: Option<Value>,
    pub(crate) events: Vec<Value>,
    /// Requests to the model during the run.
    pub(crate) seen: Vec<Seen>,
    prompt: String,
}

impl RunReport {
    pub(crate) fn answer(&self) -> &str {
        answer(&self.events)
    }

    pub(crate) fn completed(&self) -> bool {
        end_of(&self.events).is_some_and(|end| end["type"] == "run.completed")
    }

    pub(crate) fn session(&self) -> String {
        let sessions = semantics(&self.events, "session");
        sessions.last().and_then(|session| session["sessionId"].as_str()).unwrap_or_default().to_owned()
    }

    pub(crate) fn origin(&self) -> String {
        let sessions = semantics(&self.events, "session");
        sessions.last().and_then(|session| session["origin"].as_str()).unwrap_or("none").to_owned()
    }

    /// The last event of the run, or the refusal.
    pub(crate) fn end(&self) -> String {
        if let Some(error) = &self.refused {
            return format!("refused: {}", error["message"].as_str().unwrap_or_default());
        }
        let Some(end) = end_of(&self.events) else { return "the run has no last event".to_owned() };
        let word = |name: &str| end["payload"][name].as_str().unwrap_or_default();
        format!("{} {} {} {}", end["type"].as_str().unwrap_or_default(), word("reason"), word("code"), word("message"))
    }

    /// Names of the tools that were offered with the prompt. CLIs send requests of their own, too, with other tools.
    pub(crate) fn tools(&self) -> Vec<String> {
        let with_prompt = self.seen.iter().rev().find(|seen| seen.prompt.contains(&self.prompt));
        with_prompt.map(|seen| seen.tools.clone()).unwrap_or_default()
    }

    /// Number of requests with the prompt of the run.
    pub(crate) fn requests(&self) -> usize {
        self.seen.iter().filter(|seen| seen.prompt.contains(&self.prompt)).count()
    }

    /// The reason of the refusal, if it is about this pointer.
    fn refused_at(&self, pointer: &str) -> Option<String> {
        let error = self.refused.as_ref()?;
        let of = |problem: &Value| {
            let at = problem["pointer"].as_str().unwrap_or_default();
            related(at, pointer).then(|| problem["message"].as_str().unwrap_or_default().to_owned())
        };
        let problems = error["problems"].as_array().into_iter().flatten().find_map(of);
        problems.or_else(|| of(error)).filter(|_| {
            ["UNENFORCEABLE", "INVALID_PARAMS", "POLICY_DENIED", "PROVIDER_BLOCKED"]
                .iter()
                .any(|kind| error["kind"] == *kind)
        })
    }

    /// The warning about this pointer, other than that the run is not contained.
    pub(crate) fn warned_at(&self, pointer: &str) -> Option<String> {
        of_type(&self.events, "run.compatibility_warning").into_iter().find_map(|event| {
            let reason = event["payload"]["reason"].as_str().unwrap_or_default();
            let at = event["payload"]["pointer"].as_str().unwrap_or_default();
            (related(at, pointer) && !reason.starts_with("the run is not contained")).then(|| reason.to_owned())
        })
    }

    /// Checks an option without a restriction: it has its effect, or a warning says that it has none, or the run is
    /// refused.
    pub(crate) fn check_option(&self, pointer: &str, has_effect: bool, seen: impl Into<String>) -> Verdict {
        self.judge(pointer, has_effect, seen, true)
    }

    /// Checks an option that restricts the agent: it has its effect, or the run is refused.
    pub(crate) fn check_restriction(&self, pointer: &str, has_effect: bool, seen: impl Into<String>) -> Verdict {
        self.judge(pointer, has_effect, seen, false)
    }

    fn judge(&self, pointer: &str, has_effect: bool, seen: impl Into<String>, warning_suffices: bool) -> Verdict {
        if let Some(error) = &self.refused {
            // A release that may not work in the folder at all is refused before the option is looked at.
            return match self.refused_at(pointer).or_else(|| self.refused_at("/cwd")) {
                Some(reason) => Verdict::new(State::Blocked, reason),
                None if error["kind"] == "PROVIDER_BLOCKED" => {
                    let reason = error["message"].as_str().unwrap_or_default();
                    // That says nothing about the release.
                    let state = if reason.contains(NO_ANSWER) { State::Wrong } else { State::Blocked };
                    Verdict::new(state, reason)
                }
                None => Verdict::wrong(format!("refused for another reason: {error}")),
            };
        }
        if has_effect {
            return Verdict::works();
        }
        match self.warned_at(pointer).filter(|_| warning_suffices) {
            Some(reason) => Verdict::new(State::Degraded, reason),
            None => Verdict::wrong(seen),
        }
    }
}

/// Whether the pointers are the same, or one contains the other.
fn related(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/') && !outer.is_empty())
    };
    within(a, b) || within(b, a)
}

/// Which sandbox contains the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SandboxedBy {
    /// That of the host, if this machine has a back end.
    Host,
    /// That of the CLI alone: the host has no back end, and the operator allows what it cannot enforce.
    Cli,
}

/// One release behind private hosts.
pub(crate) struct Fixture<'a> {
    pub(crate) release: &'a Release,
    executable: PathBuf,
    by_host: OnceCell<AgentFixture>,
    by_cli: OnceCell<AgentFixture>,
    own_system_prompt: OnceCell<String>,
    /// Name of the current case, for its folder.
    case: RefCell<&'static str>,
}

impl<'a> Fixture<'a> {
    pub(crate) fn new(release: &'a Release, executable: PathBuf) -> Self {
        Self {
            release,
            executable,
            by_host: OnceCell::new(),
            by_cli: OnceCell::new(),
            own_system_prompt: OnceCell::new(),
            case: RefCell::new(""),
        }
    }

    /// Runs a case. A panic is a wrong cell.
    pub(crate) fn check(&self, case: &Case) -> Verdict {
        self.case.replace(case.name);
        caught(|| (case.run)(self))
    }

    pub(crate) fn is_codex(&self) -> bool {
        self.release.cli == "codex"
    }

    /// The agent and host that the cases share. A case that changes the settings of the CLI restores them.
    pub(crate) fn agent(&self, by: SandboxedBy) -> &AgentFixture {
        match by {
            SandboxedBy::Host => self.by_host.get_or_init(|| self.open(by)),
            SandboxedBy::Cli => self.by_cli.get_or_init(|| self.open(by)),
        }
    }

    /// The system prompt that the CLI sends by default.
    pub(crate) fn own_system_prompt(&self) -> &str {
        self.own_system_prompt.get_or_init(|| {
            let agent = self.agent(SandboxedBy::Host);
            let folder = agent.host.work();
            self.run(agent, &folder, "SYSTEM", &json!({})).answer().to_owned()
        })
    }

    fn open(&self, by: SandboxedBy) -> AgentFixture {
        let more = match by {
            SandboxedBy::Host => "[runner]\nbackground_seconds = 1\n",
            SandboxedBy::Cli => {
                "[sandbox]\nbackends = []\nmode = \"full-access\"\n[policy]\nallow_unenforced = [\"/harness/permissions\"]\n"
            }
        };
        // codex warns about a home below the temporary folders, and a contained run has its own temporary folders.
        let agent = AgentFixture::with(TestHost::outside(), self.release.cli(), self.executable.clone(), more);
        for _ in 0..DETECTIONS {
            if !self.is_too_slow(&agent) {
                break;
            }
            self.capabilities(&agent, true);
        }
        agent
    }

    /// The capabilities of the release as the host reports them.
    pub(crate) fn capabilities(&self, agent: &AgentFixture, refresh: bool) -> Value {
        agent.host.ensure_running();
        let params = json!({ "provider": self.release.cli, "refresh": refresh });
        // Detection on a busy machine can take longer than a call may; the next call gets its result.
        let mut found = agent.host.call("list_capabilities", &params);
        for _ in 1..DETECTIONS {
            if found.is_ok() {
                break;
            }
            found = agent.host.call("list_capabilities", &params);
        }
        found.unwrap()[0].take()
    }

    /// Whether the capabilities list this feature.
    pub(crate) fn claims(&self, agent: &AgentFixture, feature: &str) -> bool {
        let found = self.capabilities(agent, false);
        found["features"].as_array().is_some_and(|features| features.iter().any(|word| word == feature))
    }

    /// The reason in the capabilities that contains this text.
    pub(crate) fn declared(&self, agent: &AgentFixture, text: &str) -> Option<String> {
        let found = self.capabilities(agent, false);
        let reasons = found["reasons"].as_array()?;
        reasons.iter().filter_map(Value::as_str).find(|reason| reason.contains(text)).map(str::to_owned)
    }

    /// Whether the CLI did not answer when it was detected.
    pub(crate) fn is_too_slow(&self, agent: &AgentFixture) -> bool {
        self.declared(agent, NO_ANSWER).is_some()
    }

    /// A working folder for this case, a new one for each name.
    pub(crate) fn folder(&self, agent: &AgentFixture, name: &str) -> PathBuf {
        let folder = agent.host.work().join(format!("{}-{name}", self.case.borrow().replace([' ', ',', '/'], "-")));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs a prompt with this `harness` in a folder.
    pub(crate) fn run(&self, agent: &AgentFixture, folder: &Path, prompt: &str, harness: &Value) -> RunReport {
        self.run_with(agent, folder, prompt, harness, &json!({}))
    }

    /// The same with further members of the payload.
    pub(crate) fn run_with(
        &self,
        agent: &AgentFixture,
        folder: &Path,
        prompt: &str,
        harness: &Value,
        more: &Value,
    ) -> RunReport {
        let mut harness = harness.clone();
        harness["limits"]["timeoutMs"] = json!(RUN_MS);
        if harness["resumeSessionId"] == "" {
            // The run before was refused and has no session. This one is refused for the same reason.
            harness.as_object_mut().unwrap().remove("resumeSessionId");
        }
        let mut payload = json!({ "cwd": folder, "harness": harness });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let file = agent.payload(prompt, &payload);
        self.command(agent, &["run", "--json", "--payload", file.to_str().unwrap()], prompt)
    }

    /// Runs a command that follows a run with this prompt and prints its events.
    pub(crate) fn command(&self, agent: &AgentFixture, args: &[&str], prompt: &str) -> RunReport {
        let before = agent.server.seen().len();
        let done = agent.host.run(args);
        let seen = agent.server.seen().split_off(before);
        let prompt = prompt.to_owned();
        if done.stdout.is_empty() {
            return RunReport { refused: Some(done.error()), events: Vec::new(), seen, prompt };
        }
        let events = done.json_lines();
        check_run_events(&events);
        RunReport { refused: None, events, seen, prompt }
    }
}

/// The verdict of a check that panics if something is wrong.
pub(crate) fn caught(check: impl FnOnce() -> Verdict) -> Verdict {
    panic::catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "a check has failed".to_owned());
        // The release may not work in the folder, or not at all.
        let reason = [r#""message":"/cwd: "#, r#""kind":"PROVIDER_BLOCKED","message":""#]
            .into_iter()
            .find_map(|before| text.split_once(before))
            .map(|(_, reason)| reason.split('"').next().unwrap_or_default());
        match reason.filter(|reason| !reason.contains(NO_ANSWER)) {
            Some(reason) => Verdict::new(State::Blocked, reason),
            None => Verdict::wrong(text),
        }
    })
}

/// Hides the messages of panics, which become verdicts.
pub(crate) fn hide_panics() {
    if std::env::var_os("OSTLER_KEEP_TEST_HOMES").is_none() {
        panic::set_hook(Box::new(|_| {}));
    }
}
