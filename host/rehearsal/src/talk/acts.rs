//! What the stand-in does in a conversation: it asks, and keeps to the answer.

use super::{
    TalkAct,
    link::{Reply, interrupted},
    words::{Subject, Withdrawal},
};
use crate::{
    perform::{ActionContext, ActionResult},
    script::Act,
};
use serde_json::{Value, json};
use std::{io, time::Duration};

/// What became of a question.
enum Verdict {
    Allowed(Option<Value>),
    Denied { message: String, stop: bool },
    Withdrawn,
}

impl ActionContext<'_> {
    /// Performs the steps of one turn, up to the first that fails or is interrupted.
    pub(super) fn turn(&self, number: u64, prompt: &str, acts: Result<Vec<Act>, String>) -> io::Result<ActionResult> {
        let acts = match acts {
            Ok(acts) => acts,
            Err(message) => return Ok(ActionResult::refused(1, &format!("`{prompt}`: {message}"))),
        };
        let mut whole = ActionResult::default();
        for (step, act) in (1..).zip(&acts) {
            let step: u32 = step;
            *self.prefix.borrow_mut() = format!("{number}.{step}-");
            match self.act(act) {
                Ok(next) => {
                    let over = next.failure.is_some() || next.leaves();
                    whole.join(next);
                    if over {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    whole.interrupted = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }

    /// Performs a word of a conversation.
    pub(in super::super) fn talk(&self, act: &TalkAct) -> io::Result<ActionResult> {
        match act {
            TalkAct::Remember(text) => {
                self.remember(text)?;
                return self.answer("remembered");
            }
            TalkAct::Recall => {
                let notes = self.session.borrow().notes.join("; ");
                return self.answer(if notes.is_empty() { "(nothing)" } else { &notes });
            }
            TalkAct::Garbage => {
                self.out.bytes(
                    b"this is not JSON\n{\"type\":\"text\",\"message\n[1,{\"type\":null}]\n{\"type\":\"ask\"}\n",
                )?;
                return self.answer("wrote garbage");
            }
            TalkAct::Die(code) => std::process::exit(i32::from(*code)),
            _ => {}
        }
        let Some(link) = self.link.as_ref() else {
            return self.answer("there is nobody to talk to: this is not a conversation");
        };
        match act {
            TalkAct::Ask(subject) => {
                let tool = self.start(subject)?;
                let shown = self.shown(subject)?;
                let verdict = match shown {
                    Verdict::Allowed(_) => self.asked(subject, None)?,
                    other => other,
                };
                self.settle(subject, &tool, verdict)
            }
            TalkAct::ShowUse(subject) => {
                let tool = self.start(subject)?;
                let verdict = self.shown(subject)?;
                self.settle(subject, &tool, verdict)
            }
            TalkAct::Withdraw(when, subject) => {
                let tool = self.start(subject)?;
                let verdict = self.asked(subject, Some(*when))?;
                self.settle(subject, &tool, verdict)
            }
            TalkAct::Open(subject) => {
                let id = self.id("ask");
                self.start(subject)?;
                self.send(&id, "ask", subject)?;
                self.answer(&format!("asked, and goes on: {}", subject.shown()))
            }
            TalkAct::Twice(subject) => {
                let tool = self.start(subject)?;
                let id = self.id("ask");
                self.send(&id, "ask", subject)?;
                self.send(&id, "ask", &Subject::Shell("a second question with the same id".to_owned()))?;
                let verdict = verdict(link.answered(&id, None)?);
                self.settle(subject, &tool, verdict)
            }
            TalkAct::Big(mib) => {
                let id = self.id("ask");
                link.opened(&id);
                let head = format!(
                    r#"{{"type":"ask","ask":{},"phase":"ask","tool":{},"kind":"command","name":"shell","command":""#,
                    json!(id),
                    json!(self.id("tool-1"))
                );
                let block = "echo 0123456789; ".repeat(61);
                self.out.streamed(|writer| {
                    writer.write_all(head.as_bytes())?;
                    let mut left = mib.saturating_mul(1024 * 1024);
                    while left > 0 {
                        let take = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        writer.write_all(block.as_bytes().get(..take).unwrap_or_default())?;
                        left -= take as u64;
                    }
                    writer.write_all(b"\"}\n")
                })?;
                let verdict = verdict(link.answered(&id, None)?);
                self.answer(&match verdict {
                    Verdict::Allowed(_) => format!("allowed: a command of {mib} MiB"),
                    Verdict::Denied { message, .. } => format!("denied: {message}"),
                    Verdict::Withdrawn => "withdrawn".to_owned(),
                })
            }
            TalkAct::Unknown => {
                let id = self.id("request");
                link.opened(&id);
                self.out.event("request", &json!({ "request": id, "what": "dance" }))?;
                match link.answered(&id, None)? {
                    Reply::Denied { message, .. } => self.answer(&format!("refused: {message}")),
                    Reply::Allowed(_) | Reply::Late => self.answer("the host knows how to dance"),
                }
            }
            TalkAct::Listen => match link.message()? {
                Some(text) => self.answer(&format!("heard: {text}")),
                None => self.answer("heard nothing"),
            },
            TalkAct::Background(seconds, text) => {
                link.background(Duration::from_secs(*seconds), text.clone());
                self.answer("left a task in the background")
            }
            TalkAct::Deaf(seconds) => {
                link.deaf(true);
                let slept = link.pause(Duration::from_secs(*seconds));
                link.deaf(false);
                slept?;
                self.answer(&format!("did not listen for {seconds} s"))
            }
            TalkAct::Handshake => self.answer("the handshake is over"),
            TalkAct::Remember(_) | TalkAct::Recall | TalkAct::Garbage | TalkAct::Die(_) => self.answer(""),
        }
    }

    /// Whether a command may run, and which: the host may have edited it. Otherwise the rest of the turn.
    pub(in super::super) fn permitted(&self, command: &str) -> io::Result<Result<String, ActionResult>> {
        let subject = Subject::Shell(command.to_owned());
        let mut verdict = self.shown(&subject)?;
        if let (Verdict::Allowed(_), true, true) = (&verdict, self.options.ask, self.link.is_some()) {
            verdict = self.asked(&subject, None)?;
        }
        match verdict {
            Verdict::Allowed(input) => Ok(Ok(edited(&subject, input.as_ref()))),
            other => self.settle(&subject, &self.id("tool-1"), other).map(Err),
        }
    }

    /// Announces the use of a tool. Returns its id.
    fn start(&self, subject: &Subject) -> io::Result<String> {
        let tool = self.id("tool-1");
        if subject.is_tool() {
            self.out.event("tool.start", &with(json!({ "tool": tool }), subject.fields()))?;
        }
        Ok(tool)
    }

    fn send(&self, id: &str, phase: &str, subject: &Subject) -> io::Result<()> {
        if let Some(link) = &self.link {
            link.opened(id);
        }
        let kind = match subject {
            Subject::Shell(_) => "command",
            Subject::Patch { .. } => "patch",
            Subject::Read(_) | Subject::Fetch(_) | Subject::Mcp { .. } | Subject::Tool(_) => "tool",
            Subject::Network(_) => "network",
            Subject::Permissions(_) => "permissions",
            Subject::Questions(_) => "question",
            Subject::Elicit(_) => "elicitation",
        };
        let asks = matches!(subject, Subject::Questions(_) | Subject::Elicit(_));
        let fields = json!({
            "ask": id, "phase": phase, "kind": kind, "tool": self.id("tool-1"),
            "editable": phase == "ask" && subject.editable(),
            "reason": (phase == "ask" && !asks).then_some("the script wants to"),
        });
        self.out.event("ask", &with(fields, subject.fields()))
    }

    /// Shows the use of a tool, if the host wants to see it, and waits.
    fn shown(&self, subject: &Subject) -> io::Result<Verdict> {
        match &self.link {
            Some(link) if self.options.show_uses && subject.is_tool() => {
                let id = self.id("use");
                self.send(&id, "use", subject)?;
                Ok(verdict(link.answered(&id, None)?))
            }
            _ => Ok(Verdict::Allowed(None)),
        }
    }

    /// Asks and waits.
    fn asked(&self, subject: &Subject, withdrawal: Option<Withdrawal>) -> io::Result<Verdict> {
        let Some(link) = &self.link else {
            return Ok(Verdict::Denied { message: "there is nobody to ask".to_owned(), stop: false });
        };
        let id = self.id("ask");
        self.send(&id, "ask", subject)?;
        let limit = match withdrawal {
            Some(Withdrawal::After(ms)) => Some(Duration::from_millis(ms)),
            Some(Withdrawal::Answered) | None => None,
        };
        let reply = link.answered(&id, limit)?;
        if matches!(reply, Reply::Late) || withdrawal == Some(Withdrawal::Answered) {
            link.withdraw(&id)?;
            return Ok(Verdict::Withdrawn);
        }
        Ok(verdict(reply))
    }

    /// Reports what became of a use of a tool.
    fn settle(&self, subject: &Subject, tool: &str, verdict: Verdict) -> io::Result<ActionResult> {
        let (text, error, stop) = match verdict {
            Verdict::Allowed(input) => (allowed(subject, input.as_ref()), false, false),
            Verdict::Denied { message, stop } if message.is_empty() => ("denied".to_owned(), true, stop),
            Verdict::Denied { message, stop } => (format!("denied: {message}"), true, stop),
            Verdict::Withdrawn => ("withdrew the question".to_owned(), true, false),
        };
        if subject.is_tool() {
            self.out.event("tool.result", &json!({ "tool": tool, "output": text, "error": error }))?;
        }
        if stop { Err(interrupted()) } else { self.answer(&text) }
    }
}

fn verdict(reply: Reply) -> Verdict {
    match reply {
        Reply::Allowed(input) => Verdict::Allowed(input),
        Reply::Denied { message, stop } => Verdict::Denied { message, stop },
        Reply::Late => Verdict::Withdrawn,
    }
}

/// The command, or the one with which the host replaced it.
fn edited(subject: &Subject, input: Option<&Value>) -> String {
    input.and_then(|input| input.get("command")?.as_str()).map_or_else(|| subject.shown(), str::to_owned)
}

fn allowed(subject: &Subject, input: Option<&Value>) -> String {
    match (subject, input) {
        (Subject::Questions(_), Some(input)) => {
            let answers = input.get("answers").and_then(Value::as_object).into_iter().flatten();
            let shown: Vec<String> = answers
                .map(|(id, texts)| {
                    let texts: Vec<&str> = texts.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    format!("{id}={}", texts.join(", "))
                })
                .collect();
            format!("answered: {}", shown.join("; "))
        }
        (Subject::Elicit(_), Some(input)) => format!("answered: {input}"),
        (Subject::Questions(_) | Subject::Elicit(_), None) => "allowed without an answer".to_owned(),
        (subject, input) => format!("allowed: {}", edited(subject, input)),
    }
}

/// Both objects in one.
fn with(mut first: Value, second: Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        first.extend(second);
    }
    first
}
