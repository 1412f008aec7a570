//! Finds the real agent CLIs, if they are installed.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    sync::Once,
};

/// The executable of a CLI: from `variable`, or from `PATH`.
///
/// `None` means that the test is to be skipped; it is said once on standard error, past the test harness, which keeps
/// what passing tests print.
///
/// # Panics
/// If there is none and `OSTLER_REQUIRE_CLIS` is 1.
pub fn agent_cli(name: &str, variable: &str) -> Option<PathBuf> {
    static TOLD: Once = Once::new();
    let named = env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file()));
    if let Some(path) = found {
        return Some(path.canonicalize().unwrap_or_else(|error| panic!("{variable}: {}: {error}", path.display())));
    }
    let message = format!("there is no {name}: put it on PATH or name it in {variable}");
    let required = env::var_os("OSTLER_REQUIRE_CLIS").is_some_and(|value| value == "1");
    assert!(!required, "{message}");
    TOLD.call_once(|| {
        let _ = writeln!(io::stderr(), "SKIPPED: {message}");
    });
    None
}
