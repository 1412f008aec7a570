//! The clients that send messages and answer approvals.

use super::clean;

/// Whether an actor is this process.
pub(super) fn is_own(actor: &str) -> bool {
    has(actor, &format!("pid={}", std::process::id()))
}

/// The name of an actor. A client of the same user is another terminal or program.
pub(super) fn name(actor: &str) -> String {
    if has(actor, &format!("uid={}", nix::unistd::getuid())) {
        return "another client".to_owned();
    }
    clean::line(actor)
}

/// Whether an actor on the unix socket has this property: `unix pid=… uid=…`.
fn has(actor: &str, property: &str) -> bool {
    actor.starts_with("unix ") && actor.split_whitespace().any(|part| part == property)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_own_process_and_own_user() {
        let (own, user) = (std::process::id(), nix::unistd::getuid());
        assert!(is_own(&format!("unix pid={own} uid={user}")));
        assert!(!is_own(&format!("unix pid={own}1 uid={user}")));
        assert!(!is_own(&format!("token pid={own}")));
        assert_eq!(name(&format!("unix pid=1 uid={user}")), "another client");
        assert_eq!(name(&format!("unix pid=1 uid={user}1")), format!("unix pid=1 uid={user}1"));
        assert_eq!(name("token phone"), "token phone");
    }
}
