//! The access that a provider plugin declares for runs of its CLI inside of the host's containment: the member
//! `containment` of `provider-info.extra`. The guest SDK has the same structure and explains each member.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most entries of one list.
const MAX_ENTRIES: usize = 256;

/// The most bytes of one entry.
const MAX_ENTRY: usize = 4096;

/// The access that a CLI needs in addition to that of its run. Without a declaration there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Containment {
    /// Paths that the CLI writes outside of the work folder.
    pub write: Vec<String>,
    /// Paths that the CLI reads although they are hidden by default.
    pub read: Vec<String>,
    /// Paths below `write` that stay read-only.
    pub protect: Vec<String>,
    /// Hosts of the model and of its login, `HOST` or `HOST:PORT`.
    pub hosts: Vec<String>,
    /// Variables that a payload may set.
    pub settable: Vec<String>,
    /// Variables that choose code or configuration.
    pub code: Vec<String>,
    /// Variables that say where requests and credentials go.
    pub endpoints: Vec<String>,
    /// Variables that `prepare` sets by itself.
    pub sets: Vec<String>,
    /// Files that decide what the probes print.
    pub detection: Vec<String>,
}

/// What `prepare` learns about the containment of a run: `host-facts.extra`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostContainment {
    /// The host itself enforces `sandboxMode`.
    pub sandboxed: bool,
    /// The host itself bounds the network of the run.
    pub network: bool,
    /// The grant of the work folder trusts the settings of the repository.
    pub trusted_settings: bool,
}

impl Containment {
    /// Reads `provider-info.extra`.
    ///
    /// # Errors
    /// What is wrong with the member `containment`: a plugin whose declaration cannot be read must not run uncontained.
    pub(super) fn read(extra: Option<&str>) -> Result<Self, String> {
        let Some(extra) = extra else { return Ok(Self::default()) };
        let document: Value = serde_json::from_str(extra).map_err(|error| format!("`extra` is not JSON: {error}"))?;
        let Some(found) = document.get("containment") else { return Ok(Self::default()) };
        let declared: Self =
            serde_json::from_value(found.clone()).map_err(|error| format!("`extra.containment`: {error}"))?;
        declared.check()?;
        Ok(declared)
    }

    fn check(&self) -> Result<(), String> {
        for (name, list) in self.lists() {
            if list.len() > MAX_ENTRIES {
                return Err(format!("`extra.containment.{name}` has more than {MAX_ENTRIES} entries"));
            }
            if let Some(wrong) =
                list.iter().find(|entry| entry.is_empty() || entry.len() > MAX_ENTRY || entry.contains('\0'))
            {
                let shown: String = wrong.chars().take(40).collect();
                return Err(format!("`extra.containment.{name}` has an entry that cannot be used: {shown:?}"));
            }
        }
        for (name, list) in
            [("write", &self.write), ("read", &self.read), ("protect", &self.protect), ("detection", &self.detection)]
        {
            let rooted = |path: &String| path.starts_with('/') || path.starts_with("~/") || path.starts_with('$');
            let plain = |path: &String| path.split('/').all(|part| part != "..");
            if let Some(wrong) = list.iter().find(|path| !rooted(path) || !plain(path)) {
                let rule = "must be absolute or begin with `~/` or `$NAME/`, without `..`";
                return Err(format!("`extra.containment.{name}`: {wrong:?} {rule}"));
            }
        }
        Ok(())
    }

    fn lists(&self) -> [(&'static str, &Vec<String>); 9] {
        [
            ("write", &self.write),
            ("read", &self.read),
            ("protect", &self.protect),
            ("hosts", &self.hosts),
            ("settable", &self.settable),
            ("code", &self.code),
            ("endpoints", &self.endpoints),
            ("sets", &self.sets),
            ("detection", &self.detection),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn missing_declaration_is_empty() {
        assert_eq!(Containment::read(None).unwrap(), Containment::default());
        assert_eq!(Containment::read(Some(r#"{"other": 1}"#)).unwrap(), Containment::default());
    }

    #[test]
    fn unknown_members_are_ignored() {
        let declared = Containment::read(Some(r#"{"containment": {"hosts": ["a.example"], "later": []}}"#)).unwrap();
        assert_eq!(declared.hosts, ["a.example"]);
    }

    #[test]
    fn rejects_invalid_declarations() {
        for (extra, part) in [
            ("{", "not JSON"),
            (r#"{"containment": {"write": "x"}}"#, "expected a sequence"),
            (r#"{"containment": {"write": ["relative"]}}"#, "absolute"),
            (r#"{"containment": {"read": ["~/../other"]}}"#, "without"),
            (r#"{"containment": {"hosts": [""]}}"#, "hosts"),
        ] {
            let error = Containment::read(Some(extra)).unwrap_err();
            assert!(error.contains(part), "{extra}: {error}");
        }
    }
}
