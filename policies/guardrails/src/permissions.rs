//! The permissions block of a payload.

use serde::Deserialize;
use serde_json::Value;

use crate::document::at;
use crate::findings::Findings;
use crate::settings::Settings;

const SANDBOX_MODE: &str = "/harness/permissions/sandboxMode";
const AUTO_APPROVE: &str = "/harness/permissions/autoApprove";
const NETWORK_ACCESS: &str = "/harness/permissions/networkAccess";
const APPROVAL_POLICY: &str = "/harness/permissions/approvalPolicy";

/// The access that the CLI's sandbox allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SandboxMode {
    ReadOnly,
    WorkspaceWrite,
    FullAccess,
}

impl SandboxMode {
    pub(crate) const ALL: [Self; 3] = [Self::ReadOnly, Self::WorkspaceWrite, Self::FullAccess];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::FullAccess => "full-access",
        }
    }
}

/// The permissions in a payload. A field that is not set is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) sandbox: Option<SandboxMode>,
    pub(crate) auto_approve: Option<bool>,
    pub(crate) network: Option<bool>,
    pub(crate) approval: Option<String>,
    /// Whether the payload sets the tools, the folders or the MCP servers.
    names_tools: bool,
    names_directories: bool,
    names_mcp: bool,
}

impl Permissions {
    /// Reads the block. An unknown value is denied, and treated as the strictest one.
    pub(crate) fn read(payload: &Value, findings: &mut Findings) -> Self {
        let sandbox = at(payload, SANDBOX_MODE).map(|value| {
            let known = SandboxMode::ALL.into_iter().find(|mode| value.as_str() == Some(mode.name()));
            known.unwrap_or_else(|| {
                let hint = "use read-only, workspace-write or full-access";
                findings.deny("sandbox-mode-known", SANDBOX_MODE, "is not a valid sandbox mode", hint);
                SandboxMode::ReadOnly
            })
        });
        let mut flag = |pointer: &str| {
            at(payload, pointer).map(|value| {
                value.as_bool().unwrap_or_else(|| {
                    findings.deny("permission-readable", pointer, "must be true or false", "use true or false");
                    false
                })
            })
        };
        let (auto_approve, network) = (flag(AUTO_APPROVE), flag(NETWORK_ACCESS));
        let approval = at(payload, APPROVAL_POLICY).map(|value| {
            let known = ["untrusted", "on-failure", "on-request", "never"];
            known.into_iter().find(|word| value.as_str() == Some(word)).unwrap_or_else(|| {
                let hint = "use untrusted, on-failure, on-request or never";
                findings.deny("approval-policy-known", APPROVAL_POLICY, "is not a valid approval policy", hint);
                "untrusted"
            })
        });
        Self {
            sandbox,
            auto_approve,
            network,
            approval: approval.map(str::to_owned),
            names_tools: at(payload, "/harness/tools").is_some(),
            names_directories: at(payload, "/harness/additionalDirectories").is_some(),
            names_mcp: at(payload, "/harness/mcp").is_some(),
        }
    }

    /// Checks permissions that no payload may request.
    pub(crate) fn check(&self, settings: &Settings, findings: &mut Findings) {
        if self.auto_approve == Some(true) && self.sandbox == Some(SandboxMode::FullAccess) {
            findings.deny(
                "auto-approve-full-access",
                AUTO_APPROVE,
                "tools must not run without approval and without a sandbox",
                "remove autoApprove, or set sandboxMode to workspace-write or read-only",
            );
        }
        let allowed = &settings.sandbox_modes;
        if SandboxMode::ALL.iter().all(|mode| allowed.contains(mode)) {
            return;
        }
        let names: Vec<&str> = allowed.iter().map(|mode| mode.name()).collect();
        let hint = format!("set sandboxMode to {}", names.join(" or "));
        match self.sandbox {
            Some(mode) if allowed.contains(&mode) => {}
            Some(mode) => {
                let message = format!("the sandbox mode {} is not allowed on this host", mode.name());
                findings.deny("sandbox-mode-allowed", SANDBOX_MODE, message, &hint);
            }
            None => {
                let message = "only some sandbox modes are allowed on this host, and the run sets none";
                findings.deny("sandbox-mode-allowed", SANDBOX_MODE, message, &hint);
            }
        }
    }

    /// Whether the payload restricts a field that a flag can weaken. An unknown field counts as restricted if the payload
    /// restricts anything.
    pub(crate) fn forbids(&self, field: &str) -> bool {
        let sandboxed = self.sandbox.is_some_and(|mode| mode != SandboxMode::FullAccess);
        match field {
            "sandboxMode" => sandboxed,
            "autoApprove" => self.auto_approve == Some(false),
            "networkAccess" => self.network == Some(false),
            "approvalPolicy" => self.approval.is_some(),
            "tools" => self.names_tools,
            "additionalDirectories" => self.names_directories || sandboxed,
            "mcp" => self.names_mcp || self.names_tools,
            _ => {
                sandboxed
                    || self.auto_approve == Some(false)
                    || self.network == Some(false)
                    || self.approval.is_some()
                    || self.names_tools
                    || self.names_mcp
            }
        }
    }

    /// Whether a flag that weakens these fields would, together with the payload, allow tools to run without approval and
    /// without a sandbox.
    pub(crate) fn completes_full_access(&self, widens: impl Fn(&str) -> bool) -> bool {
        let approves = self.auto_approve == Some(true);
        let unbounded = self.sandbox == Some(SandboxMode::FullAccess);
        (approves && self.sandbox.is_none() && widens("sandboxMode"))
            || (unbounded && !approves && widens("autoApprove"))
    }
}
