//! Provider plugin for the rehearsal: the scripted stand-in agent in the host's own binary.
//!
//! It requires no installed CLI, so it is always available. Its only restriction is to refuse commands; it reports
//! restrictions that it cannot enforce.

mod prepare;
mod transcript;

use ostler_plugin::{
    Containment, Error, Plugin, Provider,
    provider::{
        Capabilities, FlagValues, Launch, OptionalFlag, Probe, ProbeOutcome, ProbeResult, ProviderInfo, RunMode,
        RunRequest, Support,
    },
    vocabulary::features,
};
use serde::Deserialize;

/// The command of the host's binary that runs the stand-in.
const VERB: &str = "__rehearse";
/// Flags that a payload may set.
const DELAY_FLAG: &str = "--delay-ms";
const ALLOW_RUN_FLAG: &str = "--allow-run";

/// One configured instance.
#[derive(Debug)]
pub struct Rehearsal {
    settings: Settings,
}

/// Settings of an instance.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder for the sessions; by default in the host's home.
    sessions: Option<String>,
    /// Milliseconds between the chunks of `SLOW`.
    delay: Option<u32>,
}

impl Plugin for Rehearsal {
    const NAME: &'static str = "rehearsal";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "a scripted stand-in agent: no model, no account, no cost";

    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(
            r#"{
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "sessions": {
                        "description": "Absolute path of the folder for sessions.",
                        "type": "string",
                        "pattern": "^/"
                    },
                    "delay": {
                        "description": "Milliseconds between the chunks of SLOW.",
                        "type": "integer",
                        "minimum": 0,
                        "maximum": 60000
                    }
                }
            }"#
            .to_owned(),
        )
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        Ok(Self { settings })
    }
}

impl Rehearsal {
    /// The stand-in writes nothing except its sessions.
    fn containment(&self) -> Containment {
        let sessions = match &self.settings.sessions {
            Some(folder) => vec![format!("{}/", folder.trim_end_matches('/'))],
            None => {
                ["$OSTLER_HOME/rehearsal/", "$XDG_STATE_HOME/ostler/rehearsal/", "~/.local/state/ostler/rehearsal/"]
                    .map(str::to_owned)
                    .to_vec()
            }
        };
        Containment { write: sessions, settable: vec!["REHEARSAL_*".to_owned()], ..Containment::default() }
    }
}

impl Provider for Rehearsal {
    type Transcript = transcript::Transcript;

    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            id: Self::NAME.to_owned(),
            display_name: "Rehearsal (scripted, no model)".to_owned(),
            executables: vec!["@host".to_owned()],
            install_hint: "the rehearsal is part of ostler itself: reinstall ostler".to_owned(),
            default_model: Some("rehearsal".to_owned()),
            token_variable: Some("REHEARSAL_TOKEN".to_owned()),
            inherit_environment: ["OSTLER_HOME", "XDG_STATE_HOME", "REHEARSAL_*"].map(str::to_owned).to_vec(),
            extra: Some(self.containment().to_extra()),
        }
    }

    fn probes(&self) -> Vec<Probe> {
        vec![Probe {
            id: "version".to_owned(),
            args: vec![VERB.to_owned(), "--version".to_owned()],
            environment: Vec::new(),
            timeout_ms: 10_000,
        }]
    }

    fn detect(&self, results: Vec<ProbeResult>) -> Capabilities {
        match version(&results) {
            Ok(version) => Capabilities {
                cli_version: Some(version),
                modes: vec![RunMode::NonInteractive, RunMode::Interactive],
                features: FEATURES.iter().map(|&feature| feature.to_owned()).collect(),
                optional_flags: optional_flags(),
                ..Capabilities::default()
            },
            Err(reason) => Capabilities {
                support: Support::Blocked,
                modes: Vec::new(),
                reasons: vec![reason],
                ..Capabilities::default()
            },
        }
    }

    fn prepare(&self, request: RunRequest, _: Capabilities) -> Result<Launch, Error> {
        prepare::prepare(&self.settings, &request)
    }

    fn transcript(&self, request: RunRequest, _: Capabilities) -> Self::Transcript {
        transcript::Transcript::new(&request)
    }
}

/// Features of the stand-in. It supports a sandbox and a list of tools by refusing commands, and a budget because it has no
/// cost.
const FEATURES: [&str; 20] = [
    features::RESUME,
    features::CONTINUE,
    features::MODEL,
    features::TOOLS,
    features::SANDBOX,
    features::AUTO_APPROVE,
    features::APPROVALS,
    features::INTERRUPT,
    features::MAX_BUDGET,
    features::MAX_TURNS,
    features::STRUCTURED_OUTPUT,
    features::SYSTEM_PROMPT,
    features::APPEND_SYSTEM_PROMPT,
    features::PIPED_CONTENT,
    features::IMAGES,
    features::FILES,
    features::TEXT_DELTAS,
    features::THINKING,
    features::TOOL_EVENTS,
    features::USAGE,
];

fn optional_flags() -> Vec<OptionalFlag> {
    vec![
        OptionalFlag {
            name: DELAY_FLAG.to_owned(),
            summary: "milliseconds between the chunks of SLOW".to_owned(),
            values: FlagValues::One,
            advanced: false,
            widens: Vec::new(),
        },
        OptionalFlag {
            name: ALLOW_RUN_FLAG.to_owned(),
            summary: "run commands regardless of the sandbox and the list of tools".to_owned(),
            values: FlagValues::None,
            advanced: true,
            widens: vec!["sandboxMode".to_owned(), "tools".to_owned()],
        },
    ]
}

fn version(results: &[ProbeResult]) -> Result<String, String> {
    let outcome = results.iter().find(|result| result.id == "version").map(|result| &result.outcome);
    match outcome {
        Some(ProbeOutcome::Exited(output)) if output.code == 0 => output
            .stdout
            .trim()
            .strip_prefix("ostler rehearsal ")
            .filter(|version| !version.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| "the rehearsal printed no version".to_owned()),
        Some(ProbeOutcome::Exited(output)) => {
            Err(format!("the rehearsal failed to print its version: exit code {}", output.code))
        }
        Some(ProbeOutcome::TimedOut) => Err("the rehearsal did not print its version in time".to_owned()),
        Some(ProbeOutcome::Failed(message)) => Err(format!("the rehearsal failed to start: {message}")),
        Some(ProbeOutcome::NotFound) | None => Err("the host's own binary was not found".to_owned()),
    }
}

ostler_plugin::export_provider!(Rehearsal);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use ostler_plugin::provider::ProbeOutput;

    fn rehearsal() -> Rehearsal {
        Rehearsal::configure(Settings::default()).unwrap()
    }

    fn detected(outcome: ProbeOutcome) -> Capabilities {
        rehearsal().detect(vec![ProbeResult { id: "version".to_owned(), outcome }])
    }

    #[test]
    fn version_is_read_from_the_probe() {
        let capabilities = detected(ProbeOutcome::Exited(ProbeOutput {
            code: 0,
            stdout: "ostler rehearsal 1.2.3\n".to_owned(),
            stderr: String::new(),
        }));
        assert_eq!(capabilities.support, Support::Supported);
        assert_eq!(capabilities.cli_version.as_deref(), Some("1.2.3"));
        assert!(capabilities.features.iter().any(|word| word == "resume"));
    }

    #[test]
    fn other_output_blocks_with_a_reason() {
        let strange = ProbeOutcome::Exited(ProbeOutput {
            code: 0,
            stdout: "true (coreutils) 9.4".to_owned(),
            stderr: String::new(),
        });
        for outcome in [strange, ProbeOutcome::TimedOut, ProbeOutcome::NotFound, ProbeOutcome::Failed("no".into())] {
            let capabilities = detected(outcome);
            assert_eq!(capabilities.support, Support::Blocked);
            assert_eq!(capabilities.reasons.len(), 1);
        }
        assert_eq!(rehearsal().detect(Vec::new()).support, Support::Blocked);
    }

    #[test]
    fn schema_is_valid_json_and_lists_the_settings() {
        let schema: serde_json::Value = serde_json::from_str(&Rehearsal::settings_schema().unwrap()).unwrap();
        let known: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(known, ["sessions", "delay"]);
        serde_json::from_str::<Settings>(r#"{"sessions": "/s", "delay": 5}"#).unwrap();
    }
}
