//! Collecting all problems, and all dropped options, before answering.

use crate::provider::DroppedOption;
use crate::types::{Error, Problem};

/// Collects the problems of a document, so that the user hears of all at once.
///
/// ```
/// use ostler_plugin::Problems;
///
/// let mut problems = Problems::default();
/// problems.push("/model", "must not be empty");
/// assert!(problems.into_result().is_err());
/// assert!(Problems::default().into_result().is_ok());
/// ```
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem of what the JSON Pointer names; an empty pointer is the whole document.
    pub fn push(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { pointer: pointer.into(), message: message.into() });
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// [`Error::Invalid`] with all problems.
    ///
    /// # Errors
    /// If there is at least one.
    pub fn into_result(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

/// Collects the harness options that a launch cannot honour, for `Launch::dropped`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct DroppedOptions(Vec<DroppedOption>);

impl DroppedOptions {
    /// An option whose loss only makes the run less convenient or less able.
    pub fn convenience(&mut self, pointer: impl Into<String>, reason: impl Into<String>) {
        self.0.push(DroppedOption { pointer: pointer.into(), reason: reason.into(), restricts: false });
    }

    /// An option that was to restrict the agent. The host refuses the run, unless the operator has allowed it.
    pub fn restriction(&mut self, pointer: impl Into<String>, reason: impl Into<String>) {
        self.0.push(DroppedOption { pointer: pointer.into(), reason: reason.into(), restricts: true });
    }

    /// The list for `Launch::dropped`, in the order in which they were added.
    #[must_use]
    pub fn into_vec(self) -> Vec<DroppedOption> {
        self.0
    }
}

/// A member name or index as it is written in a JSON Pointer: `~` becomes `~0` and `/` becomes `~1`.
///
/// ```
/// assert_eq!(ostler_plugin::escape_pointer("a/b~c"), "a~1b~0c");
/// ```
#[must_use]
pub fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
