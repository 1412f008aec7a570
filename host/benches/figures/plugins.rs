//! The cost of a plugin: loading its code, a new instance, a call.

use std::time::Duration;

use ostler_plugin_host::types::{
    Action, Candidate, Capabilities, Context, HostFacts, Line, OtherAction, OutputStream, RunMode, RunRequest, Support,
};
use ostler_plugin_host::{BUNDLED, Bundled, Registry, RegistryOptions};
use serde_json::json;

use crate::report::{Report, Sample, Target, median, rate, show, thread_time};
use crate::{Scale, home, logs};

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    loading(scale, report);
    let (registry, _) = Registry::open(&options(BUNDLED)).unwrap();
    assert_eq!(registry.compiled(), 0, "the cache was not warm");
    instances(scale, report, &registry);
    calls(scale, report, &registry);
}

fn options(bundled: &'static [Bundled]) -> RegistryOptions {
    RegistryOptions { cache: Some(home::plugin_cache()), bundled, ..RegistryOptions::default() }
}

/// Opens a registry with these plugins this number of times.
fn opened(bundled: &'static [Bundled], times: usize) -> Sample {
    let open = |_| {
        let begun = thread_time();
        let opened = Registry::open(&options(bundled)).unwrap();
        let time = thread_time() - begun;
        drop(opened);
        time
    };
    (0..times).map(open).collect()
}

fn loading(scale: Scale, report: &mut Report) {
    let times = scale.of(31, 3);
    let engine = opened(&[], times).median();
    println!("plugin engine without a plugin: {}", show(engine));
    let mut slowest = (Duration::ZERO, "");
    for plugin in BUNDLED {
        // Without the code that the build has compiled, like a plugin in the plugin folder.
        let own: &'static [Bundled] = Vec::leak(vec![Bundled { code: &[], ..*plugin }]);
        opened(own, 1);
        let load = opened(own, times).median().saturating_sub(engine);
        println!(
            "load {:10} {:>10} from the cache, {} kB of component",
            plugin.name,
            show(load),
            plugin.component.len() / 1000
        );
        if load > slowest.0 {
            slowest = (load, plugin.name);
        }
    }
    report.millis("cached load of a plugin, the slowest one", slowest.0, 3.0, slowest.1);
}

/// The time of one call: the median of rounds, each with many calls, because one call is too short for the clock.
fn each(rounds: usize, count: usize, mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let begun = thread_time();
        (0..count).for_each(|_| work());
        (thread_time() - begun).as_secs_f64() / count as f64
    };
    Duration::from_secs_f64(median((0..rounds).map(round).collect()))
}

fn micros(report: &mut Report, what: &str, value: Duration, most: f64, beside: String) {
    report.figure(what, value.as_secs_f64() * 1e6, "µs", Target::AtMost(most), beside);
}

fn instances(scale: Scale, report: &mut Report, registry: &Registry) {
    let (rounds, count) = (scale.of(15, 3), scale.of(400, 20));
    let guardrails = registry.policy("guardrails", &json!({})).unwrap();
    let other = Action::Other(OtherAction { kind: "none".to_owned(), payload: "{}".to_owned() });
    let fresh = each(rounds, count, || drop(guardrails.evaluate(&other, &context()).unwrap()));
    println!("a fresh instance that is configured, asked about nothing, and dropped: {}", show(fresh));
    let settings = json!({"args": ["{prompt}"]});
    let command = registry.provider("command", &settings).unwrap();
    let (request, capabilities) = (request(), capabilities());
    let transcript = each(rounds, count, || drop(command.transcript(&request, &capabilities).unwrap()));
    println!("a transcript of `command`, in an instance of its own: {}", show(transcript));
    let (action, context) = (Action::Start(request.payload.clone()), context());
    let judged = each(rounds, count, || drop(guardrails.evaluate(&action, &context).unwrap()));
    println!("`guardrails` judges a start payload, in a fresh instance: {}", show(judged));
    let beside = format!("a policy's judgement {}, a transcript {}", show(judged), show(transcript));
    micros(report, "fresh instance of a plugin", fresh, 50.0, beside);
}

fn calls(scale: Scale, report: &mut Report, registry: &Registry) {
    let (rounds, count) = (scale.of(15, 3), scale.of(4000, 50));
    let secrets = registry.redactor("secrets", &json!({})).unwrap();
    let empty = each(rounds, count, || drop(secrets.verify(&[]).unwrap()));
    println!("warm call with nothing in it: {}", show(empty));
    let candidate = Candidate {
        rule: "github-token".to_owned(),
        secret: format!("{}{}", ["gh", "p_"].concat(), "aB3xYz9Qk2mN8pL5tR7vW1cE4hJ6sD0fGuIo"),
        before: "export DEPLOY_TOKEN=".to_owned(),
        after: String::new(),
    };
    let asked = each(rounds, count, || drop(secrets.verify(std::slice::from_ref(&candidate)).unwrap()));
    println!("`secrets` judges one candidate: {}", show(asked));

    let command = registry.provider("command", &json!({})).unwrap();
    let mut transcript = command.transcript(&request(), &capabilities()).unwrap();
    let log = logs::build_log(64 << 10);
    let lines: Vec<Line> = log
        .lines()
        .map(|text| Line { stream: OutputStream::Stderr, text: text.to_owned(), truncated: false })
        .collect();
    let nothing = each(rounds, count, || drop(transcript.read(&[]).unwrap()));
    let read = each(rounds, count / 40 + 1, || drop(transcript.read(&lines).unwrap()));
    println!(
        "a transcript reads nothing: {}; 64 KiB in {} lines: {} ({:.0} MB/s)",
        show(nothing),
        lines.len(),
        show(read),
        rate(log.len(), read)
    );
    micros(report, "warm call of a plugin", empty, 2.0, format!("one candidate judged: {}", show(asked)));
}

fn request() -> RunRequest {
    let payload = json!({"provider": "llm", "prompt": "what does this repository do?", "mode": "non-interactive",
        "cwd": "/home/user/project", "timeoutSeconds": 300});
    RunRequest {
        run_id: "0aba3af3-0000-7000-8000-000000000001".to_owned(),
        attempt: 1,
        fresh_id: "0aba3af3-0000-7000-8000-000000000002".to_owned(),
        mode: RunMode::NonInteractive,
        prompt: "what does this repository do?".to_owned(),
        model: None,
        cwd: "/home/user/project".to_owned(),
        resume_session: None,
        private_dir: "/home/user/.local/share/ostler/private/0aba3af3-1".to_owned(),
        attachments: Vec::new(),
        host: HostFacts {
            os: "linux".to_owned(),
            root: false,
            environment_names: vec!["PATH".to_owned()],
            extra: None,
        },
        payload: payload.to_string(),
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        support: Support::Supported,
        cli_version: Some("1.0.0".to_owned()),
        features: Vec::new(),
        modes: vec![RunMode::NonInteractive],
        optional_flags: Vec::new(),
        reasons: Vec::new(),
        extra: None,
    }
}

fn context() -> Context {
    Context {
        run_id: None,
        attempt: 0,
        provider: "llm".to_owned(),
        plugin: "command".to_owned(),
        origin: "cli".to_owned(),
        user: "user".to_owned(),
        cwd: "/home/user/project".to_owned(),
        workspace_grant: Some("/home/user/project".to_owned()),
        paths: Vec::new(),
        profile: None,
        capabilities: r#"{"modes":["non-interactive"]}"#.to_owned(),
        advanced: false,
        now_rfc3339: "2026-01-01T12:00:00+00:00".to_owned(),
        facts: "{}".to_owned(),
    }
}
