//! Commands that follow and find runs: `wait`, `attach`, `logs -f`, names of the newest runs, filters, and times.

use crate::support::terminal::{CTRL_BACKSLASH, CTRL_C, Terminal};
use crate::support::{Follower, TIMEOUT, TestHost, end_of, wait_until};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// A run that prints something and continues when its file exists.
struct GatedRun {
    run: String,
    gate: PathBuf,
}

impl GatedRun {
    /// Starts one and waits until it has printed `before-NAME`. When it continues, it prints `after-NAME`.
    #[track_caller]
    fn start(host: &TestHost, name: &str) -> Self {
        let gate = host.work().join(name);
        let script =
            format!("echo before-{name}; while [ ! -e {} ]; do sleep 0.02; done; echo after-{name}", gate.display());
        let run = host.detach(&["rehearsal", &format!("RUN {script}")]);
        wait_until("its first output", TIMEOUT, || {
            let events = host.run_events(&run);
            events.iter().any(|event| event["payload"]["kind"] == "tool_delta").then_some(())
        });
        Self { run, gate }
    }

    fn open(&self) {
        fs::write(&self.gate, "").unwrap();
    }
}

fn short(run: &str) -> &str {
    &run[run.len() - 8..]
}

#[test]
fn wait_ends_with_the_exit_code_of_the_run() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\nper_provider = 4\n");
    let good = host.detach(&["rehearsal", "SAY well"]);
    let bad = host.detach(&["rehearsal", "FAIL usage"]);
    let slow = GatedRun::start(&host, "slow");
    let done = host.run(&["wait", &good]).ok();
    assert_eq!(done.stdout, format!("{} completed\n", short(&good)));
    let done = host.run(&["wait", &bad]).code(1);
    assert_eq!(done.stdout, format!("{} failed: usage\n", short(&bad)));
    // Of several runs, the exit code is that of the first that failed, in the order of the arguments. Each is shown
    // once.
    let canceled = host.detach(&["rehearsal", "SLEEP 600"]);
    host.run(&["cancel", &canceled]).ok();
    host.run(&["wait", &good, &canceled, &bad]).code(130);
    let both = host.run(&["wait", &good, &bad, &good, "--json"]).code(1).json();
    let codes: Vec<_> = both.as_array().unwrap().iter().map(|run| run["exitCode"].clone()).collect();
    assert_eq!(codes, [json!(0), json!(1)], "{both}");
    assert_eq!(both[1]["reason"], "usage", "{both}");

    // Time limits do not end the run.
    let late = host.run(&["wait", &slow.run, &good, "--timeout", "50ms"]).code(124);
    assert!(late.stderr.contains(short(&slow.run)) && !late.stderr.contains(short(&good)), "{}", late.stderr);
    let late = host.run(&["wait", &slow.run, "--timeout", "0", "--json"]).code(124).json();
    assert_eq!((&late[0]["status"], late[0].get("exitCode")), (&json!("running"), None), "{late}");
    assert_eq!(host.record(&slow.run)["status"], "running");

    let waiting = host.follow(&["wait", &slow.run]);
    slow.open();
    assert_eq!(waiting.finish().0, 0);
    host.run(&["wait", &slow.run, "0199c0de-0000-7000-8000-000000000000"]).code(5);
    host.run(&["wait"]).code(2);
    host.run(&["wait", &good, "--timeout", "soon"]).code(2);
}

#[test]
fn attach_from_now_shows_only_later_events() {
    let host = TestHost::granted("");
    let slow = GatedRun::start(&host, "here");
    let attached = host.follow(&["attach", "--json", "--from-now", &slow.run]);
    let whole = host.follow(&["attach", "--json", &slow.run]);
    wait_until("two subscribers", TIMEOUT, || {
        (host.call("get_status", &json!({})).unwrap()["subscribers"] == 2).then_some(())
    });
    slow.open();
    let (code, lines, _) = attached.finish();
    assert_eq!(code, 0);
    let text = lines.join("\n");
    assert!(text.contains("after-here") && !text.contains("run.started"), "{text}");
    let (code, lines, _) = whole.finish();
    assert_eq!(code, 0);
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, host.run_events(&slow.run));

    // A run that has ended is shown whole, and gives its exit code.
    let failed = host.detach(&["rehearsal", "FAIL authentication"]);
    host.wait_for_end(&failed);
    let done = host.run(&["attach", &failed]).code(1);
    assert!(done.stderr.contains("authentication"), "{}", done.stderr);
    let output = host.detach(&["rehearsal", "SAY all of it"]);
    host.wait_for_end(&output);
    assert_eq!(host.run(&["attach", "@"]).ok().stdout, "all of it\n");
}

#[test]
fn attach_joins_an_answer_that_is_being_written() {
    let host = TestHost::granted(
        "[providers.sh]\nplugin = \"command\"\nexecutable = \"sh\"\n[providers.sh.settings]\n\
        args = [\"-c\", \"echo one; while [ ! -e go ]; do sleep 0.02; done; echo two\"]\n",
    );
    let run = host.detach(&["sh", "x"]);
    wait_until("the first line", TIMEOUT, || {
        host.run_events(&run).iter().any(|event| event["type"] == "run.chunk.stdout").then_some(())
    });
    let attached = host.follow(&["attach", "--from-now", &run]);
    let whole = host.follow(&["attach", &run]);
    host.wait_for_count("subscribers", 2);
    host.file("go", "");
    let (code, lines, errors) = attached.finish();
    assert_eq!((code, lines), (0, vec!["two".to_owned()]), "{errors}");
    let (code, lines, errors) = whole.finish();
    assert_eq!((code, lines), (0, vec!["one".to_owned(), "two".to_owned()]), "{errors}");
}

#[test]
fn ctrl_c_leaves_an_attached_run_and_cancels_a_started_one() {
    let host = TestHost::granted("");
    let slow = GatedRun::start(&host, "terminal");
    for (keys, code) in [(CTRL_C, 130), (CTRL_BACKSLASH, 131)] {
        let mut terminal = Terminal::start(host.command(&["attach", &slow.run]));
        terminal.wait_for("attached to run");
        host.wait_for_count("subscribers", 1);
        terminal.type_keys(keys);
        terminal.wait_for("which continues");
        assert_eq!(terminal.finish().0, code);
        host.wait_for_count("subscribers", 0);
    }
    assert_eq!(host.record(&slow.run)["status"], "running");
    slow.open();
    host.run(&["wait", &slow.run]).ok();

    let mut terminal = Terminal::start(host.command(&["run", "rehearsal", "SLEEP 600"]));
    wait_until("a running run", TIMEOUT, || (host.record(&newest(&host))["status"] == "running").then_some(()));
    host.wait_for_count("subscribers", 1);
    terminal.type_keys(CTRL_BACKSLASH);
    terminal.wait_for("left run ");
    let left = terminal.wait_for(", which continues");
    assert_eq!(terminal.finish().0, 131);
    assert_eq!(host.record(&newest(&host))["status"], "running", "{left}");
    assert!(newest(&host).ends_with(&left), "{left}");

    host.run(&["cancel", "@"]).ok();
    let mut terminal = Terminal::start(host.command(&["run", "rehearsal", "SLEEP 600"]));
    host.wait_for_count("running", 1);
    terminal.type_keys(CTRL_C);
    terminal.wait_for("canceling run");
    assert_eq!(terminal.finish().0, 130);
    assert_eq!(host.record(&newest(&host))["status"], "canceled");
}

fn newest(host: &TestHost) -> String {
    let listed = host.call("list_runs", &json!({"limit": 1})).unwrap();
    listed["items"][0]["runId"].as_str().unwrap().to_owned()
}

#[test]
fn ctrl_c_in_a_script_ends_the_script() {
    let host = TestHost::granted("");
    host.ensure_running();
    let script = host.file("x.sh", "\"$OSTLER\" run rehearsal 'SLEEP 600'\necho went on\n");
    let mut terminal = Terminal::start(host.shell(&format!("bash {}; echo outside", script.display())));
    host.wait_for_count("running", 1);
    terminal.type_keys(CTRL_C);
    terminal.wait_for("canceling run");
    let (code, rest) = terminal.finish();
    assert_eq!(code, 130, "{rest}");
    assert!(!rest.contains("went on") && !rest.contains("outside"), "{rest}");
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], 1);
}

#[test]
fn logs_show_text_as_it_comes_and_end_with_the_exit_code_of_the_run() {
    let host = TestHost::granted("");
    let slow = GatedRun::start(&host, "log");
    let mut log = host.follow(&["logs", "-f", &slow.run]);
    let line = next_line_with(&mut log, "output");
    assert!(line.contains("before-log"), "{line}");
    slow.open();
    let (code, rest, _) = log.finish();
    assert_eq!(code, 0);
    assert_eq!(rest.iter().filter(|line| line.contains("after-log") && !line.contains("tool")).count(), 2, "{rest:#?}");
    assert!(rest.last().unwrap().contains("done"), "{rest:#?}");

    let failed = host.detach(&["rehearsal", "FAIL usage"]);
    host.run(&["logs", "-f", &failed]).code(1);
    host.run(&["logs", "-f", "--json", &failed]).code(1);
    host.run(&["logs", &failed]).ok();

    // The last entries, before and after the end, as lines and as events.
    let all: Vec<String> = host.run(&["logs", &failed]).ok().stdout.lines().map(str::to_owned).collect();
    let last: Vec<String> = host.run(&["logs", "-n", "2", &failed]).ok().stdout.lines().map(str::to_owned).collect();
    assert_eq!(last, all[all.len() - 2..]);
    assert_eq!(host.run(&["logs", "-n", "0", &failed]).ok().stdout, "");
    assert_eq!(host.run(&["logs", "-n", "2", "-f", &failed]).code(1).stdout.lines().count(), 2);
    let events = host.run_events(&failed);
    assert_eq!(host.run(&["logs", "-n", "3", "--json", &failed]).ok().json_lines(), events[events.len() - 3..]);

    let slow = GatedRun::start(&host, "tail");
    let mut log = host.follow(&["logs", "-f", "-n", "0", "--json", &slow.run]);
    host.wait_for_count("subscribers", 1);
    slow.open();
    log.wait_for("the end", |event| end_of(std::slice::from_ref(event)).is_some());
    assert!(log.seen().iter().all(|event| event["type"] != "run.started"), "{:#?}", log.seen());
    assert!(log.seen().iter().any(|event| event.to_string().contains("after-tail")), "{:#?}", log.seen());
}

#[track_caller]
fn next_line_with(log: &mut Follower, part: &str) -> String {
    log.wait_for_text(part)
}

#[test]
fn newest_runs_have_short_names() {
    let host = TestHost::granted("");
    for args in [["show", "@"], ["logs", "last"], ["wait", "@2"]] {
        let done = host.run(&args).code(5);
        assert!(done.stderr.contains("there are no runs yet"), "{}", done.stderr);
    }
    host.run(&["run", "rehearsal", "SAY first"]).ok();
    host.run(&["run", "rehearsal", "SAY second"]).ok();
    let answer = |name: &str| host.run(&["export", name, "--format", "txt", "--output", "-"]).ok().stdout;
    assert_eq!(
        [answer("last"), answer("@"), answer("@1"), answer("@2")],
        ["second\n", "second\n", "second\n", "first\n"]
    );
    let done = host.run(&["show", "@3"]).code(5);
    assert!(done.stderr.contains("there are only 2"), "{}", done.stderr);
    for wrong in ["@0", "@x", "@-1", "LAST"] {
        host.run(&["show", wrong]).code(2);
    }
    assert_eq!(host.run(&["rerun", "@2"]).ok().stdout, "first\n");
    host.run(&["cancel", "@"]).ok();

    let chat = host.run(&["chat", "new", "rehearsal"]).ok().stdout;
    host.run(&["chat", "send", "@", "SAY in the chat"]).ok();
    assert!(host.run(&["chat", "show", "last"]).ok().stdout.contains(chat.trim()));
}

#[test]
fn runs_are_found_by_time_folder_and_conversation() {
    let host = TestHost::granted("");
    let (inner, beside) = (host.work().join("inner"), host.work().join("inner-2"));
    fs::create_dir(&inner).unwrap();
    fs::create_dir(&beside).unwrap();
    host.run(&["run", "rehearsal", "SAY outside"]).ok();
    host.run_in(&inner, &["run", "rehearsal", "SAY inside"]).ok();
    host.run_in(&beside, &["run", "rehearsal", "SAY beside"]).ok();
    let chat = host.run(&["chat", "new", "rehearsal"]).ok().stdout;
    host.run(&["chat", "send", chat.trim(), "SAY in a chat"]).ok();

    let titles = |folder: &PathBuf, args: &[&str]| -> Vec<String> {
        let all: Vec<&str> = ["runs", "--json"].iter().chain(args).copied().collect();
        let page = host.run_in(folder, &all).ok().json();
        assert_eq!(page["total"], page["items"].as_array().unwrap().len(), "{page}");
        page["items"].as_array().unwrap().iter().map(|run| run["title"].as_str().unwrap().replace("SAY ", "")).collect()
    };
    let work = host.work();
    assert_eq!(titles(&work, &["--cwd", "."]), ["in a chat", "beside", "inside", "outside"]);
    assert_eq!(titles(&work, &["--cwd", "inner"]), ["inside"]);
    assert_eq!(titles(&inner, &["--cwd", "."]), ["inside"]);
    assert_eq!(titles(&inner, &["--cwd", "../inner-2", "--status", "completed"]), ["beside"]);
    assert_eq!(titles(&inner, &["--cwd", "../inner-2", "--status", "failed"]), [""; 0]);
    assert_eq!(titles(&work, &["--cwd", "/"]).len(), 4);
    assert_eq!(titles(&work, &["--cwd", "/nowhere"]), [""; 0]);
    let link = host.root().join("link");
    std::os::unix::fs::symlink(&inner, &link).unwrap();
    assert_eq!(titles(&work, &["--cwd", link.to_str().unwrap()]), ["inside"], "links are resolved");
    assert_eq!(titles(&work, &["--chat", chat.trim()]), ["in a chat"]);
    assert_eq!(titles(&work, &["--since", "1h"]).len(), 4);
    assert_eq!(titles(&work, &["--since", "1h", "--cwd", "inner"]), ["inside"]);
    assert_eq!(titles(&work, &["--until", "1h"]), [""; 0]);
    assert_eq!(titles(&work, &["--since", "2020-01-01", "--until", "2020-01-02 09:00"]), [""; 0]);
    for wrong in [["--since", "last week"], ["--until", ""], ["--chat", "0199c0de-0000"]] {
        let all: Vec<&str> = ["runs"].iter().chain(&wrong).copied().collect();
        assert_ne!(host.run(&all).code, 0, "{wrong:?}");
    }
    let relative = host.call("list_runs", &json!({"cwd": "inner"})).unwrap_err();
    assert_eq!(relative.data()["pointer"], "/cwd");
}

#[test]
fn start_time_of_a_run_can_be_set() {
    let host = TestHost::granted("");
    let done = host.run(&["run", "rehearsal", "--detach", "--in", "2h", "SAY later"]).ok();
    assert!(done.stderr.contains("starts at "), "{}", done.stderr);
    let job = host.record(done.stdout.trim())["job"].clone();
    assert_eq!((&job["state"], &job["reason"]), (&json!("scheduled"), &json!("scheduled")), "{job}");
    let at = host.run(&["run", "rehearsal", "--detach", "-q", "--at", "2099-12-01 09:00", "SAY much later"]).ok();
    assert_eq!(at.stderr, "");
    let job = host.record(at.stdout.trim())["job"].clone();
    assert!(job["notBefore"].as_str().unwrap().starts_with("2099-1"), "{job}");
    host.run(&["run", "rehearsal", "--at", "now", "SAY at once"]).ok();
    let again = host.run(&["rerun", "@", "--detach", "--in", "1d"]).ok();
    assert_eq!(host.record(again.stdout.trim())["job"]["state"], "scheduled");
    for wrong in [["--at", "2020-01-01"], ["--at", "25:00"], ["--in", "soon"], ["--in", "-1h"]] {
        let all: Vec<&str> = ["run", "rehearsal", "SAY x"].iter().chain(&wrong).copied().collect();
        let done = host.run(&all).code(2);
        assert!(done.stderr.contains(wrong[0]), "{}", done.stderr);
    }
    host.run(&["run", "rehearsal", "--at", "23:00", "--in", "1h", "SAY x"]).code(2);
    host.run(&["cancel", "--all", "--yes"]).ok();
    assert_eq!(host.call("list_queue_jobs", &json!({})).unwrap(), json!([]));
}
