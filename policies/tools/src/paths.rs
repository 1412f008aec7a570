//! Where a path is. A policy has no access to files: paths of scripts are resolved by their text only.

use ostler_plugin::policy::Context;

use crate::text::DYNAMIC;

/// Folders for temporary files.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp", "/private/tmp", "/dev/shm"];

/// Files to which anything may be written.
const STREAMS: &[&str] = &["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/zero"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the workspace.
    Inside,
    /// In a folder for temporary files.
    Temporary,
    Outside,
    /// It depends on what is not known.
    Unknown,
}

/// The workspace: the folder of the run, and the grant that contains it.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) cwd: String,
    home: String,
    roots: Vec<String>,
}

impl Workspace {
    pub(crate) fn new(context: &Context, grant_counts: bool) -> Self {
        let user = context.user.as_str();
        let homes = [format!("/home/{user}"), format!("/Users/{user}")];
        let cwd = normalize(&context.cwd);
        let home = if user == "root" {
            "/root".to_owned()
        } else {
            let [linux, other] = homes;
            if contains(&other, &cwd) { other } else { linux }
        };
        let mut roots = vec![cwd.clone()];
        roots.extend(context.workspace_grant.as_deref().filter(|_| grant_counts).map(normalize));
        Self { cwd, home, roots }
    }

    /// A path in a folder. A path that begins with an unknown part is only that.
    pub(crate) fn resolve(&self, folder: &str, path: &str) -> String {
        let home = |rest: &str| normalize(&format!("{}{rest}", self.home));
        match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => home(rest),
            Some(rest) => {
                let parent = self.home.rsplit_once('/').map_or("", |(parent, _)| parent);
                normalize(&format!("{parent}/{rest}"))
            }
            None if path.starts_with('/') => normalize(path),
            None if path.starts_with(DYNAMIC) => path.to_owned(),
            None => normalize(&format!("{folder}/{path}")),
        }
    }

    /// The forms in which a glob can name a path: absolute, from the home folder, from the folder of the run.
    pub(crate) fn forms(&self, resolved: &str) -> Vec<String> {
        let mut forms = vec![resolved.to_owned()];
        if let Some(rest) = inside(&self.home, resolved) {
            forms.push(format!("~{rest}"));
        }
        if let Some(rest) = inside(&self.cwd, resolved) {
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            forms.push(if rest.is_empty() { "." } else { rest }.to_owned());
        }
        forms
    }

    pub(crate) fn place(&self, resolved: &str) -> Place {
        let (known, open) = match resolved.split_once(DYNAMIC) {
            // Up to the folder that is known.
            Some((known, _)) => (known.rsplit_once('/').map_or("", |(folder, _)| folder), true),
            None => (resolved, false),
        };
        if open && !known.starts_with('/') {
            return Place::Unknown;
        }
        let place = if self.roots.iter().any(|root| contains(root, known)) {
            Place::Inside
        } else if TEMPORARY.iter().any(|folder| contains(folder, known) && known != *folder || open && known == *folder)
        {
            Place::Temporary
        } else {
            Place::Outside
        };
        if open && place != Place::Outside { Place::Unknown } else { place }
    }
}

/// Whether anything may be written there: `/dev/null`, a terminal, another open file of the process.
pub(crate) fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path) || path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/")
}

/// The rest of a path inside a folder.
fn inside<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(folder).filter(|rest| folder != "/" && (rest.is_empty() || rest.starts_with('/')))
}

fn contains(folder: &str, path: &str) -> bool {
    folder == "/" || inside(folder, path).is_some()
}

/// The path without `.`, `..` and double slashes. `..` behind an unknown part stays: nobody can say where it leads.
pub(crate) fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| last.contains(DYNAMIC) || *last == "..") => parts.push(part),
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    let absolute = if path.starts_with('/') { "/" } else { "" };
    format!("{absolute}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_text_of_a_path() {
        let context = Context {
            cwd: "/home/me/src/a".to_owned(),
            workspace_grant: Some("/home/me/src".to_owned()),
            user: "me".to_owned(),
            ..Context::default()
        };
        let workspace = Workspace::new(&context, true);
        let place = |path: &str| workspace.place(&workspace.resolve("/home/me/src/a", &path.replace('$', "\u{f8f2}")));
        for (path, expected) in [
            ("x", Place::Inside),
            ("../b", Place::Inside),
            ("../../b", Place::Outside),
            ("~/src/x", Place::Inside),
            ("~", Place::Outside),
            ("~other/x", Place::Outside),
            ("/", Place::Outside),
            ("/tmp/x", Place::Temporary),
            ("/tmp", Place::Outside),
            ("/tmpx", Place::Outside),
            ("$", Place::Unknown),
            ("x/$", Place::Unknown),
            ("/tmp/$", Place::Unknown),
            ("/etc/$", Place::Outside),
            ("$/..", Place::Unknown),
            ("/home/me/src/../.ssh", Place::Outside),
        ] {
            assert_eq!(place(path), expected, "{path}");
        }
        let narrow = Workspace::new(&context, false);
        assert_eq!(narrow.place("/home/me/src/b"), Place::Outside);
        assert_eq!(narrow.forms("/home/me/src/a/b"), ["/home/me/src/a/b", "~/src/a/b", "b"]);
    }
}
