//! Resolves paths as settings and plugins write them: `~/x`, `$NAME/x`, `${NAME:-~/x}/y`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Resolves such a path for a child with these variables. `None` if it names a variable that the child does not have.
/// The result is absolute; it need not exist.
pub(crate) fn resolve(text: &str, variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let home = || variables.get("HOME").filter(|home| home.starts_with('/')).map(PathBuf::from);
    if let Some(rest) = text.strip_prefix("~/") {
        return Some(join(&home()?, rest));
    }
    let set = |name: &str| variables.get(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    if let Some(rest) = text.strip_prefix("${") {
        let (inner, rest) = rest.split_once('}')?;
        let (name, otherwise) = inner.split_once(":-")?;
        let base = set(name).or_else(|| resolve(otherwise, variables))?;
        return Some(join(&base, rest));
    }
    if let Some(rest) = text.strip_prefix('$') {
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        return Some(join(&set(name)?, rest));
    }
    Path::new(text).is_absolute().then(|| PathBuf::from(text))
}

fn join(base: &Path, rest: &str) -> PathBuf {
    let rest = rest.trim_matches('/');
    if rest.is_empty() { base.to_owned() } else { base.join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_variables_of_the_child() {
        let variables = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let both = variables(&[("HOME", "/home/a"), ("CODEX_HOME", "/codex"), ("ODD", "relative")]);
        let bare = variables(&[]);
        for (text, expected) in [
            ("/etc/x", Some("/etc/x")),
            ("~/.ssh", Some("/home/a/.ssh")),
            ("$CODEX_HOME/", Some("/codex")),
            ("$CODEX_HOME", Some("/codex")),
            ("$CODEX_HOME/a/b", Some("/codex/a/b")),
            ("${CODEX_HOME:-~/.codex}/config.toml", Some("/codex/config.toml")),
            ("${OTHER:-~/.codex}/config.toml", Some("/home/a/.codex/config.toml")),
            ("$ODD/x", None),
            ("$MISSING/x", None),
            ("relative", None),
            ("${BROKEN", None),
        ] {
            assert_eq!(resolve(text, &both), expected.map(PathBuf::from), "{text}");
        }
        assert_eq!(resolve("~/x", &bare), None);
    }
}
