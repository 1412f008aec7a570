//! Decides the containment of a run from its payload, the settings, and what this machine can enforce. Pure functions.

use ostler_config::{PolicyConfig, SandboxConfig};
use ostler_plugin_host::HostContainment;
use ostler_protocol::Origin;
use ostler_protocol::{
    ApiError, CompatibilityWarning, Egress, ErrorKind, Permissions, Problem, SandboxMode, SandboxRecord,
};
use ostler_runner::{Backend, ProbeReport};

/// The pointer with which a payload requests a sandbox.
pub(super) const MODE: &str = "/harness/permissions/sandboxMode";
/// The pointer with which it requests network access.
pub(super) const NETWORK: &str = "/harness/permissions/networkAccess";

/// The pointer with which it allows hosts.
const ALLOW_HOSTS: &str = "/harness/permissions/allowHosts";

/// The network access of a contained run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All that the host can reach.
    Open,
    /// The hosts of an allow list.
    Listed,
}

/// The containment of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Containment {
    pub(crate) mode: SandboxMode,
    /// The mechanism that enforces it, if any.
    pub(crate) backend: Option<Backend>,
    pub(crate) reach: Reach,
    /// What the back end cannot enforce, for people.
    pub(crate) gaps: Vec<String>,
}

impl Containment {
    /// Decides the containment. `may_write` says whether any tool of the agent may write.
    ///
    /// # Errors
    /// `UNENFORCEABLE` if this machine has no back end and the payload, its profile or the operator requested one.
    pub(crate) fn decide(
        config: &SandboxConfig,
        origin: Origin,
        policy: &PolicyConfig,
        requested: &Permissions,
        may_write: bool,
        found: &ProbeReport,
    ) -> Result<(Self, Vec<CompatibilityWarning>), ApiError> {
        let mode = requested.sandbox_mode.unwrap_or(if may_write { config.mode } else { without_writing(config.mode) });
        // A list of allowed hosts excludes all others.
        let unbounded = mode == SandboxMode::FullAccess && requested.allow_hosts.is_empty();
        let open = requested.network_access.unwrap_or(unbounded);
        let reach = if open { Reach::Open } else { Reach::Listed };
        let wanted = Self { mode, backend: found.backend, reach, gaps: found.gaps.clone() };
        if found.backend.is_some() || (mode == SandboxMode::FullAccess && open) {
            return Ok((wanted, Vec::new()));
        }
        let by_payload = requested.sandbox_mode.is_some_and(|mode| mode != SandboxMode::FullAccess);
        let closed = requested.network_access == Some(false) || !requested.allow_hosts.is_empty();
        let mut unenforced = Vec::new();
        let bounded = mode != SandboxMode::FullAccess;
        if bounded && (by_payload || origin != Origin::Default || config.require) && !policy.allows_unenforced(MODE) {
            unenforced.push(MODE);
        }
        if closed && !policy.allows_unenforced(NETWORK) {
            unenforced.push(NETWORK);
        }
        let reason = why(found);
        if !unenforced.is_empty() {
            return Err(unenforceable(&unenforced, &reason));
        }
        let pointer = if closed && !by_payload { NETWORK } else { MODE };
        let warning = CompatibilityWarning {
            pointer: pointer.to_owned(),
            reason: format!("the run is not contained: {reason}. {REMEDY}"),
        };
        let bare = Self { mode: SandboxMode::FullAccess, backend: None, reach: Reach::Open, gaps: Vec::new() };
        Ok((bare, vec![warning]))
    }

    /// Pointers of the payload that the host itself enforces.
    pub(crate) fn enforced(&self) -> &'static [&'static str] {
        if self.backend.is_some() { &[MODE, NETWORK, ALLOW_HOSTS] } else { &[] }
    }

    /// Whether the host limits the files that the run may change, and its network.
    pub(crate) fn holds(&self) -> (bool, bool) {
        (self.bounds_files(), self.backend.is_some() && self.reach == Reach::Listed)
    }

    /// Whether the host limits the files that the run may change. Then the CLI's own sandbox cannot start, and is not needed.
    pub(crate) fn bounds_files(&self) -> bool {
        self.backend.is_some() && self.mode != SandboxMode::FullAccess
    }

    /// The value of `host-facts.extra` for a provider plugin.
    pub(crate) fn facts(&self, trusted_settings: bool) -> HostContainment {
        let (sandboxed, network) = self.holds();
        HostContainment { sandboxed, network, trusted_settings }
    }

    /// The containment as it is recorded.
    pub(crate) fn record(&self) -> SandboxRecord {
        let egress = match (self.backend, self.reach) {
            (Some(_), Reach::Listed) => Egress::AllowList,
            _ => Egress::Open,
        };
        SandboxRecord { mode: self.mode, backend: self.backend, egress, gaps: self.gaps.clone() }
    }
}

/// The mode of an agent without tools that write.
const fn without_writing(mode: SandboxMode) -> SandboxMode {
    match mode {
        SandboxMode::ReadOnly | SandboxMode::WorkspaceWrite => SandboxMode::ReadOnly,
        SandboxMode::FullAccess => SandboxMode::FullAccess,
    }
}

/// What an operator can do on a machine without a back end.
pub(crate) const REMEDY: &str = "Let ordinary users make user namespaces (on Ubuntu 24.04 and later: an AppArmor profile \
    with `userns,` for ostler, or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`), install bubblewrap where the system lets that program make them, \
    or use a kernel with Landlock";

/// Why there is no back end.
pub(super) fn why(found: &ProbeReport) -> String {
    if found.refused.is_empty() {
        return "[sandbox] backends is empty".to_owned();
    }
    let reasons: Vec<String> = found.refused.iter().map(ToString::to_string).collect();
    format!("this machine cannot enforce a sandbox ({})", reasons.join("; "))
}

fn unenforceable(unenforced: &[&str], reason: &str) -> ApiError {
    let mut error = ApiError::new(ErrorKind::Unenforceable, reason.to_owned());
    error.pointer = unenforced.first().map(|pointer| (*pointer).to_owned());
    error.problems = unenforced
        .iter()
        .map(|pointer| Problem { pointer: (*pointer).to_owned(), message: "cannot be enforced here".to_owned() })
        .collect();
    error.hint(format!("{REMEDY}; or ask for full-access, or name the pointer in [policy] allow_unenforced"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use ostler_runner::RefusedBackend;

    fn found(backend: Option<Backend>) -> ProbeReport {
        let refused = match backend {
            Some(_) => Vec::new(),
            None => vec![RefusedBackend { backend: Backend::Namespaces, reason: "refused".to_owned() }],
        };
        ProbeReport { backend, refused, gaps: Vec::new() }
    }

    fn setting(mode: SandboxMode) -> SandboxConfig {
        SandboxConfig { mode, ..SandboxConfig::default() }
    }

    fn decide(
        config: &SandboxConfig,
        origin: Origin,
        requested: &Permissions,
        backend: Option<Backend>,
    ) -> Result<(Containment, Vec<CompatibilityWarning>), ApiError> {
        Containment::decide(config, origin, &PolicyConfig::default(), requested, true, &found(backend))
    }

    fn asked(mode: Option<SandboxMode>, network: Option<bool>) -> Permissions {
        Permissions { sandbox_mode: mode, network_access: network, ..Permissions::default() }
    }

    #[test]
    fn payload_overrides_the_setting_and_network_follows_the_mode() {
        use SandboxMode::{FullAccess, ReadOnly, WorkspaceWrite};
        let backend = Some(Backend::Namespaces);
        let config = setting(WorkspaceWrite);
        for (mode, network, expected) in [
            (None, None, (WorkspaceWrite, Reach::Listed)),
            (None, Some(true), (WorkspaceWrite, Reach::Open)),
            (Some(ReadOnly), None, (ReadOnly, Reach::Listed)),
            (Some(FullAccess), None, (FullAccess, Reach::Open)),
            (Some(FullAccess), Some(false), (FullAccess, Reach::Listed)),
        ] {
            let (found, warnings) = decide(&config, Origin::Default, &asked(mode, network), backend).unwrap();
            assert_eq!((found.mode, found.reach), expected);
            assert!(warnings.is_empty());
        }
    }

    #[test]
    fn agent_without_tools_that_write_gets_read_only_by_default() {
        let report = found(Some(Backend::Namespaces));
        let decide = |mode, requested: &Permissions| {
            let config = setting(mode);
            Containment::decide(&config, Origin::Default, &PolicyConfig::default(), requested, false, &report)
                .unwrap()
                .0
                .mode
        };
        use SandboxMode::{FullAccess, ReadOnly, WorkspaceWrite};
        assert_eq!(decide(WorkspaceWrite, &asked(None, None)), ReadOnly);
        assert_eq!(decide(FullAccess, &asked(None, None)), FullAccess);
        assert_eq!(decide(ReadOnly, &asked(Some(WorkspaceWrite), None)), WorkspaceWrite);
    }

    #[test]
    fn machine_without_back_end_refuses_requested_containment() {
        let config = setting(SandboxMode::WorkspaceWrite);
        for (origin, asked) in [
            (Origin::Default, asked(Some(SandboxMode::ReadOnly), None)),
            (Origin::Default, asked(None, Some(false))),
            (Origin::Default, asked(Some(SandboxMode::FullAccess), Some(false))),
            (Origin::File, asked(None, None)),
        ] {
            let error = decide(&config, origin, &asked, None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unenforceable);
            assert!(error.hint.unwrap().contains("user namespaces"));
        }
        let require = SandboxConfig { require: true, ..config };
        assert!(decide(&require, Origin::Default, &asked(None, None), None).is_err());
    }

    #[test]
    fn machine_without_back_end_drops_the_default_with_a_warning() {
        let config = setting(SandboxMode::WorkspaceWrite);
        let (found, warnings) = decide(&config, Origin::Default, &asked(None, None), None).unwrap();
        assert_eq!((found.mode, found.backend, found.reach), (SandboxMode::FullAccess, None, Reach::Open));
        assert!(warnings[0].reason.contains("AppArmor"), "{warnings:?}");
        assert_eq!(found.record().backend, None);
    }

    #[test]
    fn operator_may_allow_unenforced_containment() {
        let policy =
            PolicyConfig { allow_unenforced: vec!["/harness/permissions".to_owned()], ..PolicyConfig::default() };
        let asked = asked(Some(SandboxMode::ReadOnly), Some(false));
        let config = setting(SandboxMode::WorkspaceWrite);
        let (found, warnings) =
            Containment::decide(&config, Origin::Default, &policy, &asked, true, &found(None)).unwrap();
        assert_eq!((found.backend, warnings.len()), (None, 1));
    }
}
