//! Whose word counts: files that decide what runs must have been written by the user who runs Ostler, or by root.
//!
//! As ssh does with its keys: the file, its folder and every folder above must belong to the user or to root, and nobody
//! else may be able to write to them. Links are followed; the link, its folder and its target are all looked at.
//!
//! - A folder above that everybody can write to is fine where it has the sticky bit (`/tmp`): there nobody can replace
//!   what belongs to somebody else. The folder that holds the file itself must not be one.
//! - The group may write where it is the user's private group: its number is the user's own, as most systems set users up.
//! - In a user namespace the owners of folders outside of it cannot be seen. Such a folder above is taken; the file and its
//!   folder must have an owner.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

/// Links that one path may lead through.
const MOST_LINKS: usize = 40;

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Why a file or folder is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; correct it with `{remedy}`")]
pub struct Untrusted {
    /// What is wrong, with the path that is at fault: the one asked about, or a folder or link on the way to it.
    pub message: String,
    /// The command that corrects it.
    pub remedy: String,
}

/// Checks a file or a folder and every folder above. What does not exist is fine.
///
/// # Errors
/// The first, from the root down, that somebody else could change.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    Walk { user: Uid::effective(), group: Gid::effective(), hidden: hidden_owner() }.check(path)
}

/// The number that stands for owners who are not visible, where this process may not see all.
fn hidden_owner() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let everybody = map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"];
    if everybody {
        return None;
    }
    std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()
}

/// Who looks.
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
                if links > MOST_LINKS {
                    // Opening it fails.
                    return Ok(());
                }
                // The folder that holds the link decides where it leads.
                self.check_holder(&here, ahead.is_empty())?;
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
                self.check_holder(&here, ahead.is_empty())?;
                self.check_owner(&next, &found, false)?;
                self.check_mode(&next, &found, false)?;
            }
            here = next;
        }
        Ok(())
    }

    /// `above` is a folder on the way, not the one that counts.
    fn check_folder(&self, path: &Path, above: bool) -> Result<(), Untrusted> {
        let found = path.metadata().map_err(|error| unknown(path, &error))?;
        self.check_owner(path, &found, above)?;
        self.check_mode(path, &found, above)
    }

    /// The folder that holds what is looked for: the sticky bit is not enough there.
    fn check_holder(&self, folder: &Path, last: bool) -> Result<(), Untrusted> {
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
        message: format!("nobody can say whose {} is: {error}", path.display()),
        remedy: format!("ls -ld {}", quoted(path)),
    }
}

fn name_of(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

/// The path as a shell takes it.
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

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir(place.0.path().join("folder")).unwrap();
            fs::write(place.file(), "").unwrap();
            place.mode("folder", 0o755);
            place.mode("folder/file", 0o644);
            place
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
    fn accepts_what_is_the_users_own_and_what_is_missing() {
        let place = Place::new();
        check(&place.file()).unwrap();
        check(&place.0.path().join("folder")).unwrap();
        check(&place.0.path().join("nowhere/file")).unwrap();
        check(Path::new("/etc/passwd")).unwrap();
    }

    #[test]
    fn rejects_files_and_folders_that_others_can_write() {
        let place = Place::new();
        place.mode("folder/file", 0o646);
        refused(&place.file(), "chmod o-w ");
        place.mode("folder/file", 0o644);
        place.mode("folder", 0o777);
        refused(&place.file(), "chmod ");
        // The sticky bit is not enough for the folder of the file.
        place.mode("folder", 0o1777);
        refused(&place.file(), "chmod ");
        place.mode("folder", 0o755);
        fs::create_dir(place.0.path().join("folder/deeper")).unwrap();
        let deeper = place.0.path().join("folder/deeper/file");
        fs::write(&deeper, "").unwrap();
        place.mode("folder/deeper", 0o755);
        place.mode("folder", 0o777);
        refused(&deeper, "chmod ");
        place.mode("folder", 0o1777);
        check(&deeper).unwrap();
    }

    #[test]
    fn links_and_their_targets_are_checked() {
        let place = Place::new();
        let open = place.0.path().join("open");
        fs::create_dir(&open).unwrap();
        symlink(place.file(), open.join("link")).unwrap();
        check(&open.join("link")).unwrap();
        place.mode("open", 0o777);
        refused(&open.join("link"), "chmod ");
        place.mode("open", 0o755);
        place.mode("folder", 0o777);
        refused(&open.join("link"), "chmod ");
        place.mode("folder", 0o755);
        symlink("../folder", open.join("relative")).unwrap();
        check(&open.join("relative/file")).unwrap();
        place.mode("folder/file", 0o666);
        refused(&open.join("relative/file"), "chmod ");
        symlink("loop", open.join("loop")).unwrap();
        check(&open.join("loop")).unwrap();
    }

    #[test]
    fn rejects_what_belongs_to_another_user() {
        if !Uid::effective().is_root() {
            eprintln!("SKIPPED: only root can give files away");
            return;
        }
        let place = Place::new();
        place.own("folder/file", 65534);
        refused(&place.file(), "chown root ");
        place.own("folder/file", 0);
        place.own("folder", 65534);
        refused(&place.file(), "chown root ");
        // Seen by that user, both are fine.
        place.own("folder/file", 65534);
        let theirs = Walk { user: Uid::from_raw(65534), group: Gid::from_raw(65534), hidden: None };
        theirs.check(Path::new("/etc/passwd")).unwrap();
        let own_folder = |path: &Path| {
            theirs
                .check_owner(path, &path.metadata().unwrap(), false)
                .and_then(|()| theirs.check_mode(path, &path.metadata().unwrap(), false))
        };
        own_folder(&place.file()).unwrap();
    }

    #[test]
    fn group_may_write_where_it_is_the_users_private_group() {
        let place = Place::new();
        place.mode("folder", 0o775);
        let found = place.file().parent().unwrap().metadata().unwrap();
        let of = |user: u32, group: u32| Walk { user: Uid::from_raw(user), group: Gid::from_raw(group), hidden: None };
        let folder = place.0.path().join("folder");
        of(found.gid(), found.gid()).check_mode(&folder, &found, false).unwrap();
        assert!(of(found.gid() + 1, found.gid()).check_mode(&folder, &found, false).is_err());
        assert!(of(found.gid(), found.gid() + 1).check_mode(&folder, &found, false).is_err());
    }

    #[test]
    fn remedies_can_be_pasted() {
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
        assert_eq!(quoted(Path::new("/home/me/.config")), "/home/me/.config");
    }
}
