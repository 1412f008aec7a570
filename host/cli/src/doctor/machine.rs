//! What of this machine and this shell a run needs.

use std::fs;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::Check;
use ostler_config::Paths;

/// Below this, runs fail soon.
const LITTLE_SPACE: u64 = 100 << 20;
/// Below this, a few runs fill the disk.
const SOME_SPACE: u64 = 1 << 30;

/// The host maps this much address space for plugins where it can.
const ADDRESS_SPACE: u64 = 64 << 30;
const OPEN_FILES: u64 = 1024;
const PROCESSES: u64 = 256;
/// The database and the outputs of runs are larger.
const FILE_SIZE: u64 = 1 << 30;

/// Folders in which something must be written. One that is missing is created when it is needed.
pub(super) fn folders(paths: &Paths) -> Vec<Check> {
    let folders = [
        ("data", paths.data_dir.as_path()),
        ("plugins", paths.plugins_dir.as_path()),
        ("cache", paths.cache_dir.as_path()),
        ("log", paths.log_dir.as_path()),
    ];
    folders.into_iter().map(|(name, folder)| folder_check(&format!("{name} folder"), folder)).collect()
}

fn folder_check(name: &str, folder: &Path) -> Check {
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Check::broken(name, format!("{shown} is not a folder")),
        Ok(_) => match access(folder, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) => Check::ok(name, shown.to_string()),
            Err(error) => Check::broken(name, format!("{shown} cannot be used: {}", error.desc()))
                .hint("change its owner or permissions, or use another folder with OSTLER_HOME"),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let Some(parent) = existing_parent(folder) else {
                return Check::broken(name, format!("{shown} does not exist"));
            };
            match access(parent, AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) => Check::ok(name, format!("{shown} (not created yet)")),
                Err(error) => {
                    Check::broken(name, format!("{shown} cannot be created: {}: {}", parent.display(), error.desc()))
                }
            }
        }
        Err(error) => Check::broken(name, format!("{shown} cannot be used: {error}")),
    }
}

fn existing_parent(folder: &Path) -> Option<&Path> {
    folder.ancestors().skip(1).find(|parent| parent.exists())
}

/// Space on the disk of the data folder.
pub(super) fn disk(paths: &Paths) -> Check {
    let folder =
        if paths.data_dir.exists() { Some(paths.data_dir.as_path()) } else { existing_parent(&paths.data_dir) };
    match folder.map(statvfs) {
        Some(Ok(found)) => space(found.blocks_available().saturating_mul(found.fragment_size())),
        Some(Err(error)) => Check::warning("disk", format!("free space is unknown: {}", error.desc())),
        None => Check::warning("disk", "free space is unknown"),
    }
}

fn space(free: u64) -> Check {
    let shown = format!("{} free", bytes(free));
    if free < LITTLE_SPACE {
        Check::broken("disk", shown).hint("free some space: `ostler retention apply` deletes old runs")
    } else if free < SOME_SPACE {
        Check::warning("disk", shown).hint("`ostler retention` limits how much runs may take")
    } else {
        Check::ok("disk", shown)
    }
}

/// Limits of this shell, which a host that is started from it inherits.
pub(super) fn limits() -> Vec<Check> {
    let limits = [
        (Resource::RLIMIT_AS, "address space", "ulimit -v", ADDRESS_SPACE, true),
        (Resource::RLIMIT_NOFILE, "open files", "ulimit -n", OPEN_FILES, false),
        (Resource::RLIMIT_NPROC, "processes", "ulimit -u", PROCESSES, false),
        (Resource::RLIMIT_FSIZE, "file size", "ulimit -f", FILE_SIZE, true),
    ];
    let small: Vec<Check> = limits
        .into_iter()
        .filter_map(|(resource, name, command, enough, in_bytes)| {
            // A host raises its soft limit of open files itself.
            let (soft, hard) = getrlimit(resource).ok()?;
            let limit = if resource == Resource::RLIMIT_NOFILE { hard } else { soft };
            if limit == RLIM_INFINITY || limit >= enough {
                return None;
            }
            let shown = if in_bytes { bytes(limit) } else { limit.to_string() };
            let hint = format!("raise it with `{command}` before the host starts");
            Some(Check::warning("limits", format!("{name}: {shown}, which may be too little")).hint(hint))
        })
        .collect();
    if small.is_empty() { vec![Check::ok("limits", "no tight limits (ulimit)")] } else { small }
}

fn bytes(count: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = u128::from(count) * 10 / u128::from(unit);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    if count >= 1_000_000_000 { format!("{} GB", tenths(1_000_000_000)) } else { format!("{} MB", tenths(1_000_000)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::State;
    use super::*;

    #[test]
    fn little_space_is_told_before_there_is_none() {
        assert_eq!(space(50 << 20).state, State::Broken);
        assert_eq!(space(500 << 20).state, State::Warning);
        assert_eq!((space(2 << 30).state, space(2 << 30).message.as_str()), (State::Ok, "2.1 GB free"));
    }

    #[test]
    fn a_file_in_place_of_a_folder_is_broken_and_a_missing_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(folder_check("data", folder.path()).state, State::Ok);
        assert_eq!(folder_check("data", &folder.path().join("a/b")).state, State::Ok);
        assert_eq!(folder_check("data", &folder.path().join("file")).state, State::Broken);
        assert_eq!(folder_check("data", &folder.path().join("file/x")).state, State::Broken);
    }
}
