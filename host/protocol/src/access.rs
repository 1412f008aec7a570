//! Access classes of clients, access tokens, and actors of the audit trail.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client may do. Each class includes the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessClass {
    /// Read runs, events and the status of the host.
    Read,
    /// Start and cancel runs; manage conversations and profiles; export to the host's own folder.
    #[default]
    Run,
    /// Change the host: settings, grants, tokens, retention, plugins, exports to a path, stopping it.
    Operate,
}

impl AccessClass {
    /// Every class, the weakest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Run, Self::Operate];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Operate => "operate",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl fmt::Display for AccessClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The originator of an action, as recorded in the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The host itself: a schedule, a changed file, a signal.
    Host,
    /// A process on the unix socket.
    Unix {
        /// Its process id when it connected.
        pid: i32,
        /// Its user.
        uid: u32,
    },
    /// A client with this access token, over TCP.
    Token(String),
    /// A client over TCP whose token is missing or wrong, or an unidentified process on the unix socket.
    Unknown,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Unix { pid, uid } => write!(f, "unix pid={pid} uid={uid}"),
            Self::Token(name) => write!(f, "token {name}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// An access token for the API over TCP, without the token itself: only its digest is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessToken {
    /// Its name. `default` is the one in the file that `get_status` names.
    pub name: String,
    /// What its holder may do.
    #[serde(rename = "accessClass")]
    pub class: AccessClass,
    /// When it was created; for `default`, when the host started to listen.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it expires. Without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, with a delay of at most a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_used_at: Option<Timestamp>,
    /// Whether it can be used now.
    pub valid: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_includes_the_previous_ones() {
        assert!(AccessClass::Read < AccessClass::Run && AccessClass::Run < AccessClass::Operate);
        for class in AccessClass::ALL {
            assert_eq!(AccessClass::from_name(class.name()), Some(class));
        }
        assert_eq!(AccessClass::from_name("admin"), None);
    }
}
