//! Runs on unusual machines, which the tests make with namespaces around the host.

use crate::support::escape::{BACK_ENDS, is_contained_by};
use crate::support::{TIMEOUT, TestHost, of_type, tool_outputs};
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Stdio};

/// A host inside `unshare` with these flags, after a shell has run `set_up` there. It ends when its `TestHost` is
/// dropped.
struct Machine {
    host: TestHost,
    process: Option<Child>,
}

impl Machine {
    /// `None`, said on standard error, where such a machine cannot be made. Only then may `set_up` fail.
    fn start(host: TestHost, flags: &[&str], set_up: &str) -> Option<Self> {
        host.stop();
        let serve = host.command(&["serve"]);
        let mut outer = host.program("unshare");
        outer.args(flags).args(["sh", "-c", &format!("{set_up} && exec \"$@\" 3<&- </dev/null"), "sh"]);
        outer.arg(serve.get_program()).args(serve.get_args()).current_dir("/").env_clear();
        outer.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut process = outer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = crate::support::wait_until("the host", TIMEOUT, || match process.try_wait().unwrap() {
            Some(_) => Some(true),
            None => host.health().ok().map(|_| false),
        });
        let machine = Self { host, process: Some(process) };
        if !ended {
            return Some(machine);
        }
        let output = machine.end();
        crate::support::print_skipped(&format!("no such machine can be made here: {output}"));
        None
    }

    /// Ends the host, and gives its standard error.
    fn end(mut self) -> String {
        let mut process = self.process.take().unwrap();
        // Processes that `set_up` has started end with their standard input.
        drop(process.stdin.take());
        self.host.stop();
        String::from_utf8_lossy(&process.wait_with_output().unwrap().stderr).into_owned()
    }

    /// The events of a run of a script.
    #[track_caller]
    fn agent(&self, permissions: &Value, script: &str) -> Vec<Value> {
        let payload = json!({ "harness": { "permissions": permissions } });
        let run =
            self.host.submit(&format!("RUN {script}"), &payload).unwrap_or_else(|error| panic!("{}", error.text()));
        self.host.wait_for_end(&run)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            if self.host.call("stop", &json!({})).is_err() {
                let _ = process.kill();
            }
            let _ = process.wait();
        }
    }
}

fn test_host(backend: &str) -> TestHost {
    TestHost::granted(&format!("[sandbox]\nbackends = [\"{backend}\"]\n"))
}

/// Listens, until its standard input ends, in place of a public web server, the metadata service of a cloud, and a name
/// server.
const OUTSIDE: &str = r#"
import selectors, socket, sys
ready = selectors.DefaultSelector()
for kind, address in [(socket.SOCK_STREAM, ("203.0.113.7", 80)), (socket.SOCK_STREAM, ("169.254.169.254", 80)),
                      (socket.SOCK_DGRAM, ("203.0.113.53", 53))]:
    listener = socket.socket(socket.AF_INET, kind)
    listener.bind(address)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    ready.register(listener, selectors.EVENT_READ)
ready.register(sys.stdin, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is sys.stdin:
            sys.exit()
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            key.fileobj.sendto(b"y", key.fileobj.recvfrom(16)[1])
"#;

/// Tries to reach these servers, directly and through the proxy that the environment names.
const REACH: &str = r#"
import socket, urllib.request
for address in [("203.0.113.7", 80), ("169.254.169.254", 80)]:
    try:
        socket.create_connection(address, 5).close()
        print("reached", address[0])
    except OSError:
        pass
try:
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.settimeout(5)
    asking.sendto(b"x", ("203.0.113.53", 53))
    asking.recv(1)
    print("reached 203.0.113.53")
except OSError:
    pass
for host in ["203.0.113.7", "169.254.169.254"]:
    try:
        urllib.request.urlopen(f"http://{host}/", timeout=5)
        print("reached", host, "by the proxy")
    except OSError as error:
        print("refused" if getattr(error, "code", 0) == 403 else "failed", host)
    except Exception:
        print("reached", host, "without an answer")
print("tried")
"#;

#[test]
fn outside_addresses_are_reachable_only_with_an_open_network() {
    for backend in BACK_ENDS {
        let host = test_host(backend);
        host.file("outside.py", OUTSIDE);
        host.file("reach.py", REACH);
        let set_up = format!(
            "exec 3<&0; ip link set lo up && for a in 203.0.113.7 203.0.113.53 169.254.169.254; do \
             ip address add $a/32 dev lo || exit 1; done && {{ python3 {} <&3 & }}",
            host.work().join("outside.py").display()
        );
        let Some(machine) = Machine::start(host, &["-Urn"], &set_up) else { return };
        if !is_contained_by(&machine.host, backend) {
            continue;
        }
        // With an open network, the listeners can be reached.
        let open = json!({ "sandboxMode": "workspace-write", "networkAccess": true });
        let output = tool_outputs(&machine.agent(&open, "python3 reach.py"));
        for address in ["reached 203.0.113.7\n", "reached 169.254.169.254\n"] {
            assert!(output.contains(address), "{backend}: {output}");
        }
        for mode in ["workspace-write", "read-only"] {
            let events = machine.agent(&json!({ "sandboxMode": mode }), "python3 reach.py");
            let output = tool_outputs(&events);
            assert!(output.contains("tried") && !output.contains("reached"), "{backend}, {mode}: {output}");
            assert!(output.contains("refused 169.254.169.254"), "{backend}, {mode}: {output}");
            let refused = of_type(&events, "run.network");
            let named = |name: &str| refused.iter().any(|event| event["payload"]["host"] == name);
            assert!(named("203.0.113.7") && named("169.254.169.254"), "{backend}, {mode}: {refused:?}");
        }
        machine.end();
    }
}

#[test]
fn user_without_a_name_is_contained() {
    for backend in BACK_ENDS {
        let Some(machine) =
            Machine::start(test_host(backend), &["-U", "--map-user=54321", "--map-group=54321"], "true")
        else {
            return;
        };
        if !is_contained_by(&machine.host, backend) {
            continue;
        }
        let outside = machine.host.root().join("outside");
        let script = format!("sh -c 'id -u; echo x > inside && echo wrote; echo x > {}'", outside.display());
        let output = tool_outputs(&machine.agent(&json!({ "sandboxMode": "workspace-write" }), &script));
        assert!(output.contains("54321") && output.contains("wrote"), "{backend}: {output}");
        assert!(!outside.exists(), "{backend}");
        machine.end();
    }
}

#[test]
fn work_folder_on_a_read_only_file_system_can_be_read() {
    for backend in BACK_ENDS {
        let host = test_host(backend);
        host.file("present", "here");
        let work = host.work();
        let set_up = format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", work.display());
        let Some(machine) = Machine::start(host, &["-Urm"], &set_up) else { return };
        if !is_contained_by(&machine.host, backend) {
            continue;
        }
        let permissions = json!({ "sandboxMode": "workspace-write" });
        let output = tool_outputs(&machine.agent(&permissions, "sh -c 'cat present; echo x > made || echo held'"));
        assert!(output.contains("here") && output.contains("held"), "{backend}: {output}");
        assert!(!work.join("made").exists(), "{backend}");
        machine.end();
    }
}

#[test]
fn work_folder_on_another_file_system_is_written() {
    for backend in BACK_ENDS {
        let host = test_host(backend);
        let (work, outside) = (host.work(), host.root().join("outside"));
        let set_up = format!("mount -t tmpfs -o mode=755 none {}", work.display());
        let Some(machine) = Machine::start(host, &["-Urm"], &set_up) else { return };
        if !is_contained_by(&machine.host, backend) {
            continue;
        }
        let permissions = json!({ "sandboxMode": "workspace-write" });
        let script = format!("sh -c 'echo x > made && cat made; echo x > {}; stat -fc %T .'", outside.display());
        let output = tool_outputs(&machine.agent(&permissions, &script));
        assert!(output.contains("x\n") && output.contains("tmpfs"), "{backend}: {output}");
        assert!(!outside.exists(), "{backend}");
        machine.end();
    }
}

#[test]
fn home_at_the_root_folder_hides_only_its_secrets() {
    for backend in BACK_ENDS {
        let mut host = test_host(backend);
        host.set("HOME", "/");
        host.ensure_running();
        if !is_contained_by(&host, backend) {
            continue;
        }
        let machine = Machine { host, process: None };
        let outside = machine.host.root().join("outside");
        let script = format!("sh -c 'echo x > inside && echo wrote; echo x > {}; ls /usr/bin/env'", outside.display());
        let output = tool_outputs(&machine.agent(&json!({ "sandboxMode": "workspace-write" }), &script));
        assert!(output.contains("wrote") && output.contains("/usr/bin/env"), "{backend}: {output}");
        assert!(!outside.exists(), "{backend}");
    }
}

#[test]
fn machine_without_mountable_proc_reports_the_gap_or_falls_back() {
    for backend in ["namespaces", "bwrap"] {
        // As in a container: a part of /proc is covered, so that the kernel does not let user namespaces mount a new
        // one.
        let set_up = "mount -t tmpfs none /proc/acpi 2>/dev/null || mount -t tmpfs none /proc/fs";
        let Some(machine) = Machine::start(test_host(backend), &["-Urm"], set_up) else { return };
        let status = machine.host.call("get_status", &json!({})).unwrap();
        let sandbox = &status["sandbox"];
        if backend == "namespaces" {
            assert_eq!(sandbox["backend"], "namespaces", "{sandbox}");
            assert!(sandbox["gaps"][0].as_str().unwrap().contains("/proc"), "{sandbox}");
            let script = "sh -c 'ls / > /dev/null && echo fine'";
            let output = tool_outputs(&machine.agent(&json!({ "sandboxMode": "read-only" }), script));
            assert!(output.contains("fine"), "{output}");
        } else {
            assert!(sandbox["backend"].is_null(), "{sandbox}");
            assert!(sandbox["refused"][0].as_str().unwrap().starts_with("bwrap: "), "{sandbox}");
        }
        machine.end();
    }
}

/// A mount below a granted folder is part of the folder, as for every program.
#[test]
fn bind_mount_below_the_work_folder_is_seen_and_written() {
    for backend in BACK_ENDS {
        let host = test_host(backend);
        let (from, to) = (host.root().join("elsewhere"), host.work().join("mounted"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&to).unwrap();
        let set_up = format!("mount --bind {} {}", from.display(), to.display());
        let Some(machine) = Machine::start(host, &["-Urm"], &set_up) else { return };
        if !is_contained_by(&machine.host, backend) {
            continue;
        }
        let permissions = json!({ "sandboxMode": "workspace-write" });
        let script = format!("sh -c 'echo x > mounted/made && echo wrote; echo x > {}/direct'", from.display());
        let output = tool_outputs(&machine.agent(&permissions, &script));
        assert!(output.contains("wrote") && from.join("made").exists(), "{backend}: {output}");
        assert!(!from.join("direct").exists() || backend == "landlock", "{backend}: {output}");
        machine.end();
    }
}

/// Without `HOME`, the host and the rehearsal use the home folder in the account database.
#[test]
fn without_home_host_and_rehearsal_use_the_home_folder_of_the_account() {
    let host = TestHost::new();
    if host.run_script("unshare --mount true").code != 0 {
        crate::support::print_skipped("no mount namespace can be made here");
        return;
    }
    let (home, accounts) = (host.user(), host.root().join("passwd"));
    fs::write(&accounts, format!("root:x:0:0:root:{}:/bin/sh\n", home.display())).unwrap();
    let inside = format!(
        r#"set -e
        mount --bind {accounts} /etc/passwd
        mkdir -p {home}/.cache {home}/.local/share/ostler
        cp -r "$OSTLER_HOME/cache" {home}/.cache/ostler
        cp "$OSTLER_HOME/data/code.key" {home}/.local/share/ostler/
        unset HOME OSTLER_HOME
        "$OSTLER" grants add > /dev/null
        "$OSTLER" run rehearsal "SAY at home"
        "$OSTLER" stop > /dev/null"#,
        accounts = accounts.display(),
        home = home.display(),
    );
    let done = host.run_script(&format!("unshare --mount bash -c '{inside}'")).ok();
    assert_eq!(done.stdout, "at home\n", "{}", done.stderr);
    let sessions = fs::read_dir(home.join(".local/state/ostler/rehearsal")).unwrap().count();
    assert_eq!(sessions, 1);
    assert!(home.join(".local/share/ostler/ostler.db").exists());
}
