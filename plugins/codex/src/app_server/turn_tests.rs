//! Turns and messages of the user, without codex.

#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::{FailureKind, RunMode};
use ostler_provider_kit_testing::captures::read_one;

use super::*;

/// A transcript, and what it wrote last.
pub(super) struct Driver {
    pub transcript: AppServerTranscript,
    pub sent: Vec<Value>,
    pub events: Vec<Semantic>,
    pub ended: bool,
}

impl Driver {
    pub(super) fn new(request: &RunRequest) -> Self {
        let mut driver =
            Self { transcript: AppServerTranscript::new(request), sent: Vec::new(), events: Vec::new(), ended: false };
        let step = driver.transcript.open();
        driver.take(step);
        driver
    }

    /// A session with a thread `t` and no turn.
    pub(super) fn idle() -> Self {
        let request = RunRequest { mode: RunMode::Interactive, ..RunRequest::default() };
        Self::ready(&request)
    }

    /// A non-interactive run whose turn `1` is running.
    pub(super) fn run() -> Self {
        let mut request = RunRequest { prompt: "go".to_owned(), ..RunRequest::default() };
        request.host.extra = Some(r#"{"approvals": true, "everyTool": true}"#.to_owned());
        let mut driver = Self::ready(&request);
        driver.begin("1");
        driver
    }

    fn ready(request: &RunRequest) -> Self {
        let mut driver = Self::new(request);
        driver.answer(&json!({}));
        driver.answer(&json!({ "thread": { "id": "t" } }));
        driver
    }

    pub(super) fn take(&mut self, step: Step) {
        self.sent =
            String::from_utf8(step.write).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        self.events = step.events;
        self.ended |= step.end_input;
    }

    pub(super) fn read(&mut self, message: &Value) {
        let step = read_one(&mut self.transcript, OutputStream::Stdout, &message.to_string());
        self.take(step);
    }

    /// The id of the last request that was written.
    pub(super) fn last_id(&self) -> Value {
        self.sent.iter().rev().find(|sent| sent.get("method").is_some() && sent.get("id").is_some()).unwrap()["id"]
            .clone()
    }

    /// Answers the last request.
    pub(super) fn answer(&mut self, result: &Value) {
        let id = self.last_id();
        self.read(&json!({ "id": id, "result": result }));
    }

    pub(super) fn refuse(&mut self, message: &str) {
        let id = self.last_id();
        self.read(&json!({ "id": id, "error": { "code": -32600, "message": message } }));
    }

    /// codex accepts and starts the turn that was requested last.
    pub(super) fn begin(&mut self, turn: &str) {
        self.answer(&json!({ "turn": { "id": turn } }));
        self.read(&json!({ "method": "turn/started", "params": { "threadId": "t", "turn": { "id": turn } } }));
    }

    pub(super) fn end(&mut self, turn: &str, status: &str) {
        self.read(&json!({
            "method": "turn/completed",
            "params": { "threadId": "t", "turn": { "id": turn, "status": status, "items": [] } },
        }));
    }

    pub(super) fn input(&mut self, text: &str) {
        let step = self.transcript.input(text.to_owned()).unwrap();
        self.take(step);
    }

    /// The methods that were written last.
    pub(super) fn methods(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|sent| sent["method"].as_str()).collect()
    }

    pub(super) fn states(&self) -> Vec<&str> {
        let fields = self.events.iter().filter_map(|event| match event {
            Semantic::Other(event) if event.kind == "session-state" => Some(event.fields.as_str()),
            _ => None,
        });
        fields.map(|fields| fields.split('"').nth(3).unwrap()).collect()
    }

    fn texts(&self) -> Vec<&str> {
        let inputs = self.sent.iter().filter_map(|sent| sent["params"]["input"].as_array()).flatten();
        inputs.filter_map(|input| input["text"].as_str()).collect()
    }
}

#[test]
fn message_starts_a_turn_or_is_added_to_the_running_one() {
    let mut driver = Driver::idle();
    assert_eq!(driver.states(), ["idle"], "a session without a prompt has no turn yet");
    driver.input("one");
    assert_eq!((driver.methods(), driver.texts(), driver.states()), (vec!["turn/start"], vec!["one"], vec!["running"]));
    // The id of the turn is not known yet.
    driver.transcript.input("two".to_owned()).unwrap();
    driver.answer(&json!({ "turn": { "id": "1" } }));
    assert_eq!((driver.methods(), driver.texts()), (vec!["turn/steer"], vec!["two"]));
    assert_eq!(driver.sent[0]["params"]["expectedTurnId"], "1");
    driver.answer(&json!({ "turnId": "1" }));
    driver.input("three");
    assert_eq!((driver.methods(), driver.texts()), (vec!["turn/steer"], vec!["three"]));
    driver.answer(&json!({ "turnId": "1" }));
    driver.end("1", "completed");
    assert_eq!(driver.states(), ["idle"]);
    assert!(!driver.ended);
}

#[test]
fn messages_before_the_handshake_are_kept() {
    let request = RunRequest { mode: RunMode::Interactive, prompt: "first".to_owned(), ..RunRequest::default() };
    let mut driver = Driver::new(&request);
    assert_eq!(driver.methods(), ["initialize"]);
    let initialize = driver.last_id();
    driver.input("second");
    assert!(driver.sent.is_empty());
    driver.read(&json!({ "id": initialize, "result": {} }));
    assert_eq!(driver.methods(), ["initialized", "thread/start"]);
    driver.answer(&json!({ "thread": { "id": "t" } }));
    assert_eq!((driver.methods(), driver.texts()), (vec!["turn/start"], vec!["first", "second"]));
}

#[test]
fn message_that_comes_too_late_for_its_turn_starts_the_next_one() {
    // The turn ends before codex answers.
    let mut driver = Driver::idle();
    driver.input("one");
    driver.begin("1");
    driver.input("late");
    let steer = driver.last_id();
    driver.end("1", "completed");
    assert!(driver.states().is_empty(), "the message is not lost, so the session is not idle");
    driver.read(&json!({ "id": steer, "error": { "message": "no active turn to steer" } }));
    assert_eq!((driver.methods(), driver.texts()), (vec!["turn/start"], vec!["late"]));
    // codex answers before it reports the end of the turn.
    driver.begin("2");
    driver.input("late again");
    driver.refuse("no active turn to steer");
    assert!(driver.sent.is_empty());
    driver.input("and more");
    assert!(driver.sent.is_empty(), "it does not overtake the first one");
    driver.end("2", "completed");
    assert_eq!((driver.methods(), driver.texts()), (vec!["turn/start"], vec!["late again", "and more"]));
}

#[test]
fn run_ends_when_its_turn_has_ended_and_no_message_waits() {
    let mut driver = Driver::run();
    driver.input("more");
    let steer = driver.last_id();
    driver.end("1", "completed");
    assert!(!driver.ended, "the message may have to start another turn");
    driver.read(&json!({ "id": steer, "result": { "turnId": "1" } }));
    assert!(driver.ended);
    assert!(matches!(driver.transcript.input("x".to_owned()), Err(Error::Unsupported(_))));
    let exit = ExitStatus { code: Some(0), ..ExitStatus::default() };
    assert_eq!(driver.transcript.finish(exit, Vec::new()).failure, None);
}

#[test]
fn run_waits_for_its_sub_agents() {
    let mut driver = Driver::run();
    driver.read(&json!({ "method": "turn/started", "params": { "threadId": "sub", "turn": { "id": "s1" } } }));
    driver.end("1", "completed");
    assert!(!driver.ended);
    let turn = json!({ "id": "s1", "status": "completed" });
    driver.read(&json!({ "method": "turn/completed", "params": { "threadId": "sub", "turn": turn } }));
    assert!(driver.ended);
    assert_eq!(driver.states(), ["idle"]);
}

#[test]
fn interrupt_reaches_the_turn_as_soon_as_codex_has_it() {
    let mut driver = Driver::idle();
    let step = driver.transcript.interrupt().unwrap();
    driver.take(step);
    assert!(driver.sent.is_empty(), "there is no turn");
    driver.input("one");
    let start = driver.last_id();
    let step = driver.transcript.interrupt().unwrap();
    driver.take(step);
    assert!(driver.sent.is_empty(), "the id is not known yet");
    driver.read(&json!({ "id": start, "result": { "turn": { "id": "1" } } }));
    assert_eq!(driver.methods(), ["turn/interrupt"]);
    driver.refuse("no active turn to interrupt");
    driver.read(&json!({ "method": "turn/started", "params": { "threadId": "t", "turn": { "id": "1" } } }));
    assert_eq!(driver.methods(), ["turn/interrupt"]);
    assert_eq!(driver.sent[0]["params"]["turnId"], "1");
    let step = driver.transcript.interrupt().unwrap();
    assert!(step.write.is_empty(), "one is enough");
    driver.end("1", "interrupted");
    assert_eq!(driver.states(), ["idle"]);
}

#[test]
fn every_request_has_a_time_limit_and_its_answer_is_reported() {
    let limits = |events: &[Semantic]| -> Vec<(String, Option<u64>)> {
        let of = |event: &Semantic| {
            let Semantic::Other(event) = event else { return None };
            let fields: Value = serde_json::from_str(&event.fields).unwrap();
            event
                .kind
                .starts_with("protocol-")
                .then(|| (fields["id"].as_str().unwrap().to_owned(), fields["timeoutMs"].as_u64()))
        };
        events.iter().filter_map(of).collect()
    };
    let request = RunRequest { mode: RunMode::Interactive, ..RunRequest::default() };
    let mut driver = Driver::new(&request);
    assert_eq!(limits(&driver.events), [("1".to_owned(), Some(30_000))]);
    driver.answer(&json!({}));
    assert_eq!(limits(&driver.events), [("1".to_owned(), None), ("2".to_owned(), Some(60_000))]);
    driver.answer(&json!({ "thread": { "id": "t" } }));
    driver.input("x");
    driver.begin("1");
    let step = driver.transcript.interrupt().unwrap();
    driver.take(step);
    assert_eq!(limits(&driver.events), [("4".to_owned(), Some(5_000))]);
    driver.refuse("no");
    assert_eq!(limits(&driver.events), [("4".to_owned(), None)]);
}

#[test]
fn session_ends_in_order_only_between_turns() {
    let finish = |driver: &mut Driver, code: Option<i32>, signal: Option<i32>| {
        let exit = ExitStatus { code, signal, ..ExitStatus::default() };
        driver.transcript.finish(exit, Vec::new())
    };
    let outcome = finish(&mut Driver::idle(), Some(0), None);
    assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("")));
    let killed = finish(&mut Driver::idle(), None, Some(9)).failure.unwrap();
    assert!(killed.message.contains("idle"), "{}", killed.message);
    let mut driver = Driver::idle();
    driver.input("x");
    driver.begin("1");
    let failure = finish(&mut driver, Some(0), None).failure.unwrap();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Incomplete, Some("ended-early")));
    // A failed turn does not make a session a failure.
    let mut driver = Driver::idle();
    driver.input("x");
    driver.begin("1");
    driver.end("1", "failed");
    assert_eq!(finish(&mut driver, Some(0), None).failure, None);
    let mut driver = Driver::run();
    driver.end("1", "failed");
    assert!(finish(&mut driver, Some(0), None).failure.is_some());
}

#[test]
fn thread_with_another_approval_policy_is_not_used() {
    for (key, value) in [
        ("approvalPolicy", json!("never")),
        ("approvalPolicy", json!({"granular": {}})),
        ("approvalsReviewer", json!("auto_review")),
    ] {
        let request = RunRequest { mode: RunMode::Interactive, prompt: "x".to_owned(), ..RunRequest::default() };
        let mut driver = Driver::new(&request);
        driver.answer(&json!({}));
        let mut result =
            json!({ "thread": { "id": "t" }, "approvalPolicy": "on-request", "approvalsReviewer": "user" });
        result[key] = value;
        driver.answer(&result);
        assert!(driver.ended && driver.methods().is_empty(), "{key}");
        let exit = ExitStatus { code: Some(0), ..ExitStatus::default() };
        let failure = driver.transcript.finish(exit, Vec::new()).failure.unwrap();
        assert!(failure.message.contains(key), "{}", failure.message);
    }
}

#[test]
fn refused_turn_leaves_the_session_usable() {
    let mut driver = Driver::idle();
    driver.input("x");
    driver.refuse("input is too large");
    assert!(
        driver
            .events
            .iter()
            .any(|event| matches!(event, Semantic::TurnComplete(end) if end.status == TurnStatus::Failed))
    );
    assert_eq!(driver.states(), ["idle"]);
    driver.input("y");
    assert_eq!(driver.methods(), ["turn/start"]);
}

#[test]
fn exhausted_quota_names_its_renewal() {
    let mut driver = Driver::run();
    let limits = json!({ "primary": { "usedPercent": 100, "resetsAt": 1_796_058_650_u64 }, "secondary": { "usedPercent": 40, "resetsAt": 9 } });
    driver.read(&json!({ "method": "account/rateLimits/updated", "params": { "rateLimits": limits } }));
    assert!(matches!(driver.events[0], Semantic::RateLimited(_)));
    let error = json!({ "message": "You've hit your usage limit.", "codexErrorInfo": "usageLimitExceeded" });
    let turn = json!({ "id": "1", "status": "failed", "error": error });
    driver.read(&json!({ "method": "turn/completed", "params": { "threadId": "t", "turn": turn } }));
    let failure =
        driver.transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new()).failure.unwrap();
    assert_eq!(failure.retry, Some(ostler_plugin::provider::RetryTime::AtUnixMs(1_796_058_650_000)));
}

#[test]
fn initialize_asks_for_what_the_plugin_uses() {
    let driver = Driver::new(&RunRequest::default());
    let capabilities = &driver.sent[0]["params"]["capabilities"];
    assert_eq!(capabilities["experimentalApi"], true);
    assert!(capabilities["optOutNotificationMethods"].as_array().unwrap().contains(&json!("turn/diff/updated")));
}
