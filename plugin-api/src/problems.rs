//! Collecting all problems and all dropped options of a request.

use crate::provider::DroppedOption;
use crate::types::{Error, Problem};

/// Collects the problems of a document, so that all are reported at once.
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
    /// Adds a problem with the value at a JSON Pointer. An empty pointer means the whole document.
    pub fn push(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { pointer: pointer.into(), message: message.into() });
    }

    /// Whether there are no problems.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Succeeds if there are no problems.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all problems.
    pub fn into_result(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

/// Collects the harness options that a launch cannot apply, for `Launch::dropped`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct DroppedOptions(Vec<DroppedOption>);

impl DroppedOptions {
    /// Adds an option that does not restrict the agent.
    pub fn convenience(&mut self, pointer: impl Into<String>, reason: impl Into<String>) {
        self.0.push(DroppedOption { pointer: pointer.into(), reason: reason.into(), restricts: false });
    }

    /// Adds an option that restricts the agent. The host refuses the run, unless its configuration allows it.
    pub fn restriction(&mut self, pointer: impl Into<String>, reason: impl Into<String>) {
        self.0.push(DroppedOption { pointer: pointer.into(), reason: reason.into(), restricts: true });
    }

    /// The list for `Launch::dropped`, in the order in which they were added.
    #[must_use]
    pub fn into_vec(self) -> Vec<DroppedOption> {
        self.0
    }
}

/// Escapes a member name for a JSON Pointer: `~` becomes `~0` and `/` becomes `~1`.
///
/// ```
/// assert_eq!(ostler_plugin::escape_pointer("a/b~c"), "a~1b~0c");
/// ```
#[must_use]
pub fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
