//! `--image` and `--attach`: files for the model.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::clean;
use super::context::absolute;
use ostler_protocol::{ApiError, ErrorKind};

/// Media types by file extension. The default is `application/octet-stream`.
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

/// Builds the image attachments of a payload from `--image`. The host reports missing files.
///
/// # Errors
/// Those of [`read`], and `INVALID_PARAMS` for a file whose content is not a supported image.
pub(super) fn read_images(files: &[PathBuf]) -> Result<Vec<Value>, ApiError> {
    let option = "--image";
    let mut images = read(option, files)?;
    for (image, file) in images.iter_mut().zip(files) {
        let Some(start) = start_of(file) else { continue };
        let Some(media_type) = image_type(&start) else {
            let shown = clean::line(&file.display().to_string());
            let message = format!("{option}: {shown} is not a PNG, JPEG, GIF or WebP image");
            let error = ApiError::new(ErrorKind::InvalidParams, message).at(option);
            return Err(error.hint("--attach passes any other file to the model"));
        };
        image["mimeType"] = json!(media_type);
    }
    Ok(images)
}

/// The first 16 bytes of a file. `None` if it is not a regular file or cannot be read.
fn start_of(file: &Path) -> Option<Vec<u8>> {
    // Opening a named pipe would wait for a writer.
    std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    let mut start = Vec::new();
    File::open(file).ok()?.take(16).read_to_end(&mut start).ok()?;
    Some(start)
}

/// The media type of an image by its first bytes. `None` if it is not PNG, JPEG, GIF or WebP.
const fn image_type(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        // The four bytes between are a length.
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Builds the attachments of a payload. The host reads the files.
///
/// # Errors
/// `INVALID_PARAMS` for a path without a file name, or one that is not valid UTF-8.
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
        // Files of the same name from different folders get a number.
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
    fn detects_images_by_content_and_rejects_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        for (content, media_type) in [
            (&b"\x89PNG\r\n\x1a\n"[..], "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        ] {
            let made = read_images(&[file("picture.txt", content)]).unwrap();
            assert_eq!(made[0]["mimeType"], media_type);
        }
        let error = read_images(&[file("notes.png", b"a text")]).unwrap_err();
        assert!(error.kind == ErrorKind::InvalidParams && error.message.contains("notes.png"), "{error:?}");
        assert_eq!(read_images(&[folder.path().join("gone.png")]).unwrap().len(), 1, "the host reports it");
    }

    #[test]
    fn attachments_get_unique_name_and_media_type() {
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
