//! One release behind private hosts, and what its runs tell.

use super::{cases::Case, release::Release};
use crate::support::{Bed, Studio, answer, check_story, end_of, model_server::Seen, of_type, semantics};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    cell::{OnceCell, RefCell},
    fmt, fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// Longest time of a run: what never ends by itself shows.
const RUN_MS: u64 = 45_000;

/// Longest note in the table.
const NOTE: usize = 400;

/// How a cell came out, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It does what the payload asks for.
    Works,
    /// It does not, and says so before or while it runs.
    Degraded,
    /// It is refused, with the reason.
    Blocked,
    /// It does not, without a word.
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
        Self { state, note: note.chars().take(NOTE).collect() }
    }

    pub(crate) fn works() -> Self {
        Self::new(State::Works, "")
    }

    pub(crate) fn wrong(note: impl Into<String>) -> Self {
        Self::new(State::Wrong, note)
    }

    /// Works where it holds; otherwise `seen` is wrong.
    pub(crate) fn that(holds: bool, seen: impl Into<String>) -> Self {
        if holds { Self::works() } else { Self::wrong(seen) }
    }

    /// The worse of two.
    pub(crate) fn and(self, other: Self) -> Self {
        if other.state > self.state { other } else { self }
    }

    /// The same, with a word on which part of the case it is about.
    pub(crate) fn on(self, part: &str) -> Self {
        if self.state == State::Works { self } else { Self::new(self.state, format!("{part}: {}", self.note)) }
    }
}

/// A run, or why there is none.
pub(crate) struct Told {
    /// Why it was refused.
    pub(crate) refused: Option<Value>,
    pub(crate) events: Vec<Value>,
    /// Requests to the model meanwhile.
    pub(crate) seen: Vec<Seen>,
    prompt: String,
}

impl Told {
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

    /// What the end of the run says.
    pub(crate) fn end(&self) -> String {
        if let Some(error) = &self.refused {
            return format!("refused: {}", error["message"].as_str().unwrap_or_default());
        }
        let Some(end) = end_of(&self.events) else { return "the run has no end".to_owned() };
        let word = |name: &str| end["payload"][name].as_str().unwrap_or_default();
        format!("{} {} {} {}", end["type"].as_str().unwrap_or_default(), word("reason"), word("code"), word("message"))
    }

    /// Names of the tools that the model was offered with the prompt. CLIs ask for things of their own, too.
    pub(crate) fn tools(&self) -> Vec<String> {
        let with_prompt = self.seen.iter().rev().find(|seen| seen.prompt.contains(&self.prompt));
        with_prompt.map(|seen| seen.tools.clone()).unwrap_or_default()
    }

    /// Requests with the prompt of the run.
    pub(crate) fn requests(&self) -> usize {
        self.seen.iter().filter(|seen| seen.prompt.contains(&self.prompt)).count()
    }

    /// Why it was refused, if what stands at this pointer is the reason.
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

    /// The warning about what stands at this pointer, but for the host's own.
    pub(crate) fn warned_at(&self, pointer: &str) -> Option<String> {
        of_type(&self.events, "run.compatibility_warning").into_iter().find_map(|event| {
            let reason = event["payload"]["reason"].as_str().unwrap_or_default();
            let at = event["payload"]["pointer"].as_str().unwrap_or_default();
            (related(at, pointer) && !reason.starts_with("the run is not contained")).then(|| reason.to_owned())
        })
    }

    /// An option of convenience: it holds, or a warning says that it does not, or the run is refused.
    pub(crate) fn asked(&self, pointer: &str, holds: bool, seen: impl Into<String>) -> Verdict {
        self.judge(pointer, holds, seen, true)
    }

    /// An option that restricts the agent: it holds, or the run is refused.
    pub(crate) fn restricted(&self, pointer: &str, holds: bool, seen: impl Into<String>) -> Verdict {
        self.judge(pointer, holds, seen, false)
    }

    fn judge(&self, pointer: &str, holds: bool, seen: impl Into<String>, warnings_do: bool) -> Verdict {
        if let Some(error) = &self.refused {
            // A release that may not work in a folder at all does not get to the option.
            return match self.refused_at(pointer).or_else(|| self.refused_at("/cwd")) {
                Some(reason) => Verdict::new(State::Blocked, reason),
                None if error["kind"] == "PROVIDER_BLOCKED" => {
                    Verdict::new(State::Blocked, error["message"].as_str().unwrap_or_default())
                }
                None => Verdict::wrong(format!("refused for another reason: {error}")),
            };
        }
        if holds {
            return Verdict::works();
        }
        match self.warned_at(pointer).filter(|_| warnings_do) {
            Some(reason) => Verdict::new(State::Degraded, reason),
            None => Verdict::wrong(seen),
        }
    }
}

/// Whether one pointer is the other, or stands in it or around it.
fn related(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/') && !outer.is_empty())
    };
    within(a, b) || within(b, a)
}

/// What bounds the runs of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// The host, where this machine can.
    ByHost,
    /// The CLI alone: no back end, and the operator lets go what only the host could enforce.
    ByCli,
}

/// One release behind private hosts.
pub(crate) struct Scene<'a> {
    pub(crate) release: &'a Release,
    executable: PathBuf,
    by_host: OnceCell<Studio>,
    by_cli: OnceCell<Studio>,
    own_system_prompt: OnceCell<String>,
    /// Name of the case under way, for its folder.
    case: RefCell<&'static str>,
}

impl<'a> Scene<'a> {
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

    /// Tries a case. A panic is what it found.
    pub(crate) fn attempt(&self, case: &Case) -> Verdict {
        self.case.replace(case.name);
        caught(|| (case.run)(self))
    }

    pub(crate) fn is_codex(&self) -> bool {
        self.release.cli == "codex"
    }

    /// The host that the cases share. What one changes of the CLI's own settings it puts back.
    pub(crate) fn studio(&self, held: Held) -> &Studio {
        match held {
            Held::ByHost => self.by_host.get_or_init(|| self.open(held)),
            Held::ByCli => self.by_cli.get_or_init(|| self.open(held)),
        }
    }

    /// What the CLI tells its model by itself.
    pub(crate) fn own_system_prompt(&self) -> &str {
        self.own_system_prompt.get_or_init(|| {
            let studio = self.studio(Held::ByHost);
            let folder = studio.bed.work();
            self.run(studio, &folder, "SYSTEM", &json!({})).answer().to_owned()
        })
    }

    fn open(&self, held: Held) -> Studio {
        let more = match held {
            Held::ByHost => "[runner]\nbackground_seconds = 1\n",
            Held::ByCli => {
                "[sandbox]\nbackends = []\nmode = \"full-access\"\n[policy]\nallow_unenforced = [\"/harness/permissions\"]\n"
            }
        };
        // codex warns of a home below the temporary folders, and what lies there is private to a contained run.
        Studio::with(Bed::outside(), self.release.cli(), self.executable.clone(), more)
    }

    /// What the host says that the release can do.
    pub(crate) fn capabilities(&self, studio: &Studio, refresh: bool) -> Value {
        studio.bed.host();
        let asked = json!({ "provider": self.release.cli, "refresh": refresh });
        studio.bed.call("list_capabilities", &asked).unwrap()[0].take()
    }

    /// Whether this word is among the features.
    pub(crate) fn claims(&self, studio: &Studio, feature: &str) -> bool {
        let found = self.capabilities(studio, false);
        found["features"].as_array().is_some_and(|features| features.iter().any(|word| word == feature))
    }

    /// A folder in which a run of this case works, fresh for each name.
    pub(crate) fn folder(&self, studio: &Studio, name: &str) -> PathBuf {
        let folder = studio.bed.work().join(format!("{}-{name}", self.case.borrow().replace([' ', ',', '/'], "-")));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs a prompt with this `harness` in a folder.
    pub(crate) fn run(&self, studio: &Studio, folder: &Path, prompt: &str, harness: &Value) -> Told {
        self.run_with(studio, folder, prompt, harness, &json!({}))
    }

    /// The same with members of the payload beside.
    pub(crate) fn run_with(&self, studio: &Studio, folder: &Path, prompt: &str, harness: &Value, more: &Value) -> Told {
        let before = studio.server.seen().len();
        let mut harness = harness.clone();
        harness["limits"]["timeoutMs"] = json!(RUN_MS);
        if harness["resumeSessionId"] == "" {
            // The run before has none: what that says is said again.
            harness.as_object_mut().unwrap().remove("resumeSessionId");
        }
        let mut payload = json!({ "cwd": folder, "harness": harness });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let file = studio.payload(prompt, &payload);
        let done = studio.bed.run(&["run", "--json", "--payload", file.to_str().unwrap()]);
        let seen = studio.server.seen().split_off(before);
        if done.stdout.is_empty() {
            return Told { refused: Some(done.error()), events: Vec::new(), seen, prompt: prompt.to_owned() };
        }
        let events = done.json_lines();
        check_story(&events);
        Told { refused: None, events, seen, prompt: prompt.to_owned() }
    }
}

/// What a check comes to that panics where something is not as it should be.
pub(crate) fn caught(check: impl FnOnce() -> Verdict) -> Verdict {
    panic::catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "a check has failed".to_owned());
        // A release that may not work in the folder at all.
        match text.split_once(r#""message":"/cwd: "#).map(|(_, reason)| reason.split('"').next().unwrap_or_default()) {
            Some(reason) => Verdict::new(State::Blocked, reason),
            None => Verdict::wrong(text),
        }
    })
}

/// Panics are verdicts here.
pub(crate) fn keep_quiet_about_panics() {
    if std::env::var_os("OSTLER_KEEP_BEDS").is_none() {
        panic::set_hook(Box::new(|_| {}));
    }
}
