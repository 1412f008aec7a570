//! Searches for secrets where none may be.

use aho_corasick::AhoCorasick;
use std::{fs, path::Path};

/// Secrets to search for. A secret is found if half of its characters in a row are found, but at least twelve.
pub struct SecretProbe {
    searcher: AhoCorasick,
    /// For each pattern, the secret that it is a part of.
    names: Vec<String>,
}

impl SecretProbe {
    pub fn new(secrets: &[String]) -> Self {
        assert!(!secrets.is_empty(), "nothing to look for");
        let mut parts = Vec::new();
        let mut names = Vec::new();
        for secret in secrets {
            let length = (secret.len() / 2).max(12).min(secret.len());
            for window in secret.as_bytes().windows(length) {
                parts.push(window.to_vec());
                names.push(secret.clone());
            }
        }
        Self { searcher: AhoCorasick::new(parts).unwrap(), names }
    }

    /// # Panics
    /// If one of the secrets is in the text.
    #[track_caller]
    pub fn assert_not_in(&self, location: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if let Some(found) = self.searcher.find(bytes) {
            let secret = &self.names[found.pattern().as_usize()];
            panic!("{secret:?} is in {location}: {}", excerpt(bytes, found.start()));
        }
    }

    /// # Panics
    /// If one of the secrets is in a file below `folder`, or in the name of one.
    #[track_caller]
    pub fn assert_not_below(&self, folder: &Path, except: &[&Path]) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if except.contains(&path.as_path()) {
                continue;
            }
            self.assert_not_in("a file name", path.as_os_str().as_encoded_bytes());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.assert_not_below(&path, except);
            } else if kind.is_file() {
                // A file that was removed in the meantime contains nothing.
                self.assert_not_in(&path.display().to_string(), fs::read(&path).unwrap_or_default());
            }
        }
    }

    /// # Panics
    /// If one of the secrets is in the command line of any process.
    #[track_caller]
    pub fn assert_not_in_process_list(&self) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            if let Ok(command) = fs::read(entry.path().join("cmdline")) {
                self.assert_not_in("a command line", command);
            }
        }
    }
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    String::from_utf8_lossy(&bytes[at.saturating_sub(80)..(at + 160).min(bytes.len())]).into_owned()
}
