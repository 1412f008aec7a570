//! A note that a child exists and waits: shows whether the child of a run was started when its host died.
//!
//! The record that an attempt runs is written before its child is released, so that no process runs without a record. A
//! host that dies between the two leaves a run that is recorded as running and has done nothing. The note exists as long
//! as the child has not been released; a host that finds it may queue the run again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::attempt::private_folders::PrivateFolders;
use ostler_protocol::RunId;
use ostler_runner::ProcessIdentity;

/// The suffix of the note's name, which follows the run and the attempt.
const SUFFIX: &str = ".held";

/// A child that waits. Dropping it removes the note.
#[derive(Debug)]
pub(crate) struct Hold {
    note: PathBuf,
}

impl Hold {
    /// Writes the note that this child waits. Call it before the attempt is recorded as running.
    ///
    /// # Errors
    /// Errors of the file system. Without the note, a run whose host dies counts as interrupted.
    pub(crate) fn note(folder: &Path, run: RunId, attempt: u32, identity: &str) -> io::Result<Self> {
        let note = path(folder, run, attempt);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&note)?;
        let hold = Self { note };
        file.write_all(identity.as_bytes())?;
        Ok(hold)
    }

    /// The child is about to be released.
    ///
    /// # Errors
    /// If the note cannot be removed: then the child must not be released.
    pub(crate) fn end(self) -> io::Result<()> {
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.note);
    }
}

/// Whether the child of this attempt, as it was recorded, had not been released when its host died.
pub(crate) fn was_held(folder: &Path, run: RunId, attempt: u32, recorded: Option<&str>) -> bool {
    let Some(recorded) = recorded else { return false };
    // After a crash of the machine, a removed note may exist again.
    let of_this_boot =
        serde_json::from_str::<ProcessIdentity>(recorded).is_ok_and(|identity| identity.is_of_this_boot());
    of_this_boot && fs::read(path(folder, run, attempt)).is_ok_and(|noted| noted == recorded.as_bytes())
}

/// Removes the notes of dead hosts.
pub(crate) fn forget_all(folder: &Path) {
    let notes = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).is_some_and(PrivateFolders::is_name_of_attempt)
    });
    for note in notes {
        if let Err(error) = fs::remove_file(note.path()) {
            tracing::warn!(note = %note.path().display(), %error, "the note of a dead run was not removed");
        }
    }
}

fn path(folder: &Path, run: RunId, attempt: u32) -> PathBuf {
    folder.join(format!("{run}-{attempt}{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn identity(boot_id: &str) -> String {
        let identity = ProcessIdentity {
            pid: 7,
            start_ticks: 1,
            keeper_pid: 6,
            keeper_start_ticks: 1,
            boot_id: boot_id.to_owned(),
            marker: "m".to_owned(),
        };
        serde_json::to_string(&identity).unwrap()
    }

    fn this_boot() -> String {
        identity(fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim())
    }

    #[test]
    fn attempt_is_held_only_between_its_note_and_the_release() {
        let folder = tempfile::tempdir().unwrap();
        let (run, here) = (RunId::generate(), this_boot());
        let held = |attempt, recorded: Option<&str>| was_held(folder.path(), run, attempt, recorded);
        assert!(!held(1, Some(&here)));
        let hold = Hold::note(folder.path(), run, 1, &here).unwrap();
        assert!(held(1, Some(&here)));
        assert!(!held(2, Some(&here)), "another attempt");
        assert!(!held(1, Some(&here.replace("\"pid\":7", "\"pid\":8"))), "another child");
        assert!(!held(1, None));
        hold.end().unwrap();
        assert!(!held(1, Some(&here)));
        drop(Hold::note(folder.path(), run, 1, &here).unwrap());
        assert!(!held(1, Some(&here)));
    }

    #[test]
    fn note_of_another_boot_is_ignored_and_all_notes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (run, earlier) = (RunId::generate(), identity("00000000-0000-0000-0000-000000000000"));
        std::mem::forget(Hold::note(folder.path(), run, 1, &earlier).unwrap());
        assert!(!was_held(folder.path(), run, 1, Some(&earlier)));
        fs::write(folder.path().join("notes.held"), "").unwrap();
        forget_all(folder.path());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.held"]);
    }
}
