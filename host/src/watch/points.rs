//! The folders to watch for changes of a path: the folder of its file, the folder of every link in the path, and for a
//! missing file the nearest existing folder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use ostler_plugin_host::is_component_name;

/// Maximum number of links to follow in a path; the system has the same limit.
const MAX_LINKS: usize = 40;

/// What a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The configuration.
    Config,
    /// The plugins.
    Plugins,
}

/// A folder to watch. A new folder at the same path is a different one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Folder {
    /// The path, without links.
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
}

/// The folders to watch, and the names of interest in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Points {
    pub(super) folders: BTreeSet<Folder>,
    names: BTreeMap<PathBuf, Subject>,
    /// The plugin folder.
    plugins: Option<PathBuf>,
}

impl Points {
    /// The points for a configuration file and a plugin folder, for the current state of the file system.
    pub(super) fn of(config: &Path, plugins: &Path) -> Self {
        let mut points = Self::default();
        points.trace(config, Subject::Config);
        if let Some(folder) = points.trace(plugins, Subject::Plugins).filter(|folder| folder.is_dir()) {
            points.watch(&folder);
            let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
            for link in entries.filter(|path| is_component_name(path) && path.is_symlink()) {
                points.trace(&link, Subject::Plugins);
            }
            points.plugins = Some(folder);
        }
        points
    }

    /// What a change at this path concerns.
    pub(super) fn subject(&self, path: &Path) -> Option<Subject> {
        if let Some(subject) = self.names.get(path) {
            return Some(*subject);
        }
        (path.parent().is_some() && path.parent() == self.plugins.as_deref() && is_component_name(path))
            .then_some(Subject::Plugins)
    }

    /// Whether the path is a watched folder, which was moved or deleted.
    pub(super) fn is_folder(&self, path: &Path) -> bool {
        self.folders.iter().any(|folder| folder.path == path)
    }

    fn watch(&mut self, folder: &Path) {
        if let Ok(metadata) = folder.metadata() {
            let (device, inode) = (metadata.dev(), metadata.ino());
            self.folders.insert(Folder { path: folder.to_owned(), device, inode });
        }
    }

    /// Resolves a path, and adds the folders to watch. `None` if a part of the path does not exist.
    fn trace(&mut self, path: &Path, subject: Subject) -> Option<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = steps(path);
        let mut links = 0;
        while let Some(step) = rest.pop_front() {
            if step == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            let metadata = next.symlink_metadata().ok();
            let link = metadata.as_ref().is_some_and(std::fs::Metadata::is_symlink);
            if link || rest.is_empty() || !metadata.as_ref().is_some_and(std::fs::Metadata::is_dir) {
                self.watch(&at);
                self.names.insert(next.clone(), subject);
            }
            metadata.as_ref()?;
            if !link {
                at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = next.read_link().ok()?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            let mut steps = steps(&target);
            steps.append(&mut rest);
            rest = steps;
        }
        Some(at)
    }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Tree {
        _folder: tempfile::TempDir,
        root: PathBuf,
    }

    impl Tree {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            Self { _folder: folder, root }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.join(path)
        }

        fn points(&self) -> Points {
            Points::of(&self.path("etc/config.toml"), &self.path("data/plugins"))
        }

        fn watched(&self) -> Vec<String> {
            let points = self.points();
            let below = |path: &Path| path.strip_prefix(&self.root).unwrap().display().to_string();
            points.folders.iter().map(|folder| below(&folder.path)).collect()
        }
    }

    #[test]
    fn watches_nearest_existing_folder_of_a_missing_file() {
        let tree = Tree::new();
        assert_eq!(tree.watched(), [""]);
        assert_eq!(tree.points().subject(&tree.path("etc")), Some(Subject::Config));
        assert_eq!(tree.points().subject(&tree.path("data")), Some(Subject::Plugins));
        fs::create_dir_all(tree.path("etc")).unwrap();
        fs::create_dir_all(tree.path("data")).unwrap();
        assert_eq!(tree.watched(), ["data", "etc"]);
        let points = tree.points();
        assert_eq!(points.subject(&tree.path("data/plugins")), Some(Subject::Plugins));
        assert_eq!(points.subject(&tree.path("data/ostler.db-wal")), None, "the database is not watched");
        assert_eq!(points.subject(&tree.path("data/x.wasm")), None);
        fs::create_dir_all(tree.path("data/plugins")).unwrap();
        assert_eq!(tree.watched(), ["data", "data/plugins", "etc"]);
        let points = tree.points();
        assert_eq!(points.subject(&tree.path("data/plugins/x.wasm")), Some(Subject::Plugins));
        assert_eq!(points.subject(&tree.path("data/plugins/x.wasm.part")), None);
        assert_eq!(points.subject(&tree.path("etc/config.toml")), Some(Subject::Config));
        assert_eq!(points.subject(&tree.path("etc/.config.toml.swp")), None);
        assert!(points.is_folder(&tree.path("data/plugins")));
    }

    #[test]
    fn watches_every_link_of_a_path() {
        // As an orchestrator mounts a configuration: the path contains a link that is replaced.
        let tree = Tree::new();
        for folder in ["etc", "mnt/..v1", "mnt/..v2", "data/plugins", "built"] {
            fs::create_dir_all(tree.path(folder)).unwrap();
        }
        fs::write(tree.path("mnt/..v1/config.toml"), "").unwrap();
        symlink("..v1", tree.path("mnt/..data")).unwrap();
        symlink("..data/config.toml", tree.path("mnt/config.toml")).unwrap();
        symlink("../mnt/config.toml", tree.path("etc/config.toml")).unwrap();
        fs::write(tree.path("built/mine.wasm"), "").unwrap();
        symlink(tree.path("built/mine.wasm"), tree.path("data/plugins/mine.wasm")).unwrap();
        assert_eq!(tree.watched(), ["built", "data", "data/plugins", "etc", "mnt", "mnt/..v1"]);
        let points = tree.points();
        for name in ["etc/config.toml", "mnt/config.toml", "mnt/..data", "mnt/..v1/config.toml"] {
            assert_eq!(points.subject(&tree.path(name)), Some(Subject::Config), "{name}");
        }
        assert_eq!(points.subject(&tree.path("built/mine.wasm")), Some(Subject::Plugins));
    }

    #[test]
    fn stops_at_circular_links() {
        let tree = Tree::new();
        fs::create_dir(tree.path("etc")).unwrap();
        symlink("config.toml", tree.path("etc/config.toml")).unwrap();
        assert_eq!(tree.watched(), ["", "etc"]);
        let two = Points::of(Path::new("/../.."), Path::new("/"));
        assert!(two.folders.len() <= 1, "{two:?}");
    }

    #[test]
    fn replaced_folder_is_a_different_one() {
        let tree = Tree::new();
        fs::create_dir(tree.path("etc")).unwrap();
        let before = tree.points();
        fs::rename(tree.path("etc"), tree.path("old")).unwrap();
        fs::create_dir(tree.path("etc")).unwrap();
        assert_ne!(tree.points().folders, before.folders);
    }
}
