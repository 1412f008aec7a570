//! Calls every method of the document in every way that it lists, over one channel.

use super::channel::Channel;
use super::document::Document;
use crate::support::guests::{Guest, TRAP, hostile};
use crate::support::{TIMEOUT, TestHost, end_of, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// An id that does not exist.
pub const UNKNOWN_ID: &str = "0199c0de-0000-7000-8000-000000000000";

/// A host with providers that work and providers that are broken.
pub struct ContractHost {
    pub host: TestHost,
    /// Each broken provider, with a conversation and a run from before it broke.
    broken: Vec<Broken>,
}

struct Broken {
    provider: &'static str,
    conversation: Value,
    run: String,
    /// The error kind of a start.
    kind: &'static str,
}

/// The common configuration: one run at a time, so that the tests know which runs wait; tokens in a file, because a CI
/// machine has no keyring.
const COMMON: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[tokens]\nstore = \"file\"\n\
    [scheduler]\nglobal = 1\ncapacity = 2\n[providers.other]\nplugin = \"rehearsal\"\n\
    [providers.shell]\nplugin = \"command\"\nexecutable = \"sh\"\nsettings = { terminalArgs = [\"-i\"] }\n";

impl ContractHost {
    /// Starts the host.
    pub fn start() -> Self {
        const BROKEN: [(&str, &str); 3] =
            [("missing", "CLI_MISSING"), ("mute", "PROVIDER_BLOCKED"), ("broken", "PLUGIN_FAILED")];
        let well = BROKEN.map(|(name, _)| format!("[providers.{name}]\nplugin = \"rehearsal\"\n")).concat();
        let host = TestHost::granted(&format!("{COMMON}{well}"));
        let broken = BROKEN.map(|(provider, kind)| {
            let run = host.detach(&[provider, "SAY before"]);
            host.wait_for_end(&run);
            let conversation = host.call("create_conversation", &json!({ "provider": provider })).unwrap();
            Broken { provider, conversation: conversation["conversationId"].clone(), run, kind }
        });
        host.stop();
        let mute = program(&host, "mute", "exit 0");
        program(&host, "fleeting", "cat");
        host.configure(&format!(
            "{COMMON}[providers.missing]\nplugin = \"codex\"\nexecutable = \"{0}/none\"\n\
             [providers.mute]\nplugin = \"codex\"\nexecutable = \"{mute}\"\n\
             [providers.broken]\nplugin = \"no-such-plugin\"\n\
             [providers.fleeting]\nplugin = \"command\"\nexecutable = \"{0}/fleeting\"\n",
            host.root().display()
        ));
        host.ensure_running();
        Self { host, broken: broken.into() }
    }
}

/// A shell script outside the working folder; gives its path.
fn program(host: &TestHost, name: &str, script: &str) -> String {
    let path = host.root().join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Calls the methods and checks the answers against the document.
pub struct ContractWalk<'a> {
    contract_host: &'a ContractHost,
    channel: &'a mut dyn Channel,
    document: Document,
    /// For each method, `ok` if it succeeded, and the error kinds that it returned.
    seen: BTreeSet<(String, String)>,
}

impl<'a> ContractWalk<'a> {
    pub fn begin(contract_host: &'a ContractHost, channel: &'a mut dyn Channel) -> Self {
        let discovered = channel.call("rpc.discover", &json!({})).unwrap();
        Self { contract_host, channel, document: Document::read(&discovered), seen: BTreeSet::new() }
    }

    /// The methods and events that the document names.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Calls, and checks parameters and result against the document. The first successful call of a method is by
    /// position, all others are by name.
    #[track_caller]
    pub fn ok(&mut self, method: &str, params: Value) -> Value {
        let first = !self.seen.contains(&(method.to_owned(), "ok".to_owned()));
        let list = self.document.by_position(method, &params).filter(|list| first && !list.is_empty());
        let sent = list.map_or_else(|| params.clone(), Value::from);
        let result = self.channel.call(method, &sent);
        let result = result.unwrap_or_else(|error| panic!("{method} {params}: {error}"));
        self.document.check_call(method, &params, &result);
        self.seen.insert((method.to_owned(), "ok".to_owned()));
        result
    }

    /// Calls, and checks that the call fails with this error kind.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value, kind: &str) -> Value {
        let error = self.channel.call(method, &params).expect_err(method);
        assert_eq!(self.document.check_error(method, &error), kind, "{method} {params}: {error}");
        self.seen.insert((method.to_owned(), kind.to_owned()));
        error
    }

    /// The host.
    pub fn host(&self) -> &'a TestHost {
        &self.contract_host.host
    }

    /// Each broken provider with an ended run of it, and the error kind of a start.
    pub fn broken(&self) -> Vec<(&'static str, String, &'static str)> {
        self.contract_host.broken.iter().map(|broken| (broken.provider, broken.run.clone(), broken.kind)).collect()
    }

    /// Payloads that are refused, and the error kind.
    pub fn refused_payloads(&self) -> [(Value, &'static str); 3] {
        [
            (json!({ "optionalFlags": { "--no-such-flag": true } }), "POLICY_DENIED"),
            (
                json!({ "provider": "fleeting", "harness": { "permissions": { "approvalPolicy": "untrusted" } } }),
                "UNENFORCEABLE",
            ),
            (json!({ "cwd": self.contract_host.host.root().join("nowhere") }), "CWD_MISSING"),
        ]
    }

    /// A run that has ended and whose session is known.
    pub fn ended_run(&self) -> String {
        let filter = json!({ "provider": "rehearsal", "status": "completed", "cwd": self.work() });
        let runs = self.host().call("list_runs", &filter).unwrap();
        runs["items"][0]["runId"].as_str().unwrap().to_owned()
    }

    fn work(&self) -> Value {
        json!(self.contract_host.host.work())
    }

    /// A start payload of the rehearsal; members of `more` override it.
    pub fn payload(&self, prompt: &str, more: Value) -> Value {
        self.contract_host.host.payload(prompt, &more)
    }

    /// Starts a run and waits for its end.
    #[track_caller]
    pub fn run(&mut self, prompt: &str, more: Value) -> String {
        let run = self.start(prompt, more);
        self.wait_for_end(&run);
        run
    }

    #[track_caller]
    pub fn start(&mut self, prompt: &str, more: Value) -> String {
        let started = self.ok("start_run", self.payload(prompt, more));
        started["runId"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn wait_for_end(&mut self, run: &str) -> Value {
        let events = self.contract_host.host.wait_for_end(run);
        end_of(&events).unwrap().clone()
    }

    /// Starts a run that occupies the only slot until it is canceled.
    pub fn occupy_slot(&mut self) -> String {
        let run = self.start("SLOW 600", json!({}));
        self.contract_host.host.wait_for_count("running", 1);
        run
    }

    /// New provider plugins, which wait for their approval.
    fn plugins(&mut self) {
        let folder = self.contract_host.host.home().join("plugins");
        let newcomer = hostile::prober("newcomer", "no-such-program", &["--version"]);
        let faulty = Guest { name: "faulty", configure: TRAP, ..Guest::default() }.provider();
        fs::create_dir_all(&folder).unwrap();
        for (name, component) in [("newcomer", newcomer), ("faulty", faulty)] {
            fs::write(folder.join(format!("{name}.wasm")), component).unwrap();
        }
        self.ok("reload", json!({}));
        let seen = self.ok("trust_plugin", json!({ "name": "newcomer" }));
        assert_eq!(seen["approved"], false);
        self.refused("trust_plugin", json!({ "name": "newcomer", "digest": "00" }), "CONFLICT");
        self.ok("trust_plugin", json!({ "name": "newcomer", "digest": seen["digest"] }));
        self.refused("trust_plugin", json!({ "name": "newcomer" }), "NOT_FOUND");
        self.refused("trust_plugin", json!({ "name": "faulty" }), "PLUGIN_FAILED");
        fs::remove_file(folder.join("newcomer.wasm")).unwrap();
        fs::remove_file(folder.join("faulty.wasm")).unwrap();
        self.ok("reload", json!({}));
    }

    /// The methods that a front end calls on a host without runs, and their errors.
    pub fn methods_without_runs(&mut self) {
        for method in self.document.methods().map(str::to_owned).collect::<Vec<_>>() {
            let error = self.refused(&method, json!({ "noSuchParameter": 1 }), "INVALID_PARAMS");
            assert!(error.to_string().contains("noSuchParameter"), "{method}: {error}");
        }
        self.ok("get_status", json!({}));
        self.ok("get_settings", json!({}));
        self.ok("get_settings", json!({ "origins": true }));
        self.ok("update_settings", json!({ "patch": { "scheduler": { "agingSeconds": 31 } }, "origins": true }));
        self.ok("update_settings", json!({ "patch": { "scheduler": { "agingSeconds": null } } }));
        self.refused("update_settings", json!({ "patch": { "scheduler": { "global": 0 } } }), "INVALID_PARAMS");
        self.ok("create_access_token", json!({ "name": "ci", "accessClass": "read", "expiresInSeconds": 3600 }));
        self.refused("create_access_token", json!({ "name": "ci" }), "CONFLICT");
        self.refused("create_access_token", json!({ "name": "a b" }), "INVALID_PARAMS");
        self.ok("list_access_tokens", json!({}));
        self.ok("revoke_access_token", json!({ "name": "ci" }));
        self.refused("revoke_access_token", json!({ "name": "ci" }), "NOT_FOUND");
        self.ok("list_audit", json!({ "kind": "access", "limit": 5 }));
        self.ok("list_audit", json!({ "after": 0 }));
        self.ok("verify_audit", json!({}));
        self.ok("prune_audit", json!({ "olderThanDays": 1 }));
        self.ok("reload", json!({}));
        self.ok("list_plugins", json!({}));
        self.plugins();
        self.ok("list_capabilities", json!({}));
        self.ok("list_capabilities", json!({ "refresh": true, "provider": "missing" }));
        self.refused("list_capabilities", json!({ "provider": "nobody" }), "NOT_FOUND");

        let folder = self.contract_host.host.root().join("granted");
        fs::create_dir(&folder).unwrap();
        self.ok("grant_workspace", json!({ "path": folder }));
        self.ok("list_workspace_grants", json!({}));
        self.ok("revoke_workspace", json!({ "path": folder }));
        self.refused("revoke_workspace", json!({ "path": folder }), "NOT_FOUND");
        self.refused("grant_workspace", json!({ "path": folder.join("none") }), "CWD_MISSING");
        fs::remove_dir(&folder).unwrap();
    }

    /// Profiles, tokens and retention.
    pub fn stored_settings(&mut self) {
        let config = json!({ "timeoutSeconds": 60 });
        let profile = json!({ "name": "short", "provider": "rehearsal", "config": config });
        let id = self.ok("save_profile", profile.clone())["profileId"].clone();
        self.refused("save_profile", profile, "CONFLICT");
        let changed = json!({ "id": id, "name": "short", "provider": "rehearsal", "config": config });
        self.ok("save_profile", changed);
        let unknown = json!({ "id": UNKNOWN_ID, "name": "x", "provider": "rehearsal", "config": {} });
        self.refused("save_profile", unknown, "NOT_FOUND");
        self.ok("list_profiles", json!({ "provider": "rehearsal" }));
        // The profile supplies the provider.
        let bare = json!({ "prompt": "SAY profile", "cwd": self.work(), "profileId": id });
        let run = self.ok("start_run", bare)["runId"].as_str().unwrap().to_owned();
        self.wait_for_end(&run);
        self.ok("delete_profile", json!({ "profileId": id }));
        self.refused("delete_profile", json!({ "profileId": id }), "NOT_FOUND");
        self.refused("start_run", self.payload("SAY x", json!({ "profileId": id })), "NOT_FOUND");

        for (method, more) in
            [("save_provider_token", json!({ "token": "a-token-of-some-length" })), ("has_provider_token", json!({}))]
        {
            let with = |provider: &str| {
                let mut params = json!({ "provider": provider });
                params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                params
            };
            assert_eq!(self.ok(method, with("rehearsal"))["stored"], true);
            self.refused(method, with("nobody"), "NOT_FOUND");
            self.refused(method, with("broken"), "PLUGIN_FAILED");
        }
        assert_eq!(self.ok("clear_provider_token", json!({ "provider": "rehearsal" }))["stored"], false);
        self.refused("clear_provider_token", json!({ "provider": "nobody" }), "NOT_FOUND");

        self.ok("get_retention", json!({}));
        self.ok("set_retention", json!({ "scope": "provider", "name": "rehearsal", "days": 9 }));
        self.refused("set_retention", json!({ "scope": "provider", "name": "nobody", "days": 9 }), "NOT_FOUND");
        self.ok("unset_retention", json!({ "scope": "provider", "name": "rehearsal" }));
        self.refused("unset_retention", json!({ "scope": "provider", "name": "rehearsal" }), "NOT_FOUND");
        self.ok("apply_retention", json!({ "dryRun": true }));
    }

    /// The methods that start a run, and their errors.
    pub fn submits(&mut self) {
        let secret = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
        let run = self.run("SAY something", json!({}));
        // Asks the proxy of the run for a host that is not allowed.
        let asks = "import urllib.request as u; u.urlopen('http://model.invalid/')";
        self.run(&format!("RUN python3 -c \"{asks}\" || true"), json!({}));
        let lost = self.run(&format!("SAY {secret}"), json!({}));
        let conversation = self.ok("create_conversation", json!({ "provider": "rehearsal" }))["conversationId"].clone();
        let archived = self.ok("create_conversation", json!({ "provider": "rehearsal" }))["conversationId"].clone();
        self.ok("archive_conversation", json!({ "conversationId": archived, "archived": true }));

        let work = self.work();
        let message = |conversation: &Value, more: Value| {
            let mut params = json!({ "conversationId": conversation, "prompt": "SAY x", "cwd": work });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        };
        let other = self.ok("create_conversation", json!({ "provider": "fleeting" }))["conversationId"].clone();
        for (more, kind) in self.refused_payloads() {
            self.refused("start_run", self.payload("SAY x", more.clone()), kind);
            // The provider of a message is that of its conversation.
            let mut fields = more.clone();
            let own = fields.as_object_mut().unwrap().remove("provider").is_none();
            let conversation = if own { &conversation } else { &other };
            self.refused("send_conversation_message", message(conversation, fields), kind);
            self.refused("rerun", json!({ "runId": run, "overrides": more }), kind);
        }
        for broken in &self.contract_host.broken {
            let payload = self.payload("SAY x", json!({ "provider": broken.provider }));
            self.refused("start_run", payload, broken.kind);
            self.refused("send_conversation_message", message(&broken.conversation, json!({})), broken.kind);
            self.refused("rerun", json!({ "runId": broken.run }), broken.kind);
        }
        self.refused("start_run", self.payload("SAY x", json!({ "provider": "nobody" })), "NOT_FOUND");
        self.refused("send_conversation_message", message(&json!(UNKNOWN_ID), json!({})), "NOT_FOUND");
        self.refused("rerun", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        self.refused("send_conversation_message", message(&archived, json!({})), "CONFLICT");
        self.refused("rerun", json!({ "runId": lost }), "CONFLICT");
        self.refused("create_conversation", json!({ "provider": "nobody" }), "NOT_FOUND");

        // One run is running and two wait: the queue is full.
        let runs = [self.occupy_slot(), self.start("SAY x", json!({})), self.start("SAY x", json!({}))];
        self.refused("start_run", self.payload("SAY x", json!({})), "QUEUE_FULL");
        self.refused("send_conversation_message", message(&conversation, json!({})), "QUEUE_FULL");
        self.refused("rerun", json!({ "runId": run }), "QUEUE_FULL");
        self.refused("stop", json!({ "ifIdle": true }), "CONFLICT");
        self.ok("list_queue_jobs", json!({}));
        self.ok("list_queue_jobs", json!({ "state": "ready" }));
        self.ok("set_queue_priority", json!({ "runId": runs[1], "priority": -3 }));
        self.refused("set_queue_priority", json!({ "runId": runs[1], "priority": 11 }), "INVALID_PARAMS");
        self.refused("set_queue_priority", json!({ "runId": runs[0], "priority": 1 }), "CONFLICT");
        self.refused("set_queue_priority", json!({ "runId": UNKNOWN_ID, "priority": 1 }), "NOT_FOUND");
        self.refused("delete_run", json!({ "runId": runs[0] }), "CONFLICT");
        for method in ["pause_queue", "resume_queue"] {
            self.ok(method, json!({ "provider": "rehearsal" }));
            self.refused(method, json!({ "provider": "nobody" }), "NOT_FOUND");
            self.ok(method, json!({}));
        }
        for run in runs.iter().rev() {
            self.ok("cancel_run", json!({ "runId": run }));
        }
        self.ok("cancel_run", json!({ "runId": runs[0] }));
        self.refused("cancel_run", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        self.refused("delete_run", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        self.ok("delete_run", json!({ "runId": runs[2] }));
        self.refused("delete_run", json!({ "runId": runs[2] }), "NOT_FOUND");
        let after = |run: &str| self.payload("SAY x", json!({ "startAfter": { "runIds": [run] } }));
        let (canceled, nobody) = (after(&runs[0]), after(UNKNOWN_ID));
        self.refused("start_run", canceled, "CONFLICT");
        self.refused("start_run", nobody, "NOT_FOUND");

        let sent = self.ok("send_conversation_message", message(&conversation, json!({})))["runId"].clone();
        self.wait_for_end(sent.as_str().unwrap());
        let again = self.ok("rerun", json!({ "runId": sent, "overrides": { "prompt": "SAY again" } }))["runId"].clone();
        self.wait_for_end(again.as_str().unwrap());
        self.conversation(&conversation);
        self.read_run(&run);
    }

    fn conversation(&mut self, conversation: &Value) {
        self.ok("list_conversations", json!({ "provider": "rehearsal", "includeArchived": true, "search": "talk" }));
        self.ok("get_conversation", json!({ "conversationId": conversation }));
        self.ok("rename_conversation", json!({ "conversationId": conversation, "title": "another" }));
        self.ok("update_conversation", json!({ "conversationId": conversation, "metadata": { "colour": "red" } }));
        self.ok("archive_conversation", json!({ "conversationId": conversation }));
        let ended = self.ok("create_conversation", json!({ "provider": "rehearsal" }))["conversationId"].clone();
        self.ok("delete_conversation", json!({ "conversationId": ended }));
        let blocker = self.occupy_slot();
        let message = json!({ "conversationId": conversation, "prompt": "SAY x" });
        self.ok("archive_conversation", json!({ "conversationId": conversation, "archived": false }));
        let waits = self.ok("send_conversation_message", message)["runId"].clone();
        self.refused("delete_conversation", json!({ "conversationId": conversation }), "CONFLICT");
        self.ok("cancel_run", json!({ "runId": waits }));
        self.ok("cancel_run", json!({ "runId": blocker }));
        for (method, more) in [
            ("delete_conversation", json!({})),
            ("get_conversation", json!({})),
            ("rename_conversation", json!({ "title": "x" })),
            ("update_conversation", json!({ "title": "x" })),
            ("archive_conversation", json!({})),
        ] {
            let mut params = more;
            params["conversationId"] = json!(UNKNOWN_ID);
            self.refused(method, params, "NOT_FOUND");
        }
    }

    fn read_run(&mut self, run: &str) {
        self.ok("list_runs", json!({}));
        let search = json!({ "provider": "rehearsal", "status": "completed", "search": "say", "limit": 2, "offset": 1,
                "cwd": self.work() });
        self.ok("list_runs", search);
        self.ok("get_run", json!({ "runId": run }));
        self.refused("get_run", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        self.ok("get_run_events", json!({ "runId": run, "after": 0, "limit": 2 }));
        self.refused("get_run_events", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        let path = self.contract_host.host.work().join("answer.txt");
        self.ok("export_run", json!({ "runId": run, "format": "txt", "path": path }));
        self.refused("export_run", json!({ "runId": run, "format": "txt", "path": path }), "CONFLICT");
        self.refused("export_run", json!({ "runId": UNKNOWN_ID, "format": "md" }), "NOT_FOUND");
        for format in ["md", "json", "jsonl"] {
            self.ok("export_run", json!({ "runId": run, "format": format }));
        }
        // The result is different for a run with artifacts.
        self.ok("get_run", json!({ "runId": run }));
        fs::remove_file(path).unwrap();

        if self.channel.stays() {
            let stream = self.ok("subscribe", json!({ "after": 0, "runId": run, "types": ["run.completed"] }));
            self.ok("unsubscribe", json!({ "subscriptionId": stream["subscriptionId"] }));
            self.refused("unsubscribe", json!({ "subscriptionId": 9_999 }), "NOT_FOUND");
            self.refused("subscribe", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        } else {
            self.refused("unsubscribe", json!({ "subscriptionId": 1 }), "CONFLICT");
        }
        self.refused("subscribe", json!({ "after": 9_000_000_000_u64 }), "CONFLICT");
    }

    /// A run for every event that the calls before have not caused.
    pub fn events(&mut self) {
        let wants = json!({ "structuredOutput": { "schema": {
            "type": "object", "properties": { "answer": { "type": "integer" } }, "required": ["answer"]
        } } });
        self.run(r#"JSON {"answer": 42}"#, json!({ "harness": wants }));
        self.run(r#"JSON {"answer": "no"}"#, json!({ "harness": wants }));
        let servers = json!({ "mcp": { "servers": [{ "name": "m", "command": "true" }] } });
        self.run("SAY more than it can", json!({ "harness": servers }));
        self.run("FAILONCE transient", json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        self.run("RUN echo out; echo err >&2", json!({}));
        program(&self.contract_host.host, "fleeting", "cat; echo beside >&2; head -c 200000 /dev/zero | tr '\\0' x");
        self.run("to a program", json!({ "provider": "fleeting" }));

        // The folder and the program exist at the submit, and are removed before the start.
        let folder = self.contract_host.host.work().join("gone");
        fs::create_dir(&folder).unwrap();
        let blocker = self.occupy_slot();
        let orphans = [
            self.start("SAY x", json!({ "cwd": folder, "provider": "other" })),
            self.start("SAY x", json!({ "provider": "fleeting" })),
        ];
        fs::remove_dir(&folder).unwrap();
        fs::remove_file(self.contract_host.host.root().join("fleeting")).unwrap();
        self.ok("cancel_run", json!({ "runId": blocker }));
        for run in orphans {
            self.wait_for_end(&run);
        }
    }

    /// Checks every stored event against the document, and gives their types.
    pub fn check_events(&mut self) -> BTreeSet<String> {
        let events = self.channel.events();
        let mut kinds = BTreeSet::new();
        for event in &events {
            self.document.check_event(event);
            kinds.insert(event["type"].as_str().unwrap().to_owned());
        }
        assert!(events.windows(2).all(|pair| pair[0]["cursor"].as_u64() < pair[1]["cursor"].as_u64()));
        kinds
    }

    /// Stops the host, which accepts no run while it waits for a stubborn one. Gives the document and the results of
    /// all calls.
    pub fn end(mut self) -> (Document, BTreeSet<(String, String)>) {
        let run = self.start("STUBBORN 60", json!({}));
        self.contract_host.host.wait_for_count("running", 1);
        wait_until("the agent to be at work", TIMEOUT, || {
            self.contract_host.host.run_events(&run).iter().any(|event| event["type"] == "run.semantic").then_some(())
        });
        self.ok("stop", json!({}));
        self.refused("start_run", self.payload("SAY x", json!({})), "CONFLICT");
        (self.document, self.seen)
    }
}
