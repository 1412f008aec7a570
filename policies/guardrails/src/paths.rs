//! Folders and files: each must be inside an active grant after its links are resolved.
//!
//! A policy has no access to files. The host has resolved the paths; a path that it has not resolved is denied.

use ostler_plugin::policy::{CheckedPath, Context};
use serde_json::Value;

use crate::document::{at, items, shown};
use crate::findings::Findings;

const GRANT_HINT: &str = "grant it with `grant_workspace`, or use a folder inside a grant";

pub(crate) fn check(payload: &Value, context: &Context, findings: &mut Findings) {
    match at(payload, "/cwd").and_then(Value::as_str) {
        Some(cwd) if !cwd.is_empty() => granted("cwd-in-grant", "/cwd", cwd, context, findings),
        _ => findings.deny("cwd-in-grant", "/cwd", "the run has no working folder", "set one inside a grant"),
    }
    for (pointer, folder) in items(payload, "/harness/additionalDirectories") {
        one("directory-in-grant", &pointer, folder, context, findings);
    }
    for block in ["/harness/images", "/harness/files"] {
        for (pointer, attachment) in items(payload, block) {
            if let Some(path) = at(attachment, "/path") {
                one("attachment-in-grant", &format!("{pointer}/path"), path, context, findings);
            }
        }
    }
    let folder = "/harness/cliAllowlist/binDir";
    if let Some(path) = at(payload, folder) {
        one("allowlist-folder-in-grant", folder, path, context, findings);
    }
}

fn one(check: &str, pointer: &str, path: &Value, context: &Context, findings: &mut Findings) {
    match path.as_str() {
        Some(path) => granted(check, pointer, path, context, findings),
        None => findings.deny(check, pointer, "is not a path", "use an absolute path"),
    }
}

fn granted(check: &str, pointer: &str, path: &str, context: &Context, findings: &mut Findings) {
    if !path.starts_with('/') {
        findings.deny(check, pointer, "is not an absolute path", "use an absolute path");
        return;
    }
    let Some(found) = context.paths.iter().find(|found| found.pointer == pointer && found.path == path) else {
        findings.deny(check, pointer, "the host has not resolved this path", "report this as a bug of the host");
        return;
    };
    if !is_granted(found) {
        let message = if found.resolved == found.path {
            format!("{} is not inside an active grant", shown(path))
        } else {
            format!("{} leads to {}, which is not inside an active grant", shown(path), shown(&found.resolved))
        };
        findings.deny(check, pointer, message, GRANT_HINT);
    }
}

/// Whether the host has found a grant that really contains the path.
pub(crate) fn is_granted(path: &CheckedPath) -> bool {
    path.grant.as_ref().is_some_and(|grant| contains(grant, &path.resolved))
}

/// Whether `path` is `folder` or inside it. Both must be absolute; `..` is not allowed.
pub(crate) fn contains(folder: &str, path: &str) -> bool {
    if !folder.starts_with('/') || path.split('/').any(|part| part == "..") {
        return false;
    }
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn folder_contains_itself_and_paths_inside_it() {
        for (folder, path) in [("/a", "/a"), ("/a", "/a/b"), ("/a/", "/a/b"), ("/", "/x"), ("/", "/"), ("/a", "/a/")] {
            assert!(contains(folder, path), "{path} is in {folder}");
        }
        for (folder, path) in [("/a", "/ab"), ("/a/b", "/a"), ("/a", "/a/../b"), ("a", "a/b"), ("", "/a"), ("/a", "b")]
        {
            assert!(!contains(folder, path), "{path} is not in {folder}");
        }
    }
}
