//! Secrets from the model, the prompt, the environment and tools appear nowhere: not in a file of the host, not in an
//! event, not on a terminal, not in the process list.

use crate::support::{SecretProbe, TestHost, answer, check_run_events};
use serde_json::json;
use std::process::Command;

const LETTERS: &str = "R7mZ2kQ9xT4vB8nL1cW6yH3jD5fS0gPaUeIoKpVtXwMsJdFhNbGzCqYrEuAiOl";

/// A made-up token. It is built here, so that this file contains none.
fn token(start: usize) -> String {
    let body: String = LETTERS.chars().cycle().skip(start).step_by(7).take(36).collect();
    format!("{}{body}", ["gh", "p_"].concat())
}

/// The secrets that `LEAK` prints for a seed, from the rehearsal itself.
fn leaked(host: &TestHost, seed: u64) -> Vec<String> {
    let mut command = host.command(&["__rehearse", "--format=text"]);
    command.env("REHEARSAL_HOME", host.root().join("tmp/sessions"));
    let prompt = host.root().join("tmp/prompt");
    std::fs::write(&prompt, format!("LEAK {seed}")).unwrap();
    let output = command.stdin(std::fs::File::open(&prompt).unwrap()).output().unwrap();
    std::fs::remove_file(prompt).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let secrets: Vec<String> = text
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || "_-.+".contains(letter)))
        .filter(|word| word.len() >= 16 && word.chars().any(|letter| letter.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    assert!(secrets.len() >= 20, "{secrets:?}");
    secrets
}

/// Checks that no secret is in the output of commands, in the events of the run, or in any file.
fn assert_nowhere(host: &TestHost, probe: &SecretProbe, run: &str, except: &[&std::path::Path]) {
    probe.assert_not_in_process_list();
    for args in [
        vec!["show", run],
        vec!["show", "--json", run],
        vec!["logs", run],
        vec!["logs", "--json", run],
        vec!["runs"],
        vec!["runs", "--json"],
        vec!["queue"],
        vec!["status", "--json"],
    ] {
        let done = host.run(&args).ok();
        probe.assert_not_in(&args.join(" "), done.all());
    }
    let events = host.run_events(run);
    check_run_events(&events);
    probe.assert_not_in("the events", serde_json::to_vec(&events).unwrap());
    // While the host runs, with its write-ahead log, and again after it has written everything back.
    probe.assert_not_below(host.root(), except);
    host.stop();
    probe.assert_not_below(host.root(), except);
}

#[test]
fn secrets_in_model_output_are_redacted_everywhere() {
    let host = TestHost::granted("");
    for seed in [7, 8] {
        let probe = SecretProbe::new(&leaked(&host, seed));
        let done = host.run(&["run", "rehearsal", &format!("LEAK {seed}")]).ok();
        probe.assert_not_in("the terminal", done.all());
        assert!(done.stdout.contains("[REDACTED:"), "{}", done.stdout);
        let json = host.run(&["run", "--json", "rehearsal", &format!("LEAK {seed}")]).ok();
        probe.assert_not_in("the JSON lines", json.all());
        let run = json.json_lines()[0]["runId"].as_str().unwrap().to_owned();
        assert_nowhere(&host, &probe, &run, &[]);
    }
}

#[test]
fn secrets_in_the_prompt_are_redacted_everywhere() {
    let host = TestHost::granted("");
    let secret = token(0);
    let probe = SecretProbe::new(std::slice::from_ref(&secret));
    let prompt = format!("SAY the key is {secret}, keep it");
    let done = host.run_with_input(&["run", "--json", "rehearsal", "-"], prompt.as_bytes()).ok();
    let events = done.json_lines();
    assert!(answer(&events).contains("the key is [REDACTED:"), "{}", answer(&events));
    probe.assert_not_in("the JSON lines", done.all());
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    assert!(!host.record(&run)["sealedPointers"].as_array().unwrap().is_empty());
    assert_nowhere(&host, &probe, &run, &[]);
}

#[test]
fn secrets_in_tool_output_are_redacted_everywhere() {
    let host = TestHost::granted("");
    let secret = token(3);
    let probe = SecretProbe::new(std::slice::from_ref(&secret));
    let file = host.file("service.env", format!("PLAIN=1\nSERVICE_TOKEN={secret}\nLAST=2\n"));
    let done = host.run(&["run", "--json", "rehearsal", "RUN cat service.env; base64 -w0 service.env"]).ok();
    probe.assert_not_in("the JSON lines", done.all());
    let events = done.json_lines();
    let output = crate::support::tool_outputs(&events);
    assert!(output.contains("PLAIN=1") && output.contains("LAST=2"), "{output}");
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    assert_nowhere(&host, &probe, &run, &[&file]);
}

#[test]
fn secrets_in_the_environment_are_masked_in_every_encoding() {
    let mut host = TestHost::granted("");
    // No rule matches this value: only the host knows that it is a secret.
    let secret = "correct horse \"battery\" staple/42";
    let probe = SecretProbe::new(&[secret.to_owned(), percent(secret), base64(secret)]);
    host.set("SERVICE_PASSWORD", secret);
    let script = "printf '%s\\n' \"$SERVICE_PASSWORD\"; printf %s \"$SERVICE_PASSWORD\" | base64 -w0; echo; \
                  python3 -c 'import os,urllib.parse,json; v=os.environ[\"SERVICE_PASSWORD\"]; \
                  print(urllib.parse.quote(v, safe=\"\")); print(json.dumps(v))' || true";
    for prompt in [format!("RUN {script}"), "ENV SERVICE_PASSWORD".to_owned()] {
        let done = host.run(&["run", "--json", "rehearsal", "--env", "SERVICE_PASSWORD", &prompt]).ok();
        probe.assert_not_in("the JSON lines", done.all());
        let events = done.json_lines();
        assert!(answer(&events).contains("[REDACTED:"), "{}", answer(&events));
        let run = events[0]["runId"].as_str().unwrap().to_owned();
        assert_nowhere(&host, &probe, &run, &[]);
    }
}

#[test]
fn masks_values_of_names_without_underscore_in_broken_and_doubled_encodings() {
    let mut host = TestHost::granted("[policy]\nallow_environment = [\"SSHPASS\"]\n");
    let secret = "correct-horse-battery-staple-42-over-seven-bridges-and-back-again-7";
    let probe = SecretProbe::new(&[secret.to_owned(), base64(secret)]);
    host.set("SSHPASS", secret);
    let script = "printf '%s\\n' \"$SSHPASS\" | fold -w 30; printf %s \"$SSHPASS\" | base64 -w 60; \
                  printf %s \"$SSHPASS\" | base64 -w0 | base64 -w0; echo";
    let done = host.run(&["run", "--json", "rehearsal", "--env", "SSHPASS", &format!("RUN {script}")]).ok();
    let events = done.json_lines();
    let output = crate::support::tool_outputs(&events);
    let twice = base64(&base64(secret));
    let parts = [&secret[..20], &secret[40..], &base64(secret)[60..84], &twice[..40], &twice[60..100]];
    for part in parts {
        assert!(!done.all().contains(part), "{part}: {output}");
    }
    probe.assert_not_in("the JSON lines", done.all());
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    assert_nowhere(&host, &probe, &run, &[]);
}

#[test]
fn masks_redacted_parts_of_the_prompt_in_output() {
    let host = TestHost::granted("");
    // Without the name in front of it, no rule matches this value.
    let secret = "Cbgrr2664pikfCYY";
    let probe = SecretProbe::new(&[secret.to_owned()]);
    let prompt = format!("RUN printf '%s\\n' 'password={secret}' | cut -d= -f2 | sed 's/^/it is /'");
    let done = host.run_with_input(&["run", "--json", "rehearsal", "-"], prompt.as_bytes()).ok();
    probe.assert_not_in("the JSON lines", done.all());
    let events = done.json_lines();
    let output = crate::support::tool_outputs(&events);
    assert!(output.contains("it is [REDACTED:"), "{output}");
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    assert_nowhere(&host, &probe, &run, &[]);
}

#[test]
fn secrets_in_the_configuration_are_masked() {
    // No rule matches this value, and no caller sends it: it is in the environment of the provider.
    let secret = "plain words over seven bridges";
    let host =
        TestHost::granted(&format!("[providers.rehearsal]\nenvironment = {{ SERVICE_PASSWORD = \"{secret}\" }}\n"));
    let probe = SecretProbe::new(&[secret.to_owned()]);
    let done = host.run(&["run", "--json", "rehearsal", "ENV SERVICE_PASSWORD"]).ok();
    probe.assert_not_in("the JSON lines", done.all());
    let events = done.json_lines();
    assert!(answer(&events).contains("[REDACTED:"), "{}", answer(&events));
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    assert_nowhere(&host, &probe, &run, &[&host.home().join("config.toml")]);
}

#[test]
fn secrets_are_in_no_command_line_during_a_run() {
    let host = TestHost::granted("");
    let secret = token(5);
    let probe = SecretProbe::new(std::slice::from_ref(&secret));
    let payload = json!({
        "provider": "rehearsal", "prompt": format!("SLOW 600\n{secret}"), "cwd": host.work(),
        "harness": { "systemPrompt": format!("use {secret}"), "processEnv": { "API_TOKEN": secret } }
    });
    let run = host.call("start_run", &payload);
    let run = match run {
        Ok(run) => run["runId"].as_str().unwrap().to_owned(),
        // No host is running: the first command starts one.
        Err(_) => {
            host.ensure_running();
            host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned()
        }
    };
    let mut follower = host.follow(&["logs", "--json", "-f", &run]);
    follower.wait_for("the first word", |event| event["payload"]["kind"] == "text_delta");
    probe.assert_not_in_process_list();
    // Only the private files of the agent (0600) contain its input, and only while it runs.
    probe.assert_not_below(&host.home(), &[&host.home().join("data/private")]);
    host.run(&["cancel", &run]).ok();
    drop(follower);
    assert_nowhere(&host, &probe, &run, &[]);
}

#[test]
fn errors_do_not_repeat_secrets() {
    let host = TestHost::granted("");
    host.ensure_running();
    let secret = token(9);
    let probe = SecretProbe::new(std::slice::from_ref(&secret));
    let payload = json!({
        "provider": "rehearsal", "prompt": format!("SAY {secret}"), "cwd": format!("/no/{secret}"), "model": 7,
        "timeoutSeconds": secret
    });
    let refused = host.call("start_run", &payload).unwrap_err();
    probe.assert_not_in("the error", refused.text());
    host.stop();
    probe.assert_not_below(host.root(), &[]);
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn session_files_of_the_rehearsal_contain_no_prompt() {
    let host = TestHost::granted("");
    let secret = token(11);
    host.run_with_input(&["run", "rehearsal", "-"], format!("SAY {secret}").as_bytes()).ok();
    let found = Command::new("grep").args(["-r", &secret]).arg(host.home()).output().unwrap();
    assert!(found.stdout.is_empty());
}

/// Programs that run the prompt: one with an ordinary word among its arguments, one with a password.
const WITH_ARGUMENTS: &str = r#"
policy.allow_environment = ["POSTGRES_PASSWORD", "APP_CREDENTIALS"]
[providers.database]
plugin = "command"
executable = "sh"
settings = { args = ["-s", "--", "--dbname=postgres"] }
[providers.password]
plugin = "command"
executable = "sh"
settings = { args = ["-s", "--", "--password=postgres"] }
"#;

/// The stored output of the program of a run.
fn printed(events: &[serde_json::Value]) -> String {
    let chunks = crate::support::of_type(events, "run.chunk.stdout");
    chunks.iter().map(|event| event["payload"]["text"].as_str().unwrap()).collect()
}

#[test]
fn masks_an_ordinary_word_only_where_it_is_the_password() {
    let host = TestHost::granted(WITH_ARGUMENTS);
    let script = "echo database postgres is up; echo \"POSTGRES_PASSWORD=$POSTGRES_PASSWORD\"; \
                  echo \"postgres://postgres:$POSTGRES_PASSWORD@localhost/postgres\"; echo \"$@\"";
    let arguments = |provider| ["run", "--json", "--env", "POSTGRES_PASSWORD=postgres", provider, script];
    let done = host.run(&arguments("database")).ok();
    let events = done.json_lines();
    let expected = "database postgres is up\nPOSTGRES_PASSWORD=[REDACTED:postgres-password]\n\
                    postgres://postgres:[REDACTED:postgres-password]@localhost/postgres\n--dbname=postgres\n";
    let output = printed(&events);
    assert_eq!(output, expected);
    let probe = SecretProbe::new(&["RD=postgres".to_owned(), ":postgres@".to_owned()]);
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    let refused = host.run(&arguments("password"));
    assert!(refused.all().contains("would show the value of POSTGRES_PASSWORD"), "{}", refused.all());
    assert_nowhere(&host, &probe, &run, &[]);
}

#[test]
fn masks_secret_members_of_a_document_and_keeps_ordinary_lines() {
    let host = TestHost::granted(WITH_ARGUMENTS);
    let (id, key) = ("8b25a1cbf040dfa0f3d273140a8a96d99b341a0b", "kettle-orbit-seven-bridges");
    let document =
        format!("{{\n  \"type\": \"service_account\",\n  \"serial\": \"{id}\",\n  \"client_secret\": \"{key}\"\n}}\n");
    let script = "printf '{\\n  \"type\": \"service_account\",\\n  \"other\": 1\\n}\\n'; \
                  printf '%s' \"$APP_CREDENTIALS\" | cut -d'\"' -f4 | sed 's/^/it has /'; printf '%s\\n' \"$APP_CREDENTIALS\"";
    let variable = format!("APP_CREDENTIALS={document}");
    let done = host.run(&["run", "--json", "--env", &variable, "database", script]).ok();
    let events = done.json_lines();
    let output = printed(&events);
    let (mask, other) = ("[REDACTED:app-credentials]", "{\n  \"type\": \"service_account\",\n  \"other\": 1\n}\n");
    let members = format!("it has {{\nit has service_account\nit has {mask}\nit has {mask}\nit has }}\n");
    assert_eq!(output, format!("{other}{members}{{\n  {mask}\n  {mask}\n  {mask}\n{mask}\n\n"));
    let probe = SecretProbe::new(&[id.to_owned(), key.to_owned()]);
    let run = events[0]["runId"].as_str().unwrap().to_owned();
    assert_nowhere(&host, &probe, &run, &[]);
}

#[test]
fn redact_prints_files_and_keeps_all_other_bytes() {
    let host = TestHost::new();
    let (secret, folder) = (token(3), host.root().join("texts"));
    std::fs::create_dir(&folder).unwrap();
    let before = [b"caf\xe9 \xff\x00\r\n", "- name: DB_PASSWORD\n  value: ".as_bytes()].concat();
    let first = [before.as_slice(), b"x7Qm2kV9tR4wZs81\r\nlast\rline"].concat();
    std::fs::write(folder.join("a.log"), &first).unwrap();
    std::fs::write(folder.join("b.log"), format!("token {secret} here\n")).unwrap();

    let mut command = host.command(&["redact", "a.log", "b.log", "-"]);
    command.current_dir(&folder).stdin(std::fs::File::open(folder.join("b.log")).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = b"token [REDACTED:github-pat] here\n";
    let expected =
        [before.as_slice(), b"[REDACTED:generic-password]\r\nlast\rline", line.as_slice(), line.as_slice()].concat();
    assert_eq!(output.stdout, expected, "{}", String::from_utf8_lossy(&output.stdout));

    // All errors are reported at once, and nothing is printed.
    let missing = host.run(&["redact", &folder.join("b.log").to_string_lossy(), "/nowhere/x.log", "/"]).code(74);
    assert_eq!(missing.stdout, "");
    assert!(missing.stderr.contains("/nowhere/x.log: No such file"), "{}", missing.stderr);
    assert!(missing.stderr.contains("/: is a folder"), "{}", missing.stderr);
}
