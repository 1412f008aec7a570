//! Which files become plugins, and how the others are reported.

use serde_json::json;

use super::guests::{self, Guest, wrap_foreign};
use super::{Fixture, context, start};
use crate::types::Problem;
use crate::{Kind, Limits, PluginErrorKind, PluginState};

/// The reason for which a file is refused, which must be the same in the listing, the problems and the error.
fn refusal(fixture: &Fixture) -> String {
    let (registry, problems) = fixture.open();
    let [listed] = registry.list().try_into().unwrap_or_else(|all| panic!("{all:?}"));
    let PluginState::Refused { reason } = &listed.state else { panic!("{listed:?}") };
    assert!(problems.len() == 1 && problems[0].is_error && problems[0].message.contains(reason), "{problems:?}");
    let error = registry.policy(&listed.name, &json!({})).err().unwrap();
    assert!(error.kind == PluginErrorKind::Refused && error.message.contains(reason), "{error}");
    reason.clone()
}

#[test]
fn invalid_file_is_refused_with_a_reason() {
    let import = |name: &str| {
        wrap_foreign(
            &format!(
                "package a:b; interface i {{ f: func(); }} interface log {{ write: func(); }} world w {{ import {name}; }}"
            ),
            "w",
            &format!(
                r#"(module (import "a:b/{name}" "{}" (func)) (memory (export "memory") 1))"#,
                if name == "i" { "f" } else { "write" }
            ),
        )
    };
    let interface = |version: &str, kind: &str| {
        let name = format!("ostler:plugin/{kind}@{version}");
        wrap_foreign(
            &format!("package ostler:plugin@{version}; interface {kind} {{ f: func(); }} world w {{ export {kind}; }}"),
            "w",
            &format!(r#"(module (func (export "{name}#f")) (memory (export "memory") 1))"#),
        )
    };
    let good = Guest::default().policy();
    for (bytes, reason) in [
        (b"not a component".to_vec(), "not a valid WebAssembly file"),
        (Vec::new(), "not a valid WebAssembly file"),
        (wat::parse_str("(module)").unwrap(), "module, not a component"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (wat::parse_str("(component)").unwrap(), "no plugin interface"),
        (import("i"), "imports a:b/i;"),
        (import("log"), "imports a:b/log;"),
        (interface("0.2.0", "policy"), "policy of version 0.2.0"),
        (interface("0.1.0", "policy"), "does not export ostler:plugin/plugin@0.1.0"),
        (Guest { name: "Bad Name\u{1b}", ..Guest::default() }.policy(), "kebab"),
        (Guest { version: "one", ..Guest::default() }.policy(), "semantic version"),
        (Guest { schema: Some(r#"{"type": 1}"#), ..Guest::default() }.policy(), "schema"),
        (Guest { pages: 1000, ..Guest::default() }.policy(), "bytes of memory"),
        (Guest { extra: "(start $s) (func $s (loop $l (br $l)))", ..Guest::default() }.policy(), "longer than"),
    ] {
        let refused = refusal(&Fixture::with(&[("test.wasm", &bytes)]));
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
}

#[test]
fn component_with_wasi_imports_is_refused_with_all_of_them() {
    let wit = "package wasi:cli@0.2.3; interface environment { f: func(); } interface stdout { g: func(); } world w { import environment; import stdout; }";
    let module = r#"(module (import "wasi:cli/environment@0.2.3" "f" (func)) (import "wasi:cli/stdout@0.2.3" "g" (func)) (memory (export "memory") 1))"#;
    let reason = refusal(&Fixture::with(&[("test.wasm", &wrap_foreign(wit, "w", module))]));
    assert!(reason.contains("wasi:cli/environment@0.2.3, wasi:cli/stdout@0.2.3"), "{reason}");
}

#[test]
fn interface_with_another_shape_is_refused() {
    let wit = "package ostler:plugin@0.1.0;
        interface plugin { identify: func() -> string; }
        interface policy { wants: func() -> string; }
        world w { export plugin; export policy; }";
    let module = r#"(module (memory (export "memory") 1)
        (func (export "ostler:plugin/plugin@0.1.0#identify") (result i32) i32.const 0)
        (func (export "ostler:plugin/policy@0.1.0#wants") (result i32) i32.const 0))"#;
    let reason = refusal(&Fixture::with(&[("test.wasm", &wrap_foreign(wit, "w", module))]));
    assert!(reason.contains("does not fit the policy interface"), "{reason}");
}

#[test]
fn too_large_file_is_refused() {
    let mut fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    fixture.limits = Limits { component_size: 1000, ..super::tight() };
    assert!(refusal(&fixture).contains("has 1001 bytes, where 1000"));
}

#[test]
fn broken_file_does_not_affect_the_others() {
    let fixture = Fixture::with(&[
        ("a.wasm", b"broken"),
        ("b.wasm", &Guest { name: "good", ..Guest::default() }.policy()),
        ("c.wasm", &Guest { name: "good", ..Guest::default() }.redactor()),
        ("d.wasm", &Guest { name: "good", ..Guest::default() }.policy()),
        ("readme.txt", b"no plugin"),
    ]);
    std::fs::create_dir(fixture.folder.path().join("plugins/folder.wasm")).unwrap();
    let (registry, problems) = fixture.open();
    assert_eq!(problems.len(), 3, "{problems:?}");
    let states: Vec<_> = registry
        .list()
        .into_iter()
        .map(|plugin| (plugin.name, plugin.kind, plugin.state == PluginState::Ready))
        .collect();
    assert_eq!(
        states,
        [
            ("good".to_owned(), Some(Kind::Redactor), true),
            ("good".to_owned(), Some(Kind::Policy), true),
            ("a".to_owned(), None, false),
            ("d".to_owned(), Some(Kind::Policy), false),
            ("folder".to_owned(), None, false),
        ]
    );
    assert!(problems[1].message.contains("b.wasm is a policy of the same name"), "{problems:?}");
    assert_eq!(registry.policy("good", &json!({})).unwrap().evaluate(&start(), &context()), Ok(Vec::new()));
    let error = registry.policy("other", &json!({})).err().unwrap();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (PluginErrorKind::NotFound, "there is no such policy plugin; there are: good")
    );
    assert_eq!(registry.provider("good", &json!({})).err().unwrap().kind, PluginErrorKind::NotFound);
}

#[test]
fn settings_are_checked_before_configure() {
    let schema = r#"{"type": "object", "additionalProperties": false, "properties": {"n": {"type": "integer", "minimum": 1}, "s": {"type": "string"}}}"#;
    // The guest traps in `configure`, so a settings error must come from the host.
    let fixture = Fixture::with(&[
        (
            "picky.wasm",
            &Guest { name: "picky", schema: Some(schema), configure: guests::TRAP, ..Guest::default() }.policy(),
        ),
        ("free.wasm", &Guest { name: "free", ..Guest::default() }.policy()),
    ]);
    let registry = fixture.registry();
    let error = registry.policy("picky", &json!({"n": 0, "s": 1, "m": null})).err().unwrap();
    let mut pointers: Vec<_> = error.problems().iter().map(|problem| problem.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/m", "/n", "/s"], "{error}");
    assert!(error.to_string().starts_with("plugin picky: its settings are not valid: "), "{error}");
    assert_eq!(registry.policy("picky", &json!({"n": 1})).err().unwrap().kind, PluginErrorKind::Trap);

    assert!(registry.policy("free", &json!({"anything": 1})).is_ok() && registry.policy("free", &json!(null)).is_ok());
    assert!(registry.policy("free", &json!([1])).err().unwrap().message.contains("table"));
    let long = json!({"x": "y".repeat(2 << 20)});
    assert!(registry.policy("free", &long).err().unwrap().message.contains("longer than"));
}

#[test]
fn problems_of_configure_keep_their_pointers() {
    // `result::err(invalid([{pointer: "name"…, message: "summary"}]))`; the strings are those of the identity.
    let configure = "(i32.store8 (i32.const 2048) (i32.const 1))
        (i32.store8 (i32.const 2052) (i32.const 0)) (i32.store (i32.const 2056) (i32.const 8192)) (i32.store (i32.const 2060) (i32.const 1))
        (i32.store (i32.const 8192) (i32.const 256)) (i32.store (i32.const 8196) (i32.const 4))
        (i32.store (i32.const 8200) (i32.const 384)) (i32.store (i32.const 8204) (i32.const 7)) i32.const 2048";
    let fixture = Fixture::with(&[("test.wasm", &Guest { configure, ..Guest::default() }.provider())]);
    let error = fixture.registry().provider("test", &json!({})).err().unwrap();
    assert_eq!(
        error.kind,
        PluginErrorKind::Settings(vec![Problem { pointer: "test".to_owned(), message: "summary".to_owned() }])
    );
}

#[test]
fn log_messages_have_the_name_of_the_plugin() {
    let fixture =
        Fixture::with(&[("file.wasm", &Guest { name: "talker", body: guests::LOG_ONCE, ..Guest::default() }.policy())]);
    fixture.registry().policy("talker", &json!({})).unwrap().evaluate(&start(), &context()).unwrap();
    assert_eq!(*fixture.log.0.lock().unwrap(), [("talker".to_owned(), crate::Level::Warn, "\u{fffd}[3m".to_owned())]);
}

#[test]
fn missing_folder_is_not_a_problem() {
    let fixture = Fixture::new();
    std::fs::remove_dir(fixture.folder.path().join("plugins")).unwrap();
    assert_eq!(fixture.registry().list(), []);
}
