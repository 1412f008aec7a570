#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Paths, PathsError};
use ostler_private_files::{FolderError, MAX_SOCKET_PATH, SocketAddress, create_private_dir};

fn resolve(variables: &[(&str, &str)], home: Option<&str>) -> Result<Paths, PathsError> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    let lookup = |name: &str| variables.get(name).map(OsString::from);
    Paths::resolve(&lookup, home.map(Path::new))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn home_variable_moves_all_paths() {
    let variables = [("OSTLER_HOME", "/srv/ostler"), ("XDG_DATA_HOME", "/elsewhere"), ("XDG_RUNTIME_DIR", "/run/x")];
    let paths = resolve(&variables, Some("/home/me")).unwrap();
    assert_eq!(paths.home, Some(PathBuf::from("/srv/ostler")));
    assert_eq!(paths.socket, Path::new("/srv/ostler/data/host.sock"));
    let Paths { config_file, data_dir, plugins_dir, cache_dir, log_dir, socket, .. } = paths;
    for path in [config_file, data_dir, plugins_dir, cache_dir, log_dir, socket] {
        assert!(path.starts_with("/srv/ostler"), "{}", path.display());
    }
}

#[test]
fn uses_xdg_folders_without_home_variable() {
    let paths = resolve(&[("OSTLER_HOME", "")], Some("/home/me")).unwrap();
    assert_eq!(paths.config_file, Path::new("/home/me/.config/ostler/config.toml"));
    assert_eq!(paths.data_dir, Path::new("/home/me/.local/share/ostler"));
    assert_eq!(paths.cache_dir, Path::new("/home/me/.cache/ostler"));
    assert_eq!(paths.log_dir, Path::new("/home/me/.local/state/ostler/log"));
    assert_eq!(paths.socket, Path::new("/home/me/.local/share/ostler/host.sock"));
    let paths = resolve(&[("XDG_DATA_HOME", "/data"), ("XDG_CACHE_HOME", "relative")], Some("/home/me")).unwrap();
    assert_eq!(paths.data_dir, Path::new("/data/ostler"));
    assert_eq!(paths.plugins_dir, Path::new("/data/ostler/plugins"));
    assert_eq!(paths.cache_dir, Path::new("/home/me/.cache/ostler"), "relative values count for nothing");
    let error = resolve(&[], None).unwrap_err();
    assert!(error.to_string().contains("OSTLER_HOME"));
}

#[test]
fn makes_relative_home_absolute() {
    let paths = resolve(&[("OSTLER_HOME", "some/where")], None).unwrap();
    assert_eq!(paths.home.unwrap(), std::env::current_dir().unwrap().join("some/where"));
}

#[test]
fn socket_is_in_the_data_folder_for_every_environment_and_length() {
    let deep = format!("/{}", "h".repeat(200));
    let mut all_paths = Vec::new();
    for runtime in [&[][..], &[("XDG_RUNTIME_DIR", "/run/session")], &[("XDG_RUNTIME_DIR", "relative")]] {
        let variables: Vec<_> = [("OSTLER_HOME", deep.as_str())].into_iter().chain(runtime.iter().copied()).collect();
        all_paths.push(resolve(&variables, None).unwrap());
    }
    assert!(all_paths.iter().all(|paths| *paths == all_paths[0]));
    assert_eq!(all_paths[0].socket, Path::new(&deep).join("data/host.sock"));
}

#[test]
fn socket_is_reached_at_every_length_of_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let at = |length: usize| {
        let name = "host.sock";
        // Including the slashes before and after it.
        let rest = length - folder.path().as_os_str().len() - name.len() - 2;
        let middle = folder.path().join("d".repeat(rest));
        std::fs::create_dir_all(&middle).unwrap();
        middle.join(name)
    };
    for length in [MAX_SOCKET_PATH - 1, MAX_SOCKET_PATH, MAX_SOCKET_PATH + 1, 200] {
        let socket = at(length);
        assert_eq!(socket.as_os_str().len(), length);
        let address = SocketAddress::of(&socket).unwrap();
        assert!(address.path().as_os_str().len() <= MAX_SOCKET_PATH);
        let _listener = std::os::unix::net::UnixListener::bind(address.path()).unwrap();
        drop(address);
        assert!(socket.exists(), "{length}");
        std::os::unix::net::UnixStream::connect(SocketAddress::of(&socket).unwrap().path()).unwrap();
    }
    let missing = folder.path().join("m".repeat(150)).join("host.sock");
    assert_eq!(SocketAddress::of(&missing).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn creates_private_folders() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("a/b");
    let paths = resolve(&[("OSTLER_HOME", home.to_str().unwrap())], None).unwrap();
    paths.create().unwrap();
    paths.create().unwrap();
    for made in [&home, &paths.data_dir, &paths.cache_dir, &paths.log_dir] {
        assert_eq!(mode(made), 0o700, "{}", made.display());
    }
    std::fs::set_permissions(&paths.data_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    paths.create().unwrap();
    assert_eq!(mode(&paths.data_dir), 0o700, "what others could enter is closed");
}

#[test]
fn rejects_files_and_links_instead_of_folders() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = create_private_dir(&path).unwrap_err();
        assert!(matches!(&error, FolderError::NotAFolder { path } if *path == file), "{error}");
    }
    let dangling = folder.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert!(matches!(create_private_dir(&dangling).unwrap_err(), FolderError::NotAFolder { .. }));
}

/// Only root can change the owner of a folder, and only a user other than root can lack write permission.
#[test]
fn rejects_foreign_and_unwritable_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    std::fs::create_dir(&path).unwrap();
    let error = if nix::unistd::Uid::effective().is_root() {
        std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
        create_private_dir(&path).unwrap_err()
    } else {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o500)).unwrap();
        create_private_dir(&path).unwrap_err()
    };
    assert!(matches!(error, FolderError::Owner { owner: 4242, .. } | FolderError::ReadOnly { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("OSTLER_HOME"), "{text}");
}
