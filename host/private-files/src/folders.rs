//! Private folders: made for the user alone, and checked before anything is put into them.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, access};

/// What is wrong with a folder that must be the user's own.
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
    /// It cannot be looked at.
    #[error("failed to look at the folder {}: {source}", path.display())]
    Inspect {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a file, or a link that leads nowhere.
    #[error("{} is not a folder; move it away, or choose another place with OSTLER_HOME", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Another user could put things into it.
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

/// Makes the folder and those above it where they are missing, with mode 0700, and checks it as [`check_private_dir`]
/// does. A folder of the user's that others can enter is closed to them.
///
/// # Errors
/// Where it cannot be made, or is not the user's own, or cannot be written to.
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

/// Checks that the folder is there, belongs to the user, is closed to others (it is closed if not) and can be written
/// to.
///
/// # Errors
/// Where one of these does not hold.
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
