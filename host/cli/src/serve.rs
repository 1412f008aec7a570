//! `ostler serve`

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::clean;
use super::context::{Context, VERSION};
use super::exit::Exit;
use super::output::complain;
use ostler_client::{PROGRESS, READY_LINE};
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler serve          run a host here until Ctrl-C

Other commands start a host in the background if none is running; that one stops after some idle minutes. This one stays.";

/// Run a host in the foreground
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Report to the starter, then detach and end when idle
    #[arg(long, hide = true)]
    background: bool,
}

/// Callback for each slow step of a host's start. The argument describes the step.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// Options of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// It was started by another command and ends when idle.
    pub background: bool,
}

pub(super) fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let background = arguments.background;
    let json = context.json;
    let ready: Box<dyn FnOnce(&Path) + Send> = Box::new(move |socket| {
        // Notify a service manager, if there is one.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        if background {
            report_ready();
        } else if json {
            complain(&json!({"ready": true, "socket": socket, "version": VERSION}).to_string());
        } else {
            let socket = clean::line(&socket.display().to_string());
            complain(&format!("ostler {VERSION} listens on {socket}; Ctrl-C stops it"));
        }
    });
    let terminal = context.out.stderr_terminal;
    let progress: Progress = Arc::new(move |step| {
        if background {
            complain(&format!("{PROGRESS}{step}"));
        } else if terminal && !json {
            complain(&clean::line(&format!("{step}…")));
        }
    });
    context.local.serve(&context.paths, ServeOptions { background }, progress, ready)?;
    Ok(Exit::Done)
}

/// Notifies the starter that the host accepts connections, and closes the pipe to it.
fn report_ready() {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{READY_LINE}");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stderr(&null);
    }
}
