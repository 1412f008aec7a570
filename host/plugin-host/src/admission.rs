//! Decides which valid components of the plugin folder may become plugins.
//!
//! A redactor or policy runs only inside the sandbox. A provider decides which programs the host runs, with which
//! variables: a new one does not run before its digest is approved. Everything else relies on the bundled policies: a
//! file replaces one only if the configuration permits it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::error::Kind;

/// The operator's decisions about plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Whether every provider of the folder counts as approved.
    pub trust_folder: bool,
    /// Digests of approved provider plugins.
    pub approved: BTreeSet<String>,
    /// The only digest that a plugin may have, by kind and name.
    pub pins: BTreeMap<(Kind, String), String>,
    /// Bundled policies that a file may replace.
    pub replace: BTreeSet<String>,
}

/// The plugin of a file of the plugin folder when it was last usable. It identifies a file that is damaged later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// The file.
    pub path: PathBuf,
    /// Kind of its plugin.
    pub kind: Kind,
    /// Name of its plugin.
    pub name: String,
}

/// The decision about a valid component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    /// It waits for approval. Says how to approve it.
    Waiting(String),
    /// Why it may not be a plugin.
    Refused(String),
    /// It would replace a bundled policy, which stays.
    NotReplaced(String),
}

impl Admission {
    /// Decides about a file's plugin. `bundled`: a bundled plugin has its kind and name.
    pub(super) fn check(&self, kind: Kind, name: &str, digest: &str, bundled: bool) -> Verdict {
        let pin = self.pins.get(&(kind, name.to_owned()));
        match pin {
            Some(pin) if !pin.eq_ignore_ascii_case(digest) => {
                return Verdict::Refused(format!("its SHA-256 is {digest}, and the configuration wants {pin}"));
            }
            Some(_) => return Verdict::Admitted,
            None => {}
        }
        if kind == Kind::Policy && bundled && !self.replace.contains(name) {
            return Verdict::NotReplaced(format!(
                "it has the name of the bundled policy {name}, which stays in use; to replace that, set \
                 `replace = true` or `sha256 = \"{digest}\"` in [plugins.policy.{name}]"
            ));
        }
        if kind == Kind::Provider && !self.trust_folder && !self.approved.contains(digest) {
            return Verdict::Waiting(format!(
                "it is not approved yet: `trust_plugin({name})` shows what it runs and approves it"
            ));
        }
        Verdict::Admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_wait_until_their_digest_is_approved() {
        let check = |admission: &Admission| admission.check(Kind::Provider, "x", "aa", false);
        assert!(matches!(check(&Admission::default()), Verdict::Waiting(how) if how.contains("trust_plugin(x)")));
        let approved = Admission { approved: ["aa".to_owned()].into(), ..Admission::default() };
        assert_eq!(check(&approved), Verdict::Admitted);
        assert_eq!(check(&Admission { trust_folder: true, ..Admission::default() }), Verdict::Admitted);
        let other = Admission { approved: ["bb".to_owned()].into(), ..Admission::default() };
        assert!(matches!(check(&other), Verdict::Waiting(_)));
    }

    #[test]
    fn policy_replaces_a_bundled_one_only_if_configured() {
        let check = |admission: &Admission, bundled| admission.check(Kind::Policy, "guardrails", "aa", bundled);
        let none = Admission::default();
        assert!(matches!(check(&none, true), Verdict::NotReplaced(_)));
        assert_eq!(check(&none, false), Verdict::Admitted);
        assert_eq!(check(&Admission { replace: ["guardrails".to_owned()].into(), ..none }, true), Verdict::Admitted);
    }

    #[test]
    fn pin_admits_only_its_digest() {
        let pins = BTreeMap::from([((Kind::Policy, "guardrails".to_owned()), "AA".to_owned())]);
        let admission = Admission { pins, replace: ["guardrails".to_owned()].into(), ..Admission::default() };
        assert_eq!(admission.check(Kind::Policy, "guardrails", "aa", true), Verdict::Admitted);
        assert!(matches!(admission.check(Kind::Policy, "guardrails", "bb", true), Verdict::Refused(_)));
    }
}
