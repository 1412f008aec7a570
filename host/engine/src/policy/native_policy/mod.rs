//! What the host itself checks of a run, whatever policy plugins there are: that neither variables nor commands of a
//! request make another program of the one that was verified, and that a stored token goes nowhere else.
//!
//! Pure: the same input gives the same findings. The findings are judged and recorded together with those of the
//! policies, when a run is submitted and again before its child is started.

mod commands;
mod names;
mod variables;

use std::collections::BTreeMap;

use ostler_config::PolicyConfig;
use ostler_plugin_host::Containment;
use ostler_protocol::{Finding, StartPayload, Verdict};

pub(crate) use self::variables::launch_variables;

/// The name under which the host's own findings stand in records and errors.
pub(crate) const POLICY: &str = "host";

/// What the checks depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NativeChecks<'a> {
    pub(crate) policy: &'a PolicyConfig,
    /// What the provider's plugin says of its variables.
    pub(crate) needs: &'a Containment,
    pub(crate) payload: &'a StartPayload,
    /// The host contains the child: what it starts beside the CLI's own sandbox is bounded all the same.
    pub(crate) contained: bool,
    /// Of a run that gets a stored token; none for other runs.
    pub(crate) token: Option<TokenChecks<'a>>,
}

/// Where the variables of a run with a stored token come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenChecks<'a> {
    /// Name of the provider instance.
    pub(crate) provider: &'a str,
    /// What the caller sent.
    pub(crate) caller: Option<&'a BTreeMap<String, String>>,
    /// The host's own environment. A caller who has the same value moves nothing.
    pub(crate) host: &'a BTreeMap<String, String>,
    /// Names that the CLI takes from the caller.
    pub(crate) inherit: &'a [String],
    /// The variables of the provider instance; they override what the caller sent.
    pub(crate) configured: &'a BTreeMap<String, String>,
}

impl NativeChecks<'_> {
    /// Everything that is wrong.
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
