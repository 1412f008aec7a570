//! Tests of the layers: defaults, file and runtime settings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Config, ConfigErrors, Executable, Overrides, Source};
use ostler_protocol::Origin;
use ostler_protocol::leaves;

/// Runtime settings, including values that only an earlier version accepted.
fn set(values: &Value) -> Overrides {
    let values = leaves(values.as_object().unwrap()).into_iter();
    Overrides::from_rows(values.map(|(pointer, value)| (pointer, value.clone())))
}

fn layered(file: &str, patch: &Value) -> Result<Config, ConfigErrors> {
    Source::of_text(file).config(&set(patch))
}

#[test]
fn runtime_settings_override_file_and_file_overrides_defaults() {
    let file = r#"
        [scheduler]
        global = 3
        capacity = 9
        [providers.codex-work]
        plugin = "codex"
        executable = "/opt/codex"
        environment = { CODEX_HOME = "/home/me/.codex", A = "1" }
        [providers.codex-work.settings]
        deep = { a = 1, b = [1, 2] }
        profile = "work"
        [[redaction.rules]]
        id = "one"
        pattern = "one"
    "#;
    let config = layered(
        file,
        &json!({
            "scheduler": {"global": 5},
            "log": {"level": "warn"},
            "providers": {
                "codex-work": {"concurrency": 2, "environment": {"A": "2"}, "settings": {"deep": {"b": [3]}, "new": true}},
                "llm": {"plugin": "command", "executable": "llm"},
            },
            "redaction": {"rules": [{"id": "two", "pattern": "two", "minEntropy": 2.5, "wholeWord": true}]},
        }),
    )
    .unwrap();
    assert_eq!((config.scheduler.global, config.scheduler.capacity, config.scheduler.per_provider), (5, 9, 1));
    let work = &config.providers["codex-work"];
    assert_eq!((work.plugin.as_str(), work.concurrency), ("codex", Some(2)));
    assert_eq!(work.executable, Some(Executable::Path("/opt/codex".into())));
    assert_eq!((work.environment["A"].as_str(), work.environment["CODEX_HOME"].as_str()), ("2", "/home/me/.codex"));
    let settings = json!({"deep": {"a": 1, "b": [3]}, "profile": "work", "new": true});
    assert_eq!(Value::Object(work.settings.clone()), settings);
    assert_eq!(config.providers["llm"].executable, Some(Executable::Name("llm".to_owned())));
    // A list is one value.
    let rules: Vec<&str> = config.redaction.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!((rules.as_slice(), config.redaction.rules[0].min_entropy), (["two"].as_slice(), Some(2.5)));

    let origin = |pointer: &str| config.sources().origin(pointer);
    for pointer in [
        "/scheduler/global",
        "/log/level",
        "/providers/codex-work/concurrency",
        "/providers/codex-work/environment/A",
        "/providers/codex-work/settings/deep/b",
        "/providers/codex-work/settings/new",
        "/providers/llm/executable",
        "/redaction/rules",
        "/redaction/rules/0/id",
    ] {
        assert_eq!(origin(pointer), Origin::Override, "{pointer}");
    }
    for pointer in [
        "/scheduler/capacity",
        "/providers/codex-work/plugin",
        "/providers/codex-work/environment/CODEX_HOME",
        "/providers/codex-work/settings/deep/a",
        "/providers/codex-work/settings/profile",
    ] {
        assert_eq!(origin(pointer), Origin::File, "{pointer}");
        let (position, line) = config.sources().position(pointer).unwrap();
        assert!(position.line > 1 && !line.is_empty(), "{pointer}");
    }
    assert_eq!(origin("/scheduler/perProvider"), Origin::Default);
    assert_eq!(config.sources().position("/log/level"), None, "it does not stand in the file");
    let (position, line) = config.sources().position("/scheduler/capacity").unwrap();
    assert_eq!((position.line, position.column, line.as_str()), (4, 20, "        capacity = 9"));
}

#[test]
fn problems_of_runtime_settings_name_keys_of_the_api() {
    let errors = layered(
        "",
        &json!({
            "scheduler": {"per_provider": 1, "perProvider": 0, "globl": 1},
            "runner": {"maxLineBytes": "many"},
            "schedule": {},
            "policy": {"allowUnenforced": ["/harness/tool"]},
            "redaction": {"rules": [{"id": "a", "pattern": "(", "wholeWord": 1}]},
            "providers": {"x": {"executible": "y"}, "Y": {}},
            "host": 1,
        }),
    )
    .unwrap_err();
    let mut found: Vec<String> = errors
        .errors()
        .iter()
        .map(|error| {
            assert_eq!((error.origin, error.position), (Origin::Override, None));
            format!("{} {}", error.pointer, error.to_problem().message)
        })
        .collect();
    found.sort();
    let starts = [
        "/host must be a table, not an integer",
        "/policy/allowUnenforced/0 not a JSON pointer",
        "/providers/Y not a kebab-case name",
        "/providers/x/executible unknown key (did you mean providers.x.executable?)",
        "/redaction/rules/0/pattern not a regular expression",
        "/redaction/rules/0/wholeWord must be true or false, not an integer",
        "/runner/maxLineBytes must be an integer from 256 to 16777216, not a string",
        "/schedule unknown section (did you mean scheduler?)",
        "/scheduler/globl unknown key (did you mean scheduler.global?)",
        "/scheduler/perProvider must be an integer from 1 to 256, not 0",
        "/scheduler/per_provider unknown key (did you mean scheduler.perProvider?)",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} does not start with {start}");
    }
}

#[test]
fn runtime_settings_do_not_hide_problems_of_the_file() {
    let errors = layered("[scheduler]\nglobal = 0\n", &json!({"scheduler": {"global": 2}})).unwrap_err();
    assert_eq!(errors.errors().len(), 1);
    assert_eq!((errors.errors()[0].origin, errors.errors()[0].pointer.as_str()), (Origin::File, "/scheduler/global"));
    // A changed file does not invalidate a runtime setting, unless their types contradict each other.
    assert!(layered("", &json!({"scheduler": {"global": 2}})).is_ok());
}

#[test]
fn omits_and_reports_invalid_runtime_settings() {
    let kept = Overrides::from_rows([
        ("/scheduler/global".to_owned(), json!(7)),
        ("/scheduler/capacity".to_owned(), json!("lots")),
        ("/gone/away".to_owned(), json!(1)),
        ("/plugins/folder".to_owned(), json!("/tmp/code")),
        ("/redaction/allow".to_owned(), json!([{"pattern": "(?s).+", "target": "line"}])),
        ("/providers/evil/plugin".to_owned(), json!("command")),
        ("/providers/codex/concurrency".to_owned(), json!(3)),
    ]);
    let (config, unfit) = Source::of_text("[scheduler]\ncapacity = 5\n").config_with_fitting(&kept).unwrap();
    assert_eq!((config.scheduler.global, config.scheduler.capacity), (7, 5));
    assert_eq!(config.plugins.folder, None, "code is not loaded from where somebody has set");
    let mut pointers: Vec<&str> = unfit.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    let ignored = ["/gone", "/plugins/folder", "/providers/evil/plugin", "/redaction/allow", "/scheduler/capacity"];
    assert_eq!(pointers, ignored);
    assert!(config.redaction.allow.is_empty() && !config.providers.contains_key("evil"));
    assert_eq!(config.providers["codex"].concurrency, Some(3));
    let broken = Source::of_text("[scheduler]\ncapacity = \n").config_with_fitting(&kept);
    assert_eq!(broken.unwrap_err().errors()[0].origin, Origin::File);
}

#[test]
fn shown_values_can_be_set() {
    let config = Config::parse("[scheduler]\nglobal = 7\n[retention.providers.llm]\ndays = 3\n").unwrap();
    let mut shown = config.shown();
    // These keys can be set only in the file.
    for section in ["http", "plugins", "policy", "providers", "redaction", "sandbox", "tokens"] {
        shown.remove(section);
    }
    let (set, problems) = Overrides::default().patched(&Value::Object(shown));
    assert_eq!(problems, []);
    let again = Source::default().config(&set).unwrap();
    assert_eq!(again.changed_keys(&config), Vec::<String>::new());
    assert_eq!(again.sources().origin("/scheduler/global"), Origin::Override);
}

#[test]
fn changed_keys_are_spelled_as_in_the_file() {
    let before = Config::parse("[providers.a]\nplugin = \"codex\"\n[log]\nlevel = \"warn\"\n").unwrap();
    let after = Config::parse("[scheduler]\nper_provider = 2\n[providers.b]\nconcurrency = 3\n").unwrap();
    let keys =
        ["log.level", "providers.a.plugin", "providers.b.concurrency", "providers.b.plugin", "scheduler.per_provider"];
    assert_eq!(after.changed_keys(&before), keys);
    assert_eq!(before.changed_keys(&after), keys);
    let moved = Config::parse("# a comment\n[log]\nlevel = \"warn\"\n[providers.a]\nplugin = \"codex\"\n").unwrap();
    assert_eq!(moved, before, "where a value stands in the file is no difference");
    // Values of variables are hidden, but a changed value is reported.
    let one = Config::parse("providers.a.environment = { X = \"1\" }").unwrap();
    let two = Config::parse("providers.a.environment = { X = \"2\" }").unwrap();
    assert_eq!(two.changed_keys(&one), ["providers.a.environment.X"]);
}

/// Values for the keys of a layer.
fn layer() -> impl Strategy<Value = [Option<u16>; 4]> {
    prop::array::uniform4(prop::option::of(1_u16..200))
}

const KEYS: [(&str, &str, &str); 4] = [
    ("scheduler", "global", "global"),
    ("scheduler", "per_provider", "perProvider"),
    ("log", "keep_files", "keepFiles"),
    ("runner", "grace_seconds", "graceSeconds"),
];

proptest! {
    /// The last layer with a value determines the value and its origin.
    #[test]
    fn last_layer_with_a_value_wins(file in layer(), over in layer()) {
        let default = Config::builtin().unwrap();
        let mut text = String::new();
        let mut patch = json!({});
        for ((section, key, wire), (file, over)) in KEYS.iter().zip(file.iter().zip(&over)) {
            if let Some(value) = file {
                text.push_str(&format!("{section}.{key} = {value}\n"));
            }
            if let Some(value) = over {
                patch[section][wire] = json!(value);
            }
        }
        let config = layered(&text, &patch).unwrap();
        let (document, defaults) = (serde_json::to_value(&config).unwrap(), serde_json::to_value(&default).unwrap());
        for ((section, _, wire), (file, over)) in KEYS.iter().zip(file.iter().zip(&over)) {
            let pointer = format!("/{section}/{wire}");
            let (value, origin) = match (over, file) {
                (Some(value), _) => (json!(value), Origin::Override),
                (None, Some(value)) => (json!(value), Origin::File),
                (None, None) => (defaults.pointer(&pointer).unwrap().clone(), Origin::Default),
            };
            prop_assert_eq!(document.pointer(&pointer), Some(&value));
            prop_assert_eq!(config.sources().origin(&pointer), origin);
        }
    }

    /// An arbitrary patch does not panic, and every problem names a value that was set.
    #[test]
    fn arbitrary_patch_is_accepted_or_reported(
        section in prop::sample::select(vec!["scheduler", "providers", "redaction", "plugins", "policy", "x"]),
        name in prop::sample::select(vec!["global", "codex", "rules", "policy", "folder", "allowAdvanced", "ä/~"]),
        value in prop_oneof![
            Just(json!(null)), Just(json!({})), Just(json!([{}])), Just(json!([[1], {"a": [{}]}])), Just(json!(1.5)),
            Just(json!({"settings": {"a": [{"b": {}}], "c": "\u{0}\"'''"}})), any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ],
    ) {
        let patch = json!({ section: { name: value } });
        let (set, problems) = Overrides::default().patched(&patch);
        let (_, unfit) = Source::default().config_with_fitting(&set).unwrap();
        for pointer in problems.iter().map(|problem| &problem.pointer).chain(unfit.iter().map(|error| &error.pointer)) {
            prop_assert!(pointer.starts_with(&format!("/{section}")), "{}", pointer);
        }
    }
}
