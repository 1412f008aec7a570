//! From a prepared command line to a running child: writes the files, asks the policies, and stores the child's identity.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::attempt::environment::{known_secrets, open_values, search_path};
use crate::attempt::hold::Hold;
use crate::attempt::outcome::AttemptOutcome;
use crate::attempt::output_loop::INPUT_QUEUE;
use crate::attempt::prepare::{self, Prepared};
use crate::attempt::private_folders::PrivateFolders;
use crate::attempt::terminal_output::runner_size;
use crate::attempt::{AttemptContext, Stopped};
use crate::audit::AuditEntry;
use crate::capabilities::for_plugin;
use crate::policy::native_policy::NativeChecks;
use crate::policy::policy_request::PolicyRequest;
use crate::policy::policy_set::{EarlierFinding, Grants};
use crate::record::Recorder;
use crate::sandbox::{self, Containment, NetworkEvents, OpenFolders, Reach};
use crate::setup::Provider;
use crate::submit::check;
use ostler_egress::Proxy;
use ostler_plugin_host::ProviderInstance;
use ostler_plugin_host::types as plugin;
use ostler_protocol::{
    AdapterInfo, ApiError, AuditKind, CapabilitySnapshot, CliMissing, CwdMissing, EndReason, ErrorKind, EventType,
    Output, Payload, PolicyAudit, ProgressStage, RunStarted, StartPayload, WarningCode,
};
use ostler_redaction::{KnownSecret, Masks};
use ostler_runner::{
    self, Access, Backend, Child, LaunchError, PrivateDir, SpawnError, SpawnErrorKind, SpawnLimits, SpawnSpec, Stdin,
};
use ostler_storage::{Durability, EventFilter, ReadLimit, Started};
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

/// Delays between tries of a spawn that failed with a transient error.
const SPAWN_DELAYS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// The type of a terminal, which most terminals support.
const TERM: &str = "xterm-256color";

/// All that a spawn needs.
pub(crate) struct PreparedLaunch {
    pub(crate) prepared: Prepared,
    /// The provider's program: what the policies judge and the record names.
    pub(crate) executable: PathBuf,
    /// How the program is started. Where it is a script, that is its interpreter by absolute path.
    start: ostler_runner::Launch,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) recorder: Recorder,
    /// The containment of the child.
    pub(crate) containment: Containment,
    sandbox: ostler_runner::Sandbox,
    /// The network of the child, if the host provides it.
    network: Option<sandbox::Served>,
    /// Protected files that the child could create or replace, each with the target of its link before.
    pub(crate) unprotected: Vec<(PathBuf, Option<PathBuf>)>,
    folders: OpenFolders,
    /// Removed with the attempt, before the private folder, which contains them.
    _shims: Option<ostler_runner::Shims>,
    pub(crate) private: PrivateDir,
}

impl AttemptContext<'_> {
    /// Prepares the launch: everything before the policies are asked and the child is started.
    pub(crate) fn prepare(
        &self,
        provider: &Provider,
        instance: &ProviderInstance,
        snapshot: &CapabilitySnapshot,
        folders: OpenFolders,
        executable: &Path,
    ) -> Result<PreparedLaunch, Stopped> {
        let cwd = folders.cwd.path.as_path();
        let (services, loaded, number) = (self.services, self.loaded, self.loaded.job.attempt);
        let payload = loaded.effective();
        let caller = loaded.caller.as_ref();
        let inherited =
            prepare::inherited(self.active, provider, &services.environment, caller, loaded.token(), &payload);
        // Not the PATH of the child: a run may set that, and an allowlist replaces it.
        let path = search_path(&services.environment, caller, &provider.config.environment);
        let start =
            ostler_runner::resolve_launch(executable, path.as_ref()).map_err(|error| unresolved(executable, &error))?;
        let trusted_settings = services.grants.for_policies()?.trusts_settings_of(cwd);
        let name = PrivateFolders::name_of(loaded.run(), number);
        let private = PrivateDir::create(services.private_folders.parent(), &name).map_err(io_error)?;
        let files =
            prepare::attachments(&payload).map_err(|message| ApiError::new(ErrorKind::InvalidParams, message))?;
        for (path, bytes) in files {
            private.write(&path, &bytes, Access::Data).map_err(io_error)?;
        }
        let (containment, dropped) = services.sandbox.contain(self.active, &payload)?;
        let attempt = prepare::Attempt {
            run: loaded.run(),
            number,
            payload: &payload,
            cwd,
            resume: loaded.resume(),
            private_dir: private.path(),
            inherited: &inherited,
            containment: &containment,
            trusted_settings,
            every_tool: self.active.gate.decides_tools(),
        };
        let mut prepared = prepare::prepare(&self.active.config.policy, instance, &for_plugin(snapshot), &attempt)?;
        prepared.warnings.extend(dropped);
        self.report_new_warnings(&prepared);
        if loaded.lacks_session {
            let message = "the conversation has no session to go on from; the agent does not know what was said before";
            self.store_all(vec![self.recorder.warning(WarningCode::SessionAbsent, message, Value::Null)]);
        }

        let needs = instance.containment();
        let network = (containment.backend.is_some() && containment.reach == Reach::Listed).then(|| {
            let list = sandbox::allow_list(self.active, needs, &provider.config, &payload, &inherited);
            sandbox::Served::new(list, containment.backend)
        });
        let network = network.transpose().map_err(io_error)?;
        let mut environment = inherited;
        environment
            .extend(prepared.launch.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())));
        let (shims, extra) = self.lay_out_shell(&payload, &private)?;
        environment.extend(extra);
        sandbox::adapt_environment(
            &mut environment,
            &self.active.config.sandbox,
            &containment,
            network.as_ref().map(|served| &served.network),
            private.path(),
        );
        private.make_folder(sandbox::TEMPORARY).map_err(io_error)?;
        let private_path = private.path().canonicalize().map_err(io_error)?;
        let sources = sandbox::Sources {
            paths: &services.paths,
            config: &self.active.config.sandbox,
            limits: &self.active.config.runner.limits,
            plugins: crate::plugin_folder(&self.active.config.plugins, &services.paths),
            needs,
            others: sandbox::others(self.active, provider),
            host: &services.environment,
            variables: &environment,
            cwd: &folders.cwd,
            additional: &folders.additional,
            private: &private_path,
            programs: sandbox::programs(executable, &start.executable),
            named: sandbox::named(path, &payload),
        };
        if containment.backend == Some(Backend::Landlock)
            && containment.bounds_files()
            && let Some(path) = sources.uncoverable()
        {
            let message = format!("Landlock alone cannot hide {}, which lies in a folder of the run", path.display());
            return Err(ApiError::new(ErrorKind::Unenforceable, message).hint("use a narrower folder").into());
        }
        let bounds = sources.sandbox(&containment, network.as_ref().map(|served| served.network.clone()));
        let unprotected = match bounds.namespaces {
            Some(_) => sources.unprotected(containment.mode, &bounds.placeholders),
            None => Vec::new(),
        };
        for file in &prepared.launch.files {
            let access = if file.executable { Access::Executable } else { Access::Data };
            private.write(&file.path, &file.contents, access).map_err(io_error)?;
        }
        // The launch's own variables may be secret too.
        let recorder = self.recorder_of_child(&environment);
        let mut known = known_secrets(&environment, &payload);
        known.extend(loaded.known_tokens.iter().cloned());
        refuse_visible_secrets(&prepared.launch.args, &known, &open_values(&environment))?;
        let executable = executable.to_owned();
        Ok(PreparedLaunch {
            prepared,
            executable,
            start,
            environment,
            recorder,
            containment,
            sandbox: bounds,
            network,
            unprotected,
            folders,
            _shims: shims,
            private,
        })
    }

    /// The folder of allowed programs and the script that every shell runs first.
    fn lay_out_shell(
        &self,
        payload: &StartPayload,
        private: &PrivateDir,
    ) -> Result<(Option<ostler_runner::Shims>, BTreeMap<String, String>), Stopped> {
        let harness = payload.harness();
        let mut variables = BTreeMap::new();
        let wrong = |block: &str, problems: Vec<ostler_runner::ShellProblem>| {
            let problems = problems.into_iter().map(|problem| ostler_protocol::Problem {
                pointer: format!("/harness/{block}{}", problem.pointer),
                message: problem.message,
            });
            ApiError::invalid(problems.collect())
        };
        let shims = match &harness.cli_allowlist {
            Some(allowlist) => {
                let plan = ostler_runner::plan_shims(&check::shims(allowlist))
                    .map_err(|found| wrong("cliAllowlist", found))?;
                let shims = plan.write(private).map_err(io_error)?;
                variables.insert("PATH".to_owned(), shims.dir().display().to_string());
                let facts = json!({"folder": shims.dir(), "programs": shims.names()});
                self.store_all(vec![self.recorder.progress(ProgressStage::CliAllowlistPrepared, facts)]);
                Some(shims)
            }
            None => None,
        };
        let block = harness.shell_prelude.as_ref().map(check::prelude);
        let plan = ostler_runner::plan_prelude(block.as_ref(), shims.as_ref().map(ostler_runner::Shims::dir))
            .map_err(|found| wrong("shellPrelude", found))?;
        if !plan.is_empty() {
            for (name, value) in plan.write(private).map_err(io_error)? {
                variables.insert(name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
            }
            if block.is_some() {
                let names: Vec<&str> = plan.variables().collect();
                self.store_all(vec![
                    self.recorder.progress(ProgressStage::ShellPreludePrepared, json!({"variables": names})),
                ]);
            }
        }
        Ok((shims, variables))
    }

    /// Reports warnings that were not reported at the submit: the installed CLI may have changed since.
    fn report_new_warnings(&self, prepared: &Prepared) {
        let reported = &self.loaded.record.warnings;
        let new = prepared.warnings.iter().filter(|warning| {
            !reported.iter().any(|known| known.get("pointer").and_then(Value::as_str) == Some(warning.pointer.as_str()))
        });
        self.store_all(
            new.map(|warning| self.recorder.event(&Payload::CompatibilityWarning(warning.clone()))).collect(),
        );
    }

    /// The request to the policies about the attempt.
    pub(crate) fn question<'q>(
        &'q self,
        provider: &'q Provider,
        snapshot: &'q CapabilitySnapshot,
        cwd: &'q Path,
        ready: &'q PreparedLaunch,
        grants: &'q Grants,
    ) -> Result<PolicyRequest<'q>, ApiError> {
        Ok(PolicyRequest {
            run: Some(self.loaded.run()),
            attempt: self.loaded.job.attempt,
            provider,
            origin: &self.loaded.record.origin,
            executable: &ready.executable,
            cwd,
            payload: &self.loaded.payload,
            snapshot,
            grants,
            own: self.native_checks(provider, ready.containment.bounds_files())?.findings(),
            containment: Some(&ready.containment),
            earlier: self.earlier_findings()?,
        })
    }

    /// The findings of earlier stages. Read only if a policy asks for them.
    fn earlier_findings(&self) -> Result<Vec<EarlierFinding>, ApiError> {
        if !self.active.gate.wants("findings") {
            return Ok(Vec::new());
        }
        let filter = EventFilter {
            run_id: Some(self.loaded.run()),
            types: vec![EventType::PolicyAudit],
            ..EventFilter::default()
        };
        let page = self.services.storage.read(|reader| reader.events_after(0, &filter, ReadLimit::default()))?;
        let audits = page.events.iter().filter_map(|event| PolicyAudit::deserialize(&event.payload).ok());
        let findings = audits.flat_map(|PolicyAudit { stage, findings, .. }| {
            findings.into_iter().map(move |finding| EarlierFinding { stage: stage.clone(), finding })
        });
        Ok(findings.collect())
    }

    /// Asks the policies about the command line. Returns the request for later stages.
    pub(crate) fn judge<'q>(
        &self,
        question: PolicyRequest<'q>,
        ready: &PreparedLaunch,
    ) -> Result<PolicyRequest<'q>, Stopped> {
        let launch = &ready.prepared.launch;
        let summary = plugin::LaunchSummary {
            executable: ready.executable.display().to_string(),
            args: launch.args.clone(),
            environment_names: ready.environment.keys().cloned().collect(),
            cwd: question.cwd.display().to_string(),
            files: launch
                .files
                .iter()
                .map(|file| plugin::LaunchFile {
                    path: ready.private.path().join(&file.path).display().to_string(),
                    text: (file.contents.len() <= 256 << 10)
                        .then(|| String::from_utf8(file.contents.clone()).ok())
                        .flatten(),
                })
                .collect(),
        };
        let (ruling, audit) = question.ask(&self.active.gate, &plugin::Action::Spawn(summary));
        let stage = audit.stage.clone();
        self.store_all(vec![ready.recorder.event(&Payload::PolicyAudit(audit))]);
        ruling.permit()?;
        Ok(question.after(&stage, ruling.findings))
    }

    fn native_checks<'p>(&'p self, provider: &'p Provider, contained: bool) -> Result<NativeChecks<'p>, ApiError> {
        let loaded = self.loaded;
        let token = loaded.token().map(|_| provider.token_checks(loaded.caller.as_ref(), &self.services.environment));
        Ok(NativeChecks {
            policy: &self.active.config.policy,
            needs: provider.instance()?.containment(),
            payload: &loaded.payload,
            contained,
            token,
        })
    }

    /// Starts the child. Its identity is stored before it runs, so that a later host can find it.
    pub(crate) fn spawn(
        &self,
        provider: &Provider,
        instance: &ProviderInstance,
        snapshot: &CapabilitySnapshot,
        cwd: &Path,
        ready: &PreparedLaunch,
    ) -> Result<(Child, Option<Proxy>), Stopped> {
        let launch = &ready.prepared.launch;
        let stdin = match launch.channel {
            plugin::Channel::Pipes => Stdin::Bytes(launch.stdin.clone().unwrap_or_default()),
            plugin::Channel::Duplex | plugin::Channel::Pty => Stdin::Open,
        };
        let terminal = self.loaded.payload.terminal.unwrap_or_default();
        let terminal = (launch.channel == plugin::Channel::Pty).then(|| runner_size(terminal));
        let mut environment = ready.environment.clone();
        if terminal.is_some() && !self.sets(provider, "TERM") {
            // The host has no terminal, and those of the clients differ.
            environment.insert("TERM".to_owned(), TERM.to_owned());
        }
        let number = self.loaded.job.attempt;
        let limits = SpawnLimits { linger: self.active.config.runner.exit_grace(), ..SpawnLimits::default() };
        let spec = SpawnSpec {
            executable: ready.start.executable.clone(),
            args: ready.start.leading_args.iter().cloned().chain(launch.args.iter().map(OsString::from)).collect(),
            environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: cwd.to_owned(),
            cwd_identity: Some(ready.folders.cwd.identity),
            sandbox: ready.sandbox.clone(),
            marker: format!("{}-{number}", self.loaded.run()),
            stdin,
            terminal,
            limits: match launch.channel {
                plugin::Channel::Duplex | plugin::Channel::Pty => SpawnLimits { stdin_queue: INPUT_QUEUE, ..limits },
                plugin::Channel::Pipes => limits,
            },
        };
        let started = RunStarted {
            sandbox: Some(ready.containment.record()),
            provider: provider.name.clone(),
            attempt: number,
            pid: 0,
            adapter: AdapterInfo {
                name: provider.plugin.clone(),
                version: instance.plugin().version,
                digest: instance.plugin().digest,
            },
            cli_version: snapshot.cli_version.clone(),
            output: match (launch.channel, launch.output) {
                (plugin::Channel::Pty, _) => Output::Terminal,
                (_, plugin::OutputForm::Lines) => Output::Lines,
                (_, plugin::OutputForm::Text) => Output::Text,
            },
        };
        self.store_all(vec![ready.recorder.progress(ProgressStage::SpawnPreparing, json!({"attempt": number}))]);
        let mut delays = SPAWN_DELAYS.iter();
        let mut reported = false;
        loop {
            let spawned = self.try_to_spawn(&spec, &started, ready, &mut reported);
            let error = match spawned {
                Ok(child) => {
                    self.audit_spawn(provider, cwd, ready);
                    return Ok(child);
                }
                Err(SpawnFailure::Stopped(stopped)) => return Err(stopped),
                Err(SpawnFailure::Spawn(error)) => error,
            };
            let Some(delay) = delays.next().filter(|_| error.is_transient()) else {
                return Err(self.spawn_failed(&error, cwd, ready));
            };
            let facts = json!({"delayMs": u64::try_from(delay.as_millis()).unwrap_or(0)});
            self.store_all(vec![ready.recorder.warning(WarningCode::SpawnRetry, error.message, facts)]);
            std::thread::sleep(*delay);
            self.check_stop()?;
        }
    }

    /// Whether the payload or the configuration of the provider sets this variable.
    fn sets(&self, provider: &Provider, name: &str) -> bool {
        provider.config.environment.contains_key(name)
            || self.loaded.payload.harness.as_ref().is_some_and(|harness| harness.process_env.contains_key(name))
    }

    fn try_to_spawn(
        &self,
        spec: &SpawnSpec,
        started: &RunStarted,
        ready: &PreparedLaunch,
        reported: &mut bool,
    ) -> Result<(Child, Option<Proxy>), SpawnFailure> {
        failpoint::reach("spawn.before");
        let mut prepared = (self.services.prepare_child)(spec).map_err(SpawnFailure::Spawn)?;
        failpoint::reach("spawn.prepared");
        let proxy = match &ready.network {
            None => None,
            Some(network) => {
                let sockets = prepared.take_sockets();
                let sink = NetworkEvents { recorder: ready.recorder.clone(), storage: self.services.storage.clone() };
                let proxy = network.serve(self.services.sandbox.egress(), sockets, sink);
                Some(proxy.map_err(|error| SpawnFailure::Stopped(error.into()))?)
            }
        };
        let identity = prepared.identity();
        let pid = u32::try_from(identity.pid).unwrap_or_default();
        let event = ready.recorder.event(&Payload::RunStarted(RunStarted { pid, ..started.clone() }));
        let event = (!std::mem::replace(reported, true)).then_some(event);
        let start =
            Started { attempt: started.attempt, at: clock::now(), process: serde_json::to_string(identity).ok() };
        let run = self.loaded.run();
        let hold = start.process.as_deref().and_then(|identity| {
            let noted = Hold::note(self.services.private_folders.parent(), run, started.attempt, identity);
            noted.inspect_err(|error| tracing::warn!(%run, %error, "no note of a child that waits")).ok()
        });
        // The session that a run of a conversation resumes is chosen at its first start.
        let carry = self.loaded.carry.base.as_ref().and_then(|_| self.loaded.carry.to_text());
        // Not urgent: it must come after the events that were submitted before.
        let write = self.services.storage.write(Durability::Full, move |tx| {
            let goes_on = tx.set_running(run, &start)?;
            if let Some(carry) = carry.as_deref().filter(|_| goes_on) {
                tx.set_carry(run, carry)?;
            }
            if goes_on && let Some(event) = &event {
                tx.append_event(event)?;
            }
            Ok(goes_on)
        });
        let goes_on = write.wait().map_err(|error| SpawnFailure::Stopped(error.into()))?;
        if !goes_on {
            let ending = AttemptOutcome::new(EndReason::Canceled, "the run had ended before its child was started");
            return Err(SpawnFailure::Stopped(Stopped::Ending(ending)));
        }
        failpoint::reach("spawn.recorded");
        if let Some(hold) = hold {
            hold.end().map_err(|error| SpawnFailure::Stopped(io_error(error).into()))?;
        }
        let child = prepared.start().map_err(SpawnFailure::Spawn)?;
        failpoint::reach("spawn.after");
        Ok((child, proxy))
    }

    /// Records in the audit trail which program was started in which folder. Its arguments may contain the prompt; the
    /// events of the run have them.
    fn audit_spawn(&self, provider: &Provider, cwd: &Path, ready: &PreparedLaunch) {
        let entry = AuditEntry::by_host(AuditKind::Spawn).run(self.loaded.run()).fact("provider", &provider.name);
        let entry = entry.fact("attempt", self.loaded.job.attempt).fact("executable", &ready.executable);
        self.services.audit.append(entry.fact("cwd", cwd));
    }

    fn spawn_failed(&self, error: &SpawnError, cwd: &Path, ready: &PreparedLaunch) -> Stopped {
        let message = format!("the child could not be started: {error}");
        match error.kind {
            SpawnErrorKind::NotFound => {
                let path = ready.executable.display().to_string();
                self.store(&Payload::CliMissing(CliMissing { path, install_hint: error.message.clone() }));
                Stopped::Ending(AttemptOutcome::new(EndReason::CliMissing, message))
            }
            SpawnErrorKind::BadCwd => {
                self.store(&Payload::CwdMissing(CwdMissing { path: cwd.to_owned(), message: error.message.clone() }));
                Stopped::Ending(AttemptOutcome::new(EndReason::CwdMissing, message))
            }
            SpawnErrorKind::SandboxUnavailable => {
                let ending = AttemptOutcome::new(EndReason::Unenforceable, message);
                Stopped::Ending(AttemptOutcome { hint: Some(sandbox::REMEDY.to_owned()), ..ending })
            }
            SpawnErrorKind::NotExecutable => Stopped::Ending(AttemptOutcome::new(EndReason::CliMissing, message)),
            _ => Stopped::Ending(AttemptOutcome::new(EndReason::SpawnFailed, message)),
        }
    }
}

enum SpawnFailure {
    Spawn(SpawnError),
    Stopped(Stopped),
}

fn io_error(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorKind::Io, error.to_string())
}

/// The error for a program that cannot be started by absolute paths. A program that cannot be read is not started: its
/// interpreter could be any that the child's PATH finds.
fn unresolved(executable: &Path, error: &LaunchError) -> ApiError {
    let kind = match error {
        LaunchError::Unreadable { .. } if executable.exists() => ErrorKind::Io,
        LaunchError::Unreadable { .. } | LaunchError::InterpreterMissing { .. } => ErrorKind::CliMissing,
    };
    ApiError::new(kind, error.to_string())
}

/// Every process of the machine can read arguments, so they must not contain known secrets. The criterion is that of
/// redaction: an ordinary word may be an argument, but not a password in one.
fn refuse_visible_secrets(args: &[String], known: &[KnownSecret], open: &BTreeSet<String>) -> Result<(), ApiError> {
    // A flag and its value are two arguments.
    let pairs = args.windows(2).filter(|pair| pair.first().is_some_and(|flag| flag.starts_with('-')));
    let shown: Vec<String> = args.iter().cloned().chain(pairs.map(|pair| pair.join(" "))).collect();
    let shows = |known: &[KnownSecret]| {
        let masks = Masks::with_open(known.iter().cloned(), open);
        shown.iter().any(|text| masks.shows_in(text))
    };
    if !shows(known) {
        return Ok(());
    }
    let secret = known.iter().find(|secret| shows(std::slice::from_ref(*secret)));
    let name = secret.map_or("a secret", |secret| secret.name.as_str());
    let message = format!("the command line would show the value of {name} to every process of the machine");
    Err(ApiError::new(ErrorKind::PolicyDenied, message).hint("hand it over in the prompt or in a variable instead"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(args: &[&str], known: &[(&str, &str)]) -> Option<String> {
        let args: Vec<String> = args.iter().map(|argument| (*argument).to_owned()).collect();
        let secret =
            |(name, value): &(&str, &str)| KnownSecret { name: (*name).to_owned(), value: (*value).to_owned() };
        let known: Vec<KnownSecret> = known.iter().map(secret).collect();
        let open = BTreeSet::from(["alexander".to_owned()]);
        refuse_visible_secrets(&args, &known, &open).err().map(|error| error.message)
    }

    #[test]
    fn ordinary_word_is_refused_only_in_the_position_of_a_password() {
        let known = [("DB_PASSWORD", "postgres"), ("APP_PASSWORD", "alexander"), ("USE_TOKEN", "true")];
        for args in [
            &["--dbname=postgres"][..],
            &["--dbname", "postgres", "postgres"],
            &["--user=alexander"],
            &["--strict=true"],
            &["postgres://postgres@localhost/postgres"],
        ] {
            assert_eq!(refused(args, &known), None, "{args:?}");
        }
        for args in [
            &["--password=postgres"][..],
            &["--password", "postgres"],
            &["postgres://postgres:postgres@localhost/postgres"],
            &["-c", "PGPASSWORD=postgres psql"],
        ] {
            assert!(refused(args, &known).is_some_and(|message| message.contains("DB_PASSWORD")), "{args:?}");
        }
    }

    #[test]
    fn identifiable_value_is_refused_in_every_argument() {
        let document = "{\n  \"kind\": \"plain-thing\",\n  \"password\": \"kettle-orbit\"\n}";
        let known = [("DB_PASSWORD", "postgres"), ("APP_TOKEN", "swordfish"), ("APP_SECRET", document)];
        for (args, name) in [
            (&["x", "say swordfish now"][..], "APP_TOKEN"),
            (&["--a=c3dvcmRmaXNo"], "APP_TOKEN"),
            (&["--a=kettle-orbit"], "APP_SECRET"),
            (&[document], "APP_SECRET"),
        ] {
            assert!(refused(args, &known).is_some_and(|message| message.contains(name)), "{args:?}");
        }
        assert_eq!(refused(&["{\"kind\": \"plain-thing\"}", "sword fish"], &known), None);
    }
}
