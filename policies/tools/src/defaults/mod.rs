//! The built-in rules.

mod destructive;
mod key_material;
mod network;
mod publishing;

use std::collections::BTreeSet;

use crate::act::Access;
use crate::glob::Glob;
use crate::paths::Place;
use crate::pattern::Pattern;
use crate::rule::{Decision, FileCondition, Rule, ToolCondition};

/// The checks of the built-in rules.
pub(crate) const CHECKS: &[&str] = &[
    "destructive-git",
    "destructive-files",
    "outside-workspace",
    "key-material",
    "publishing",
    "network",
    "privileges",
];

/// A line of the tables: what it matches, and what it says about that.
pub(super) struct BuiltIn {
    check: &'static str,
    decision: Decision,
    commands: &'static [&'static str],
    paths: &'static [&'static str],
    except: &'static [&'static str],
    access: &'static [Access],
    places: &'static [Place],
    hosts: &'static [&'static str],
    /// Only what uses the network.
    network: bool,
    /// Not what only might match.
    certain: bool,
    /// Continues `git push --force …` or `~/.ssh/id_rsa …`.
    message: &'static str,
    hint: &'static str,
}

const RULE: BuiltIn = BuiltIn {
    check: "",
    decision: Decision::Ask,
    commands: &[],
    paths: &[],
    except: &[],
    access: &[],
    places: &[],
    hosts: &[],
    network: false,
    certain: false,
    message: "",
    hint: "",
};

/// The built-in rules that can match commands of these programs. Every use of a tool has a new instance of the plugin, and
/// most rules are about programs that it does not use: only the others are compiled.
pub(crate) fn rules(programs: &BTreeSet<&str>, disabled: &[String]) -> Result<Vec<Rule>, String> {
    let tables = [destructive::RULES, key_material::RULES, network::RULES, publishing::RULES];
    let enabled = tables.into_iter().flatten().filter(|rule| !disabled.iter().any(|check| check == rule.check));
    enabled.filter_map(|rule| rule.compile(programs).transpose()).collect()
}

impl BuiltIn {
    /// None if it is about other programs.
    fn compile(&self, programs: &BTreeSet<&str>) -> Result<Option<Rule>, String> {
        let commands = self.commands.iter().filter(|text| {
            let names = text.split(' ').next().unwrap_or_default().split('|');
            names.into_iter().any(|name| {
                let (begin, open) = name.split_once(['*', '?']).map_or((name, false), |(begin, _)| (begin, true));
                programs.iter().any(|program| if open { program.starts_with(begin) } else { *program == begin })
            })
        });
        let commands = commands.map(|text| Pattern::new(text)).collect::<Result<Vec<_>, _>>()?;
        if commands.is_empty() && !self.commands.is_empty() {
            return Ok(None);
        }
        let globs = |texts: &[&str]| texts.iter().map(|text| Glob::new(text)).collect::<Result<Vec<_>, _>>();
        let has_files = !(self.paths.is_empty() && self.access.is_empty() && self.places.is_empty());
        let files = FileCondition {
            paths: globs(self.paths)?,
            except: globs(self.except)?,
            access: self.access.to_vec(),
            places: self.places.to_vec(),
        };
        Ok(Some(Rule {
            check: self.check.to_owned(),
            decision: self.decision,
            tools: ToolCondition::default(),
            commands,
            files: has_files.then_some(files),
            hosts: globs(self.hosts)?,
            network: self.network,
            certain: self.certain,
            message: Some(self.message.to_owned()),
            hint: Some(self.hint.to_owned()),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_built_in_rule_is_valid_and_explained() {
        let tables = [destructive::RULES, key_material::RULES, network::RULES, publishing::RULES];
        for rule in tables.into_iter().flatten() {
            let programs = rule.commands.iter().flat_map(|text| text.split(' ').next().unwrap_or_default().split('|'));
            let programs: Vec<String> = programs.map(|name| name.replace(['*', '?'], "x")).collect();
            let compiled = rule.compile(&programs.iter().map(String::as_str).collect()).unwrap().unwrap();
            assert_eq!(compiled.commands.len(), rule.commands.len(), "{compiled:?}");
            assert!(CHECKS.contains(&rule.check), "{compiled:?}");
            assert!(rule.decision > Decision::Allow, "{compiled:?}");
            assert!(!rule.message.is_empty() && !rule.hint.is_empty(), "{compiled:?}");
        }
        let all = rules(&BTreeSet::from(["git", "npm", "nc", "sudo", "rm"]), &[]).unwrap();
        assert!(CHECKS.iter().all(|check| all.iter().any(|rule| rule.check == *check)));
        assert!(all.len() < tables.iter().map(|table| table.len()).sum());
        let some = rules(&BTreeSet::from(["git"]), &["key-material".to_owned()]).unwrap();
        assert!(some.iter().all(|rule| rule.check != "key-material"));
    }
}
