//! Builds the reaper, the small program that stays as process 1 of a run that bwrap contains, and embeds it.

use std::fs;
use std::process::ExitCode;

use ostler_nested_build::{Nested, variable, watch_sources, write_if_changed};

/// Package and program.
const REAPER: &str = "ostler-reaper";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let (nested, target) = (Nested::new()?, variable("TARGET")?);
    nested.build(&target, "--bins", &[REAPER])?;
    println!("cargo::rerun-if-changed={}", nested.root.join("host/reaper/Cargo.toml").display());
    let program = nested.built(&target).join(REAPER);
    watch_sources(&program.with_extension("d"))?;
    let bytes = fs::read(&program).map_err(|error| format!("failed to read {}: {error}", program.display()))?;
    write_if_changed(&nested.out.join(REAPER), &bytes)
}
