//! The command line of a run.
//!
//! `exec [options] -- -` starts a new session, `exec [options] resume [images] -- ID -` resumes one. Options before `resume`
//! apply to it, too. The sandbox must be set again, because codex does not keep it. Values are joined to their flag with `=`
//! or quoted as TOML, so that none is parsed as a flag. The prompt is passed on standard input.
//!
//! A session, or a run whose tool uses have to be decided, uses `app-server [options]`: what `exec` has an option for is a key
//! of the configuration there, or a field of the protocol, which [`crate::app_server`] sends.

mod app_server;
mod mcp;
mod tools;

use ostler_plugin::provider::{
    Attachment, Capabilities, Channel, DroppedOption, Launch, NameValue, PrivateFile, RunRequest, StopSignal,
};
use ostler_plugin::{DroppedOptions, Error, HostContainment, Problems};
use ostler_provider_kit::argument::argument_problem;
use ostler_provider_kit::duplex::Duplex;
use ostler_provider_kit::payload::{Harness, Payload, PayloadAttachment, attachments};
use ostler_provider_kit::prepare as kit;
use ostler_provider_kit::terminal::{in_terminal, prompt_argument};

use crate::detect::Detected;
use crate::settings::Settings;
use crate::{flags, toml_text};

/// Media types that codex sends to its model.
const IMAGE_TYPES: [&str; 5] = ["image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"];

pub(crate) fn prepare(settings: &Settings, request: &RunRequest, capabilities: &Capabilities) -> Result<Launch, Error> {
    let payload = Payload::parse(&request.payload)?;
    let detected = Detected::of(capabilities)?;
    let mut launch = Builder::new(request, &payload.harness, &detected);
    if uses_app_server(request, &detected) {
        return app_server::prepare(launch, settings, &payload, capabilities);
    }
    if launch.terminal {
        // An update cannot be installed during a run.
        launch.config("check_for_update_on_startup", "false", "");
    } else {
        kit::non_interactive(request, "the installed codex")?;
        launch.args.extend(["exec".to_owned(), "--json".to_owned()]);
    }
    if !launch.terminal && settings.skip_git_repo_check && detected.has("--skip-git-repo-check") {
        launch.args.push("--skip-git-repo-check".to_owned());
    }
    launch.configure_instance(settings);
    // Restrictions of the run come after its flags: of two values for a key, codex uses the later one.
    let flags = flags::arguments(&payload.optional_flags, &capabilities.optional_flags, &mut launch.problems);
    launch.args.extend(flags);
    launch.bound_retries(settings);
    launch.guard_shells(settings);
    launch.guard_project(&payload);
    launch.model();
    let sandbox = tools::restrict(&mut launch);
    launch.permissions(sandbox);
    launch.directories(sandbox);
    mcp::servers(&mut launch);
    launch.instructions();
    launch.structured_output();
    launch.unavailable(&payload);
    let files = launch.attachments();
    launch.session_and_prompt(&files)
}

/// Whether a run uses `codex app-server`.
pub(crate) fn uses_app_server(request: &RunRequest, detected: &Detected) -> bool {
    detected.app_server.is_some() && Duplex::of(request).is_some()
}

/// Why codex does not send an image to its model.
pub(crate) fn image_problem(image: &Attachment) -> Option<String> {
    (!IMAGE_TYPES.contains(&image.mime_type.as_str()))
        .then(|| format!("codex does not support images of type {}; convert it to PNG", image.mime_type))
}

/// The access that codex's sandbox allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sandbox {
    ReadOnly,
    WorkspaceWrite,
    FullAccess,
}

impl Sandbox {
    fn of(mode: &str) -> Option<Self> {
        match mode {
            "read-only" => Some(Self::ReadOnly),
            "workspace-write" => Some(Self::WorkspaceWrite),
            "full-access" => Some(Self::FullAccess),
            _ => None,
        }
    }

    /// The name that codex uses.
    fn word(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::FullAccess => "danger-full-access",
        }
    }
}

/// Builds a launch.
struct Builder<'a> {
    request: &'a RunRequest,
    harness: &'a Harness,
    detected: &'a Detected,
    /// The session runs in a terminal, where the user answers what codex asks.
    terminal: bool,
    /// How the run uses `app-server`, if it does.
    app_server: Option<Duplex>,
    args: Vec<String>,
    environment: Vec<NameValue>,
    files: Vec<PrivateFile>,
    images: Vec<String>,
    /// The containment by the host.
    host: HostContainment,
    dropped: DroppedOptions,
    problems: Problems,
}

impl<'a> Builder<'a> {
    fn new(request: &'a RunRequest, harness: &'a Harness, detected: &'a Detected) -> Self {
        Self {
            request,
            harness,
            detected,
            terminal: in_terminal(request),
            app_server: Duplex::of(request).filter(|_| detected.app_server.is_some()),
            args: Vec::new(),
            environment: Vec::new(),
            files: Vec::new(),
            images: Vec::new(),
            host: HostContainment::read(request.host.extra.as_deref()),
            dropped: DroppedOptions::default(),
            problems: Problems::default(),
        }
    }

    /// Adds `-c key=value` with a TOML value. Problems are reported with `pointer`.
    fn config(&mut self, key: &str, value: &str, pointer: &str) {
        let argument = format!("{key}={value}");
        if let Some(reason) = argument_problem(&argument) {
            self.problems.push(pointer, reason);
        }
        self.args.extend(["-c".to_owned(), argument]);
    }

    /// Adds `--flag=value`.
    fn option(&mut self, flag: &str, value: &str, pointer: &str) {
        let argument = kit::joined(flag, value, pointer, &mut self.problems);
        self.args.push(argument);
    }

    /// Adds a file to the private folder and returns its absolute path.
    fn file(&mut self, name: &str, contents: &str, executable: bool) -> String {
        kit::private_file(&mut self.files, self.request, name, contents, executable)
    }

    /// Whether codex has this feature, so that it can be disabled. None if codex does not list its features.
    fn feature(&self, name: &str) -> Option<bool> {
        self.detected.features.as_ref().map(|features| features.contains(name))
    }

    fn configure_instance(&mut self, settings: &Settings) {
        for (key, value) in &settings.config {
            if let Some(value) = toml_text::value(value) {
                self.config(key, &value, "");
            }
        }
        if let Some(provider) = &settings.model_provider {
            self.config("model_provider", &toml_text::string(provider), "");
        }
    }

    /// codex repeats requests for a long time, and forever while a host name does not resolve. The host has its own retries,
    /// with a limit that the user sets. codex can limit the number only for providers that are not built in.
    fn bound_retries(&mut self, settings: &Settings) {
        if self.feature("unbounded_connection_retries") == Some(true) {
            self.config("features.unbounded_connection_retries", "false", "");
        }
        if let Some(provider) = settings.bounded_provider() {
            for (key, count) in [
                ("request_max_retries", settings.request_max_retries),
                ("stream_max_retries", settings.stream_max_retries),
            ] {
                self.config(&format!("model_providers.{provider}.{key}"), &count.to_string(), "");
            }
        }
    }

    /// The agent's shells inherit codex's environment. The provider token is blanked there: no tool needs it. If the host
    /// has set PATH or a prelude, shells must not be login shells, which would reset PATH.
    fn guard_shells(&mut self, settings: &Settings) {
        if self.request.host.environment_names.contains(&settings.token_variable) {
            self.blank_in_shells(&settings.token_variable);
        }
        let harness = self.harness;
        if harness.cli_allowlist.is_some()
            || harness.shell_prelude.is_some()
            || harness.process_env.contains_key("PATH")
        {
            self.config("allow_login_shell", "false", "");
            // A snapshot of the user's login shell would restore its PATH.
            if self.feature("shell_snapshot") == Some(true) {
                self.config("features.shell_snapshot", "false", "");
            }
        }
    }

    /// The settings of a repository start programs outside codex's sandbox. They apply only if the grant of the folder
    /// trusts them. In that case, codex's own trust setting for the folder applies as well.
    fn guard_project(&mut self, payload: &Payload) {
        if self.host.trusted_settings {
            match self.app_server {
                None => return,
                // Rules of the folder can allow commands, about which codex then does not ask.
                Some(duplex) if duplex.every_tool => {
                    let reason = "a policy decides about each tool use, which rules of the folder could prevent; the settings in the folder are not used";
                    self.dropped.convenience("/cwd", reason);
                }
                Some(_) => {
                    // Otherwise the start of a thread would write it to the user's configuration.
                    let trusted = toml_text::table(&[("trust_level", toml_text::string("trusted"))]);
                    let folder = self.request.cwd.clone();
                    return self.config("projects", &toml_text::table(&[(folder, trusted)]), "/cwd");
                }
            }
        } else if flags::is_on(&payload.optional_flags, flags::TRUST) {
            let reason = "the grant of the folder does not trust the settings in it; `grant_workspace` with trustSettings changes that";
            self.problems.push(format!("/optionalFlags/{}", flags::TRUST), reason);
        }
        tools::distrust_project(self, "/cwd");
        if !self.detected.resume_here && self.feature("shell_snapshot") == Some(true) {
            let reason = "the installed codex starts the MCP servers that the folder itself names, trusted or not; install a current codex";
            if self.host.sandboxed {
                self.dropped.convenience("/cwd", format!("{reason} (the host's sandbox holds them)"));
            } else {
                self.problems
                    .push("/cwd", format!("{reason}, or trust the folder: `grant_workspace` with trustSettings"));
            }
        }
    }

    fn blank_in_shells(&mut self, variable: &str) {
        self.config(&format!("shell_environment_policy.set.{variable}"), "\"\"", "");
    }

    fn model(&mut self) {
        let Some(model) = &self.request.model else { return };
        if self.app_server.is_some() {
            // It is a field of the protocol.
            return;
        }
        if self.detected.has("--model") {
            self.option("--model", model, "/model");
        } else {
            self.dropped.convenience("/model", "the installed codex has no --model");
        }
    }

    fn permissions(&mut self, sandbox: Option<Sandbox>) {
        let permissions = &self.harness.permissions;
        let network = "/harness/permissions/networkAccess";
        let searches = self.harness.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| tool == "web_search"));
        if permissions.network_access == Some(false) && searches {
            // The model's service performs the search, outside every sandbox.
            self.config("web_search", "\"disabled\"", network);
        }
        // Without a mode in the payload, codex's own configuration would apply, which can be full access. `read-only` is the
        // default of `exec`, and denies network access.
        let restricts = permissions.network_access == Some(false) || permissions.auto_approve == Some(false);
        let sandbox = sandbox.or(restricts.then_some(Sandbox::ReadOnly));
        if self.host.sandboxed {
            // The host restricts the whole run, and codex's own sandbox cannot start inside its sandbox.
            self.sandbox(Sandbox::FullAccess);
            return self.approvals(None);
        }
        if let Some(sandbox) = sandbox {
            self.sandbox(sandbox);
        }
        if self.harness.cli_allowlist.is_some() && sandbox != Some(Sandbox::FullAccess) && !self.detected.resume_here {
            self.dropped.restriction(
                "/harness/cliAllowlist",
                "the sandbox of the installed codex runs no command with an allowlist; install a current codex",
            );
        }
        match (permissions.network_access, sandbox) {
            (None, _) | (Some(true), Some(Sandbox::FullAccess)) | (Some(false), Some(Sandbox::ReadOnly)) => {}
            (Some(true), Some(Sandbox::ReadOnly)) => {
                self.dropped
                    .convenience(network, "codex's read-only sandbox never has network access; use workspace-write");
            }
            (Some(false), Some(Sandbox::FullAccess)) if self.host.network => {}
            (Some(false), Some(Sandbox::FullAccess)) => {
                self.dropped.restriction(
                    network,
                    "codex denies tools network access only inside its sandbox; use another sandboxMode",
                );
            }
            (Some(true), None) => {
                self.config("sandbox_workspace_write.network_access", "true", network);
                self.dropped.convenience(
                    network,
                    "has an effect only if codex's own configuration sets the sandbox to workspace-write; set that sandboxMode",
                );
            }
            (Some(allowed), _) => self.config("sandbox_workspace_write.network_access", &allowed.to_string(), network),
        }
        self.approvals(sandbox);
    }

    fn sandbox(&mut self, sandbox: Sandbox) {
        let pointer = "/harness/permissions/sandboxMode";
        if self.app_server.is_some() {
            self.config("sandbox_mode", &toml_text::string(sandbox.word()), pointer);
        } else {
            self.option("--sandbox", sandbox.word(), pointer);
        }
    }

    fn approvals(&mut self, sandbox: Option<Sandbox>) {
        if let Some(duplex) = self.app_server {
            return self.decisions(duplex, sandbox);
        }
        if self.terminal {
            return self.questions_on_screen(sandbox);
        }
        if Duplex::of(self.request).is_some() && self.harness.permissions.approval_policy.is_none() {
            self.dropped.restriction(
                "/harness/permissions/approvalPolicy",
                "the installed codex cannot ask before it uses a tool; install a current codex",
            );
        }
        match self.harness.permissions.approval_policy.as_deref() {
            None => {}
            Some("never") => self.config("approval_policy", "\"never\"", "/harness/permissions/approvalPolicy"),
            Some(policy) => self.dropped.restriction(
                "/harness/permissions/approvalPolicy",
                format!("`codex exec` never asks, so `{policy}` cannot be kept; use `never` with a sandboxMode that bounds the run"),
            ),
        }
        // `autoApprove` has no option: `exec` never asks, and rejects what the sandbox does not allow. For tools of MCP
        // servers see `mcp`.
    }

    /// What codex asks about on its own screen. Whoever types there can also allow a command to leave codex's sandbox.
    fn questions_on_screen(&mut self, sandbox: Option<Sandbox>) {
        let pointer = "/harness/permissions/approvalPolicy";
        let permissions = &self.harness.permissions;
        let policy = match permissions.approval_policy.as_deref() {
            Some("on-failure") => {
                let reason = "codex has no approvalPolicy `on-failure` since version 0.143; `on-request` is used";
                self.dropped.convenience("/harness/permissions", reason);
                Some("on-request")
            }
            None if permissions.auto_approve == Some(true) => Some("never"),
            policy => policy,
        };
        if let Some(policy) = policy {
            self.config("approval_policy", &toml_text::string(policy), pointer);
        }
        if self.host.sandboxed || policy == Some("never") {
            return;
        }
        let reason = "the user at the terminal can allow codex to leave its sandbox; the host's sandbox holds it, or `approvalPolicy` `never`";
        if permissions.sandbox_mode.is_some() && sandbox.is_some_and(|sandbox| sandbox != Sandbox::FullAccess) {
            self.dropped.restriction("/harness/permissions/sandboxMode", reason);
        }
        if permissions.network_access == Some(false) && !self.host.network && sandbox != Some(Sandbox::FullAccess) {
            self.dropped.restriction("/harness/permissions/networkAccess", reason);
        }
    }

    /// Whether a session is resumed, if codex supports it.
    fn resumes_session(&self) -> bool {
        let resumes = self.request.resume_session.is_some() && (self.detected.resume || self.app_server.is_some());
        resumes || self.continues()
    }

    fn continues(&self) -> bool {
        self.request.resume_session.is_none()
            && self.harness.continue_session == Some(true)
            && (self.detected.resume_here || self.app_server.is_some())
    }

    fn directories(&mut self, sandbox: Option<Sandbox>) {
        let harness = self.harness;
        let mut roots = Vec::new();
        for (index, directory) in harness.additional_directories.iter().enumerate() {
            let pointer = format!("/harness/additionalDirectories/{index}");
            if self.app_server.is_none() && !self.detected.has("--add-dir") {
                self.dropped.convenience(pointer, "the installed codex has no --add-dir");
            } else if sandbox.is_none() && !self.host.sandboxed {
                self.directory(directory, &pointer, &mut roots);
                self.dropped.convenience(
                    pointer,
                    "has an effect only if codex's own configuration sets the sandbox to workspace-write; set that sandboxMode",
                );
            } else if sandbox == Some(Sandbox::ReadOnly) {
                self.dropped.convenience(
                    pointer,
                    "codex's read-only sandbox denies all writes, and allows reading all folders",
                );
            } else {
                self.directory(directory, &pointer, &mut roots);
            }
        }
        if !roots.is_empty() {
            self.config(
                "sandbox_workspace_write.writable_roots",
                &toml_text::strings(&roots),
                "/harness/additionalDirectories",
            );
        }
    }

    fn directory(&mut self, directory: &'a str, pointer: &str, roots: &mut Vec<&'a str>) {
        if self.app_server.is_some() {
            roots.push(directory);
        } else {
            self.option("--add-dir", directory, pointer);
        }
    }

    fn instructions(&mut self) {
        let harness = self.harness;
        if let Some(text) = &harness.system_prompt {
            if text.trim().is_empty() {
                self.dropped.convenience(
                    "/harness/systemPrompt",
                    "codex does not support an empty system prompt; its own is used",
                );
            } else {
                let path = self.file("system-prompt.md", text, false);
                let path = toml_text::string(&path);
                self.config("model_instructions_file", &path, "/harness/systemPrompt");
                if !self.detected.resume_here {
                    // Its earlier name.
                    self.config("experimental_instructions_file", &path, "/harness/systemPrompt");
                }
            }
        }
        if let Some(text) = harness.append_system_prompt.as_ref().filter(|text| !text.is_empty()) {
            self.config("developer_instructions", &toml_text::string(text), "/harness/appendSystemPrompt");
            if self.resumes_session() {
                self.dropped.convenience(
                    "/harness/appendSystemPrompt",
                    "codex keeps the text with which a session was started; another text only applies to new sessions",
                );
            }
        }
    }

    fn structured_output(&mut self) {
        let Some(wanted) = &self.harness.structured_output else { return };
        if self.app_server.is_some() {
            // It is a field of the protocol.
            return;
        }
        if self.terminal {
            self.dropped.convenience("/harness/structuredOutput", "a session in a terminal has no structured answer");
        } else if self.detected.has("--output-schema") {
            let path = self.file("output-schema.json", &wanted.schema.to_string(), false);
            self.option("--output-schema", &path, "/harness/structuredOutput/schema");
        } else {
            self.dropped.convenience(
                "/harness/structuredOutput",
                "the installed codex has no --output-schema; the answer is checked, but the model does not get the schema",
            );
        }
    }

    /// Options that `exec` does not support.
    fn unavailable(&mut self, payload: &Payload) {
        let limits = &self.harness.limits;
        if limits.max_turns.is_some() {
            self.dropped.restriction("/harness/limits/maxTurns", "codex has no limit on turns; use limits.timeoutMs");
        }
        if limits.max_budget_usd.is_some() {
            self.dropped
                .restriction("/harness/limits/maxBudgetUsd", "codex does not report cost; use limits.timeoutMs");
        }
        if self.terminal && payload.output_format.is_some() {
            self.dropped.convenience("/outputFormat", "a session in a terminal has no format");
        } else if let Some(format @ ("text" | "json")) = payload.output_format.as_deref() {
            self.dropped.convenience(
                "/outputFormat",
                format!("codex is always read as JSON lines, not as `{format}`; the answer is the run's final text"),
            );
        }
        if let Some(format) = self.harness.input_format.as_deref().filter(|format| *format != "text") {
            self.dropped
                .convenience("/harness/inputFormat", format!("codex gets its prompt as text, not as `{format}`"));
        }
    }

    /// Images are passed with `--image`, files are listed in the prompt. Returns `(name, media type, path)` of the files.
    fn attachments(&mut self) -> Vec<(&'a str, &'a str, &'a str)> {
        let mut files = Vec::new();
        for PayloadAttachment { pointer, image, attachment } in attachments(self.request, self.harness) {
            if !image {
                files.push((attachment.name.as_str(), attachment.mime_type.as_str(), attachment.path.as_str()));
            } else if let Some(problem) = image_problem(attachment) {
                self.dropped.convenience(pointer, problem);
            } else if self.app_server.is_some() {
                // It is input of the first turn.
            } else if !self.detected.has("--image") || self.detected.features.is_none() {
                self.dropped.convenience(pointer, "the installed codex does not send images");
            } else if attachment.path.contains(',') {
                self.dropped.convenience(
                    pointer,
                    "codex splits image paths at commas, and this path contains one; rename the file",
                );
            } else {
                self.images.push(attachment.path.clone());
            }
        }
        files
    }

    fn session_and_prompt(mut self, files: &[(&str, &str, &str)]) -> Result<Launch, Error> {
        let wanted = kit::continues(self.request, self.harness, &mut self.dropped);
        let continues = self.continues();
        let resume = self.request.resume_session.as_deref();
        if resume.is_some() && !self.detected.resume {
            let reason = "the installed codex cannot resume sessions; a new one is started";
            self.dropped.convenience("/harness/resumeSessionId", reason);
        } else if resume.is_none() && wanted && !continues {
            let reason = "the installed codex does not find the session of the folder; a new one is started";
            self.dropped.convenience("/harness/continueSession", reason);
        }
        let resumes_session = self.resumes_session();
        if resumes_session && self.detected.resume_images {
            self.args.push("resume".to_owned());
        }
        for image in std::mem::take(&mut self.images) {
            self.option("--image", &image, "/harness/images");
        }
        if resumes_session && !self.detected.resume_images {
            // `exec` takes them for it.
            self.args.push("resume".to_owned());
        }
        if self.terminal {
            return self.finish_in_terminal(files, continues);
        }
        match resume {
            Some(session) if self.detected.resume => {
                if session.is_empty() || session == "-" {
                    self.problems.push("/harness/resumeSessionId", "is not a valid session id");
                }
                if let Some(reason) = argument_problem(session) {
                    self.problems.push("/harness/resumeSessionId", reason);
                }
                self.args.extend(["--".to_owned(), session.to_owned()]);
            }
            None if continues => self.args.push("--last".to_owned()),
            _ => self.args.push("--".to_owned()),
        }
        self.args.push("-".to_owned());
        let input = kit::input(self.request, self.harness, files, &mut self.problems);
        self.problems.into_result()?;
        let dropped: Vec<DroppedOption> = self.dropped.into_vec();
        Ok(Launch {
            args: self.args,
            environment: self.environment,
            stdin: Some(input.into_bytes()),
            files: self.files,
            stop: StopSignal::Interrupt,
            dropped,
            ..Launch::default()
        })
    }

    /// `[options] [resume (ID | --last)] [-- PROMPT]`.
    fn finish_in_terminal(mut self, files: &[(&str, &str, &str)], continues: bool) -> Result<Launch, Error> {
        let prompt = prompt_argument(self.request, self.harness, files, &mut self.problems);
        if continues {
            self.args.push("--last".to_owned());
        }
        let session = self.request.resume_session.as_ref().filter(|_| self.detected.resume);
        if let Some(reason) = session.and_then(|session| argument_problem(session)) {
            self.problems.push("/harness/resumeSessionId", reason);
        }
        let operands: Vec<String> = session.cloned().into_iter().chain(prompt).collect();
        if !operands.is_empty() {
            self.args.push("--".to_owned());
            self.args.extend(operands);
        }
        self.problems.into_result()?;
        Ok(Launch {
            args: self.args,
            environment: self.environment,
            channel: Channel::Pty,
            files: self.files,
            stop: StopSignal::Interrupt,
            dropped: self.dropped.into_vec(),
            ..Launch::default()
        })
    }
}

#[cfg(test)]
#[path = "../prepare_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod terminal_tests;
