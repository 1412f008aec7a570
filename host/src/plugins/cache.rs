//! Compiled components on disk, so that only the first start of a host compiles.
//!
//! wasmtime runs what it deserializes without looking at it. Therefore the folder and each file must belong to this user
//! and be writable by nobody else, and each file carries the checksum of its contents: a damaged one is compiled again. The
//! checksum need not withstand whoever may write the file, who could write any other too: XXH3 takes a tenth of the time
//! of SHA-256, which was a third of the time of a load.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 8] = b"OSTLERC2";
/// Bytes of a checksum.
const CHECKSUM: usize = 16;
const SUFFIX: &str = "cwasm";

/// SHA-256 as lower-case hexadecimal digits.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

/// A folder of compiled components for one engine.
#[derive(Debug)]
pub(super) struct CodeCache {
    folder: PathBuf,
    /// Of the engine: its version, its settings, the processor's features.
    compatibility: String,
}

impl CodeCache {
    /// Opens the folder and makes it, 0700, where it is missing.
    ///
    /// # Errors
    /// If it cannot be made, or if others could write into it.
    pub(super) fn open(folder: &Path, engine: &Engine) -> Result<Self, String> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| format!("failed to make the folder {}: {error}", folder.display()))?;
        let metadata =
            folder.symlink_metadata().map_err(|error| format!("failed to look at {}: {error}", folder.display()))?;
        if !metadata.is_dir() {
            return Err(format!("{} is not a folder", folder.display()));
        }
        if !is_private(&metadata) {
            return Err(format!(
                "{} could be written by others; make it yours alone with `chmod 700` and `chown`",
                folder.display()
            ));
        }
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.to_owned(), compatibility: hex(&hasher.0.finalize()) })
    }

    /// The compiled code of the component with this digest; none if it is not there or not to be trusted.
    pub(super) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let bytes = read_private(&self.path(digest)).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (expected, code) = rest.split_at_checked(CHECKSUM)?;
        if checksum(code) != expected {
            return None;
        }
        // SAFETY: the bytes were made by `Component::serialize` in `store`. They come from a file that belongs to this
        // user and that nobody else can write, in a folder of which the same holds, and they match their checksum.
        // wasmtime itself refuses code of another version or with other settings.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Writes compiled code, whole or not at all.
    ///
    /// # Errors
    /// Of the file system. The cache is only slower without the file.
    pub(super) fn store(&self, digest: &str, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(&self.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&checksum(&code))?;
        file.write_all(&code)?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes the files of components that are not among `digests` and are older than `age`, and what an interrupted
    /// write has left.
    pub(super) fn prune(&self, digests: &[&str], age: Duration) {
        let kept: Vec<_> = digests.iter().map(|digest| self.path(digest)).collect();
        let Ok(entries) = self.folder.read_dir() else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let ours = path.extension().is_some_and(|suffix| suffix == SUFFIX)
                || entry.file_name().as_encoded_bytes().starts_with(b".writing-");
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|written| SystemTime::now().duration_since(written).is_ok_and(|passed| passed > age));
            if ours && old && !kept.contains(&path) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Where the code of a component lies.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        let name = sha256_hex(format!("{digest} {}", self.compatibility).as_bytes());
        self.folder.join(name).with_extension(SUFFIX)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    xxh3_128(bytes).to_le_bytes()
}

fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_private(&metadata) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_private(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// Feeds a digest with what is hashed: 64 bits of the standard hasher are few, and its result may change with Rust.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
