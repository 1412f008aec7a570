//! An interactive session of a provider, driven over the API.

use super::{TIMEOUT, TestHost, poll, record, wait_until, wire};
use serde_json::{Value, json};

/// A session, by the run that holds it.
pub struct Session<'a> {
    pub host: &'a TestHost,
    pub run: String,
    /// What the start returned.
    pub started: Value,
}

impl<'a> Session<'a> {
    /// Starts a session of the rehearsal; members of `more` override its payload.
    #[track_caller]
    pub fn start(host: &'a TestHost, prompt: &str, more: &Value) -> Self {
        Self::of(host, &host.payload(prompt, more))
    }

    /// Starts a session with a payload.
    #[track_caller]
    pub fn of(host: &'a TestHost, payload: &Value) -> Self {
        let started = host.call("start_interactive_session", payload).unwrap();
        Self { host, run: started["runId"].as_str().unwrap().to_owned(), started }
    }

    /// The session of a run that exists.
    pub fn attach(host: &'a TestHost, run: &str) -> Self {
        Self { host, run: run.to_owned(), started: Value::Null }
    }

    /// Its events so far.
    pub fn events(&self) -> Vec<Value> {
        self.host.run_events(&self.run)
    }

    /// Waits for the first event that matches.
    #[track_caller]
    pub fn wait_for(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, TIMEOUT, || self.events().into_iter().find(&matches))
    }

    /// Waits until so many turns have ended. Returns the status of the last one.
    #[track_caller]
    pub fn wait_for_turns(&self, count: usize) -> String {
        wait_until("the end of a turn", TIMEOUT, || {
            let events = self.events();
            let turns = record::semantics(&events, "turn_complete");
            turns.get(count - 1).map(|turn| turn["status"].as_str().unwrap().to_owned())
        })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The error of the host.
    pub fn send(&self, data: &str) -> Result<Value, wire::CallError> {
        self.host.call("send_session_input", &json!({ "runId": self.run, "data": data }))
    }

    /// Types keys into its terminal.
    #[track_caller]
    pub fn type_keys(&self, keys: &str) {
        let params = json!({ "runId": self.run, "data": keys, "keys": true });
        assert_eq!(self.host.call("send_session_input", &params).unwrap(), json!({ "accepted": keys.len() }));
    }

    /// What its terminal has shown so far.
    pub fn screen(&self) -> String {
        record::screen(&self.events())
    }

    /// Waits until its terminal has shown a text.
    #[track_caller]
    pub fn wait_for_screen(&self, text: &str) {
        let shown = poll(TIMEOUT, || self.screen().contains(text).then_some(()));
        assert!(shown.is_some(), "not shown: {text:?}, but {:?}", self.screen());
    }

    /// Interrupts the turn; returns whether there was one.
    #[track_caller]
    pub fn interrupt(&self) -> bool {
        let answer = self.host.call("interrupt_turn", &json!({ "runId": self.run })).unwrap();
        answer["interrupting"].as_bool().unwrap()
    }

    /// Ends the session; returns the status of the run.
    #[track_caller]
    pub fn end(&self) -> String {
        let answer = self.host.call("end_session", &json!({ "runId": self.run })).unwrap();
        answer["status"].as_str().unwrap().to_owned()
    }

    /// Waits until this many approvals are open, and returns them.
    #[track_caller]
    pub fn approvals(&self, count: usize) -> Vec<Value> {
        wait_until("open approvals", TIMEOUT, || {
            let open = self.host.call("list_approvals", &json!({ "runId": self.run })).unwrap();
            let open = open.as_array().unwrap().clone();
            (open.len() == count).then_some(open)
        })
    }

    /// Answers an approval; members of `answer` are those of `answer_approval`.
    ///
    /// # Errors
    /// The error of the host.
    pub fn answer(&self, approval: &Value, answer: &Value) -> Result<Value, wire::CallError> {
        let mut params = answer.clone();
        params["runId"] = json!(self.run);
        params["requestId"] = approval["id"].clone();
        self.host.call("answer_approval", &params)
    }

    /// The texts of the agent so far, each on lines of its own.
    pub fn text(&self) -> String {
        let events = self.events();
        let whole = |text: &&Value| match text["text"].as_str() {
            Some(text) => text.to_owned(),
            None => {
                let pieces = record::semantics(&events, "text_delta").into_iter();
                let own = pieces.filter(|piece| piece["message"] == text["message"]);
                own.map(|piece| piece["text"].as_str().unwrap()).collect()
            }
        };
        record::semantics(&events, "text").iter().map(whole).collect::<Vec<_>>().join("\n")
    }

    /// The decisions so far, and who decided: `deny by policy`.
    pub fn decisions(&self) -> Vec<String> {
        let events = self.events();
        let decided = record::semantics(&events, "approval_decided").into_iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        decided.map(|made| format!("{} by {}", text(&made["decision"]), text(&made["decidedBy"]))).collect()
    }
}
