//! The host process: start, service and end. Also the commands that work without a host.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::log::Log;
use crate::names;
use crate::watch::Watch;

use ostler_cli::{LocalCommands, Nameable, Named, Progress, ServeOptions};
use ostler_config::{Config, ConfigDiagnostic, ConfigErrors, Overrides, Paths, Source};
use ostler_engine::Engine;
use ostler_plugin_host::{
    CacheOptions, Kind, KnownFile, Registry, RegistryOptions, bundled_are_compiled, compile_bundled,
};
use ostler_private_files::ownership;
use ostler_private_files::{DataLock, LockError};
use ostler_private_files::{create_private_dir, secret_file};
use ostler_protocol::methods::{HttpStatus, ReloadTrigger};
use ostler_protocol::{ApiError, ErrorKind};
use ostler_redaction::{ByteRedactor, Fault, FaultSink, Masks, RunRedactor};
use ostler_runner::{Zygote, be_opaque, become_neutral, start_zygote};
use ostler_server::guard::{self, Guard};
use ostler_server::server::{self, Connections, Tcp};
use ostler_storage::{Options, PluginFileRow, Reader, Storage};

/// The hidden command that starts a new zygote after the first one has died.
pub(crate) const ZYGOTE_VERB: &str = "__zygote";

/// The hidden command that compiles the bundled plugins into a folder.
pub(crate) const COMPILE_VERB: &str = "__compile";

/// Maximum output of the compiling process that is read, in bytes.
const MAX_STEPS: u64 = 1 << 20;

/// Bytes that `ostler redact` reads at a time.
const REDACT_PIECE: usize = 64 * 1024;

/// The commands that need no host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Local;

/// Records the first failure of a redactor plugin.
#[derive(Default)]
struct FirstFault(OnceLock<String>);

impl FaultSink for FirstFault {
    fn fault(&self, plugin: &str, fault: &Fault) {
        self.0.get_or_init(|| format!("the redactor plugin {plugin} failed: {fault}"));
    }
}

impl FirstFault {
    fn error(&self) -> Option<ApiError> {
        let message = format!("{}; what it was to look at was withheld from the output", self.0.get()?);
        Some(ApiError::new(ErrorKind::PluginFailed, message).hint("correct, replace or remove the plugin"))
    }
}

impl LocalCommands for Local {
    fn redact(&self, paths: &Paths, inputs: &mut [Box<dyn Read>], output: &mut dyn Write) -> Result<u64, ApiError> {
        let config = self.config(paths)?;
        let (registry, _) =
            open_registry(paths, &config, known_plugins(paths), Arc::new(ostler_plugin_host::NoLog), Arc::new(|_| ()))?;
        let redactor = ostler_engine::load_redactor(&config, &registry)?;
        let faults = Arc::new(FirstFault::default());
        let run = RunRedactor::new(redactor, Arc::new(Masks::none()), Arc::clone(&faults) as Arc<dyn FaultSink>);
        let mut piece = vec![0_u8; REDACT_PIECE];
        let mut count = 0;
        let io = |error: std::io::Error| ApiError::new(ErrorKind::Io, error.to_string());
        for input in inputs {
            let mut stream = ByteRedactor::new(&run);
            loop {
                let read = match input.read(&mut piece) {
                    Ok(read) => read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(io(error)),
                };
                let ready = match piece.get(..read) {
                    None | Some([]) => stream.finish(),
                    Some(bytes) => stream.push(bytes),
                };
                output.write_all(&ready).and_then(|()| output.flush()).map_err(io)?;
                if read == 0 {
                    break;
                }
            }
            count += stream.count();
        }
        faults.error().map_or(Ok(count), Err)
    }

    fn config(&self, paths: &Paths) -> Result<Config, ApiError> {
        let source = Source::read(&paths.config_file).map_err(|errors| config_error(&errors))?;
        let rows = Reader::glance(&database(paths), Reader::settings)?.unwrap_or_default();
        let (config, _) =
            source.config_with_fitting(&Overrides::from_rows(rows)).map_err(|errors| config_error(&errors))?;
        Ok(config)
    }

    fn diagnostics(&self, paths: &Paths, config: &Config) -> Result<Vec<ConfigDiagnostic>, ApiError> {
        let (registry, _) =
            open_registry(paths, config, known_plugins(paths), Arc::new(ostler_plugin_host::NoLog), Arc::new(|_| ()))?;
        Ok(ostler_engine::plugin_diagnostics(config, &registry))
    }

    fn names(&self, paths: &Paths, what: Nameable) -> Vec<Named> {
        names::names(*self, paths, what)
    }

    fn serve(
        &self,
        paths: &Paths,
        options: ServeOptions,
        progress: Progress,
        ready: Box<dyn FnOnce(&Path) + Send>,
    ) -> Result<(), ApiError> {
        serve(paths, options, &progress, ready)
    }
}

/// Runs a host until it is stopped or, in the background, until it has been idle for its idle time.
///
/// # Errors
/// The error that prevented the start.
fn serve(
    paths: &Paths,
    options: ServeOptions,
    progress: &Progress,
    ready: Box<dyn FnOnce(&Path) + Send>,
) -> Result<(), ApiError> {
    // First, because later processes inherit it.
    become_neutral();
    // Fork the zygote while there is a single thread, and before anything is open that it must not inherit.
    let zygote = zygote()?;
    // Runs are processes of the same user, but must not read the memory or environment of this process.
    be_opaque();
    ignore_file_size_signal()?;
    let io = |error: &dyn std::fmt::Display| ApiError::new(ErrorKind::Io, error.to_string());
    paths.create().map_err(|error| io(&error))?;
    let lock = DataLock::acquire(&paths.data_dir).map_err(|error| match error {
        LockError::Held { .. } => ApiError::new(ErrorKind::Conflict, error.to_string()),
        LockError::Io { .. } => io(&error),
    })?;
    let lock = Arc::new(lock);
    let starting = Arc::new(AtomicBool::new(true));
    let progress = progress_reporter(&lock, &starting, progress);
    let source = Source::read(&paths.config_file).map_err(|errors| config_error(&errors))?;
    // Without runtime settings: they are in the database, and the log must be open before the database is.
    let file = source.config(&Overrides::default()).map_err(|errors| config_error(&errors))?;
    let log = Log::init(&paths.log_dir, &file.log).map_err(|error| io(&error))?;
    note(&lock, "opening the database");
    let storage = Storage::open(&database(paths), &Options::default())?;
    let set = Overrides::from_rows(storage.read(Reader::settings)?);
    let (config, unfit) = source.config_with_fitting(&set).map_err(|errors| config_error(&errors))?;
    compile_in_child(paths, &progress);
    let approved = storage.read(Reader::plugin_trust)?;
    let files = storage.read(Reader::plugin_files)?.into_iter().filter_map(known_file).collect();
    let plugins = KnownPlugins { approved: approved.clone(), files };
    let (registry, problems) = open_registry(paths, &config, plugins, Arc::new(log.plugin_lines()), progress)?;
    let watch = Watch::new();
    let trace = watch.tracer();
    let follow = move |config: &Config, redactor| {
        trace();
        log.apply(&config.log, redactor)
    };
    let engine = Engine::new(ostler_engine::Parts {
        paths: paths.clone(),
        config,
        source,
        set,
        approved,
        unfit,
        follow: Box::new(follow),
        storage,
        registry,
        zygote,
        background: options.background,
        problems,
    })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data = %paths.data_dir.display(), "the host starts");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("api")
        .enable_all()
        .build()
        .map_err(|error| io(&error))?;
    // Listen before runs are started: if that fails, waiting runs must not be started and then interrupted.
    let listener = {
        let _inside = runtime.enter();
        server::listen(&paths.socket)
    };
    let listener = listener.map_err(|error| cannot_listen(&paths.socket, &error))?;
    note(&lock, "taking up what an earlier host has left");
    if let Err(error) = engine.start() {
        engine.shutdown().shut_down();
        let _ = std::fs::remove_file(&paths.socket);
        return Err(error);
    }
    if let Err(error) = watch.start(&engine) {
        engine.reloader().set_watch_problem(Some(error.to_string()));
    }
    let ready_lock = Arc::clone(&lock);
    let ready = Box::new(move |socket: &Path| {
        starting.store(false, Ordering::Relaxed);
        if let Err(error) = ready_lock.note(None) {
            tracing::warn!(%error, "the lock does not say that the host is ready");
        }
        ready(socket);
    });
    let served = runtime.block_on(serve_until_stopped(paths, listener, &engine, options.background, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    tracing::info!("the host ends");
    drop(watch);
    drop(engine);
    drop(lock);
    served
}

/// Writes the current step to the lock file. A client that waits for the host extends its time limit at each new step.
fn note(lock: &DataLock, step: &str) {
    if let Err(error) = lock.note(Some(step)) {
        tracing::debug!(%error, step, "the lock does not say what the host does");
    }
}

/// A callback that writes steps to the lock file and reports them to the starter of the host. Does nothing once it is
/// ready.
fn progress_reporter(lock: &Arc<DataLock>, starting: &Arc<AtomicBool>, progress: &Progress) -> Progress {
    let (lock, starting, progress) = (Arc::downgrade(lock), Arc::clone(starting), Arc::clone(progress));
    Arc::new(move |step| {
        if !starting.load(Ordering::Relaxed) {
            return;
        }
        if let Some(lock) = lock.upgrade() {
            note(&lock, step);
        }
        progress(step);
    })
}

/// Ignores SIGXFSZ, so that a write above the file size limit returns an error instead of ending the process. Children
/// start with default signal handlers.
fn ignore_file_size_signal() -> Result<(), ApiError> {
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
    let (close, closing) = tokio::sync::watch::channel(false);
    let tcp = listen_on_tcp(paths, engine).await;
    let serving = tokio::spawn(server::serve(listener, tcp, Arc::clone(engine), connections.clone(), closing));
    ready(&paths.socket);

    let mut stop = engine.shutdown().requested();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let terminal = has_terminal();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => tracing::info!("somebody asked the host to end"),
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
            _ = hang_up.recv() => {
                if !terminal || !hung_up().await {
                    let engine = Arc::clone(engine);
                    // The engine records errors.
                    tokio::task::spawn_blocking(move || drop(engine.reloader().reload(ReloadTrigger::Signal)));
                    continue;
                }
                tracing::info!("the terminal is gone");
            }
            () = idle(engine, &connections), if background => tracing::info!("nothing to do"),
        }
        break;
    }
    // Subscribers get the terminal events of the runs before their streams close.
    let ending = Arc::clone(engine);
    let _ = tokio::task::spawn_blocking(move || ending.shutdown().shut_down()).await;
    let _ = std::fs::remove_file(&paths.socket);
    close.send_replace(true);
    let _ = serving.await;
    Ok(())
}

/// Whether this process has a terminal.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether a SIGHUP came because the terminal has closed. Otherwise it is a request for a reload.
async fn hung_up() -> bool {
    // The system sends the signal before it closes the terminal.
    tokio::time::sleep(Duration::from_millis(200)).await;
    !has_terminal()
}

/// Listens over TCP if configured. A failure is reported, and the unix socket stays available.
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
    let tcp = listening.and_then(|(listener, bound)| {
        let guard = Guard::new(&config, bound, &token_file, engine).map_err(|error| error.to_string())?;
        Ok((Tcp { listener, guard }, bound))
    });
    match tcp {
        Ok((tcp, bound)) => {
            tracing::info!(address = %bound, "listens over TCP");
            engine.status().set_http(HttpStatus { url: format!("http://{bound}"), token_file });
            Some(tcp)
        }
        Err(error) => {
            engine.status().report_problem(format!("[http]: failed to listen on {address}: {error}"));
            None
        }
    }
}

/// Returns when the host has had no run and no client for its idle time.
async fn idle(engine: &Engine, connections: &Connections) {
    let (mut busy, mut open, mut generation) =
        (engine.shutdown().busy(), connections.watch(), engine.reloader().generation());
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
            // A client may have connected just now, so the engine checks again.
            () = tokio::time::sleep(engine.shutdown().idle_limit()) => if engine.shutdown().close_if_idle() { return },
            _ = busy.changed() => {}
            _ = open.changed() => {}
            // The idle time may have changed.
            _ = generation.changed() => {}
        }
    }
}

fn zygote() -> Result<Zygote, ApiError> {
    let zygote = start_zygote().map_err(|error| ApiError::new(ErrorKind::Io, error.to_string()))?;
    // Through `/proc/self/exe`, because the file of the binary may have been replaced.
    Ok(zygote.respawn_with("/proc/self/exe", vec![ZYGOTE_VERB.into()]))
}

fn config_error(errors: &ConfigErrors) -> ApiError {
    let error = errors.to_api_error().hint("see `ostler config check`");
    match errors.path() {
        Some(path) => ApiError { message: format!("{}: {}", path.display(), error.message), ..error },
        None => error,
    }
}

/// Path of the database.
pub(crate) fn database(paths: &Paths) -> PathBuf {
    paths.data_dir.join("ostler.db")
}

/// Compiles missing bundled plugins in a child process. What it cannot compile, this process compiles later.
fn compile_in_child(paths: &Paths, progress: &Progress) {
    // The error is reported when the plugins are opened.
    let Ok(cache) = code_cache(paths) else { return };
    if bundled_are_compiled(&cache) {
        return;
    }
    let mut compiler = Command::new("/proc/self/exe");
    compiler.arg(COMPILE_VERB).arg(&cache.folder).arg(code_key_file(paths)).env_clear().current_dir("/");
    let started = compiler.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut compiler) = started.inspect_err(|error| tracing::warn!(%error, "no process to compile plugins")) else {
        return;
    };
    if let Some(steps) = compiler.stdout.take() {
        for step in BufReader::new(steps.take(MAX_STEPS)).lines().map_while(Result::ok) {
            progress(&format!("first start: {step}"));
        }
    }
    let ended = compiler.wait();
    tracing::debug!(?ended, "the bundled plugins were compiled");
}

/// Runs the command [`COMPILE_VERB`]: compiles the bundled plugins into a folder, with the key in a file. Prints each
/// step on a line.
#[must_use]
pub(crate) fn compile(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let cache = args.next().zip(args.next()).and_then(|(folder, key_file)| {
        let key = secret_file::read_or_make_key(Path::new(&key_file)).ok()?;
        Some(CacheOptions { folder: folder.into(), key })
    });
    let compiled = cache.is_some_and(|cache| compile_bundled(&cache, Arc::new(print_step)).is_ok());
    if compiled { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a step. Ignores errors: if the host has ended, the compiled plugins are still kept.
fn print_step(step: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{step}");
}

/// The file with the key that authenticates compiled code as written by a host of this user.
fn code_key_file(paths: &Paths) -> PathBuf {
    paths.data_dir.join("code.key")
}

/// The cache for compiled plugins.
///
/// # Errors
/// If the key can be neither read nor created.
fn code_cache(paths: &Paths) -> Result<CacheOptions, String> {
    // A command without a host may be the first one that needs the folder.
    create_private_dir(&paths.data_dir).map_err(|error| error.to_string())?;
    let key = secret_file::read_or_make_key(&code_key_file(paths)).map_err(|error| error.to_string())?;
    Ok(CacheOptions { folder: paths.cache_dir.join("plugins"), key })
}

/// Data of earlier hosts about plugins.
#[derive(Default)]
struct KnownPlugins {
    approved: BTreeSet<String>,
    files: Vec<KnownFile>,
}

/// The data about plugins in the database. Empty if there is no database, or its version is not supported.
fn known_plugins(paths: &Paths) -> KnownPlugins {
    // An older database may have only one of the two.
    let known = Reader::glance(&database(paths), |reader| {
        Ok((reader.plugin_trust().unwrap_or_default(), reader.plugin_files().unwrap_or_default()))
    });
    let (approved, files) = known.ok().flatten().unwrap_or_default();
    KnownPlugins { approved, files: files.into_iter().filter_map(known_file).collect() }
}

fn known_file((path, kind, name): PluginFileRow) -> Option<KnownFile> {
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    Some(KnownFile { path, kind, name })
}

fn open_registry(
    paths: &Paths,
    config: &Config,
    known: KnownPlugins,
    log: Arc<dyn ostler_plugin_host::PluginLog>,
    progress: Progress,
) -> Result<(Registry, Vec<String>), ApiError> {
    let folder = ostler_engine::plugin_folder(&config.plugins, paths);
    ownership::check(folder).map_err(|untrusted| {
        let message = format!("the plugin folder is not trusted: {}", untrusted.message);
        ApiError::new(ErrorKind::Io, message).hint(format!("run `{}`", untrusted.remedy))
    })?;
    let (cache, no_cache) = match code_cache(paths) {
        Ok(cache) => (Some(cache), None),
        Err(problem) => (None, Some(format!("compiled plugins are not kept: {problem}"))),
    };
    let options = RegistryOptions {
        cache,
        plugin_dir: Some(folder.to_owned()),
        limits: ostler_engine::limits(&config.plugins),
        log,
        admission: ostler_engine::admission(&config.plugins, &known.approved),
        known_files: known.files,
        progress,
        ..RegistryOptions::default()
    };
    let (registry, problems) = Registry::open(&options).map_err(|error| {
        ApiError::new(ErrorKind::PluginFailed, format!("failed to start the plugin runtime: {error}"))
    })?;
    Ok((registry, no_cache.into_iter().chain(problems.iter().map(ToString::to_string)).collect()))
}
