//! How runs end.

use crate::fixture::{Fixture, SandboxedBy, State, Verdict, caught};
use crate::support::{PATIENCE, cases, end_of, of_type};
use serde_json::json;
use std::fs;

fn shared(check: impl FnOnce()) -> Verdict {
    caught(|| {
        check();
        Verdict::works()
    })
}

pub(super) fn refused_login(fixture: &Fixture<'_>) -> Verdict {
    shared(|| cases::a_refused_login(fixture.studio(SandboxedBy::Host)))
}

/// The host repeats the run. If the CLI repeats requests itself although its retries are off, the capabilities say so.
pub(super) fn too_many_requests(fixture: &Fixture<'_>) -> Verdict {
    let studio = fixture.studio(SandboxedBy::Host);
    let Some(reason) = fixture.declared(studio, "repeats a failed request") else {
        return shared(|| cases::too_many_requests(studio));
    };
    let folder = fixture.folder(studio, "a");
    let retries = json!({ "maxRetries": 1, "retryBackoffMs": 100 });
    let run = fixture.run_with(studio, &folder, "FAIL 429", &json!({}), &retries);
    let starts = of_type(&run.events, "run.started").len();
    let limited = end_of(&run.events).is_some_and(|end| end["payload"]["reason"] == "rate_limited");
    let recovered = fixture.run_with(studio, &folder, "FAILONCE 429", &json!({}), &retries);
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
    shared(|| cases::a_cancel_in_the_stream(fixture.studio(SandboxedBy::Host)))
}

pub(super) fn cancel_in_tool(fixture: &Fixture<'_>) -> Verdict {
    shared(|| cases::a_cancel_in_a_tool(fixture.studio(SandboxedBy::Host)))
}

/// The run ends with the turn, whatever the agent leaves running.
pub(super) fn background(fixture: &Fixture<'_>) -> Verdict {
    let studio = fixture.studio(SandboxedBy::Host);
    let input = json!({ "command": "tail -f /dev/null", "description": "work", "run_in_background": true });
    let run =
        fixture.run(studio, &fixture.folder(studio, "a"), &format!("TOOL Bash {input}"), &(studio.cli.free_shell)());
    let verdict = run.check_option("/prompt", run.completed(), run.end());
    let left = caught(|| {
        studio.bed.assert_nothing_runs(PATIENCE);
        Verdict::works()
    });
    verdict.and(left)
}

/// The error message names the configuration.
pub(super) fn broken_configuration(fixture: &Fixture<'_>) -> Verdict {
    let studio = fixture.studio(SandboxedBy::Host);
    let folder = fixture.folder(studio, "a");
    let first = fixture.run(studio, &folder, "SAY fine", &json!({}));
    if first.refused.is_some() {
        return first.check_option("/prompt", false, "");
    }
    let file = studio.own_folder().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}\nthis is = no TOML [\n")).unwrap();
    let run = fixture.run(studio, &folder, "SAY never", &json!({}));
    fs::write(&file, config).unwrap();
    let message = run.end();
    let failed = run.refused.is_some() || end_of(&run.events).is_some_and(|end| end["type"] == "run.failed");
    let retried = of_type(&run.events, "run.started").len() > 1;
    let named = message.contains("config.toml") || message.contains("configuration");
    Verdict::that(failed && named && !retried, message)
}
