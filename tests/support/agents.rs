//! Finds the real agent CLIs, if they are installed.

use super::print_skipped;
use std::{env, path::PathBuf};

/// The executable of a CLI: from `variable`, or from `PATH`.
///
/// `None` if it is missing: prints SKIPPED then, and the test must return.
///
/// # Panics
/// If it is missing and `OSTLER_REQUIRE_CLIS` is 1.
pub fn agent_cli(name: &str, variable: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file()));
    if let Some(path) = found {
        return Some(path.canonicalize().unwrap_or_else(|error| panic!("{variable}: {}: {error}", path.display())));
    }
    let message = format!("there is no {name}: put it on PATH or name it in {variable}");
    let required = env::var_os("OSTLER_REQUIRE_CLIS").is_some_and(|value| value == "1");
    assert!(!required, "{message}");
    print_skipped(&message);
    None
}
