//! What a CLI requires inside the host's containment: the member `containment` of `provider-info.extra`.
//!
//! The host contains every run: it hides some folders, makes others read-only, and allows connections to listed hosts only.
//! Without this declaration, a CLI can use its working folder and the system's read-only files, and cannot reach its model.

use serde::{Deserialize, Serialize};

/// What a CLI requires inside the host's containment, and which variables are relevant for it.
///
/// Paths are absolute, or begin with `~/` (the home folder of the user), with `$NAME/` (the variable `NAME` of the child; the
/// path is ignored if the variable is not set), or with `${NAME:-PATH}/` (the variable, or the path if it is not set). Names of
/// variables may end with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Containment {
    /// Files and folders outside the working folder that the CLI must be able to write: sessions, logins, caches. The host
    /// creates a missing folder if its path ends with `/`, and ignores other missing paths.
    pub write: Vec<String>,
    /// Files and folders that the CLI must be able to read although the host hides them by default.
    pub read: Vec<String>,
    /// Files and folders inside `write` that are read-only: settings and hooks, with which one run could change later runs.
    pub protect: Vec<String>,
    /// Hosts of the model and of its login: `api.example.com`, `*.example.com`, with `:PORT` if the port is not 443.
    pub hosts: Vec<String>,
    /// Variables that a payload may set with `harness.processEnv`. If it is empty, a payload cannot set any.
    pub settable: Vec<String>,
    /// Variables that determine which code the CLI or its runtime loads, or which configuration it uses. A payload may set
    /// them only if the configuration of the host lists them. A longer pattern in `settable` overrides a pattern in this list.
    pub code: Vec<String>,
    /// Variables that determine where the CLI sends its requests and its credentials. The rule for payloads is that of `code`.
    /// If the run has a stored token, they are refused from payloads and from clients.
    pub endpoints: Vec<String>,
    /// Variables that `prepare` sets in `Launch::environment`. It may also set those of the other lists and those that the CLI
    /// inherits. The host refuses a launch that sets any other variable.
    pub sets: Vec<String>,
    /// Files on which the output of the probes depends: settings of the CLI. The host runs the probes again when one of them
    /// changes, or when the variables of a run select a different file.
    pub detection: Vec<String>,
}

impl Containment {
    /// The value of `ProviderInfo::extra` with this declaration.
    #[must_use]
    pub fn to_extra(&self) -> String {
        serde_json::json!({ "containment": self }).to_string()
    }
}

/// The containment of a run, which the host passes to `prepare` as `host-facts.extra`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostContainment {
    /// Whether the host itself enforces `sandboxMode`. If so, the CLI's own sandbox must be off: it cannot start inside the host's.
    pub sandboxed: bool,
    /// Whether the host itself restricts the network of the run to an allow list.
    pub network: bool,
    /// Whether the grant of the working folder trusts the settings of the repository (hooks, permissions, MCP servers).
    pub trusted_settings: bool,
}

impl HostContainment {
    /// Reads `host-facts.extra`. If it is missing or invalid, the host enforces nothing.
    #[must_use]
    pub fn read(extra: Option<&str>) -> Self {
        extra.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_has_a_member_containment_in_camel_case() {
        let needs = Containment { hosts: vec!["api.example.com".to_owned()], ..Containment::default() };
        let extra: serde_json::Value = serde_json::from_str(&needs.to_extra()).unwrap_or_default();
        assert_eq!(extra["containment"]["hosts"][0], "api.example.com");
        let back: Containment = serde_json::from_value(extra["containment"].clone()).unwrap_or_default();
        assert_eq!(back, needs);
    }

    #[test]
    fn missing_or_invalid_host_facts_mean_no_containment() {
        assert_eq!(HostContainment::read(None), HostContainment::default());
        assert_eq!(HostContainment::read(Some("[]")), HostContainment::default());
        assert!(HostContainment::read(Some(r#"{"sandboxed": true, "later": 1}"#)).sandboxed);
    }
}
