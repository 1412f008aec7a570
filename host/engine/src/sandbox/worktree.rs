//! Linked worktrees of git: the files of the repository that a commit in a worktree writes.

use std::fs;
use std::path::{Path, PathBuf};

/// Maximum size of a `.git` file in bytes.
const MAX_POINTER: u64 = 4096;

/// Parts of a repository that a linked worktree writes.
const WRITTEN: [&str; 3] = ["objects", "refs", "logs"];

/// Parts that it reads. Hooks and configuration run code, so nothing of them is written.
const READ: [&str; 7] = ["HEAD", "config", "hooks", "info", "packed-refs", "shallow", "commondir"];

/// The files and folders outside of `folder` that git uses for a commit in it, and whether it writes them: none, unless
/// it is a linked worktree.
///
/// An agent can write the `.git` file of a folder, so that it is used only if the repository names the folder in return.
pub(super) fn parts(folder: &Path) -> Vec<(PathBuf, bool)> {
    let own = folder.join(".git");
    let Some(private) = pointed(&own, "gitdir:") else { return Vec::new() };
    let Ok(private) = folder.join(private).canonicalize() else { return Vec::new() };
    let returns = read(&private.join("gitdir")).is_some_and(|back| Path::new(back.trim()) == own);
    let Some(common) = read(&private.join("commondir")).filter(|_| returns) else { return Vec::new() };
    let Ok(common) = private.join(common.trim()).canonicalize() else { return Vec::new() };
    // A file that the run could write itself proves nothing.
    if common.starts_with(folder) || private.parent() != Some(common.join("worktrees").as_path()) {
        return Vec::new();
    }
    let written = WRITTEN.iter().map(|name| (common.join(name), true)).chain([(private, true)]);
    let all = written.chain(READ.iter().map(|name| (common.join(name), false)));
    // A link could point anywhere.
    all.filter(|(path, _)| fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink())).collect()
}

/// Files of a linked worktree that name its repository and configuration.
pub(super) fn pointers(folder: &Path) -> Vec<PathBuf> {
    let private =
        parts(folder).into_iter().find(|(path, _)| path.parent().is_some_and(|above| above.ends_with("worktrees")));
    let Some((private, _)) = private else { return Vec::new() };
    ["commondir", "gitdir", "config.worktree"].map(|name| private.join(name)).to_vec()
}

fn pointed(file: &Path, prefix: &str) -> Option<PathBuf> {
    let text = read(file)?;
    text.strip_prefix(prefix).map(|path| PathBuf::from(path.trim()))
}

fn read(file: &Path) -> Option<String> {
    let found = fs::symlink_metadata(file).ok().filter(|found| found.is_file() && found.len() <= MAX_POINTER);
    found.and_then(|_| fs::read_to_string(file).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn repository() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().canonicalize().unwrap();
        let (common, tree) = (base.join("main/.git"), base.join("tree"));
        let private = common.join("worktrees/tree");
        fs::create_dir_all(&private).unwrap();
        for name in ["objects", "refs", "logs", "hooks"] {
            fs::create_dir(common.join(name)).unwrap();
        }
        fs::write(common.join("config"), "").unwrap();
        fs::create_dir_all(&tree).unwrap();
        fs::write(private.join("commondir"), "../..\n").unwrap();
        fs::write(private.join("gitdir"), format!("{}\n", tree.join(".git").display())).unwrap();
        fs::write(tree.join(".git"), format!("gitdir: {}\n", private.display())).unwrap();
        (root, common, tree)
    }

    #[test]
    fn linked_worktree_writes_objects_and_its_own_folder_of_the_repository() {
        let (_root, common, tree) = repository();
        let found = parts(&tree);
        assert!(
            found.contains(&(common.join("objects"), true)) && found.contains(&(common.join("worktrees/tree"), true))
        );
        assert!(found.contains(&(common.join("hooks"), false)) && found.contains(&(common.join("config"), false)));
    }

    #[test]
    fn git_file_that_its_repository_does_not_name_opens_nothing() {
        let (root, _, tree) = repository();
        let other = root.path().canonicalize().unwrap().join("other");
        fs::create_dir(&other).unwrap();
        fs::copy(tree.join(".git"), other.join(".git")).unwrap();
        assert!(parts(&other).is_empty());
        fs::write(other.join(".git"), "gitdir: /etc\n").unwrap();
        assert!(parts(&other).is_empty());
        assert!(parts(root.path()).is_empty());
    }
}
