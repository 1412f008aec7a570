//! Commands as a user types them: what they print on a terminal and in a pipe, and how they fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::terminal::CTRL_C;
use crate::support::{Terminal, TestHost};
use serde_json::{Value, json};

/// A script on a terminal with this number of columns.
fn terminal(host: &TestHost, columns: u16, term: &str, script: &str) -> Terminal {
    Terminal::with(host.shell(script), columns, term)
}

/// The lines of a screen that is wide enough for all of them. It interprets the control sequences that Ostler uses:
/// carriage return, line feed, "erase below", and colors.
fn screen(bytes: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let mut column = 0;
    let mut characters = bytes.chars();
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                lines.push(Vec::new());
                column = 0;
            }
            '\r' => column = 0,
            '\u{1b}' => {
                assert_eq!(characters.next(), Some('['), "{bytes:?}");
                match characters.by_ref().find(char::is_ascii_alphabetic) {
                    Some('J') => lines.last_mut().unwrap().truncate(column),
                    Some('m') => {}
                    other => panic!("an unknown sequence {other:?} in {bytes:?}"),
                }
            }
            _ => {
                let line = lines.last_mut().unwrap();
                line.resize(line.len().max(column + 1), ' ');
                line[column] = character;
                column += 1;
            }
        }
    }
    let lines = lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

fn ostler() -> String {
    crate::support::binary().display().to_string()
}

#[test]
fn follower_ends_when_its_reader_ends() {
    let host = TestHost::granted("");
    let silent = host.detach(&["rehearsal", "SLEEP 600"]);
    host.wait_for_count("running", 1);
    for command in ["queue --watch".to_owned(), format!("logs -f {silent}"), format!("attach {silent}")] {
        let done = host.finish(host.shell(&format!("{} {command} | head -c 0", ostler()))).ok();
        assert!(!done.stderr.contains("error"), "{command}: {}", done.stderr);
    }
    assert_eq!(host.record(&silent)["status"], "running");
    host.run(&["cancel", &silent]).ok();
}

#[test]
fn pipe_to_the_same_terminal_leaves_no_spinner_lines() {
    let host = TestHost::granted("");
    let script = format!("{} run rehearsal 'SLOW 5' | tee log", ostler());
    let terminal = terminal(&host, 80, "xterm-256color", &script);
    let lines = screen(&terminal.transcript());
    let answer: Vec<&String> = lines.iter().filter(|line| line.starts_with("chunk ")).collect();
    assert_eq!(answer.len(), 5, "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains('⠋') || line.contains("· ")), "{lines:?}");
    assert!(lines.last().unwrap().contains("done in"), "{lines:?}");
}

#[test]
fn ctrl_c_leaves_no_spinner_line_at_any_width() {
    let host = TestHost::granted("");
    for columns in [40, 80, 120] {
        let script = format!("exec {} run rehearsal 'SLEEP 600'", ostler());
        let mut terminal = terminal(&host, columns, "xterm-256color", &script);
        terminal.wait_for("rehearsal · ");
        terminal.wait_for(" · 1s");
        terminal.type_keys(CTRL_C);
        let lines = screen(&terminal.transcript());
        assert!(!lines.iter().any(|line| line.contains(" · ")), "{columns}: {lines:?}");
        assert!(lines[0].starts_with("canceling run "), "{columns}: {lines:?}");
        assert!(lines[1].ends_with("was canceled"), "{columns}: {lines:?}");
    }
}

#[test]
fn a_dumb_terminal_gets_plain_lines_and_no_colors() {
    let host = TestHost::granted("");
    let terminal = terminal(&host, 80, "dumb", &format!("exec {} run rehearsal 'RUN true'", ostler()));
    let text = terminal.transcript();
    assert!(text.contains("done in"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains(" started (rehearsal") && text.contains("shell: true"), "{text}");
}

#[test]
fn colors_are_forced_and_forbidden() {
    let mut host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY x"]).ok();
    let colored = |host: &TestHost, args: &[&str]| host.run(args).ok().stdout.contains('\u{1b}');
    assert!(!colored(&host, &["runs"]), "a pipe gets no colors");
    assert!(colored(&host, &["runs", "--color", "always"]));
    assert!(colored(&host, &["--color=always", "runs"]));
    host.set("CLICOLOR_FORCE", "1");
    assert!(colored(&host, &["runs"]));
    assert!(!colored(&host, &["runs", "--color=never"]));
    host.set("NO_COLOR", "1");
    assert!(!colored(&host, &["runs"]), "NO_COLOR wins over CLICOLOR_FORCE");
}

#[test]
fn consent_cannot_be_typed_ahead() {
    let host = TestHost::new();
    // The answer is typed while the shell sleeps, before the question.
    let script = format!("sleep 1; exec {} run rehearsal 'SAY x'", ostler());
    let mut terminal = terminal(&host, 200, "xterm", &script);
    terminal.type_keys("y\n");
    terminal.wait_for("now and later? [y/N]");
    terminal.type_keys("n\n");
    let lines = screen(&terminal.transcript());
    assert!(lines.iter().any(|line| line.contains("denied by")), "{lines:?}");
    assert!(host.call("list_workspace_grants", &json!({})).unwrap().as_array().unwrap().is_empty());
}

#[test]
fn errors_name_options_not_pointers() {
    let host = TestHost::granted("[providers.plain]\nplugin = \"command\"\nexecutable = \"cat\"\n");
    for (args, expected) in [
        (vec!["--timeout", "1s"], "--timeout: must be from 5 to 604800"),
        (vec!["--timeout", "8d"], "--timeout: must be from 5 to 604800"),
        (vec!["--priority", "11"], "--priority: must be from -10 to 10"),
        (vec!["--retries", "11"], "--retries: must be from 0 to 10"),
        (vec!["--retries", "-1"], "--retries: must be from 0 to 10"),
        (vec!["--max-turns", "0"], "--max-turns: must be from 1 to 100000"),
        (vec!["--max-budget", "-1"], "--max-budget: must be from 0 to 1000000"),
        (vec!["--tool", "hammer"], "--tool: must be one of"),
        (vec!["--env", "A B=c"], "--env A B: "),
        (vec!["--add-dir", "/no/such/folder"], "--add-dir"),
        (vec!["--image", "no-such-file.png"], "--image"),
        (vec!["--title", " "], "--title: must not be blank"),
        (vec!["--profile", "nobody"], "profile \"nobody\""),
    ] {
        let args: Vec<&str> = ["run", "rehearsal", "SAY x"].into_iter().chain(args).collect();
        let done = host.run(&args);
        assert_ne!(done.code, 0, "{args:?}");
        assert!(done.stderr.contains(expected), "{args:?}: {}", done.stderr);
        assert!(!done.stderr.contains("/harness") && !done.stderr.contains("Seconds"), "{args:?}: {}", done.stderr);
    }
    let done = host.run(&["run", "plain", "x", "--tool", "shell"]);
    assert!(done.code != 0 && done.stderr.contains("--tool") && !done.stderr.contains("/harness"), "{}", done.stderr);
    // JSON errors name the pointer, and so do errors of a payload file.
    let error = host.run(&["run", "--json", "rehearsal", "SAY x", "--timeout", "1s"]).code(2).error();
    assert_eq!(error["pointer"], "/timeoutSeconds");
    host.file("job.json", json!({"provider": "rehearsal", "prompt": "SAY x", "timeoutSeconds": 1}).to_string());
    let done = host.run(&["run", "--payload", "job.json", "--priority", "11"]).code(2);
    assert!(done.stderr.contains("--payload, at /timeoutSeconds: must be"), "{}", done.stderr);
    assert!(done.stderr.contains("--priority: must be"), "{}", done.stderr);
}

#[test]
fn usage_errors_suggest_a_correction() {
    let host = TestHost::granted("");
    for (args, code, expected) in [
        (vec!["run", "say hello"], 2, "name a provider before the prompt"),
        (vec!["run", "hello"], 2, "the prompt is missing"),
        (vec!["run", "rehearsal", "SAY", "hello"], 2, "put the prompt in quotation marks"),
        (vec!["rnu", "rehearsal", "SAY x"], 2, "'run'"),
        (vec!["run", "rehersal", "SAY x"], 5, "did you mean \"rehearsal\"?"),
        (vec!["retention", "set"], 2, "--days <DAYS>|--megabytes <MB>"),
        (vec!["--no-start", "runs"], 5, "no host is running"),
    ] {
        if args.contains(&"--no-start") {
            host.stop();
        }
        let done = host.run(&args);
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(expected), "{args:?}: {}", done.stderr);
    }
    // `status` has the same exit code if no host is running.
    host.run(&["status"]).code(5);
}

#[test]
fn options_reach_the_payload_and_the_result_is_one_object() {
    let host = TestHost::granted("");
    let more = host.work().join("more");
    fs::create_dir(&more).unwrap();
    let args = ["run", "--json=result", "rehearsal", "SAY hello", "--title", "a title", "--add-dir", "more"];
    let result = host.run(&args).ok().json();
    assert_eq!(result["status"], "completed");
    assert_eq!((&result["exitCode"], &result["finalText"]), (&json!(0), &json!("hello")));
    assert!(result["sessionId"].is_string() && result["usage"].is_object(), "{result}");
    let record = host.record(result["runId"].as_str().unwrap());
    assert_eq!(record["title"], "a title");
    assert_eq!(record["payload"]["timeoutSeconds"], 300, "the default is stored in the payload");
    let added = record["payload"]["harness"]["additionalDirectories"][0].as_str().unwrap();
    assert_eq!(fs::canonicalize(added).unwrap(), fs::canonicalize(&more).unwrap());
    let failed = host.run(&["run", "--json=result", "rehearsal", "FAIL usage"]).code(1).json();
    assert_eq!(
        (&failed["status"], &failed["exitCode"], &failed["reason"]),
        (&json!("failed"), &json!(1), &json!("usage"))
    );
}

#[test]
fn default_time_limit_is_a_setting() {
    let host = TestHost::granted("[runner]\ntimeout_seconds = 43200\n");
    let night = host.run(&["run", "--json=result", "rehearsal", "SAY x"]).ok().json();
    let limit = |result: &Value| host.record(result["runId"].as_str().unwrap())["payload"]["timeoutSeconds"].clone();
    assert_eq!(limit(&night), 43_200);
    host.run(&["settings", "set", "runner.timeout_seconds", "60"]).ok();
    let short = host.run(&["run", "--json=result", "rehearsal", "SAY x"]).ok().json();
    assert_eq!(limit(&short), 60);
    let named = host.run(&["run", "--json=result", "rehearsal", "SAY x", "--timeout", "7d"]).ok().json();
    assert_eq!(limit(&named), 604_800);
    let again = host.run(&["rerun", "--json=result", named["runId"].as_str().unwrap()]).ok().json();
    assert_eq!(limit(&again), 604_800, "a rerun keeps the time limit");
}

#[test]
fn missing_session_that_the_user_named_fails_the_run() {
    let host = TestHost::granted("");
    let done = host.run(&["run", "rehearsal", "--resume", "5eed0000-0000-4000-8000-00000000dead", "SAY x"]).code(1);
    assert!(done.stderr.contains("resume_invalid") && done.stderr.contains("leave out --resume"), "{}", done.stderr);
    assert!(done.stdout.is_empty(), "{}", done.stdout);
}

#[test]
fn saving_a_profile_keeps_other_fields_and_names_removed_ones() {
    let host = TestHost::granted("");
    let save = |args: &[&str]| host.run(&[&["profile", "save", "careful"], args].concat());
    save(&["--provider", "rehearsal", "--sandbox", "read-only", "--timeout", "20m"]).ok();
    let output = save(&["--model", "other"]).ok().stdout;
    assert!(
        output.contains("model") && output.contains("permissions") && output.contains("timeoutSeconds"),
        "{output}"
    );
    let config = || host.run(&["profile", "show", "careful", "--json"]).ok().json()["config"].clone();
    assert_eq!(config()["harness"]["permissions"]["sandboxMode"], "read-only");
    let output = save(&["--clear", "timeoutSeconds"]).ok().stdout;
    assert!(output.contains("removed: timeoutSeconds"), "{output}");
    assert!(save(&["--clear", "nope"]).code(2).stderr.contains("does not have this field"));
    let output = save(&["--replace", "--model", "third"]).ok().stdout;
    assert!(output.contains("removed: harness.permissions.sandboxMode"), "{output}");
    assert_eq!(config(), json!({"model": "third"}));
    // The profile names the provider; the prompt can come from an argument, a file, or standard input.
    host.file("task.md", "SAY from a file");
    assert_eq!(host.run(&["run", "--profile", "careful", "SAY x"]).ok().stdout, "x\n");
    assert_eq!(host.run(&["run", "--profile", "careful", "--file", "task.md"]).ok().stdout, "from a file\n");
    assert_eq!(host.run_with_input(&["run", "--profile", "careful", "-"], b"SAY y").ok().stdout, "y\n");
}

#[test]
fn configuration_that_was_just_saved_is_used() {
    let host = TestHost::granted("");
    host.run(&["runs"]).ok();
    host.configure("[providers.shout]\nplugin = \"command\"\nexecutable = \"cat\"\n");
    assert_eq!(host.run(&["run", "shout", "hello"]).ok().stdout, "hello");
    host.configure("[providers.shout]\nplugin = \"command\"\nexecutabl = \"cat\"\n[scheduler]\nglobal = \"x\"\n");
    let done = host.run(&["run", "other", "hello"]).code(5);
    assert!(done.stderr.contains("config.toml has errors"), "{}", done.stderr);
}

#[test]
fn invalid_edit_is_kept_as_a_draft_and_changes_nothing() {
    let mut host = TestHost::new();
    host.configure("[scheduler]\nglobal = 3\n");
    let editor = host.root().join("editor");
    fs::write(&editor, "#!/bin/sh\nfor last; do :; done\nprintf '%s' \"$TEXT\" > \"$last\"\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    host.set("VISUAL", format!("{} --wait", editor.display()));
    host.set("TEXT", "[scheduler]\nglobel = 4\n");
    let done = host.run(&["config", "edit"]).code(2);
    assert!(done.stderr.contains(":2:1:") && done.stderr.contains("your text is kept in"), "{}", done.stderr);
    let config = || fs::read_to_string(host.home().join("config.toml")).unwrap();
    assert_eq!(config(), "[scheduler]\nglobal = 3\n");
    let draft = host.home().join("config.toml.draft");
    assert_eq!(fs::read_to_string(&draft).unwrap(), "[scheduler]\nglobel = 4\n");
    let mut command = host.command(&["config", "edit"]);
    command.env("TEXT", "[scheduler]\nglobal = 4\n");
    let done = host.finish(command).ok();
    assert!(done.stderr.contains("continuing with the draft"), "{}", done.stderr);
    assert_eq!(config(), "[scheduler]\nglobal = 4\n");
    assert!(!draft.exists());
    let mut command = host.command(&["config", "edit"]);
    command.env("VISUAL", "false");
    host.finish(command).code(74);
    assert!(!draft.exists(), "an editor that fails leaves nothing behind");
}

#[test]
fn rerun_refuses_to_clear_an_unknown_field() {
    let host = TestHost::granted("");
    let run =
        host.run(&["run", "--json=result", "rehearsal", "SAY x"]).ok().json()["runId"].as_str().unwrap().to_owned();
    let done = host.run(&["rerun", &run, "--clear", "nope"]).code(2);
    assert!(done.stderr.contains("unknown field"), "{}", done.stderr);
    host.run(&["rerun", &run, "--clear", "harness.limits.maxTurns"]).ok();
}

#[test]
fn grant_of_the_home_folder_warns_and_a_new_home_is_reported() {
    let host = TestHost::new();
    let user = host.user();
    let done = host.run(&["grant", "add", user.to_str().unwrap()]).ok();
    assert!(done.stderr.contains("your home folder"), "{}", done.stderr);
    assert!(host.run(&["grant", "add"]).ok().stderr.is_empty());
    let typo = host.root().join("hoem");
    let typed = ["--home", typo.to_str().unwrap(), "runs"];
    let done = host.run(&typed).ok();
    assert!(done.stderr.contains("created ") && done.stderr.contains("hoem"), "{}", done.stderr);
    assert!(!host.run(&typed).ok().stderr.contains("created "), "the message is printed only once");
    host.run(&["--home", typo.to_str().unwrap(), "stop"]).ok();
}

#[test]
fn capabilities_of_one_provider_fail_if_it_is_not_installed() {
    let host = TestHost::with_config("[providers.gone]\nplugin = \"codex\"\nexecutable = \"/no/such/codex\"\n");
    let done = host.run(&["capabilities", "gone"]).code(6);
    assert!(done.stdout.contains("not installed"), "{}", done.stdout);
    let listed = host.run(&["capabilities", "--json"]).ok().json();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["provider"].as_str().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");
    let rehearsal = host.run(&["capabilities", "rehearsal"]).ok().stdout;
    assert!(rehearsal.contains("features") && rehearsal.contains("resume"), "{rehearsal}");
}

#[test]
fn command_aliases_work() {
    let host = TestHost::granted("");
    for args in [
        ["ls", "--json"].as_slice(),
        &["ps", "--json"],
        &["grants", "list", "--json"],
        &["profiles", "list", "--json"],
        &["plugins", "list", "--json"],
        &["tokens", "status", "--json"],
    ] {
        host.run(args).ok();
    }
    assert_eq!(host.run(&["version"]).ok().stdout, host.run(&["--version"]).ok().stdout);
}

/// The README states this rule. The arrays are results of API methods, and scripts read them with `.[]`.
#[test]
fn json_list_is_an_object_if_it_has_pages_and_an_array_otherwise() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY x"]).ok();
    for list in ["runs", "chat list"] {
        let page = host.run(&args_of(list)).ok().json();
        assert!(page["items"].is_array() && page["total"].is_u64(), "{list}: {page}");
    }
    let found = host.run(&args_of("search x")).ok().json();
    for part in ["runs", "conversations"] {
        assert!(found[part]["items"].is_array() && found[part]["total"].is_u64(), "search: {found}");
    }
    for list in ["queue", "profile list", "grant list", "capabilities", "access list", "audit list", "wait @"] {
        let complete = host.run(&args_of(list)).ok().json();
        assert!(complete.is_array(), "{list}: {complete}");
    }
    let plugins = host.run(&args_of("plugin list")).ok().json();
    assert!(plugins["plugins"].is_array() && plugins["providers"].is_array(), "{plugins}");
}

fn args_of(command: &str) -> Vec<&str> {
    command.split(' ').chain(["--json"]).collect()
}

#[test]
fn long_line_that_a_plugin_reads_causes_no_warning() {
    let host = TestHost::granted("");
    let events = host.events_of(&["rehearsal", "LINE 1024"]);
    assert!(crate::support::warning_codes(&events).is_empty(), "{:?}", crate::support::warning_codes(&events));
}

#[test]
fn configuration_problems_have_line_and_column_in_json() {
    let host = TestHost::with_config("[scheduler]\nglobel = 4\n");
    let found = host.run(&["config", "check", "--json"]).code(2).json();
    assert_eq!(found["valid"], false);
    assert_eq!((&found["problems"][0]["line"], &found["problems"][0]["column"]), (&json!(2), &json!(1)));
    let done = host.run(&["runs"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("config.toml") && done.stderr.contains("scheduler.globel"), "{}", done.stderr);
}

#[test]
fn doctor_checks_everything_and_fails_if_something_is_broken() {
    let host = TestHost::granted("[providers.gone]\nplugin = \"codex\"\nexecutable = \"/no/such/codex\"\n");
    let found = host.run(&["doctor", "--json"]).ok().json();
    assert_eq!(found["ok"], true, "{found}");
    let check = |found: &Value, name: &str| {
        let checks = found["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {found}")).clone()
    };
    for name in
        ["configuration", "data folder", "disk", "limits", "host", "sandbox", "keyring", "seal key", "audit trail"]
    {
        assert_ne!(check(&found, name)["state"], "broken", "{found}");
    }
    assert_eq!(check(&found, "grants")["message"], "1 folder");
    let gone = check(&found, "provider gone");
    assert_eq!((&gone["state"], &gone["message"]), (&json!("warning"), &json!("not installed")));
    assert!(gone["hint"].as_str().unwrap().contains("install"), "{gone}");

    host.configure("[scheduler]\nglobel = 4\n");
    let done = host.run(&["doctor"]).code(1);
    assert!(done.stdout.contains("broken") && done.stdout.contains("has 1 error"), "{}", done.stdout);

    host.configure("");
    host.stop();
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    database.execute("UPDATE audit_log SET actor = 'nobody' WHERE seq = 1", []).unwrap();
    drop(database);
    let found = host.run(&["doctor", "--json"]).code(1).json();
    assert_eq!(check(&found, "audit trail")["state"], "broken");
    // The status reports it, too, without an explicit verification.
    crate::support::wait_until("the problem in the status", Duration::from_secs(30), || {
        host.run(&["status"]).ok().stdout.contains("audit trail is not intact").then_some(())
    });
}
