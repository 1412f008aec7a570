//! What a tool use does, in terms of the rules.

use crate::glob::Match;
use crate::paths::Place;

/// One thing that a tool use does: a simple command of a script, or what the tool itself does with files and hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Act {
    pub(crate) command: Option<Command>,
    pub(crate) paths: Vec<PathUse>,
    pub(crate) hosts: Vec<String>,
    /// Whether it uses the network, as far as that is known.
    pub(crate) network: bool,
}

/// A simple command.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Command {
    /// Name of the program without its folder.
    pub(crate) program: String,
    /// Whether the program is certainly the one that is usually meant by this name: it is named without a folder or in a
    /// folder of the system, and no variable is set that could make it another one.
    pub(crate) is_usual: bool,
    /// `-f` and `--force`, each option by itself.
    pub(crate) options: Vec<Opt>,
    /// What is not an option.
    pub(crate) operands: Vec<Operand>,
}

/// An option of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opt {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// An argument that is not an option.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    pub(crate) text: String,
    /// Whether it may be the value of the option before it.
    pub(crate) may_be_value: bool,
}

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    Read,
    Write,
    Delete,
}

impl Access {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Delete => "deletes",
        }
    }
}

/// The use of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathUse {
    /// As it was given.
    pub(crate) text: String,
    pub(crate) access: Access,
    /// All paths that it may be, each in every form in which a glob can name it.
    pub(crate) forms: Vec<Vec<String>>,
    pub(crate) place: Place,
    /// Whether the shell opens it for the command.
    pub(crate) is_redirected: bool,
    /// The pointer into the tool use.
    pub(crate) pointer: Option<String>,
}

impl Command {
    /// An option that has one of these names.
    pub(crate) fn option(&self, names: &[&str]) -> Option<&Opt> {
        self.options.iter().find(|option| names.contains(&option.name.as_str()))
    }
}

impl PathUse {
    /// Whether the path is at this place.
    pub(crate) fn is_at(&self, place: Place) -> Match {
        if self.place == place {
            Match::Yes
        } else if self.place == Place::Unknown {
            Match::Maybe
        } else {
            Match::No
        }
    }
}
