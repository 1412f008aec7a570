//! The small tables: `capability_snapshots`, `workspace_grants`, `settings`, `profiles`, `run_artifacts`,
//! `provider_tokens`.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use ostler_protocol::{Artifact, CapabilitySnapshot, Grant, Profile, ProfileId, RunId};

use super::reader::Reader;
use super::rows::{count_of, id_of, json, json_of, micros, number, path_of, path_text, text, time_of};
use super::tx::WriteTx;
use super::{SnapshotKey, StorageError, StorageErrorKind, StoredSnapshot};

impl WriteTx<'_> {
    /// Stores the result of the probes. If the newest snapshot of the provider is equal, only its time is updated.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn put_snapshot(
        &mut self,
        fingerprint: &str,
        snapshot: &CapabilitySnapshot,
    ) -> Result<SnapshotKey, StorageError> {
        let newest = newest_snapshot(self.conn, &snapshot.provider)?;
        if let Some(mut newest) = newest.filter(|newest| newest.fingerprint == fingerprint) {
            newest.snapshot.detected_at = snapshot.detected_at;
            if newest.snapshot == *snapshot {
                self.execute(
                    "UPDATE capability_snapshots SET detected_us = ?2 WHERE num = ?1",
                    params![newest.key.0, micros(snapshot.detected_at)],
                )?;
                return Ok(newest.key);
            }
        }
        self.execute(
            "INSERT INTO capability_snapshots (provider, fingerprint, snapshot, detected_us) VALUES (?1, ?2, ?3, ?4)",
            params![snapshot.provider, fingerprint, text(snapshot)?, micros(snapshot.detected_at)],
        )?;
        Ok(SnapshotKey(self.conn.last_insert_rowid()))
    }

    /// Deletes snapshots that are neither the newest of their provider nor used by a run. Returns how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn drop_old_snapshots(&mut self) -> Result<usize, StorageError> {
        self.execute(
            "DELETE FROM capability_snapshots
             WHERE num NOT IN (SELECT max(num) FROM capability_snapshots GROUP BY provider)
               AND num NOT IN (SELECT snapshot FROM runs WHERE snapshot IS NOT NULL)",
            [],
        )
    }

    /// Grants a folder to runs: absolute, links resolved. Returns the grant, with its original time if it was granted
    /// before. `trust` says whether the folder's own settings apply; None leaves that unchanged, initially false.
    ///
    /// # Errors
    /// `Invalid` for a path that is not UTF-8.
    pub fn add_grant(&mut self, path: &Path, trust: Option<bool>, at: Timestamp) -> Result<Grant, StorageError> {
        let name = path_text(path)?;
        self.execute(
            "INSERT INTO workspace_grants (path, created_us, trust_settings) VALUES (?1, ?2, coalesce(?3, 0))
             ON CONFLICT (path) DO UPDATE SET trust_settings = coalesce(?3, trust_settings)",
            params![name, micros(at), trust],
        )?;
        let grant = self
            .conn
            .prepare_cached("SELECT path, created_us, trust_settings FROM workspace_grants WHERE path = ?1")?
            .query_row([name], grant)?;
        Ok(grant)
    }

    /// Revokes a grant. Returns whether there was one.
    ///
    /// # Errors
    /// `Invalid` for a path that is not UTF-8.
    pub fn revoke_grant(&mut self, path: &Path) -> Result<bool, StorageError> {
        let changed = self.execute("DELETE FROM workspace_grants WHERE path = ?1", [path_text(path)?])?;
        Ok(changed > 0)
    }

    /// Stores the user's value of a setting, which overrides the configuration.
    ///
    /// # Errors
    /// `Invalid` for an empty key.
    pub fn put_setting(&mut self, key: &str, value: &Value, at: Timestamp) -> Result<(), StorageError> {
        if key.is_empty() {
            return Err(StorageError::new(StorageErrorKind::Invalid, "the name of a setting must not be empty"));
        }
        self.execute(
            "INSERT INTO settings (key, value, updated_us) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_us = excluded.updated_us",
            params![key, text(value)?, micros(at)],
        )?;
        Ok(())
    }

    /// Deletes the user's value, so that the configuration applies. Returns whether there was one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_setting(&mut self, key: &str) -> Result<bool, StorageError> {
        let changed = self.execute("DELETE FROM settings WHERE key = ?1", [key])?;
        Ok(changed > 0)
    }

    /// Inserts a profile, or updates the one with that id (except its creation time).
    ///
    /// # Errors
    /// `Exists` if another profile has the name.
    pub fn put_profile(&mut self, profile: &Profile) -> Result<(), StorageError> {
        self.execute(
            "INSERT INTO profiles (profile_id, name, provider, config, created_us, updated_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (profile_id) DO UPDATE SET name = excluded.name, provider = excluded.provider,
                 config = excluded.config, updated_us = excluded.updated_us",
            params![
                profile.profile_id.as_uuid().as_bytes().as_slice(),
                profile.name,
                profile.provider,
                text(&profile.config)?,
                micros(profile.created_at),
                micros(profile.updated_at),
            ],
        )?;
        Ok(())
    }

    /// Deletes a profile. Returns whether there was one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_profile(&mut self, id: ProfileId) -> Result<bool, StorageError> {
        let changed =
            self.execute("DELETE FROM profiles WHERE profile_id = ?1", [id.as_uuid().as_bytes().as_slice()])?;
        Ok(changed > 0)
    }

    /// Records that a provider has a token, and in which store it is.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn put_token_mark(&mut self, provider: &str, store: &str, at: Timestamp) -> Result<(), StorageError> {
        self.execute(
            "INSERT INTO provider_tokens (provider, store, saved_us) VALUES (?1, ?2, ?3)
             ON CONFLICT (provider) DO UPDATE SET store = excluded.store, saved_us = excluded.saved_us",
            params![provider, store, micros(at)],
        )?;
        Ok(())
    }

    /// Records that a provider has no token. Returns whether it had one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_token_mark(&mut self, provider: &str) -> Result<bool, StorageError> {
        Ok(self.execute("DELETE FROM provider_tokens WHERE provider = ?1", [provider])? > 0)
    }

    /// Records a file that a run left on purpose. A `kept` file is in a folder of the host and is deleted with the run,
    /// see [`Reader::kept_files`].
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Invalid` for a path that is not UTF-8.
    pub fn insert_artifact(&mut self, run_id: RunId, artifact: &Artifact, kept: bool) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        let path = path_text(&artifact.path)?;
        // A file that is written again has only one record.
        self.execute("DELETE FROM run_artifacts WHERE run = ?1 AND path = ?2", params![num, path])?;
        self.execute(
            "INSERT INTO run_artifacts (artifact_id, run, kind, path, bytes, created_us, kept)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                artifact.artifact_id.as_uuid().as_bytes().as_slice(),
                num,
                artifact.kind,
                path,
                number(artifact.bytes)?,
                micros(artifact.created_at),
                kept,
            ],
        )?;
        Ok(())
    }
}

const SNAPSHOT: &str = "num, fingerprint, snapshot, detected_us";

fn snapshot(row: &Row<'_>) -> rusqlite::Result<StoredSnapshot> {
    let mut snapshot: CapabilitySnapshot = json_of(row, "snapshot")?;
    snapshot.detected_at = time_of(row, "detected_us")?;
    Ok(StoredSnapshot { key: SnapshotKey(row.get("num")?), fingerprint: row.get("fingerprint")?, snapshot })
}

fn newest_snapshot(conn: &rusqlite::Connection, provider: &str) -> Result<Option<StoredSnapshot>, StorageError> {
    let found = conn
        .prepare_cached(&format!(
            "SELECT {SNAPSHOT} FROM capability_snapshots WHERE provider = ?1 ORDER BY num DESC LIMIT 1"
        ))?
        .query_row([provider], snapshot)
        .optional()?;
    Ok(found)
}

fn grant(row: &Row<'_>) -> rusqlite::Result<Grant> {
    Ok(Grant {
        path: path_of(row, "path")?,
        created_at: time_of(row, "created_us")?,
        trust_settings: row.get("trust_settings")?,
    })
}

fn profile(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile {
        profile_id: id_of(row, "profile_id")?,
        name: row.get("name")?,
        provider: row.get("provider")?,
        config: json_of(row, "config")?,
        created_at: time_of(row, "created_us")?,
        updated_at: time_of(row, "updated_us")?,
    })
}

impl Reader {
    /// A capability snapshot that a run refers to.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn snapshot(&self, key: SnapshotKey) -> Result<Option<CapabilitySnapshot>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!("SELECT {SNAPSHOT} FROM capability_snapshots WHERE num = ?1"))?
            .query_row([key.0], snapshot)
            .optional()?;
        Ok(found.map(|found| found.snapshot))
    }

    /// The newest capability snapshot of a provider instance.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn newest_snapshot(&self, provider: &str) -> Result<Option<StoredSnapshot>, StorageError> {
        newest_snapshot(&self.conn, provider)
    }

    /// The newest capability snapshot of every provider instance that ever had one, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn newest_snapshots(&self) -> Result<Vec<StoredSnapshot>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SNAPSHOT} FROM capability_snapshots
                 WHERE num IN (SELECT max(num) FROM capability_snapshots GROUP BY provider) ORDER BY provider"
            ))?
            .query_map([], snapshot)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The granted folders, by path.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn grants(&self) -> Result<Vec<Grant>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT path, created_us, trust_settings FROM workspace_grants ORDER BY path")?
            .query_map([], grant)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The user's values of settings, by key.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn settings(&self) -> Result<Vec<(String, Value)>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT key, value FROM settings ORDER BY key")?
            .query_map([], |row| Ok((row.get("key")?, json_of(row, "value")?)))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The profiles, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn profiles(&self) -> Result<Vec<Profile>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT * FROM profiles ORDER BY name")?
            .query_map([], profile)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The profile of an id or, if there is none, of a name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn profile(&self, id_or_name: &str) -> Result<Option<Profile>, StorageError> {
        let id = id_or_name.parse::<ProfileId>().ok().map(|id| id.as_uuid().as_bytes().to_vec());
        let found = self
            .conn
            .prepare_cached(
                "SELECT * FROM profiles WHERE profile_id = ?1 OR name = ?2 ORDER BY profile_id = ?1 DESC LIMIT 1",
            )?
            .query_row(params![id, id_or_name], profile)
            .optional()?;
        Ok(found)
    }

    /// The providers that have a token, and the store of each.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn token_marks(&self) -> Result<Vec<(String, String)>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT provider, store FROM provider_tokens ORDER BY provider")?
            .query_map([], |row| Ok((row.get("provider")?, row.get("store")?)))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The store with the token of a provider, if it has one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn token_mark(&self, provider: &str) -> Result<Option<String>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT store FROM provider_tokens WHERE provider = ?1")?
            .query_row([provider], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    /// Whether a file was written by an export of a run that is still kept.
    ///
    /// # Errors
    /// `Invalid` for a path that is not UTF-8.
    pub fn is_artifact(&self, path: &Path) -> Result<bool, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT 1 FROM run_artifacts WHERE path = ?1 LIMIT 1")?
            .query_row([path_text(path)?], |_| Ok(()))
            .optional()?;
        Ok(found.is_some())
    }

    pub(super) fn artifacts_of(&self, run: i64) -> Result<Vec<Artifact>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT * FROM run_artifacts WHERE run = ?1 ORDER BY num")?
            .query_map([run], |row| {
                Ok(Artifact {
                    artifact_id: id_of(row, "artifact_id")?,
                    kind: row.get("kind")?,
                    path: path_of(row, "path")?,
                    bytes: count_of(row, "bytes")?,
                    created_at: time_of(row, "created_us")?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// A setting of the user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn setting(&self, key: &str) -> Result<Option<Value>, StorageError> {
        let found: Option<String> = self
            .conn
            .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        Ok(found.map(|found| json(&found)).transpose()?)
    }
}
