//! The private folders of attempts, which hold the files that the host gives to a child.

use std::path::{Path, PathBuf};

use ostler_config::Paths;
use ostler_protocol::{ApiError, ErrorKind, RunId};

/// The folder that contains the private folders of all attempts.
#[derive(Clone, Debug)]
pub(crate) struct PrivateFolders {
    parent: PathBuf,
}

impl PrivateFolders {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self { parent: paths.data_dir.join("private") }
    }

    /// The folder that contains the others.
    pub(crate) fn parent(&self) -> &Path {
        &self.parent
    }

    /// The name of the private folder of an attempt.
    pub(crate) fn name_of(run: RunId, attempt: u32) -> String {
        format!("{run}-{attempt}")
    }

    /// The private folder of an attempt, whether or not it exists.
    pub(crate) fn path_of(&self, run: RunId, attempt: u32) -> PathBuf {
        self.parent.join(Self::name_of(run, attempt))
    }

    /// Checks that the parent is a folder of the host, or does not exist: its contents may be removed.
    ///
    /// # Errors
    /// `IO` if it is a link, or something other than a folder.
    pub(crate) fn check_parent(&self) -> Result<(), ApiError> {
        let message = match std::fs::symlink_metadata(&self.parent) {
            Ok(found) if found.is_dir() => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Ok(_) => "it is not a folder, or a link to one".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("failed to use {} for the files of runs: {message}", self.parent.display());
        Err(ApiError::new(ErrorKind::Io, message).hint("move it away"))
    }

    /// Whether a name is that of an attempt's folder: the id of a run and a number.
    pub(crate) fn is_name_of_attempt(name: &str) -> bool {
        name.rsplit_once('-').is_some_and(|(run, number)| run.parse::<RunId>().is_ok() && number.parse::<u32>().is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn name_of_an_attempt_is_the_id_of_a_run_and_a_number() {
        assert!(PrivateFolders::is_name_of_attempt(&PrivateFolders::name_of(RunId::generate(), 2)));
        for name in ["photos", "run-1", "-1", "", "01a205bb-d409-728a-8f30-2ffbf0cb53de"] {
            assert!(!PrivateFolders::is_name_of_attempt(name), "{name}");
        }
    }

    #[test]
    fn link_in_place_of_the_parent_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        let check = |parent: &Path| PrivateFolders { parent: parent.to_owned() }.check_parent();
        assert!(check(&real).is_ok());
        std::fs::create_dir(&real).unwrap();
        assert!(check(&real).is_ok());
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(check(&link).unwrap_err().message.contains("link"));
    }
}
