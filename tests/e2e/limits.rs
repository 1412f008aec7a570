//! Input that needs too much work, and files that another user could change, against a real host: each is refused
//! quickly with a clear error, and the host continues.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::guests::Guest;
use crate::support::{ResourceBaseline, TestHost, end_of};
use serde_json::{Map, Value, json};

/// Far longer than a refusal takes, and far shorter than the work would take.
const QUICK: Duration = Duration::from_secs(30);

/// A schema in which each level refers twice to the next.
fn doubled(levels: usize) -> Value {
    let mut definitions = Map::new();
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        definitions.insert(format!("d{level}"), json!({"allOf": [next, next]}));
    }
    definitions.insert(format!("d{levels}"), json!({"type": "object"}));
    json!({"$defs": definitions, "$ref": "#/$defs/d0"})
}

fn structured(host: &TestHost, schema: Value) -> Value {
    host.payload("JSON {}", &json!({"timeoutSeconds": 5, "harness": {"structuredOutput": {"schema": schema}}}))
}

/// Peak memory of a process, in KiB.
fn peak_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn schemas_with_exponential_work_are_refused_quickly() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let began = Instant::now();
    // A chain that is too long, and too many schemas for one value.
    for (levels, reason) in [(40, "lead through more than"), (31, "expand to more than")] {
        let error = host.call("start_run", &structured(&host, doubled(levels))).unwrap_err();
        assert_eq!(error.kind(), "INVALID_PARAMS", "{}", error.text());
        let text = error.text();
        assert!(text.contains("/harness/structuredOutput/schema") && text.contains(reason), "{levels}: {text}");
    }
    // The schema is small, but each level of the answer doubles the work.
    let twice = json!({"properties": {"c": {"$ref": "#"}}});
    let deep = (0..60).fold("{}".to_owned(), |inner, _| format!("{{\"c\":{inner}}}"));
    let prompt = format!("JSON {deep}");
    let mut payload = structured(&host, json!({"allOf": [twice, twice]}));
    payload["prompt"] = prompt.into();
    let run = host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned();
    let events = host.wait_for_end(&run);
    assert!(end_of(&events).is_some());
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    baseline.check(&host);
    let stopping = Instant::now();
    host.stop();
    assert!(stopping.elapsed() < QUICK, "{:?}", stopping.elapsed());
}

#[test]
fn thousands_of_large_patterns_are_refused_with_little_memory() {
    let host = TestHost::granted("");
    let host_pid = host.ensure_running();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let before = peak_kib(host_pid);
    let began = Instant::now();
    let pattern = |number: usize| json!({"pattern": format!("(\\w{{30}}|\\W{{30}}){{10}}{number}")});
    let properties: Map<String, Value> = (0..3000).map(|number| (format!("p{number}"), pattern(number))).collect();
    let error = host.call("start_run", &structured(&host, json!({"properties": properties}))).unwrap_err();
    assert_eq!(error.kind(), "INVALID_PARAMS", "{}", error.text());
    assert!(error.text().contains("different patterns"), "{}", error.text());
    let fewer: Map<String, Value> = (0..150).map(|number| (format!("p{number}"), pattern(number))).collect();
    let error = host.call("start_run", &structured(&host, json!({"properties": fewer}))).unwrap_err();
    assert!(error.text().contains("smaller repetitions"), "{}", error.text());
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    let grown = peak_kib(host_pid).saturating_sub(before);
    assert!(grown < 100 << 10, "the host grew by {grown} KiB");
}

#[test]
fn plugin_with_exponential_settings_schema_is_refused_and_the_host_starts() {
    let mut levels: Vec<String> = (0..31)
        .map(|level| {
            format!(r##""d{level}":{{"allOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}}"##, level + 1)
        })
        .collect();
    levels.push(r#""d31":{}"#.to_owned());
    let schema = format!(r##"{{"$defs":{{{}}},"$ref":"#/$defs/d0"}}"##, levels.join(","));
    let host = TestHost::granted("");
    let folder = host.home().join("plugins");
    fs::create_dir_all(&folder).unwrap();
    let began = Instant::now();
    fs::write(
        folder.join("greedy.wasm"),
        Guest { name: "greedy", schema: Some(&schema), ..Guest::default() }.provider(),
    )
    .unwrap();
    // The host watches the folder and may have seen the file before: then another reload reports it.
    host.run(&["config", "reload"]).ok();
    let reloads = &host.call("get_status", &json!({})).unwrap()["reloads"];
    assert!(reloads.to_string().contains("greedy"), "{reloads}");
    let list = host.run(&["plugin", "list"]).ok().stdout;
    assert!(list.contains("greedy") && list.contains("expand to more than"), "{list}");
    host.run(&["settings", "set", "scheduler.global", "3"]).ok();
    host.stop();
    // A host starts although the plugin is in the folder.
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
}

#[test]
fn files_that_others_can_change_are_refused_with_the_correcting_command() {
    let host = TestHost::granted("[scheduler]\nglobal = 3\n");
    host.stop();
    let config = host.home().join("config.toml");
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();

    mode(&config, 0o666);
    for verb in [&["runs"] as &[&str], &["redact"], &["config", "check"], &["config", "show"], &["serve"]] {
        let done = host.run(verb);
        assert_eq!(done.code, 74, "{verb:?}: {}", done.all());
        assert!(done.all().contains("`chmod ") && done.all().contains("config.toml"), "{verb:?}: {}", done.all());
    }
    mode(&config, 0o600);
    mode(&host.home(), 0o777);
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("`chmod ") && done.stderr.contains("not trusted"), "{}", done.stderr);
    // The sticky bit does not protect the folder of the file.
    mode(&host.home(), 0o1777);
    host.run(&["runs"]).code(74);
    mode(&host.home(), 0o700);
    // Others must not be able to change a folder above it, either.
    mode(host.root(), 0o777);
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("`chmod ") && done.stderr.contains("not trusted"), "{}", done.stderr);
    mode(host.root(), 0o700);

    let folder = host.home().join("plugins");
    fs::create_dir_all(&folder).unwrap();
    mode(&folder, 0o777);
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("plugin folder is not trusted") && done.stderr.contains("`chmod "), "{}", done.stderr);
    mode(&folder, 0o700);
    host.run(&["run", "rehearsal", "SAY hello"]).ok();

    if !nix::unistd::geteuid().is_root() {
        crate::support::print_skipped("only root can give files away");
        return;
    }
    host.stop();
    chown(&config, Some(65534), Some(65534)).unwrap();
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("chown root "), "{}", done.stderr);
    chown(&config, Some(0), Some(0)).unwrap();
    // A component of another user, for a running host and at a start.
    host.run(&["runs"]).ok();
    let file = folder.join("theirs.wasm");
    let draft = host.root().join("theirs");
    fs::write(&draft, Guest { name: "theirs", ..Guest::default() }.policy()).unwrap();
    chown(&draft, Some(65534), Some(65534)).unwrap();
    fs::rename(&draft, &file).unwrap();
    for _ in 0..2 {
        host.run(&["config", "reload"]).ok();
        let list = host.run(&["plugin", "list"]).ok().stdout;
        assert!(list.contains("not trusted") && list.contains("chown root "), "{list}");
        host.stop();
        host.run(&["runs"]).ok();
    }
}

#[test]
fn ordinary_user_reads_only_own_and_root_owned_configuration() {
    if !nix::unistd::geteuid().is_root() {
        crate::support::print_skipped("only root can become somebody else");
        return;
    }
    let mut host = TestHost::with_config("[scheduler]\nglobal = 3\n");
    host.run_as_user(54_322);
    host.run(&["config", "check"]).ok();
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    host.stop();
    // The configuration of another user, in a folder of this user.
    chown(host.home().join("config.toml"), Some(54_323), None).unwrap();
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("chown "), "{}", done.stderr);
    // A configuration of root is accepted.
    chown(host.home().join("config.toml"), Some(0), None).unwrap();
    fs::set_permissions(host.home().join("config.toml"), Permissions::from_mode(0o644)).unwrap();
    host.run(&["runs"]).ok();
}

/// The command with a limited address space, like `ulimit -v` on a shared machine.
fn with_address_space(host: &TestHost, bytes: u64, args: &[&str]) -> crate::support::Done {
    let inner = host.command(args);
    let mut outer = std::process::Command::new("prlimit");
    outer.arg(format!("--as={bytes}")).arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(host.work()).env_clear();
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    host.finish(outer)
}

#[test]
fn run_under_a_limit_on_the_address_space_works() {
    let host = TestHost::granted("");
    let done = with_address_space(&host, 4 << 30, &["run", "-q", "rehearsal", "SAY under a limit"]).ok();
    assert_eq!(done.stdout.trim(), "under a limit");
    let status = host.call("get_status", &json!({})).unwrap();
    assert_eq!(status["problems"], json!([]));
}
