//! Executes a script: opens the session, performs the action, ends with a result.

use super::{
    args::{Options, Sandbox, SessionChoice},
    faults, leak,
    protocol::{Out, Outcome, Status},
    script::{self, Act, FailureClass},
    session::{Session, Store},
    shell::{self, Running},
    signals,
    talk::Link,
};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Stop {
    /// The command line or the prompt is invalid.
    Refused(String),
    /// The session to resume does not exist.
    NoSession(String),
    /// The output cannot be written.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Id of the answer among the messages of one run, and of its reasoning and its tool. In a conversation, the number of the turn
/// and of the step comes before it.
const ANSWER: &str = "answer";
const REASONING: &str = "reasoning";
const TOOL: &str = "tool-1";
/// Largest delta in bytes.
const DELTA: usize = 1024;

/// The result of an action.
#[derive(Default)]
pub(super) struct ActionResult {
    pub(super) text: String,
    structured: Option<Value>,
    tokens: Option<(u64, u64)>,
    pub(super) failure: Option<Value>,
    code: u8,
    /// Ends without a result line.
    silent: bool,
    /// The turn was interrupted.
    pub(super) interrupted: bool,
}

impl ActionResult {
    /// Whether the process ends with this turn, even in a conversation.
    pub(super) fn leaves(&self) -> bool {
        self.silent
    }

    pub(super) fn code(&self) -> u8 {
        self.code
    }

    pub(super) fn refused(code: u8, message: &str) -> Self {
        let failure = json!({ "class": FailureClass::Usage.name(), "message": message });
        Self { failure: Some(failure), code, ..Self::default() }
    }

    /// Adds the result of the next step.
    pub(super) fn join(&mut self, next: Self) {
        let mut text = std::mem::take(&mut self.text);
        if !text.is_empty() && !next.text.is_empty() {
            text.push('\n');
        }
        text.push_str(&next.text);
        *self = Self {
            text,
            structured: next.structured.or(self.structured.take()),
            tokens: next.tokens.or(self.tokens),
            ..next
        };
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// The context of an action.
pub(super) struct ActionContext<'a> {
    pub(super) options: &'a Options,
    pub(super) out: Out,
    pub(super) session: RefCell<Session>,
    store: Store,
    cwd: PathBuf,
    pub(super) running: Running,
    /// The host, in a conversation.
    pub(super) link: Option<Arc<Link>>,
    /// Before the ids of this step.
    pub(super) prefix: RefCell<String>,
}

/// Performs one prompt on standard output and returns the exit code.
pub(super) fn perform(options: &Options, prompt: &str) -> Result<u8, Stop> {
    let act = script::read(prompt).map_err(Stop::Refused)?;
    let context = ActionContext::open(options)?;
    context.opening()?;
    let result = context.act(&act)?;
    context.close(prompt, &result)?;
    Ok(result.code)
}

fn open_session(store: &Store, choice: &SessionChoice, cwd: &Path) -> Result<Session, Stop> {
    Ok(match choice {
        SessionChoice::Fresh(id) => store.begin(*id, cwd)?,
        SessionChoice::Resume(id) => store.resume(id, cwd)?.ok_or_else(|| Stop::NoSession(id.clone()))?,
        SessionChoice::Continue => match store.newest(cwd)? {
            Some(session) => session,
            None => store.begin(None, cwd)?,
        },
    })
}

impl<'a> ActionContext<'a> {
    /// Checks the files and opens the session.
    pub(super) fn open(options: &'a Options) -> Result<Self, Stop> {
        for file in [&options.system, &options.append_system, &options.schema].into_iter().flatten() {
            fs::File::open(file)
                .map_err(|error| Stop::Refused(format!("failed to read {}: {error}", file.display())))?;
        }
        if let Some(file) = &options.schema {
            let text = fs::read(file).unwrap_or_default();
            serde_json::from_slice::<Value>(&text)
                .map_err(|error| Stop::Refused(format!("schema {} is not JSON: {error}", file.display())))?;
        }
        let cwd = env::current_dir()?;
        let store = Store::locate(options.sessions.as_deref())?;
        let session = RefCell::new(open_session(&store, &options.session, &cwd)?);
        let out = Out::new(options.format, Box::new(io::stdout()));
        let context = Self {
            options,
            out,
            session,
            store,
            cwd,
            running: Running::default(),
            link: None,
            prefix: RefCell::default(),
        };
        context.watch_for_interrupt()?;
        Ok(context)
    }

    fn watch_for_interrupt(&self) -> io::Result<()> {
        let (out, running) = (self.out.clone(), self.running.clone());
        let (session, turns) = (self.session.borrow().id.to_string(), self.session.borrow().turns);
        signals::on_interrupt(move || {
            let outcome =
                Outcome { session, status: Status::Interrupted, text: None, structured: None, turns, failure: None };
            out.break_off(&outcome, || running.stop());
        })
    }

    /// One more prompt in this session.
    pub(super) fn next_turn(&self) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        session.turns += 1;
        self.store.save(&session, &self.cwd)
    }

    /// Keeps a text for later turns of the session.
    pub(super) fn remember(&self, text: &str) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        session.remember(text);
        self.store.save(&session, &self.cwd)
    }

    pub(super) fn opening(&self) -> io::Result<()> {
        let session = self.session.borrow().clone();
        self.out.event(
            "session",
            &json!({
                "session": session.id.to_string(),
                "resumed": session.resumed,
                "model": self.options.model,
                "version": env!("CARGO_PKG_VERSION"),
                "cwd": self.cwd,
            }),
        )?;
        self.out.event(
            "notice",
            &json!({ "code": "rehearsal", "message": "this is a rehearsal: a script answers, not a model" }),
        )
    }

    /// Performs an action and streams its output. The answer itself is in the result.
    pub(super) fn act(&self, act: &Act) -> io::Result<ActionResult> {
        match act {
            Act::Say(text) => self.answer(text),
            Act::Think(text) => self.think(text),
            Act::Json(text) => self.json(text),
            Act::Run(command) => self.run(command),
            Act::Slow(chunks) => self.slow(*chunks),
            Act::Big(kib) => self.big(*kib),
            Act::Usage(input, output) => {
                Ok(ActionResult { tokens: Some((*input, *output)), ..self.answer("the tokens are counted as asked")? })
            }
            Act::Leak(seed) => self.leak(*seed),
            Act::Fail { once: true, .. } if self.options.attempt > 1 => {
                self.answer(&format!("attempt {} succeeds", self.options.attempt))
            }
            Act::Fail { class, retry_after, .. } => self.fail(*class, *retry_after),
            Act::Sleep(seconds) => {
                self.pause(Duration::from_secs(*seconds))?;
                self.answer(&format!("slept for {seconds} s"))
            }
            Act::System => self.answer(&self.system_prompt()?),
            Act::Model => self.answer(&self.options.model),
            Act::Turns => self.answer(&self.session.borrow().turns.to_string()),
            Act::Tools => {
                let tools = self.options.tools.as_ref().map_or_else(|| "shell".to_owned(), |tools| tools.join(" "));
                self.answer(&tools)
            }
            Act::Files => self.answer(&self.files()),
            Act::Env(name) => {
                let value = env::var_os(name);
                self.answer(&value.map_or_else(|| "(not set)".into(), |value| value.to_string_lossy().into_owned()))
            }
            Act::Line(kib) => {
                faults::long_line(&self.out, *kib)?;
                Ok(ActionResult::text(format!("wrote a line of {kib} KiB")))
            }
            Act::Flood(mib) => {
                faults::flood(&self.out, *mib)?;
                self.answer(&format!("wrote {mib} MiB"))
            }
            Act::Raw => {
                faults::raw(&self.out)?;
                self.answer("wrote bytes that are not UTF-8")
            }
            Act::Signal(signal) => {
                signals::die_by(*signal)?;
                self.answer(&format!("survived {signal}"))
            }
            Act::Stubborn(seconds) => {
                signals::ignore_stops()?;
                self.send_delta("ignoring every request to stop\n")?;
                faults::linger(*seconds);
                Ok(ActionResult::text("ignoring every request to stop\nnobody ended me"))
            }
            Act::Orphan(seconds) => {
                let pid = faults::orphan(*seconds)?;
                self.answer(&format!("left a daemon with pid {pid}"))
            }
            Act::Tree { processes, seconds, leave } => {
                let tree = faults::Tree::start(*processes, *seconds)?;
                let ending = self.answer(&format!("a tree of {processes}: {}", tree.pids.join(" ")))?;
                if !leave {
                    tree.wait()?;
                }
                Ok(ending)
            }
            Act::Talk(act) => self.talk(act),
        }
    }

    /// Sleeps. In a conversation, an interrupt ends the sleep and the turn.
    fn pause(&self, time: Duration) -> io::Result<()> {
        match &self.link {
            Some(link) => link.pause(time),
            None => {
                thread::sleep(time);
                Ok(())
            }
        }
    }

    /// An id that is unique in the conversation.
    pub(super) fn id(&self, name: &str) -> String {
        format!("{}{name}", self.prefix.borrow())
    }

    pub(super) fn close(&self, prompt: &str, ending: &ActionResult) -> io::Result<()> {
        if ending.silent {
            return Ok(());
        }
        // An estimate: a quarter of the bytes.
        let guess = |text: &str| (text.len() as u64).div_ceil(4);
        let (input, output) = ending.tokens.unwrap_or_else(|| (guess(prompt), guess(&ending.text)));
        self.out.event("usage", &json!({ "inputTokens": input, "outputTokens": output }))?;
        let status = match &ending.failure {
            Some(_) => Status::Failed,
            None if ending.interrupted => Status::Interrupted,
            None => Status::Completed,
        };
        let outcome = Outcome {
            session: self.session.borrow().id.to_string(),
            status,
            text: (status == Status::Completed).then_some(ending.text.as_str()),
            structured: ending.structured.as_ref(),
            turns: self.session.borrow().turns,
            failure: ending.failure.clone(),
        };
        if self.link.is_some() { self.out.turn(&outcome) } else { self.out.result(&outcome) }
    }

    /// Streams a text as the answer.
    pub(super) fn answer(&self, text: &str) -> io::Result<ActionResult> {
        for piece in pieces(text) {
            self.send_delta(piece)?;
        }
        self.whole(text)?;
        Ok(ActionResult::text(text))
    }

    fn send_delta(&self, piece: &str) -> io::Result<()> {
        if let Some(link) = &self.link {
            link.check()?;
        }
        self.out.event("text.delta", &json!({ "message": self.id(ANSWER), "text": piece }))
    }

    fn whole(&self, text: &str) -> io::Result<()> {
        self.out.event("text", &json!({ "message": self.id(ANSWER), "text": text }))
    }

    fn think(&self, text: &str) -> io::Result<ActionResult> {
        let thought = format!("let me rehearse this: {text}");
        for piece in pieces(&thought) {
            self.out.event("thinking.delta", &json!({ "message": self.id(REASONING), "text": piece }))?;
        }
        self.out.event("thinking", &json!({ "message": self.id(REASONING), "text": thought }))?;
        self.answer(text)
    }

    /// With a schema the value is the structured output, even if it does not conform: the host validates it.
    fn json(&self, text: &str) -> io::Result<ActionResult> {
        let structured = self.options.schema.as_ref().and_then(|_| serde_json::from_str(text).ok());
        Ok(ActionResult { structured, ..self.answer(text)? })
    }

    fn slow(&self, chunks: u64) -> io::Result<ActionResult> {
        let mut text = String::new();
        for number in 1..=chunks {
            if number > 1 {
                thread::sleep(Duration::from_millis(self.options.delay_ms));
            }
            let piece = format!("chunk {number} of {chunks}\n");
            self.send_delta(&piece)?;
            text.push_str(&piece);
        }
        self.whole(&text)?;
        Ok(ActionResult::text(text))
    }

    fn big(&self, kib: u64) -> io::Result<ActionResult> {
        let mut text = String::new();
        for number in 1..=kib {
            let piece = format!("{number:>8} {:.<1014}\n", "");
            self.send_delta(&piece)?;
            text.push_str(&piece);
        }
        self.whole(&text)?;
        Ok(ActionResult::text(text))
    }

    /// Why a command may not run, if it may not.
    fn refusal(&self) -> Option<String> {
        if self.options.allow_run {
            return None;
        }
        if self.options.tools.as_ref().is_some_and(|tools| !tools.iter().any(|tool| tool == "shell")) {
            return Some("refused: the shell is not among the allowed tools".to_owned());
        }
        match self.options.sandbox {
            Some(mode @ (Sandbox::ReadOnly | Sandbox::WorkspaceWrite)) => Some(format!(
                "refused: the sandbox is {} and a rehearsal cannot confine a command to it; full-access lets it run",
                mode.name()
            )),
            Some(Sandbox::FullAccess) | None => None,
        }
    }

    fn run(&self, command: &str) -> io::Result<ActionResult> {
        self.out.event(
            "tool.start",
            &json!({ "tool": self.id(TOOL), "name": "shell", "command": command, "cwd": self.cwd }),
        )?;
        if let Some(reason) = self.refusal() {
            self.out.event("tool.result", &json!({ "tool": self.id(TOOL), "output": reason, "error": true }))?;
            return self.answer(&format!("the command was {reason}"));
        }
        let command = match self.permitted(command)? {
            Ok(command) => command,
            Err(denial) => return Ok(denial),
        };
        let output = shell::run(&command, &self.cwd, &self.running, |piece| {
            self.out.event("tool.delta", &json!({ "tool": self.id(TOOL), "text": piece }))
        })?;
        self.out.event(
            "tool.result",
            &json!({ "tool": self.id(TOOL), "output": output.text, "error": output.code != 0, "exitCode": output.code }),
        )?;
        if let Some(link) = &self.link {
            link.check()?;
        }
        if self.options.max_turns == Some(1) {
            let failure = json!({
                "class": FailureClass::Limit.name(),
                "code": "max-turns",
                "message": "the limit of 1 turn is reached: there is no second one to answer in",
            });
            return Ok(ActionResult { failure: Some(failure), code: 1, ..ActionResult::default() });
        }
        let shown = output.text.trim_end();
        self.answer(&match (output.code, shown) {
            (0, "") => "done".to_owned(),
            (0, shown) => shown.to_owned(),
            (code, "") => format!("exit code {code}"),
            (code, shown) => format!("exit code {code}\n{shown}"),
        })
    }

    /// Prints the secrets on every path: in the answer (whole lines, cut into small deltas), in reasoning, in the
    /// result of a tool and on standard error.
    fn leak(&self, seed: u64) -> io::Result<ActionResult> {
        let secrets = leak::secrets(seed);
        let mut text = "these are made-up secrets:\n".to_owned();
        for secret in &secrets {
            text.push_str(&secret.shown);
            text.push('\n');
        }
        self.out.event("thinking", &json!({ "message": self.id(REASONING), "text": text }))?;
        self.out.event(
            "tool.start",
            &json!({ "tool": self.id(TOOL), "name": "shell", "command": "cat .env", "cwd": self.cwd }),
        )?;
        self.out
            .event("tool.result", &json!({ "tool": self.id(TOOL), "output": text, "error": false, "exitCode": 0 }))?;
        io::stderr().write_all(text.as_bytes())?;
        // Seven bytes at a time: no secret arrives in one piece.
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rest.floor_char_boundary(7.min(rest.len())));
            self.send_delta(piece)?;
            rest = tail;
        }
        self.whole(&text)?;
        Ok(ActionResult::text(text))
    }

    /// Fails in the way in which agents show each class: most in the last line, some only on standard error, and one
    /// without a last line.
    fn fail(&self, class: FailureClass, retry_after: Option<u64>) -> io::Result<ActionResult> {
        let failed = |code: &str, message: &str, hint: Option<&str>| {
            let failure = json!({
                "class": class.name(),
                "code": code,
                "message": message,
                "hint": hint,
                "retryAfterMs": retry_after,
            });
            Ok(ActionResult { failure: Some(failure), code: 1, ..ActionResult::default() })
        };
        match class {
            FailureClass::Unknown => {
                super::print_error("something went wrong, as asked");
                Ok(ActionResult { code: 1, silent: true, ..ActionResult::default() })
            }
            FailureClass::Authentication => {
                failed("http-401", "the credentials are refused, as asked", Some("rehearse with another FAIL class"))
            }
            FailureClass::Transient => failed("http-503", "the service is overloaded, as asked", None),
            FailureClass::RateLimited => {
                let message = "too many requests, as asked";
                self.out.event("rate-limited", &json!({ "message": message, "retryAfterMs": retry_after }))?;
                failed("http-429", message, None)
            }
            FailureClass::ResumeInvalid => {
                super::print_error(&format!("error: no session with id {}", self.session.borrow().id));
                Ok(ActionResult { code: 1, silent: true, ..ActionResult::default() })
            }
            FailureClass::Usage => {
                super::print_error("error: unknown option '--as-asked'");
                Ok(ActionResult { code: 2, silent: true, ..ActionResult::default() })
            }
            FailureClass::Limit => failed("quota", "the quota is used up, as asked", None),
            FailureClass::Incomplete => {
                self.send_delta("this answer breaks off in the mid")?;
                Ok(ActionResult { silent: true, ..ActionResult::default() })
            }
        }
    }

    fn system_prompt(&self) -> io::Result<String> {
        let read = |file: &Option<PathBuf>| file.as_ref().map(fs::read_to_string).transpose();
        let base = read(&self.options.system)?.unwrap_or_else(|| "You are a rehearsal.".to_owned());
        Ok(match read(&self.options.append_system)? {
            Some(more) => format!("{base}\n\n{more}"),
            None => base,
        })
    }

    fn files(&self) -> String {
        if self.options.attachments.is_empty() {
            return "(no files)".to_owned();
        }
        let describe = |path: &PathBuf| {
            let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
            match fs::metadata(path) {
                Ok(meta) => format!("{name} {} bytes", meta.len()),
                Err(error) => format!("{name} {error}"),
            }
        };
        self.options.attachments.iter().map(describe).collect::<Vec<_>>().join("\n")
    }
}

/// Words with the following space, as models stream; long texts in larger pieces.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = if text.len() > 16 * DELTA {
            rest.floor_char_boundary(DELTA.min(rest.len()))
        } else {
            let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
            let gap = rest[word..].find(char::is_whitespace).map_or(rest.len(), |at| word + at);
            rest[gap..].find(|c: char| !c.is_whitespace()).map_or(rest.len(), |at| gap + at)
        };
        let (piece, tail) = rest.split_at(end);
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pieces_are_words_and_keep_all_text() {
        assert_eq!(pieces("one  two\nthree "), ["one  ", "two\n", "three "]);
        assert_eq!(pieces("  lead"), ["  lead"]);
        assert_eq!(pieces("   "), ["   "]);
        assert!(pieces("").is_empty());
        let long = "schön 🎭 ".repeat(4_000);
        let cut = pieces(&long);
        assert_eq!(cut.concat(), long);
        assert!(cut.len() < 100 && cut.iter().all(|piece| piece.len() <= DELTA));
    }
}
