//! What is known about a shell at a point of a script.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rable::Node;

use super::words::Values;
use crate::text::DYNAMIC;

/// Folders and values that are distinguished. With more, nothing is known.
const MAX_FOLDERS: usize = 8;
const MAX_VALUES: usize = 8;

/// The folders in which the shell may be; one that is [`DYNAMIC`] is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folders(BTreeSet<String>);

impl Folders {
    pub(crate) fn one(folder: String) -> Self {
        Self(BTreeSet::from([folder]))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn add(&mut self, others: &Self) {
        self.0.extend(others.0.iter().cloned());
        if self.0.len() > MAX_FOLDERS {
            self.0.insert(DYNAMIC.to_string());
            while self.0.len() > MAX_FOLDERS {
                self.0.pop_first();
            }
        }
    }

    pub(crate) fn insert(&mut self, folder: String) {
        self.add(&Self::one(folder));
    }
}

/// What a command reads from its standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// What the shell reads.
    Inherited,
    Text(String),
    /// The output of another command.
    Unknown,
}

/// The state of a shell.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) folders: Folders,
    /// All folders so far: `cd -` goes back.
    pub(crate) earlier: Folders,
    pub(crate) values: Values,
    pub(crate) functions: BTreeMap<String, Rc<Node>>,
    pub(crate) stdin: Stdin,
}

impl State {
    pub(crate) fn new(folder: &str) -> Self {
        let folders = Folders::one(folder.to_owned());
        let known = [("HOME", "~"), ("IFS", " \t\n"), ("TMPDIR", "/tmp"), ("PWD", ".")];
        let values = known.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        let earlier = folders.clone();
        Self { folders, earlier, values: values.into(), functions: BTreeMap::new(), stdin: Stdin::Inherited }
    }

    /// Adds a value that a variable may have. What it had before counts as well: every branch of a script does.
    pub(crate) fn assign(&mut self, name: &str, value: String) {
        let name_is_valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !name_is_valid || name.is_empty() {
            return;
        }
        let values = self.values.entry(name.to_owned()).or_default();
        if values.len() >= MAX_VALUES {
            *values = vec![DYNAMIC.to_string()];
        } else if !values.contains(&value) {
            values.push(value);
        }
    }

    pub(crate) fn enter_folder(&mut self, folders: Folders) {
        self.earlier.add(&folders);
        self.folders = folders;
    }
}
