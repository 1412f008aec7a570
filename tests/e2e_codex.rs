//! The real codex CLI through the host, against the scripted model server on loopback.
//!
//! `OSTLER_TEST_CODEX` names the executable; otherwise it is looked for on `PATH`. Without one the suite says so and
//! passes, unless `OSTLER_REQUIRE_CLIS=1`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test may panic, and `json!` reads best in place"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with the suites of other CLIs")]
mod model_server;
mod support;

use model_server::{ModelServer, Secrets};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use support::{Bed, Needles, PATIENCE, answer, check_story, end_of, of_type, semantics, tool_outputs, warning_codes};

const KEY: &str = "key-of-the-scripted-account";

/// A bed whose codex talks to a model server of its own.
struct Studio {
    bed: Bed,
    server: ModelServer,
}

impl Studio {
    /// `None`, said on standard error, where there is no codex.
    fn open() -> Option<Self> {
        let codex = find()?;
        let server = ModelServer::start().unwrap();
        let bed = Bed::new();
        let home = bed.user().join("codex");
        fs::create_dir(&home).unwrap();
        // Its own retries are bounded to one, so that those of the host can be seen.
        let config = format!(
            "model = \"scripted\"\nmodel_provider = \"scripted\"\n[model_providers.scripted]\nname = \"scripted\"\n\
             base_url = \"{}/v1\"\nwire_api = \"responses\"\nenv_key = \"SCRIPTED_KEY\"\n\
             request_max_retries = 0\nstream_max_retries = 0\n",
            server.url()
        );
        fs::write(home.join("config.toml"), config).unwrap();
        bed.configure(&format!(
            "[scheduler]\nglobal = 4\nper_provider = 4\n[providers.codex]\nexecutable = \"{}\"\n\
             environment = {{ CODEX_HOME = \"{}\", SCRIPTED_KEY = \"{KEY}\" }}\n",
            codex.display(),
            home.display()
        ));
        bed.run(&["grants", "add", bed.work().to_str().unwrap()]).ok();
        Some(Self { bed, server })
    }

    fn events(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec!["codex"];
        all.extend(args);
        let events = self.bed.events_of(&all);
        check_story(&events);
        events
    }

    /// With a payload, for what has no flag.
    fn events_with(&self, prompt: &str, more: Value) -> Vec<Value> {
        let mut payload = json!({ "provider": "codex", "prompt": prompt, "cwd": self.bed.work() });
        for (name, value) in more.as_object().unwrap() {
            payload[name] = value.clone();
        }
        self.bed.file("payload.json", payload.to_string());
        let events = self.bed.events_of(&["--payload", "payload.json"]);
        check_story(&events);
        events
    }
}

/// The codex to drive, or `None` and a word about it.
fn find() -> Option<PathBuf> {
    support::agent_cli("codex", "OSTLER_TEST_CODEX")
}

#[test]
fn a_plain_message() {
    let Some(studio) = Studio::open() else { return };
    let done = studio.bed.run(&["run", "codex", "SAY hello from the script"]).ok();
    assert_eq!(done.stdout, "hello from the script\n");
    let events = studio.events(&["USAGE 120 7"]);
    assert_eq!(answer(&events), "counted");
    let usage = semantics(&events, "usage");
    assert!(usage.iter().any(|usage| usage["inputTokens"] == 120 && usage["outputTokens"] == 7), "{usage:?}");
    assert_eq!(semantics(&events, "session").len(), 1);
    let seen = studio.server.seen();
    assert!(seen.iter().all(|seen| seen.credential.as_deref() == Some(KEY) && seen.protocol == "responses"));
    let started = of_type(&events, "run.started")[0];
    assert!(started["payload"]["cliVersion"].as_str().unwrap().starts_with(|letter: char| letter.is_ascii_digit()));
    studio.bed.assert_nothing_runs(Duration::from_secs(2));
}

#[test]
fn a_tool_call_with_its_command_and_output() {
    let Some(studio) = Studio::open() else { return };
    let events = studio.events(&["--sandbox", "full-access", "RUN echo from-the-tool; echo made > made.txt"]);
    let starts = semantics(&events, "tool_start");
    assert!(
        starts.iter().any(|start| start["commands"][0].as_str().unwrap().contains("echo from-the-tool")),
        "{starts:?}"
    );
    assert!(starts.iter().all(|start| start["tool"] == "shell"), "{starts:?}");
    assert!(tool_outputs(&events).contains("from-the-tool"), "{events:#?}");
    assert!(answer(&events).contains("from-the-tool"));
    assert_eq!(fs::read_to_string(studio.bed.work().join("made.txt")).unwrap(), "made\n");
}

#[test]
fn structured_output_valid_invalid_and_missing() {
    let Some(studio) = Studio::open() else { return };
    let schema = json!({
        "type": "object", "properties": { "answer": { "type": "integer" } },
        "required": ["answer"], "additionalProperties": false
    });
    studio.bed.file("schema.json", schema.to_string());
    let events = studio.events(&["--schema", "schema.json", r#"JSON {"answer": 42}"#]);
    assert_eq!(of_type(&events, "run.structured_output")[0]["payload"]["result"], json!({ "answer": 42 }));
    let events = studio.events(&["--schema", "schema.json", r#"JSON {"answer": "no"}"#]);
    assert_eq!(of_type(&events, "run.structured_output_invalid").len(), 1);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "structured_output");
    let events = studio.events(&["--schema", "schema.json", "SAY no object at all"]);
    assert_eq!(of_type(&events, "run.structured_output_invalid").len(), 1);
    assert_eq!(end_of(&events).unwrap()["type"], "run.failed");
}

#[test]
fn a_refused_login_is_named_and_not_tried_again() {
    let Some(studio) = Studio::open() else { return };
    let events = studio.events_with("FAIL 401", json!({ "maxRetries": 3, "retryBackoffMs": 100 }));
    let end = end_of(&events).unwrap();
    assert_eq!(end["payload"]["reason"], "authentication", "{end}");
    assert_eq!(of_type(&events, "run.started").len(), 1);
}

#[test]
fn too_many_requests_are_tried_again() {
    let Some(studio) = Studio::open() else { return };
    let events = studio.events_with("FAILONCE 429", json!({ "maxRetries": 2, "retryBackoffMs": 100 }));
    assert_eq!(answer(&events), "recovered", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 2);
    let events = studio.events_with("FAIL 429", json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "rate_limited");
    assert_eq!(of_type(&events, "run.started").len(), 2);
}

#[test]
fn a_slow_stream_is_cancelled_in_the_middle() {
    let Some(studio) = Studio::open() else { return };
    let mut follower = studio.bed.follow(&["run", "--json", "codex", "SLOW 500"]);
    follower.wait_for_type("run.started");
    assert!(studio.server.wait_for("SLOW 500", 1, PATIENCE), "the model was never asked");
    let id = follower.run_id();
    let start = Instant::now();
    let ended = studio.bed.call("cancel_run", &json!({ "runId": id })).unwrap();
    assert_eq!(ended["status"], "canceled");
    assert!(start.elapsed() < Duration::from_secs(12), "the stop took {:?}", start.elapsed());
    assert_eq!(follower.finish().0, 130);
    studio.bed.assert_nothing_runs(Duration::from_secs(2));
    let story = studio.bed.story(&id);
    check_story(&story);
    assert_eq!(end_of(&story).unwrap()["type"], "run.canceled");

    // While a tool runs, too: its shell is in a session of its own.
    let mut follower = studio.bed.follow(&["run", "--json", "codex", "--sandbox", "full-access", "RUN sleep 600"]);
    follower.wait_for("the tool", |event| event["payload"]["kind"] == "tool_start");
    studio.bed.call("cancel_run", &json!({ "runId": follower.run_id() })).unwrap();
    assert_eq!(follower.finish().0, 130);
    studio.bed.assert_nothing_runs(Duration::from_secs(2));
    let sleeping =
        support::carrying(studio.bed.root()).into_iter().filter(|process| process.command.contains("sleep 600"));
    assert_eq!(sleeping.count(), 0);
}

#[test]
fn sessions_are_resumed_with_their_sandbox_and_an_invalid_one_is_begun_anew_once() {
    let Some(studio) = Studio::open() else { return };
    let first = studio.events(&["TURNS"]);
    assert_eq!(answer(&first), "1");
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap().to_owned();
    let second = studio.events(&["--resume", &session, "--sandbox", "full-access", "RUN echo kept > kept.txt"]);
    assert_eq!(semantics(&second, "session")[0]["sessionId"], session.as_str());
    assert!(studio.bed.work().join("kept.txt").exists(), "the resumed thread lost its sandbox mode");
    let third = studio.events(&["--resume", &session, "TURNS"]);
    assert_eq!(answer(&third), "3");

    let events = studio.events(&["--resume", "019a0000-0000-7000-8000-00000000dead", "SAY anew"]);
    assert_eq!(answer(&events), "anew");
    assert_eq!(of_type(&events, "run.started").len(), 2, "exactly one new start");
    assert_eq!(warning_codes(&events).iter().filter(|code| **code == "session_resume_invalid").count(), 1);
}

#[test]
fn prompts_that_are_long_or_look_like_flags() {
    let Some(studio) = Studio::open() else { return };
    let words = "abcdefghijklmno ".repeat(300 * 64);
    let long = format!("TURNS\n{words}");
    let done = studio.bed.run_with_input(&["run", "codex", "-"], long.as_bytes()).ok();
    assert_eq!(done.stdout, "1\n");
    assert!(studio.server.seen().iter().any(|seen| seen.prompt.len() >= 300 * 1024 - 1), "the prompt was cut");
    let events = studio.events(&["--", "--dangerously-bypass-approvals-and-sandbox"]);
    assert_eq!(answer(&events), "--dangerously-bypass-approvals-and-sandbox");
}

#[test]
fn four_runs_at_once() {
    let Some(studio) = Studio::open() else { return };
    thread::scope(|scope| {
        let studio = &studio;
        let runs: Vec<_> = (1..=4)
            .map(|number| scope.spawn(move || studio.bed.run(&["run", "codex", &format!("SAY number {number}")])))
            .collect();
        for (number, run) in (1..=4).zip(runs) {
            assert_eq!(run.join().unwrap().ok().stdout, format!("number {number}\n"));
        }
    });
    studio.bed.assert_nothing_runs(Duration::from_secs(2));
}

#[test]
fn what_the_model_gives_away_stays_hidden() {
    let Some(studio) = Studio::open() else { return };
    let needles = Needles::new(&[Secrets::github(), Secrets::anthropic()]);
    let done = studio.bed.run(&["run", "--json", "codex", "LEAK"]).ok();
    needles.assert_not_in("the terminal", done.all());
    assert!(answer(&done.json_lines()).contains("[REDACTED:"), "{}", done.stdout);
    // codex keeps a history of its own, which is not the host's to clean.
    let own = studio.bed.user().join("codex");
    needles.assert_not_below(studio.bed.root(), &[&own]);
    studio.bed.stop();
    needles.assert_not_below(studio.bed.root(), &[&own]);
}
