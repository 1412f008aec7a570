//! Names for shell completion, read from the configuration and the database without a host.

use std::collections::{BTreeMap, BTreeSet};

use ostler_cli::{LocalCommands, Nameable, Named};
use ostler_config::{Config, Paths, is_settable};
use ostler_plugin_host::{BUNDLED, Kind};
use ostler_protocol::RunStatus;
use ostler_storage::{ConversationFilter, Reader, RunFilter, StorageError};

use crate::serve::{Local, database};

/// Maximum number of runs and of conversations that are offered.
const MAX_OFFERED: u64 = 200;

/// Digits of a short id, as in tables.
const SHORT_ID: usize = 8;

/// The provider with this name is usable only if the configuration names its program.
const NEEDS_CONFIGURATION: &str = "command";

/// The names of a kind. Names that cannot be read are omitted.
pub(super) fn names(local: Local, paths: &Paths, what: Nameable) -> Vec<Named> {
    match what {
        Nameable::Runs => read(paths, runs),
        Nameable::Conversations => read(paths, conversations),
        Nameable::Profiles => read(paths, profiles),
        Nameable::AccessTokens => read(paths, access_tokens),
        Nameable::Providers => providers(local, paths),
        Nameable::Plugins => plugins(paths, |_| true).into_iter().map(|name| Named::new(name, "")).collect(),
        Nameable::Keys => keys(local, paths, |_| true),
        Nameable::SettableKeys => keys(local, paths, is_settable),
        Nameable::Sections => sections(),
    }
}

fn read(paths: &Paths, work: impl FnOnce(&Reader) -> Result<Vec<Named>, StorageError>) -> Vec<Named> {
    Reader::glance(&database(paths), work).ok().flatten().unwrap_or_default()
}

fn runs(reader: &Reader) -> Result<Vec<Named>, StorageError> {
    let page = reader.runs(&RunFilter::default(), MAX_OFFERED, 0)?;
    let named = |id: String, status: RunStatus, title: &str| with_id(id, &format!("{}: {title}", status.name()));
    let mut runs: Vec<Named> =
        page.items.into_iter().map(|run| named(run.run_id.to_string(), run.status, &run.title)).collect();
    if !runs.is_empty() {
        runs.push(Named::new("last", "the newest run"));
    }
    Ok(runs)
}

fn conversations(reader: &Reader) -> Result<Vec<Named>, StorageError> {
    let page = reader.conversations(&ConversationFilter::default(), MAX_OFFERED, 0)?;
    let conversations = page.items.into_iter().map(|found| found.conversation);
    Ok(conversations.map(|one| with_id(one.conversation_id.to_string(), &one.title.unwrap_or_default())).collect())
}

fn with_id(id: String, about: &str) -> Named {
    let short = id.get(id.len().saturating_sub(SHORT_ID)..).unwrap_or(&id).to_owned();
    Named { value: short, long: Some(id), about: about.to_owned() }
}

fn profiles(reader: &Reader) -> Result<Vec<Named>, StorageError> {
    let profiles = reader.profiles()?.into_iter();
    Ok(profiles.map(|profile| Named::new(profile.name, profile.provider)).collect())
}

fn access_tokens(reader: &Reader) -> Result<Vec<Named>, StorageError> {
    let tokens = reader.access_tokens()?.into_iter();
    Ok(tokens.map(|token| Named::new(token.name, format!("class {}", token.class.name()))).collect())
}

/// The providers of the configuration, and one for each provider plugin.
fn providers(local: Local, paths: &Paths) -> Vec<Named> {
    let config = config(local, paths);
    let configured = config.providers.iter().map(|(name, provider)| (name.clone(), provider.plugin.clone()));
    let by_plugin = plugins(paths, |kind| kind == Kind::Provider);
    let by_plugin = by_plugin.into_iter().filter(|name| name != NEEDS_CONFIGURATION);
    let mut providers: BTreeMap<String, String> = by_plugin.map(|name| (name.clone(), name)).collect();
    providers.extend(configured);
    let about = |name: &str, plugin: String| if name == plugin { String::new() } else { format!("plugin {plugin}") };
    providers.into_iter().map(|(name, plugin)| Named::new(name.clone(), about(&name, plugin))).collect()
}

/// Names of plugins: bundled ones, and those that the last host found in the plugin folder.
fn plugins(paths: &Paths, wanted: impl Fn(Kind) -> bool) -> BTreeSet<String> {
    let bundled = BUNDLED.iter().filter(|plugin| wanted(plugin.kind)).map(|plugin| plugin.name.to_owned());
    let files = Reader::glance(&database(paths), Reader::plugin_files).ok().flatten().unwrap_or_default();
    let of_kind = |kind: &str| Kind::ALL.into_iter().any(|known| known.as_str() == kind && wanted(known));
    let found = files.into_iter().filter(|(_, kind, _)| of_kind(kind)).map(|(.., name)| name);
    bundled.chain(found).collect()
}

/// Keys of the configuration with their values. Secret values are hidden.
fn keys(local: Local, paths: &Paths, wanted: impl Fn(&str) -> bool) -> Vec<Named> {
    let values = config(local, paths).shown_values();
    let values = values.into_iter().filter(|shown| wanted(&shown.pointer));
    values.map(|shown| Named::new(shown.key, shown.value.to_string())).collect()
}

/// The configuration, or the default one if it cannot be read.
fn config(local: Local, paths: &Paths) -> Config {
    local.config(paths).unwrap_or_else(|_| config_default())
}

fn config_default() -> Config {
    Config::builtin().unwrap_or_default()
}

fn sections() -> Vec<Named> {
    config_default().shown().into_iter().map(|(name, _)| Named::new(name, "")).collect()
}
