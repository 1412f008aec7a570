//! The context of a command: global options, paths, output, and the connection to the host.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use ostler_client::{Client, ClientConfig, ClientError, Greeting, HostCommand};
use ostler_config::Paths;
use ostler_protocol::{ApiError, ErrorKind, MARKER_VARIABLE};

use super::output::{Output, complain};
use super::{Global, JsonForm, LocalCommands, clean};

/// This binary's version, which the host's must equal.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The context of a command.
pub(super) struct Context<'a> {
    pub(super) json: bool,
    /// For a run that is followed: print one object at its end instead of its events.
    pub(super) json_result: bool,
    pub(super) paths: Paths,
    pub(super) out: Output,
    pub(super) local: &'a dyn LocalCommands,
    no_start: bool,
    /// The first request to the host, if it was sent already.
    greeting: Cell<Option<Greeting>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        global: &Global,
        local: &'a dyn LocalCommands,
        greeting: Option<Greeting>,
    ) -> Result<Self, ApiError> {
        let paths = resolve_paths(global.home.as_deref())?;
        let (json, json_result) = (global.json.is_some(), global.json == Some(JsonForm::Result));
        let (out, greeting) = (Output::detect(), Cell::new(greeting));
        Ok(Self { json, json_result, paths, out, local, no_start: global.no_start, greeting })
    }

    /// Connects to a host of this version, and starts one if none is running.
    pub(super) async fn client(&self) -> Result<Client, ApiError> {
        let start = if self.no_start { None } else { Some(self.host_command()?) };
        let missing = self.paths.home.as_deref().filter(|home| start.is_some() && !home.exists());
        let connected = Client::connect_greeted(self.client_config(start, false), self.greeting.take()).await;
        let client = connected.map_err(|error| match error {
            ClientError::NotRunning { .. } => {
                ApiError::from(error).hint("start one with `ostler serve`, or omit --no-start")
            }
            error => error.into(),
        })?;
        if let Some(home) = missing.filter(|_| !self.json) {
            // After a typing error in --home, all data would otherwise seem to be lost.
            complain(&format!("created {}: nothing was there yet", clean::line(&home.display().to_string())));
        }
        Ok(client)
    }

    /// Connects to a running host of any version. `None` if none is running.
    pub(super) async fn client_of_running(&self) -> Result<Option<Client>, ApiError> {
        match Client::connect_greeted(self.client_config(None, true), self.greeting.take()).await {
            Ok(client) => Ok(Some(client)),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn client_config(&self, start: Option<HostCommand>, any_version: bool) -> ClientConfig {
        let socket = self.paths.socket.clone();
        // Progress is only for a terminal.
        let progress = (self.out.stderr_terminal && !self.json).then_some(show_start as fn(&str));
        ClientConfig { start, any_version, progress, ..ClientConfig::new(socket, VERSION) }
    }

    /// The command that starts this binary as a host in the background. Fails inside a run: a contained run cannot
    /// reach its host, and a second host would end with the run.
    fn host_command(&self) -> Result<HostCommand, ApiError> {
        if std::env::var_os(MARKER_VARIABLE).is_some() {
            let message = "a process inside a run may not call the host or start one";
            return Err(ApiError::new(ErrorKind::PolicyDenied, message).hint("call Ostler from outside the run"));
        }
        let program = std::env::current_exe().map_err(|error| {
            ApiError::new(ErrorKind::Io, format!("failed to find this program's own file: {error}"))
        })?;
        // Absolute, because the host starts in another folder.
        let environment = self.paths.home.iter().map(|home| ("OSTLER_HOME".into(), home.clone().into())).collect();
        Ok(HostCommand { environment, ..HostCommand::ostler(program) })
    }
}

/// Prints what a host that is starting does.
fn show_start(step: &str) {
    complain(&clean::line(&format!("{step}…")));
}

/// The paths for `home` if given, else for the environment.
pub(super) fn resolve_paths(home: Option<&Path>) -> Result<Paths, ApiError> {
    let Some(home) = home else {
        return Paths::from_environment().map_err(|error| ApiError::new(ErrorKind::Io, error.to_string()));
    };
    if home.as_os_str().is_empty() {
        return Err(ApiError::new(ErrorKind::InvalidParams, "--home is empty; name a folder").at("--home"));
    }
    let variable = |name: &str| if name == "OSTLER_HOME" { Some(home.into()) } else { std::env::var_os(name) };
    Paths::resolve(&variable, None).map_err(|error| ApiError::new(ErrorKind::Io, error.to_string()))
}

/// The current folder.
pub(super) fn current_folder() -> Result<PathBuf, ApiError> {
    std::env::current_dir().map_err(|error| {
        ApiError::new(ErrorKind::CwdMissing, format!("failed to find the current folder: {error}"))
            .hint("change to a folder that exists, or name one")
    })
}

/// Makes a path of the user absolute. It is not resolved: the host does that and reports errors.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, ApiError> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    // Removes `.` components. A `..` stays, because it may follow a symbolic link.
    Ok(current_folder()?.join(path).components().collect())
}
