//! The CLI allowlist: a folder that is the child's whole `PATH`, with a shim for each allowed program or one wrapper.
//!
//! It limits names, it is not a sandbox: a program can still be called by its absolute path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::private::{Access, PrivateDir};

/// The folder of the shims inside the private folder, if no other was requested.
const FOLDER: &str = "bin";
/// Lists the files outside the private folder that are removed with it, one path a line.
pub(super) const OUTSIDE: &str = ".outside";
/// The first lines of every shim. In a folder outside, only files that begin with them are removed.
const HEADER: &str = "#!/bin/sh\n# Ostler: a program of this run's CLI allowlist.\n";
const DEFAULT_WRAPPER: &str = "ostler-tools";

/// The only programs that the child finds by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CliAllowlist {
    /// The programs.
    pub entries: Vec<ShimEntry>,
    /// How they appear.
    pub mode: ShimMode,
    /// The wrapper's name; `ostler-tools` by default. Only with [`ShimMode::Wrapper`].
    pub wrapper_name: Option<String>,
    /// The absolute path of the folder; by default inside the private folder. It may exist, but must not contain a file
    /// with the name of a shim.
    pub bin_dir: Option<PathBuf>,
    /// Whether `bin_dir` stays after the run.
    pub keep_bin_dir: bool,
}

/// One allowed program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShimEntry {
    /// The name by which it is called.
    pub name: String,
    /// Its absolute path.
    pub path: PathBuf,
    /// Arguments that precede the caller's.
    pub args: Vec<String>,
    /// Additional environment variables.
    pub env: BTreeMap<String, String>,
}

/// How the allowed programs appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShimMode {
    /// A file for each program, under its name.
    #[default]
    Shims,
    /// One file that takes the program's name as its first argument.
    Wrapper,
}

/// Something wrong in an allowlist or a prelude.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a JSON pointer from the block itself: `/entries/2/name`.
    pub pointer: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    pub(super) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// The files of an allowlist, not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimPlan {
    files: Vec<(String, String)>,
    programs: Vec<PathBuf>,
    bin_dir: Option<PathBuf>,
    keep: bool,
}

/// Shims that exist. Those outside the private folder are removed when this is dropped, unless they are to be kept; the
/// others are removed with the private folder.
#[derive(Debug)]
pub struct Shims {
    dir: PathBuf,
    names: Vec<String>,
    outside: bool,
    made_dir: bool,
    keep: bool,
}

/// The shims could not be written; nothing of them is left.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// A file or folder could not be made.
    #[error("failed to write the shim {}: {source}", .path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The private folder refused.
    #[error(transparent)]
    Private(#[from] super::private::PrivateError),
}

/// Plans the files of an allowlist. Pure: whether the programs exist is [`ShimPlan::missing_programs`]' business.
///
/// # Errors
/// Every problem at once.
pub fn plan_shims(allowlist: &CliAllowlist) -> Result<ShimPlan, Vec<Problem>> {
    let problems = check(allowlist);
    if !problems.is_empty() {
        return Err(problems);
    }
    let files = match allowlist.mode {
        ShimMode::Shims => allowlist.entries.iter().map(|entry| (entry.name.clone(), shim(entry))).collect(),
        ShimMode::Wrapper => {
            let name = allowlist.wrapper_name.as_deref().unwrap_or(DEFAULT_WRAPPER);
            vec![(name.to_owned(), wrapper(name, &allowlist.entries))]
        }
    };
    Ok(ShimPlan {
        files,
        programs: allowlist.entries.iter().map(|entry| entry.path.clone()).collect(),
        bin_dir: allowlist.bin_dir.clone(),
        keep: allowlist.keep_bin_dir,
    })
}

fn check(allowlist: &CliAllowlist) -> Vec<Problem> {
    let mut problems = Vec::new();
    if allowlist.entries.is_empty() {
        problems.push(Problem::new("/entries", "names no program: name at least one, or leave the allowlist out"));
    }
    let mut seen = BTreeSet::new();
    for (index, entry) in allowlist.entries.iter().enumerate() {
        let at = format!("/entries/{index}");
        if let Some(wrong) = wrong_name(&entry.name) {
            problems.push(Problem::new(format!("{at}/name"), wrong));
        } else if !seen.insert(entry.name.as_str()) {
            problems.push(Problem::new(format!("{at}/name"), format!("{:?} is named twice: keep one", entry.name)));
        }
        if let Some(wrong) = wrong_path(&entry.path) {
            problems.push(Problem::new(format!("{at}/path"), wrong));
        }
        for (number, argument) in entry.args.iter().enumerate() {
            if argument.contains('\0') {
                problems.push(Problem::new(format!("{at}/args/{number}"), "holds a NUL character: remove it"));
            }
        }
        for (name, value) in &entry.env {
            let pointer = format!("{at}/env/{}", name.replace('~', "~0").replace('/', "~1"));
            if !is_variable(name) {
                problems.push(Problem::new(&pointer, "is not a variable's name: use letters, digits and _"));
            }
            if value.contains('\0') {
                problems.push(Problem::new(pointer, "holds a NUL character: remove it"));
            }
        }
    }
    match (&allowlist.wrapper_name, allowlist.mode) {
        (Some(_), ShimMode::Shims) => {
            problems
                .push(Problem::new("/wrapperName", "has no effect without mode \"wrapper\": set it or remove this"));
        }
        (Some(name), ShimMode::Wrapper) => {
            if let Some(wrong) = wrong_name(name) {
                problems.push(Problem::new("/wrapperName", wrong));
            }
        }
        (None, _) => {}
    }
    match &allowlist.bin_dir {
        Some(dir) => {
            if let Some(wrong) = wrong_path(dir) {
                problems.push(Problem::new("/binDir", wrong));
            } else if dir.as_os_str().as_encoded_bytes().contains(&b':') {
                problems
                    .push(Problem::new("/binDir", "holds a colon, which separates folders in PATH: choose another"));
            }
        }
        None if allowlist.keep_bin_dir => {
            problems.push(Problem::new("/keepBinDir", "has no effect without binDir: name the folder or remove this"));
        }
        None => {}
    }
    problems
}

fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 128 {
        Some("must have 1 to 128 characters")
    } else if name.starts_with(['-', '.']) {
        Some("must not begin with - or .")
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._+-[".contains(c)) {
        Some("may hold letters, digits and . _ + - [ only: it is the name of a file, not a path")
    } else {
        None
    }
}

fn wrong_path(path: &Path) -> Option<&'static str> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if !path.is_absolute() {
        Some("must be an absolute path")
    } else if bytes.iter().any(u8::is_ascii_control) {
        Some("holds a control character: remove it")
    } else if path.components().any(|part| part == std::path::Component::ParentDir) {
        Some("must not contain ..")
    } else {
        None
    }
}

fn is_variable(name: &str) -> bool {
    name.bytes().enumerate().all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()))
        && !name.is_empty()
}

/// One word for a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The commands that become the program; `"$@"` are the caller's arguments.
fn call(entry: &ShimEntry, indent: &str) -> String {
    let mut text = String::new();
    for (name, value) in &entry.env {
        text.push_str(&format!("{indent}export {name}={}\n", quote(value)));
    }
    text.push_str(&format!("{indent}exec {}", quote(&entry.path.to_string_lossy())));
    for argument in &entry.args {
        text.push(' ');
        text.push_str(&quote(argument));
    }
    text.push_str(" \"$@\"\n");
    text
}

fn shim(entry: &ShimEntry) -> String {
    format!("{HEADER}{}", call(entry, ""))
}

fn wrapper(name: &str, entries: &[ShimEntry]) -> String {
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let list = quote(&names.join(" "));
    let mut text = format!("{HEADER}tool=${{1-}}\n[ $# -eq 0 ] || shift\ncase $tool in\n");
    for entry in entries {
        text.push_str(&format!("{})\n{}    ;;\n", quote(&entry.name), call(entry, "    ")));
    }
    text.push_str("'' | --help | --list)\n");
    text.push_str(&format!(
        "    printf 'usage: %s PROGRAM [ARGUMENT...]; allowed programs: %s\\n' {} {list}\n",
        quote(name)
    ));
    text.push_str("    ;;\n*)\n");
    text.push_str(&format!(
        "    printf '%s: %s is not in the allowlist of this run; allowed programs: %s\\n' {} \"$tool\" {list} >&2\n",
        quote(name)
    ));
    text.push_str("    exit 127\n    ;;\nesac\n");
    text
}

impl ShimPlan {
    /// The folder that [`ShimPlan::write`] will make: the child's whole `PATH`.
    pub fn dir(&self, private: &PrivateDir) -> PathBuf {
        self.bin_dir.clone().unwrap_or_else(|| private.path().join(FOLDER))
    }

    /// The allowed programs that are not there or cannot be executed, as problems of the allowlist.
    pub fn missing_programs(&self) -> Vec<Problem> {
        let missing = |path: &PathBuf| match super::lookup::inspect_executable(path) {
            super::lookup::Lookup::Found(_) => None,
            super::lookup::Lookup::NotExecutable(_) => Some("cannot be executed: choose an executable file"),
            super::lookup::Lookup::NotFound => Some("does not exist: correct the path or remove the entry"),
        };
        let described = |(index, path): (usize, &PathBuf)| {
            missing(path)
                .map(|wrong| Problem::new(format!("/entries/{index}/path"), format!("{} {wrong}", path.display())))
        };
        self.programs.iter().enumerate().filter_map(described).collect()
    }

    /// Writes the shims.
    ///
    /// # Errors
    /// An error of the system, or an existing file in `binDir`. No shim is left behind.
    pub fn write(&self, private: &PrivateDir) -> Result<Shims, ShimError> {
        let Some(dir) = &self.bin_dir else {
            for (name, content) in &self.files {
                private.write(&format!("{FOLDER}/{name}"), content.as_bytes(), Access::Executable)?;
            }
            return Ok(self.shims(private.path().join(FOLDER), false, false));
        };
        if !self.keep {
            // A later sweep finds them if this process dies.
            private.write(OUTSIDE, self.manifest(dir).as_bytes(), Access::Data)?;
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ShimError::Write { path, source }
        };
        let made_dir = !dir.exists();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let mut shims = self.shims(dir.clone(), true, made_dir);
        let keep = std::mem::replace(&mut shims.keep, false);
        shims.names.clear();
        for (name, content) in &self.files {
            let path = dir.join(name);
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o700);
            let file = options.open(&path).map_err(failed(&path))?;
            shims.names.push(name.clone());
            io::Write::write_all(&mut &file, content.as_bytes()).map_err(failed(&path))?;
        }
        shims.keep = keep;
        Ok(shims)
    }

    fn shims(&self, dir: PathBuf, outside: bool, made_dir: bool) -> Shims {
        let names = self.files.iter().map(|(name, _)| name.clone()).collect();
        Shims { dir, names, outside, made_dir, keep: self.keep }
    }

    fn manifest(&self, dir: &Path) -> String {
        self.files.iter().map(|(name, _)| format!("{}\n", dir.join(name).display())).collect()
    }
}

impl Shims {
    /// The folder: the child's whole `PATH`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files in it.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl Drop for Shims {
    fn drop(&mut self) {
        if !self.outside || self.keep {
            return;
        }
        for name in &self.names {
            remove_shim(&self.dir.join(name));
        }
        if self.made_dir {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// Removes a file if it is a shim; the folder's owner may have replaced it meanwhile.
fn remove_shim(path: &Path) {
    let mut begin = vec![0; HEADER.len()];
    let is_file = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let mut read = || fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    if is_file && read().is_ok() && begin == HEADER.as_bytes() {
        let _ = fs::remove_file(path);
    }
}

/// Removes the files that a dead run's manifest names, and then the folders that are empty.
pub(super) fn remove_outside(manifest: &str) {
    for path in manifest.lines().map(Path::new).filter(|path| path.is_absolute()) {
        remove_shim(path);
        if let Some(dir) = path.parent() {
            let _ = fs::remove_dir(dir);
        }
    }
}
