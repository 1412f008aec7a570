//! Trust in files that decide what runs: only the user who runs Ostler, or root, may be able to write them.
//!
//! The check is that of ssh for its keys: the file, its folder and every folder above must belong to the user or to
//! root, and no other user may be able to write to them. Links are followed; the link, its folder and its target are
//! all checked.
//!
//! - A folder above that everybody can write to is accepted if it has the sticky bit (`/tmp`): there no user can
//!   replace the files of others. The folder of the file itself must not be such a folder.
//! - The group may have write access if it is the user's private group, with the user's own number, as on most systems.
//! - In a user namespace the owners of folders outside of it are not visible. Such a folder above is accepted; the file
//!   and its folder must have a visible owner.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

/// The most links in one path.
const MAX_LINKS: usize = 40;

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Why a file or folder is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; correct it with `{remedy}`")]
pub struct Untrusted {
    /// What is wrong, with the path that causes it: the checked one, or a folder or link above it.
    pub message: String,
    /// The command that corrects it.
    pub remedy: String,
}

/// Checks a file or a folder and every folder above. A missing path is accepted.
///
/// # Errors
/// The first path, from the root down, that another user can change.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    Walk { user: Uid::effective(), group: Gid::effective(), hidden: hidden_owner() }.check(path)
}

/// The number of owners that are not visible, in a user namespace.
fn hidden_owner() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let everybody = map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"];
    if everybody {
        return None;
    }
    std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()
}

/// The user for whom a path is checked.
struct Walk {
    user: Uid,
    group: Gid,
    hidden: Option<u32>,
}

impl Walk {
    fn check(&self, path: &Path) -> Result<(), Untrusted> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut ahead: VecDeque<OsString> = names(&path).collect();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        self.check_folder(&here, !ahead.is_empty())?;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let Ok(found) = next.symlink_metadata() else { return Ok(()) };
            if found.is_symlink() {
                links += 1;
                let Ok(target) = next.read_link() else { return Ok(()) };
                if links > MAX_LINKS {
                    // Opening it fails.
                    return Ok(());
                }
                // The folder of a link decides about its target.
                self.check_parent(&here, ahead.is_empty())?;
                self.check_owner(&next, &found, false)?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                for part in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(part);
                }
                continue;
            }
            if found.is_dir() {
                self.check_folder(&next, !ahead.is_empty())?;
            } else {
                self.check_parent(&here, ahead.is_empty())?;
                self.check_owner(&next, &found, false)?;
                self.check_mode(&next, &found, false)?;
            }
            here = next;
        }
        Ok(())
    }

    /// `above`: the folder is above the one of the file.
    fn check_folder(&self, path: &Path, above: bool) -> Result<(), Untrusted> {
        let found = path.metadata().map_err(|error| unknown(path, &error))?;
        self.check_owner(path, &found, above)?;
        self.check_mode(path, &found, above)
    }

    /// Checks the folder of the file itself: the sticky bit is not enough there.
    fn check_parent(&self, folder: &Path, last: bool) -> Result<(), Untrusted> {
        if last { self.check_folder(folder, false) } else { Ok(()) }
    }

    fn check_owner(&self, path: &Path, found: &Metadata, above: bool) -> Result<(), Untrusted> {
        let owner = found.uid();
        if owner == 0 || owner == self.user.as_raw() || (above && Some(owner) == self.hidden) {
            return Ok(());
        }
        let user = name_of(self.user);
        let option = if found.is_symlink() { "-h " } else { "" };
        Err(Untrusted {
            message: format!("{} belongs to {}, not to {user} or root", path.display(), name_of(Uid::from_raw(owner))),
            remedy: format!("chown {option}{user} {}", quoted(path)),
        })
    }

    fn check_mode(&self, path: &Path, found: &Metadata, above: bool) -> Result<(), Untrusted> {
        let mode = found.mode();
        if above && mode & STICKY != 0 {
            return Ok(());
        }
        let private = found.gid() == self.group.as_raw() && found.gid() == self.user.as_raw();
        let (who, remedy) = match (mode & GROUP_WRITES != 0 && !private, mode & OTHERS_WRITE != 0) {
            (false, false) => return Ok(()),
            (true, false) => ("its group", "g-w"),
            (false, true) => ("everybody", "o-w"),
            (true, true) => ("everybody", "go-w"),
        };
        Err(Untrusted {
            message: format!("{} can be written by {who}", path.display()),
            remedy: format!("chmod {remedy} {}", quoted(path)),
        })
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn unknown(path: &Path, error: &io::Error) -> Untrusted {
    Untrusted {
        message: format!("failed to read the owner of {}: {error}", path.display()),
        remedy: format!("ls -ld {}", quoted(path)),
    }
}

fn name_of(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

/// The path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+@:,".contains(character);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Self {
            let fixture = Self(tempfile::tempdir().unwrap());
            fs::create_dir(fixture.0.path().join("folder")).unwrap();
            fs::write(fixture.file(), "").unwrap();
            fixture.mode("folder", 0o755);
            fixture.mode("folder/file", 0o644);
            fixture
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("folder/file")
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.0.path().join(name), Permissions::from_mode(mode)).unwrap();
        }

        fn own(&self, name: &str, user: u32) {
            nix::unistd::chown(&self.0.path().join(name), Some(Uid::from_raw(user)), None).unwrap();
        }
    }

    #[track_caller]
    fn refused(path: &Path, remedy: &str) {
        let error = check(path).unwrap_err();
        assert!(error.remedy.starts_with(remedy), "{error}");
        assert!(error.to_string().contains(&error.remedy), "{error}");
    }

    #[test]
    fn accepts_own_and_missing_files() {
        let fixture = Fixture::new();
        check(&fixture.file()).unwrap();
        check(&fixture.0.path().join("folder")).unwrap();
        check(&fixture.0.path().join("nowhere/file")).unwrap();
        check(Path::new("/etc/passwd")).unwrap();
    }

    #[test]
    fn rejects_files_and_folders_that_others_can_write() {
        let fixture = Fixture::new();
        fixture.mode("folder/file", 0o646);
        refused(&fixture.file(), "chmod o-w ");
        fixture.mode("folder/file", 0o644);
        fixture.mode("folder", 0o777);
        refused(&fixture.file(), "chmod ");
        // The sticky bit is not enough for the folder of the file.
        fixture.mode("folder", 0o1777);
        refused(&fixture.file(), "chmod ");
        fixture.mode("folder", 0o755);
        fs::create_dir(fixture.0.path().join("folder/deeper")).unwrap();
        let deeper = fixture.0.path().join("folder/deeper/file");
        fs::write(&deeper, "").unwrap();
        fixture.mode("folder/deeper", 0o755);
        fixture.mode("folder", 0o777);
        refused(&deeper, "chmod ");
        fixture.mode("folder", 0o1777);
        check(&deeper).unwrap();
    }

    #[test]
    fn checks_links_and_their_targets() {
        let fixture = Fixture::new();
        let open = fixture.0.path().join("open");
        fs::create_dir(&open).unwrap();
        symlink(fixture.file(), open.join("link")).unwrap();
        check(&open.join("link")).unwrap();
        fixture.mode("open", 0o777);
        refused(&open.join("link"), "chmod ");
        fixture.mode("open", 0o755);
        fixture.mode("folder", 0o777);
        refused(&open.join("link"), "chmod ");
        fixture.mode("folder", 0o755);
        symlink("../folder", open.join("relative")).unwrap();
        check(&open.join("relative/file")).unwrap();
        fixture.mode("folder/file", 0o666);
        refused(&open.join("relative/file"), "chmod ");
        symlink("loop", open.join("loop")).unwrap();
        check(&open.join("loop")).unwrap();
    }

    #[test]
    fn rejects_files_of_another_user() {
        if !Uid::effective().is_root() {
            eprintln!("SKIPPED: only root can give files away");
            return;
        }
        let fixture = Fixture::new();
        fixture.own("folder/file", 65534);
        refused(&fixture.file(), "chown root ");
        fixture.own("folder/file", 0);
        fixture.own("folder", 65534);
        refused(&fixture.file(), "chown root ");
        // For that user, both are accepted.
        fixture.own("folder/file", 65534);
        let theirs = Walk { user: Uid::from_raw(65534), group: Gid::from_raw(65534), hidden: None };
        theirs.check(Path::new("/etc/passwd")).unwrap();
        let own_folder = |path: &Path| {
            theirs
                .check_owner(path, &path.metadata().unwrap(), false)
                .and_then(|()| theirs.check_mode(path, &path.metadata().unwrap(), false))
        };
        own_folder(&fixture.file()).unwrap();
    }

    #[test]
    fn accepts_write_access_of_the_private_group() {
        let fixture = Fixture::new();
        fixture.mode("folder", 0o775);
        let found = fixture.file().parent().unwrap().metadata().unwrap();
        let of = |user: u32, group: u32| Walk { user: Uid::from_raw(user), group: Gid::from_raw(group), hidden: None };
        let folder = fixture.0.path().join("folder");
        of(found.gid(), found.gid()).check_mode(&folder, &found, false).unwrap();
        assert!(of(found.gid() + 1, found.gid()).check_mode(&folder, &found, false).is_err());
        assert!(of(found.gid(), found.gid() + 1).check_mode(&folder, &found, false).is_err());
    }

    #[test]
    fn remedies_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
        assert_eq!(quoted(Path::new("/home/me/.config")), "/home/me/.config");
    }
}
