//! A real agent CLI behind a private Ostler, talking to a model server of its own.

use super::{Follower, TestHost, agent_cli, check_run_events, model_server::ModelServer};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The credential that the CLI gets for the model server.
pub const KEY: &str = "key-of-the-scripted-account";

/// What tells one CLI from another.
pub struct Cli {
    /// Its executable, and the provider's name.
    pub name: &'static str,
    /// The variable that names the executable.
    pub variable: &'static str,
    /// The protocol that it speaks to its model.
    pub protocol: &'static str,
    /// `harness` of a start payload with which its shell tool runs without a question.
    pub free_shell: fn() -> Value,
    /// A session that does not exist, in a form that it takes.
    pub absent_session: &'static str,
    /// Where it keeps its sessions, below the folder that it keeps for itself.
    pub sessions: &'static str,
    /// A flag that lets it do everything, if a prompt could become one.
    pub dangerous_flag: &'static str,
    /// Settings of the plugin, as an inline table. Its own retries are off, so that those of the host can be seen.
    pub settings: &'static str,
    /// Makes ready the folder that it keeps for itself, and gives its environment as an inline table.
    pub settle: fn(&Path, &ModelServer) -> String,
}

/// A test host whose agent CLI talks to a model server of its own.
pub struct AgentFixture {
    pub host: TestHost,
    pub server: ModelServer,
    pub cli: &'static Cli,
    executable: PathBuf,
}

impl AgentFixture {
    /// `None`, said on standard error, where there is no such CLI.
    pub fn open(cli: &'static Cli) -> Option<Self> {
        Self::open_in(TestHost::new, cli)
    }

    /// The same outside of the temporary folders of the system, which are private to a contained run.
    pub fn open_outside_of_temporary_folders(cli: &'static Cli) -> Option<Self> {
        Self::open_in(TestHost::outside, cli)
    }

    fn open_in(host: impl FnOnce() -> TestHost, cli: &'static Cli) -> Option<Self> {
        agent_cli(cli.name, cli.variable).map(|executable| Self::with(host(), cli, executable, ""))
    }

    /// One whose CLI is this program. `more` goes into the host's configuration.
    pub fn with(host: TestHost, cli: &'static Cli, executable: PathBuf, more: &str) -> Self {
        let fixture = Self { host, server: ModelServer::start().unwrap(), cli, executable };
        fs::create_dir(fixture.own_folder()).unwrap();
        fixture.configure(cli.settings, more);
        fixture.host.run(&["grants", "add", fixture.host.work().to_str().unwrap()]).ok();
        fixture
    }

    /// Other settings of the plugin from now on.
    pub fn reconfigure(&self, settings: &str) {
        self.host.stop();
        self.configure(settings, "");
    }

    /// A host whose runs are held by that back end alone, from now on.
    pub fn use_back_end(&self, backend: &str) {
        self.host.stop();
        self.configure(self.cli.settings, &format!("[sandbox]\nbackends = [\"{backend}\"]\n"));
        self.host.ensure_running();
    }

    fn configure(&self, settings: &str, more: &str) {
        let environment = (self.cli.settle)(&self.own_folder(), &self.server);
        self.host.configure(&format!(
            "[scheduler]\nglobal = 4\nper_provider = 4\n[providers.{}]\nexecutable = \"{}\"\n\
             environment = {environment}\nsettings = {settings}\nallow_hosts = [\"{}\"]\n{more}",
            self.cli.name,
            self.executable.display(),
            self.server.url().trim_start_matches("http://"),
        ));
    }

    /// What the CLI keeps for itself: a history, which is not the host's to clean.
    pub fn own_folder(&self) -> PathBuf {
        self.host.user().join(self.cli.name)
    }

    /// Runs to the end, and gives all events.
    #[track_caller]
    pub fn events(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec![self.cli.name];
        all.extend(args);
        let events = self.host.events_of(&all);
        check_run_events(&events);
        events
    }

    /// The same with a payload, for what has no flag.
    #[track_caller]
    pub fn events_with(&self, prompt: &str, more: &Value) -> Vec<Value> {
        let payload = self.payload(prompt, more);
        let events = self.host.events_of(&["--payload", payload.to_str().unwrap()]);
        check_run_events(&events);
        events
    }

    /// A run that is read while it goes on.
    #[track_caller]
    pub fn follow(&self, prompt: &str, more: &Value) -> Follower {
        let payload = self.payload(prompt, more);
        self.host.follow(&["run", "--json", "--payload", payload.to_str().unwrap()])
    }

    /// Lets the agent's shell run.
    pub fn free_shell(&self) -> Value {
        json!({ "harness": (self.cli.free_shell)() })
    }

    /// The file of a start payload.
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
