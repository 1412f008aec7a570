//! The command line of a run.
//!
//! `--print` with every option joined to its value by `=`, so that no value is parsed as a flag and no list option consumes
//! the next argument. The prompt is passed on standard input. Permission rules, which contain paths, and MCP servers, whose
//! headers and environment can be secret, are in private files.

mod duplex;
mod mcp;
mod permissions;
mod private_settings;

use ostler_plugin::provider::{
    Attachment, Capabilities, Channel, Launch, NameValue, PrivateFile, RunRequest, StopSignal,
};
use ostler_plugin::{DroppedOptions, Error, HostContainment, Problems, escape_pointer};
use ostler_provider_kit::argument::shell_quote;
use ostler_provider_kit::payload::{Harness, Payload, PayloadAttachment, attachments};
use ostler_provider_kit::prepare as kit;
use ostler_provider_kit::terminal::{in_terminal, prompt_argument};
use serde_json::json;

use self::duplex::Control;
use self::private_settings::PrivateSettings;
use crate::detect::Detected;
use crate::flags;
use crate::settings::Settings;

pub(crate) use self::duplex::{control, first_message};

/// The form of messages on standard input.
const INPUT: &str = "--input-format=stream-json";

/// Media types that claude's `Read` shows to the model.
const IMAGE_TYPES: [&str; 5] = ["image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"];

pub(crate) fn prepare(settings: &Settings, request: &RunRequest, capabilities: &Capabilities) -> Result<Launch, Error> {
    let detected = Detected::of(capabilities)?;
    if !detected.control() && !in_terminal(request) {
        kit::non_interactive(request, "the installed claude")?;
    }
    let payload = Payload::parse(&request.payload)?;
    let mut launch = Builder::new(settings, request, &payload, &detected);
    // Options of the run come after its flags: of two values for an option, claude uses the later one.
    let flags = flags::arguments(&payload.optional_flags, &capabilities.optional_flags, &mut launch.problems);
    launch.args.extend(flags);
    launch.surroundings();
    launch.guard_shells();
    launch.model();
    let rights = permissions::apply(&mut launch);
    launch.directories();
    mcp::servers(&mut launch, rights);
    launch.converse();
    launch.limits();
    launch.instructions();
    launch.forget_the_first_prompt();
    launch.structured_output();
    launch.formats();
    let files = launch.attachments();
    launch.session();
    launch.finish(&files)
}

/// Builds a launch.
struct Builder<'a> {
    settings: &'a Settings,
    request: &'a RunRequest,
    payload: &'a Payload,
    harness: &'a Harness,
    detected: &'a Detected,
    args: Vec<String>,
    environment: Vec<NameValue>,
    files: Vec<PrivateFile>,
    private: PrivateSettings,
    /// The containment by the host.
    host: HostContainment,
    /// The session runs in a terminal, where the user answers what claude asks.
    terminal: bool,
    /// The use of the control protocol, and who is asked; none in a run that nobody is asked in.
    control: Option<Control>,
    dropped: DroppedOptions,
    problems: Problems,
}

impl<'a> Builder<'a> {
    fn new(settings: &'a Settings, request: &'a RunRequest, payload: &'a Payload, detected: &'a Detected) -> Self {
        let host = HostContainment::read(request.host.extra.as_deref());
        let terminal = in_terminal(request);
        let print = ["--print", "--output-format=stream-json", "--verbose", "--include-partial-messages"];
        Self {
            settings,
            request,
            payload,
            harness: &payload.harness,
            detected,
            args: if terminal { Vec::new() } else { print.map(str::to_owned).to_vec() },
            environment: Vec::new(),
            files: Vec::new(),
            private: PrivateSettings::new(settings, !host.sandboxed),
            host,
            terminal,
            control: control(request, detected).map(|duplex| Control::of(duplex, &payload.harness.permissions)),
            dropped: DroppedOptions::default(),
            problems: Problems::default(),
        }
    }

    /// Sets a variable that the run requires. If the payload sets it as well, that value is overridden and reported.
    fn set(&mut self, name: &str, value: &str) {
        if self.harness.process_env.get(name).is_some_and(|given| given != value) {
            let pointer = format!("/harness/processEnv/{}", escape_pointer(name));
            self.dropped.convenience(pointer, format!("Ostler sets this variable for claude, to `{value}`"));
        }
        self.put(name, value);
    }

    fn put(&mut self, name: &str, value: &str) {
        self.environment.push(NameValue { name: name.to_owned(), value: value.to_owned() });
    }

    /// Adds `--flag=value`. Problems are reported with `pointer`.
    fn option(&mut self, flag: &str, value: &str, pointer: &str) {
        let argument = kit::joined(flag, value, pointer, &mut self.problems);
        self.args.push(argument);
    }

    /// Reports that the harness overrides a flag of the payload: claude uses the later of the two.
    fn override_flag(&mut self, flag: &str) {
        if self.payload.optional_flags.contains_key(flag) {
            self.dropped.convenience(format!("/optionalFlags/{flag}"), "`harness` overrides it");
        }
    }

    /// Adds a file to the private folder and returns its absolute path.
    fn file(&mut self, name: &str, contents: &str) -> String {
        kit::private_file(&mut self.files, self.request, name, contents, false)
    }

    /// Sets what automated runs require: no updates during a run, and few retries, because the host has retries with a limit
    /// that the user sets.
    fn surroundings(&mut self) {
        self.set("DISABLE_AUTOUPDATER", "1");
        self.set("CLAUDE_CODE_MAX_RETRIES", &self.settings.max_retries.to_string());
        if !self.settings.nonessential_traffic {
            for name in ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING"] {
                self.set(name, "1");
            }
        }
    }

    /// Writes the script that claude's shells run before each command, after the snapshot of the user's login shell, which
    /// resets `PATH` and defines functions for `find`, `grep` and `rg`. A script of the user still runs.
    fn guard_shells(&mut self) {
        const BEFORE_COMMANDS: &str = "CLAUDE_ENV_FILE";
        let mut script = String::new();
        if self.harness.shell_prelude.is_some() {
            // The snapshot would override a PATH of the prelude.
            script.push_str("[ -z \"${BASH_VERSION-}\" ] || [ ! -r \"${BASH_ENV-}\" ] || . \"$BASH_ENV\"\n");
        }
        if self.harness.cli_allowlist.is_some() {
            // The functions start claude's own programs, even if the allowlist does not contain them.
            script.push_str("unset -f find grep rg 2>/dev/null || :\n");
        }
        let token = &self.settings.token_variable;
        if self.request.host.environment_names.contains(token) {
            // The shells inherit claude's environment, and no tool needs the provider token.
            script.push_str(&format!("unset {token}\n"));
        }
        if script.is_empty() {
            return;
        }
        if let Some(path) = self.harness.process_env.get(BEFORE_COMMANDS) {
            script.insert_str(0, &format!("[ ! -r {0} ] || . {0}\n", shell_quote(path)));
        }
        let path = self.file("shell-environment.sh", &script);
        self.put(BEFORE_COMMANDS, &path);
    }

    fn model(&mut self) {
        let Some(model) = &self.request.model else { return };
        if self.detected.has("--model") {
            self.option("--model", model, "/model");
        } else {
            self.dropped.convenience("/model", "the installed claude has no --model");
        }
    }

    fn directories(&mut self) {
        let harness = self.harness;
        for (index, directory) in harness.additional_directories.iter().enumerate() {
            let pointer = format!("/harness/additionalDirectories/{index}");
            if self.detected.has("--add-dir") {
                self.option("--add-dir", directory, &pointer);
            } else {
                self.dropped.convenience(pointer, "the installed claude has no --add-dir");
            }
        }
    }

    fn limits(&mut self) {
        let limits = &self.harness.limits;
        if self.terminal {
            for (given, pointer) in [
                (limits.max_turns.is_some(), "/harness/limits/maxTurns"),
                (limits.max_budget_usd.is_some(), "/harness/limits/maxBudgetUsd"),
            ] {
                if given {
                    self.dropped.restriction(pointer, "claude has this limit only without a terminal");
                }
            }
            return;
        }
        if let Some(turns) = limits.max_turns {
            // The option exists, but is not in the help. A version without it refuses to start and reports that.
            let pointer = "/harness/limits/maxTurns";
            if turns == 0 {
                self.problems.push(pointer, "must be at least 1");
            }
            self.option("--max-turns", &turns.to_string(), pointer);
        }
        if let Some(budget) = limits.max_budget_usd {
            let pointer = "/harness/limits/maxBudgetUsd";
            if !(budget.is_finite() && budget > 0.0) {
                self.problems.push(pointer, "must be more than 0");
            } else if self.detected.has("--max-budget-usd") {
                self.option("--max-budget-usd", &budget.to_string(), pointer);
            } else {
                self.dropped.restriction(pointer, "the installed claude has no --max-budget-usd");
            }
        }
    }

    fn instructions(&mut self) {
        let harness = self.harness;
        for (text, flag, name, pointer) in [
            (&harness.system_prompt, "--system-prompt", "system-prompt.md", "/harness/systemPrompt"),
            (
                &harness.append_system_prompt,
                "--append-system-prompt",
                "append-system-prompt.md",
                "/harness/appendSystemPrompt",
            ),
        ] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() {
                if flag == "--system-prompt" {
                    self.dropped
                        .convenience(pointer, "claude does not support an empty system prompt; its own is used");
                }
            } else if !self.detected.has(flag) {
                self.dropped.convenience(pointer, format!("the installed claude has no {flag}"));
            } else if self.detected.prompt_files {
                let path = self.file(name, text);
                self.option(&format!("{flag}-file"), &path, pointer);
            } else {
                self.option(flag, text, pointer);
            }
        }
    }

    /// Newer versions send the system prompt and tools of the first message with all later ones.
    fn forget_the_first_prompt(&mut self) {
        const SNAPSHOT: &str = "--system-prompt-snapshot";
        let harness = self.harness;
        let goes_on = self.request.resume_session.is_some() || harness.continue_session == Some(true);
        let asks = harness.system_prompt.is_some() || harness.append_system_prompt.is_some() || harness.tools.is_some();
        if goes_on && asks && self.detected.has(SNAPSHOT) {
            self.args.push(format!("{SNAPSHOT}=off"));
        }
    }

    fn structured_output(&mut self) {
        let Some(wanted) = &self.harness.structured_output else { return };
        if self.terminal {
            self.dropped.convenience("/harness/structuredOutput", "a session in a terminal has no structured answer");
        } else if self.detected.has("--json-schema") {
            self.option("--json-schema", &wanted.schema.to_string(), "/harness/structuredOutput/schema");
        } else {
            self.dropped.convenience(
                "/harness/structuredOutput",
                "the installed claude has no --json-schema; the answer is checked, but the model does not get the schema",
            );
        }
    }

    fn formats(&mut self) {
        if self.terminal {
            for (given, pointer) in [
                (self.payload.output_format.is_some(), "/outputFormat"),
                (self.harness.input_format.is_some(), "/harness/inputFormat"),
            ] {
                if given {
                    self.dropped.convenience(pointer, "a session in a terminal has no format");
                }
            }
            return;
        }
        if let Some(format @ ("text" | "json")) = self.payload.output_format.as_deref() {
            self.dropped.convenience(
                "/outputFormat",
                format!(
                    "claude is always read as `stream-json`, not as `{format}`; the answer is the run's final text"
                ),
            );
        }
        if self.harness.input_format.as_deref() == Some("stream-json") && self.control.is_none() {
            if self.detected.has("--input-format") {
                self.args.push(INPUT.to_owned());
            } else {
                self.dropped.convenience("/harness/inputFormat", "the installed claude has no --input-format");
            }
        }
    }

    /// Files and images are listed in the prompt, and `Read` may open them. Returns `(name, media type, path)`.
    fn attachments(&mut self) -> Vec<(&'a str, &'a str, &'a str)> {
        let harness = self.harness;
        let mut files = Vec::new();
        for PayloadAttachment { pointer, image, attachment } in attachments(self.request, harness) {
            if let Some(reason) = unreadable(harness, image, attachment) {
                self.dropped.convenience(pointer, reason);
                continue;
            }
            self.private.allow_reading(&attachment.path);
            files.push((attachment.name.as_str(), attachment.mime_type.as_str(), attachment.path.as_str()));
        }
        files
    }

    fn session(&mut self) {
        let continues = kit::continues(self.request, self.harness, &mut self.dropped);
        let forks = flags::is_on(&self.payload.optional_flags, flags::FORK_SESSION);
        let resume = self.request.resume_session.as_deref();
        let mut goes_on = false;
        if let Some(session) = resume {
            let pointer = "/harness/resumeSessionId";
            if self.detected.has("--resume") {
                self.option("--resume", session, pointer);
                goes_on = true;
            } else {
                self.dropped.convenience(pointer, "the installed claude has no --resume; a new session is started");
            }
        } else if continues {
            if self.detected.has("--continue") {
                self.args.push("--continue".to_owned());
                // Only a hook reports whether there was a session to continue.
                if !self.terminal {
                    self.private.watch_the_start();
                }
                goes_on = true;
            } else {
                let reason = "the installed claude has no --continue; a new session is started";
                self.dropped.convenience("/harness/continueSession", reason);
            }
        }
        // The caller can choose the id of a new session.
        if (!goes_on || forks) && self.detected.has("--session-id") {
            self.args.push(format!("--session-id={}", self.request.fresh_id));
        }
    }

    fn finish(mut self, files: &[(&str, &str, &str)]) -> Result<Launch, Error> {
        if self.terminal {
            return self.finish_in_terminal(files);
        }
        let mut input = match &self.control {
            // A session can begin with a later message.
            Some(control) if control.duplex.interactive && self.request.prompt.trim().is_empty() => String::new(),
            _ => kit::input(self.request, self.harness, files, &mut self.problems),
        };
        if self.control.is_none() && self.args.iter().any(|arg| arg == INPUT) {
            let content = [json!({ "type": "text", "text": input })];
            input = format!("{}\n", json!({ "type": "user", "message": { "role": "user", "content": content } }));
        }
        self.write_settings();
        self.problems.into_result()?;
        Ok(Launch {
            args: self.args.into_iter().flat_map(apart).collect(),
            environment: self.environment,
            // The transcript sends the prompt after the handshake.
            stdin: self.control.is_none().then(|| input.into_bytes()),
            channel: if self.control.is_some() { Channel::Duplex } else { Channel::Pipes },
            files: self.files,
            // claude ends the processes of its tools on an interrupt only.
            stop: StopSignal::Interrupt,
            dropped: self.dropped.into_vec(),
            ..Launch::default()
        })
    }

    fn finish_in_terminal(mut self, files: &[(&str, &str, &str)]) -> Result<Launch, Error> {
        self.write_settings();
        let prompt = prompt_argument(self.request, self.harness, files, &mut self.problems);
        self.problems.into_result()?;
        let mut args: Vec<String> = self.args.into_iter().flat_map(apart).collect();
        args.extend(prompt.into_iter().flat_map(|prompt| ["--".to_owned(), prompt]));
        Ok(Launch {
            args,
            environment: self.environment,
            channel: Channel::Pty,
            files: self.files,
            stop: StopSignal::Interrupt,
            dropped: self.dropped.into_vec(),
            ..Launch::default()
        })
    }

    fn write_settings(&mut self) {
        if let Some(document) = self.private.document() {
            let path = self.file("settings.json", &document);
            self.option("--settings", &path, "");
        }
    }
}

/// The id of a session in a terminal, if it is known before claude starts.
pub(crate) fn known_session(request: &RunRequest, capabilities: &Capabilities) -> Option<String> {
    let payload = Payload::parse(&request.payload).ok()?;
    let detected = Detected::of(capabilities).ok()?;
    if flags::is_on(&payload.optional_flags, flags::FORK_SESSION) {
        return None;
    }
    match &request.resume_session {
        Some(session) => Some(session.clone()).filter(|_| detected.has("--resume")),
        None if payload.harness.continue_session == Some(true) => None,
        None => Some(request.fresh_id.clone()).filter(|_| detected.has("--session-id")),
    }
}

/// Why claude cannot open an attachment; none if it can.
fn unreadable(harness: &Harness, image: bool, attachment: &Attachment) -> Option<String> {
    if harness.tools.as_ref().is_some_and(|tools| !tools.iter().any(|tool| tool == "file_read")) {
        return Some("claude opens files with its tool `file_read`, which `tools` does not list".to_owned());
    }
    if image && !IMAGE_TYPES.contains(&attachment.mime_type.as_str()) {
        return Some(format!("claude does not support images of type {}; convert it to PNG", attachment.mime_type));
    }
    (!private_settings::is_plain(&attachment.path))
        .then(|| "claude's rules cannot contain a path with pattern characters; rename the file".to_owned())
}

/// Options that versions up to 2.0.71 search before they parse their command line. They find them only if the value is a
/// separate argument, which all versions accept.
const APART: [&str; 2] = ["--settings", flags::SETTING_SOURCES];

/// The arguments in the form that claude accepts.
fn apart(argument: String) -> Vec<String> {
    match argument.split_once('=') {
        // A value that begins with a dash would be parsed as a flag.
        Some((flag, value)) if APART.contains(&flag) && !value.starts_with('-') => {
            vec![flag.to_owned(), value.to_owned()]
        }
        _ => vec![argument],
    }
}

#[cfg(test)]
#[path = "../prepare_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "duplex_tests.rs"]
mod duplex_tests;

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod terminal_tests;
