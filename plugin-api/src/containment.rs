//! What a run of a CLI needs beyond what the run was given: the member `containment` of `provider-info.extra`.
//!
//! The host contains every run: it hides folders, keeps others read-only, and lets the network reach listed hosts only.
//! Without this declaration a CLI has its work folder, the system's read-only files, and no host of a model.

use serde::{Deserialize, Serialize};

/// What a CLI needs inside of the host's containment, and which variables matter for it.
///
/// Paths are absolute, or begin with `~/` (the home folder of the user), with `$NAME/` (the variable `NAME` of the child; the
/// path counts only where that variable is set), or with `${NAME:-PATH}/` (the variable, or else the path). Names of variables may end with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Containment {
    /// Files and folders outside of the work folder that the CLI must be able to write: sessions, logins, caches. The
    /// host makes a missing folder whose path ends with `/`; it leaves other missing paths out.
    pub write: Vec<String>,
    /// Files and folders that the CLI must be able to read although the host hides them by default.
    pub read: Vec<String>,
    /// Files and folders below `write` that stay read-only: settings and hooks, by which one run could change later ones.
    pub protect: Vec<String>,
    /// Hosts of the model and of its login: `api.example.com`, `*.example.com`, with `:PORT` where it is not 443.
    pub hosts: Vec<String>,
    /// Variables that a payload may set with `harness.processEnv`. Without a name here a payload sets none of them.
    pub settable: Vec<String>,
    /// Variables that choose what code the CLI or its runtime loads, or which configuration it obeys. A payload may set
    /// them only where the operator names them. A longer pattern in `settable` takes a name out again.
    pub code: Vec<String>,
    /// Variables that say where the CLI sends its requests and its credentials: for payloads as `code`. A run with a
    /// stored token refuses both from payloads and from clients.
    pub endpoints: Vec<String>,
    /// Variables that `prepare` sets in `Launch::environment`. It may also set those of the other lists and those that
    /// the CLI inherits; the host refuses a launch that sets another one.
    pub sets: Vec<String>,
    /// Files that decide what the probes print: settings of the CLI. The host asks the probes again when one of them
    /// changes, or when a run has another one by its variables.
    pub detection: Vec<String>,
}

impl Containment {
    /// The value of `ProviderInfo::extra` that declares this.
    #[must_use]
    pub fn to_extra(&self) -> String {
        serde_json::json!({ "containment": self }).to_string()
    }
}

/// What the host tells `prepare` about the containment of a run: `host-facts.extra`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostContainment {
    /// The host itself enforces `sandboxMode`: the CLI's own sandbox cannot start inside of it and must be off.
    pub sandboxed: bool,
    /// The host itself bounds the network of the run to an allow list.
    pub network: bool,
    /// The grant of the work folder trusts the settings of the repository (hooks, permissions, MCP servers).
    pub trusted_settings: bool,
}

impl HostContainment {
    /// Reads `host-facts.extra`. A host that says nothing enforces nothing.
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
    fn missing_or_damaged_host_facts_mean_no_containment() {
        assert_eq!(HostContainment::read(None), HostContainment::default());
        assert_eq!(HostContainment::read(Some("[]")), HostContainment::default());
        assert!(HostContainment::read(Some(r#"{"sandboxed": true, "later": 1}"#)).sandboxed);
    }
}
