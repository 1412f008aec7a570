#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::{AllowTarget, Config, ConfigErrors, DEFAULT_TEXT, Executable, LogLevel, MAX_FILE_BYTES, ReportedTools};
use ostler_protocol::Origin;

fn refused(text: &str) -> ConfigErrors {
    Config::parse(text).expect_err("it is not valid")
}

/// `line:column key: message (hint)` for each problem.
fn problems(text: &str) -> Vec<String> {
    let show = |error: &super::ConfigError| {
        let at = error.position.expect("a place");
        let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}:{} {}: {}{hint}", at.line, at.column, error.key, error.message)
    };
    refused(text).errors().iter().map(show).collect()
}

#[test]
fn default_text_sets_every_value() {
    let config = Config::builtin().unwrap();
    assert_eq!(config.sources().iter().count(), 0);
    let value = serde_json::to_value(&config).unwrap();
    assert_eq!(
        value,
        json!({
            "host": {"idleSeconds": 300},
            "scheduler": {
                "global": 2, "perProvider": 1, "capacity": 512, "agingSeconds": 30, "requeueInterrupted": false
            },
            "runner": {
                "timeoutSeconds": 300, "graceSeconds": 5, "exitGraceMs": 500, "lingerSeconds": 10, "backgroundSeconds": 300,
                "sessionIdleSeconds": 1800, "sessionSeconds": 10_800, "maxLineBytes": 100_000, "maxTranscriptLineMib": 16,
                "inheritEnvironment": config.runner.inherit_environment,
                "limits": {"processes": 0, "memoryMib": 0, "openFiles": 0, "fileSizeMib": 0}
            },
            "storage": {"raw": false, "maxStoredMib": 1024, "exports": null},
            "retention": {"days": 90, "megabytes": 1024, "providers": {}, "workspaces": {}},
            "policy": {
                "allowAdvanced": false, "allowUnenforced": [], "allowEnvironment": config.policy.allow_environment,
                "mcpCommands": "sandboxed", "shellPreludes": "sandboxed", "reportedTools": "warn",
                "approvalTimeoutSeconds": 300
            },
            "sandbox": {
                "mode": "workspace-write", "require": false, "backends": ["namespaces", "bwrap", "landlock"],
                "hide": config.sandbox.hide, "protect": config.sandbox.protect, "read": config.sandbox.read, "write": [],
                "sshAgent": false, "gpgAgent": false, "dbus": false, "allowHosts": []
            },
            "redaction": {"rules": [], "allow": []},
            "plugins": {
                "folder": null, "memoryMib": 256, "callTimeoutMs": 5000, "maxComponentMib": 64,
                "redactor": {}, "policy": {}, "trust": "approved", "provider": {}
            },
            "providers": {},
            "http": {"listen": null, "allowRemote": false, "allowedHosts": [], "allowedOrigins": []},
            "tokens": {"store": "auto"},
            "log": {"level": "info", "keepFiles": 7}
        })
    );
    assert!(config.runner.inherit_environment.contains(&"PATH".to_owned()));
    assert!(config.policy.allow_environment.contains(&"*_TOKEN".to_owned()));
}

#[test]
fn rejects_too_wide_and_invalid_variable_patterns() {
    let config = Config::parse("policy.allow_environment = [\"A\", \"B_*\", \"*_C\", \"*9\"]").unwrap();
    assert_eq!(config.policy.allow_environment, ["A", "B_*", "*_C", "*9"]);
    for wrong in ["*", "", "A*B", "*A*", "1A", "A B", "A=B"] {
        let found = problems(&format!("policy.allow_environment = [{wrong:?}]"));
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
    }
    assert_eq!(problems("policy.mcp_commands = \"sometimes\"").len(), 1);
}

#[test]
fn reported_tools_accepts_only_warn_and_end() {
    for (text, rule) in [("warn", ReportedTools::Warn), ("end", ReportedTools::End)] {
        let config = Config::parse(&format!("policy.reported_tools = {text:?}")).unwrap();
        assert_eq!(config.policy.reported_tools, rule);
    }
    for wrong in ["\"deny\"", "\"\"", "true"] {
        let found = problems(&format!("policy.reported_tools = {wrong}"));
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert!(format!("{:?}", found[0]).contains("reported_tools"), "{wrong}: {found:?}");
    }
}

/// The default text is the reference: it contains every key, as a value or in a comment.
#[test]
fn examples_in_comments_are_valid() {
    let example = |line: &str| {
        let body = line.strip_prefix("# ")?;
        let is_setting = body.starts_with('[') || body.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        is_setting.then(|| body.to_owned())
    };
    // Commented keys of a section whose other keys are set are outside of any table here.
    let inside = |line: &str| match line.split_once(" = ") {
        Some(("folder", _)) => Some(format!("plugins.{line}")),
        Some(("exports", _)) => Some(format!("storage.{line}")),
        _ => None,
    };
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for line in DEFAULT_TEXT.lines().filter_map(example) {
        match inside(&line) {
            Some(line) => head.push(line),
            None => tail.push(line),
        }
    }
    let text = [head, tail].concat().join("\n").replace(".NAME.", ".some-plugin.");
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.redaction.rules.len(), 1);
    assert_eq!(config.redaction.rules[0].max_length, 1024);
    assert_eq!(config.redaction.allow[0].target, AllowTarget::Secret);
    assert_eq!(config.providers["codex-work"].plugin, "codex");
    assert!(config.plugins.policy.contains_key("some-plugin"));
    assert!(config.storage.exports.unwrap().ends_with("ostler-exports"));
    assert_eq!(config.retention.providers["codex-work"].days, Some(30));
    assert_eq!(config.retention.workspaces.values().next().unwrap().megabytes, Some(100));
    assert!(config.plugins.folder.unwrap().ends_with("ostler-plugins"));
}

#[test]
fn file_changes_only_the_keys_it_names() {
    let text = r#"
        log.level = "debug"
        [scheduler]
        global = 0x10
        [providers.codex]
        concurrency = 3
        [providers.codex-work]
        plugin = "codex"
        executable = "/opt/codex"
        environment = { CODEX_HOME = "/home/me/.codex" }
        [providers.codex-work.settings]
        profile = "work"
        deep = [1, 2.5, { when = 2026-11-22, yes = true }]
        [providers.llm]
        plugin = "command"
        executable = "llm"
    "#;
    let config = Config::parse(text).unwrap();
    assert_eq!(config.scheduler.global, 16);
    assert_eq!(config.scheduler.capacity, 512);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.concurrency("codex"), 3);
    assert_eq!(config.concurrency("codex-work"), 1);
    assert_eq!(config.concurrency("unheard-of"), 1);
    assert_eq!(config.providers["codex"].plugin, "codex");
    let work = &config.providers["codex-work"];
    assert_eq!(work.executable, Some(Executable::Path(PathBuf::from("/opt/codex"))));
    assert_eq!(work.environment["CODEX_HOME"], "/home/me/.codex");
    let settings = json!({"profile": "work", "deep": [1, 2.5, {"when": "2026-11-22", "yes": true}]});
    assert_eq!(serde_json::Value::Object(work.settings.clone()), settings);
    assert_eq!(config.providers["llm"].executable, Some(Executable::Name("llm".to_owned())));

    let from_file = [
        "/scheduler/global",
        "/log/level",
        "/providers/codex-work/settings",
        "/providers/codex-work/settings/deep",
        "/providers/codex-work/environment/CODEX_HOME",
    ];
    for key in from_file {
        assert_eq!(config.sources().origin(key), Origin::File, "{key}");
    }
    for key in ["/scheduler/capacity", "/scheduler", "/storage/raw", "/providers/codex/plugin", "/no/such/key"] {
        assert_eq!(config.sources().origin(key), Origin::Default, "{key}");
    }
}

#[test]
fn reports_all_problems_at_once() {
    let text = "\
[scheduler]
global = 0
perProvider = 2
capacity = \"many\"
[runner]
grace = 4
max_line_bytes = 1.5
inherit_environment = [\"PATH\", \"*\", \"A B\", 7]
[web]
port = 80
[http]
listen = \"0.0.0.0:80\"
allowed_hosts = [\"a/b\"]
allowed_origins = [\"localhost:5173\", \"http://localhost:5173/\"]
[log]
level = \"verbos\"
";
    assert_eq!(
        problems(text),
        [
            "2:10 scheduler.global: must be an integer from 1 to 256, not 0",
            "3:1 scheduler.perProvider: unknown key (did you mean per_provider?)",
            "4:12 scheduler.capacity: must be an integer from 1 to 1000000, not a string",
            "6:1 runner.grace: unknown key (did you mean grace_seconds?)",
            "7:18 runner.max_line_bytes: must be an integer from 256 to 16777216, not a number with a fraction",
            "8:32 runner.inherit_environment[1]: the whole environment is never passed on (name the variables that agents need)",
            "8:37 runner.inherit_environment[2]: not a name that a variable can have (use letters, digits and _; * may stand at the end)",
            "8:44 runner.inherit_environment[3]: must be a string, not an integer",
            "9:2 web: unknown section or key (known are host, scheduler, runner, storage, retention, policy, sandbox, redaction, plugins, providers, http, tokens, log)",
            "12:10 http.listen: other machines could reach this address (use 127.0.0.1 or [::1], or set allow_remote = true: the traffic is not encrypted)",
            "13:18 http.allowed_hosts[0]: not a host (for example \"ostler.example:7787\")",
            "14:20 http.allowed_origins[0]: not an origin (scheme, host and port, without a path: \"http://localhost:5173\")",
            "14:38 http.allowed_origins[1]: not an origin (scheme, host and port, without a path: \"http://localhost:5173\")",
            "16:9 log.level: must be one of error, warn, info, debug, trace",
        ]
    );
}

#[test]
fn syntax_errors_have_a_position() {
    let text = "[scheduler]\nglobal = = 2\n\"täg\" = \u{1F600} oops\n";
    let errors = refused(text);
    let first = &errors.errors()[0];
    assert_eq!((first.position.unwrap().line, first.position.unwrap().column), (2, 10));
    assert_eq!(first.line_text, "global = = 2");
    assert!(first.message.starts_with("not valid TOML: "), "{first}");
    let second = errors.errors().iter().find(|error| error.position.unwrap().line == 3).unwrap();
    assert_eq!(second.position.unwrap().column, 9, "characters, not bytes");
    let report = errors.report();
    assert!(report.contains("2:10: not valid TOML"), "{report}");
    assert!(report.contains("  2 | global = = 2\n    |          ^\n"), "{report}");
}

#[test]
fn rejects_duplicate_keys_and_tables() {
    assert!(refused("[log]\nkeep_files = 1\nkeep_files = 2\n").to_string().contains("line 3, column 1"));
    assert!(refused("[log]\n[log]\n").to_string().contains("duplicate"));
}

#[test]
fn rejects_sections_of_the_wrong_type() {
    assert_eq!(problems("scheduler = 3"), ["1:13 scheduler: must be a table, not an integer"]);
    assert_eq!(problems("[[scheduler]]"), ["1:1 scheduler: must be a table, not a list"]);
    assert_eq!(problems("[providers]\ncodex = 1"), ["2:9 providers.codex: must be a table, not an integer"]);
    assert_eq!(problems("redaction.rules = [1]"), ["1:20 redaction.rules[0]: must be a table, not an integer"]);
    assert_eq!(problems("storage.raw = 1"), ["1:15 storage.raw: must be true or false, not an integer"]);
}

#[test]
fn rejects_invalid_providers() {
    let text = "\
[providers.Codex_Work]
executable = \"bin/codex\"
plugin = \"CODEX\"
[providers.a.environment]
\"1A\" = \"x\"
B = \"a\\u0000b\"
C = 1
[providers.b]
executible = \"/bin/true\"
settings = { limit = inf, huge = 99999999999999999999 }
concurrency = 0
";
    let kebab = "not a kebab-case name of at most 64 characters (use lower-case letters and digits, with single \
                 hyphens between: codex-work)";
    assert_eq!(
        problems(text),
        [
            format!("1:1 providers.Codex_Work: {kebab}"),
            "2:14 providers.Codex_Work.executable: must be an absolute path, or begin with ~/ (write the whole path)"
                .to_owned(),
            format!("3:10 providers.Codex_Work.plugin: {kebab}"),
            "5:8 providers.a.environment.1A: not a name that a variable can have (use letters, digits and _)"
                .to_owned(),
            "6:5 providers.a.environment.B: the value holds a NUL (take it out: no variable can hold one)".to_owned(),
            "7:5 providers.a.environment.C: must be a string, not an integer".to_owned(),
            "9:1 providers.b.executible: unknown key (did you mean executable?)".to_owned(),
            "10:22 providers.b.settings.limit: settings cannot hold a number that is not finite".to_owned(),
            "10:34 providers.b.settings.huge: the number does not fit 64 bits".to_owned(),
            "11:15 providers.b.concurrency: must be an integer from 1 to 256, not 0".to_owned(),
        ]
    );
}

#[test]
fn rejects_invalid_redaction_rules() {
    let text = r#"
[[redaction.rules]]
id = "one"
pattern = 'a(b'
[[redaction.rules]]
id = "one"
pattern = 'a*'
[[redaction.rules]]
pattern = 'k_([a-z]+)'
secret_groups = [1, 2]
min_entropy = 9
[[redaction.allow]]
target = "lines"
rules = ["one", "No"]
[[redaction.allow]]
pattern = '.*'
"#;
    let found = problems(text);
    let starts = [
        "4:11 redaction.rules[0].pattern: not a regular expression: unclosed group",
        "6:6 redaction.rules[1].id: another rule has this id",
        "7:11 redaction.rules[1].pattern: the pattern matches the empty text",
        "9:1 redaction.rules[2]: id is missing",
        "10:21 redaction.rules[2].secret_groups[1]: must be an integer from 0 to 1, not 2",
        "11:15 redaction.rules[2].min_entropy: must be a number from 0 to 8, not 9",
        "13:1 redaction.allow[0]: pattern is missing",
        "13:10 redaction.allow[0].target: must be one of secret, match, line (did you mean \"line\"?)",
        "14:17 redaction.allow[0].rules[1]: not a kebab-case name",
        "16:11 redaction.allow[1].pattern: the pattern matches the empty text",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} does not start with {start}");
    }
    let huge = "[[redaction.rules]]\nid = \"a\"\npattern = '(?:[^a]{1000}){1000}x'";
    assert!(problems(huge)[0].contains("not a regular expression"), "a pattern may not take all memory");
}

#[test]
fn checks_pointers_of_allow_unenforced() {
    let config = Config::parse("policy.allow_unenforced = [\"/harness/permissions\", \"/harness/limits/maxTurns\"]");
    let policy = config.unwrap().policy;
    for allowed in ["/harness/permissions", "/harness/permissions/networkAccess", "/harness/limits/maxTurns"] {
        assert!(policy.allows_unenforced(allowed), "{allowed}");
    }
    for other in ["/harness/permissionsX", "/harness/limits", "/harness/limits/maxTurnsX", "", "/harness"] {
        assert!(!policy.allows_unenforced(other), "{other}");
    }
    let wrong = "policy.allow_unenforced = [\"/harness/permission/x\", \"sandboxMode\", \"/harness\", \"\"]";
    let found = problems(wrong);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].ends_with("(did you mean \"/harness/permissions\"?)"), "{found:#?}");
}

#[test]
fn checks_allowed_hosts() {
    let text = "sandbox.allow_hosts = [\"a.example.com\", \"*.corp:8443\", \"localhost:80\"]\n\
                [providers.codex]\nallow_hosts = [\"10.0.0.7:80\"]";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.sandbox.allow_hosts, ["a.example.com", "*.corp:8443", "localhost:80"]);
    assert_eq!(config.providers["codex"].allow_hosts, ["10.0.0.7:80"]);
    let wrong = "sandbox.allow_hosts = [\"https://a.example\", \"localhost\", 5]\n\
                 [providers.codex]\nallow_hosts = [\"a:b\"]";
    let found = problems(wrong);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].contains("sandbox.allow_hosts[0]: must be a host or host:port"), "{found:#?}");
    assert!(found[1].contains("sandbox.allow_hosts[1]: must name its port"), "{found:#?}");
    assert!(found[3].contains("providers.codex.allow_hosts[0]: must have a port"), "{found:#?}");
}

#[test]
fn counts_problems_above_the_limit() {
    let text: String = (0..200).map(|n| format!("key{n} = 1\n")).collect();
    let errors = refused(&text);
    assert_eq!(errors.errors().len(), 51);
    assert!(errors.errors()[50].message.contains("150 further"));
}

#[test]
fn error_line_is_cut_and_has_no_control_characters() {
    let text = format!("a\t= \"{}", "x".repeat(10_000));
    let errors = refused(&text);
    assert!(errors.errors().iter().all(|error| error.line_text.len() <= 160));
    assert!(errors.errors().iter().all(|error| !error.line_text.contains('\t')));
}

#[test]
fn rejects_unreadable_and_too_large_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let error = |path: &Path| Config::load(Some(path)).expect_err("it cannot be read").to_string();
    let builtin = Config::builtin().unwrap();
    assert_eq!(Config::load(None).unwrap(), builtin);
    assert_eq!(Config::load(Some(&path)).unwrap(), builtin, "no file, no changes");
    assert!(Config::load_existing(&path).unwrap_err().report().contains("name a file that exists"));

    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(error(&path).contains("No such file"), "a dangling link is not an absent file");
    std::fs::remove_file(&path).unwrap();

    assert!(error(folder.path()).contains("it is a folder"));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(error(&path).contains("not a regular file"), "nobody waits for a pipe's writer");
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, b"# fine\n# \xff\n").unwrap();
    assert!(error(&path).contains("line 2 holds a byte that is not UTF-8"));

    let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
    std::fs::write(&path, "#".repeat(limit)).unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap(), builtin);
    std::fs::write(&path, "#".repeat(limit + 1)).unwrap();
    assert!(error(&path).contains("longer than"));

    std::fs::write(&path, DEFAULT_TEXT).unwrap();
    let written = Config::load(Some(&path)).unwrap();
    assert_eq!(written.sources().origin("/scheduler/global"), Origin::File);
    std::fs::write(&path, "\u{feff}[log]\r\nkeep_files = 3\r\n").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap().log.keep_files, 3, "byte order mark and CRLF");
    std::fs::write(&path, "[log]\nkeep_files = 0\n").unwrap();
    let report = Config::load(Some(&path)).unwrap_err().report();
    assert!(report.starts_with(&format!("{}:2:14: log.keep_files: ", path.display())), "{report}");
}

#[test]
fn rejects_deep_nesting() {
    let text = format!("providers.a.settings.x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused(&text).errors()[0].message.starts_with("not valid TOML"));
    let text = format!("providers.a.settings.x{} = 1", ".y".repeat(100_000));
    assert!(refused(&text).errors()[0].message.starts_with("not valid TOML"));
}

/// The default text with a few random changes.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("'''".to_owned()),
        Just("[[".to_owned()),
        Just("]".to_owned()),
        Just("= ".to_owned()),
        Just("{".to_owned()),
        Just("\\u".to_owned()),
        Just("\n[providers.x]\n".to_owned()),
        Just("-1e999".to_owned()),
        Just("\r".to_owned()),
        Just("ä\u{0}".to_owned()),
        "[ -~]{0,8}",
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, piece), 1..6).prop_map(|changes| {
        // Half of the texts have no comment marks, so that the examples are included.
        let mut text = DEFAULT_TEXT.replace("\n# ", "\n");
        for (at, remove, piece) in changes {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + remove).min(text.len()));
            text.replace_range(start..end, &piece);
        }
        text
    })
}

/// Reads an arbitrary text. It must not panic, and errors must have existing positions.
fn read_any(text: &str) {
    if let Err(errors) = Config::parse(text) {
        assert!(!errors.errors().is_empty());
        for error in errors.errors() {
            let at = error.position.expect("a place");
            let line = text.split('\n').nth(at.line - 1).expect("the line exists");
            assert!(at.column >= 1 && at.column <= line.chars().count() + 1, "{error:?}");
        }
        assert!(!errors.report().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*|[\\[\\]a-z.=\"'#{}, \n\\\\0-9]{0,200}") {
        read_any(&text);
    }

    #[test]
    fn mutated_defaults_never_panic(text in mutated()) {
        read_any(&text);
    }

    #[test]
    fn invalid_number_is_one_error_at_its_position(value in any::<i64>()) {
        let text = format!("\n[scheduler]\n  capacity = {value}\n");
        match Config::parse(&text) {
            Ok(config) => prop_assert_eq!(i64::try_from(config.scheduler.capacity).unwrap(), value),
            Err(errors) => {
                prop_assert!(!(1..=1_000_000).contains(&value));
                prop_assert_eq!(errors.errors().len(), 1);
                let at = errors.errors()[0].position.unwrap();
                prop_assert_eq!((at.line, at.column), (3, 14));
            }
        }
    }
}
