//! A real agent CLI behind a private Ostler, talking to a model server of its own.

use super::{Follower, TestHost, agent_cli, check_run_events, model_server::ModelServer};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The credential that the CLI gets for the model server.
pub const KEY: &str = "key-of-the-scripted-account";

/// How the tests use an agent CLI.
pub struct Cli {
    /// The names of its executable and of its provider.
    pub name: &'static str,
    /// The variable that names the executable.
    pub variable: &'static str,
    /// The protocol that it speaks to its model.
    pub protocol: &'static str,
    /// `harness` of a start payload with which its shell tool runs without an approval.
    pub free_shell: fn() -> Value,
    /// A session that does not exist, in a form that it accepts.
    pub absent_session: &'static str,
    /// The folder of its sessions, below its own folder.
    pub sessions: &'static str,
    /// A flag that would let it do everything, if a prompt was taken for a flag.
    pub dangerous_flag: &'static str,
    /// Settings of the plugin, as an inline table. Retries of the CLI are off, so that the tests see those of the host.
    pub settings: &'static str,
    /// Prepares the own folder of the CLI, and gives its environment as an inline table.
    pub prepare_home: fn(&Path, &ModelServer) -> String,
}

/// A test host whose agent CLI talks to a model server of its own.
pub struct AgentFixture {
    pub host: TestHost,
    pub server: ModelServer,
    pub cli: &'static Cli,
    executable: PathBuf,
}

impl AgentFixture {
    /// `None` if the CLI is missing; prints SKIPPED then.
    pub fn open(cli: &'static Cli) -> Option<Self> {
        Self::open_in(TestHost::new, cli)
    }

    /// The same outside of the temporary folders of the system, because a contained run has its own.
    pub fn open_outside_of_temporary_folders(cli: &'static Cli) -> Option<Self> {
        Self::open_in(TestHost::outside, cli)
    }

    /// The same with `more` in the configuration of the host.
    pub fn open_with(cli: &'static Cli, more: &str) -> Option<Self> {
        agent_cli(cli.name, cli.variable).map(|executable| Self::with(TestHost::new(), cli, executable, more))
    }

    fn open_in(host: impl FnOnce() -> TestHost, cli: &'static Cli) -> Option<Self> {
        agent_cli(cli.name, cli.variable).map(|executable| Self::with(host(), cli, executable, ""))
    }

    /// A fixture whose CLI is this program. `more` is added to the configuration of the host.
    pub fn with(host: TestHost, cli: &'static Cli, executable: PathBuf, more: &str) -> Self {
        let fixture = Self { host, server: ModelServer::start().unwrap(), cli, executable };
        fs::create_dir(fixture.own_folder()).unwrap();
        fixture.configure(cli.settings, more);
        fixture.host.run(&["grants", "add", fixture.host.work().to_str().unwrap()]).ok();
        fixture
    }

    /// Stops the host and changes the settings of the plugin.
    pub fn reconfigure(&self, settings: &str) {
        self.host.stop();
        self.configure(settings, "");
    }

    /// Restarts the host with this sandbox back end only.
    pub fn use_back_end(&self, backend: &str) {
        self.host.stop();
        self.configure(self.cli.settings, &format!("[sandbox]\nbackends = [\"{backend}\"]\n"));
        self.host.ensure_running();
    }

    fn configure(&self, settings: &str, more: &str) {
        let environment = (self.cli.prepare_home)(&self.own_folder(), &self.server);
        self.host.configure(&format!(
            "[scheduler]\nglobal = 4\nper_provider = 4\n[providers.{}]\nexecutable = \"{}\"\n\
             environment = {environment}\nsettings = {settings}\nallow_hosts = [\"{}\"]\n{more}",
            self.cli.name,
            self.executable.display(),
            self.server.url().trim_start_matches("http://"),
        ));
    }

    /// The own folder of the CLI with its sessions, which the host does not delete.
    pub fn own_folder(&self) -> PathBuf {
        self.host.user().join(self.cli.name)
    }

    /// Runs a prompt to its end, and gives all events.
    #[track_caller]
    pub fn events(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec![self.cli.name];
        all.extend(args);
        let events = self.host.events_of(&all);
        check_run_events(&events);
        events
    }

    /// The same with a payload, for fields without a command-line option.
    #[track_caller]
    pub fn events_with(&self, prompt: &str, more: &Value) -> Vec<Value> {
        let payload = self.payload(prompt, more);
        let events = self.host.events_of(&["--payload", payload.to_str().unwrap()]);
        check_run_events(&events);
        events
    }

    /// Starts a run whose events are read while it runs.
    #[track_caller]
    pub fn follow(&self, prompt: &str, more: &Value) -> Follower {
        let payload = self.payload(prompt, more);
        self.host.follow(&["run", "--json", "--payload", payload.to_str().unwrap()])
    }

    /// Payload fields that let the shell tool of the agent run.
    pub fn free_shell(&self) -> Value {
        json!({ "harness": (self.cli.free_shell)() })
    }

    /// Writes a start payload into a file, and gives its path.
    pub fn payload(&self, prompt: &str, more: &Value) -> PathBuf {
        let mut payload = json!({ "provider": self.cli.name, "prompt": prompt, "cwd": self.host.work() });
        for (name, value) in more.as_object().unwrap() {
            payload[name] = value.clone();
        }
        let path = self.host.root().join("payload.json");
        fs::write(&path, payload.to_string()).unwrap();
        path
    }
}
