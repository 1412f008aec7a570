//! No field of the start payload is accepted and ignored: with every bundled provider each changes the launch, is
//! reported, or is refused. The list of fields is the schema's, so that a new one cannot be forgotten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::attempt::prepare::{Attempt, prepare};
use crate::sandbox::{Containment, Reach};
use ostler_config::PolicyConfig;
use ostler_plugin_host::types as plugin;
use ostler_plugin_host::{ProviderInstance, Registry, RegistryOptions};
use ostler_protocol::{RunId, SandboxMode, StartPayload};
use ostler_schema::validate_document;

/// Fields that the host itself implements for every provider.
const OF_THE_HOST: [&str; 30] = [
    "/title",
    "/provider",
    "/mode",
    "/profileId",
    "/queuePriority",
    "/timeoutSeconds",
    "/terminal/columns",
    "/terminal/rows",
    "/scheduledAt",
    "/startAfter/runIds",
    "/startAfter/evenIfFailed",
    "/maxRetries",
    "/retryBackoffMs",
    // Where the child starts.
    "/cwd",
    "/harness/limits/timeoutMs",
    "/harness/limits/maxToolResultLines",
    "/harness/processEnv",
    // What the run's proxy lets through.
    "/harness/permissions/allowHosts",
    // Whether a misfit answer fails the run.
    "/harness/structuredOutput/strict",
    "/harness/cliAllowlist/entries/0/name",
    "/harness/cliAllowlist/entries/0/path",
    "/harness/cliAllowlist/entries/0/args",
    "/harness/cliAllowlist/entries/0/env",
    "/harness/cliAllowlist/mode",
    "/harness/cliAllowlist/wrapperName",
    "/harness/cliAllowlist/binDir",
    "/harness/cliAllowlist/keepBinDir",
    "/harness/shellPrelude/content",
    "/harness/shellPrelude/bashEnv",
    "/harness/shellPrelude/shEnv",
];

/// What a provider honours without doing anything for it.
const AS_IT_IS: [(&str, &str, &str); 5] = [
    ("codex", "/harness/permissions/autoApprove", "`codex exec` asks about nothing; the sandbox bounds it"),
    ("rehearsal", "/harness/permissions/autoApprove", "it asks about nothing; the sandbox bounds it"),
    ("rehearsal", "/harness/limits/maxBudgetUsd", "it costs nothing"),
    ("rehearsal", "/harness/images/0/mimeType", "it counts the bytes of any type"),
    ("rehearsal", "/harness/files/0/mimeType", "it counts the bytes of any type"),
];

/// A payload without the field, and the same with it.
fn sample(pointer: &str) -> Option<(Value, Value)> {
    let whole = |fields: Value| {
        let mut payload = json!({"provider": "p", "prompt": "do it", "cwd": "/projects"});
        merge(&mut payload, fields);
        payload
    };
    let both = |without: Value, with: Value| Some((whole(without), whole(with)));
    let harness = |without: Value, with: Value| both(json!({"harness": without}), json!({"harness": with}));
    let server = |more: Value| {
        let mut server = json!({"name": "s", "command": "/bin/true"});
        merge(&mut server, more);
        json!({"mcp": {"servers": [server]}})
    };
    let remote = |more: Value| {
        let mut server = json!({"name": "s", "url": "http://127.0.0.1:9/mcp"});
        merge(&mut server, more);
        json!({"mcp": {"servers": [server]}})
    };
    let image = |more: Value| {
        let mut image = json!({"name": "a.png", "mimeType": "image/png", "path": "/projects/a.png"});
        merge(&mut image, more);
        json!({"images": [image]})
    };
    let file = |more: Value| {
        let mut file = json!({"name": "a.txt", "mimeType": "text/plain", "path": "/projects/a.txt"});
        merge(&mut file, more);
        json!({"files": [file]})
    };
    let none = || json!({});
    match pointer {
        "/prompt" => both(none(), json!({"prompt": "do something else"})),
        "/model" => both(none(), json!({"model": "m"})),
        "/outputFormat" => both(none(), json!({"outputFormat": "json"})),
        "/optionalFlags" => both(none(), json!({"optionalFlags": {"--unknown-flag": true}})),
        "/harness/resumeSessionId" => {
            harness(none(), json!({"resumeSessionId": "0190a1b2-0000-7000-8000-000000000000"}))
        }
        "/harness/continueSession" => harness(none(), json!({"continueSession": true})),
        "/harness/inputFormat" => harness(none(), json!({"inputFormat": "stream-json"})),
        "/harness/additionalDirectories" => harness(none(), json!({"additionalDirectories": ["/more"]})),
        "/harness/tools" => harness(none(), json!({"tools": ["shell", "file_read"]})),
        "/harness/permissions/sandboxMode" => harness(none(), json!({"permissions": {"sandboxMode": "read-only"}})),
        "/harness/permissions/autoApprove" => harness(none(), json!({"permissions": {"autoApprove": false}})),
        "/harness/permissions/networkAccess" => harness(none(), json!({"permissions": {"networkAccess": false}})),
        "/harness/permissions/approvalPolicy" => {
            harness(none(), json!({"permissions": {"approvalPolicy": "on-request"}}))
        }
        "/harness/limits/maxBudgetUsd" => harness(none(), json!({"limits": {"maxBudgetUsd": 0.5}})),
        "/harness/limits/maxTurns" => harness(none(), json!({"limits": {"maxTurns": 3}})),
        "/harness/mcp/servers/0/name" => harness(server(none()), server(json!({"name": "t"}))),
        "/harness/mcp/servers/0/type" => harness(remote(none()), remote(json!({"type": "sse"}))),
        "/harness/mcp/servers/0/command" => harness(server(none()), server(json!({"command": "/bin/false"}))),
        "/harness/mcp/servers/0/args" => harness(server(none()), server(json!({"args": ["a"]}))),
        "/harness/mcp/servers/0/env" => harness(server(none()), server(json!({"env": {"A": "b"}}))),
        "/harness/mcp/servers/0/url" => harness(remote(none()), remote(json!({"url": "http://127.0.0.1:9/other"}))),
        "/harness/mcp/servers/0/headers" => harness(remote(none()), remote(json!({"headers": {"X-A": "b"}}))),
        "/harness/mcp/servers/0/enabledTools" => harness(server(none()), server(json!({"enabledTools": ["t"]}))),
        "/harness/mcp/servers/0/disabledTools" => harness(server(none()), server(json!({"disabledTools": ["t"]}))),
        "/harness/mcp/servers/0/enabled" => harness(server(none()), server(json!({"enabled": false}))),
        "/harness/structuredOutput/schema" => {
            harness(none(), json!({"structuredOutput": {"schema": {"type": "object"}}}))
        }
        "/harness/systemPrompt" => harness(none(), json!({"systemPrompt": "be brief"})),
        "/harness/appendSystemPrompt" => harness(none(), json!({"appendSystemPrompt": "be kind"})),
        "/harness/pipedContent" => harness(none(), json!({"pipedContent": "a log"})),
        "/harness/images/0/name" => harness(none(), image(none())),
        "/harness/images/0/mimeType" => harness(image(none()), image(json!({"mimeType": "image/tiff"}))),
        "/harness/images/0/path" => harness(image(none()), image(json!({"path": "/projects/b.png"}))),
        "/harness/images/0/dataUrl" => {
            harness(image(none()), image(json!({"path": null, "dataUrl": "data:image/png;base64,aGVsbG8="})))
        }
        "/harness/files/0/name" => harness(none(), file(none())),
        "/harness/files/0/mimeType" => harness(file(none()), file(json!({"mimeType": "text/csv"}))),
        "/harness/files/0/path" => harness(file(none()), file(json!({"path": "/projects/b.txt"}))),
        "/harness/files/0/dataUrl" => {
            harness(file(none()), file(json!({"path": null, "dataUrl": "data:text/plain;base64,aGVsbG8="})))
        }
        _ => None,
    }
}

/// Lays one document over another; null takes a member away.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                if value.is_null() {
                    under.shift_remove(&name);
                } else {
                    merge(under.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (under, over) => *under = over,
    }
}

/// Pointers of all fields of a schema, one entry of each list; what is a map or a text has no fields of its own.
fn fields(schema: &Value, node: &Value, pointer: &str, out: &mut BTreeSet<String>) {
    let node = match node["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => node,
    };
    if let Some(one) = node["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null")) {
        // The values of a flag differ in type, and have no fields.
        if one.get("$ref").is_some() {
            return fields(schema, one, pointer, out);
        }
    }
    if let Some(properties) = node["properties"].as_object() {
        for (name, property) in properties {
            fields(schema, property, &format!("{pointer}/{name}"), out);
        }
        return;
    }
    let item = &node["items"];
    let mut below = BTreeSet::new();
    if item.is_object() {
        fields(schema, item, &format!("{pointer}/0"), &mut below);
    }
    // A list of plain values is one field.
    below.retain(|field| *field != format!("{pointer}/0"));
    if below.is_empty() {
        out.insert(pointer.to_owned());
    }
    out.extend(below);
}

fn all_fields() -> BTreeSet<String> {
    let schema = schemars::schema_for!(StartPayload).to_value();
    let mut all = BTreeSet::new();
    fields(&schema, &schema, "", &mut all);
    all
}

/// A bundled provider, and what it makes of the CLI whose answers were captured.
fn provider(registry: &Registry, name: &str, settings: &Value, answers: &[(&str, &str)]) -> Installed {
    let instance = registry.provider(name, settings).unwrap();
    let read = |file: &str| match file.split_once(':') {
        Some(("text", text)) => (0, text.to_owned()),
        Some(("refused", text)) => (1, text.to_owned()),
        _ => {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts").join(file);
            (0, std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        }
    };
    let results: Vec<plugin::ProbeResult> = instance
        .probes()
        .unwrap()
        .into_iter()
        .map(|probe| {
            let (_, file) = answers.iter().find(|(id, _)| *id == probe.id).expect("every probe has an answer");
            let (code, stdout) = read(file);
            let output = plugin::ProbeOutput { code, stdout, stderr: String::new() };
            plugin::ProbeResult { id: probe.id, outcome: plugin::ProbeOutcome::Exited(output) }
        })
        .collect();
    let capabilities = instance.detect(&results).unwrap();
    assert_eq!(capabilities.support, plugin::Support::Supported, "{name}: {:?}", capabilities.reasons);
    Installed { instance, capabilities }
}

struct Installed {
    instance: std::sync::Arc<ProviderInstance>,
    capabilities: plugin::Capabilities,
}

/// What came of a payload: the launch as text without its random id, the pointers that were reported, the pointers that
/// were refused.
#[derive(Debug, PartialEq)]
struct Made {
    launch: Option<String>,
    reported: Vec<String>,
}

/// As on a machine that holds no containment: the plugin answers for everything.
static UNCONTAINED: Containment =
    Containment { mode: SandboxMode::FullAccess, backend: None, reach: Reach::Open, gaps: Vec::new() };

fn attempt<'a>(payload: &'a StartPayload, inherited: &'a BTreeMap<String, String>) -> Attempt<'a> {
    Attempt {
        run: RunId::generate(),
        number: 1,
        payload,
        cwd: Path::new("/projects"),
        resume: payload.harness.as_ref().and_then(|harness| harness.resume_session_id.as_deref()),
        private_dir: Path::new("/private"),
        inherited,
        containment: &UNCONTAINED,
        trusted_settings: false,
        every_tool: false,
    }
}

fn make(installed: &Installed, payload: &Value) -> Made {
    let payload =
        validate_document::<StartPayload>(payload.clone()).unwrap_or_else(|error| panic!("{payload}: {error:?}"));
    let inherited = BTreeMap::new();
    let attempt = attempt(&payload, &inherited);
    match prepare(&PolicyConfig::default(), &installed.instance, &installed.capabilities, &attempt) {
        Ok(prepared) => Made {
            launch: Some(format!("{:?}", prepared.launch).replace(&prepared.request.fresh_id, "FRESH")),
            reported: prepared.warnings.into_iter().map(|warning| warning.pointer).collect(),
        },
        Err(error) => {
            Made { launch: None, reported: error.problems.into_iter().map(|problem| problem.pointer).collect() }
        }
    }
}

/// Whether one of the pointers is about this field: it, something in it, or the block around it.
fn is_about(reported: &[String], field: &str) -> bool {
    let above = |upper: &str, lower: &str| {
        lower.strip_prefix(upper).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    reported
        .iter()
        .any(|pointer| !pointer.is_empty() && pointer != "/harness" && (above(pointer, field) || above(field, pointer)))
}

#[test]
fn every_field_is_known_to_these_tests() {
    let all = all_fields();
    assert!(all.len() > 50, "{all:?}");
    for field in &all {
        let known = OF_THE_HOST.contains(&field.as_str()) || sample(field).is_some();
        assert!(known, "{field} is neither the host's nor has it a sample here");
    }
    for field in OF_THE_HOST {
        assert!(all.contains(field), "{field} is no field any more");
    }
}

/// The bundled providers, as they are with the CLIs whose answers were captured.
fn bundled() -> [(&'static str, Installed); 4] {
    let (registry, _) = Registry::open(&RegistryOptions::default()).unwrap();
    let claude = [("version", "claude-2.1.197/version.stdout"), ("help", "claude-2.1.197/help.stdout")];
    let codex = [
        ("version", "codex-0.169.0/version.stdout"),
        ("exec-help", "codex-0.169.0/help-exec.stdout"),
        ("resume-help", "codex-0.169.0/help-exec-resume.stdout"),
        ("features", "codex-0.169.0/features-list.stdout"),
        ("mcp-servers", "codex-0.169.0/mcp-list.stdout"),
        ("agents-key", "codex-0.169.0/mcp-list.stdout"),
        ("app-server-help", "codex-0.169.0/help-app-server.stdout"),
        // It knows these keys, and refuses their values.
        ("required-key", "refused:"),
        ("approval-key", "refused:"),
    ];
    [
        ("claude", provider(&registry, "claude", &json!({}), &claude)),
        ("codex", provider(&registry, "codex", &json!({}), &codex)),
        ("rehearsal", provider(&registry, "rehearsal", &json!({}), &[("version", "text:ostler rehearsal 1.0.0\n")])),
        ("command", provider(&registry, "command", &json!({}), &[])),
    ]
}

#[test]
fn bundled_providers_declare_what_they_honour() {
    let mut undeclared = Vec::new();
    for (name, installed) in &bundled() {
        for (_, with) in all_fields().iter().filter_map(|field| sample(field)) {
            let payload = validate_document::<StartPayload>(with.clone()).unwrap();
            let inherited = BTreeMap::new();
            let attempt = attempt(&payload, &inherited);
            let reasons: Vec<String> =
                match prepare(&PolicyConfig::default(), &installed.instance, &installed.capabilities, &attempt) {
                    Ok(prepared) => prepared.warnings.into_iter().map(|warning| warning.reason).collect(),
                    Err(error) => error.problems.into_iter().map(|problem| problem.message).collect(),
                };
            if reasons.iter().any(|reason| reason.contains("does not say that the installed CLI")) {
                undeclared.push(format!("{name}: {with}: {reasons:?}"));
            }
        }
    }
    assert!(undeclared.is_empty(), "{}", undeclared.join("\n"));
}

#[test]
fn every_field_does_something_or_is_reported() {
    let providers = bundled();
    let mut ignored = Vec::new();
    for (name, installed) in &providers {
        for field in all_fields() {
            let Some((without, with)) = sample(&field) else { continue };
            if AS_IT_IS.iter().any(|(provider, pointer, _)| provider == name && *pointer == field) {
                continue;
            }
            let (without, with) = (make(installed, &without), make(installed, &with));
            let does_something = with.launch.is_some() && with.launch != without.launch;
            if !does_something && !is_about(&with.reported, &field) {
                ignored.push(format!("{name}: {field}: {with:?}"));
            }
        }
    }
    assert!(ignored.is_empty(), "accepted and ignored:\n{}", ignored.join("\n"));
}
