//! Rules, compiled.

use crate::act::{Access, Act, PathUse};
use crate::glob::{Glob, Match};
use crate::paths::Place;
use crate::pattern::Pattern;
use crate::text::DYNAMIC;

/// What is decided about a tool use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    Allow,
    Ask,
    Deny,
}

/// A rule. Every condition that it has must hold; of each list, one entry.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The name of the check in its findings.
    pub(crate) check: String,
    pub(crate) decision: Decision,
    pub(crate) tools: ToolCondition,
    pub(crate) commands: Vec<Pattern>,
    pub(crate) files: Option<FileCondition>,
    pub(crate) hosts: Vec<Glob>,
    pub(crate) network: bool,
    /// Whether what only might match does not.
    pub(crate) certain: bool,
    /// Why, for the message.
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
}

/// The tool.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolCondition {
    pub(crate) kinds: Vec<Glob>,
    pub(crate) names: Vec<Glob>,
    /// `SERVER/TOOL`.
    pub(crate) mcp: Vec<Glob>,
}

/// The files. Of a rule that allows, every file of a command must match; of others, one.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileCondition {
    /// Any path if empty.
    pub(crate) paths: Vec<Glob>,
    pub(crate) except: Vec<Glob>,
    /// Any access if empty.
    pub(crate) access: Vec<Access>,
    /// Any place if empty.
    pub(crate) places: Vec<Place>,
}

/// The tool of a use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool<'c> {
    pub(crate) kind: &'c str,
    pub(crate) name: &'c str,
    /// `SERVER/TOOL`.
    pub(crate) mcp: Option<&'c str>,
}

/// A rule that matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) certainty: Match,
    pub(crate) pattern: Option<&'r Pattern>,
    pub(crate) path: Option<usize>,
}

impl Rule {
    pub(crate) fn matches<'r>(&'r self, tool: Tool<'_>, act: &Act) -> Option<Hit<'r>> {
        let strict = self.decision == Decision::Allow;
        let mut hit = Hit { rule: self, certainty: Match::Yes, pattern: None, path: None };
        if !self.tools.matches(tool) {
            return None;
        }
        if !self.commands.is_empty() {
            let command = act.command.as_ref()?;
            let matching = self.commands.iter().map(|pattern| (pattern.matches(command, strict), pattern));
            let (certainty, pattern) = matching.max_by_key(|(certainty, pattern)| (*certainty, pattern.detail()))?;
            hit.certainty = certainty;
            hit.pattern = Some(pattern);
        }
        if self.network && !act.network {
            return None;
        }
        if !self.hosts.is_empty() {
            let hosts =
                act.hosts.iter().map(|host| self.hosts.iter().map(|glob| glob.word(host)).max().unwrap_or(Match::No));
            let certainty = if strict { hosts.min() } else { hosts.max() };
            hit.certainty = hit.certainty.min(certainty?);
        }
        if let Some(files) = &self.files {
            let paths = act.paths.iter().map(|path| files.matches(path, strict)).enumerate();
            // Of several, the first that matches best.
            let best = paths.clone().max_by_key(|(index, certainty)| (*certainty, std::cmp::Reverse(*index)))?;
            let (index, certainty) = if strict { paths.min_by_key(|(_, certainty)| *certainty)? } else { best };
            hit.certainty = hit.certainty.min(certainty);
            hit.path = Some(index);
        }
        let enough = if strict || self.certain { Match::Yes } else { Match::Maybe };
        (hit.certainty >= enough).then_some(hit)
    }
}

impl ToolCondition {
    fn matches(&self, tool: Tool<'_>) -> bool {
        let one = |globs: &[Glob], text: Option<&str>| {
            globs.is_empty() || text.is_some_and(|text| globs.iter().any(|glob| glob.covers(text)))
        };
        one(&self.kinds, Some(tool.kind)) && one(&self.names, Some(tool.name)) && one(&self.mcp, tool.mcp)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.names.is_empty() && self.mcp.is_empty()
    }
}

impl FileCondition {
    /// `strict`: every path that it may be must match.
    fn matches(&self, path: &PathUse, strict: bool) -> Match {
        if !self.access.is_empty() && !self.access.contains(&path.access) {
            return Match::No;
        }
        let place = self.places.iter().map(|place| path.is_at(*place)).max().unwrap_or(Match::Yes);
        if place == Match::No {
            return Match::No;
        }
        // An unknown part may have a `..` in it.
        let place = if strict && path.text.contains(DYNAMIC) { place.min(Match::Maybe) } else { place };
        let glob = |globs: &[Glob], forms: &[String]| {
            globs.iter().flat_map(|glob| forms.iter().map(|form| glob.path(form))).max().unwrap_or(Match::No)
        };
        let named = path.forms.iter().map(|forms| {
            if glob(&self.except, forms) == Match::Yes {
                Match::No
            } else if self.paths.is_empty() {
                Match::Yes
            } else {
                glob(&self.paths, forms)
            }
        });
        let named = if strict { named.min() } else { named.max() };
        named.unwrap_or(Match::No).min(place)
    }
}

impl Hit<'_> {
    /// The decision. If it only might match, the user is asked instead of a denial.
    pub(crate) fn decision(&self) -> Decision {
        if self.certainty == Match::Yes { self.rule.decision } else { self.rule.decision.min(Decision::Ask) }
    }

    /// Whether this rule, which allows, is specific enough to lower a built-in rule.
    pub(crate) fn lowers(&self, built_in: &Hit<'_>) -> bool {
        if built_in.rule.files.is_some() {
            return self.rule.files.is_some();
        }
        if !built_in.rule.hosts.is_empty() {
            return !self.rule.hosts.is_empty();
        }
        match (self.pattern, built_in.pattern) {
            (Some(own), Some(built_in)) => own.detail() >= built_in.detail(),
            (None, Some(_)) => false,
            (_, None) => true,
        }
    }
}
