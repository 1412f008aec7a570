//! Every key of every section, with its type and range.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::document::{Layer, Problems};
use super::error::ConfigError;
use super::names::{is_kebab, is_variable, is_variable_glob, is_variable_pattern};
use super::reader::{LayeredValue, Reader, Table};
use super::sources::Sources;
use super::types::{
    AllowTarget, CommandRule, Config, Executable, HttpConfig, LogLevel, PluginConfig, PluginPin, PluginTrust,
    PluginsConfig, ProviderConfig, RedactionAllow, RedactionConfig, RedactionRule, ReportedTools, RetentionConfig,
    RetentionLimits, TokenStoreChoice,
};
use ostler_protocol::{HostRule, SandboxBackend, SandboxMode, nearest};

/// Maximum compiled size of a pattern of the operator, in bytes.
const MAX_PATTERN_MEMORY: usize = 4 << 20;
/// Time limit to compile all patterns of a configuration. An ordinary pattern takes milliseconds.
const MAX_COMPILING: Duration = Duration::from_secs(5);
/// Maximum number of rules, and of exceptions, of the operator.
const MAX_REDACTION_ENTRIES: usize = 1000;
/// A hundred years.
const MAX_DAYS: i64 = 36_500;
/// A petabyte.
const MAX_MEGABYTES: i64 = 1_000_000_000;
const KEBAB_HINT: &str = "use lower-case letters and digits, with single hyphens between: codex-work";

/// Reads a configuration from its layers.
///
/// # Errors
/// All problems of all layers.
pub(super) fn read(layers: &[Layer<'_>]) -> Result<Config, Vec<ConfigError>> {
    let mut reader = Reader { problems: Problems::new(layers), set: BTreeMap::new(), compiling: Duration::ZERO };
    let mut config = Config::default();
    if let Some(tables) = reader.problems.parse() {
        file(Table::root(&tables), &mut reader, &mut config);
    }
    config.sources = Sources::new(&reader.problems, &reader.set);
    let errors = reader.problems.into_errors();
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

fn file(mut file: Table<'_, '_>, reader: &mut Reader<'_>, config: &mut Config) {
    let r = reader;
    if let Some(mut host) = file.section(r, "host") {
        host.number(r, "idle_seconds", 1..=604_800, &mut config.host.idle_seconds);
        host.finish(r);
    }
    if let Some(mut scheduler) = file.section(r, "scheduler") {
        let into = &mut config.scheduler;
        scheduler.number(r, "global", 1..=256, &mut into.global);
        scheduler.number(r, "per_provider", 1..=256, &mut into.per_provider);
        scheduler.number(r, "capacity", 1..=1_000_000, &mut into.capacity);
        scheduler.number(r, "aging_seconds", 1..=86_400, &mut into.aging_seconds);
        scheduler.flag(r, "requeue_interrupted", &mut into.requeue_interrupted);
        scheduler.finish(r);
    }
    if let Some(mut runner) = file.section(r, "runner") {
        let into = &mut config.runner;
        runner.number(r, "timeout_seconds", 5..=604_800, &mut into.timeout_seconds);
        runner.number(r, "grace_seconds", 1..=300, &mut into.grace_seconds);
        runner.number(r, "exit_grace_ms", 0..=60_000, &mut into.exit_grace_ms);
        runner.number(r, "linger_seconds", 1..=3_600, &mut into.linger_seconds);
        runner.number(r, "background_seconds", 1..=86_400, &mut into.background_seconds);
        runner.number(r, "session_idle_seconds", 5..=604_800, &mut into.session_idle_seconds);
        runner.number(r, "session_seconds", 5..=604_800, &mut into.session_seconds);
        runner.number(r, "max_line_bytes", 256..=16_777_216, &mut into.max_line_bytes);
        runner.number(r, "max_transcript_line_mib", 1..=256, &mut into.max_transcript_line_mib);
        if let Some(names) = runner.texts(r, "inherit_environment", variable_glob) {
            into.inherit_environment = names;
        }
        if let Some(mut limits) = runner.section(r, "limits") {
            let into = &mut into.limits;
            limits.number(r, "processes", 0..=4_194_304, &mut into.processes);
            limits.number(r, "memory_mib", 0..=1_048_576, &mut into.memory_mib);
            limits.number(r, "open_files", 0..=1_048_576, &mut into.open_files);
            limits.number(r, "file_size_mib", 0..=1_048_576, &mut into.file_size_mib);
            limits.finish(r);
        }
        runner.finish(r);
    }
    if let Some(mut storage) = file.section(r, "storage") {
        storage.flag(r, "raw", &mut config.storage.raw);
        storage.number(r, "max_stored_mib", 1..=1_048_576, &mut config.storage.max_stored_mib);
        if let Some(folder) = storage.text(r, "exports", absolute) {
            config.storage.exports = Some(folder);
        }
        storage.finish(r);
    }
    if let Some(section) = file.section(r, "retention") {
        retention(section, r, &mut config.retention);
    }
    if let Some(mut policy) = file.section(r, "policy") {
        policy.flag(r, "allow_advanced", &mut config.policy.allow_advanced);
        if let Some(pointers) = policy.texts(r, "allow_unenforced", harness_pointer) {
            config.policy.allow_unenforced = pointers;
        }
        if let Some(names) = policy.texts(r, "allow_environment", variable_pattern) {
            config.policy.allow_environment = names;
        }
        let rules = CommandRule::ALL.map(|rule| (rule.name(), rule));
        policy.choice(r, "mcp_commands", &rules, &mut config.policy.mcp_commands);
        policy.choice(r, "shell_preludes", &rules, &mut config.policy.shell_preludes);
        let rules = ReportedTools::ALL.map(|rule| (rule.name(), rule));
        policy.choice(r, "reported_tools", &rules, &mut config.policy.reported_tools);
        let timeout = &mut config.policy.approval_timeout_seconds;
        policy.number(r, "approval_timeout_seconds", 5..=86_400, timeout);
        policy.finish(r);
    }
    if let Some(mut sandbox) = file.section(r, "sandbox") {
        let into = &mut config.sandbox;
        let modes = [SandboxMode::ReadOnly, SandboxMode::WorkspaceWrite, SandboxMode::FullAccess];
        sandbox.choice(r, "mode", &modes.map(|mode| (mode.as_str(), mode)), &mut into.mode);
        sandbox.flag(r, "require", &mut into.require);
        if let Some(names) = sandbox.texts(r, "backends", backend) {
            into.backends = SandboxBackend::ALL
                .into_iter()
                .filter(|backend| names.iter().any(|name| name == backend.as_str()))
                .collect();
            into.backends.sort_by_key(|backend| names.iter().position(|name| name == backend.as_str()));
        }
        for (key, list) in [("hide", &mut into.hide), ("read", &mut into.read), ("write", &mut into.write)] {
            if let Some(paths) = sandbox.texts(r, key, sandbox_path) {
                *list = paths;
            }
        }
        if let Some(paths) = sandbox.texts(r, "protect", protected_path) {
            into.protect = paths;
        }
        sandbox.flag(r, "ssh_agent", &mut into.ssh_agent);
        sandbox.flag(r, "gpg_agent", &mut into.gpg_agent);
        sandbox.flag(r, "dbus", &mut into.dbus);
        if let Some(hosts) = sandbox.texts(r, "allow_hosts", host_rule) {
            into.allow_hosts = hosts;
        }
        sandbox.finish(r);
    }
    if let Some(section) = file.section(r, "redaction") {
        redaction(section, r, &mut config.redaction);
    }
    if let Some(section) = file.section(r, "plugins") {
        plugins(section, r, &mut config.plugins);
    }
    for (name, found) in file.named(r, "providers") {
        if let Some(provider) = provider(name, &found, r) {
            config.providers.insert(name.to_owned(), provider);
        }
    }
    if let Some(section) = file.section(r, "http") {
        http(section, r, &mut config.http);
    }
    if let Some(mut tokens) = file.section(r, "tokens") {
        let stores = TokenStoreChoice::ALL.map(|store| (store.name(), store));
        tokens.choice(r, "store", &stores, &mut config.tokens.store);
        tokens.finish(r);
    }
    if let Some(mut log) = file.section(r, "log") {
        let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
        log.choice(r, "level", &levels.map(|level| (level.name(), level)), &mut config.log.level);
        log.number(r, "keep_files", 1..=1000, &mut config.log.keep_files);
        log.finish(r);
    }
    file.finish(r);
}

fn http(mut section: Table<'_, '_>, r: &mut Reader<'_>, into: &mut HttpConfig) {
    section.flag(r, "allow_remote", &mut into.allow_remote);
    let remote = into.allow_remote;
    let listen = section.text(r, "listen", |text, found, r| {
        let Ok(address) = text.parse::<SocketAddr>() else {
            let hint = "an address and a port: \"127.0.0.1:7787\"; port 0 takes a free one".to_owned();
            found.refuse(r, "not an address to listen on", Some(hint));
            return None;
        };
        if !address.ip().is_loopback() && !remote {
            let hint = "use 127.0.0.1 or [::1], or set allow_remote = true: the traffic is not encrypted".to_owned();
            found.refuse(r, "other machines could reach this address", Some(hint));
            return None;
        }
        Some(address)
    });
    if listen.is_some() {
        into.listen = listen;
    }
    let host = |text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>| {
        if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'/' | b'*' | b'@')) {
            found.refuse(r, "not a host", Some("for example \"ostler.example:7787\"".to_owned()));
        }
    };
    if let Some(hosts) = section.texts(r, "allowed_hosts", host) {
        into.allowed_hosts = hosts;
    }
    let origin = |text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let whole = rest.is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'*' | b'@'))
        });
        if !whole {
            let hint = "scheme, host and port, without a path: \"http://localhost:5173\"".to_owned();
            found.refuse(r, "not an origin", Some(hint));
        }
    };
    if let Some(origins) = section.texts(r, "allowed_origins", origin) {
        into.allowed_origins = origins;
    }
    section.finish(r);
}

fn retention(mut section: Table<'_, '_>, r: &mut Reader<'_>, into: &mut RetentionConfig) {
    section.number(r, "days", 0..=MAX_DAYS, &mut into.days);
    section.number(r, "megabytes", 0..=MAX_MEGABYTES, &mut into.megabytes);
    for (name, found) in section.named(r, "providers") {
        let name = kebab(name, &found, r);
        if let (Some(name), Some(limits)) = (name, retention_limits(&found, r)) {
            into.providers.insert(name, limits);
        }
    }
    for (path, found) in section.named(r, "workspaces") {
        let path = absolute(path, &found, r);
        if let (Some(path), Some(limits)) = (path, retention_limits(&found, r))
            && into.workspaces.insert(path, limits).is_some()
        {
            found.refuse(r, "another section is about the same folder", Some("keep one of them".to_owned()));
        }
    }
    section.finish(r);
}

fn retention_limits(found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<RetentionLimits> {
    let mut table = found.table(r)?;
    let mut limits = RetentionLimits::default();
    table.optional_number(r, "days", 0..=MAX_DAYS, &mut limits.days);
    table.optional_number(r, "megabytes", 0..=MAX_MEGABYTES, &mut limits.megabytes);
    table.finish(r);
    Some(limits)
}

fn redaction(mut section: Table<'_, '_>, r: &mut Reader<'_>, into: &mut RedactionConfig) {
    if let Some(tables) = section.tables(r, "rules") {
        let mut ids = BTreeSet::new();
        let tables = bounded(tables, r);
        into.rules = tables.into_iter().filter_map(|table| rule(table, r, &mut ids)).collect();
    }
    if let Some(tables) = section.tables(r, "allow") {
        let tables = bounded(tables, r);
        into.allow = tables.into_iter().filter_map(|table| allow(table, r)).collect();
    }
    section.finish(r);
}

/// The first [`MAX_REDACTION_ENTRIES`] tables. Reports a problem if there are more.
fn bounded<'d, 't>(mut tables: Vec<Table<'d, 't>>, r: &mut Reader<'_>) -> Vec<Table<'d, 't>> {
    if let Some(extra) = tables.get(MAX_REDACTION_ENTRIES) {
        let hint = Some("join patterns that are alike, or write a redactor plugin".to_owned());
        extra.refuse(r, format!("there are more than {MAX_REDACTION_ENTRIES} entries"), hint);
        tables.truncate(MAX_REDACTION_ENTRIES);
    }
    tables
}

fn rule(mut table: Table<'_, '_>, r: &mut Reader<'_>, ids: &mut BTreeSet<String>) -> Option<RedactionRule> {
    let span = table.source_span();
    let id = table.get(r, "id");
    let pattern = table.get(r, "pattern");
    for (found, key) in [(&id, "id"), (&pattern, "pattern")] {
        if found.is_none() {
            table.missing(r, &span, key);
        }
    }
    let id = id.and_then(|found| {
        let id = kebab(found.text(r)?, &found, r)?;
        if !ids.insert(id.clone()) {
            found.refuse(r, "another rule has this id", Some("give each rule an id of its own".to_owned()));
        }
        Some(id)
    });
    let groups = pattern.as_ref().and_then(|found| compile(found.text(r)?, found, r));
    let pattern = pattern.and_then(|found| found.text(r).map(str::to_owned));
    let description = table.text(r, "description", |text, _, _| Some(text.to_owned())).unwrap_or_default();
    let last_group = groups.map_or(i64::from(u32::MAX), |count| i64::try_from(count).unwrap_or(0) - 1);
    let secret_groups = table.numbers(r, "secret_groups", 0..=last_group).unwrap_or_default();
    let keywords = table.texts(r, "keywords", |text, found, r| {
        if text.is_empty() {
            found.refuse(r, "a keyword must not be empty", None);
        }
    });
    let (mut whole_word, mut decoded, mut min_entropy, mut max_length) = (false, true, None, 1024);
    table.flag(r, "whole_word", &mut whole_word);
    table.flag(r, "decoded", &mut decoded);
    table.real(r, "min_entropy", 0.0..=8.0, &mut min_entropy);
    table.number(r, "max_length", 1..=65_536, &mut max_length);
    table.finish(r);
    Some(RedactionRule {
        id: id?,
        description,
        pattern: pattern?,
        secret_groups,
        keywords: keywords.unwrap_or_default(),
        whole_word,
        min_entropy: min_entropy.filter(|least| *least > 0.0),
        max_length,
        decoded,
    })
}

fn allow(mut table: Table<'_, '_>, r: &mut Reader<'_>) -> Option<RedactionAllow> {
    let pattern = table.get(r, "pattern");
    match &pattern {
        Some(found) => _ = found.text(r).and_then(|text| compile(text, found, r)),
        None => table.missing(r, &table.source_span(), "pattern"),
    }
    let mut target = AllowTarget::Secret;
    let targets = [("secret", AllowTarget::Secret), ("match", AllowTarget::Match), ("line", AllowTarget::Line)];
    table.choice(r, "target", &targets, &mut target);
    let rules = table.texts(r, "rules", |text, found, r| _ = kebab(text, found, r)).unwrap_or_default();
    table.finish(r);
    let pattern = pattern.and_then(|found| found.text(r).map(str::to_owned))?;
    Some(RedactionAllow { rules, target, pattern })
}

fn plugins(mut section: Table<'_, '_>, r: &mut Reader<'_>, into: &mut PluginsConfig) {
    if let Some(folder) = section.text(r, "folder", absolute) {
        into.folder = Some(folder);
    }
    section.number(r, "memory_mib", 1..=4096, &mut into.memory_mib);
    section.number(r, "call_timeout_ms", 10..=60_000, &mut into.call_timeout_ms);
    section.number(r, "max_component_mib", 1..=1024, &mut into.max_component_mib);
    for (kind, into) in [("redactor", &mut into.redactor), ("policy", &mut into.policy)] {
        for (name, found) in section.named(r, kind) {
            _ = kebab(name, &found, r);
            let Some(mut table) = found.table(r) else {
                continue;
            };
            let settings = table.settings(r, "settings").unwrap_or_default();
            let mut replace = false;
            if kind == "policy" {
                table.flag(r, "replace", &mut replace);
            }
            let sha256 = table.text(r, "sha256", digest);
            table.finish(r);
            into.insert(name.to_owned(), PluginConfig { settings, replace, sha256 });
        }
    }
    let trusts = [("approved", PluginTrust::Approved), ("folder", PluginTrust::Folder)];
    section.choice(r, "trust", &trusts, &mut into.trust);
    for (name, found) in section.named(r, "provider") {
        _ = kebab(name, &found, r);
        let Some(mut table) = found.table(r) else { continue };
        let sha256 = table.text(r, "sha256", digest);
        table.finish(r);
        into.provider.insert(name.to_owned(), PluginPin { sha256 });
    }
    section.finish(r);
}

/// A SHA-256 in hexadecimal digits.
fn digest(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if lower.len() == 64 && lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(lower);
    }
    let hint = "`list_plugins` has the digest of each plugin, `sha256sum` that of a file";
    found.refuse(r, "not a SHA-256 in 64 hexadecimal digits", Some(hint.to_owned()));
    None
}

fn provider(name: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<ProviderConfig> {
    _ = kebab(name, found, r);
    let mut table = found.table(r)?;
    let mut provider = ProviderConfig { plugin: name.to_owned(), ..ProviderConfig::default() };
    if let Some(plugin) = table.text(r, "plugin", kebab) {
        provider.plugin = plugin;
    }
    provider.executable = table.text(r, "executable", executable);
    for (name, found) in table.named(r, "environment") {
        found.set(r);
        if !is_variable(name) {
            found.refuse(r, "not a name that a variable can have", Some("use letters, digits and _".to_owned()));
        }
        let Some(value) = found.text(r) else { continue };
        if value.contains('\0') {
            found.refuse(r, "the value holds a NUL", Some("take it out: no variable can hold one".to_owned()));
        }
        provider.environment.insert(name.to_owned(), value.to_owned());
    }
    if let Some(settings) = table.settings(r, "settings") {
        provider.settings = settings;
    }
    if let Some(hosts) = table.texts(r, "allow_hosts", host_rule) {
        provider.allow_hosts = hosts;
    }
    table.optional_number(r, "concurrency", 1..=256, &mut provider.concurrency);
    table.finish(r);
    Some(provider)
}

fn backend(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    if !SandboxBackend::ALL.iter().any(|backend| backend.as_str() == text) {
        let known = SandboxBackend::ALL.map(SandboxBackend::as_str).join(", ");
        found.refuse(r, "not a sandbox back end", Some(format!("there are {known}")));
    }
}

/// A path in the settings of the sandbox.
fn sandbox_path(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    let rooted = text.starts_with('/') || text.starts_with("~/") || text.starts_with('$');
    let plain = !text.contains('\0') && text.split('/').all(|part| part != "..");
    if !rooted || !plain || text.trim_matches('/').is_empty() {
        let hint = "an absolute path, or one that begins with ~/ or $NAME/, without ..";
        found.refuse(r, "not a path for the sandbox", Some(hint.to_owned()));
    }
}

/// A path below a work folder.
fn protected_path(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    let plain = !text.contains('\0') && text.split('/').all(|part| !matches!(part, ".." | "."));
    if text.starts_with('/') || !plain || text.trim_matches('/').is_empty() {
        let hint = "a path below the work folder, for example \".git/hooks/\"";
        found.refuse(r, "not a path below a work folder", Some(hint.to_owned()));
    }
}

/// A host that runs may reach.
fn host_rule(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    if let Err(message) = HostRule::from_str(text) {
        let hint = "for example \"api.example.com\", \"*.example.com\", \"git.example.com:8443\", \"localhost:8080\"";
        found.refuse(r, message, Some(hint.to_owned()));
    }
}

/// Compiles a pattern. Returns the number of its groups, including the whole match.
fn compile(pattern: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<usize> {
    if r.compiling > MAX_COMPILING {
        let hint = "use smaller repetitions or fewer rules".to_owned();
        found.refuse(r, "the patterns before this one take too long to compile; it was not looked at", Some(hint));
        return None;
    }
    let began = Instant::now();
    let compiled = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_MEMORY).build();
    r.compiling += began.elapsed();
    match compiled {
        Ok(regex) if regex.is_match("") => {
            let hint = "write a pattern that matches at least one character".to_owned();
            found.refuse(r, "the pattern matches the empty text, so it would match everywhere", Some(hint));
            None
        }
        Ok(regex) => Some(regex.captures_len()),
        Err(error) => {
            // The crate's error shows the pattern on several lines; the last line contains the reason.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let hint = "the syntax is that of the Rust regex crate: no look-around, no back-references";
            found.refuse(r, format!("not a regular expression: {reason}"), Some(hint.to_owned()));
            None
        }
    }
}

fn kebab(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<String> {
    if is_kebab(text) {
        return Some(text.to_owned());
    }
    found.refuse(r, "not a kebab-case name of at most 64 characters", Some(KEBAB_HINT.to_owned()));
    None
}

fn variable_glob(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    if is_variable_glob(text) {
        return;
    }
    let (message, hint) = if text == "*" {
        ("the whole environment is never passed on", "name the variables that agents need")
    } else {
        ("not a name that a variable can have", "use letters, digits and _; * may stand at the end")
    };
    found.refuse(r, message, Some(hint.to_owned()));
}

fn variable_pattern(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    if is_variable_pattern(text) {
        return;
    }
    let (message, hint) = if text == "*" {
        ("a run may never set every variable", "name the variables that runs may set")
    } else {
        ("not a name that a variable can have", "use letters, digits and _; * may stand at the beginning or at the end")
    };
    found.refuse(r, message, Some(hint.to_owned()));
}

/// The options of the harness. A plugin can declare any of them as a restriction.
const HARNESS: [&str; 16] = [
    "resumeSessionId",
    "continueSession",
    "inputFormat",
    "additionalDirectories",
    "tools",
    "permissions",
    "limits",
    "mcp",
    "structuredOutput",
    "systemPrompt",
    "appendSystemPrompt",
    "images",
    "files",
    "processEnv",
    "cliAllowlist",
    "shellPrelude",
];

fn harness_pointer(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) {
    let option = text.strip_prefix("/harness/").map(|rest| rest.split('/').next().unwrap_or(rest));
    if option.is_some_and(|option| HARNESS.contains(&option)) {
        return;
    }
    let last = option.or_else(|| text.rsplit('/').next()).unwrap_or(text);
    let hint = match nearest(last, HARNESS) {
        Some(near) => format!("did you mean \"/harness/{near}\"?"),
        None => "for example \"/harness/permissions/networkAccess\"".to_owned(),
    };
    found.refuse(r, "not a JSON pointer to an option of the harness", Some(hint));
}

fn executable(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<Executable> {
    if text.contains('/') || text.is_empty() || text == "~" || text == "." || text == ".." {
        return absolute(text, found, r).map(Executable::Path);
    }
    if text.contains('\0') {
        found.refuse(r, "the name holds a NUL", None);
        return None;
    }
    Some(Executable::Name(text.to_owned()))
}

/// An absolute path; `~/` is the user's home.
fn absolute(text: &str, found: &LayeredValue<'_, '_>, r: &mut Reader<'_>) -> Option<PathBuf> {
    if text.contains('\0') {
        found.refuse(r, "the path holds a NUL", None);
        return None;
    }
    if let Some(rest) = text.strip_prefix("~/") {
        let Ok(home) = etcetera::home_dir() else {
            found.refuse(r, "there is no home folder for ~ to stand for", Some("write the whole path".to_owned()));
            return None;
        };
        return Some(home.join(rest));
    }
    if Path::new(text).is_absolute() {
        return Some(PathBuf::from(text));
    }
    found.refuse(r, "must be an absolute path, or begin with ~/", Some("write the whole path".to_owned()));
    None
}
