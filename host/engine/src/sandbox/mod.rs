//! The containment of runs: decided from payload, configuration and machine, and built from the declarations of the plugin.
//! The host serves the network of a run that has none of its own.

mod decide;
mod paths;
mod view;
mod worktree;

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::grants::GrantStore;
use crate::policy::policy_set::Grants;
use crate::record::Recorder;
use crate::setup::{ActiveConfig, CurrentConfig, Provider};
use crate::submit::check;
use ostler_config::{Paths, ProviderConfig, SandboxConfig};
use ostler_egress::{AllowList, Egress, EgressSink, Proxy, RuleSource, warning};
use ostler_plugin_host::Containment as Needs;
use ostler_protocol::{
    ApiError, CompatibilityWarning, ErrorKind, Network as NetworkEvent, Payload, Permissions, SandboxSupport,
    StartPayload, Tool, matches_name,
};
use ostler_runner::{Backend, FileIdentity, Network, ProbeReport, TEMPORARY_FOLDERS};
use ostler_storage::Storage;

pub(crate) use decide::{Containment, REMEDY, Reach};
pub(crate) use paths::resolve;
pub(crate) use view::{CheckedFolder, Sources, TEMPORARY};

/// The hidden verb with which this program probes a sandbox.
pub const PROBE_VERB: &str = "__sandbox_probe";

/// Time after which a back end that failed is probed again.
const RETRY: Duration = Duration::from_secs(60);

/// Maximum number of ports of this machine that one run may reach.
const MAX_FORWARDS: usize = 32;

/// The port of the proxy in a contained run, unless it is a forwarded port.
const PROXY_PORT: u16 = 61_080;

/// Variables that name a proxy, in both spellings, because programs differ.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Whether the configuration lets runs use an agent of the session.
type Allowed = fn(&SandboxConfig) -> bool;

/// Variables that name agents of the user's session, and the setting that lets runs use each of them.
const AGENTS: [(&str, Allowed); 3] = [
    ("SSH_AUTH_SOCK", |config| config.ssh_agent),
    ("GPG_AGENT_INFO", |config| config.gpg_agent),
    ("DBUS_SESSION_BUS_ADDRESS", |config| config.dbus),
];

/// The main function of a process with [`PROBE_VERB`]: probes the sandbox in which it runs.
#[must_use]
pub fn probe_sandbox(mut args: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    let done = args.next().is_some_and(|folder| ostler_runner::run_probe_child(Path::new(&folder)));
    if done { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Probes which of these back ends work on this machine.
type ProbeBackends = dyn Fn(&[Backend]) -> ProbeReport + Send + Sync;

/// Decides the containment of a run, and opens the folders in which it works.
pub struct SandboxService {
    config: CurrentConfig,
    grants: GrantStore,
    paths: Paths,
    probe: Box<ProbeBackends>,
    /// The last report, and the back ends for which it was made.
    last_probe: Mutex<Option<LastProbe>>,
    egress: Egress,
}

/// The result of the last probe.
struct LastProbe {
    wanted: Vec<Backend>,
    at: Instant,
    report: Arc<ProbeReport>,
}

impl fmt::Debug for SandboxService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxService").finish_non_exhaustive()
    }
}

impl SandboxService {
    pub(crate) fn new(config: CurrentConfig, grants: GrantStore, paths: Paths, probe: Box<ProbeBackends>) -> Self {
        Self { config, grants, paths, probe, last_probe: Mutex::default(), egress: Egress::default() }
    }

    /// The proxies of the runs.
    pub(crate) const fn egress(&self) -> &Egress {
        &self.egress
    }

    /// What this machine can enforce with the back ends that the configuration allows. The first call probes them, which
    /// takes some milliseconds.
    pub(crate) fn report(&self, active: &ActiveConfig) -> Arc<ProbeReport> {
        let wanted = &active.config.sandbox.backends;
        let mut found = self.last_probe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(LastProbe { wanted: asked, at, report }) = &*found
            && asked == wanted
            // A back end may have failed for lack of a resource, and is probed again.
            && (report.refused.is_empty() || at.elapsed() < RETRY)
        {
            return Arc::clone(report);
        }
        let report = Arc::new((self.probe)(wanted));
        for refused in &report.refused {
            tracing::warn!(
                backend = refused.backend.as_str(),
                reason = refused.reason,
                "a sandbox back end does not work"
            );
        }
        *found = Some(LastProbe { wanted: wanted.clone(), at: Instant::now(), report: Arc::clone(&report) });
        report
    }

    /// What this machine can enforce, for records.
    pub fn support(&self) -> SandboxSupport {
        let active = self.config.load();
        let report = self.report(&active);
        SandboxSupport {
            backend: report.backend,
            default_mode: active.config.sandbox.mode,
            gaps: report.gaps.clone(),
            refused: report.refused.iter().map(ToString::to_string).collect(),
        }
    }

    /// The containment of a run with that payload.
    ///
    /// # Errors
    /// `UNENFORCEABLE` if this machine cannot enforce what was requested.
    pub(crate) fn contain(
        &self,
        active: &ActiveConfig,
        payload: &StartPayload,
    ) -> Result<(Containment, Vec<CompatibilityWarning>), ApiError> {
        let none = Permissions::default();
        let requested = payload.harness.as_ref().and_then(|harness| harness.permissions.as_ref()).unwrap_or(&none);
        let config = &active.config;
        let origin = config.sources().origin("/sandbox/mode");
        let tools = payload.harness.as_ref().and_then(|harness| harness.tools.as_ref());
        let may_write =
            tools.is_none_or(|tools| tools.iter().any(|tool| matches!(tool, Tool::FileWrite | Tool::FileEdit)));
        Containment::decide(&config.sandbox, origin, &config.policy, requested, may_write, &self.report(active))
    }

    /// Opens the folders of a payload, so that the policies evaluate the folders that the run gets.
    ///
    /// # Errors
    /// `CWD_MISSING` if one is missing or contains a link now; `POLICY_DENIED` if one is not granted or is in a folder of the
    /// host.
    pub(crate) fn check_folders(&self, payload: &StartPayload, cwd: &Path) -> Result<OpenFolders, ApiError> {
        let grants = self.grants.for_policies()?;
        let working = self.open_folder(&grants, cwd, "/cwd")?;
        let harness = payload.harness.as_ref();
        let mut additional = Vec::new();
        for (index, folder) in harness.map_or(&[][..], |harness| &harness.additional_directories).iter().enumerate() {
            let at = format!("/harness/additionalDirectories/{index}");
            let resolved = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            additional.push(self.open_folder(&grants, &resolved, &at)?);
        }
        let (cwd, mut held) = (working.0, vec![working.1]);
        let (additional, handles): (Vec<_>, Vec<_>) = additional.into_iter().unzip();
        held.extend(handles);
        Ok(OpenFolders { cwd, additional, _held: held })
    }

    fn open_folder(&self, grants: &Grants, path: &Path, pointer: &str) -> Result<(CheckedFolder, OwnedFd), ApiError> {
        let is_own = |own: &PathBuf| own.canonicalize().is_ok_and(|own| path.starts_with(own));
        if self.paths.own_folders().into_iter().any(is_own) {
            let message = format!("{} is in a folder of the host, which no run can access", path.display());
            return Err(ApiError::new(ErrorKind::PolicyDenied, message).at(pointer));
        }
        let handle = check::open_folder(path).map_err(|error| error.at(pointer))?;
        // The policies resolve paths themselves; the run gets the folder that was opened here.
        if grants.containing(path).is_none() {
            let message = format!("{} is not in a granted folder", path.display());
            return Err(ApiError::new(ErrorKind::PolicyDenied, message)
                .at(pointer)
                .hint("`grant_workspace` grants it"));
        }
        let identity = FileIdentity::of(&handle).map_err(ApiError::internal)?;
        Ok((CheckedFolder { path: path.to_owned(), identity }, handle))
    }
}

/// The folders of a run, and the open handles that keep their identities from being reused.
#[derive(Debug)]
pub(crate) struct OpenFolders {
    pub(crate) cwd: CheckedFolder,
    pub(crate) additional: Vec<CheckedFolder>,
    _held: Vec<OwnedFd>,
}

/// The hosts that a run may reach: its provider's, the configuration's, its own, and the endpoints that the operator or
/// the user's own environment names.
pub(crate) fn allow_list(
    active: &ActiveConfig,
    needs: &Needs,
    provider: &ProviderConfig,
    payload: &StartPayload,
    inherited: &BTreeMap<String, String>,
) -> AllowList {
    let mut list = AllowList::default();
    let mut add = |entries: &[String], source| match AllowList::parse(entries, source) {
        Ok(parsed) => list.extend(parsed),
        Err(wrong) => tracing::warn!(?wrong, ?source, "hosts that are not valid were passed over"),
    };
    add(&needs.hosts, RuleSource::Plugin);
    add(&active.config.sandbox.allow_hosts, RuleSource::Operator);
    add(&provider.allow_hosts, RuleSource::Operator);
    let harness = payload.harness.as_ref();
    if let Some(permissions) = harness.and_then(|harness| harness.permissions.as_ref()) {
        add(&permissions.allow_hosts, RuleSource::Payload);
    }
    list.extend(AllowList::of_urls(provider.environment.values().map(String::as_str)));
    let mut texts = Vec::new();
    strings(&serde_json::Value::Object(provider.settings.clone()), &mut texts);
    list.extend(AllowList::of_urls(texts.iter().map(String::as_str)));
    // Variables of the payload are not from the user's environment.
    let own = harness.map(|harness| &harness.process_env);
    let endpoints = inherited
        .iter()
        .filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)))
        .filter(|(name, _)| needs.endpoints.iter().any(|pattern| matches_name(pattern, name)));
    list.extend(AllowList::of_urls(endpoints.map(|(_, value)| value.as_str())));
    let servers = harness.and_then(|harness| harness.mcp.as_ref()).map_or(&[][..], |mcp| &mcp.servers);
    // An invalid one does not exclude the others.
    for url in servers.iter().filter_map(|server| authority(server.url.as_deref()?)) {
        if let Ok(parsed) = AllowList::parse(&[url], RuleSource::Payload) {
            list.extend(parsed);
        }
    }
    list
}

/// Host and port of a URL, as an entry of an allow list.
fn authority(url: &str) -> Option<String> {
    AllowList::of_urls([url]).entries().next()
}

fn strings(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        serde_json::Value::Object(fields) => fields.values().for_each(|item| strings(item, into)),
        _ => {}
    }
}

/// The network of a contained run, served by the host.
pub(crate) struct Served {
    pub(crate) network: Network,
    list: AllowList,
    /// The listener of the proxy, if the child uses the loopback of the host.
    listener: Option<TcpListener>,
}

impl Served {
    /// # Errors
    /// If the host cannot listen.
    pub(crate) fn new(list: AllowList, backend: Option<Backend>) -> std::io::Result<Self> {
        let forwards: Vec<u16> = list.loopback_ports();
        if forwards.len() > MAX_FORWARDS {
            let message =
                format!("the run may reach {} ports of this machine, more than {MAX_FORWARDS}", forwards.len());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
        }
        if backend.is_some_and(Backend::has_namespaces) {
            let mut proxy_port = PROXY_PORT;
            while forwards.contains(&proxy_port) {
                proxy_port += 1;
            }
            return Ok(Self { network: Network { proxy_port, forwards }, list, listener: None });
        }
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let proxy_port = listener.local_addr()?.port();
        Ok(Self { network: Network { proxy_port, forwards }, list, listener: Some(listener) })
    }

    /// Serves the child. `sockets` are those of a network of its own.
    ///
    /// # Errors
    /// `INTERNAL` if they cannot be served: then the run must not start.
    pub(crate) fn serve(&self, egress: &Egress, sockets: Vec<OwnedFd>, sink: NetworkEvents) -> Result<Proxy, ApiError> {
        let mut sockets = sockets.into_iter().map(TcpListener::from);
        let own = self.listener.as_ref().map(TcpListener::try_clone).transpose().map_err(ApiError::internal)?;
        let listener = own.or_else(|| sockets.next());
        let listener = listener.ok_or_else(|| ApiError::internal("the child's network has no proxy"))?;
        let ports = self.network.forwards.iter().copied().zip(sockets).collect();
        egress.proxy(listener, ports, self.list.clone(), Arc::new(sink)).map_err(ApiError::internal)
    }
}

/// Sets the variables that a contained child needs, and removes those that name parts of the user's session.
pub(crate) fn adapt_environment(
    variables: &mut BTreeMap<String, String>,
    config: &SandboxConfig,
    containment: &Containment,
    network: Option<&Network>,
    private: &Path,
) {
    if containment.bounds_files() {
        for (name, allowed) in AGENTS {
            if !allowed(config) {
                variables.remove(name);
            }
        }
        let temporary = match containment.backend {
            Some(backend) if backend.has_namespaces() => Path::new("/tmp").to_owned(),
            _ => private.join(TEMPORARY),
        };
        variables.insert("TMPDIR".to_owned(), temporary.display().to_string());
    }
    if containment.backend.is_some() {
        // An update would write to the program's own folder.
        variables.insert("DISABLE_AUTOUPDATER".to_owned(), "1".to_owned());
    }
    if let Some(network) = network {
        let proxy = format!("http://127.0.0.1:{}", network.proxy_port);
        for name in PROXY_VARIABLES {
            variables.insert(name.to_owned(), proxy.clone());
        }
        // The child's loopback is its own: servers that it starts itself, and the ports that are forwarded.
        for name in ["NO_PROXY", "no_proxy"] {
            variables.insert(name.to_owned(), "localhost,127.0.0.1,::1".to_owned());
        }
        variables.insert("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned());
    }
}

/// The CLI and its interpreter, each with its installation folder.
pub(crate) fn programs(executable: &Path, start: &Path) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    for program in [executable, start] {
        let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
        for place in [program, real.as_path()] {
            programs.push(place.to_owned());
            programs.extend(tree_of(place));
        }
    }
    programs
}

/// The paths in the search path and the payload: folders of programs, attachments, programs of the allowlist and of MCP
/// servers.
pub(crate) fn named(path: &str, payload: &StartPayload) -> Vec<PathBuf> {
    let mut named: Vec<PathBuf> = std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect();
    let Some(harness) = &payload.harness else { return named };
    named.extend(harness.images.iter().chain(&harness.files).filter_map(|file| file.path.clone()));
    if let Some(allowlist) = &harness.cli_allowlist {
        named.extend(allowlist.entries.iter().map(|entry| entry.path.clone()));
        named.extend(allowlist.bin_dir.clone());
    }
    for server in harness.mcp.iter().flat_map(|mcp| &mcp.servers) {
        let words = server.command.iter().chain(&server.args).map(PathBuf::from);
        named.extend(words.filter(|word| word.is_absolute()));
    }
    named
}

/// The installation folder of a program: the outermost `node_modules` that contains it, or its own folder.
fn tree_of(program: &Path) -> Option<PathBuf> {
    let modules = program.ancestors().filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"));
    let folder = modules.last().or_else(|| program.parent())?;
    let shared = folder == Path::new("/") || TEMPORARY_FOLDERS.iter().any(|shared| folder == Path::new(shared));
    (!shared).then(|| folder.to_owned())
}

/// Stores the reports of a run's proxy as events of the run.
pub(crate) struct NetworkEvents {
    pub(crate) recorder: Recorder,
    pub(crate) storage: Storage,
}

impl EgressSink for NetworkEvents {
    fn event(&self, event: NetworkEvent) {
        let mut events = Vec::new();
        if let Some(warning) = warning(&event) {
            events.push(self.recorder.event(&Payload::Warning(warning)));
        }
        events.push(self.recorder.event(&Payload::Network(event)));
        // The queue of the storage is bounded, so that a run that floods it is slowed down.
        drop(self.storage.append(events));
    }
}

/// The declarations of all other providers, with the variables that are configured for them.
pub(crate) fn others<'a>(
    active: &'a ActiveConfig,
    provider: &Provider,
) -> Vec<(&'a Needs, &'a BTreeMap<String, String>)> {
    let others = active.providers.values().filter(|other| other.name != provider.name);
    others.filter_map(|other| Some((other.instance().ok()?.containment(), &other.config.environment))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::test_support::{Fixture, with_fields};
    use ostler_protocol::SandboxMode;
    use ostler_runner::RefusedBackend;

    /// A service on a machine without back ends, and the number of its probes.
    fn service(fixture: &Fixture, refused: Vec<RefusedBackend>) -> (SandboxService, Arc<AtomicUsize>) {
        let probes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&probes);
        let probe = move |_: &[Backend]| {
            count.fetch_add(1, Ordering::Relaxed);
            ProbeReport { backend: None, refused: refused.clone(), gaps: Vec::new() }
        };
        let (config, grants) = (fixture.config.clone(), GrantStore::new(fixture.storage.clone()));
        (SandboxService::new(config, grants, fixture.paths(), Box::new(probe)), probes)
    }

    fn payload(fields: serde_json::Value) -> StartPayload {
        serde_json::from_value(with_fields(json!({"provider": "codex", "prompt": "do it"}), fields)).unwrap()
    }

    #[test]
    fn machine_is_probed_again_when_other_back_ends_are_configured() {
        let fixture = Fixture::new();
        let (service, probes) = service(&fixture, Vec::new());
        service.support();
        service.support();
        assert_eq!(probes.load(Ordering::Relaxed), 1);
        fixture.change_config(|active| active.config.sandbox.backends = vec![Backend::Landlock]);
        service.support();
        assert_eq!(probes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn payload_that_asks_for_a_sandbox_is_refused_without_a_back_end() {
        let fixture = Fixture::new();
        let (service, _) = service(&fixture, Vec::new());
        let active = fixture.config.load();
        let (containment, warnings) = service.contain(&active, &payload(json!({}))).unwrap();
        assert_eq!((containment.backend, warnings.len()), (None, 1));
        let asking = json!({"harness": {"permissions": {"sandboxMode": "read-only"}}});
        let error = service.contain(&active, &payload(asking)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unenforceable);
    }

    #[test]
    fn folders_must_be_granted_exist_and_lie_outside_of_the_host() {
        let fixture = Fixture::new();
        let (service, _) = service(&fixture, Vec::new());
        let (granted, other) = (fixture.make_folder("granted"), fixture.make_folder("other"));
        let own = fixture.make_folder("home/data");
        service.grants.grant(&granted, None).unwrap();
        let check = |cwd: &Path| service.check_folders(&payload(json!({})), cwd);
        assert_eq!(check(&granted).unwrap().cwd.path, granted);
        assert_eq!(check(&other).unwrap_err().kind, ErrorKind::PolicyDenied);
        assert_eq!(check(&granted.join("missing")).unwrap_err().kind, ErrorKind::CwdMissing);
        service.grants.grant(&fixture.folder(), None).unwrap();
        assert_eq!(check(&own).unwrap_err().kind, ErrorKind::PolicyDenied);
        let additional = json!({"harness": {"additionalDirectories": [granted, own]}});
        let error = service.check_folders(&payload(additional), &other).unwrap_err();
        assert_eq!(error.pointer.as_deref(), Some("/harness/additionalDirectories/1"));
    }

    #[test]
    fn program_of_an_npm_package_brings_its_whole_tree() {
        let tree = |path: &str| tree_of(Path::new(path)).map(|found| found.display().to_string());
        assert_eq!(tree("/x/node_modules/@a/b/node_modules/c/bin.js").as_deref(), Some("/x/node_modules"));
        assert_eq!(tree("/opt/tool/bin/tool").as_deref(), Some("/opt/tool/bin"));
        assert_eq!(tree("/tmp/tool"), None);
    }

    #[test]
    fn contained_child_finds_the_proxy_and_no_agents() {
        let containment = Containment {
            mode: SandboxMode::WorkspaceWrite,
            backend: Some(Backend::Namespaces),
            reach: Reach::Listed,
            gaps: Vec::new(),
        };
        let session = [("SSH_AUTH_SOCK", "/tmp/a"), ("HTTPS_PROXY", "http://corp:1"), ("KEPT", "x")];
        let mut variables: BTreeMap<String, String> =
            session.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let network = Network { proxy_port: 9, forwards: Vec::new() };
        adapt_environment(
            &mut variables,
            &SandboxConfig::default(),
            &containment,
            Some(&network),
            Path::new("/private"),
        );
        assert!(!variables.contains_key("SSH_AUTH_SOCK"));
        assert_eq!(variables["HTTPS_PROXY"], "http://127.0.0.1:9");
        assert_eq!((variables["no_proxy"].as_str(), variables["TMPDIR"].as_str()), ("localhost,127.0.0.1,::1", "/tmp"));
        assert_eq!(variables["KEPT"], "x");
        let allowed = SandboxConfig { ssh_agent: true, ..SandboxConfig::default() };
        let mut variables = BTreeMap::from([("SSH_AUTH_SOCK".to_owned(), "/tmp/a".to_owned())]);
        adapt_environment(&mut variables, &allowed, &containment, None, Path::new("/private"));
        assert!(variables.contains_key("SSH_AUTH_SOCK") && !variables.contains_key("HTTPS_PROXY"));
    }

    #[test]
    fn proxy_avoids_forwarded_ports() {
        let list = AllowList::parse(&["localhost:61080", "localhost:5432"], RuleSource::Operator).unwrap();
        let Network { proxy_port, forwards } = Served::new(list.clone(), Some(Backend::Namespaces)).unwrap().network;
        assert_eq!((proxy_port, forwards), (61_081, vec![5432, 61_080]));
        let served = Served::new(list, Some(Backend::Landlock)).unwrap();
        assert_eq!(served.listener.unwrap().local_addr().unwrap().port(), served.network.proxy_port);
    }
}
