//! The variables of the host's environment that a CLI inherits.

use std::collections::BTreeSet;

use ostler_plugin::Problems;

use crate::argument::is_variable_name;

/// Variables for network access that programs on Node.js use: proxies and certificates.
pub const NETWORK: [&str; 11] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];

/// The variables that a CLI inherits: known ones, that of its token, and those of the settings. Duplicates are removed.
#[must_use]
pub fn inherited(known: &[&[&str]], token: &str, further: &[String]) -> Vec<String> {
    let mut names: Vec<String> = known.iter().copied().flatten().map(|name| (*name).to_owned()).collect();
    names.push(token.to_owned());
    names.extend(further.iter().cloned());
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Checks the settings `environment`, whose names may end with `*`, and `tokenVariable`.
pub fn check(environment: &[String], token: &str, problems: &mut Problems) {
    for (index, name) in environment.iter().enumerate() {
        if !is_variable_name(name.strip_suffix('*').unwrap_or(name)) {
            problems.push(format!("/environment/{index}"), "is not a valid variable name");
        }
    }
    if !is_variable_name(token) {
        problems.push("/tokenVariable", "is not a valid variable name");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use ostler_plugin::Error;

    use super::*;

    #[test]
    fn duplicate_variables_are_removed() {
        let further = ["B".to_owned(), "T".to_owned(), "C".to_owned()];
        assert_eq!(inherited(&[&["A", "B"], &["D"]], "T", &further), ["A", "B", "D", "T", "C"]);
    }

    #[test]
    fn invalid_variable_names_are_reported() {
        let mut problems = Problems::default();
        check(&["A_*".to_owned(), "A B".to_owned(), "*".to_owned()], "1", &mut problems);
        let Err(Error::Invalid(problems)) = problems.into_result() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/environment/1", "/environment/2", "/tokenVariable"]);
    }
}
