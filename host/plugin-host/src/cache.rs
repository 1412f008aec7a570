//! Compiled components on disk, so that only the first start of a host compiles.
//!
//! wasmtime does not verify the code that it deserializes. Therefore the folder and each file must belong to this user
//! and be writable by no other user, and each file has a message authentication code over its contents: a file that
//! does not match is compiled again, never loaded. The key is outside of the cache folder, and the component's digest
//! and the engine are part of the code: without the key no file can be forged, and the file of one component is not
//! valid for another. It is Poly1305, by way of an AEAD without a message, because SHA-256 takes a third of the time of
//! a load.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use base16ct::lower::encode_string as hex;

const MAGIC: &[u8; 8] = b"OSTLERC3";
/// Bytes of the nonce.
const NONCE: usize = 24;
/// Bytes of an authentication code.
const CODE: usize = 16;
const SUFFIX: &str = "cwasm";
/// The time stamp of a file in use is updated if it is older than this.
const TOUCH_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Bytes of the key with which compiled code is authenticated.
pub const CODE_KEY_BYTES: usize = 32;

/// Where compiled code is stored, and the key that proves that this user's host wrote it.
#[derive(Clone)]
pub struct CacheOptions {
    /// The folder, created if it is missing. It must be writable by this user alone.
    pub folder: PathBuf,
    /// The key, known only to this user's hosts.
    pub key: [u8; CODE_KEY_BYTES],
}

impl std::fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheOptions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// SHA-256 as lower-case hexadecimal digits.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A folder of compiled components for one engine.
#[derive(Debug)]
pub(super) struct CodeCache {
    options: CacheOptions,
    /// Identifies the engine: its version, its settings, the processor's features.
    compatibility: String,
}

impl CodeCache {
    /// Opens the folder; creates it with mode 0700 if it is missing.
    ///
    /// # Errors
    /// If it cannot be created, or if other users can write into it.
    pub(super) fn open(options: &CacheOptions, engine: &Engine) -> Result<Self, String> {
        let folder = options.folder.as_path();
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
        Ok(Self { options: options.clone(), compatibility: hex(&hasher.0.finalize()) })
    }

    /// The compiled code of the component with this digest; None if it is missing or not authentic.
    pub(super) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let (bytes, written) = read_private(&path).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (expected, code) = rest.split_first_chunk::<CODE>()?;
        let proof = Payload { msg: expected, aad: code };
        self.authenticator(digest).decrypt(&XNonce::from(*nonce), proof).ok()?;
        if written.elapsed().is_ok_and(|age| age > TOUCH_AFTER) {
            // The time stamp is the time of the last use.
            let _ = File::options().write(true).open(&path).and_then(|file| file.set_modified(file_system_now()));
        }
        // SAFETY: the bytes were made by `Component::serialize` in `store`, from the component with this digest, by a
        // host with the key: the authentication code over them, the digest and the engine is valid. wasmtime itself
        // refuses code of another version or with other settings.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Makes and checks the authentication codes of the component with this digest. Key and both digests have fixed
    /// lengths, so that no two components share one.
    fn authenticator(&self, digest: &str) -> XChaCha20Poly1305 {
        let mut own = Sha256::new();
        own.update(b"ostler compiled code");
        own.update(self.options.key);
        own.update(Sha256::digest(digest));
        own.update(Sha256::digest(&self.compatibility));
        XChaCha20Poly1305::new(&own.finalize())
    }

    /// Writes compiled code, whole or not at all.
    ///
    /// # Errors
    /// An error of the file system. Without the file the next load is only slower.
    pub(super) fn store(&self, digest: &str, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        let mut nonce = [0_u8; NONCE];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let proof = Payload { msg: &[], aad: &code };
        let proof = self.authenticator(digest).encrypt(&XNonce::from(nonce), proof);
        let proof = proof.map_err(|_| io::Error::other("the compiled code cannot be authenticated"))?;
        let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(&self.options.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&nonce)?;
        file.write_all(&proof)?;
        file.write_all(&code)?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes the files of components that are not among `digests` and were not used for longer than `age`, the oldest
    /// of the others until they take no more than `most` bytes, and the rest of interrupted writes.
    pub(super) fn prune(&self, digests: &[&str], age: Duration, most: u64) {
        let kept: Vec<_> = digests.iter().map(|digest| self.path(digest)).collect();
        let Ok(entries) = self.options.folder.read_dir() else { return };
        let mut unknown = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let code = path.extension().is_some_and(|suffix| suffix == SUFFIX);
            let ours = code || entry.file_name().as_encoded_bytes().starts_with(b".writing-");
            let Ok(metadata) = entry.metadata() else { continue };
            let Ok(used) = metadata.modified() else { continue };
            if !ours || kept.contains(&path) {
                continue;
            }
            if file_system_now().duration_since(used).is_ok_and(|passed| passed > age) {
                let _ = std::fs::remove_file(path);
            } else if code {
                unknown.push((used, metadata.len(), path));
            }
        }
        // The newest first.
        unknown.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut total = 0_u64;
        for (_, size, path) in unknown {
            total = total.saturating_add(size);
            if total > most {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// The path of the code of a component.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        let name = sha256_hex(format!("{digest} {}", self.compatibility).as_bytes());
        self.options.folder.join(name).with_extension(SUFFIX)
    }
}

fn read_private(path: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_private(&metadata) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok((bytes, metadata.modified()?))
}

fn is_private(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// Hashes with SHA-256: the standard hasher has only 64 bits, and its result may change with Rust.
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
/// The time with which those of files are compared.
#[expect(clippy::disallowed_methods, reason = "files have the time of the machine")]
fn file_system_now() -> SystemTime {
    SystemTime::now()
}
