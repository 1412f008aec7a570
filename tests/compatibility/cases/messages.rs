//! Messages and sessions.

use crate::fixture::{Fixture, RUN_MS, RunReport, SandboxedBy, State, Verdict};
use crate::support::{answer, end_of, of_type, semantics};
use serde_json::json;
use std::fs;

/// Exit code for a provider or a folder that cannot be used.
const UNAVAILABLE: i32 = 6;

const RESUME: &str = "/harness/resumeSessionId";

pub(super) fn detection(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let found = fixture.capabilities(agent, true);
    let reasons = || found["reasons"].to_string();
    let version = found["cliVersion"].as_str().unwrap_or_default();
    if version != fixture.release.version {
        return Verdict::wrong(format!("the version is taken for {version:?}: {}", reasons()));
    }
    match found["support"].as_str() {
        Some("supported") => Verdict::works(),
        Some("degraded") => Verdict::new(State::Degraded, reasons()),
        Some("blocked") if fixture.is_too_slow(agent) => Verdict::wrong(reasons()),
        Some("blocked") => Verdict::new(State::Blocked, reasons()),
        _ => Verdict::wrong(found.to_string()),
    }
}

pub(super) fn plain(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "SAY hello from the script", &json!({}));
    run.check_option("/prompt", run.answer() == "hello from the script", run.end())
}

pub(super) fn deltas(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "SAY one two three", &json!({}));
    if run.refused.is_some() {
        return run.check_option("/prompt", false, "");
    }
    let text: String = semantics(&run.events, "text_delta").iter().filter_map(|delta| delta["text"].as_str()).collect();
    let claims = fixture.claims(agent, "text-deltas");
    match (claims, text == "one two three") {
        (true, has_effect) => Verdict::that(has_effect, format!("the deltas are {text:?}")),
        (false, false) => {
            Verdict::new(State::Degraded, "the CLI has no deltas, and `text-deltas` is not among its features")
        }
        (false, true) => Verdict::wrong("there are deltas, and `text-deltas` is not among the features"),
    }
}

pub(super) fn dashed(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let flag = agent.cli.dangerous_flag;
    let run = fixture.run(agent, &fixture.folder(agent, "a"), flag, &json!({}));
    run.check_option("/prompt", run.answer() == flag, run.end())
}

/// Standard output is the answer, once.
pub(super) fn broken_stream(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let harness = json!({ "limits": { "timeoutMs": RUN_MS } });
    let file = agent.payload("CUT", &json!({ "cwd": folder, "harness": harness }));
    let done = agent.host.run(&["run", "--payload", file.to_str().unwrap()]);
    if done.code == UNAVAILABLE {
        let state = if fixture.is_too_slow(agent) { State::Wrong } else { State::Blocked };
        return Verdict::new(state, done.stderr);
    }
    if done.code != 0 {
        // It has failed, and says so.
        return Verdict::that(!done.stderr.is_empty(), "it fails without a word");
    }
    let runs = agent.host.call("list_runs", &json!({ "limit": 1 })).unwrap();
    let run = runs["items"][0]["runId"].as_str().unwrap_or_default().to_owned();
    let events = agent.host.run_events(&run);
    let whole = answer(&events);
    if done.stdout.trim_end() == whole.trim_end() {
        return Verdict::works();
    }
    let warned = done.stderr.lines().find(|line| line.contains("broke off"));
    warned.map_or_else(
        || Verdict::wrong(format!("standard output is {:?}, the answer is {whole:?}", done.stdout)),
        |line| Verdict::new(State::Degraded, line),
    )
}

pub(super) fn model(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let more = |name: &str| json!({ "model": name });
    let first = fixture.run_with(agent, &folder, "MODEL", &json!({}), &more("first-model"));
    let verdict = first.check_option("/model", first.answer() == "first-model", first.answer());
    let resumed = json!({ "resumeSessionId": first.session() });
    let second = fixture.run_with(agent, &folder, "MODEL", &resumed, &more("second-model"));
    verdict.and(second.check_option("/model", second.answer() == "second-model", second.answer()).on("resumed"))
}

const FIRST: &str = "Mind the gap between the words.";
const SECOND: &str = "Stand clear of the closing doors.";

fn instructed(fixture: &Fixture<'_>, field: &str, replaces: bool) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let run = fixture.run(agent, &folder, "SYSTEM", &json!({ field: FIRST }));
    let pointer = format!("/harness/{field}");
    let heard = run.answer();
    // Replacing removes most of the CLI's own prompt; appending keeps it.
    let (own, of_it) = (fixture.own_system_prompt().len(), heard.len());
    let fits = if replaces { of_it < own } else { of_it >= own };
    run.check_option(&pointer, heard.contains(FIRST) && fits, format!("the system prompt is {}", brief(heard)))
}

fn instructed_again(fixture: &Fixture<'_>, field: &str) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let first = fixture.run(agent, &folder, "SYSTEM", &json!({ field: FIRST }));
    let again = json!({ "resumeSessionId": first.session(), field: SECOND });
    let run = fixture.run(agent, &folder, "SYSTEM", &again);
    let heard = run.answer();
    let has_effect = heard.contains(SECOND) && !heard.contains(FIRST);
    run.check_option(&format!("/harness/{field}"), has_effect, format!("the system prompt is {}", brief(heard)))
}

fn brief(text: &str) -> String {
    let at = |part: &str| if text.contains(part) { "holds" } else { "lacks" };
    format!("of {} bytes, {} the first text and {} the second", text.len(), at(FIRST), at(SECOND))
}

pub(super) fn system_prompt(fixture: &Fixture<'_>) -> Verdict {
    instructed(fixture, "systemPrompt", true)
}

pub(super) fn system_prompt_resumed(fixture: &Fixture<'_>) -> Verdict {
    instructed_again(fixture, "systemPrompt")
}

pub(super) fn appended_prompt(fixture: &Fixture<'_>) -> Verdict {
    instructed(fixture, "appendSystemPrompt", false)
}

pub(super) fn appended_prompt_resumed(fixture: &Fixture<'_>) -> Verdict {
    instructed_again(fixture, "appendSystemPrompt")
}

pub(super) fn resume(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let first = fixture.run(agent, &folder, "TURNS", &json!({}));
    let second = fixture.run(agent, &folder, "TURNS", &json!({ "resumeSessionId": first.session() }));
    let seen = format!("{} turns, {}, {}", second.answer(), second.origin(), second.end());
    let has_effect = second.answer() == "2" && second.origin() == "resumed" && second.session() == first.session();
    second.check_option(RESUME, has_effect, seen)
}

/// A session that the payload names is resumed, or the run fails, or the CLI begins another and says so.
pub(super) fn invalid_resume(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let absent = json!({ "resumeSessionId": agent.cli.absent_session });
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "SAY anew", &absent);
    let starts = of_type(&run.events, "run.started").len();
    let failed = end_of(&run.events).is_some_and(|end| end["payload"]["reason"] == "resume_invalid");
    let replaced = run.answer() == "anew" && run.origin() == "replaced";
    let seen = format!("{starts} starts, {}, {}", run.origin(), run.end());
    run.check_option(RESUME, starts == 1 && (failed || replaced), seen)
}

/// A conversation whose session is missing continues with a new one, after at most one failed start, with a warning.
pub(super) fn lost_session(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let new = agent.host.run(&["chat", "new", agent.cli.name]).ok();
    let conversation = new.stdout.trim();
    let send = || fixture.command(agent, &["chat", "send", "--json", conversation, "TURNS"], "TURNS");
    let first = send();
    let begun = first.check_option("/prompt", first.answer() == "1", first.end());
    if begun.state != State::Works {
        return begun;
    }
    fs::remove_dir_all(agent.own_folder().join(agent.cli.sessions)).unwrap();
    let second = send();
    let starts = of_type(&second.events, "run.started").len();
    let warned = of_type(&second.events, "run.warning")
        .iter()
        .any(|warning| warning["payload"]["code"] == "SESSION_RESUME_INVALID");
    let says_so = (starts == 2 && warned) || (starts == 1 && second.origin() == "replaced");
    let seen = format!("{} turns, {starts} starts, {}, {}", second.answer(), second.origin(), second.end());
    second.check_option(RESUME, second.answer() == "1" && says_so, seen)
}

/// The newest session of the folder is resumed, not one of another folder. If there is none, a new one begins, and the
/// run says so.
pub(super) fn continued(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let (here, elsewhere, empty) =
        (fixture.folder(agent, "here"), fixture.folder(agent, "elsewhere"), fixture.folder(agent, "empty"));
    let pointer = "/harness/continueSession";
    let continues = json!({ "continueSession": true });
    let first = fixture.run(agent, &here, "TURNS", &json!({}));
    fixture.run(agent, &elsewhere, "TURNS", &json!({}));
    let second = fixture.run(agent, &here, "TURNS", &continues);
    let about = |run: &RunReport| format!("{} turns, {}, {}", run.answer(), run.origin(), run.end());
    let has_effect = second.answer() == "2" && second.session() == first.session() && second.origin() == "resumed";
    let verdict = second.check_option(pointer, has_effect, about(&second)).on("another folder's session is newer");
    let verdict = match verdict.state {
        // The session event and a warning say so.
        State::Wrong if second.origin() == "replaced" => Verdict::new(
            State::Degraded,
            "the CLI does not find the session of an earlier run; the run says that another was begun",
        ),
        _ => verdict,
    };
    let third = fixture.run(agent, &empty, "TURNS", &continues);
    let anew = third.answer() == "1" && third.origin() != "resumed";
    verdict.and(third.check_option(pointer, anew, about(&third)).on("no session in the folder"))
}
