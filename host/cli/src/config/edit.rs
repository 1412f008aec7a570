//! `ostler config edit`: edits a draft, which replaces the configuration only if it is valid.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::output::complain;
use super::super::{ask, clean, editor, format};
use super::validate;
use ostler_config::{DEFAULT_TEXT, MAX_FILE_BYTES};
use ostler_protocol::{ApiError, ErrorKind};

/// Runs an editor on a draft beside the configuration, and again while the draft is invalid and the user confirms.
pub(super) async fn edit(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let paths = Files::of(&context.paths.config_file)?;
    let before = paths.current()?;
    if paths.draft.exists() {
        complain(&format!("continuing with the draft of an earlier edit, {}", shown(&paths.draft)));
    } else {
        write_private(&paths.draft, before.as_deref().unwrap_or(DEFAULT_TEXT))?;
    }
    loop {
        if let Err(error) = editor::run(&paths.draft, "the configuration was not changed") {
            paths.drop_draft_if_same(before.as_deref());
            return Err(error);
        }
        let text = read(&paths.draft)?;
        if Some(text.as_str()) == before.as_deref() || (before.is_none() && text == DEFAULT_TEXT) {
            paths.drop_draft()?;
            if context.json {
                context.out.document(&json!({"file": paths.config, "changed": false}))?;
            } else {
                context.out.line("nothing changed")?;
            }
            return Ok(Exit::Done);
        }
        let Err(errors) = validate(context, &paths.draft)? else { break };
        if context.json {
            return Err(errors.to_api_error().hint(paths.kept()));
        }
        complain(clean::text(&errors.report()).trim_end());
        if !ask::can_ask() || !ask::confirm("The configuration is invalid. Edit it again?") {
            complain(&paths.kept());
            return Ok(Exit::Usage);
        }
    }
    if paths.current()? != before {
        let message = format!("{} was changed by another program meanwhile and was not replaced", shown(&paths.config));
        return Err(ApiError::new(ErrorKind::Conflict, message).hint(paths.kept()));
    }
    paths.replace()?;
    let reload = match context.client_of_running().await? {
        Some(client) => Some(client.reload().await?),
        None => None,
    };
    if context.json {
        context.out.document(&json!({"file": paths.config, "changed": true, "reload": reload}))?;
        return Ok(Exit::Done);
    }
    context.out.line(format!("saved {}", shown(&paths.config)))?;
    for line in reload.iter().flat_map(format::reload) {
        context.out.line(clean::line(&line))?;
    }
    Ok(Exit::Done)
}

/// The configuration and its draft.
struct Files {
    /// The path with symbolic links resolved.
    config: PathBuf,
    draft: PathBuf,
}

impl Files {
    fn of(config: &Path) -> Result<Self, ApiError> {
        let config = match fs::canonicalize(config) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !config.is_symlink() => config.to_owned(),
            Err(error) => return Err(failed("find", config, &error)),
        };
        if let Some(folder) = config.parent() {
            super::create_folder(folder)?;
        }
        let mut name = config.file_name().unwrap_or_default().to_owned();
        name.push(".draft");
        Ok(Self { draft: config.with_file_name(name), config })
    }

    /// The text of the configuration; `None` if there is no file.
    fn current(&self) -> Result<Option<String>, ApiError> {
        match fs::metadata(&self.config) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => read(&self.config).map(Some),
        }
    }

    fn kept(&self) -> String {
        format!("your text is kept in {}; `ostler config edit` continues with it", shown(&self.draft))
    }

    fn drop_draft(&self) -> Result<(), ApiError> {
        fs::remove_file(&self.draft).map_err(|error| failed("delete", &self.draft, &error))
    }

    /// Deletes a draft without changes, for an editor that could not be started.
    fn drop_draft_if_same(&self, before: Option<&str>) {
        if read(&self.draft).is_ok_and(|text| text == before.unwrap_or(DEFAULT_TEXT)) {
            let _ = fs::remove_file(&self.draft);
        }
    }

    /// Replaces the configuration by the draft and keeps the permissions of the configuration.
    fn replace(&self) -> Result<(), ApiError> {
        let write = || {
            if let Ok(found) = fs::metadata(&self.config) {
                fs::set_permissions(&self.draft, fs::Permissions::from_mode(found.permissions().mode() & 0o777))?;
            }
            fs::File::open(&self.draft)?.sync_all()?;
            fs::rename(&self.draft, &self.config)
        };
        write().map_err(|error| failed("write", &self.config, &error))
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), ApiError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| failed("write", path, &error))
}

fn read(path: &Path) -> Result<String, ApiError> {
    let size = fs::metadata(path).map_err(|error| failed("read", path, &error))?.len();
    if size > MAX_FILE_BYTES {
        let message = format!("{} is larger than {} KiB", shown(path), MAX_FILE_BYTES >> 10);
        return Err(ApiError::new(ErrorKind::InvalidParams, message));
    }
    fs::read_to_string(path).map_err(|error| failed("read", path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> ApiError {
    ApiError::new(ErrorKind::Io, format!("failed to {what} {}: {error}", shown(path)))
}

fn shown(path: &Path) -> String {
    clean::line(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn replaces_link_target_and_keeps_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("dotfiles.toml"), folder.path().join("config.toml"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        let files = Files::of(&link).unwrap();
        assert_eq!(files.current().unwrap().as_deref(), Some("old"));
        write_private(&files.draft, "new").unwrap();
        files.replace().unwrap();
        assert!(link.is_symlink() && !files.draft.exists());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        fs::remove_file(&real).unwrap();
        assert_eq!(Files::of(&link).err().unwrap().kind, ErrorKind::Io, "a link that leads nowhere");
    }
}
