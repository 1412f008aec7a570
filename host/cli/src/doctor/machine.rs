//! Checks of this machine and this shell.

use std::fs;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::Check;
use ostler_config::Paths;

/// Free bytes below which runs are likely to fail.
const LITTLE_SPACE: u64 = 100 << 20;
/// Free bytes below which a few runs can fill the disk.
const SOME_SPACE: u64 = 1 << 30;

/// Address space that the host maps for plugins if it can, in bytes.
const ADDRESS_SPACE: u64 = 64 << 30;
const OPEN_FILES: u64 = 1024;
const PROCESSES: u64 = 256;
/// The database and outputs of runs can become larger than this, in bytes.
const FILE_SIZE: u64 = 1 << 30;

/// Checks the folders that must be writable. A missing folder is created when it is needed.
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

/// Checks the free space on the disk of the data folder.
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

/// Checks the resource limits of this shell, which a host inherits if it is started from it.
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
            // A host raises its own soft limit of open files.
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
    fn warns_of_low_disk_space() {
        assert_eq!(space(50 << 20).state, State::Broken);
        assert_eq!(space(500 << 20).state, State::Warning);
        assert_eq!((space(2 << 30).state, space(2 << 30).message.as_str()), (State::Ok, "2.1 GB free"));
    }

    #[test]
    fn reports_file_as_broken_folder_and_accepts_missing_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(folder_check("data", folder.path()).state, State::Ok);
        assert_eq!(folder_check("data", &folder.path().join("a/b")).state, State::Ok);
        assert_eq!(folder_check("data", &folder.path().join("file")).state, State::Broken);
        assert_eq!(folder_check("data", &folder.path().join("file/x")).state, State::Broken);
    }
}
