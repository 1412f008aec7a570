//! Sessions: the stand-in's record of a conversation, one small file each.
//!
//! A session has its id, its folder, the number of its prompts and the text that it remembers. The prompts themselves are
//! not stored: they may contain secrets, and are not needed.

use serde_json::{Value, json};
use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};
use uuid::Uuid;

/// How many sessions are kept.
const MAX_SESSIONS: usize = 1_000;
/// A session file is a few hundred bytes, and the remembered text; a longer file is not one of ours.
const MAX_FILE: u64 = 64 * 1024;
/// How many bytes are remembered; the oldest texts are forgotten first.
const MAX_NOTES: usize = 8 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: Uuid,
    pub(super) resumed: bool,
    /// Prompts so far, the current one included.
    pub(super) turns: u64,
    /// The text that it remembers.
    pub(super) notes: Vec<String>,
}

impl Session {
    pub(super) fn remember(&mut self, text: &str) {
        let end = text.floor_char_boundary(text.len().min(MAX_NOTES));
        self.notes.push(text.get(..end).unwrap_or_default().to_owned());
        while self.notes.iter().map(String::len).sum::<usize>() > MAX_NOTES {
            self.notes.remove(0);
        }
    }
}

/// The folder in which sessions are kept.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Finds the folder: as given, or by the environment.
    pub(super) fn locate(given: Option<&Path>) -> io::Result<Self> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = given
            .map(Path::to_path_buf)
            .or_else(|| variable("REHEARSAL_HOME"))
            .or_else(|| variable("OSTLER_HOME").map(|home| home.join("rehearsal")))
            .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("ostler/rehearsal")))
            // Without HOME, use the home folder of the account database, like the host.
            .or_else(|| {
                env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".local/state/ostler/rehearsal"))
            })
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "no folder for sessions: set HOME or OSTLER_HOME")
            })?;
        Ok(Self { folder })
    }

    /// A new session in this folder.
    pub(super) fn begin(&self, id: Option<Uuid>, cwd: &Path) -> io::Result<Session> {
        let session = Session { id: id.unwrap_or_else(Uuid::new_v4), resumed: false, turns: 1, notes: Vec::new() };
        self.save(&session, cwd)?;
        self.prune();
        Ok(session)
    }

    /// The session with this id and one more prompt, or `None` if there is none.
    pub(super) fn resume(&self, id: &str, cwd: &Path) -> io::Result<Option<Session>> {
        // Only a UUID can name a file here, so no id leads out of the folder.
        let Ok(id) = Uuid::parse_str(id) else {
            return Ok(None);
        };
        let Some(state) = read(&self.path(id))? else {
            return Ok(None);
        };
        let turns = state.get("turns").and_then(Value::as_u64).unwrap_or(0).saturating_add(1);
        let notes = state.get("notes").and_then(Value::as_array).into_iter().flatten();
        let notes = notes.filter_map(Value::as_str).map(str::to_owned).collect();
        let session = Session { id, resumed: true, turns, notes };
        self.save(&session, cwd)?;
        Ok(Some(session))
    }

    /// The newest session of this folder, resumed.
    pub(super) fn newest(&self, cwd: &Path) -> io::Result<Option<Session>> {
        for (path, _) in self.files().into_iter().rev() {
            let here = read(&path)?.is_some_and(|state| state.get("cwd") == Some(&json!(cwd)));
            if let (true, Some(id)) = (here, path.file_stem().and_then(|stem| stem.to_str())) {
                return self.resume(id, cwd);
            }
        }
        Ok(None)
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Writes the file as a whole or not at all: two runs may resume one session at once.
    pub(super) fn save(&self, session: &Session, cwd: &Path) -> io::Result<()> {
        let problem = |error: io::Error| {
            io::Error::new(error.kind(), format!("failed to save the session in {}: {error}", self.folder.display()))
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(problem)?;
        let state = json!({ "id": session.id.to_string(), "cwd": cwd, "turns": session.turns, "notes": session.notes });
        let draft = self.folder.join(format!(".{}.{}", session.id, std::process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(state.to_string().as_bytes()))
            .and_then(|()| fs::rename(&draft, self.path(session.id)));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.map_err(problem)
    }

    /// Session files, oldest first.
    fn files(&self) -> Vec<(PathBuf, SystemTime)> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension().is_some_and(|extension| extension == "json")
                    && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| Uuid::parse_str(stem).is_ok())
            })
            .filter_map(|path| {
                let changed = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
                Some((path, changed))
            })
            .collect();
        files.sort_by_key(|(_, changed)| *changed);
        files
    }

    fn prune(&self) {
        let files = self.files();
        for (path, _) in files.iter().take(files.len().saturating_sub(MAX_SESSIONS)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Value>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() <= MAX_FILE => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(serde_json::from_slice(&fs::read(path)?).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn session_counts_its_prompts() {
        let home = tempfile::tempdir().unwrap();
        let store = Store { folder: home.path().join("a/b") };
        let id = Uuid::new_v4();
        let first = store.begin(Some(id), Path::new("/w")).unwrap();
        assert_eq!((first.id, first.turns, first.resumed), (id, 1, false));
        let second = store.resume(&id.to_string(), Path::new("/w")).unwrap().unwrap();
        assert_eq!((second.turns, second.resumed), (2, true));
        assert_eq!(store.newest(Path::new("/w")).unwrap().unwrap().turns, 3);
        assert_eq!(store.newest(Path::new("/elsewhere")).unwrap(), None);
        let mode = fs::metadata(store.path(id)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 1, "a draft was left behind");
    }

    #[test]
    fn unknown_or_malformed_id_finds_no_session() {
        let home = tempfile::tempdir().unwrap();
        let store = Store { folder: home.path().to_path_buf() };
        fs::write(home.path().join("secret.json"), "{}").unwrap();
        for id in [Uuid::new_v4().to_string().as_str(), "secret", "../secret", ""] {
            assert_eq!(store.resume(id, Path::new("/w")).unwrap(), None, "{id}");
        }
    }
}
