//! Finds programs on a search path.

use std::env::split_paths;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{AccessFlags, access};

/// A program file, with size and time by which a replacement is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Where it was found, absolute, links not resolved (programs may depend on the name by which they are called).
    pub path: PathBuf,
    /// Size in bytes of the file that the links lead to.
    pub size: u64,
    /// When that file was last written.
    pub modified: SystemTime,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The first match.
    Found(Executable),
    /// Nothing usable, but these files have the name: not a regular file, or no permission to execute.
    NotExecutable(Vec<PathBuf>),
    /// No file of that name.
    NotFound,
}

/// Searches `search_path` for the first of `names` that is there; an earlier name wins over an earlier folder.
/// Relative entries of the path are ignored. A name with a slash is taken only if it is absolute, and looked at directly.
pub fn find_executable<S: AsRef<OsStr>>(names: &[S], search_path: &OsStr) -> Lookup {
    let mut unusable = Vec::new();
    for name in names {
        let name = Path::new(name.as_ref());
        let candidates: Vec<PathBuf> = match name.as_os_str().as_bytes() {
            b"" => Vec::new(),
            bytes if bytes.contains(&b'/') => vec![name.to_owned()],
            _ => split_paths(search_path).map(|folder| folder.join(name)).collect(),
        };
        for candidate in candidates.into_iter().filter(|path| path.is_absolute()) {
            match inspect_executable(&candidate) {
                Lookup::Found(executable) => return Lookup::Found(executable),
                Lookup::NotExecutable(mut paths) => unusable.append(&mut paths),
                Lookup::NotFound => {}
            }
        }
    }
    if unusable.is_empty() { Lookup::NotFound } else { Lookup::NotExecutable(unusable) }
}

/// Looks at one file by absolute path.
pub fn inspect_executable(path: &Path) -> Lookup {
    let Ok(meta) = fs::metadata(path) else {
        // A dangling link counts as a file of that name; a folder that cannot be read does not.
        let dangling = fs::symlink_metadata(path).is_ok();
        return if dangling { Lookup::NotExecutable(vec![path.to_owned()]) } else { Lookup::NotFound };
    };
    if !path.is_absolute() || !meta.is_file() || access(path, AccessFlags::X_OK).is_err() {
        return Lookup::NotExecutable(vec![path.to_owned()]);
    }
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Lookup::Found(Executable { path: path.to_owned(), size: meta.len(), modified })
}

/// How to start a program so that no search path is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// What to execute.
    pub executable: PathBuf,
    /// Arguments before the program's own: the interpreter's, and the script.
    pub leading_args: Vec<OsString>,
}

/// Why a script cannot be started without a search path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The script's interpreter is not on the search path.
    #[error("failed to find {interpreter:?}, the interpreter of {}: install it or put it on PATH", .script.display())]
    InterpreterMissing {
        /// The script.
        script: PathBuf,
        /// The interpreter's name.
        interpreter: String,
    },
    /// The program cannot be read.
    #[error("failed to read {}: {message}", .path.display())]
    Unreadable {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        message: String,
    },
}

/// Resolves a `#!/usr/bin/env NAME` script's interpreter on `search_path`, so that the script starts when its own
/// `PATH` is a folder of shims. Other programs are returned unchanged.
///
/// # Errors
/// The interpreter is not on the path. A program that may be executed but not read is started as it is.
pub fn resolve_launch(executable: &Path, search_path: &OsStr) -> Result<Launch, LaunchError> {
    let plain = Launch { executable: executable.to_owned(), leading_args: Vec::new() };
    let first_line = match read_first_line(executable) {
        Ok(first_line) => first_line,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(plain),
        Err(error) => {
            return Err(LaunchError::Unreadable { path: executable.to_owned(), message: error.to_string() });
        }
    };
    let Some(words) = env_words(&first_line) else { return Ok(plain) };
    let Some((name, arguments)) = words.split_first() else { return Ok(plain) };
    match find_executable(&[name], search_path) {
        Lookup::Found(interpreter) => {
            let mut leading_args: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            leading_args.push(executable.into());
            Ok(Launch { executable: interpreter.path, leading_args })
        }
        Lookup::NotExecutable(_) | Lookup::NotFound => {
            Err(LaunchError::InterpreterMissing { script: executable.to_owned(), interpreter: name.clone() })
        }
    }
}

/// As much of the first line as the kernel reads.
fn read_first_line(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut begin)?;
    let end = begin.iter().position(|byte| *byte == b'\n').unwrap_or(begin.len());
    begin.truncate(end);
    Ok(begin)
}

/// What `env` is to run, from a line `#!/usr/bin/env [-S] NAME [ARGUMENT…]`. None for any other line, and for
/// one that uses more of `env` (options, assignments, quotes): such a script starts as it is.
fn env_words(first_line: &[u8]) -> Option<Vec<String>> {
    let line = std::str::from_utf8(first_line.strip_prefix(b"#!")?).ok()?.trim();
    let (interpreter, argument) = line.split_once([' ', '\t'])?;
    if Path::new(interpreter).file_name() != Some(OsStr::new("env")) {
        return None;
    }
    let argument = argument.trim();
    let words: Vec<String> = match argument.strip_prefix("-S") {
        Some(rest) => rest.split_ascii_whitespace().map(str::to_owned).collect(),
        // Without -S the kernel passes the rest of the line as one word.
        None => vec![argument.to_owned()],
    };
    let special = |word: &String| word.contains(['\'', '"', '\\', '$', '#']);
    let name = words.first()?;
    (!name.starts_with('-') && !name.contains(['=', '/']) && !words.iter().any(special)).then_some(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn file(path: &Path, content: &str, mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn first_usable_file_is_found_and_unusable_ones_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::create_dir_all(one.join("folder")).unwrap();
        fs::create_dir(&two).unwrap();
        file(&one.join("plain"), "", 0o644);
        file(&two.join("tool"), "#!/bin/sh\n", 0o755);
        symlink("nowhere", one.join("dangling")).unwrap();
        symlink(two.join("tool"), one.join("link")).unwrap();
        let path = std::env::join_paths([Path::new("relative"), &one, Path::new("."), &two]).unwrap();
        let find = |names: &[&str]| find_executable(names, &path);

        let Lookup::Found(tool) = find(&["absent", "tool"]) else { panic!() };
        assert_eq!((tool.path, tool.size), (two.join("tool"), 10));
        let Lookup::Found(link) = find(&["link"]) else { panic!() };
        assert_eq!((link.path, link.size), (one.join("link"), 10));
        assert_eq!(find(&["plain"]), Lookup::NotExecutable(vec![one.join("plain")]));
        assert_eq!(find(&["folder"]), Lookup::NotExecutable(vec![one.join("folder")]));
        assert_eq!(find(&["dangling"]), Lookup::NotExecutable(vec![one.join("dangling")]));
        for absent in ["absent", "", "../two/tool", "two/tool"] {
            assert_eq!(find(&[absent]), Lookup::NotFound);
        }
        assert!(matches!(find(&[two.join("tool").to_str().unwrap()]), Lookup::Found(_)));
        assert_eq!(find_executable(&["tool"], OsStr::new("")), Lookup::NotFound);
    }

    #[test]
    fn interpreter_named_through_env_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        file(&node, "", 0o755);
        let launch = |line: &str| {
            let script = dir.path().join("script");
            file(&script, line, 0o755);
            (resolve_launch(&script, dir.path().as_os_str()), script)
        };
        let with = |arguments: &[&str], script: &Path| Launch {
            executable: node.clone(),
            leading_args: arguments.iter().map(OsString::from).chain([script.into()]).collect(),
        };
        let (result, script) = launch("#!/usr/bin/env node\nx");
        assert_eq!(result, Ok(with(&[], &script)));
        let (result, script) = launch("#! /usr/bin/env -S node --a -b\n");
        assert_eq!(result, Ok(with(&["--a", "-b"], &script)));
        let (result, script) = launch("#!/usr/bin/env deno\n");
        let missing = LaunchError::InterpreterMissing { script: script.clone(), interpreter: "deno".to_owned() };
        assert_eq!(result, Err(missing));
        for plain in ["#!/bin/sh\n", "\x7fELF", "", "#!/usr/bin/env A=b node\n", "#!/usr/bin/env -S 'a b'\n", "#!"] {
            let (result, script) = launch(plain);
            assert_eq!(result, Ok(Launch { executable: script, leading_args: Vec::new() }), "{plain:?}");
        }
    }
}
