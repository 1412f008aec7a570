//! A script that tries to reach everything that a contained run must not reach.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::TestHost;
use serde_json::json;

/// Every back end of the sandbox.
pub const BACK_ENDS: [&str; 3] = ["namespaces", "bwrap", "landlock"];

/// Whether the host contains its runs with this back end. Prints SKIPPED if not.
pub fn is_contained_by(host: &TestHost, backend: &str) -> bool {
    let status = host.call("get_status", &json!({})).unwrap();
    let contained = status["sandbox"]["backend"] == backend;
    if !contained {
        super::print_skipped(&format!("this machine cannot use {backend}: {}", status["sandbox"]));
    }
    contained
}

/// The targets of the script, and how a success is detected.
pub struct EscapeScript {
    outside: PathBuf,
    home: PathBuf,
    user: PathBuf,
    socket: PathBuf,
    host_pid: i32,
    abstract_name: String,
    /// Login files of other providers.
    logins: Vec<PathBuf>,
    /// Whether the back end protects single files in the working folder.
    protects: bool,
    port: u16,
    datagrams: u16,
    /// A thread that ends when the sender is dropped.
    _answering: (mpsc::Sender<()>, thread::JoinHandle<()>),
    _listeners: (TcpListener, UnixListener),
}

impl EscapeScript {
    /// Creates the files and listeners that a run of this provider must not reach.
    pub fn prepare(host: &TestHost, provider: &str, protects: bool) -> Self {
        let (outside, user, work) = (host.root().join("outside"), host.user(), host.work());
        for folder in [
            outside.clone(),
            user.join(".ssh"),
            user.join(".codex"),
            user.join(".claude"),
            work.join(".git/hooks"),
            work.join(".claude"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        let logins = [("codex", ".codex/auth.json"), ("claude", ".claude/.credentials.json")];
        let logins = logins.into_iter().filter(|(of, _)| *of != provider);
        let logins: Vec<PathBuf> = logins.map(|(_, path)| user.join(path)).collect();
        for secret in [user.join(".ssh/id"), user.join(".netrc")].iter().chain(&logins) {
            fs::write(secret, "PLANTED-SECRET").unwrap();
        }
        let _ = fs::remove_file(work.join("made"));
        fs::write(work.join(".git/config"), "[core]\n").unwrap();
        fs::write(work.join(".claude/settings.json"), "{}").unwrap();
        let _ = std::os::unix::fs::symlink(&outside, work.join("link"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A thread answers every datagram.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams = socket.local_addr().unwrap().port();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        let answering = thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                if let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                    let _ = socket.send_to(b"y", from);
                }
            }
        });
        let abstract_name = format!("ostler-escape-{}-{}", std::process::id(), listener.local_addr().unwrap().port());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        Self {
            outside,
            home: host.home(),
            user,
            socket: host.socket(),
            host_pid: host.ensure_running(),
            abstract_name,
            logins,
            protects,
            port: listener.local_addr().unwrap().port(),
            datagrams,
            _answering: (stop, answering),
            _listeners: (listener, UnixListener::bind_addr(&address).unwrap()),
        }
    }

    /// The script. It prints a line with `ESCAPED` for each escape, and `done` at its end.
    pub fn text(&self) -> String {
        let (outside, home, user, socket) =
            (self.outside.display(), self.home.display(), self.user.display(), self.socket.display());
        let (host_pid, port, name) = (self.host_pid, self.port, &self.abstract_name);
        // The script contacts only addresses of the test. For others, it checks that there is no route.
        let network = if self.protects {
            "try route sh -c 'tail -n +2 /proc/net/route | grep .'\n\
             try interface sh -c 'tail -n +3 /proc/net/dev | grep -v lo: | grep .'\n"
        } else {
            ""
        };
        let datagrams = self.datagrams;
        let logins: String = self.logins.iter().map(|path| format!("{} ", path.display())).collect();
        let protected = if self.protects {
            "try hook sh -c 'echo x > .git/hooks/pre-commit'; try git-config sh -c 'echo x >> .git/config'\n\
             try settings sh -c 'echo x > .claude/settings.json'\n\
             mv .git git 2>/dev/null; mkdir -p .git/hooks 2>/dev/null; try new-hook sh -c 'echo x > .git/hooks/post-commit'\n"
        } else {
            ""
        };
        format!(
            "try() {{ name=$1; shift; if \"$@\" >/dev/null 2>&1; then echo ESCAPED $name; fi; }}\n\
             try write sh -c 'echo x > {outside}/written'\n\
             try link sh -c 'echo x > link/linked'\n\
             try own-link sh -c 'ln -s {outside} mine && echo x > mine/linked'\n\
             try system sh -c 'echo x > /etc/ostler-escaped'\n\
             for file in {user}/.ssh/id {user}/.netrc {logins}; do for root in '' /proc/1/root /proc/{host_pid}/root; do\n\
             grep -q PLANTED $root$file 2>/dev/null && echo ESCAPED read $root$file; done; done\n\
             for file in seal.key tokens.json http.token code.key ostler.db; do try key-$file cat {home}/data/$file; done\n\
             try config grep -q . {home}/config.toml\n\
             try cache sh -c 'ls {home}/cache/* | grep .'\n\
             try socket python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{socket}')\"\n\
             try abstract python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('\\\\0{name}')\"\n\
             try loopback python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\"\n\
             try datagram python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(b'x', ('127.0.0.1', {datagrams})); s.recv(1)\"\n\
             {network}\
             try environ sh -c 'tr \"\\\\0\" \"\\\\n\" < /proc/{host_pid}/environ | grep .'\n\
             try root ls /proc/{host_pid}/root/\n\
             try signal kill -0 {host_pid}\n\
             for process in /proc/[0-9]*; do case ${{process#/proc/}}:$(cat $process/comm 2>/dev/null) in\n\
             1:*) ;; *:ostler-keeper|*:ostler-zygote) try signal-$process kill -0 ${{process#/proc/}};; esac; done\n\
             echo x > made && echo WRITTEN\n\
             try ptrace python3 -c \"import ctypes, sys; sys.exit(0 if ctypes.CDLL(None).ptrace(16, {host_pid}, 0, 0) == 0 else 1)\"\n\
             try keyring python3 -c \"import ctypes, sys; sys.exit(0 if ctypes.CDLL(None).syscall(250, 22, -1, 0) > 0 else 1)\"\n\
             try namespace unshare -Ur true\n\
             {protected}echo done\n"
        )
    }

    /// Checks that nothing escaped, and that the working folder was writable only if the mode allows it.
    #[track_caller]
    pub fn assert_contained(&self, host: &TestHost, output: &str, mode: &str, about: &str) {
        assert!(output.contains("done"), "{about}: the script did not end: {output}");
        let may_write = mode == "workspace-write";
        assert_eq!(output.contains("WRITTEN"), may_write, "{about}: {output}");
        assert_eq!(host.work().join("made").exists(), may_write, "{about}: {output}");
        let escaped: Vec<&str> = output.lines().filter(|line| line.contains("ESCAPED")).collect();
        assert!(escaped.is_empty(), "{about}: {escaped:#?}");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 0, "{about}: something was written outside");
        assert!(!output.contains("PLANTED-SECRET"), "{about}");
        if self.protects {
            assert_eq!(fs::read_to_string(host.work().join(".claude/settings.json")).unwrap(), "{}", "{about}");
            assert_eq!(fs::read_dir(host.work().join(".git/hooks")).unwrap().count(), 0, "{about}");
        }
    }
}
