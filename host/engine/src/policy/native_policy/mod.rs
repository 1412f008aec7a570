//! The host's own checks of a run, independent of policy plugins: variables and commands of a request must not turn the
//! verified program into another one, and must not send a stored token elsewhere.
//!
//! Pure functions: the same input gives the same findings. The findings are evaluated and recorded together with those of
//! the policies, when a run is submitted and again before its child is started.

mod commands;
mod names;
mod variables;

use std::collections::BTreeMap;

use ostler_config::PolicyConfig;
use ostler_plugin_host::Containment;
use ostler_protocol::{Finding, StartPayload, Verdict};

pub(crate) use self::variables::launch_variables;

/// The policy name of the host's own findings in records and errors.
pub(crate) const POLICY: &str = "host";

/// The inputs of the checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NativeChecks<'a> {
    pub(crate) policy: &'a PolicyConfig,
    /// The declarations of the provider's plugin about its variables.
    pub(crate) needs: &'a Containment,
    pub(crate) payload: &'a StartPayload,
    /// Whether the host contains the child, and with it commands that run outside of the CLI's own sandbox.
    pub(crate) contained: bool,
    /// For a run that gets a stored token; `None` for other runs.
    pub(crate) token: Option<TokenChecks<'a>>,
}

/// The sources of the variables of a run with a stored token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenChecks<'a> {
    /// Name of the provider instance.
    pub(crate) provider: &'a str,
    /// What the caller sent.
    pub(crate) caller: Option<&'a BTreeMap<String, String>>,
    /// The host's own environment. A caller's variable with the same value changes nothing.
    pub(crate) host: &'a BTreeMap<String, String>,
    /// Names that the CLI takes from the caller.
    pub(crate) inherit: &'a [String],
    /// The variables of the provider instance; they override what the caller sent.
    pub(crate) configured: &'a BTreeMap<String, String>,
}

impl NativeChecks<'_> {
    /// All findings.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        variables::check(self, &mut findings);
        commands::check(self, &mut findings);
        findings
    }
}

/// A denial of the host.
pub(crate) fn deny(check: &str, pointer: String, message: String, hint: &str) -> Finding {
    Finding {
        policy: POLICY.to_owned(),
        digest: String::new(),
        check: check.to_owned(),
        verdict: Verdict::Deny,
        pointer: Some(pointer),
        message,
        hint: Some(hint.to_owned()),
    }
}
