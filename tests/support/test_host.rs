//! A host in a private home.

use super::{Follower, TIMEOUT, processes, wait_until, wire};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, lchown},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// One `OSTLER_HOME`, a home folder of a user, and a working folder. The host is started on demand.
pub struct TestHost {
    root: TempDir,
    variables: Vec<(OsString, OsString)>,
    /// The user who runs all commands, and a copy of the binary that this user can execute.
    user: Option<(u32, PathBuf)>,
}

/// The result of a finished command.
#[derive(Debug)]
pub struct Done {
    /// Exit code; 128 and the number for death by a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Checks that the exit code is 0.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}\n{}\n{}", self.stdout, self.stderr))
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The error that a command with `--json` writes to standard error.
    #[track_caller]
    pub fn error(&self) -> Value {
        let parsed = self.stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut parsed = parsed.unwrap_or_else(|| panic!("no JSON error: {}\n{}", self.stdout, self.stderr));
        parsed["error"].take()
    }

    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHost {
    /// An empty home without grants. No host is running.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A host with a configuration and a granted working folder, outside of the temporary folders of the system. A
    /// contained run has temporary folders of its own, so that a test there would not show what the sandbox hides.
    pub fn outside_of_temporary_folders(config: &str) -> Self {
        let host = Self::outside();
        host.configure(config);
        host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
        host
    }

    /// An empty home outside of the temporary folders of the system.
    pub fn outside() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    fn below(folder: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("ostler-e2e-").tempdir_in(folder).unwrap();
        for folder in ["home", "user", "work", "tmp"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let host = Self { root, variables: Vec::new(), user: None };
        host.share_compiled_plugins();
        host
    }

    /// The same with a configuration.
    pub fn with_config(config: &str) -> Self {
        let host = Self::new();
        host.configure(config);
        host
    }

    /// The same with a configuration and the working folder granted.
    pub fn granted(config: &str) -> Self {
        let host = Self::with_config(config);
        host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
        host
    }

    /// Copies compiled plugins from an earlier test. All hosts compile the same plugins, which takes long.
    fn share_compiled_plugins(&self) {
        let shared = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins");
        let cache = self.home().join("cache");
        if let Ok(entries) = fs::read_dir(&shared) {
            let _ = copy_tree(entries, &cache);
        }
        // Compiled code is authenticated with a key, so that all hosts share one key.
        let data = self.home().join("data");
        fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
        let mut key = fs::File::options().write(true).create_new(true).mode(0o600).open(data.join("code.key")).unwrap();
        key.write_all(&[7; 32]).unwrap();
    }

    /// Copies the plugins that this host has compiled to where later tests find them.
    fn keep_compiled_plugins(&self) {
        let shared = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins");
        if let Ok(entries) = fs::read_dir(self.home().join("cache")) {
            let _ = copy_tree(entries, &shared);
        }
    }

    /// The folder that contains all files of this host.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// `OSTLER_HOME`.
    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// The working folder of runs.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// `HOME` of the user.
    pub fn user(&self) -> PathBuf {
        self.root().join("user")
    }

    /// The host's socket.
    pub fn socket(&self) -> PathBuf {
        self.home().join("data/host.sock")
    }

    /// Writes `config.toml`.
    pub fn configure(&self, config: &str) {
        fs::write(self.home().join("config.toml"), config).unwrap();
    }

    /// Writes a file into the working folder.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// Sets a variable for all later commands.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.into(), value.into()));
    }

    /// Removes a variable for all later commands.
    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    /// Gives all files to another user, and runs all later commands as this user. Only root can do this.
    pub fn run_as_user(&mut self, user: u32) {
        let copy = self.root().join("ostler");
        fs::copy(super::binary(), &copy).unwrap();
        give(self.root(), user);
        self.user = Some((user, copy));
    }

    /// A program, run as the user who owns the files of this host.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        if let Some((user, _)) = &self.user {
            command.uid(*user).gid(*user);
        }
        command
    }

    /// `ostler` with a clean environment, in the working folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.user {
            None => Command::new(super::binary()),
            Some((_, copy)) => self.program(copy.to_str().unwrap()),
        };
        command.args(args);
        self.set_environment(&mut command);
        command
    }

    /// A script for bash in the same environment, with the binary as `$OSTLER`.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = self.program("bash");
        command.args(["-c", script]);
        self.set_environment(&mut command);
        command.env("OSTLER", super::binary());
        command
    }

    /// Sets the working folder, a clean environment and captured streams.
    fn set_environment(&self, command: &mut Command) {
        command
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.user())
            .env("TMPDIR", self.root().join("tmp"))
            .env("LANG", "C.UTF-8")
            .env("OSTLER_HOME", self.home())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        processes::obey_keyboard(command);
    }

    /// Runs a prepared command to its end.
    #[track_caller]
    pub fn finish(&self, command: Command) -> Done {
        let mut command = command;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, &[])
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Done {
        finish(self.command(args), &[])
    }

    /// The same in another folder.
    #[track_caller]
    pub fn run_in(&self, folder: &Path, args: &[&str]) -> Done {
        let mut command = self.command(args);
        command.current_dir(folder);
        finish(command, &[])
    }

    /// The same with standard input.
    #[track_caller]
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        finish(self.command(args), input)
    }

    /// Starts a command whose output is read line by line.
    pub fn follow(&self, args: &[&str]) -> Follower {
        Follower::start(self.command(args))
    }

    /// Starts a prepared command whose output is read line by line.
    pub fn follow_command(&self, command: Command) -> Follower {
        Follower::start(command)
    }

    /// Runs a script in bash to its end.
    #[track_caller]
    pub fn run_script(&self, script: &str) -> Done {
        finish(self.shell(script), &[])
    }

    /// Runs a prompt and gives all its events.
    #[track_caller]
    pub fn events_of(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec!["run", "--json"];
        all.extend(args);
        let done = self.run(&all);
        assert!(!done.stdout.is_empty(), "no events: {}", done.stderr);
        done.json_lines()
    }

    /// Submits a run and gives its id.
    #[track_caller]
    pub fn detach(&self, args: &[&str]) -> String {
        let mut all = vec!["run", "--detach"];
        all.extend(args);
        self.run(&all).ok().stdout.trim().to_owned()
    }

    /// Submits a run of the rehearsal to the running host, with the other fields of the payload in `more`, and gives
    /// its id. Does not start a host.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn submit(&self, prompt: &str, more: &Value) -> Result<String, wire::CallError> {
        let answer = self.call("start_run", &self.payload(prompt, more))?;
        Ok(answer["runId"].as_str().unwrap().to_owned())
    }

    /// The start payload of a run of the rehearsal; members of `more` override it.
    pub fn payload(&self, prompt: &str, more: &Value) -> Value {
        let mut payload = json!({ "provider": "rehearsal", "prompt": prompt, "cwd": self.work() });
        for (name, value) in more.as_object().into_iter().flatten() {
            payload[name] = value.clone();
        }
        payload
    }

    /// Waits until this count in the status has this value: `running`, 2.
    #[track_caller]
    pub fn wait_for_count(&self, count: &str, number: u64) {
        wait_until(&format!("{number} {count}"), TIMEOUT, || {
            (self.call("get_status", &json!({})).unwrap()[count] == number).then_some(())
        });
    }

    /// Calls a method of the running host.
    ///
    /// # Errors
    /// The error of the host, or of the connection.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, wire::CallError> {
        wire::call(&self.socket(), method, params)
    }

    /// The answer of the running host to a health check.
    ///
    /// # Errors
    /// If no host is running.
    pub fn health(&self) -> std::io::Result<Value> {
        wire::health(&self.socket())
    }

    /// Starts the host in the background if it is not running, and gives its process id.
    #[track_caller]
    pub fn ensure_running(&self) -> i32 {
        self.run(&["runs"]).ok();
        let status = self.call("get_status", &json!({})).unwrap();
        i32::try_from(status["pid"].as_i64().unwrap()).unwrap()
    }

    /// All stored events of a run.
    #[track_caller]
    pub fn run_events(&self, run: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let after = events.last().map_or(json!(0), |event| event["cursor"].clone());
            let page = self.call("get_run_events", &json!({ "runId": run, "after": after })).unwrap();
            events.extend(page["events"].as_array().unwrap().iter().cloned());
            if page["more"] != true {
                return events;
            }
        }
    }

    /// Every stored event that matches the query: `conversationId=…`.
    #[track_caller]
    pub fn stored_events(&self, query: &str) -> Vec<Value> {
        wire::stored_events(&self.socket(), query)
    }

    /// The stored record of a run, from `get_run`.
    #[track_caller]
    pub fn record(&self, run: &str) -> Value {
        self.call("get_run", &json!({ "runId": run })).unwrap()
    }

    /// Follows a run to its end and gives its events.
    #[track_caller]
    pub fn wait_for_end(&self, run: &str) -> Vec<Value> {
        let mut follower = self.follow(&["logs", "--json", "-f", run]);
        follower.wait_for("the end of the run", |event| super::end_of(std::slice::from_ref(event)).is_some());
        follower.kill();
        self.run_events(run)
    }

    /// All processes of this host that belong to a run.
    pub fn run_processes(&self) -> Vec<processes::Process> {
        processes::carrying(self.root()).into_iter().filter(|process| process.of_run).collect()
    }

    /// Waits until no process of a run is left.
    ///
    /// # Panics
    /// After `limit`.
    #[track_caller]
    pub fn assert_nothing_runs(&self, limit: Duration) {
        let start = Instant::now();
        loop {
            let left = self.run_processes();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < limit, "still alive after {limit:?}: {left:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The whole log of the host.
    pub fn log(&self) -> String {
        let files = fs::read_dir(self.home().join("log")).into_iter().flatten().flatten();
        let files = files.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        files.map(|entry| String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned()).collect()
    }

    /// Stops the host if it is running, and waits until all its processes have ended.
    pub fn stop(&self) {
        let _ = self.call("stop", &json!({}));
        wait_until("the end of the host", TIMEOUT, || processes::carrying(self.root()).is_empty().then_some(()));
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let _ = self.call("stop", &json!({}));
        let start = Instant::now();
        let mut limit = Duration::from_secs(10);
        loop {
            let left = processes::carrying(self.root());
            if left.is_empty() {
                break;
            }
            if start.elapsed() > limit {
                if !thread::panicking() {
                    eprintln!("ended by the test: {left:#?}");
                }
                for process in left {
                    processes::signal(process.pid, nix::sys::signal::Signal::SIGKILL);
                }
                limit += Duration::from_secs(5);
                if start.elapsed() > Duration::from_secs(30) {
                    break;
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.keep_compiled_plugins();
        if std::env::var_os("OSTLER_KEEP_TEST_HOMES").is_some() {
            eprintln!("kept: {}", self.root().display());
            self.root.disable_cleanup(true);
        }
    }
}

/// Changes the owner of a folder and everything in it.
fn give(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            give(&entry.path(), user);
        }
    }
}

/// Copies missing files. Each copy appears in one step.
fn copy_tree(entries: fs::ReadDir, to: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(fs::read_dir(entry.path())?, &target)?;
        } else if kind.is_file() && !target.exists() {
            let draft = to.join(format!(".draft-{}-{:?}", std::process::id(), thread::current().id()));
            fs::copy(entry.path(), &draft)?;
            fs::rename(&draft, &target)?;
        }
    }
    Ok(())
}

/// Runs a command to its end, with a limit on the time.
#[track_caller]
fn finish(mut command: Command, input: &[u8]) -> Done {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A command may end before it has read all of its input.
        thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    let status = receiver.recv_timeout(TIMEOUT).map_or_else(
        |_| {
            processes::signal(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("{command:?} did not end")
        },
        Result::unwrap,
    );
    // A host in the background must not keep the streams of the command that started it open.
    let text = |receiver: mpsc::Receiver<Vec<u8>>| {
        let bytes = receiver
            .recv_timeout(TIMEOUT)
            .unwrap_or_else(|_| panic!("{command:?} ended, but a process keeps its output open"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Done {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}
