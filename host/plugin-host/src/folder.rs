//! The files of the plugin folder: lists and loads them, and detects changes.

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

/// The most files of the plugin folder that are loaded.
const MAX_FILES: usize = 256;

/// A file that was changed less than this ago may change again with the same time stamp: the clock of the file system
/// moves in steps.
const SETTLED: Duration = Duration::from_secs(2);

/// One file and the result of loading it.
#[derive(Clone)]
pub(super) struct PluginFile {
    pub(super) path: PathBuf,
    /// The plugin in use, or why there is none.
    pub(super) plugin: Result<Arc<Plugin>, String>,
    /// Why the plugin in use is not the one that the file contains now.
    pub(super) displaced: Option<String>,
    /// The kind of a plugin that cannot be used, if it is known.
    pub(super) kind: Option<Kind>,
    /// Detects a change; None if a change could go unnoticed.
    stamp: Option<Stamp>,
}

/// Metadata of a file by which a change is detected.
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

/// Loads files as plugins.
pub(super) struct FileLoader<'a> {
    pub(super) runtime: &'a Arc<Runtime>,
    pub(super) limits: &'a Arc<Limits>,
    /// Whether the limits are the same as before.
    pub(super) same_limits: bool,
    pub(super) log: &'a Arc<dyn PluginLog>,
}

impl FileLoader<'_> {
    /// Loads a file. If it has not changed since `before`, it is not read again. If it is not a valid plugin any more,
    /// the one in use stays. None if the file is gone.
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
                // The error may have been about a limit.
                Err(_) => {}
            }
        }
        let mut kind = None;
        let file = |plugin, displaced, kind| PluginFile { path: path.to_owned(), plugin, displaced, kind, stamp };
        let known = before.and_then(|before| before.plugin.as_ref().ok());
        // A file that other users can write is not loaded; a plugin that was loaded before stays.
        let trusted = ownership::check(path).map_err(|untrusted| format!("it is not trusted: {untrusted}"));
        let loaded = trusted.and_then(|()| read(path, self.limits.component_size)).and_then(|bytes| match known {
            Some(known) if known.digest == sha256_hex(&bytes) => self.adapt(known),
            _ => {
                let bytes = bytes.into();
                Plugin::load(self.runtime, self.limits, &label(path), &bytes, &[], self.log)
                    .map(Arc::new)
                    // Only for a failed load: a loaded plugin has its own kind.
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

    /// The plugin with the current limits.
    pub(super) fn adapt(&self, plugin: &Arc<Plugin>) -> Result<Arc<Plugin>, String> {
        if plugin.limits == *self.limits {
            Ok(Arc::clone(plugin))
        } else {
            plugin.with_limits(self.limits).map(Arc::new)
        }
    }
}

/// The name of a plugin in messages until it is loaded: the name of its file.
pub(super) fn label(path: &Path) -> String {
    path.file_stem().map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The components of the folder in alphabetical order, and the problem if some are left out. A folder that does
/// not exist counts as empty.
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
    let problem = (files.len() > MAX_FILES).then(|| {
        format!(
            "the plugin folder {} holds {} components, of which only the first {MAX_FILES} are loaded",
            folder.display(),
            files.len()
        )
    });
    files.truncate(MAX_FILES);
    (files, problem)
}

/// Whether a file of the plugin folder is loaded as a plugin.
#[must_use]
pub fn is_component_name(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "wasm")
}

/// Reads a file, at most one byte past the limit. Rejects everything but regular files: a pipe could block for ever.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
