//! Which variables of the host's environment a CLI gets.

use std::collections::BTreeSet;

use ostler_plugin::Problems;

use crate::argument::is_variable_name;

/// What programs on node read to find their way through a network: proxies and certificates.
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

/// The variables that a CLI inherits: those that it is known to read, the one of its token, and those that the settings
/// add. Each stands there once.
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
            problems.push(format!("/environment/{index}"), "is not the name of a variable");
        }
    }
    if !is_variable_name(token) {
        problems.push("/tokenVariable", "is not the name of a variable");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use ostler_plugin::Error;

    use super::*;

    #[test]
    fn each_variable_stands_there_once() {
        let further = ["B".to_owned(), "T".to_owned(), "C".to_owned()];
        assert_eq!(inherited(&[&["A", "B"], &["D"]], "T", &further), ["A", "B", "D", "T", "C"]);
    }

    #[test]
    fn names_that_no_variable_has() {
        let mut problems = Problems::default();
        check(&["A_*".to_owned(), "A B".to_owned(), "*".to_owned()], "1", &mut problems);
        let Err(Error::Invalid(problems)) = problems.into_result() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/environment/1", "/environment/2", "/tokenVariable"]);
    }
}
