//! How runs end.

use crate::fixture::{Fixture, SandboxedBy, State, Verdict, caught};
use crate::support::{TIMEOUT, cases, end_of, of_type};
use serde_json::json;
use std::fs;

fn shared(check: impl FnOnce()) -> Verdict {
    caught(|| {
        check();
        Verdict::works()
    })
}

pub(super) fn refused_login(fixture: &Fixture<'_>) -> Verdict {
    shared(|| cases::refused_login_is_not_retried(fixture.agent(SandboxedBy::Host)))
}

/// The host repeats the run. If the CLI repeats requests itself although its retries are off, the capabilities say so.
pub(super) fn too_many_requests(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let Some(reason) = fixture.declared(agent, "repeats a failed request") else {
        return shared(|| cases::rate_limited_request_is_retried(agent));
    };
    let folder = fixture.folder(agent, "a");
    let retries = json!({ "maxRetries": 1, "retryBackoffMs": 100 });
    let run = fixture.run_with(agent, &folder, "FAIL 429", &json!({}), &retries);
    let starts = of_type(&run.events, "run.started").len();
    let limited = end_of(&run.events).is_some_and(|end| end["payload"]["reason"] == "rate_limited");
    let recovered = fixture.run_with(agent, &folder, "FAILONCE 429", &json!({}), &retries);
    let seen = format!("{starts} starts, {} requests, {}; {}", run.requests(), run.end(), recovered.end());
    if !limited || starts != 2 || recovered.answer() != "recovered" {
        return Verdict::wrong(seen);
    }
    match run.requests() {
        2 => Verdict::works(),
        4 => Verdict::new(State::Degraded, reason),
        _ => Verdict::wrong(seen),
    }
}

pub(super) fn cancel_in_stream(fixture: &Fixture<'_>) -> Verdict {
    shared(|| cases::cancel_during_the_answer_leaves_no_process(fixture.agent(SandboxedBy::Host)))
}

pub(super) fn cancel_in_tool(fixture: &Fixture<'_>) -> Verdict {
    shared(|| cases::cancel_during_a_tool_leaves_no_process(fixture.agent(SandboxedBy::Host)))
}

/// The run ends with the turn, whatever the agent leaves running.
pub(super) fn background(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let input = json!({ "command": "tail -f /dev/null", "description": "work", "run_in_background": true });
    let run = fixture.run(agent, &fixture.folder(agent, "a"), &format!("TOOL Bash {input}"), &(agent.cli.free_shell)());
    let verdict = run.check_option("/prompt", run.completed(), run.end());
    let left = caught(|| {
        agent.host.assert_nothing_runs(TIMEOUT);
        Verdict::works()
    });
    verdict.and(left)
}

/// The error message names the configuration.
pub(super) fn broken_configuration(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let first = fixture.run(agent, &folder, "SAY fine", &json!({}));
    if first.refused.is_some() {
        return first.check_option("/prompt", false, "");
    }
    let file = agent.own_folder().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}\nthis is = no TOML [\n")).unwrap();
    let run = fixture.run(agent, &folder, "SAY never", &json!({}));
    fs::write(&file, config).unwrap();
    let message = run.end();
    let failed = run.refused.is_some() || end_of(&run.events).is_some_and(|end| end["type"] == "run.failed");
    let retried = of_type(&run.events, "run.started").len() > 1;
    let named = message.contains("config.toml") || message.contains("configuration");
    Verdict::that(failed && named && !retried, message)
}
