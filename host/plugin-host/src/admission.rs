//! Which files of the plugin folder may become plugins, beyond being sound components.
//!
//! A redactor or policy runs inside the sandbox alone. A provider says which programs the host runs, with which
//! variables: nothing of a new one runs before somebody has approved its digest. And the bundled policies are what
//! everything else relies on: a file takes the place of one only where the configuration says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::error::Kind;

/// What the operator has said about plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Whether every provider of the folder counts as approved.
    pub trust_folder: bool,
    /// Digests of provider plugins that somebody has approved.
    pub approved: BTreeSet<String>,
    /// The only digest that a plugin may have, by kind and name.
    pub pins: BTreeMap<(Kind, String), String>,
    /// Bundled policies that a file may replace.
    pub replace: BTreeSet<String>,
}

/// What a file of the plugin folder held when it was last usable. A file that is damaged later is known for what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// The file.
    pub path: PathBuf,
    /// Kind of its plugin.
    pub kind: Kind,
    /// Name of its plugin.
    pub name: String,
}

/// What is to become of a sound component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    /// It waits for approval; how to give it.
    Waiting(String),
    /// Why it may not be a plugin.
    Refused(String),
    /// It would take the place of a bundled policy, which stays.
    NotReplaced(String),
}

impl Admission {
    /// What is to become of a file's plugin; `bundled` where a bundled one has its kind and name.
    pub(super) fn judge(&self, kind: Kind, name: &str, digest: &str, bundled: bool) -> Verdict {
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
        let judge = |admission: &Admission| admission.judge(Kind::Provider, "x", "aa", false);
        assert!(matches!(judge(&Admission::default()), Verdict::Waiting(how) if how.contains("trust_plugin(x)")));
        let approved = Admission { approved: ["aa".to_owned()].into(), ..Admission::default() };
        assert_eq!(judge(&approved), Verdict::Admitted);
        assert_eq!(judge(&Admission { trust_folder: true, ..Admission::default() }), Verdict::Admitted);
        let other = Admission { approved: ["bb".to_owned()].into(), ..Admission::default() };
        assert!(matches!(judge(&other), Verdict::Waiting(_)));
    }

    #[test]
    fn policies_replace_bundled_ones_only_where_the_configuration_says_so() {
        let judge = |admission: &Admission, bundled| admission.judge(Kind::Policy, "guardrails", "aa", bundled);
        let none = Admission::default();
        assert!(matches!(judge(&none, true), Verdict::NotReplaced(_)));
        assert_eq!(judge(&none, false), Verdict::Admitted);
        assert_eq!(judge(&Admission { replace: ["guardrails".to_owned()].into(), ..none }, true), Verdict::Admitted);
    }

    #[test]
    fn pinned_digests_admit_nothing_else() {
        let pins = BTreeMap::from([((Kind::Policy, "guardrails".to_owned()), "AA".to_owned())]);
        let admission = Admission { pins, replace: ["guardrails".to_owned()].into(), ..Admission::default() };
        assert_eq!(admission.judge(Kind::Policy, "guardrails", "aa", true), Verdict::Admitted);
        assert!(matches!(admission.judge(Kind::Policy, "guardrails", "bb", true), Verdict::Refused(_)));
    }
}
