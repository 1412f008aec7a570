//! `plugin_files` and `plugin_trust`: the plugins of the plugin folder, and the providers that the operator has
//! approved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::params;

use super::StorageError;
use super::reader::Reader;
use super::rows::micros;
use super::tx::WriteTx;

/// A file of the plugin folder: its path, and kind and name of its plugin when the file was last usable.
pub type PluginFileRow = (PathBuf, String, String);

impl WriteTx<'_> {
    /// Replaces the records of the files of the plugin folder. A path that is not UTF-8 is left out.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn put_plugin_files(&mut self, files: &[PluginFileRow]) -> Result<(), StorageError> {
        self.execute("DELETE FROM plugin_files", [])?;
        for (path, kind, name) in files {
            if let Some(path) = path.to_str() {
                self.execute(
                    "INSERT INTO plugin_files (path, kind, name) VALUES (?1, ?2, ?3)",
                    params![path, kind, name],
                )?;
            }
        }
        Ok(())
    }

    /// Records that a component was approved.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn put_plugin_trust(&mut self, digest: &str, name: &str, at: Timestamp) -> Result<(), StorageError> {
        self.execute(
            "INSERT INTO plugin_trust (digest, name, approved_us) VALUES (?1, ?2, ?3) ON CONFLICT (digest) DO NOTHING",
            params![digest, name, micros(at)],
        )?;
        Ok(())
    }
}

impl Reader {
    /// The records of the files of the plugin folder.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn plugin_files(&self) -> Result<Vec<PluginFileRow>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT path, kind, name FROM plugin_files ORDER BY path")?
            .query_map([], |row| {
                let path: String = row.get("path")?;
                Ok((Path::new(&path).to_owned(), row.get("kind")?, row.get("name")?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// Digests of the approved components.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn plugin_trust(&self) -> Result<BTreeSet<String>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT digest FROM plugin_trust")?
            .query_map([], |row| row.get("digest"))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }
}
