//! `--image` and `--attach`: files for the model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::clean;
use super::context::absolute;
use ostler_protocol::{ApiError, ErrorKind};

/// Media types by extension; what has another one is bytes.
const TYPES: [(&str, &str); 26] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("svg", "image/svg+xml"),
    ("heic", "image/heic"),
    ("avif", "image/avif"),
    ("pdf", "application/pdf"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
    ("toml", "application/toml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("html", "text/html"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("md", "text/markdown"),
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("diff", "text/x-diff"),
    ("patch", "text/x-diff"),
];

/// The attachments of a payload. What is in the files is the host's to look at.
///
/// # Errors
/// `INVALID_PARAMS` for a path that has no file name, or one that JSON cannot hold.
pub(super) fn read(option: &str, files: &[PathBuf]) -> Result<Vec<Value>, ApiError> {
    let mut names = BTreeSet::new();
    let mut made = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let path = absolute(file)?;
        let (Some(text), Some(name)) = (path.to_str(), path.file_name().and_then(|name| name.to_str())) else {
            let shown = clean::line(&file.display().to_string());
            let message = format!("{option}: {shown:?} is not the path of a file with a UTF-8 name");
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at(option));
        };
        // Files of one name from two folders.
        let name = if names.insert(name.to_owned()) { name.to_owned() } else { format!("{}-{name}", index + 1) };
        made.push(json!({"name": name, "mimeType": media_type(&path), "path": text}));
    }
    Ok(made)
}

fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let known = TYPES.iter().find(|(known, _)| *known == extension).map(|(_, media_type)| *media_type);
    known.unwrap_or("application/octet-stream")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn attachments_have_a_name_of_their_own_and_a_type() {
        let files = ["/a/shot.PNG", "/b/shot.PNG", "/c/core"].map(PathBuf::from);
        let made = read("--image", &files).unwrap();
        let expected = json!([
            {"name": "shot.PNG", "mimeType": "image/png", "path": "/a/shot.PNG"},
            {"name": "2-shot.PNG", "mimeType": "image/png", "path": "/b/shot.PNG"},
            {"name": "core", "mimeType": "application/octet-stream", "path": "/c/core"},
        ]);
        assert_eq!(json!(made), expected);
        assert_eq!(read("--image", &["/".into()]).unwrap_err().kind, ErrorKind::InvalidParams);
    }
}
