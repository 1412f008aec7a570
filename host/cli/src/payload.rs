//! Builds start payloads from arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use ostler_protocol::{ApiError, ErrorKind, Problem};

/// The values of the arguments, with all files and standard input already read.
#[derive(Clone, Debug, Default)]
pub(super) struct PayloadArgs {
    /// `--payload`
    pub(super) base: Option<Value>,
    pub(super) provider: Option<String>,
    pub(super) prompt: Option<String>,
    /// Standard input that accompanies the prompt.
    pub(super) piped: Option<String>,
    pub(super) title: Option<String>,
    /// `--cwd`, absolute.
    pub(super) cwd: Option<PathBuf>,
    /// `--add-dir`, absolute.
    pub(super) add_dirs: Option<Vec<PathBuf>>,
    pub(super) model: Option<String>,
    pub(super) priority: Option<i64>,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) retries: Option<i64>,
    pub(super) max_turns: Option<i64>,
    pub(super) max_budget: Option<f64>,
    pub(super) schema: Option<Value>,
    pub(super) sandbox: Option<String>,
    /// `--tool`
    pub(super) tools: Option<Vec<String>>,
    pub(super) network: Option<bool>,
    /// `--allow-host`
    pub(super) allow_hosts: Option<Vec<String>>,
    pub(super) auto_approve: Option<bool>,
    /// `--ask`
    pub(super) ask: Option<String>,
    /// `--mcp`: an object with `servers`, or a list of them.
    pub(super) mcp: Option<Value>,
    /// `--image`
    pub(super) images: Option<Vec<Value>>,
    /// `--attach`
    pub(super) files: Option<Vec<Value>>,
    pub(super) system_prompt: Option<String>,
    pub(super) append_system_prompt: Option<String>,
    /// `--flag`
    pub(super) flags: BTreeMap<String, Value>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) resume: Option<String>,
    pub(super) continue_session: Option<bool>,
    /// Size of the terminal of a session.
    pub(super) terminal: Option<Value>,
    pub(super) profile: Option<String>,
}

impl PayloadArgs {
    /// With the current folder as the default one.
    fn in_folder(mut self, current: &Path) -> Self {
        if !self.names_folder() {
            self.cwd = Some(current.to_owned());
        }
        self
    }

    /// Whether `--cwd` or the payload file names the working folder.
    pub(super) fn names_folder(&self) -> bool {
        let base = self.base.as_ref().and_then(|base| base.get("cwd"));
        self.cwd.is_some() || base.is_some_and(|cwd| !cwd.is_null())
    }
}

/// Builds a start payload: `--payload`, overridden by the other arguments. The default folder is the current one.
///
/// The host checks ranges, names, and all fields of a payload file. This function only checks that members that must be
/// objects are objects. A profile may supply what is missing.
pub(super) fn build(args: PayloadArgs, current: &Path) -> Result<Value, ApiError> {
    message(args.in_folder(current))
}

/// The same for a session, which needs no prompt.
pub(super) fn session(args: PayloadArgs, current: &Path) -> Result<Value, ApiError> {
    part(args.in_folder(current))
}

/// Builds the payload of a conversation message. It needs a prompt, or a profile that may have one.
pub(super) fn message(args: PayloadArgs) -> Result<Value, ApiError> {
    // A file may contain the prompt under a misspelled name. Then the host reports the unknown name.
    let from_file = args.base.is_some();
    overlay(args, |payload, problems| {
        let missing = |name: &str| payload.get(name).is_none_or(Value::is_null);
        let host_reports = from_file && problems.is_empty();
        if !host_reports && missing("prompt") && missing("profileId") {
            let message = "is required: pass it as an argument, `-` for standard input, or --file FILE".to_owned();
            problems.push(Problem { pointer: "/prompt".to_owned(), message });
        }
    })
}

/// Builds a part of a start payload from the arguments, without defaults.
pub(super) fn part(args: PayloadArgs) -> Result<Value, ApiError> {
    overlay(args, |_, _| ())
}

fn overlay(args: PayloadArgs, check: impl FnOnce(&Map<String, Value>, &mut Vec<Problem>)) -> Result<Value, ApiError> {
    let mut payload = match args.base {
        None => Map::new(),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(ApiError::new(ErrorKind::InvalidParams, "the payload must be a JSON object")),
    };
    let cwd = args.cwd.map(|path| path_text(&path, "/cwd")).transpose()?;
    let folders = args.add_dirs.map(|folders| {
        folders.iter().map(|path| path_text(path, "/harness/additionalDirectories")).collect::<Result<Vec<_>, _>>()
    });
    let folders = folders.transpose()?;
    // NaN and infinity have no JSON form: they would become null and be ignored.
    if args.max_budget.is_some_and(|budget| !budget.is_finite()) {
        let message = "must be an amount in US dollars: 2.5".to_owned();
        return Err(ApiError::invalid(vec![Problem { pointer: "/harness/limits/maxBudgetUsd".to_owned(), message }]));
    }
    let mcp = args.mcp.map(|mcp| if mcp.is_array() { json!({ "servers": mcp }) } else { mcp });
    let fields: [(&[&str], Option<Value>); 28] = [
        (&["provider"], args.provider.map(Value::from)),
        (&["prompt"], args.prompt.map(Value::from)),
        (&["harness", "pipedContent"], args.piped.map(Value::from)),
        (&["title"], args.title.map(Value::from)),
        (&["cwd"], cwd.map(Value::from)),
        (&["model"], args.model.map(Value::from)),
        (&["profileId"], args.profile.map(Value::from)),
        (&["queuePriority"], args.priority.map(Value::from)),
        (&["terminal"], args.terminal),
        (&["timeoutSeconds"], args.timeout_seconds.map(Value::from)),
        (&["maxRetries"], args.retries.map(Value::from)),
        (&["harness", "structuredOutput", "schema"], args.schema),
        (&["harness", "permissions", "sandboxMode"], args.sandbox.map(Value::from)),
        (&["harness", "permissions", "networkAccess"], args.network.map(Value::from)),
        (&["harness", "permissions", "allowHosts"], args.allow_hosts.map(Value::from)),
        (&["harness", "permissions", "autoApprove"], args.auto_approve.map(Value::from)),
        (&["harness", "permissions", "approvalPolicy"], args.ask.map(Value::from)),
        (&["harness", "tools"], args.tools.map(Value::from)),
        (&["harness", "additionalDirectories"], folders.map(Value::from)),
        (&["harness", "limits", "maxTurns"], args.max_turns.map(Value::from)),
        (&["harness", "limits", "maxBudgetUsd"], args.max_budget.map(Value::from)),
        (&["harness", "images"], args.images.map(Value::from)),
        (&["harness", "files"], args.files.map(Value::from)),
        (&["harness", "mcp"], mcp),
        (&["harness", "systemPrompt"], args.system_prompt.map(Value::from)),
        (&["harness", "appendSystemPrompt"], args.append_system_prompt.map(Value::from)),
        (&["harness", "resumeSessionId"], args.resume.map(Value::from)),
        (&["harness", "continueSession"], args.continue_session.map(Value::from)),
    ];
    let mut problems = Vec::new();
    for (path, value) in fields {
        if let Some(value) = value {
            set(&mut payload, path, value, &mut problems);
        }
    }
    for (name, value) in args.flags {
        set(&mut payload, &["optionalFlags", &name], value, &mut problems);
    }
    for (name, value) in args.env {
        set(&mut payload, &["harness", "processEnv", &name], json!(value), &mut problems);
    }
    check(&payload, &mut problems);
    if problems.is_empty() { Ok(Value::Object(payload)) } else { Err(ApiError::invalid(problems)) }
}

/// Sets a value at a path, and creates missing objects on the way.
fn set(at: &mut Map<String, Value>, path: &[&str], value: Value, problems: &mut Vec<Problem>) {
    let mut at = at;
    let mut pointer = String::new();
    let Some((last, parents)) = path.split_last() else { return };
    for name in parents {
        pointer.push('/');
        pointer.push_str(name);
        let next = at.entry((*name).to_owned()).or_insert(Value::Null);
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        let Value::Object(members) = next else {
            problems.push(Problem { pointer, message: "must be an object".to_owned() });
            return;
        };
        at = members;
    }
    at.insert((*last).to_owned(), value);
}

fn path_text(path: &Path, pointer: &str) -> Result<String, ApiError> {
    let text = path.to_str().ok_or_else(|| {
        let message = format!("the folder {} cannot be used: its name is not valid UTF-8", path.display());
        ApiError::new(ErrorKind::InvalidParams, message).at(pointer)
    })?;
    Ok(text.to_owned())
}

/// Reads `--flag`: `NAME=VALUE`, or `NAME` for a switch. Several values make a list.
pub(super) fn parse_flags(texts: &[String]) -> Result<BTreeMap<String, Value>, ApiError> {
    let mut flags: BTreeMap<String, Value> = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.as_str(), None),
        };
        if name.trim_start_matches('-').is_empty() {
            let message = "needs the name of a flag: --flag NAME, or --flag NAME=VALUE".to_owned();
            return Err(ApiError::invalid(vec![Problem { pointer: "/optionalFlags".to_owned(), message }]));
        }
        let name = if name.starts_with('-') { name.to_owned() } else { format!("--{name}") };
        let value = match value {
            None => json!(true),
            Some(value) => match serde_json::from_str(value) {
                Ok(scalar @ (Value::Bool(_) | Value::Number(_))) => scalar,
                _ => json!(value),
            },
        };
        match flags.remove(&name) {
            None => flags.insert(name, value),
            Some(before) => {
                let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let mut list = match before {
                    Value::Array(list) => list,
                    one => vec![json!(text(one))],
                };
                list.push(json!(text(value)));
                flags.insert(name, Value::Array(list))
            }
        };
    }
    Ok(flags)
}

/// Reads `--env`: `NAME=VALUE`, or `NAME` for the caller's own value.
pub(super) fn parse_env(
    texts: &[String],
    caller: impl Fn(&str) -> Result<String, std::env::VarError>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut env = BTreeMap::new();
    let mut problems = Vec::new();
    let mut refuse = |message: String| problems.push(Problem { pointer: "/harness/processEnv".to_owned(), message });
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Ok(value.to_owned())),
            None => (text.as_str(), caller(text)),
        };
        if name.is_empty() {
            refuse("--env needs a name before the `=`".to_owned());
            continue;
        }
        match value {
            Ok(value) => {
                env.insert(name.to_owned(), value);
            }
            Err(std::env::VarError::NotPresent) => {
                refuse(format!("--env {name}: the variable is not set here; write --env {name}=VALUE"));
            }
            Err(std::env::VarError::NotUnicode(_)) => refuse(format!("--env {name}: its value is not valid UTF-8")),
        }
    }
    if problems.is_empty() { Ok(env) } else { Err(ApiError::invalid(problems)) }
}

/// Sets the field with this dotted name to null.
pub(super) fn clear(overrides: &mut Value, field: &str) -> Result<(), ApiError> {
    let wrong = |message: String| ApiError::new(ErrorKind::InvalidParams, format!("--clear {field:?}: {message}"));
    if field.split('.').any(str::is_empty) {
        return Err(wrong("expected a field, or a path to one with dots: harness.limits.maxTurns".to_owned()));
    }
    let mut at = overrides;
    let mut names = field.split('.').peekable();
    while let Some(name) = names.next() {
        let Value::Object(members) = at else {
            return Err(wrong(format!("another option sets what contains {name:?}")));
        };
        let last = names.peek().is_none();
        if last && members.get(name).is_some_and(|value| !value.is_null()) {
            return Err(wrong("another option sets it".to_owned()));
        }
        at = members.entry(name).or_insert_with(|| if last { Value::Null } else { Value::Object(Map::new()) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_schema::validate_document;

    use super::*;
    use ostler_protocol::StartPayload;

    fn build_here(args: PayloadArgs) -> Result<Value, ApiError> {
        build(args, Path::new("/here"))
    }

    fn args() -> PayloadArgs {
        PayloadArgs { provider: Some("codex".to_owned()), prompt: Some("hi".to_owned()), ..PayloadArgs::default() }
    }

    #[test]
    fn each_argument_sets_its_field() {
        let text = |text: &str| Some(text.to_owned());
        let base = json!({"provider": "codex", "prompt": "hi", "cwd": "/here"});
        let table: Vec<(PayloadArgs, &str, Value)> = vec![
            (args(), "/provider", json!("codex")),
            (args(), "/prompt", json!("hi")),
            (args(), "/cwd", json!("/here")),
            (PayloadArgs { cwd: Some("/there".into()), ..args() }, "/cwd", json!("/there")),
            (PayloadArgs { piped: text("a log"), ..args() }, "/harness/pipedContent", json!("a log")),
            (PayloadArgs { model: text("m"), ..args() }, "/model", json!("m")),
            (PayloadArgs { priority: Some(-3), ..args() }, "/queuePriority", json!(-3)),
            (PayloadArgs { timeout_seconds: Some(90), ..args() }, "/timeoutSeconds", json!(90)),
            (PayloadArgs { retries: Some(2), ..args() }, "/maxRetries", json!(2)),
            (
                PayloadArgs { schema: Some(json!({"type": "object"})), ..args() },
                "/harness/structuredOutput/schema",
                json!({"type": "object"}),
            ),
            (
                PayloadArgs { sandbox: text("read-only"), ..args() },
                "/harness/permissions/sandboxMode",
                json!("read-only"),
            ),
            (PayloadArgs { network: Some(true), ..args() }, "/harness/permissions/networkAccess", json!(true)),
            (
                PayloadArgs { allow_hosts: Some(vec!["a.example".to_owned()]), ..args() },
                "/harness/permissions/allowHosts",
                json!(["a.example"]),
            ),
            (PayloadArgs { title: text("a title"), ..args() }, "/title", json!("a title")),
            (PayloadArgs { max_turns: Some(3), ..args() }, "/harness/limits/maxTurns", json!(3)),
            (PayloadArgs { max_budget: Some(2.5), ..args() }, "/harness/limits/maxBudgetUsd", json!(2.5)),
            (PayloadArgs { system_prompt: text("be brief"), ..args() }, "/harness/systemPrompt", json!("be brief")),
            (PayloadArgs { continue_session: Some(true), ..args() }, "/harness/continueSession", json!(true)),
            (
                PayloadArgs { add_dirs: Some(vec!["/more".into()]), ..args() },
                "/harness/additionalDirectories",
                json!(["/more"]),
            ),
            (
                PayloadArgs {
                    images: Some(vec![json!({"name": "a.png", "mimeType": "image/png", "path": "/a.png"})]),
                    ..args()
                },
                "/harness/images",
                json!([{"name": "a.png", "mimeType": "image/png", "path": "/a.png"}]),
            ),
            (
                PayloadArgs { flags: BTreeMap::from([("--effort".to_owned(), json!("high"))]), ..args() },
                "/optionalFlags",
                json!({"--effort": "high"}),
            ),
            (PayloadArgs { resume: text("s1"), ..args() }, "/harness/resumeSessionId", json!("s1")),
            (PayloadArgs { profile: text("fast"), ..args() }, "/profileId", json!("fast")),
            (
                PayloadArgs { env: BTreeMap::from([("A".to_owned(), "b".to_owned())]), ..args() },
                "/harness/processEnv",
                json!({"A": "b"}),
            ),
        ];
        for (args, pointer, value) in table {
            let payload = build_here(args).unwrap();
            assert_eq!(payload.pointer(pointer), Some(&value), "{pointer}");
            validate_document::<StartPayload>(payload.clone()).unwrap_or_else(|error| panic!("{pointer}: {error}"));
            // And nothing else is touched.
            for (name, expected) in base.as_object().unwrap() {
                assert!(payload[name] == *expected || pointer == format!("/{name}"), "{pointer} changed {name}");
            }
            assert!(payload.as_object().unwrap().len() <= 4, "{payload}");
        }
    }

    #[test]
    fn arguments_override_the_payload_file() {
        let base = json!({
            "provider": "a", "prompt": "b", "cwd": "/c", "profileId": "p",
            "harness": {"permissions": {"sandboxMode": "read-only", "networkAccess": false}, "processEnv": null}
        });
        let payload = build_here(PayloadArgs {
            base: Some(base.clone()),
            prompt: Some("new".to_owned()),
            sandbox: Some("workspace-write".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            ..PayloadArgs::default()
        })
        .unwrap();
        let expected = json!({
            "provider": "a", "prompt": "new", "cwd": "/c", "profileId": "p",
            "harness": {
                "permissions": {"sandboxMode": "workspace-write", "networkAccess": false}, "processEnv": {"A": "b"}
            }
        });
        assert_eq!(payload, expected);
        let untouched = build_here(PayloadArgs { base: Some(base.clone()), ..PayloadArgs::default() }).unwrap();
        assert_eq!(untouched, base);
    }

    #[test]
    fn reports_problems_before_the_request() {
        let error = build_here(PayloadArgs {
            base: Some(json!({"harness": {"permissions": 5, "processEnv": []}})),
            sandbox: Some("read-only".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            ..PayloadArgs::default()
        })
        .unwrap_err();
        let pointers: Vec<&str> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/harness/permissions", "/harness/processEnv", "/prompt"]);
        let error = build_here(PayloadArgs { base: Some(json!([])), ..args() }).unwrap_err();
        assert_eq!(error.message, "the payload must be a JSON object");
    }

    #[test]
    fn parses_flags_as_switches_values_or_lists() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let flags = parse_flags(&texts(&["bare", "--effort=high", "n=5", "--add=a=b", "add=7", "-x=false"])).unwrap();
        let expected = json!({"--bare": true, "--effort": "high", "--n": 5, "--add": ["a=b", "7"], "-x": false});
        assert_eq!(json!(flags), expected);
        for wrong in ["", "--", "=x", "-=1"] {
            assert!(parse_flags(&texts(&[wrong])).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rejects_a_budget_that_is_not_a_number() {
        for budget in [f64::NAN, f64::INFINITY] {
            let error = build_here(PayloadArgs { max_budget: Some(budget), ..args() }).unwrap_err();
            assert_eq!(error.pointer.as_deref(), Some("/harness/limits/maxBudgetUsd"));
        }
    }

    #[test]
    fn reads_variables_from_argument_or_caller() {
        let caller = |name: &str| match name {
            "HERE" => Ok("here".to_owned()),
            "RAW" => Err(std::env::VarError::NotUnicode("x".into())),
            _ => Err(std::env::VarError::NotPresent),
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let env = parse_env(&texts(&["A=b=c", "HERE", "EMPTY="]), caller).unwrap();
        let expected = [("A", "b=c"), ("EMPTY", ""), ("HERE", "here")];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let error = parse_env(&texts(&["=x", "GONE", "RAW"]), caller).unwrap_err();
        assert_eq!(error.problems.len(), 3, "{error:?}");
    }

    #[test]
    fn clears_fields_by_dotted_name() {
        let mut overrides = json!({"prompt": "p", "harness": {"tools": []}});
        for field in ["model", "harness.limits.maxTurns", "model"] {
            clear(&mut overrides, field).unwrap();
        }
        let expected = json!({
            "prompt": "p", "harness": {"tools": [], "limits": {"maxTurns": null}}, "model": null
        });
        assert_eq!(overrides, expected);
        for field in ["", "a..b", "prompt", "prompt.x", "harness", "model.x"] {
            assert_eq!(clear(&mut overrides, field).unwrap_err().kind, ErrorKind::InvalidParams, "{field:?}");
        }
        assert_eq!(overrides, expected);
    }
}
