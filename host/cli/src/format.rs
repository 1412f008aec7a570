//! Times, durations and figures for people.

use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{option_names, times};
use ostler_protocol::Usage;
use ostler_protocol::methods::Reload;

/// Digits of a short id: the last ones of the id. Ids begin with the time, so the first digits of recent ids are equal;
/// the last digits are random.
const SHORT_ID: usize = 8;

/// The short form of an id, which every command accepts.
pub(super) fn short_id(id: impl Display) -> String {
    let id = id.to_string();
    id.get(id.len().saturating_sub(SHORT_ID)..).unwrap_or(&id).to_owned()
}

/// A time in the shortest unambiguous form: the time for today, day and time for this year, else the date.
pub(super) fn moment(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = if time.date() == now.date() {
        "%H:%M:%S"
    } else if time.year() == now.year() {
        "%b %e %H:%M"
    } else if time > now {
        // A time in the future is shown to the minute.
        "%Y-%m-%d %H:%M"
    } else {
        "%Y-%m-%d"
    };
    time.strftime(form).to_string()
}

/// A time as [`moment`] formats it, in the local zone.
pub(super) fn local(time: Timestamp) -> String {
    moment(time, times::now(), &TimeZone::system())
}

/// Date, time and zone, in the local zone.
pub(super) fn local_full(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Milliseconds as a short duration: `0.4s`, `12s`, `3m05s`, `2h07m`.
pub(super) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, milliseconds % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The duration from one time to another.
pub(super) fn between(from: Timestamp, to: Timestamp) -> String {
    duration(u64::try_from(to.as_millisecond().saturating_sub(from.as_millisecond())).unwrap_or(0))
}

/// What a reload has changed, one line each: keys of the configuration, then plugins.
pub(super) fn reload(reload: &Reload) -> Vec<String> {
    let mut lines = reload.changed.clone();
    if reload.more_changed > 0 {
        lines.push(format!("and {} more", reload.more_changed));
    }
    if !reload.restart.is_empty() {
        let verb = if reload.restart.len() == 1 && reload.restart.iter().all(|key| !key.ends_with('s')) {
            "changes"
        } else {
            "change"
        };
        lines.push(format!("{} {verb} after a restart (`ostler stop`)", reload.restart.join(", ")));
    }
    lines.extend(reload.plugins.iter().map(|plugin| {
        let kind = plugin.kind.as_deref().unwrap_or("plugin");
        match &plugin.reason {
            Some(reason) => {
                format!("{kind} {}: {}: {}", plugin.name, plugin.change, option_names::message(reason))
            }
            None => format!("{kind} {}: {}", plugin.name, plugin.change),
        }
    }));
    lines
}

/// A count with separators: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn tokens_of(number: u64, kind: &str) -> String {
    format!("{} {kind} {}", count(number), if number == 1 { "token" } else { "tokens" })
}

/// Tokens and cost in a few words; empty if none were reported.
pub(super) fn usage(usage: &Usage) -> String {
    let mut parts = Vec::new();
    if let Some(tokens) = usage.input_tokens {
        parts.push(tokens_of(tokens, "input"));
    }
    if let Some(tokens) = usage.output_tokens {
        parts.push(tokens_of(tokens, "output"));
    }
    if let Some(cost) = usage.cost_micro_usd.filter(|cost| *cost > 0) {
        parts.push(format!("{}.{:04} USD", cost / 1_000_000, cost % 1_000_000 / 100));
    }
    if usage.whole_session && !parts.is_empty() {
        parts.push("for the whole session".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use ostler_protocol::RunId;

    #[test]
    fn formats_moments_short_in_local_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now: Timestamp = "2026-03-05T22:30:00Z".parse().unwrap();
        let at = |text: &str| moment(text.parse().unwrap(), now, &zone);
        assert_eq!(at("2026-03-05T22:10:09Z"), "00:10:09", "after midnight where the user is");
        assert_eq!(at("2026-03-05T20:10:09Z"), "Mar  5 22:10");
        assert_eq!(at("2025-12-31T20:10:09Z"), "2025-12-31");
        assert_eq!(at("2027-01-05T16:30:00Z"), "2027-01-05 18:30");
    }

    #[test]
    fn formats_durations() {
        let table =
            [(0, "0.0s"), (449, "0.4s"), (9_999, "9.9s"), (10_000, "10s"), (185_000, "3m05s"), (7_620_000, "2h07m")];
        for (milliseconds, text) in table {
            assert_eq!(duration(milliseconds), text);
        }
        let early: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let late: Timestamp = "2026-01-01T00:00:12Z".parse().unwrap();
        assert_eq!(between(early, late), "12s");
        assert_eq!(between(late, early), "0.0s", "a clock that was set back");
    }

    #[test]
    fn formats_counts_and_usage() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let reported = Usage {
            input_tokens: Some(1500),
            output_tokens: Some(20),
            cost_micro_usd: Some(1_234_567),
            whole_session: true,
            ..Usage::default()
        };
        assert_eq!(usage(&reported), "1,500 input tokens, 20 output tokens, 1.2345 USD, for the whole session");
        let one = Usage { output_tokens: Some(1), ..Usage::default() };
        assert_eq!((usage(&one).as_str(), usage(&Usage::default()).as_str()), ("1 output token", ""));
    }

    #[test]
    fn short_id_is_the_random_suffix() {
        let id: RunId = "01999999-8888-7777-8666-123456789abc".parse().unwrap();
        assert_eq!(short_id(id), "56789abc");
    }
}
