//! What a script does: its simple commands, wherever they are, with the files and hosts that they name.
//!
//! The script is parsed as bash. It is not run: of variables, only values that the script itself sets are known, and every
//! branch counts. Where it cannot be said what a command does, an [`Unclear`] says so.

mod braces;
pub(crate) mod limits;
mod state;
mod walk;
pub(crate) mod words;

use crate::act::Act;
use crate::paths::Workspace;
use crate::text::clean;

pub(crate) use state::{Folders, Stdin};
pub(crate) use walk::{Redirection, Walker};

/// Something about a script that cannot be determined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unclear {
    /// The script, or a part of it, is not valid bash.
    Unparsable(String),
    /// The script is too long or too complex.
    TooComplex(String),
    /// Something is run that is only known when the script runs.
    Unknown(String),
}

/// What a script does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Analysis {
    pub(crate) acts: Vec<Act>,
    pub(crate) unclear: Vec<Unclear>,
}

/// Analyzes a script that is run in a folder. Of several scripts of one use, each gets what is left of the `budget`.
pub(crate) fn analyze(script: &str, folder: &str, workspace: &Workspace, budget: &mut usize) -> Analysis {
    let mut walker = Walker::new(workspace, folder, *budget);
    walker.script(&clean(script));
    *budget = walker.budget();
    walker.into_analysis()
}
