//! Guests that loop, allocate, trap, recurse or flood, of each kind.

use serde_json::json;

use super::guests::{self, Guest};
use super::{Fixture, context, start};
use crate::types::{Candidate, HostFacts, Line, OutputStream, RunMode, RunRequest};
use crate::{PluginErrorKind, PluginState, Registry};

/// The fault that each body causes.
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
fn faulting_policy_fails_only_its_call() {
    let fixture = Fixture::new();
    for (name, body, _, _) in faults() {
        fixture.put(&format!("{name}.wasm"), &Guest { name, body, ..Guest::default() }.policy());
    }
    fixture.put("good.wasm", &Guest { name: "good", ..Guest::default() }.policy());
    let registry = fixture.registry();
    for (name, _, kind, message) in faults() {
        let error = evaluate(&registry, name).unwrap_err();
        assert_eq!((&error.kind, error.plugin.as_str()), (&kind, name), "{error}");
        assert!(error.message.contains(message), "{error}");
        assert_eq!(evaluate(&registry, "good"), Ok(0), "after {name}");
    }
    // The flood of the log was limited, and the recorded messages are clean.
    let logged = fixture.log.messages();
    assert!(!logged.is_empty() && logged.len() < 200, "{}", logged.len());
    assert!(
        logged.iter().all(|message| message.starts_with("\u{fffd}[3m") || message.contains("were left out")),
        "{logged:?}"
    );
}

#[test]
fn faulting_redactor_or_transcript_fails_only_its_call() {
    let fixture = Fixture::new();
    for (name, body, _, _) in faults() {
        fixture.put(&format!("r-{name}.wasm"), &Guest { name, body, ..Guest::default() }.redactor());
        fixture.put(&format!("p-{name}.wasm"), &Guest { name, body, ..Guest::default() }.provider());
    }
    let registry = fixture.registry();
    let candidate =
        Candidate { rule: "r".to_owned(), secret: "s".to_owned(), before: String::new(), after: String::new() };
    for (name, _, kind, message) in faults() {
        let redactor = registry.redactor(name, &json!(null)).unwrap();
        let error = redactor.verify(std::slice::from_ref(&candidate)).unwrap_err();
        // 90,000 booleans are few bytes, but no answer to one candidate.
        let kind_here = if name == "output" { &PluginErrorKind::Trap } else { &kind };
        assert_eq!(&error.kind, kind_here, "{error}");
        // A new instance serves the next call.
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
        // Another run of the same plugin is not affected.
        assert!(other.open().is_ok());
        assert!(other.finish(exit(), &[]).is_ok());
    }
}

#[test]
fn answer_of_the_wrong_length_is_a_fault() {
    let redactor = Guest { body: guests::OK, ..Guest::default() }.redactor();
    let fixture = Fixture::with(&[("test.wasm", &redactor)]);
    let redactor = fixture.registry().redactor("test", &json!({})).unwrap();
    let candidate =
        Candidate { rule: "r".to_owned(), secret: "s".to_owned(), before: String::new(), after: String::new() };
    assert_eq!(redactor.verify(&[]), Ok(Vec::new()));
    assert!(redactor.verify(&[candidate]).unwrap_err().message.contains("0 answers for 1"));
}

#[test]
fn covered_index_out_of_range_is_a_fault() {
    // `step.covered`: a list of one index, 5.
    let body = "(i32.store (i32.const 2056) (i32.const 8192)) (i32.store (i32.const 2060) (i32.const 1)) (i32.store (i32.const 8192) (i32.const 5)) i32.const 2048";
    let fixture = Fixture::with(&[("test.wasm", &Guest { body, ..Guest::default() }.provider())]);
    let provider = fixture.registry().provider("test", &json!({})).unwrap();
    let mut transcript = provider.transcript(&request(), &provider.detect(&[]).unwrap()).unwrap();
    assert_eq!(transcript.read(&vec![line(); 6]).unwrap().covered, [5]);
    assert!(transcript.read(&vec![line(); 5]).unwrap_err().message.contains("not given"));
    assert_eq!(transcript.read(&[]).unwrap_err().kind, PluginErrorKind::Gone);
}

#[test]
fn plugin_is_disabled_after_repeated_faults() {
    let fixture = Fixture::with(&[("test.wasm", &Guest { body: guests::TRAP, ..Guest::default() }.policy())]);
    let registry = fixture.registry();
    let policy = registry.policy("test", &json!({})).unwrap();
    for _ in 0..3 {
        assert_eq!(policy.evaluate(&start(), &context()).unwrap_err().kind, PluginErrorKind::Trap);
    }
    for error in
        [policy.evaluate(&start(), &context()).unwrap_err(), registry.policy("test", &json!({})).err().unwrap()]
    {
        assert_eq!(error.kind, PluginErrorKind::Disabled);
        assert!(
            error.to_string().contains("plugin test: it is disabled") && error.message.contains("unreachable"),
            "{error}"
        );
    }
    let listed = registry.list();
    assert!(matches!(&listed[0].state, PluginState::Disabled { reason } if reason.contains("3 times")), "{listed:?}");
    assert_eq!(registry.reinstate(), ["test"]);
    assert_eq!(registry.reinstate(), [""; 0]);
    assert_eq!(registry.list()[0].state, PluginState::Ready);
}

#[test]
fn plugin_is_disabled_after_three_failed_starts() {
    let fixture = Fixture::with(&[("test.wasm", &Guest { configure: guests::TRAP, ..Guest::default() }.redactor())]);
    let registry = fixture.registry();
    let kinds: Vec<_> = (0..4).map(|_| registry.redactor("test", &json!({})).err().unwrap().kind).collect();
    assert_eq!(kinds, [PluginErrorKind::Trap, PluginErrorKind::Trap, PluginErrorKind::Trap, PluginErrorKind::Disabled]);
}

#[test]
fn corrected_settings_are_tried_after_the_old_ones_were_disabled() {
    let fixture = Fixture::with(&[("test.wasm", &Guest { body: guests::TRAP, ..Guest::default() }.redactor())]);
    let registry = fixture.registry();
    let candidate =
        Candidate { rule: "r".to_owned(), secret: "s".to_owned(), before: String::new(), after: String::new() };
    let redactor = registry.redactor("test", &json!({"at": "bad"})).unwrap();
    for _ in 0..3 {
        assert!(redactor.verify(std::slice::from_ref(&candidate)).is_err());
    }
    assert!(registry.redactor("test", &json!({"at": "bad"})).is_err());
    let corrected = registry.redactor("test", &json!({"at": "good"})).unwrap();
    assert_eq!(registry.list()[0].state, PluginState::Ready);
    // Faults with the old settings do not count for the new ones.
    assert!(redactor.verify(std::slice::from_ref(&candidate)).is_err());
    assert_eq!(corrected.scan("text").map(|finds| finds.len()), Ok(0));
}

#[test]
fn ticker_parks_between_calls() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    let registry = fixture.registry();
    assert_eq!(evaluate(&registry, "test"), Ok(0));
    let ticker = registry.runtime().ticker();
    let waited = std::time::Instant::now();
    while !ticker.is_parked() {
        assert!(waited.elapsed().as_secs() < 20, "the ticker never parks");
        std::thread::yield_now();
    }
    // It starts again for the next call.
    fixture.put("loop.wasm", &Guest { name: "loop", body: guests::LOOP, ..Guest::default() }.policy());
    assert_eq!(evaluate(&fixture.registry(), "loop").unwrap_err().kind, PluginErrorKind::Timeout);
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
fn instances_beyond_the_pool_are_refused_temporarily() {
    let fixture = Fixture::with(&[("p.wasm", &Guest { name: "p", ..Guest::default() }.provider())]);
    let registry = fixture.registry();
    let provider = registry.provider("p", &json!({})).unwrap();
    let capabilities = provider.detect(&[]).unwrap();
    let mut alive = Vec::new();
    let refusal = loop {
        match provider.transcript(&request(), &capabilities) {
            Ok(transcript) => alive.push(transcript),
            Err(refusal) => break refusal,
        }
        assert!(alive.len() <= 10_000, "the pool has no limit");
    };
    assert!(alive.len() >= 1000, "the pool has only {} slots", alive.len());
    assert_eq!(refusal.kind, PluginErrorKind::Host, "{refusal}");
    assert!(refusal.message.contains("try again"), "{refusal}");
    // It is not a fault of the plugin, and the other instances still work.
    assert!(alive.iter_mut().all(|transcript| transcript.open().is_ok()));
    alive.pop();
    assert!(provider.transcript(&request(), &capabilities).is_ok());
    assert_eq!(registry.list()[0].state, PluginState::Ready);
}
