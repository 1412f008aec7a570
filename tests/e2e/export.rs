//! Exports: a run as a file in every format, redacted by the current rules, either complete or not written at all.

use crate::support::{SecretProbe, TestHost, kinds};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[track_caller]
fn run(host: &TestHost, prompt: &str) -> String {
    let done = host.run(&["run", "--json", "rehearsal", prompt]).ok();
    done.json_lines()[0]["runId"].as_str().unwrap().to_owned()
}

fn export(host: &TestHost, run: &str, format: &str) -> String {
    let result = host.call("export_run", &json!({"runId": run, "format": format})).unwrap();
    let path = result["path"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(result["bytes"].as_u64().unwrap(), text.len() as u64);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    text
}

fn exports(host: &TestHost) -> Vec<String> {
    let entries = fs::read_dir(host.home().join("data/exports")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_format_contains_the_run() {
    let host = TestHost::granted("");
    let run = run(&host, "RUN echo '<seen> & heard'; exit 3");
    let events = host.run_events(&run);

    let lines: Vec<Value> =
        export(&host, &run, "jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, events);
    let whole: Value = serde_json::from_str(&export(&host, &run, "json")).unwrap();
    assert_eq!(whole["events"], json!(events));
    assert_eq!((&whole["run"]["runId"], &whole["run"]["status"]), (&json!(run), &json!("completed")));
    let answer = host.record(&run)["finalText"].as_str().unwrap().to_owned();
    assert_eq!(export(&host, &run, "txt").trim_end(), answer.trim_end());
    let page = export(&host, &run, "md");
    for part in ["# RUN echo", "## Prompt", "## Transcript", "<details><summary>", "## Answer", "## Usage"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains("&lt;seen&gt; &amp; heard"), "{page}");
    assert!(page.contains("exit code 3"), "{page}");

    // A second export replaces the file, and there is only one record of it.
    export(&host, &run, "md");
    assert_eq!(exports(&host).len(), 4);
    let artifacts = host.record(&run)["artifacts"].as_array().unwrap().clone();
    assert_eq!(artifacts.len(), 4, "{artifacts:?}");
    assert!(artifacts.iter().all(|artifact| fs::exists(artifact["path"].as_str().unwrap()).unwrap()));
}

#[test]
fn exports_are_redacted_by_the_current_rules() {
    let host = TestHost::granted("");
    let secret = "acme-7f3e9a1c5b8d2e60";
    let probe = SecretProbe::new(&[secret.to_owned()]);
    let run = run(&host, &format!("SAY the code is {secret}, they say"));
    assert!(export(&host, &run, "txt").contains(secret), "no rule matches the code yet");
    host.stop();
    host.configure("[[redaction.rules]]\nid = \"acme\"\npattern = 'acme-[0-9a-f]{16}'\nkeywords = [\"acme-\"]\n");
    host.ensure_running();
    for format in ["md", "json", "jsonl", "txt"] {
        let text = export(&host, &run, format);
        probe.assert_not_in(format, &text);
        assert!(text.contains("the code is [REDACTED:acme], they say") || format.starts_with("json"), "{text}");
    }
    probe.assert_not_below(&host.home().join("data/exports"), &[]);
}

#[test]
fn export_to_a_given_path_stays_with_the_user() {
    let host = TestHost::granted("");
    let run = run(&host, "SAY hello");
    let file = host.work().join("run.json");
    let shown = host.run(&["export", &run, "--output", "run.json"]).ok().stdout;
    assert_eq!(shown.trim(), file.to_str().unwrap());
    assert!(fs::read_to_string(&file).unwrap().starts_with("{\"run\":"), "the format follows the file name");
    fs::write(&file, "old").unwrap();
    let result = host.run(&["export", &run, "--output", "run.json", "--json"]).ok().json();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("{\"run\":"), "{text}");
    assert_eq!(result, json!({"path": file, "bytes": text.len()}));
    assert_eq!(host.run(&["export", &run, "--format", "txt", "--output", "-"]).ok().stdout, "hello\n");
    let unknown = host.run(&["export", &run, "--output", "run.pdf", "--json"]).code(2).error();
    assert!(unknown["hint"].as_str().unwrap().contains("--format"), "{unknown}");
    assert_eq!(host.record(&run)["artifacts"], json!([]), "the host keeps no record of a file of the user");
    assert!(exports(&host).is_empty());

    let call = |path: Value| host.call("export_run", &json!({"runId": run, "format": "md", "path": path})).unwrap_err();
    for path in
        [json!("here.md"), json!("/"), json!(host.work()), json!(host.work().join("none/x.md")), json!("/tmp/\0")]
    {
        let error = call(path.clone());
        assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/path")), "{path}");
    }
    let unknown = json!({"runId": "01999999-8888-7777-8666-123456789abc", "format": "md"});
    assert_eq!(host.call("export_run", &unknown).unwrap_err().kind(), "NOT_FOUND");
    let wrong = host.call("export_run", &json!({"runId": run, "format": "pdf"})).unwrap_err();
    assert_eq!(&wrong.data()["pointer"], "/format");
    let left: Vec<_> = fs::read_dir(host.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["run.json"], "failed exports leave no file");

    // Retention deletes the run and the file of the host, but not the file of the user.
    host.run(&["retention", "set", "--megabytes", "1"]).ok();
    self::run(&host, "BIG 990");
    self::run(&host, "SAY newer");
    host.run(&["retention", "apply"]).ok();
    assert_eq!(host.call("get_run", &json!({"runId": run})).unwrap_err().kind(), "NOT_FOUND");
    assert!(exports(&host).is_empty());
    assert!(file.exists());
}

#[test]
fn failed_and_running_runs_can_be_exported() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "FAIL usage"]).code(1);
    let failed = host.call("list_runs", &json!({})).unwrap()["items"][0]["runId"].as_str().unwrap().to_owned();
    assert_eq!(host.call("export_run", &json!({"runId": failed, "format": "txt"})).unwrap_err().kind(), "CONFLICT");
    assert!(export(&host, &failed, "md").contains("- Status: failed (usage)"));

    let live = host.detach(&["rehearsal", "SLOW 600"]);
    let mut follower = host.follow(&["logs", "--json", "-f", &live]);
    follower.wait_for("the first word", |event| event["payload"]["kind"] == "text_delta");
    let lines: Vec<Value> =
        export(&host, &live, "jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds(&lines).contains(&"run.started"), "{lines:?}");
    assert!(export(&host, &live, "md").contains("- Status: running"));
}

#[test]
fn output_option_writes_the_answer_to_a_file() {
    let host = TestHost::granted("");
    let done = host.run(&["run", "rehearsal", "--output", "answer.txt", "SAY hello"]).ok();
    assert_eq!(done.stdout, "hello\n");
    assert_eq!(fs::read_to_string(host.work().join("answer.txt")).unwrap(), "hello\n");
    host.run(&["run", "rehearsal", "--output", "failed.txt", "FAIL usage"]).code(1);
    let before = host.call("list_runs", &json!({})).unwrap()["total"].clone();
    host.run(&["run", "rehearsal", "--output", "none/answer.txt", "SAY hello"]).code(2);
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], before, "no run was started");
    let left: Vec<_> = fs::read_dir(host.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["answer.txt"]);
}

#[test]
fn transient_export_is_not_recorded_and_is_removed_at_the_next_start() {
    let host = TestHost::granted("");
    let run = run(&host, "SAY hello");
    let wanted = json!({"runId": run, "format": "txt", "transient": true});
    let (one, other) = (host.call("export_run", &wanted).unwrap(), host.call("export_run", &wanted).unwrap());
    for result in [&one, &other] {
        assert_eq!(fs::read_to_string(result["path"].as_str().unwrap()).unwrap(), "hello\n");
        assert_eq!((&result["bytes"], &result["artifactId"]), (&json!(6), &Value::Null));
    }
    assert_ne!(one["path"], other["path"]);
    assert_eq!(host.record(&run)["artifacts"], json!([]));
    let mut to_path = wanted;
    to_path["path"] = json!(host.work().join("x.txt"));
    let error = host.call("export_run", &to_path).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/transient")));
    // A transient export that its caller has not deleted is removed at the next start.
    host.stop();
    host.ensure_running();
    assert!(exports(&host).is_empty());
}

#[test]
fn partial_export_of_a_killed_host_is_removed() {
    let host = TestHost::granted("");
    let run = run(&host, "SAY hello");
    export(&host, &run, "md");
    host.stop();
    let folder = host.home().join("data/exports");
    fs::write(folder.join(".ostler-export-a1B2c3.part"), "half").unwrap();
    host.ensure_running();
    assert_eq!(exports(&host), [format!("{run}.md")]);
}
