//! The files of the plugin folder: which there are, what became of each, and which have changed since.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cache::sha256_hex;
use super::error::Kind;
use super::inspect;
use super::limits::Limits;
use super::log::PluginLog;
use super::plugin::Plugin;
use super::runtime::Runtime;
use ostler_private_files::ownership;

/// Files of the plugin folder that are looked at.
const MOST_FILES: usize = 256;

/// A file that was changed so shortly before it was looked at may be changed again without looking different: the clock
/// of the file system moves in steps.
const SETTLED: Duration = Duration::from_secs(2);

/// One file and what became of it.
#[derive(Clone)]
pub(super) struct PluginFile {
    pub(super) path: PathBuf,
    /// The plugin that is in force because of it, or why there is none.
    pub(super) plugin: Result<Arc<Plugin>, String>,
    /// Why the plugin that is in force is not the one that the file holds now.
    pub(super) displaced: Option<String>,
    /// Kind of what it holds, where that can be told although it cannot be used.
    pub(super) kind: Option<Kind>,
    /// By what a change is seen; none if one could go unseen.
    stamp: Option<Stamp>,
}

/// What a file looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Option<Self> {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        #[expect(clippy::disallowed_methods, reason = "it is compared with a time of the file system")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let then = Duration::new(u64::try_from(changed.0).ok()?, u32::try_from(changed.1).ok()?);
        let settled = now.checked_sub(then).is_some_and(|age| age > SETTLED);
        settled.then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
        })
    }
}

/// By what files become plugins.
pub(super) struct FileLoader<'a> {
    pub(super) runtime: &'a Arc<Runtime>,
    pub(super) limits: &'a Arc<Limits>,
    /// Whether those are the limits that were in force before.
    pub(super) same_limits: bool,
    pub(super) log: &'a Arc<dyn PluginLog>,
}

impl FileLoader<'_> {
    /// The file as it is now. What has not changed since `before` is not read again. Where it has changed into something
    /// that is no plugin, the one that was in force stays. None if it is not there any more.
    pub(super) fn load(&self, path: &Path, before: Option<&PluginFile>) -> Option<PluginFile> {
        let metadata = path.metadata();
        if metadata.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) && !path.is_symlink() {
            return None;
        }
        let stamp = metadata.as_ref().ok().and_then(Stamp::of);
        if let Some(before) = before.filter(|before| stamp.is_some() && before.stamp == stamp) {
            match &before.plugin {
                Ok(plugin) => return Some(PluginFile { plugin: self.adapt(plugin), ..before.clone() }),
                Err(_) if self.same_limits => return Some(before.clone()),
                // What was wrong with it may have been a limit.
                Err(_) => {}
            }
        }
        let mut kind = None;
        let file = |plugin, displaced, kind| PluginFile { path: path.to_owned(), plugin, displaced, kind, stamp };
        let known = before.and_then(|before| before.plugin.as_ref().ok());
        // What others could have written is not loaded; what was loaded before stays.
        let trusted = ownership::check(path).map_err(|untrusted| format!("it is not trusted: {untrusted}"));
        let loaded = trusted.and_then(|()| read(path, self.limits.component_size)).and_then(|bytes| match known {
            Some(known) if known.digest == sha256_hex(&bytes) => self.adapt(known),
            _ => {
                let bytes = bytes.into();
                Plugin::load(self.runtime, self.limits, &label(path), &bytes, &[], self.log)
                    .map(Arc::new)
                    // A plugin that was loaded says its kind itself.
                    .inspect_err(|_| kind = inspect::kind_of(&bytes).ok())
            }
        });
        Some(match (loaded, known) {
            (Err(reason), Some(known)) => match self.adapt(known) {
                Ok(known) => file(Ok(known), Some(reason), kind),
                Err(too_large) => file(Err(too_large), None, kind),
            },
            (loaded, _) => file(loaded, None, kind),
        })
    }

    /// The plugin with the limits that hold now.
    pub(super) fn adapt(&self, plugin: &Arc<Plugin>) -> Result<Arc<Plugin>, String> {
        if plugin.limits == *self.limits {
            Ok(Arc::clone(plugin))
        } else {
            plugin.with_limits(self.limits).map(Arc::new)
        }
    }
}

/// What a plugin is called until it has said its name: as its file.
pub(super) fn label(path: &Path) -> String {
    path.file_stem().map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The components of the folder in alphabetical order, and what kept some from being looked at. A folder that does not
/// exist is empty.
pub(super) fn component_files(folder: &Path) -> (Vec<PathBuf>, Option<String>) {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return (Vec::new(), None),
        Err(error) => {
            return (Vec::new(), Some(format!("failed to read the plugin folder {}: {error}", folder.display())));
        }
    };
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_component_name(path)).collect();
    files.sort();
    let problem = (files.len() > MOST_FILES).then(|| {
        format!(
            "the plugin folder {} holds {} components, of which only the first {MOST_FILES} are loaded",
            folder.display(),
            files.len()
        )
    });
    files.truncate(MOST_FILES);
    (files, problem)
}

/// Whether a file of the plugin folder is taken for a plugin.
#[must_use]
pub fn is_component_name(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "wasm")
}

/// Never reads more than one byte past the limit, nor from anything but a file: a pipe would wait for ever.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
