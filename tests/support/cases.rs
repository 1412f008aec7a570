//! Tests that every agent CLI must pass. Each function is the body of one test; [`suite`] makes the tests of one CLI.

use super::guests::{hostile::WORD, tools};
use super::{
    AgentFixture, SecretProbe, TIMEOUT, agent_fixture::KEY, answer, carrying, check_run_events, end_of,
    model_server::Secrets, of_type, semantics, tool_outputs, warning_codes,
};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// The longest that a process of a run may outlive it.
const CLEANUP_LIMIT: Duration = Duration::from_secs(2);

/// Makes the common tests for the CLI in this static. If the CLI is missing, they print SKIPPED and pass.
macro_rules! suite {
    ($cli:path) => {
        $crate::support::cases::suite! { $cli:
            plain_message_reports_answer_and_usage, model_and_instructions_reach_the_agent, tool_call_is_reported, attachments_reach_the_model, shells_get_the_prelude_and_the_allowlist,
            mcp_server_is_started_and_called, denied_tool_use_warns_or_ends_the_run, structured_output_is_validated, refused_login_is_not_retried, rate_limited_request_is_retried, failing_server_is_retried,
            cancel_during_the_answer_leaves_no_process, cancel_during_a_tool_leaves_no_process, sessions_are_resumed, conversation_survives_a_restart_and_a_lost_session, usage_covers_only_the_attempt, long_and_flag_like_prompts_reach_the_model, four_runs_at_once_do_not_mix,
            secrets_are_redacted_everywhere, escapes_fail_in_every_mode_and_back_end, login_can_be_refreshed_and_settings_stay
        }
    };
    ($cli:path: $($case:ident),*) => {
        /// The cases that every agent CLI shares.
        mod shared {
            $(
                #[test]
                fn $case() {
                    if let Some(fixture) = $crate::support::AgentFixture::open(&$cli) {
                        $crate::support::cases::$case(&fixture);
                    }
                }
            )*
        }
    };
}
pub(crate) use suite;

/// The answer, the usage, and the requests to the model.
#[track_caller]
pub fn plain_message_reports_answer_and_usage(fixture: &AgentFixture) {
    let done = fixture.host.run(&["run", fixture.cli.name, "SAY hello from the script"]).ok();
    assert_eq!(done.stdout, "hello from the script\n");
    let events = fixture.events(&["USAGE 120 7"]);
    assert_eq!(answer(&events), "counted");
    let usage = semantics(&events, "usage");
    assert!(usage.iter().any(|usage| usage["inputTokens"] == 120 && usage["outputTokens"] == 7), "{usage:?}");
    assert_eq!(semantics(&events, "session").len(), 1);
    let seen = fixture.server.seen();
    assert!(!seen.is_empty());
    for seen in seen {
        assert_eq!((seen.credential.as_deref(), seen.protocol), (Some(KEY), fixture.cli.protocol));
    }
    let started = of_type(&events, "run.started")[0];
    assert!(started["payload"]["cliVersion"].as_str().unwrap().starts_with(|letter: char| letter.is_ascii_digit()));
    fixture.host.assert_nothing_runs(CLEANUP_LIMIT);
}

/// The model and the system prompt of the payload reach the model server.
#[track_caller]
pub fn model_and_instructions_reach_the_agent(fixture: &AgentFixture) {
    assert_eq!(answer(&fixture.events_with("MODEL", &json!({ "model": "another-model" }))), "another-model");
    for field in ["systemPrompt", "appendSystemPrompt"] {
        let events = fixture.events_with("SYSTEM", &json!({ "harness": { field: "Mind the gap between the words." } }));
        assert!(answer(&events).contains("Mind the gap between the words."), "{field}: {events:#?}");
    }
}

/// Files and piped content reach the model with the prompt.
#[track_caller]
pub fn attachments_reach_the_model(fixture: &AgentFixture) {
    let file = json!({ "name": "notes.txt", "mimeType": "text/plain", "dataUrl": "data:text/plain;base64,aGVsbG8=" });
    let harness = json!({ "files": [file], "pipedContent": "three piped words" });
    let events = fixture.events_with("look at these", &json!({ "harness": harness }));
    let heard = answer(&events);
    assert!(heard.contains("look at these") && heard.contains("three piped words"), "{heard}");
    assert!(heard.contains("notes.txt (text/plain): /"), "{heard}");
    assert!(of_type(&events, "run.compatibility_warning").is_empty(), "{events:#?}");
}

/// Every shell of the agent runs the prelude, and finds only the allowed programs.
#[track_caller]
pub fn shells_get_the_prelude_and_the_allowlist(fixture: &AgentFixture) {
    let ask = |command: &str, block: &str, value: Value| {
        let mut payload = fixture.free_shell();
        payload["harness"][block] = value;
        // codex omits some events of its tools, but the model always gets their output.
        answer(&fixture.events_with(&format!("RUN {command}"), &payload)).to_owned()
    };
    let prelude = "export PRELUDE_SAYS=hello\nPATH=/opt/of-the-prelude:$PATH\ngreet() { echo prelude-ran; }\n";
    let output =
        ask("greet; echo \"[$PRELUDE_SAYS] $PATH\"; bash -c greet", "shellPrelude", json!({ "content": prelude }));
    assert_eq!(output.matches("prelude-ran").count(), 2, "{output}");
    assert!(output.contains("[hello] /opt/of-the-prelude:"), "{output}");

    let output = ask(
        "mytool allowed; cat /dev/null || echo no-cat; command -v find grep || echo no-find; bash -lc ls || echo no-ls",
        "cliAllowlist",
        json!({ "entries": [{ "name": "mytool", "path": "/bin/echo" }, { "name": "bash", "path": "/bin/bash" }] }),
    );
    for word in ["allowed", "no-cat", "no-find", "no-ls"] {
        assert!(output.contains(word), "{word}: {output}");
    }
}

/// An MCP server of the payload is started with its environment. Its tools are called, except for disabled ones.
#[track_caller]
pub fn mcp_server_is_started_and_called(fixture: &AgentFixture) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/mcp_server.py");
    let server = |more: Value| {
        let mut server = json!({
            "name": "probe", "command": "python3", "args": [script], "env": { "PROBE_WORD": "open sesame" }
        });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fixture.events_with("TOOL ping", &json!({ "harness": { "mcp": { "servers": [server] } } }))
    };
    let events = server(json!({}));
    assert!(answer(&events).contains("pong open sesame"), "{events:#?}");
    // Newer releases of claude use a tool to look up another tool before they call it.
    let starts = semantics(&events, "tool_start");
    let start = starts.iter().find(|start| start["tool"] == "mcp").unwrap_or_else(|| panic!("{starts:?}"));
    assert_eq!((&start["mcp"]["server"], &start["mcp"]["tool"]), (&json!("probe"), &json!("ping")), "{start}");
    for more in [json!({ "disabledTools": ["ping"] }), json!({ "enabledTools": [] }), json!({ "enabled": false })] {
        let events = server(more.clone());
        assert!(!answer(&events).contains("pong"), "{more}: {events:#?}");
    }
}

/// The events contain the command of a tool and its output, and the command has its effect.
#[track_caller]
pub fn tool_call_is_reported(fixture: &AgentFixture) {
    let events = fixture.events_with("RUN echo from-the-tool; echo made > made.txt", &fixture.free_shell());
    let starts = semantics(&events, "tool_start");
    assert!(
        starts.iter().any(|start| start["commands"][0].as_str().unwrap().contains("echo from-the-tool")),
        "{starts:?}"
    );
    assert!(starts.iter().all(|start| start["tool"] == "shell"), "{starts:?}");
    assert!(tool_outputs(&events).contains("from-the-tool"), "{events:#?}");
    assert!(answer(&events).contains("from-the-tool"), "{events:#?}");
    assert_eq!(fs::read_to_string(fixture.host.work().join("made.txt")).unwrap(), "made\n");
}

/// A use of the shell is shown to the policies. A denial warns or ends the run, whatever the CLI reports afterwards.
#[track_caller]
pub fn denied_tool_use_warns_or_ends_the_run(fixture: &AgentFixture) {
    let policy = tools::policy("strict", WORD, tools::Verdict::Deny, "not with this word");
    fs::create_dir_all(fixture.host.home().join("plugins")).unwrap();
    fs::write(fixture.host.home().join("plugins/strict.wasm"), policy).unwrap();
    let tool_audits = |events: &[Value]| {
        let audits = of_type(events, "run.policy_audit").into_iter();
        audits.map(|event| event["payload"].clone()).filter(|audit| audit["stage"] == "tool").collect::<Vec<_>>()
    };

    fixture.host.stop();
    let events = fixture.events_with(&format!("RUN echo {WORD}"), &fixture.free_shell());
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    assert_eq!(warning_codes(&events), ["TOOL_DENIED"], "{events:#?}");
    let [audit] = tool_audits(&events).try_into().expect("one decision on one use");
    let start = semantics(&events, "tool_start")[0];
    assert_eq!(audit["tool"], json!({ "id": start["id"], "tool": "shell", "name": start["name"] }));
    let events = fixture.events_with("RUN echo fine", &fixture.free_shell());
    assert_eq!((warning_codes(&events).len(), tool_audits(&events).len()), (0, 0), "{events:#?}");

    fixture.host.stop();
    let config = fs::read_to_string(fixture.host.home().join("config.toml")).unwrap();
    fixture.host.configure(&format!("{config}[policy]\nreported_tools = \"end\"\n"));
    let start = Instant::now();
    let events = fixture.events_with(&format!("RUN echo {WORD}; sleep 600"), &fixture.free_shell());
    assert!(start.elapsed() < TIMEOUT, "the run took {:?}", start.elapsed());
    let end = end_of(&events).unwrap();
    assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.failed"), &json!("policy_denied")), "{end}");
    let message = end["payload"]["message"].as_str().unwrap();
    let name = semantics(&events, "tool_start")[0]["name"].as_str().unwrap();
    for part in [name, "the policy strict denies", "not with this word"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(tool_audits(&events).len(), 1);
    fixture.host.assert_nothing_runs(CLEANUP_LIMIT);
}

/// An answer that matches the schema, one that does not, and no object at all.
#[track_caller]
pub fn structured_output_is_validated(fixture: &AgentFixture) {
    let schema = json!({
        "type": "object", "properties": { "answer": { "type": "integer" } },
        "required": ["answer"], "additionalProperties": false
    });
    fixture.host.file("schema.json", schema.to_string());
    let events = fixture.events(&["--schema", "schema.json", r#"JSON {"answer": 42}"#]);
    assert_eq!(of_type(&events, "run.structured_output")[0]["payload"]["result"], json!({ "answer": 42 }));
    for prompt in [r#"JSON {"answer": "no"}"#, "SAY no object at all"] {
        let events = fixture.events(&["--schema", "schema.json", prompt]);
        assert_eq!(of_type(&events, "run.structured_output_invalid").len(), 1, "{prompt}: {events:#?}");
        let end = end_of(&events).unwrap();
        assert_eq!(
            (end["type"].as_str(), end["payload"]["reason"].as_str()),
            (Some("run.failed"), Some("structured_output"))
        );
    }
}

/// A login that the server refuses fails the run with its reason, without a retry.
#[track_caller]
pub fn refused_login_is_not_retried(fixture: &AgentFixture) {
    let events = fixture.events_with("FAIL 401", &json!({ "maxRetries": 3, "retryBackoffMs": 100 }));
    let end = end_of(&events).unwrap();
    assert_eq!(end["payload"]["reason"], "authentication", "{end}");
    assert_eq!(of_type(&events, "run.started").len(), 1);
}

/// A rate-limited request is retried as often as the payload says.
#[track_caller]
pub fn rate_limited_request_is_retried(fixture: &AgentFixture) {
    let events = fixture.events_with("FAILONCE 429", &json!({ "maxRetries": 2, "retryBackoffMs": 100 }));
    assert_eq!(answer(&events), "recovered", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 2);
    let events = fixture.events_with("FAIL 429", &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "rate_limited");
    assert_eq!(of_type(&events, "run.started").len(), 2);
}

/// A request to a failing server is retried as often as the payload says, and not by the CLI itself.
#[track_caller]
pub fn failing_server_is_retried(fixture: &AgentFixture) {
    for status in [500, 503] {
        let prompt = format!("FAIL {status}");
        let events = fixture.events_with(&prompt, &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "transient", "{events:#?}");
        assert_eq!(of_type(&events, "run.started").len(), 2);
        assert_eq!(fixture.server.count(&prompt), 2, "the CLI has retried by itself");
    }
}

/// A cancel while the model streams its answer.
#[track_caller]
pub fn cancel_during_the_answer_leaves_no_process(fixture: &AgentFixture) {
    let mut follower = fixture.follow("SLOW 500", &json!({}));
    follower.wait_for_type("run.started");
    assert!(fixture.server.wait_for("SLOW 500", 1, TIMEOUT), "the model was never asked");
    let id = follower.run_id();
    let start = Instant::now();
    let ended = fixture.host.call("cancel_run", &json!({ "runId": id })).unwrap();
    assert_eq!(ended["status"], "canceled");
    assert!(start.elapsed() < Duration::from_secs(12), "the stop took {:?}", start.elapsed());
    assert_eq!(follower.finish().0, 130);
    fixture.host.assert_nothing_runs(CLEANUP_LIMIT);
    let events = fixture.host.run_events(&id);
    check_run_events(&events);
    assert_eq!(end_of(&events).unwrap()["type"], "run.canceled");
}

/// A cancel while a tool runs, with a shell in its own session.
#[track_caller]
pub fn cancel_during_a_tool_leaves_no_process(fixture: &AgentFixture) {
    // The file shows that the shell is running: CLIs announce a tool before they start it.
    let mut follower = fixture.follow("RUN touch begun; sleep 600", &fixture.free_shell());
    follower.wait_for("the tool", |event| event["payload"]["kind"] == "tool_start");
    let begun = fixture.host.work().join("begun");
    super::wait_until("the shell of the tool", TIMEOUT, || begun.exists().then_some(()));
    let sleeping = || carrying(fixture.host.root()).into_iter().any(|process| process.command.contains("sleep 600"));
    assert!(sleeping(), "the shell does not sleep, so that its end shows nothing");
    fixture.host.call("cancel_run", &json!({ "runId": follower.run_id() })).unwrap();
    assert_eq!(follower.finish().0, 130);
    fixture.host.assert_nothing_runs(CLEANUP_LIMIT);
    assert!(!sleeping(), "the shell of the tool is still alive");
}

/// A resumed session keeps its history and gets the permissions of the run. A missing session fails the run.
#[track_caller]
pub fn sessions_are_resumed(fixture: &AgentFixture) {
    let first = fixture.events(&["TURNS"]);
    assert_eq!(answer(&first), "1");
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap().to_owned();
    let mut resumed = fixture.free_shell();
    resumed["harness"]["resumeSessionId"] = json!(session);
    let second = fixture.events_with("RUN echo kept > kept.txt", &resumed);
    assert_eq!(semantics(&second, "session")[0]["sessionId"], session.as_str());
    assert!(fixture.host.work().join("kept.txt").exists(), "the resumed session lost its permissions");
    let third = fixture.events(&["--resume", &session, "TURNS"]);
    assert_eq!(answer(&third), "3");

    // A session continues in its own folder: not every CLI finds it from another folder.
    let other = fixture.host.root().join("other");
    fs::create_dir(&other).unwrap();
    fixture.host.run(&["grants", "add", other.to_str().unwrap()]).ok();
    let elsewhere = json!({ "cwd": other, "harness": { "resumeSessionId": session } });
    let fourth = fixture.events_with("TURNS", &elsewhere);
    assert_eq!(answer(&fourth), "4");
    assert_eq!(of_type(&fourth, "run.compatibility_warning")[0]["payload"]["pointer"], "/cwd");

    // A session that the user named is resumed, or the run fails.
    let events = fixture.events(&["--resume", fixture.cli.absent_session, "SAY anew"]);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "resume_invalid", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 1, "no new session was started");
}

/// The second turn of a conversation continues the first after a restart of the host. If the CLI has lost the session,
/// the next turn starts a new one, once, with a warning.
#[track_caller]
pub fn conversation_survives_a_restart_and_a_lost_session(fixture: &AgentFixture) {
    let host = &fixture.host;
    let id = host.run(&["chat", "new", fixture.cli.name]).ok().stdout.trim().to_owned();
    let turn = || host.run(&["chat", "send", &id, "TURNS"]).ok().stdout;
    assert_eq!(turn(), "1\n");
    host.stop();
    assert_eq!(turn(), "2\n");
    let found = || host.call("get_conversation", &json!({ "conversationId": id })).unwrap();
    let session = found()["conversation"]["sessionId"].as_str().unwrap().to_owned();
    for run in found()["runs"].as_array().unwrap() {
        assert_eq!(host.record(run["runId"].as_str().unwrap())["sessionId"], session.as_str());
    }

    fs::remove_dir_all(fixture.own_folder().join(fixture.cli.sessions)).unwrap();
    let events = host.run(&["chat", "send", "--json", &id, "TURNS"]).ok().json_lines();
    check_run_events(&events);
    assert_eq!(answer(&events), "1", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 2, "exactly one retry");
    assert_eq!(warning_codes(&events).iter().filter(|code| **code == "SESSION_RESUME_INVALID").count(), 1);
    let changes = host.stored_events(&format!("conversationId={id}&types=conversation.session_updated"));
    let session_ids: Vec<&Value> = changes.iter().map(|event| &event["payload"]["sessionId"]).collect();
    assert_eq!(
        (session_ids.len(), session_ids[0], session_ids[1]),
        (3, &json!(session), &Value::Null),
        "{session_ids:?}"
    );
    assert_eq!((turn().as_str(), &found()["conversation"]["sessionId"]), ("2\n", session_ids[2]));
    fixture.host.assert_nothing_runs(CLEANUP_LIMIT);
}

/// The usage of a run does not include earlier turns of its session.
#[track_caller]
pub fn usage_covers_only_the_attempt(fixture: &AgentFixture) {
    let counted = |events: &[Value]| {
        let metrics = of_type(events, "run.runner_metrics");
        metrics.last().unwrap()["payload"]["usage"].clone()
    };
    let first = fixture.events(&["USAGE 120 7"]);
    let usage = counted(&first);
    assert_eq!((&usage["inputTokens"], &usage["outputTokens"]), (&json!(120), &json!(7)), "{usage}");
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap();
    let second = fixture.events(&["--resume", session, "USAGE 120 7"]);
    assert_eq!(semantics(&second, "session")[0]["origin"], "resumed");
    assert_eq!(counted(&second), usage);
    assert_eq!(fixture.host.record(second[0]["runId"].as_str().unwrap())["usage"], usage);
}

/// A prompt that is too long for an argument, and one that looks like a flag.
#[track_caller]
pub fn long_and_flag_like_prompts_reach_the_model(fixture: &AgentFixture) {
    let flag = fixture.cli.dangerous_flag;
    let words = "abcdefghijklmno ".repeat(300 * 64);
    let long = format!("TURNS\n{words}");
    let done = fixture.host.run_with_input(&["run", fixture.cli.name, "-"], long.as_bytes()).ok();
    assert_eq!(done.stdout, "1\n");
    assert!(fixture.server.seen().iter().any(|seen| seen.prompt.len() >= 300 * 1024 - 1), "the prompt was cut");
    let events = fixture.events(&["--", flag]);
    assert_eq!(answer(&events), flag);
}

/// Four runs at the same time do not disturb each other.
#[track_caller]
pub fn four_runs_at_once_do_not_mix(fixture: &AgentFixture) {
    thread::scope(|scope| {
        let runs: Vec<_> = (1..=4)
            .map(|number| {
                scope.spawn(move || fixture.host.run(&["run", fixture.cli.name, &format!("SAY number {number}")]))
            })
            .collect();
        for (number, run) in (1..=4).zip(runs) {
            assert_eq!(run.join().unwrap().ok().stdout, format!("number {number}\n"));
        }
    });
    fixture.host.assert_nothing_runs(CLEANUP_LIMIT);
}

/// Secrets that the model prints, split over deltas, and those in a file that a tool prints are redacted everywhere.
#[track_caller]
pub fn secrets_are_redacted_everywhere(fixture: &AgentFixture) {
    let probe = SecretProbe::new(&[Secrets::github(), Secrets::anthropic()]);
    let own = fixture.own_folder();
    let file = fixture.host.file("service.env", format!("PLAIN=1\nSERVICE_TOKEN={}\n", Secrets::github()));
    let leak = fixture.payload("LEAK", &json!({}));
    let done = fixture.host.run(&["run", "--json", "--payload", leak.to_str().unwrap()]).ok();
    probe.assert_not_in("the terminal", done.all());
    assert!(answer(&done.json_lines()).contains("[REDACTED:"), "{}", done.stdout);
    let events = fixture.events_with("RUN cat service.env", &fixture.free_shell());
    let output = tool_outputs(&events);
    assert!(output.contains("PLAIN=1") && output.contains("SERVICE_TOKEN=[REDACTED:"), "{output}");
    probe.assert_not_in("the events", serde_json::to_vec(&events).unwrap());
    for args in [["runs", "--json"], ["logs", events[0]["runId"].as_str().unwrap()]] {
        probe.assert_not_in("the terminal", fixture.host.run(&args).ok().all());
    }
    probe.assert_not_in_process_list();
    probe.assert_not_below(fixture.host.root(), &[&own, &file]);
    fixture.host.stop();
    probe.assert_not_below(fixture.host.root(), &[&own, &file]);
}

/// A contained agent cannot escape, in each contained mode and with each back end.
#[track_caller]
pub fn escapes_fail_in_every_mode_and_back_end(fixture: &AgentFixture) {
    let fixture = &AgentFixture::open_outside_of_temporary_folders(fixture.cli).expect("the CLI was found before");
    for backend in super::escape::BACK_ENDS {
        fixture.use_back_end(backend);
        if super::escape::is_contained_by(&fixture.host, backend) {
            escapes_from(fixture, backend);
        }
    }
}

#[track_caller]
fn escapes_from(fixture: &AgentFixture, backend: &str) {
    for mode in ["workspace-write", "read-only"] {
        let escape_script =
            super::escape::EscapeScript::prepare(&fixture.host, fixture.cli.name, backend != "landlock");
        fixture.host.file("script.sh", escape_script.text());
        let permissions = json!({ "sandboxMode": mode, "autoApprove": true });
        let payload = json!({ "harness": { "permissions": permissions } });
        let events = fixture.events_with("RUN sh ./script.sh", &payload);
        assert_eq!(of_type(&events, "run.started")[0]["payload"]["sandbox"]["backend"], backend);
        let about = format!("{}, {backend}, {mode}", fixture.cli.name);
        escape_script.assert_contained(&fixture.host, &tool_outputs(&events), mode, &about);
    }
}

/// The CLI can replace its login by a rename, but cannot change settings that run code.
#[track_caller]
pub fn login_can_be_refreshed_and_settings_stay(fixture: &AgentFixture) {
    let own = fixture.own_folder();
    let (login, settings) = match fixture.cli.name {
        "codex" => ("auth.json", "config.toml"),
        _ => (".credentials.json", "settings.json"),
    };
    fs::write(own.join(login), "{}").unwrap();
    if !own.join(settings).exists() {
        fs::write(own.join(settings), "{}").unwrap();
    }
    let before = fs::read_to_string(own.join(settings)).unwrap();
    let script = format!(
        "echo '{{\"a\":1}}' > {own}/login.tmp && mv {own}/login.tmp {own}/{login} && echo refreshed\n\
         echo '#' >> {own}/{settings} || echo held; mv {own}/{settings} {own}/moved || echo held\n",
        own = own.display()
    );
    fixture.host.file("script.sh", script);
    let permissions = json!({ "sandboxMode": "workspace-write", "autoApprove": true });
    let events = fixture.events_with("RUN sh ./script.sh", &json!({ "harness": { "permissions": permissions } }));
    let started = of_type(&events, "run.started")[0];
    let output = tool_outputs(&events);
    assert!(output.contains("refreshed"), "{output}");
    assert_eq!(fs::read_to_string(own.join(login)).unwrap(), "{\"a\":1}\n");
    if ["namespaces", "bwrap"].map(Value::from).contains(&started["payload"]["sandbox"]["backend"]) {
        assert_eq!(output.matches("held").count(), 2, "{output}");
        assert_eq!(fs::read_to_string(own.join(settings)).unwrap(), before);
    }
}

/// Checks that variables that choose code, configuration or an address are all refused, with any permissions.
#[track_caller]
pub fn assert_variables_refused(fixture: &AgentFixture, names: &[&str]) {
    fixture.host.ensure_running();
    let variables: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!("/x"))).collect();
    for permissions in [json!({}), json!({ "sandboxMode": "read-only", "autoApprove": false })] {
        let harness = json!({ "processEnv": variables, "permissions": permissions });
        let payload = json!({ "provider": fixture.cli.name, "prompt": "SAY never", "cwd": fixture.host.work(), "harness": harness });
        let error = fixture.host.call("start_run", &payload).unwrap_err();
        assert_eq!(error.kind(), "POLICY_DENIED", "{}", error.text());
        let findings = error.data()["findings"].as_array().unwrap();
        let against = findings.iter().filter(|finding| finding["verdict"] == "deny");
        let mut found: Vec<&str> = against.filter_map(|finding| finding["pointer"].as_str()).collect();
        found.sort_unstable();
        found.dedup();
        let mut expected: Vec<String> = names.iter().map(|name| format!("/harness/processEnv/{name}")).collect();
        expected.sort();
        assert_eq!(found, expected);
    }
    assert!(fixture.server.seen().is_empty(), "the CLI was started");
}
