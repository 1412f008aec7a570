//! The settings, and how rules are made of them.

use ostler_plugin::vocabulary::tools;
use ostler_plugin::{Error, Problems};
use serde::Deserialize;

use crate::act::Access;
use crate::defaults::CHECKS;
use crate::glob::Glob;
use crate::paths::Place;
use crate::pattern::Pattern;
use crate::rule::{Decision, FileCondition, Rule, ToolCondition};

/// `[plugins.policy.tools.settings]`. Without any, the policy is inactive.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether the built-in rules apply; they do unless this is false.
    defaults: Option<bool>,
    /// Built-in checks that do not apply.
    disabled_checks: Option<Vec<String>>,
    rules: Option<Vec<RuleSettings>>,
    /// What no rule matches.
    otherwise: Option<Decision>,
    /// Commands that cannot be judged.
    unclear: Option<Decision>,
    workspace: Option<Extent>,
}

/// What counts as the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Extent {
    Grant,
    Folder,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSettings {
    name: String,
    decision: Decision,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    mcp: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    except_paths: Vec<String>,
    #[serde(default)]
    access: Vec<Access>,
    #[serde(default)]
    places: Vec<PlaceSetting>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    network: bool,
    message: Option<String>,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceSetting {
    Inside,
    Temporary,
    Outside,
}

/// The settings, compiled.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Rules of the settings.
    pub(crate) own: Vec<Rule>,
    /// Whether the built-in rules apply, and which checks of them do not.
    pub(crate) built_in: bool,
    pub(crate) disabled: Vec<String>,
    pub(crate) otherwise: Decision,
    pub(crate) unclear: Decision,
    pub(crate) grant_counts: bool,
}

impl Settings {
    /// Whether anything is set.
    pub(crate) fn is_active(&self) -> bool {
        let Self { defaults, disabled_checks, rules, otherwise, unclear, workspace } = self;
        defaults.is_some()
            || disabled_checks.is_some()
            || rules.is_some()
            || otherwise.is_some()
            || unclear.is_some()
            || workspace.is_some()
    }

    /// # Errors
    /// Every problem, with its pointer.
    pub(crate) fn compile(self) -> Result<Compiled, Error> {
        let mut problems = Problems::default();
        let disabled = self.disabled_checks.unwrap_or_default();
        for (index, check) in disabled.iter().enumerate() {
            if !CHECKS.contains(&check.as_str()) {
                let message = format!("there is no built-in check `{check}`{}", suggestion(check, CHECKS));
                problems.push(format!("/disabledChecks/{index}"), message);
            }
        }
        let rules = self.rules.unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            if let Some(first) = rules[..index].iter().position(|other| other.name == rule.name) {
                let message = format!("the rule /rules/{first} has the same name `{}`", rule.name);
                problems.push(format!("/rules/{index}/name"), message);
            }
        }
        let own =
            rules.into_iter().enumerate().map(|(index, rule)| rule.compile(&format!("/rules/{index}"), &mut problems));
        let own = own.collect();
        problems.into_result()?;
        Ok(Compiled {
            own,
            built_in: self.defaults.unwrap_or(true),
            disabled,
            otherwise: self.otherwise.unwrap_or(Decision::Allow),
            unclear: self.unclear.unwrap_or(Decision::Ask),
            grant_counts: self.workspace != Some(Extent::Folder),
        })
    }
}

impl RuleSettings {
    fn compile(self, pointer: &str, problems: &mut Problems) -> Rule {
        for (index, kind) in self.kinds.iter().enumerate() {
            if !kind.contains(['*', '?', '[', '\\']) && !tools::ALL.contains(&kind.as_str()) {
                let message = format!("there is no kind of tool `{kind}`{}", suggestion(kind, tools::ALL));
                problems.push(format!("{pointer}/kinds/{index}"), message);
            }
        }
        for (index, server) in self.mcp.iter().enumerate().filter(|(_, tool)| !tool.contains('/')) {
            let message = format!("must be `SERVER/TOOL`; every tool of the server is `{server}/*`");
            problems.push(format!("{pointer}/mcp/{index}"), message);
        }
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.contains(['/', ':'])) {
            let name = crate::command::host_of(host).unwrap_or_else(|| "example.com".to_owned());
            let message = format!("must be the name of a host without scheme, port and path, such as `{name}`");
            problems.push(format!("{pointer}/hosts/{index}"), message);
        }
        let mut globs = |member: &str, texts: &[String]| {
            let compiled = texts.iter().enumerate().filter_map(|(index, text)| {
                Glob::new(text).map_err(|message| problems.push(format!("{pointer}/{member}/{index}"), message)).ok()
            });
            compiled.collect::<Vec<_>>()
        };
        let tools = ToolCondition {
            kinds: globs("kinds", &self.kinds),
            names: globs("tools", &self.tools),
            mcp: globs("mcp", &self.mcp),
        };
        let hosts: Vec<String> = self.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let hosts = globs("hosts", &hosts);
        let paths: Vec<String> = self.paths.iter().map(|path| plain(path)).collect();
        let except: Vec<String> = self.except_paths.iter().map(|path| plain(path)).collect();
        let files = FileCondition {
            paths: globs("paths", &paths),
            except: globs("exceptPaths", &except),
            access: self.access,
            places: self
                .places
                .iter()
                .map(|place| match place {
                    PlaceSetting::Inside => Place::Inside,
                    PlaceSetting::Temporary => Place::Temporary,
                    PlaceSetting::Outside => Place::Outside,
                })
                .collect(),
        };
        let mut commands = Vec::new();
        for (index, text) in self.commands.iter().enumerate() {
            match Pattern::new(text) {
                Ok(pattern) => commands.push(pattern),
                Err(message) => problems.push(format!("{pointer}/commands/{index}"), message),
            }
        }
        let has_files = !(paths.is_empty() && except.is_empty() && files.access.is_empty() && files.places.is_empty());
        let has_condition =
            has_files || self.network || !tools.is_empty() || !self.commands.is_empty() || !self.hosts.is_empty();
        if !has_condition {
            let message = "has no condition and would match every tool use; \
                           use `kinds = [\"*\"]` if it is meant to, or the setting `otherwise`";
            problems.push(pointer, message);
        }
        Rule {
            check: format!("rule:{}", self.name),
            decision: self.decision,
            tools,
            commands,
            files: has_files.then_some(files),
            hosts,
            network: self.network,
            certain: false,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// A glob of a path without `./`.
fn plain(path: &str) -> String {
    path.strip_prefix("./").unwrap_or(path).to_owned()
}

/// The most similar of the words, as a question.
fn suggestion(word: &str, words: &[&str]) -> String {
    let similar = words.iter().map(|other| (strsim::jaro_winkler(word, other), *other));
    let best = similar.filter(|(similarity, _)| *similarity > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((_, other)) => format!("; did you mean `{other}`?"),
        None => format!("; use one of {}", words.join(", ")),
    }
}

/// JSON Schema of [`Settings`].
pub(crate) const SCHEMA: &str = include_str!("settings.schema.json");
