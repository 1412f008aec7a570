//! Options for the start time of a run.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::output::complain;
use super::{format, ids, times};
use ostler_client::Client;
use ostler_protocol::{ApiError, RunId};

/// When the run starts.
#[derive(Debug, Default, Args)]
pub(super) struct ScheduleArguments {
    /// Start at this time: 18:30, "tomorrow 9:00", "2026-12-01 09:00", or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = times::parse_future, conflicts_with = "delay")]
    at: Option<Timestamp>,
    /// Start after this time has passed: 90s, 10m, 2h30m, 1d
    #[arg(long = "in", id = "delay", value_name = "TIME", allow_hyphen_values = true, value_parser = times::parse_delay)]
    delay: Option<Timestamp>,
    /// Start when this run has completed (repeatable); canceled if it fails
    #[arg(long, value_name = "RUN")]
    after: Vec<String>,
    /// With --after: start even if that run fails or is canceled
    #[arg(long, requires = "after")]
    even_if_failed: bool,
}

impl ScheduleArguments {
    /// Writes the options into a start payload, or a part of one.
    ///
    /// # Errors
    /// `NOT_FOUND` if a run of `--after` does not exist, and other errors of the calls to the host.
    pub(super) async fn apply(&self, client: &Client, payload: &mut Value) -> Result<(), ApiError> {
        let after = ids::runs(client, &self.after).await.map_err(|error| error.at("--after"))?;
        self.write(payload, &after);
        Ok(())
    }

    fn write(&self, payload: &mut Value, after: &[RunId]) {
        let Some(members) = payload.as_object_mut() else { return };
        if let Some(at) = self.at.or(self.delay) {
            members.insert("scheduledAt".to_owned(), json!(at));
        }
        if !after.is_empty() {
            let mut block = json!({ "runIds": after });
            if self.even_if_failed {
                block["evenIfFailed"] = json!(true);
            }
            members.insert("startAfter".to_owned(), block);
        }
    }
}

/// Prints the start time of a scheduled run that is not followed.
pub(super) fn announce(params: &Value, quiet: bool) {
    let scheduled = params.get("scheduledAt").or_else(|| params.pointer("/overrides/scheduledAt"));
    let scheduled = scheduled.and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    if let Some(at) = scheduled.filter(|at| !quiet && *at > times::now()) {
        complain(&format!("starts at {}", format::local_full(at)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn schedule_options_override_the_payload() {
        let at: Timestamp = "2026-12-01T09:00:00Z".parse().unwrap();
        let run = RunId::generate();
        let mut payload = json!({"prompt": "p", "scheduledAt": "2030-01-01T00:00:00Z"});
        ScheduleArguments::default().write(&mut payload, &[]);
        assert_eq!(payload, json!({"prompt": "p", "scheduledAt": "2030-01-01T00:00:00Z"}));
        ScheduleArguments { at: Some(at), ..ScheduleArguments::default() }.write(&mut payload, &[run]);
        let after = json!({"runIds": [run]});
        assert_eq!(payload, json!({"prompt": "p", "scheduledAt": "2026-12-01T09:00:00Z", "startAfter": after}));
        let mut part = json!({});
        let lenient = ScheduleArguments { delay: Some(at), even_if_failed: true, ..ScheduleArguments::default() };
        lenient.write(&mut part, &[run]);
        let after = json!({"runIds": [run], "evenIfFailed": true});
        assert_eq!(part, json!({"scheduledAt": "2026-12-01T09:00:00Z", "startAfter": after}));
    }
}
