//! Output paths of the user: a plain file is replaced and keeps its properties, everything else is written in place,
//! and an unwritable path is refused before the run starts.

use crate::support::{Done, TestHost};
use serde_json::json;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

const NEW: &str = "SAY hello";

/// A host with a run whose answer is `hello`, and the id of that run.
fn test_host() -> (TestHost, String) {
    let host = TestHost::granted("");
    let done = host.run(&["run", "--json", "rehearsal", NEW]).ok();
    let run = done.json_lines()[0]["runId"].as_str().unwrap().to_owned();
    (host, run)
}

/// Writes the answer to a file, with `run` or with `export`.
fn write(host: &TestHost, run: Option<&str>, path: &str, more: &[&str]) -> Done {
    let mut args = match run {
        None => vec!["run", "rehearsal", NEW],
        Some(run) => vec!["export", run, "--format", "txt"],
    };
    args.extend(["--output", path]);
    args.extend(more);
    host.run(&args)
}

/// Both commands: `run` and `export`.
fn both(run: &str) -> [Option<&str>; 2] {
    [None, Some(run)]
}

fn total(host: &TestHost) -> u64 {
    host.call("list_runs", &json!({})).unwrap()["total"].as_u64().unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn fifo(host: &TestHost) -> PathBuf {
    let path = host.work().join("pipe");
    if !path.exists() {
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    path
}

/// Reads a FIFO to its end.
fn read(path: &Path) -> JoinHandle<String> {
    let path = path.to_owned();
    thread::spawn(move || {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn existing_file_keeps_its_mode_and_a_new_one_gets_the_default() {
    let (host, run) = test_host();
    let usual = host.file("usual", "");
    for run in both(&run) {
        let file = host.file("report.txt", "an old answer");
        set_mode(&file, 0o664);
        write(&host, run, "report.txt", &[]).ok();
        assert_eq!((text(&file).as_str(), mode(&file)), ("hello\n", 0o664));
        fs::remove_file(&file).unwrap();
        write(&host, run, "report.txt", &[]).ok();
        assert_eq!((text(&file).as_str(), mode(&file)), ("hello\n", mode(&usual)));
    }
}

#[test]
fn link_stays_and_its_target_is_replaced() {
    let (host, run) = test_host();
    fs::create_dir(host.work().join("far")).unwrap();
    for run in both(&run) {
        let target = host.file("far/target.txt", "an old answer");
        let link = host.work().join("link.txt");
        let _ = fs::remove_file(&link);
        symlink("far/target.txt", &link).unwrap();
        write(&host, run, "link.txt", &[]).ok();
        assert!(link.is_symlink());
        assert_eq!(text(&target), "hello\n");
    }
}

#[test]
fn hard_link_of_the_file_shows_the_new_content() {
    let (host, run) = test_host();
    let (one, other) = (host.work().join("one.txt"), host.work().join("other.txt"));
    for run in both(&run) {
        fs::write(&one, "an old answer").unwrap();
        if run.is_none() {
            fs::hard_link(&one, &other).unwrap();
        }
        write(&host, run, "one.txt", &[]).ok();
        assert_eq!((text(&other).as_str(), one.metadata().unwrap().nlink()), ("hello\n", 2));
    }
}

#[test]
fn fifo_is_written_to_and_stays() {
    let (host, run) = test_host();
    let path = fifo(&host);
    for run in both(&run) {
        let reader = read(&path);
        write(&host, run, "pipe", &[]).ok();
        assert_eq!(reader.join().unwrap(), "hello\n");
        assert!(path.symlink_metadata().unwrap().file_type().is_fifo());
    }
}

#[test]
fn fifo_reader_sees_the_end_when_the_run_fails() {
    let (host, _) = test_host();
    let reader = read(&fifo(&host));
    host.run(&["run", "rehearsal", "--output", "pipe", "FAIL usage"]).code(1);
    assert_eq!(reader.join().unwrap(), "");
}

#[test]
fn run_waits_for_a_fifo_reader_with_a_notice() {
    let (host, _) = test_host();
    let path = fifo(&host);
    let before = total(&host);
    let mut child = host.command(&["run", "-q", "rehearsal", "--output", "pipe", NEW]).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(errors.next().unwrap().unwrap(), "waiting for somebody to read \"pipe\"");
    assert_eq!(total(&host), before);
    assert_eq!(read(&path).join().unwrap(), "hello\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_process_substitution_gets_the_answer() {
    let (host, run) = test_host();
    let script = |verb: &str| format!("\"$OSTLER\" {verb} --output >(cat > copy); code=$?; wait $!; exit $code");
    for verb in ["run rehearsal 'SAY hello'", &format!("export {run} --format txt")] {
        host.run_script(&script(verb)).ok();
        assert_eq!(text(&host.work().join("copy")), "hello\n", "{verb}");
    }
    // A reader that ends early is no error, as with a pipe.
    host.run_script("\"$OSTLER\" run rehearsal 'BIG 200' --output >(head -c 1 > /dev/null)").ok();
}

#[test]
fn open_descriptor_is_written_at_its_current_offset() {
    let (host, run) = test_host();
    for verb in ["run rehearsal 'SAY hello'", &format!("export {run} --format txt")] {
        let script = format!("exec 3> copy; echo before >&3; \"$OSTLER\" {verb} --output /dev/fd/3 && echo after >&3");
        host.run_script(&script).ok();
        assert_eq!(text(&host.work().join("copy")), "before\nhello\nafter\n", "{verb}");
    }
    host.run_script("\"$OSTLER\" run rehearsal 'SAY hello' --output /dev/fd/3 3< /dev/null").code(2);
    host.run_script("\"$OSTLER\" run rehearsal 'SAY hello' --output /dev/fd/333").code(2);
}

#[test]
fn every_name_of_standard_output_gets_the_answer_once() {
    let (host, run) = test_host();
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        for run in both(&run) {
            assert_eq!(write(&host, run, name, &[]).ok().stdout, "hello\n", "{name}");
        }
    }
    assert_eq!(fs::read_dir(host.work()).unwrap().count(), 0);
    let done = write(&host, None, "/dev/stderr", &["-q"]).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("hello\n", "hello\n"));
    // With `--json`, standard output already contains the events.
    let before = total(&host);
    write(&host, None, "-", &["--json"]).code(2);
    assert_eq!(total(&host), before);
}

#[test]
fn device_node_is_written_to_and_stays() {
    let (host, run) = test_host();
    let path = host.work().join("node");
    // The device numbers of /dev/null.
    let made = nix::sys::stat::mknod(
        &path,
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRWXU,
        nix::sys::stat::makedev(1, 3),
    );
    if made.is_err() || File::options().write(true).open(&path).is_err() {
        crate::support::print_skipped("no device node can be made and opened here");
        return;
    }
    for run in both(&run) {
        write(&host, run, "node", &[]).ok();
        assert!(path.symlink_metadata().unwrap().file_type().is_char_device());
    }
    assert_eq!(write(&host, None, "/dev/null", &[]).ok().stdout, "hello\n");
}

#[test]
fn bind_mounted_file_is_written_in_place() {
    let (host, run) = test_host();
    if host.run_script("unshare --mount true").code != 0 {
        crate::support::print_skipped("no mount namespace can be made here");
        return;
    }
    for verb in ["run rehearsal 'SAY hello'", &format!("export {run} --format txt")] {
        let source = host.file("source", "an old answer");
        let target = host.file("place", "");
        let script = format!("mount --bind source place && exec \"$OSTLER\" {verb} --output place");
        host.run_script(&format!("unshare --mount bash -c '{}'", script.replace('\'', "'\\''"))).ok();
        assert_eq!((text(&source).as_str(), text(&target).as_str()), ("hello\n", ""), "{verb}");
    }
}

#[test]
fn a_read_only_file_is_refused_before_the_run_unless_forced() {
    let (host, run) = test_host();
    for run in both(&run) {
        let file = host.work().join("kept.txt");
        let _ = fs::remove_file(&file);
        fs::write(&file, "keep me").unwrap();
        set_mode(&file, 0o444);
        let before = total(&host);
        let error = write(&host, run, "kept.txt", &["--json"]).code(2).error();
        assert!(error["hint"].as_str().unwrap().contains("--force"), "{error}");
        assert_eq!((total(&host), text(&file).as_str()), (before, "keep me"));
        write(&host, run, "kept.txt", &["--force"]).ok();
        assert_eq!((text(&file).as_str(), mode(&file)), ("hello\n", 0o444));
    }
}

#[test]
fn unwritable_path_is_refused_before_the_run() {
    let (host, run) = test_host();
    fs::create_dir(host.work().join("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(host.work().join("socket")).unwrap();
    let before = total(&host);
    for wrong in ["none/answer.txt", "folder", "folder/", "new/", "socket", "/proc/answer.txt"] {
        for run in both(&run) {
            let done = write(&host, run, wrong, &[]).code(2);
            assert!(done.stderr.contains("cannot be written to"), "{wrong}: {}", done.stderr);
        }
    }
    assert_eq!(total(&host), before);
    assert_eq!(fs::read_dir(host.work()).unwrap().count(), 2, "nothing was left behind");
}

#[test]
fn folder_of_another_user_is_refused_before_the_run() {
    if !nix::unistd::Uid::effective().is_root() {
        crate::support::print_skipped("only root can run as somebody else");
        return;
    }
    let mut host = TestHost::new();
    host.run_as_user(65_534);
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    let others = host.root().join("others");
    fs::create_dir(&others).unwrap();
    let (taken, given) = (others.join("taken.txt"), others.join("given.txt"));
    for (path, mode) in [(&taken, 0o644), (&given, 0o666)] {
        fs::write(path, "an old answer").unwrap();
        set_mode(path, mode);
    }
    write(&host, None, others.join("new.txt").to_str().unwrap(), &[]).code(2);
    write(&host, None, taken.to_str().unwrap(), &[]).code(2);
    assert_eq!(total(&host), 0);
    // A file that everybody can write is written, and keeps its owner.
    write(&host, None, given.to_str().unwrap(), &[]).ok();
    assert_eq!((text(&given).as_str(), given.metadata().unwrap().uid()), ("hello\n", 0));
    assert_eq!(text(&taken), "an old answer");
}

#[test]
fn full_disk_fails_with_a_hint_to_the_answer() {
    let (host, run) = test_host();
    let done = write(&host, None, "/dev/full", &[]).code(74);
    assert_eq!(done.stdout, "hello\n");
    assert!(done.stderr.contains("No space left on device"), "{}", done.stderr);
    let hint = done.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap();
    let shown = hint.split('`').nth(1).unwrap().strip_prefix("ostler ").unwrap();
    let shown: Vec<&str> = shown.split(' ').collect();
    assert!(host.run(&shown).ok().stdout.contains("hello"), "{hint}");
    write(&host, Some(&run), "/dev/full", &[]).code(74);
}

#[test]
fn link_that_the_agent_puts_at_the_path_is_not_followed() {
    let (host, _) = test_host();
    let victim = host.file("victim.txt", "mine");
    let done =
        host.run(&["run", "rehearsal", "--output", "answer.txt", "RUN ln -s victim.txt answer.txt && echo laid"]);
    assert!(done.ok().stdout.contains("laid"));
    assert_eq!(text(&victim), "mine");
    let answer = host.work().join("answer.txt");
    assert!(!answer.is_symlink() && text(&answer).contains("laid"));
}
