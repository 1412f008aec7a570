//! A file in the data folder, readable only by its owner: for machines without a better store, and only if the operator
//! has chosen it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Store, Token, TokenError};
use ostler_private_files::secret_file;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The file of a data folder.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("tokens.json")
}

/// Tokens by provider, in one JSON object.
pub(super) struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: path(data_dir) }
    }

    fn read(&self) -> Result<BTreeMap<String, String>, TokenError> {
        let found = secret_file::read(&self.path, MAX_BYTES).map_err(|error| self.failed(&error.message))?;
        let Some(text) = found else { return Ok(BTreeMap::new()) };
        // The error of the parser would quote the file.
        serde_json::from_slice(&text).map_err(|_| self.failed("it is not the JSON that was written there"))
    }

    fn write(&self, tokens: &BTreeMap<String, String>) -> Result<(), TokenError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let write = || -> io::Result<()> {
            // Created with mode 0600, and removed on an error.
            let mut file = tempfile::Builder::new().prefix(".tokens-").tempfile_in(folder)?;
            serde_json::to_writer(&mut file, tokens)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&self, what: &str) -> TokenError {
        TokenError::new(
            format!("failed to use the file of tokens {}: {what}", self.path.display()),
            "repair the file, or move it away and set the tokens again",
        )
    }
}

impl Store for TokenFile {
    fn put(&self, provider: &str, token: &Token) -> Result<(), TokenError> {
        let mut tokens = self.read()?;
        tokens.insert(provider.to_owned(), token.reveal().to_owned());
        self.write(&tokens)
    }

    fn get(&self, provider: &str) -> Result<Option<Token>, TokenError> {
        let token = self.read()?.remove(provider);
        token
            .map(|text| Token::parse(text).map_err(|what| self.failed(&format!("the token of {provider} {what}"))))
            .transpose()
    }

    fn delete(&self, provider: &str) -> Result<bool, TokenError> {
        let mut tokens = self.read()?;
        if tokens.remove(provider).is_none() {
            return Ok(false);
        }
        self.write(&tokens)?;
        Ok(true)
    }
}
