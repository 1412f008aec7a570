//! Shared code of the host's build scripts: a nested cargo.
//!
//! Two crates embed programs that are built from source at the same time: `ostler-plugin-host` the bundled plugins, and
//! `ostler-runner` the reaper. Their build scripts run a nested cargo for them, in a target folder of its own (`guest`
//! below the outer one), so that it never waits for the outer cargo's lock. It is one folder for all profiles of the
//! host. [`Nested::build`] removes variables of the outer build from the environment, and paths of this machine from
//! the result. Cargo's dep-info files decide when the build script runs again ([`watch_sources`]).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Profile of the nested build, in the workspace's `Cargo.toml`.
pub const PROFILE: &str = "plugin";

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

/// The folders of the nested build.
#[derive(Debug)]
pub struct Nested {
    /// Root of the workspace.
    pub root: PathBuf,
    /// The output folder of the build script.
    pub out: PathBuf,
    target_folder: PathBuf,
}

impl Nested {
    /// Finds the folders for the build script of a package in `host/`.
    ///
    /// # Errors
    /// If a variable that cargo sets for build scripts is missing.
    pub fn new() -> Result<Self, String> {
        let (package, out) = (PathBuf::from(variable("CARGO_MANIFEST_DIR")?), PathBuf::from(variable("OUT_DIR")?));
        let root = package.ancestors().nth(2).ok_or("the package is not two folders below the workspace")?.to_owned();
        let target_folder = guest_target_folder(&out)?;
        Ok(Self { root, out, target_folder })
    }

    /// Folder of the programs and libraries that were built for a target.
    #[must_use]
    pub fn built(&self, target: &str) -> PathBuf {
        self.target_folder.join(target).join(PROFILE)
    }

    /// Builds packages of the workspace. `kind` is `--lib` or `--bins`.
    ///
    /// # Errors
    /// If cargo fails; its own messages are printed before.
    pub fn build(&self, target: &str, kind: &str, packages: &[&str]) -> Result<(), String> {
        compile(&self.root, &self.target_folder, target, kind, packages)
    }
}

/// `guest` below the host's target folder, whatever its profile and target; below OUT_DIR if the layout is different.
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
    command.env("CARGO_ENCODED_RUSTFLAGS", remap_paths(root));
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

/// Flags that remove this machine's paths from panic messages, so that the same sources give the same component.
fn remap_paths(root: &Path) -> OsString {
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

/// Makes cargo run the build script again if a source in the dep-info file (`output: source source …`, spaces escaped)
/// changes.
///
/// # Errors
/// If the file cannot be read.
pub fn watch_sources(dep_info: &Path) -> Result<(), String> {
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

/// Writes a file only if its content changes, so that the host is not compiled again without need.
///
/// # Errors
/// If the file cannot be written.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(|error| format!("failed to write {}: {error}", path.display()))
}

/// A variable that cargo sets for build scripts.
///
/// # Errors
/// If it is not set.
pub fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("failed to read {name}, which cargo sets: {error}"))
}
