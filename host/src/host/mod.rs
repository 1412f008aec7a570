//! The host process: how it comes up, serves, and ends.

mod log;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use self::log::log_file;

use crate::api::guard::{self, Guard};
use crate::api::server::{self, Connections, Tcp};
use crate::api::types::HttpStatus;
use crate::cli::{LocalCommands, ServeOptions};
use crate::config::{Complaint, Config, Paths};
use crate::engine::{self, Engine};
use crate::model::{ApiError, ErrorKind, Problem};
use crate::plugins::{Limits, Registry, RegistryOptions};
use crate::redaction::{IgnoreFaults, Masks, RunRedactor};
use crate::runner::{Zygote, start_zygote};
use crate::storage::{DataLock, LockError, Options, Storage};

/// The hidden verb that serves as zygote, where the first one died.
pub const ZYGOTE_VERB: &str = "__zygote";

/// Bytes that `ostler redact` reads at a time.
const REDACT_PIECE: usize = 64 * 1024;

/// What the command line does without a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

impl LocalCommands for Local {
    fn redact(&self, paths: &Paths, input: &mut dyn Read, output: &mut dyn Write) -> Result<u64, ApiError> {
        let config = load_config(paths)?;
        let (registry, _) = open_registry(paths, &config, Arc::new(crate::plugins::NoLog))?;
        let redactor = engine::load_redactor(&config, &registry)?;
        let run = RunRedactor::new(redactor, Arc::new(Masks::none()), Arc::new(IgnoreFaults));
        let mut stream = run.stream();
        let mut piece = vec![0_u8; REDACT_PIECE];
        let mut ready = String::new();
        let io = |error: std::io::Error| ApiError::new(ErrorKind::Io, error.to_string());
        loop {
            let read = match input.read(&mut piece) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io(error)),
            };
            match piece.get(..read) {
                None | Some([]) => stream.finish(&mut ready),
                Some(bytes) => stream.push_bytes(bytes, &mut ready),
            }
            output.write_all(ready.as_bytes()).and_then(|()| output.flush()).map_err(io)?;
            ready.clear();
            if read == 0 {
                return Ok(stream.count());
            }
        }
    }

    fn complaints(&self, paths: &Paths, config: &Config) -> Result<Vec<Complaint>, ApiError> {
        let (registry, _) = open_registry(paths, config, Arc::new(crate::plugins::NoLog))?;
        Ok(engine::complaints(config, &registry))
    }

    fn serve(
        &self,
        paths: &Paths,
        options: ServeOptions,
        ready: Box<dyn FnOnce(&Path) + Send>,
    ) -> Result<(), ApiError> {
        serve(paths, options, ready)
    }
}

/// Runs a host until somebody stops it, or until it has had nothing to do for a while (in the background).
///
/// # Errors
/// Why it could not come up.
fn serve(paths: &Paths, options: ServeOptions, ready: Box<dyn FnOnce(&Path) + Send>) -> Result<(), ApiError> {
    // First of all: the zygote must be forked while there is one thread, and while nothing is open that it must not keep.
    let zygote = zygote()?;
    survive_full_files()?;
    let io = |error: &dyn std::fmt::Display| ApiError::new(ErrorKind::Io, error.to_string());
    paths.create().map_err(|error| io(&error))?;
    let lock = DataLock::acquire(&paths.data_dir).map_err(|error| match error {
        LockError::Held { .. } => ApiError::new(ErrorKind::Conflict, error.to_string()),
        LockError::Io { .. } => io(&error),
    })?;
    let config = load_config(paths)?;
    let filter = log::init(&paths.log_dir, &config.log).map_err(|error| io(&error))?;
    let storage = Storage::open(&paths.data_dir.join("ostler.db"), &Options::default())?;
    let plugin_log = Arc::new(log::PluginLines { filter: filter.clone() });
    let (registry, problems) = open_registry(paths, &config, plugin_log)?;
    let engine = Engine::new(engine::Parts {
        paths: paths.clone(),
        config,
        storage,
        registry,
        zygote,
        background: options.background,
        problems,
    })
    .map_err(|error| io(&error))?;
    engine.redact_log({
        let filter = filter.clone();
        move |redactor| filter.set(redactor)
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data = %paths.data_dir.display(), "the host starts");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("api")
        .enable_all()
        .build()
        .map_err(|error| io(&error))?;
    // Before anything is started: where nobody could reach the host, its waiting runs must not be begun and thrown away.
    let listener = {
        let _inside = runtime.enter();
        server::listen(&paths.socket)
    };
    let listener = listener.map_err(|error| cannot_listen(&paths.socket, &error))?;
    if let Err(error) = engine.start() {
        engine.shut_down();
        let _ = std::fs::remove_file(&paths.socket);
        return Err(error);
    }
    let served = runtime.block_on(serve_until_stopped(paths, listener, &engine, options.background, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    tracing::info!("the host ends");
    drop(engine);
    drop(lock);
    served
}

/// A write beyond the limit on the size of files fails like any other that the system refuses, in place of ending the
/// process. Children begin with every signal as a shell would start them.
fn survive_full_files() -> Result<(), ApiError> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed; the signal is ignored.
    let ignored = unsafe { sigaction(Signal::SIGXFSZ, &ignore) };
    ignored.map(drop).map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to ignore SIGXFSZ: {error}")))
}

fn cannot_listen(socket: &Path, error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorKind::Io, format!("failed to listen on {}: {error}", socket.display()))
}

async fn serve_until_stopped(
    paths: &Paths,
    listener: UnixListener,
    engine: &Arc<Engine>,
    background: bool,
    ready: Box<dyn FnOnce(&Path) + Send>,
) -> Result<(), ApiError> {
    let failed = |error: std::io::Error| ApiError::new(ErrorKind::Io, format!("failed to watch for signals: {error}"));
    let connections = Connections::default();
    let (close, closing) = watch::channel(false);
    let tcp = listen_on_tcp(paths, engine).await;
    let serving = tokio::spawn(server::serve(listener, tcp, Arc::clone(engine), connections.clone(), closing));
    ready(&paths.socket);

    let mut stop = engine.stop_wanted();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => tracing::info!("somebody asked the host to end"),
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
        _ = hang_up.recv() => tracing::info!("SIGHUP"),
        () = idle(engine, &connections), if background => tracing::info!("nothing to do"),
    }
    // Subscribers see the end of the runs before their streams close.
    let ending = Arc::clone(engine);
    let _ = tokio::task::spawn_blocking(move || ending.shut_down()).await;
    let _ = std::fs::remove_file(&paths.socket);
    close.send_replace(true);
    let _ = serving.await;
    Ok(())
}

/// Listens over TCP where the configuration says so. What goes wrong is told and leaves the unix socket available.
async fn listen_on_tcp(paths: &Paths, engine: &Engine) -> Option<Tcp> {
    let config = engine.http_config();
    let address = config.listen?;
    let token_file = guard::token_file(&paths.data_dir);
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, bound))
    };
    let listening = listening.await.map_err(|error| error.to_string());
    let made = listening.and_then(|(listener, bound)| {
        let guard = Guard::new(&config, bound, &token_file).map_err(|error| error.to_string())?;
        Ok((Tcp { listener, guard }, bound))
    });
    match made {
        Ok((tcp, bound)) => {
            tracing::info!(address = %bound, "listens over TCP");
            engine.served_over_tcp(HttpStatus { url: format!("http://{bound}"), token_file });
            Some(tcp)
        }
        Err(error) => {
            engine.report_problem(format!("[http]: failed to listen on {address}: {error}"));
            None
        }
    }
}

/// Returns after the host has had no run and no client for its idle time.
async fn idle(engine: &Engine, connections: &Connections) {
    let (mut busy, mut open) = (engine.busy(), connections.watch());
    loop {
        if busy.wait_for(|jobs| *jobs == 0).await.is_err() || open.wait_for(|open| *open == 0).await.is_err() {
            return std::future::pending().await;
        }
        busy.mark_unchanged();
        open.mark_unchanged();
        if *busy.borrow() != 0 {
            continue;
        }
        tokio::select! {
            // A client may have come at the last moment: what it was promised counts.
            () = tokio::time::sleep(engine.idle_limit()) => if engine.close_if_idle() { return },
            _ = busy.changed() => {}
            _ = open.changed() => {}
        }
    }
}

fn zygote() -> Result<Zygote, ApiError> {
    let zygote = start_zygote().map_err(|error| ApiError::new(ErrorKind::Io, error.to_string()))?;
    // Through the process itself: the file may have been replaced by then.
    Ok(zygote.respawn_with("/proc/self/exe", vec![ZYGOTE_VERB.into()]))
}

fn load_config(paths: &Paths) -> Result<Config, ApiError> {
    Config::load(Some(&paths.config_file)).map_err(|errors| {
        let problems =
            errors.errors().iter().map(|error| Problem { pointer: String::new(), message: error.to_string() });
        let mut error = ApiError::new(ErrorKind::InvalidParams, errors.to_string());
        error.problems = problems.collect();
        error.hint("see `ostler config check`")
    })
}

fn open_registry(
    paths: &Paths,
    config: &Config,
    log: Arc<dyn crate::plugins::PluginLog>,
) -> Result<(Registry, Vec<String>), ApiError> {
    let plugins = &config.plugins;
    let mut limits = Limits { component_size: plugins.max_component_bytes() as u64, ..Limits::default() };
    for call in [&mut limits.provider, &mut limits.redactor, &mut limits.policy] {
        call.memory = plugins.memory_bytes();
        call.time = plugins.call_timeout();
    }
    let options = RegistryOptions {
        cache_dir: Some(paths.cache_dir.join("plugins")),
        plugin_dir: Some(plugins.folder.clone().unwrap_or_else(|| paths.plugins_dir.clone())),
        limits,
        log,
        ..RegistryOptions::default()
    };
    let (registry, problems) = Registry::open(&options).map_err(|error| {
        ApiError::new(ErrorKind::PluginFailed, format!("failed to start the plugin runtime: {error}"))
    })?;
    Ok((registry, problems.iter().map(ToString::to_string).collect()))
}
