//! Builds the bundled plugins from source as components, compiles these to machine code, and embeds both.
//!
//! A nested cargo builds the guest crates for `wasm32-unknown-unknown`, see `ostler-nested-build`.
//!
//! `OSTLER_PLUGIN_COMPONENTS` names a folder of prebuilt components (`codex.wasm` and so on), for packagers who
//! build the plugins elsewhere. They are used instead.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ostler_nested_build::{Nested, variable, watch_sources, write_if_changed};

#[path = "src/code.rs"]
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
    Guest { name: "tools", kind: "Policy", package: "ostler-policy-tools", folder: "policies/tools" },
];

const TARGET: &str = "wasm32-unknown-unknown";
const PREBUILT: &str = "OSTLER_PLUGIN_COMPONENTS";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/code.rs");
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let nested = Nested::new()?;
    let out = nested.out.as_path();
    let components = match env::var_os(PREBUILT).filter(|folder| !folder.is_empty()) {
        Some(folder) => prebuilt(&PathBuf::from(folder))?,
        None => build_components(&nested)?,
    };
    let compiler = Compiler::for_target(&variable("TARGET")?)?;
    let mut list = String::from("&[\n");
    for (guest, component) in GUESTS.iter().zip(&components) {
        let code = out.join(format!("{}.code", guest.name));
        write_if_changed(&code, &compiler.compile(guest, component)?)?;
        // The name in the list is for messages; the plugin's own identity counts.
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
fn prebuilt(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = folder
        .canonicalize()
        .map_err(|error| format!("failed to find the folder that {PREBUILT} names, {}: {error}", folder.display()))?;
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
        Err(format!("{PREBUILT} names {}, which lacks {}", folder.display(), missing.join(", ")))
    }
}

fn build_components(nested: &Nested) -> Result<Vec<PathBuf>, String> {
    ensure_target()?;
    let packages: Vec<&str> = GUESTS.iter().map(|guest| guest.package).collect();
    nested.build(TARGET, "--lib", &packages)?;

    let (root, modules) = (&nested.root, nested.built(TARGET));
    for shared in ["Cargo.toml", "Cargo.lock", "plugin-api/Cargo.toml", "plugin-api/wit"] {
        println!("cargo::rerun-if-changed={}", root.join(shared).display());
    }
    let mut components = Vec::new();
    for guest in GUESTS {
        let module = modules.join(format!("{}.wasm", guest.package.replace('-', "_")));
        println!("cargo::rerun-if-changed={}", root.join(guest.folder).join("Cargo.toml").display());
        watch_sources(&module.with_extension("d"))?;
        let component = nested.out.join(format!("{}.wasm", guest.name));
        write_if_changed(&component, &wrap(guest, &module)?)?;
        components.push(component);
    }
    Ok(components)
}

/// Adds the guests' target if it is missing. `rust-toolchain.toml` names it, but it is not installed if rustup's
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

/// Wraps a module as a component.
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

/// Compiles components to machine code.
struct Compiler {
    /// None: the host compiles at its first start.
    engine: Option<wasmtime::Engine>,
}

impl Compiler {
    /// A compiler for the target of the host, and for every processor of it that [`code::BASELINE_X86_64`] allows.
    fn for_target(target: &str) -> Result<Self, String> {
        if target.split('-').next() != variable("HOST")?.split('-').next() {
            // This code generator supports only the architecture that it runs on.
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
                    // SAFETY: wasmtime compares the features that code was made for with the processor's when it loads
                    // it.
                    unsafe { config.cranelift_flag_enable(feature) };
                }
            }
            wasmtime::Engine::new(&config)
        };
        let engine = engine().map_err(|error| format!("failed to set up the compiler for {target}: {error:#}"))?;
        Ok(Self { engine: Some(engine) })
    }

    /// The code of a component; empty if none is compiled.
    fn compile(&self, guest: &Guest, component: &Path) -> Result<Vec<u8>, String> {
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let bytes = fs::read(component).map_err(|error| format!("failed to read {}: {error}", component.display()))?;
        engine
            .precompile_component(&bytes)
            .map_err(|error| format!("failed to compile the component of {}: {error:#}", guest.package))
    }
}
