//! Private folders: accessible only to the user, and checked before they are used.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, access};

/// Why a folder cannot be used as a private folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made.
    #[error("failed to make the folder {}: {source}; make it, or choose another place with OSTLER_HOME", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("failed to look at the folder {}: {source}", path.display())]
    Inspect {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a file, or a dangling link.
    #[error("{} is not a folder; move it away, or choose another place with OSTLER_HOME", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error(
        "the folder {} belongs to user {owner}, not to user {user} who runs ostler; change its owner, or choose another place with OSTLER_HOME",
        path.display()
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who runs this program.
        user: u32,
    },
    /// Its permissions cannot be set.
    #[error("failed to make the folder {} private: {source}; set its mode to 0700", path.display())]
    Mode {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be written to it.
    #[error("the folder {} is read-only; make it writable, or choose another place with OSTLER_HOME", path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
    },
}

/// Creates the folder and missing parents with mode 0700, and checks it like [`check_private_dir`]. If others can enter
/// a folder of the user, its mode is corrected.
///
/// # Errors
/// If it cannot be created, does not belong to the user, or cannot be written to.
pub fn create_private_dir(path: &Path) -> Result<(), FolderError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => check_private_dir(path),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(FolderError::NotAFolder { path: path.to_path_buf() })
        }
        Err(source) if source.kind() == io::ErrorKind::NotADirectory => {
            let file = path.ancestors().find(|ancestor| ancestor.exists() && !ancestor.is_dir()).unwrap_or(path);
            Err(FolderError::NotAFolder { path: file.to_path_buf() })
        }
        Err(source) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let parent = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(path);
            Err(FolderError::ReadOnly { path: parent.to_path_buf() })
        }
        Err(source) => Err(FolderError::Create { path: path.to_path_buf(), source }),
    }
}

/// Checks that the folder exists, belongs to the user, is closed to others (its mode is corrected if not) and is
/// writable.
///
/// # Errors
/// If one of the checks fails.
pub fn check_private_dir(path: &Path) -> Result<(), FolderError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| FolderError::Inspect { path: path.to_path_buf(), source })?;
    if !metadata.is_dir() {
        return Err(FolderError::NotAFolder { path: path.to_path_buf() });
    }
    check_owner(path, &metadata)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|source| FolderError::Mode { path: path.to_path_buf(), source })?;
    }
    if access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Err(FolderError::ReadOnly { path: path.to_path_buf() });
    }
    Ok(())
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), FolderError> {
    let (owner, user) = (metadata.uid(), Uid::effective().as_raw());
    if owner == user { Ok(()) } else { Err(FolderError::Owner { path: path.to_path_buf(), owner, user }) }
}
