//! `access_tokens`: who may call over TCP.

use jiff::Timestamp;
use rusqlite::{Row, params};

use ostler_protocol::AccessClass;

use super::StorageError;
use super::reader::Reader;
use super::rows::{damaged, micros, name_of, optional_time_of, time_of};
use super::tx::WriteTx;

/// A stored access token: its digest, never the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccessToken {
    /// Its name.
    pub name: String,
    /// What its holder may do.
    pub class: AccessClass,
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, if that was recorded.
    pub used_at: Option<Timestamp>,
}

impl WriteTx<'_> {
    /// Stores a token. Returns false if its name is taken.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn insert_access_token(&mut self, token: &StoredAccessToken) -> Result<bool, StorageError> {
        let changed = self.execute(
            "INSERT INTO access_tokens (name, class, digest, created_us, expires_us) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO NOTHING",
            params![
                token.name,
                token.class.name(),
                token.digest.as_slice(),
                micros(token.created_at),
                token.expires_at.map(micros)
            ],
        )?;
        Ok(changed > 0)
    }

    /// Records the last use of a token.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn touch_access_token(&mut self, name: &str, at: Timestamp) -> Result<(), StorageError> {
        self.execute("UPDATE access_tokens SET used_us = ?2 WHERE name = ?1", params![name, micros(at)])?;
        Ok(())
    }

    /// Deletes a token. Returns whether there was one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_access_token(&mut self, name: &str) -> Result<bool, StorageError> {
        Ok(self.execute("DELETE FROM access_tokens WHERE name = ?1", [name])? > 0)
    }
}

impl Reader {
    /// Every access token, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn access_tokens(&self) -> Result<Vec<StoredAccessToken>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT * FROM access_tokens ORDER BY name")?
            .query_map([], stored)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredAccessToken> {
    let digest = row.get_ref("digest")?.as_blob().ok().and_then(|digest| digest.try_into().ok());
    Ok(StoredAccessToken {
        name: row.get("name")?,
        class: name_of(row, "class", AccessClass::from_name)?,
        digest: digest.ok_or_else(|| damaged("a digest"))?,
        created_at: time_of(row, "created_us")?,
        expires_at: optional_time_of(row, "expires_us")?,
        used_at: optional_time_of(row, "used_us")?,
    })
}
