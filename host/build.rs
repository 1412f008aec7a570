//! Builds the bundled plugins from source, makes components of them and machine code of those, and embeds both. Builds and
//! embeds the reaper, too.
//!
//! A nested cargo builds the guest crates for `wasm32-unknown-unknown` into a target folder of their own (`guest` below
//! the host's), one for all profiles of the host, so the host's own lock on its folder is never asked for. What the
//! guests were built from, as cargo's dep-info files tell, decides when this script runs again.
//!
//! `OSTLER_PLUGIN_COMPONENTS` names a folder of ready-made components (`codex.wasm` and so on) and spares all of that,
//! for packagers who build the plugins elsewhere.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[path = "src/plugins/code.rs"]
mod code;

/// A bundled plugin.
struct Guest {
    /// Name of the plugin, and of the component's file.
    name: &'static str,
    kind: &'static str,
    package: &'static str,
    /// Folder of the package, from the root of the workspace.
    folder: &'static str,
}

const GUESTS: &[Guest] = &[
    Guest { name: "claude", kind: "Provider", package: "ostler-plugin-claude", folder: "plugins/claude" },
    Guest { name: "codex", kind: "Provider", package: "ostler-plugin-codex", folder: "plugins/codex" },
    Guest { name: "command", kind: "Provider", package: "ostler-plugin-command", folder: "plugins/command" },
    Guest { name: "rehearsal", kind: "Provider", package: "ostler-plugin-rehearsal", folder: "plugins/rehearsal" },
    Guest { name: "secrets", kind: "Redactor", package: "ostler-plugin-secrets", folder: "plugins/secrets" },
    Guest { name: "guardrails", kind: "Policy", package: "ostler-policy-guardrails", folder: "policies/guardrails" },
];

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "plugin";

/// Package and program.
const REAPER: &str = "ostler-reaper";

const READY_MADE: &str = "OSTLER_PLUGIN_COMPONENTS";

/// Variables of the outer build that must not reach the nested one: wrappers (clippy, sccache), flags for the host's
/// processor or for coverage, another target, another folder.
const OUTER_ONLY: &[&str] = &[
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "LLVM_PROFILE_FILE",
];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/plugins/code.rs");
    println!("cargo::rerun-if-env-changed={READY_MADE}");
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    build_reaper(&out)?;
    let components = match env::var_os(READY_MADE).filter(|folder| !folder.is_empty()) {
        Some(folder) => ready_made(&PathBuf::from(folder))?,
        None => build_components(&out)?,
    };
    let compiler = Compiler::for_target(&variable("TARGET")?)?;
    let mut list = String::from("&[\n");
    for (guest, component) in GUESTS.iter().zip(&components) {
        let code = out.join(format!("{}.code", guest.name));
        write_if_changed(&code, &compiler.compile(guest, component)?)?;
        // The name in the list is for messages; what counts is what the plugin says of itself.
        let _ = writeln!(
            list,
            "    Bundled {{ name: {:?}, kind: Kind::{}, component: include_bytes!({:?}), code: include_bytes!({:?}) }},",
            guest.name, guest.kind, component, code
        );
    }
    list.push_str("]\n");
    write_if_changed(&out.join("bundled_plugins.rs"), list.as_bytes())
}

/// The packager's components.
fn ready_made(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = folder
        .canonicalize()
        .map_err(|error| format!("failed to find the folder that {READY_MADE} names, {}: {error}", folder.display()))?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for guest in GUESTS {
        let path = folder.join(format!("{}.wasm", guest.name));
        println!("cargo::rerun-if-changed={}", path.display());
        if path.is_file() {
            found.push(path);
        } else {
            missing.push(format!("{}.wasm", guest.name));
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(format!("{READY_MADE} names {}, which lacks {}", folder.display(), missing.join(", ")))
    }
}

fn build_components(out: &Path) -> Result<Vec<PathBuf>, String> {
    let host = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = host.parent().ok_or("the host's package has no parent folder")?.to_owned();
    let target_folder = guest_target_folder(out)?;
    ensure_target()?;
    let packages: Vec<&str> = GUESTS.iter().map(|guest| guest.package).collect();
    compile(&root, &target_folder, TARGET, "--lib", &packages)?;

    let modules = target_folder.join(TARGET).join(PROFILE);
    for shared in ["Cargo.toml", "Cargo.lock", "plugin-api/Cargo.toml", "plugin-api/wit"] {
        println!("cargo::rerun-if-changed={}", root.join(shared).display());
    }
    let mut components = Vec::new();
    for guest in GUESTS {
        let module = modules.join(format!("{}.wasm", guest.package.replace('-', "_")));
        println!("cargo::rerun-if-changed={}", root.join(guest.folder).join("Cargo.toml").display());
        watch_sources(&module.with_extension("d"))?;
        let component = out.join(format!("{}.wasm", guest.name));
        write_if_changed(&component, &wrap(guest, &module)?)?;
        components.push(component);
    }
    Ok(components)
}

/// `guest` below the host's target folder, whatever its profile and target; below OUT_DIR where the layout is another.
fn guest_target_folder(out: &Path) -> Result<PathBuf, String> {
    // <target>[/<triple>]/<profile>/build/<package>/out
    let Some(profile) =
        out.ancestors().nth(3).filter(|_| out.ancestors().nth(2).is_some_and(|build| build.ends_with("build")))
    else {
        return Ok(out.join("guest"));
    };
    let mut target = profile.parent().ok_or("the profile's folder has no parent")?;
    if target.file_name().is_some_and(|name| Some(name) == env::var_os("TARGET").as_deref()) {
        target = target.parent().ok_or("the target's folder has no parent")?;
    }
    Ok(target.join("guest"))
}

/// Adds the guests' target where it is missing. `rust-toolchain.toml` names it, but nothing installs it where rustup's
/// automatic installs are off or there is no rustup.
fn ensure_target() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let present = || {
        Command::new(&rustc)
            .args(["--print", "target-libdir", "--target", TARGET])
            .env_remove("RUSTC_WRAPPER")
            .output()
            .is_ok_and(|output| {
                output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
            })
    };
    if present() {
        return Ok(());
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").ok();
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    let mut command = format!("rustup target add {TARGET}");
    if let Some(toolchain) = &toolchain {
        rustup.args(["--toolchain", toolchain]);
        let _ = write!(command, " --toolchain {toolchain}");
    }
    let detail = match rustup.output() {
        Ok(output) if output.status.success() && present() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("rustup does not start: {error}"),
    };
    Err(format!(
        "failed to find the Rust target {TARGET}, which the bundled plugins are built for; install it, then build again:\n\n    {command}\n\n({detail})"
    ))
}

/// Builds the small program that stays as process 1 of a run.
fn build_reaper(out: &Path) -> Result<(), String> {
    let host = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = host.parent().ok_or("the host's package has no parent folder")?.to_owned();
    let (target_folder, target) = (guest_target_folder(out)?, variable("TARGET")?);
    compile(&root, &target_folder, &target, "--bins", &[REAPER])?;
    println!("cargo::rerun-if-changed={}", host.join("reaper/Cargo.toml").display());
    let program = target_folder.join(target).join(PROFILE).join(REAPER);
    watch_sources(&program.with_extension("d"))?;
    let bytes = fs::read(&program).map_err(|error| format!("failed to read {}: {error}", program.display()))?;
    write_if_changed(&out.join(REAPER), &bytes)
}

/// Runs the nested cargo.
fn compile(root: &Path, target_folder: &Path, target: &str, kind: &str, packages: &[&str]) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("build").arg("--manifest-path").arg(root.join("Cargo.toml"));
    command.args(["--profile", PROFILE, "--target", target, "--locked", kind]).arg("--target-dir").arg(target_folder);
    for package in packages {
        command.args(["--package", package]);
    }
    command.current_dir(root);
    for name in OUTER_ONLY {
        command.env_remove(name);
    }
    // Variables that describe the package being built would only make the guests' builds differ.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_FEATURE_") || name.starts_with("CARGO_CFG_")
        }) {
            command.env_remove(name);
        }
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", same_paths_everywhere(root));
    let status =
        command.status().map_err(|error| format!("failed to start cargo for {}: {error}", packages.join(", ")))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "failed to build {} for {target}: cargo ended with {status}; its messages are above",
            packages.join(", ")
        ))
    }
}

/// Takes this machine's paths out of the panic messages, so that the same sources give the same component.
fn same_paths_everywhere(root: &Path) -> OsString {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(root);
    flags.push("=ostler");
    if let Some(home) = home {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(home);
        flags.push("=cargo");
    }
    flags
}

/// Names the sources in cargo's dep-info file (`output: source source …`, spaces escaped) for the next run.
fn watch_sources(dep_info: &Path) -> Result<(), String> {
    let text =
        fs::read_to_string(dep_info).map_err(|error| format!("failed to read {}: {error}", dep_info.display()))?;
    for line in text.lines() {
        let Some((_, sources)) = line.split_once(": ") else { continue };
        for source in sources.replace("\\ ", "\u{1f}").split_whitespace() {
            println!("cargo::rerun-if-changed={}", source.replace('\u{1f}', " "));
        }
    }
    Ok(())
}

/// Makes a component of a module.
fn wrap(guest: &Guest, module: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(module).map_err(|error| format!("failed to read {}: {error}", module.display()))?;
    let encode = || wit_component::ComponentEncoder::default().validate(true).module(&bytes)?.encode();
    encode().map_err(|error| {
        format!(
            "failed to make a component of {} (does its crate call ostler_plugin::export_{}!?): {error:#}",
            guest.package,
            guest.kind.to_lowercase()
        )
    })
}

/// Makes machine code of components.
struct Compiler {
    /// None: the host compiles at its first start.
    engine: Option<wasmtime::Engine>,
}

impl Compiler {
    /// For the target of the host, and for every processor of it that [`code::BASELINE_X86_64`] allows.
    fn for_target(target: &str) -> Result<Self, String> {
        if target.split('-').next() != variable("HOST")?.split('-').next() {
            // The code generator that is built here knows the architecture that it runs on.
            println!(
                "cargo::warning=no machine code is made for {target}: its host compiles the plugins at the first start"
            );
            return Ok(Self { engine: None });
        }
        let mut config = code::config();
        let mut engine = || {
            config.target(target)?;
            if target.starts_with("x86_64-") {
                for feature in code::BASELINE_X86_64 {
                    // SAFETY: wasmtime compares the features that code was made for with the processor's when it loads it.
                    unsafe { config.cranelift_flag_enable(feature) };
                }
            }
            wasmtime::Engine::new(&config)
        };
        let engine = engine().map_err(|error| format!("failed to set up the compiler for {target}: {error:#}"))?;
        Ok(Self { engine: Some(engine) })
    }

    /// The code of a component; nothing where none is made.
    fn compile(&self, guest: &Guest, component: &Path) -> Result<Vec<u8>, String> {
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let bytes = fs::read(component).map_err(|error| format!("failed to read {}: {error}", component.display()))?;
        engine
            .precompile_component(&bytes)
            .map_err(|error| format!("failed to compile the component of {}: {error:#}", guest.package))
    }
}

/// Leaves the file's time alone where nothing changed, so that the host is not compiled again.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(|error| format!("failed to write {}: {error}", path.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("failed to read {name}, which cargo sets: {error}"))
}
