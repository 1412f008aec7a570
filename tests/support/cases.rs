//! What has to be true of every agent CLI alike. Each function is the body of one test; [`suite`] makes the tests of a
//! CLI of them.

use super::guests::{hostile::WORD, tools};
use super::{
    AgentFixture, PATIENCE, SecretProbe, agent_fixture::KEY, answer, carrying, check_story, end_of,
    model_server::Secrets, of_type, semantics, tool_outputs, warning_codes,
};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// The longest that anything of a run may outlive it.
const SWIFTLY: Duration = Duration::from_secs(2);

/// The tests that every agent CLI has to pass, for one that a static describes. Without the CLI they say so and pass.
macro_rules! suite {
    ($cli:path) => {
        $crate::support::cases::suite! { $cli:
            a_plain_message, instructions_and_model, a_tool_call, attachments, shells_as_the_host_lays_them_out,
            an_mcp_server, a_denied_tool_use, structured_output, a_refused_login, too_many_requests, a_failing_server,
            a_cancel_in_the_stream, a_cancel_in_a_tool, sessions, a_conversation, usage_of_the_attempt_alone, prompts, four_at_once,
            leaks, escapes, a_login_that_is_refreshed
        }
    };
    ($cli:path: $($case:ident),*) => {
        /// The cases that every agent CLI shares.
        mod shared {
            $(
                #[test]
                fn $case() {
                    if let Some(studio) = $crate::support::AgentFixture::open(&$cli) {
                        $crate::support::cases::$case(&studio);
                    }
                }
            )*
        }
    };
}
pub(crate) use suite;

/// An answer, what it cost in tokens, who was asked.
#[track_caller]
pub fn a_plain_message(studio: &AgentFixture) {
    let done = studio.bed.run(&["run", studio.cli.name, "SAY hello from the script"]).ok();
    assert_eq!(done.stdout, "hello from the script\n");
    let events = studio.events(&["USAGE 120 7"]);
    assert_eq!(answer(&events), "counted");
    let usage = semantics(&events, "usage");
    assert!(usage.iter().any(|usage| usage["inputTokens"] == 120 && usage["outputTokens"] == 7), "{usage:?}");
    assert_eq!(semantics(&events, "session").len(), 1);
    let seen = studio.server.seen();
    assert!(!seen.is_empty());
    for seen in seen {
        assert_eq!((seen.credential.as_deref(), seen.protocol), (Some(KEY), studio.cli.protocol));
    }
    let started = of_type(&events, "run.started")[0];
    assert!(started["payload"]["cliVersion"].as_str().unwrap().starts_with(|letter: char| letter.is_ascii_digit()));
    studio.bed.assert_nothing_runs(SWIFTLY);
}

/// The model that was asked for, and what it is told before the prompt.
#[track_caller]
pub fn instructions_and_model(studio: &AgentFixture) {
    assert_eq!(answer(&studio.events_with("MODEL", &json!({ "model": "another-model" }))), "another-model");
    for field in ["systemPrompt", "appendSystemPrompt"] {
        let events = studio.events_with("SYSTEM", &json!({ "harness": { field: "Mind the gap between the words." } }));
        assert!(answer(&events).contains("Mind the gap between the words."), "{field}: {events:#?}");
    }
}

/// Files and piped content come to the model with the prompt.
#[track_caller]
pub fn attachments(studio: &AgentFixture) {
    let file = json!({ "name": "notes.txt", "mimeType": "text/plain", "dataUrl": "data:text/plain;base64,aGVsbG8=" });
    let harness = json!({ "files": [file], "pipedContent": "three piped words" });
    let events = studio.events_with("look at these", &json!({ "harness": harness }));
    let heard = answer(&events);
    assert!(heard.contains("look at these") && heard.contains("three piped words"), "{heard}");
    assert!(heard.contains("notes.txt (text/plain): /"), "{heard}");
    assert!(of_type(&events, "run.compatibility_warning").is_empty(), "{events:#?}");
}

/// Every shell of the agent runs the prelude, and finds no program but those that are allowed.
#[track_caller]
pub fn shells_as_the_host_lays_them_out(studio: &AgentFixture) {
    let ask = |command: &str, block: &str, value: Value| {
        let mut payload = studio.free_shell();
        payload["harness"][block] = value;
        // codex leaves out some events of its tools; the model always hears what they said.
        answer(&studio.events_with(&format!("RUN {command}"), &payload)).to_owned()
    };
    let prelude = "export PRELUDE_SAYS=hello\nPATH=/opt/of-the-prelude:$PATH\ngreet() { echo prelude-ran; }\n";
    let said =
        ask("greet; echo \"[$PRELUDE_SAYS] $PATH\"; bash -c greet", "shellPrelude", json!({ "content": prelude }));
    assert_eq!(said.matches("prelude-ran").count(), 2, "{said}");
    assert!(said.contains("[hello] /opt/of-the-prelude:"), "{said}");

    let said = ask(
        "mytool allowed; cat /dev/null || echo no-cat; command -v find grep || echo no-find; bash -lc ls || echo no-ls",
        "cliAllowlist",
        json!({ "entries": [{ "name": "mytool", "path": "/bin/echo" }, { "name": "bash", "path": "/bin/bash" }] }),
    );
    for word in ["allowed", "no-cat", "no-find", "no-ls"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// A server of the payload is started with its environment, and its tools are called, but for those that are not to be.
#[track_caller]
pub fn an_mcp_server(studio: &AgentFixture) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/mcp_server.py");
    let server = |more: Value| {
        let mut server = json!({
            "name": "probe", "command": "python3", "args": [script], "env": { "PROBE_WORD": "open sesame" }
        });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        studio.events_with("TOOL ping", &json!({ "harness": { "mcp": { "servers": [server] } } }))
    };
    let events = server(json!({}));
    assert!(answer(&events).contains("pong open sesame"), "{events:#?}");
    // Newer releases of claude look a tool up by a tool before they use it.
    let starts = semantics(&events, "tool_start");
    let start = starts.iter().find(|start| start["tool"] == "mcp").unwrap_or_else(|| panic!("{starts:?}"));
    assert_eq!((&start["mcp"]["server"], &start["mcp"]["tool"]), (&json!("probe"), &json!("ping")), "{start}");
    for more in [json!({ "disabledTools": ["ping"] }), json!({ "enabledTools": [] }), json!({ "enabled": false })] {
        let events = server(more.clone());
        assert!(!answer(&events).contains("pong"), "{more}: {events:#?}");
    }
}

/// The command that a tool ran, its output, and its effect.
#[track_caller]
pub fn a_tool_call(studio: &AgentFixture) {
    let events = studio.events_with("RUN echo from-the-tool; echo made > made.txt", &studio.free_shell());
    let starts = semantics(&events, "tool_start");
    assert!(
        starts.iter().any(|start| start["commands"][0].as_str().unwrap().contains("echo from-the-tool")),
        "{starts:?}"
    );
    assert!(starts.iter().all(|start| start["tool"] == "shell"), "{starts:?}");
    assert!(tool_outputs(&events).contains("from-the-tool"), "{events:#?}");
    assert!(answer(&events).contains("from-the-tool"), "{events:#?}");
    assert_eq!(fs::read_to_string(studio.bed.work().join("made.txt")).unwrap(), "made\n");
}

/// A use of the shell is shown to the policies, and a denial warns or ends the run, whatever the CLI then says.
#[track_caller]
pub fn a_denied_tool_use(studio: &AgentFixture) {
    let policy = tools::policy("strict", WORD, tools::Verdict::Deny, "not with this word");
    fs::create_dir_all(studio.bed.home().join("plugins")).unwrap();
    fs::write(studio.bed.home().join("plugins/strict.wasm"), policy).unwrap();
    let tool_audits = |events: &[Value]| {
        let audits = of_type(events, "run.policy_audit").into_iter();
        audits.map(|event| event["payload"].clone()).filter(|audit| audit["stage"] == "tool").collect::<Vec<_>>()
    };

    studio.bed.stop();
    let events = studio.events_with(&format!("RUN echo {WORD}"), &studio.free_shell());
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    assert_eq!(warning_codes(&events), ["TOOL_DENIED"], "{events:#?}");
    let [audit] = tool_audits(&events).try_into().expect("one record of one use");
    let start = semantics(&events, "tool_start")[0];
    assert_eq!(audit["tool"], json!({ "id": start["id"], "tool": "shell", "name": start["name"] }));
    let events = studio.events_with("RUN echo fine", &studio.free_shell());
    assert_eq!((warning_codes(&events).len(), tool_audits(&events).len()), (0, 0), "{events:#?}");

    studio.bed.stop();
    let config = fs::read_to_string(studio.bed.home().join("config.toml")).unwrap();
    studio.bed.configure(&format!("{config}[policy]\nreported_tools = \"end\"\n"));
    let start = Instant::now();
    let events = studio.events_with(&format!("RUN echo {WORD}; sleep 600"), &studio.free_shell());
    assert!(start.elapsed() < PATIENCE, "the run has lasted {:?}", start.elapsed());
    let end = end_of(&events).unwrap();
    assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.failed"), &json!("policy_denied")), "{end}");
    let message = end["payload"]["message"].as_str().unwrap();
    let name = semantics(&events, "tool_start")[0]["name"].as_str().unwrap();
    for part in [name, "the policy strict denies", "not with this word"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(tool_audits(&events).len(), 1);
    studio.bed.assert_nothing_runs(SWIFTLY);
}

/// An answer of the wanted form, one of another, and none.
#[track_caller]
pub fn structured_output(studio: &AgentFixture) {
    let schema = json!({
        "type": "object", "properties": { "answer": { "type": "integer" } },
        "required": ["answer"], "additionalProperties": false
    });
    studio.bed.file("schema.json", schema.to_string());
    let events = studio.events(&["--schema", "schema.json", r#"JSON {"answer": 42}"#]);
    assert_eq!(of_type(&events, "run.structured_output")[0]["payload"]["result"], json!({ "answer": 42 }));
    for prompt in [r#"JSON {"answer": "no"}"#, "SAY no object at all"] {
        let events = studio.events(&["--schema", "schema.json", prompt]);
        assert_eq!(of_type(&events, "run.structured_output_invalid").len(), 1, "{prompt}: {events:#?}");
        let end = end_of(&events).unwrap();
        assert_eq!(
            (end["type"].as_str(), end["payload"]["reason"].as_str()),
            (Some("run.failed"), Some("structured_output"))
        );
    }
}

/// A login that the server refuses is named, and asking again would not help.
#[track_caller]
pub fn a_refused_login(studio: &AgentFixture) {
    let events = studio.events_with("FAIL 401", &json!({ "maxRetries": 3, "retryBackoffMs": 100 }));
    let end = end_of(&events).unwrap();
    assert_eq!(end["payload"]["reason"], "authentication", "{end}");
    assert_eq!(of_type(&events, "run.started").len(), 1);
}

/// A server that wants fewer requests is asked again, as often as the payload says.
#[track_caller]
pub fn too_many_requests(studio: &AgentFixture) {
    let events = studio.events_with("FAILONCE 429", &json!({ "maxRetries": 2, "retryBackoffMs": 100 }));
    assert_eq!(answer(&events), "recovered", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 2);
    let events = studio.events_with("FAIL 429", &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "rate_limited");
    assert_eq!(of_type(&events, "run.started").len(), 2);
}

/// A server that fails is asked as often as the payload says, and by the CLI itself as often as its settings say.
#[track_caller]
pub fn a_failing_server(studio: &AgentFixture) {
    for status in [500, 503] {
        let prompt = format!("FAIL {status}");
        let events = studio.events_with(&prompt, &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "transient", "{events:#?}");
        assert_eq!(of_type(&events, "run.started").len(), 2);
        assert_eq!(studio.server.count(&prompt), 2, "the CLI has tried again by itself");
    }
}

/// A cancel while the model is still talking.
#[track_caller]
pub fn a_cancel_in_the_stream(studio: &AgentFixture) {
    let mut follower = studio.follow("SLOW 500", &json!({}));
    follower.wait_for_type("run.started");
    assert!(studio.server.wait_for("SLOW 500", 1, PATIENCE), "the model was never asked");
    let id = follower.run_id();
    let start = Instant::now();
    let ended = studio.bed.call("cancel_run", &json!({ "runId": id })).unwrap();
    assert_eq!(ended["status"], "canceled");
    assert!(start.elapsed() < Duration::from_secs(12), "the stop took {:?}", start.elapsed());
    assert_eq!(follower.finish().0, 130);
    studio.bed.assert_nothing_runs(SWIFTLY);
    let story = studio.bed.story(&id);
    check_story(&story);
    assert_eq!(end_of(&story).unwrap()["type"], "run.canceled");
}

/// A cancel while a tool runs, whose shell is in a session of its own.
#[track_caller]
pub fn a_cancel_in_a_tool(studio: &AgentFixture) {
    // The file tells that the shell is there: CLIs announce a tool before they start it.
    let mut follower = studio.follow("RUN touch begun; sleep 600", &studio.free_shell());
    follower.wait_for("the tool", |event| event["payload"]["kind"] == "tool_start");
    let begun = studio.bed.work().join("begun");
    super::until("the tool's shell", PATIENCE, || begun.exists().then_some(()));
    let sleeping = || carrying(studio.bed.root()).into_iter().any(|process| process.command.contains("sleep 600"));
    assert!(sleeping(), "the shell does not sleep, so that its end would show nothing");
    studio.bed.call("cancel_run", &json!({ "runId": follower.run_id() })).unwrap();
    assert_eq!(follower.finish().0, 130);
    studio.bed.assert_nothing_runs(SWIFTLY);
    assert!(!sleeping(), "the tool's shell is still alive");
}

/// A session goes on with its history and with what the run may do; one that does not exist fails the run.
#[track_caller]
pub fn sessions(studio: &AgentFixture) {
    let first = studio.events(&["TURNS"]);
    assert_eq!(answer(&first), "1");
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap().to_owned();
    let mut resumed = studio.free_shell();
    resumed["harness"]["resumeSessionId"] = json!(session);
    let second = studio.events_with("RUN echo kept > kept.txt", &resumed);
    assert_eq!(semantics(&second, "session")[0]["sessionId"], session.as_str());
    assert!(studio.bed.work().join("kept.txt").exists(), "the resumed session lost what it may do");
    let third = studio.events(&["--resume", &session, "TURNS"]);
    assert_eq!(answer(&third), "3");

    // A session goes on in its own folder: not every CLI finds it from another.
    let other = studio.bed.root().join("other");
    fs::create_dir(&other).unwrap();
    studio.bed.run(&["grants", "add", other.to_str().unwrap()]).ok();
    let elsewhere = json!({ "cwd": other, "harness": { "resumeSessionId": session } });
    let fourth = studio.events_with("TURNS", &elsewhere);
    assert_eq!(answer(&fourth), "4");
    assert_eq!(of_type(&fourth, "run.compatibility_warning")[0]["payload"]["pointer"], "/cwd");

    // A session that was named is resumed, or the run fails.
    let events = studio.events(&["--resume", studio.cli.absent_session, "SAY anew"]);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "resume_invalid", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 1, "no new start");
}

/// The second turn of a conversation knows the first, although the host was started again in between; where the CLI has
/// lost the session, the next turn begins another, once, and says so.
#[track_caller]
pub fn a_conversation(studio: &AgentFixture) {
    let bed = &studio.bed;
    let id = bed.run(&["chat", "new", studio.cli.name]).ok().stdout.trim().to_owned();
    let turn = || bed.run(&["chat", "send", &id, "TURNS"]).ok().stdout;
    assert_eq!(turn(), "1\n");
    bed.stop();
    assert_eq!(turn(), "2\n");
    let found = || bed.call("get_conversation", &json!({ "conversationId": id })).unwrap();
    let session = found()["conversation"]["sessionId"].as_str().unwrap().to_owned();
    for run in found()["runs"].as_array().unwrap() {
        assert_eq!(bed.record(run["runId"].as_str().unwrap())["sessionId"], session.as_str());
    }

    fs::remove_dir_all(studio.own_folder().join(studio.cli.sessions)).unwrap();
    let events = bed.run(&["chat", "send", "--json", &id, "TURNS"]).ok().json_lines();
    check_story(&events);
    assert_eq!(answer(&events), "1", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 2, "exactly one new start");
    assert_eq!(warning_codes(&events).iter().filter(|code| **code == "SESSION_RESUME_INVALID").count(), 1);
    let told = bed.stored_events(&format!("conversationId={id}&types=conversation.session_updated"));
    let told: Vec<&Value> = told.iter().map(|event| &event["payload"]["sessionId"]).collect();
    assert_eq!((told.len(), told[0], told[1]), (3, &json!(session), &Value::Null), "{told:?}");
    assert_eq!((turn().as_str(), &found()["conversation"]["sessionId"]), ("2\n", told[2]));
    studio.bed.assert_nothing_runs(SWIFTLY);
}

/// Tokens of the turn before stay with the run that had it.
#[track_caller]
pub fn usage_of_the_attempt_alone(studio: &AgentFixture) {
    let counted = |events: &[Value]| {
        let metrics = of_type(events, "run.runner_metrics");
        metrics.last().unwrap()["payload"]["usage"].clone()
    };
    let first = studio.events(&["USAGE 120 7"]);
    let usage = counted(&first);
    assert_eq!((&usage["inputTokens"], &usage["outputTokens"]), (&json!(120), &json!(7)), "{usage}");
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap();
    let second = studio.events(&["--resume", session, "USAGE 120 7"]);
    assert_eq!(semantics(&second, "session")[0]["origin"], "resumed");
    assert_eq!(counted(&second), usage);
    assert_eq!(studio.bed.record(second[0]["runId"].as_str().unwrap())["usage"], usage);
}

/// A prompt that fits in no argument, and one that is a flag to a CLI that does not look out.
#[track_caller]
pub fn prompts(studio: &AgentFixture) {
    let flag = studio.cli.dangerous_flag;
    let words = "abcdefghijklmno ".repeat(300 * 64);
    let long = format!("TURNS\n{words}");
    let done = studio.bed.run_with_input(&["run", studio.cli.name, "-"], long.as_bytes()).ok();
    assert_eq!(done.stdout, "1\n");
    assert!(studio.server.seen().iter().any(|seen| seen.prompt.len() >= 300 * 1024 - 1), "the prompt was cut");
    let events = studio.events(&["--", flag]);
    assert_eq!(answer(&events), flag);
}

/// Four runs at one time do not disturb each other.
#[track_caller]
pub fn four_at_once(studio: &AgentFixture) {
    thread::scope(|scope| {
        let runs: Vec<_> = (1..=4)
            .map(|number| {
                scope.spawn(move || studio.bed.run(&["run", studio.cli.name, &format!("SAY number {number}")]))
            })
            .collect();
        for (number, run) in (1..=4).zip(runs) {
            assert_eq!(run.join().unwrap().ok().stdout, format!("number {number}\n"));
        }
    });
    studio.bed.assert_nothing_runs(SWIFTLY);
}

/// Secrets that the model gives away, cut over deltas, and those of a file that a tool prints, stay hidden wherever the
/// host writes.
#[track_caller]
pub fn leaks(studio: &AgentFixture) {
    let needles = SecretProbe::new(&[Secrets::github(), Secrets::anthropic()]);
    let own = studio.own_folder();
    let file = studio.bed.file("service.env", format!("PLAIN=1\nSERVICE_TOKEN={}\n", Secrets::github()));
    let leak = studio.payload("LEAK", &json!({}));
    let done = studio.bed.run(&["run", "--json", "--payload", leak.to_str().unwrap()]).ok();
    needles.assert_not_in("the terminal", done.all());
    assert!(answer(&done.json_lines()).contains("[REDACTED:"), "{}", done.stdout);
    let events = studio.events_with("RUN cat service.env", &studio.free_shell());
    let output = tool_outputs(&events);
    assert!(output.contains("PLAIN=1") && output.contains("SERVICE_TOKEN=[REDACTED:"), "{output}");
    needles.assert_not_in("the events", serde_json::to_vec(&events).unwrap());
    for args in [["runs", "--json"], ["logs", events[0]["runId"].as_str().unwrap()]] {
        needles.assert_not_in("the terminal", studio.bed.run(&args).ok().all());
    }
    needles.assert_not_in_process_list();
    needles.assert_not_below(studio.bed.root(), &[&own, &file]);
    studio.bed.stop();
    needles.assert_not_below(studio.bed.root(), &[&own, &file]);
}

/// What a contained agent tries to reach is held, in each bounded mode and by each back end.
#[track_caller]
pub fn escapes(studio: &AgentFixture) {
    let studio = &AgentFixture::open_outside_of_temporary_folders(studio.cli).expect("it was there a moment ago");
    for backend in super::escape::BACK_ENDS {
        studio.use_back_end(backend);
        if super::escape::holds(&studio.bed, backend) {
            escapes_from(studio, backend);
        }
    }
}

#[track_caller]
fn escapes_from(studio: &AgentFixture, backend: &str) {
    for mode in ["workspace-write", "read-only"] {
        let attempts = super::escape::Attempts::prepare(&studio.bed, studio.cli.name, backend != "landlock");
        studio.bed.file("script.sh", attempts.script());
        let permissions = json!({ "sandboxMode": mode, "autoApprove": true });
        let payload = json!({ "harness": { "permissions": permissions } });
        let events = studio.events_with("RUN sh ./script.sh", &payload);
        assert_eq!(of_type(&events, "run.started")[0]["payload"]["sandbox"]["backend"], backend);
        let about = format!("{}, {backend}, {mode}", studio.cli.name);
        attempts.assert_held(&studio.bed, &tool_outputs(&events), mode, &about);
    }
}

/// A login is replaced by a rename, as CLIs do, while settings that run code stay as they are.
#[track_caller]
pub fn a_login_that_is_refreshed(studio: &AgentFixture) {
    let own = studio.own_folder();
    let (login, settings) = match studio.cli.name {
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
    studio.bed.file("script.sh", script);
    let permissions = json!({ "sandboxMode": "workspace-write", "autoApprove": true });
    let events = studio.events_with("RUN sh ./script.sh", &json!({ "harness": { "permissions": permissions } }));
    let started = of_type(&events, "run.started")[0];
    let output = tool_outputs(&events);
    assert!(output.contains("refreshed"), "{output}");
    assert_eq!(fs::read_to_string(own.join(login)).unwrap(), "{\"a\":1}\n");
    if ["namespaces", "bwrap"].map(Value::from).contains(&started["payload"]["sandbox"]["backend"]) {
        assert_eq!(output.matches("held").count(), 2, "{output}");
        assert_eq!(fs::read_to_string(own.join(settings)).unwrap(), before);
    }
}

/// Variables that choose code, configuration or an address are refused, all at once, whatever the run may do otherwise.
#[track_caller]
pub fn refused_variables(studio: &AgentFixture, names: &[&str]) {
    studio.bed.host();
    let variables: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!("/x"))).collect();
    for permissions in [json!({}), json!({ "sandboxMode": "read-only", "autoApprove": false })] {
        let harness = json!({ "processEnv": variables, "permissions": permissions });
        let payload =
            json!({ "provider": studio.cli.name, "prompt": "SAY never", "cwd": studio.bed.work(), "harness": harness });
        let error = studio.bed.call("start_run", &payload).unwrap_err();
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
    assert!(studio.server.seen().is_empty(), "the CLI was started");
}
