//! Guests that loop, allocate, trap, recurse, flood; in each kind.

use serde_json::json;

use super::guests::{self, Guest};
use super::{Bench, context, start};
use crate::types::{Candidate, HostFacts, Line, OutputStream, RunMode, RunRequest};
use crate::{PluginErrorKind, PluginState, Registry};

/// What a body leads to.
fn faults() -> Vec<(&'static str, &'static str, PluginErrorKind, &'static str)> {
    vec![
        ("loop", guests::LOOP, PluginErrorKind::Timeout, "longer than 150 ms"),
        ("allocate", guests::ALLOCATE, PluginErrorKind::Memory, "bytes of memory"),
        ("table", guests::FILL_TABLE, PluginErrorKind::Memory, "table elements"),
        ("trap", guests::TRAP, PluginErrorKind::Trap, "unreachable"),
        ("recurse", guests::RECURSE, PluginErrorKind::Trap, "nest too deeply"),
        ("log", guests::FLOOD_LOG, PluginErrorKind::Timeout, "longer than 150 ms"),
        ("output", guests::FLOOD_OUTPUT, PluginErrorKind::Output, "larger than 1048576 bytes"),
        ("pointer", guests::WILD_POINTER, PluginErrorKind::Trap, "broke the rules"),
        ("list", guests::WILD_LIST, PluginErrorKind::Trap, "broke the rules"),
    ]
}

fn evaluate(registry: &Registry, name: &str) -> Result<usize, crate::PluginError> {
    registry.policy(name, &json!({}))?.evaluate(&start(), &context()).map(|findings| findings.len())
}

#[test]
fn policies_fail_their_call_and_only_that() {
    let bench = Bench::new();
    for (name, body, _, _) in faults() {
        bench.put(&format!("{name}.wasm"), &Guest { name, body, ..Guest::default() }.policy());
    }
    bench.put("good.wasm", &Guest { name: "good", ..Guest::default() }.policy());
    let registry = bench.registry();
    for (name, _, kind, message) in faults() {
        let error = evaluate(&registry, name).unwrap_err();
        assert_eq!((&error.kind, error.plugin.as_str()), (&kind, name), "{error}");
        assert!(error.message.contains(message), "{error}");
        assert_eq!(evaluate(&registry, "good"), Ok(0), "after {name}");
    }
    // The flood of the log was held back, and what came through is harmless.
    let logged = bench.log.messages();
    assert!(!logged.is_empty() && logged.len() < 200, "{}", logged.len());
    assert!(
        logged.iter().all(|message| message.starts_with("\u{fffd}[3m") || message.contains("were left out")),
        "{logged:?}"
    );
}

#[test]
fn redactors_and_transcripts_too() {
    let bench = Bench::new();
    for (name, body, _, _) in faults() {
        bench.put(&format!("r-{name}.wasm"), &Guest { name, body, ..Guest::default() }.redactor());
        bench.put(&format!("p-{name}.wasm"), &Guest { name, body, ..Guest::default() }.provider());
    }
    let registry = bench.registry();
    let candidate =
        Candidate { rule: "r".to_owned(), secret: "s".to_owned(), before: String::new(), after: String::new() };
    for (name, _, kind, message) in faults() {
        let redactor = registry.redactor(name, &json!(null)).unwrap();
        let error = redactor.verify(std::slice::from_ref(&candidate)).unwrap_err();
        // 90,000 booleans are few bytes, but no answer to one candidate.
        let kind_here = if name == "output" { &PluginErrorKind::Trap } else { &kind };
        assert_eq!(&error.kind, kind_here, "{error}");
        // A fresh instance serves the next call.
        assert_eq!(redactor.scan("text").map(|finds| finds.len()), Ok(0));

        let provider = registry.provider(name, &json!({})).unwrap();
        let capabilities = provider.detect(&[]).unwrap();
        let mut transcript = provider.transcript(&request(), &capabilities).unwrap();
        let mut other = provider.transcript(&request(), &capabilities).unwrap();
        assert!(transcript.open().is_ok());
        let error = transcript.read(&[line()]).unwrap_err();
        if name != "output" {
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(message), "{error}");
        }
        assert_eq!(transcript.open().unwrap_err().kind, PluginErrorKind::Gone);
        // Another run of the same plugin is not concerned.
        assert!(other.open().is_ok());
        assert!(other.finish(exit(), &[]).is_ok());
    }
}

#[test]
fn an_answer_of_the_wrong_length_is_a_fault() {
    let redactor = Guest { body: guests::OK, ..Guest::default() }.redactor();
    let bench = Bench::with(&[("test.wasm", &redactor)]);
    let redactor = bench.registry().redactor("test", &json!({})).unwrap();
    let candidate =
        Candidate { rule: "r".to_owned(), secret: "s".to_owned(), before: String::new(), after: String::new() };
    assert_eq!(redactor.verify(&[]), Ok(Vec::new()));
    assert!(redactor.verify(&[candidate]).unwrap_err().message.contains("0 answers for 1"));
}

#[test]
fn covering_lines_that_were_not_given_is_a_fault() {
    // `step.covered`: a list of one index, 5.
    let body = "(i32.store (i32.const 2056) (i32.const 8192)) (i32.store (i32.const 2060) (i32.const 1)) (i32.store (i32.const 8192) (i32.const 5)) i32.const 2048";
    let bench = Bench::with(&[("test.wasm", &Guest { body, ..Guest::default() }.provider())]);
    let provider = bench.registry().provider("test", &json!({})).unwrap();
    let mut transcript = provider.transcript(&request(), &provider.detect(&[]).unwrap()).unwrap();
    assert_eq!(transcript.read(&vec![line(); 6]).unwrap().covered, [5]);
    assert!(transcript.read(&vec![line(); 5]).unwrap_err().message.contains("not given"));
    assert_eq!(transcript.read(&[]).unwrap_err().kind, PluginErrorKind::Gone);
}

#[test]
fn a_plugin_that_fails_again_and_again_is_set_aside_by_name() {
    let bench = Bench::with(&[("test.wasm", &Guest { body: guests::TRAP, ..Guest::default() }.policy())]);
    let registry = bench.registry();
    let policy = registry.policy("test", &json!({})).unwrap();
    for _ in 0..3 {
        assert_eq!(policy.evaluate(&start(), &context()).unwrap_err().kind, PluginErrorKind::Trap);
    }
    for error in
        [policy.evaluate(&start(), &context()).unwrap_err(), registry.policy("test", &json!({})).err().unwrap()]
    {
        assert_eq!(error.kind, PluginErrorKind::SetAside);
        assert!(
            error.to_string().contains("plugin test: it is disabled") && error.message.contains("unreachable"),
            "{error}"
        );
    }
    let listed = registry.list();
    assert!(matches!(&listed[0].state, PluginState::SetAside { reason } if reason.contains("3 times")), "{listed:?}");
    assert_eq!(registry.reinstate(), ["test"]);
    assert_eq!(registry.reinstate(), [""; 0]);
    assert_eq!(registry.list()[0].state, PluginState::Ready);
}

#[test]
fn a_plugin_that_never_starts_is_set_aside_after_three() {
    let bench = Bench::with(&[("test.wasm", &Guest { configure: guests::TRAP, ..Guest::default() }.redactor())]);
    let registry = bench.registry();
    let kinds: Vec<_> = (0..4).map(|_| registry.redactor("test", &json!({})).err().unwrap().kind).collect();
    assert_eq!(kinds, [PluginErrorKind::Trap, PluginErrorKind::Trap, PluginErrorKind::Trap, PluginErrorKind::SetAside]);
}

#[test]
fn settings_that_were_corrected_are_tried_although_the_old_ones_were_set_aside() {
    let bench = Bench::with(&[("test.wasm", &Guest { body: guests::TRAP, ..Guest::default() }.redactor())]);
    let registry = bench.registry();
    let candidate =
        Candidate { rule: "r".to_owned(), secret: "s".to_owned(), before: String::new(), after: String::new() };
    let redactor = registry.redactor("test", &json!({"at": "bad"})).unwrap();
    for _ in 0..3 {
        assert!(redactor.verify(std::slice::from_ref(&candidate)).is_err());
    }
    assert!(registry.redactor("test", &json!({"at": "bad"})).is_err());
    let corrected = registry.redactor("test", &json!({"at": "good"})).unwrap();
    assert_eq!(registry.list()[0].state, PluginState::Ready);
    // What still runs with the old settings does not spoil the new ones.
    assert!(redactor.verify(std::slice::from_ref(&candidate)).is_err());
    assert_eq!(corrected.scan("text").map(|finds| finds.len()), Ok(0));
}

#[test]
fn the_clock_stops_between_calls() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    let registry = bench.registry();
    assert_eq!(evaluate(&registry, "test"), Ok(0));
    let ticker = registry.runtime().ticker();
    let waited = std::time::Instant::now();
    while !ticker.is_parked() {
        assert!(waited.elapsed().as_secs() < 20, "the ticker never parks");
        std::thread::yield_now();
    }
    // And it starts again for the next.
    bench.put("loop.wasm", &Guest { name: "loop", body: guests::LOOP, ..Guest::default() }.policy());
    assert_eq!(evaluate(&bench.registry(), "loop").unwrap_err().kind, PluginErrorKind::Timeout);
    assert_eq!(evaluate(&registry, "test"), Ok(0));
}

fn line() -> Line {
    Line { stream: OutputStream::Stdout, text: "text".to_owned(), truncated: false }
}

fn exit() -> crate::types::ExitStatus {
    crate::types::ExitStatus { code: Some(0), signal: None, timed_out: false, canceled: false }
}

fn request() -> RunRequest {
    RunRequest {
        run_id: "run".to_owned(),
        attempt: 1,
        fresh_id: "id".to_owned(),
        mode: RunMode::NonInteractive,
        prompt: "SAY hello".to_owned(),
        model: None,
        cwd: "/work".to_owned(),
        resume_session: None,
        private_dir: "/private".to_owned(),
        attachments: Vec::new(),
        host: HostFacts { os: "linux".to_owned(), root: false, environment_names: Vec::new(), extra: None },
        payload: "{}".to_owned(),
    }
}

#[test]
fn more_instances_than_there_is_room_for_are_refused_for_now() {
    let bench = Bench::with(&[("p.wasm", &Guest { name: "p", ..Guest::default() }.provider())]);
    let registry = bench.registry();
    let provider = registry.provider("p", &json!({})).unwrap();
    let capabilities = provider.detect(&[]).unwrap();
    let mut alive = Vec::new();
    let refusal = loop {
        match provider.transcript(&request(), &capabilities) {
            Ok(transcript) => alive.push(transcript),
            Err(refusal) => break refusal,
        }
        assert!(alive.len() <= 10_000, "there is room without end");
    };
    assert!(alive.len() >= 1000, "room for {} only", alive.len());
    assert_eq!(refusal.kind, PluginErrorKind::Host, "{refusal}");
    assert!(refusal.message.contains("try again"), "{refusal}");
    // It is nothing that the plugin did, and the others go on.
    assert!(alive.iter_mut().all(|transcript| transcript.open().is_ok()));
    alive.pop();
    assert!(provider.transcript(&request(), &capabilities).is_ok());
    assert_eq!(registry.list()[0].state, PluginState::Ready);
}
