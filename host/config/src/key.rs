//! Paths of values in a configuration, and their spelling in the file and in the API.

use super::names::written;
use ostler_protocol::escape_pointer;

/// The spelling of the keys of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As in the file: `per_provider`.
    File,
    /// As in the API: `perProvider`.
    Wire,
}

impl Spelling {
    /// Writes a key of the configuration in this spelling.
    pub(super) fn write(self, key: &'static str) -> String {
        match self {
            Self::File => key.to_owned(),
            Self::Wire => camel(key),
        }
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A key of the configuration, as in the file.
    Key(&'static str),
    /// A free name: of a provider, a variable, or a member of a plugin's settings. It has the same spelling everywhere.
    Name(String),
    /// An element of a list.
    Index(usize),
}

/// The path from the root of the configuration to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Step>);

impl KeyPath {
    pub(super) const fn root() -> Self {
        Self(Vec::new())
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }

    pub(super) fn key(&self, key: &'static str) -> Self {
        self.with(Step::Key(key))
    }

    pub(super) fn name(&self, name: &str) -> Self {
        self.with(Step::Name(name.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// In dotted form: `providers.codex-work.environment.CODEX_HOME`, `redaction.rules[0].id`.
    pub(super) fn dotted(&self, spelling: Spelling) -> String {
        let mut text = String::new();
        for step in &self.0 {
            let name = match step {
                Step::Index(index) => {
                    text.push_str(&format!("[{index}]"));
                    continue;
                }
                Step::Key(key) => spelling.write(key),
                Step::Name(name) => written(name),
            };
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&name);
        }
        text
    }

    /// As a JSON pointer into the document of the API: `/providers/codex-work/environment/CODEX_HOME`.
    pub(super) fn pointer(&self) -> String {
        self.0.iter().fold(String::new(), |mut pointer, step| {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&camel(key)),
                Step::Name(name) => pointer.push_str(&escape_pointer(name)),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
            pointer
        })
    }
}

/// `per_provider` as `perProvider`.
pub(super) fn camel(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut upper = false;
    for character in key.chars() {
        match character {
            '_' => upper = true,
            _ if upper => {
                out.push(character.to_ascii_uppercase());
                upper = false;
            }
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_paths_in_both_spellings() {
        let rule = KeyPath::root().key("redaction").key("rules").index(2).key("whole_word");
        assert_eq!(rule.dotted(Spelling::File), "redaction.rules[2].whole_word");
        assert_eq!(rule.dotted(Spelling::Wire), "redaction.rules[2].wholeWord");
        assert_eq!(rule.pointer(), "/redaction/rules/2/wholeWord");
        let odd = KeyPath::root().key("retention").name("~/my_dir").key("max_days");
        assert_eq!(odd.dotted(Spelling::File), "retention.\"~/my_dir\".max_days");
        assert_eq!(odd.pointer(), "/retention/~0~1my_dir/maxDays");
    }
}
