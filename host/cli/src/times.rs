//! Times and durations as people type them, in the local time zone.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, Zoned};

/// How to interpret a time of day without a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// As the next such time.
    Next,
    /// As the last such time.
    Last,
}

const MOMENTS: &str = "18:30, \"tomorrow 9:00\", \"2026-12-01 09:00\", or RFC 3339 (2026-12-01T09:00:00Z)";
const DURATIONS: &str = "a number with a unit: 90s, 10m, 2h30m, 1d";

/// The current time of this machine, for comparison with times that the user types or reads.
#[expect(clippy::disallowed_methods, reason = "the command line is not the host, whose clock tests set")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

fn zoned_now() -> Zoned {
    now().to_zoned(TimeZone::system())
}

/// Reads a time in the future. A time of day means the next one.
pub(super) fn parse_future(text: &str) -> Result<Timestamp, String> {
    future(text, &zoned_now())
}

/// Reads a delay, and returns the time when it ends.
pub(super) fn parse_delay(text: &str) -> Result<Timestamp, String> {
    delay(text, &zoned_now())
}

/// Reads a time in the past: a time, or how long ago it was. A time of day means the last one.
pub(super) fn parse_past(text: &str) -> Result<Timestamp, String> {
    past(text, &zoned_now())
}

/// Reads a duration.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected {DURATIONS}");
    let span = span(text).ok_or_else(wrong)?;
    // A day is 24 hours, because the duration has no start date.
    let seconds = span.total((Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Reads a duration of whole seconds.
pub(super) fn parse_seconds(text: &str) -> Result<u64, String> {
    let simple = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b's' | b'm' | b'h' | b'd'));
    let duration = simple.then(|| parse_duration(text).ok()).flatten();
    let wrong = || "expected seconds, or numbers with s, m, h or d: 90, 90s, 10m, 2h30m, 1d".to_owned();
    duration.map(|duration| duration.as_secs()).ok_or_else(wrong)
}

fn future(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let at = moment(text, now, Direction::Next).ok_or_else(|| format!("expected {MOMENTS}"))?;
    if at < now.timestamp() {
        return Err(format!("{} has passed", at.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S %Z")));
    }
    Ok(at)
}

fn delay(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let span = span(text).ok_or_else(|| format!("expected {DURATIONS}"))?;
    now.checked_add(span).map(|at| at.timestamp()).map_err(|_| "that is too far in the future".to_owned())
}

fn past(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    if let Some(span) = span(text) {
        return now.checked_sub(span).map(|at| at.timestamp()).map_err(|_| "that is too long ago".to_owned());
    }
    moment(text, now, Direction::Last)
        .ok_or_else(|| format!("expected how long ago ({DURATIONS}), today, yesterday, or a time: {MOMENTS}"))
}

/// Reads a duration that is not negative: with units, or as a number of seconds.
fn span(text: &str) -> Option<Span> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let span = if digits { Span::new().try_seconds(text.parse::<i64>().ok()?).ok()? } else { text.parse().ok()? };
    (!span.is_negative()).then_some(span)
}

fn moment(text: &str, now: &Zoned, direction: Direction) -> Option<Timestamp> {
    let text = text.trim();
    if text == "now" {
        return Some(now.timestamp());
    }
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Some(exact);
    }
    if let Ok(exact) = text.parse::<Zoned>() {
        return Some(exact.timestamp());
    }
    let here = |at: DateTime| at.to_zoned(now.time_zone().clone()).ok().map(|at| at.timestamp());
    if let Some(time) = time_of_day(text) {
        let today = here(now.date().to_datetime(time))?;
        let other_day = match direction {
            Direction::Next if today < now.timestamp() => now.date().tomorrow().ok()?,
            Direction::Last if today > now.timestamp() => now.date().yesterday().ok()?,
            _ => return Some(today),
        };
        return here(other_day.to_datetime(time));
    }
    let dated = text.starts_with(|first: char| first.is_ascii_digit());
    let between = |character: char| character == ' ' || (dated && character.eq_ignore_ascii_case(&'t'));
    let (day, time) = text.split_once(between).unwrap_or((text, "00:00"));
    here(day_of(day, now.date())?.to_datetime(time_of_day(time.trim())?))
}

fn day_of(text: &str, today: Date) -> Option<Date> {
    match text {
        "yesterday" => today.yesterday().ok(),
        "today" => Some(today),
        "tomorrow" => today.checked_add(1.day()).ok(),
        date => date.parse().ok(),
    }
}

/// `9:00`, `09:00`, `18:30:15`.
fn time_of_day(text: &str) -> Option<Time> {
    let (hours, _) = text.split_once(':')?;
    // Otherwise the parser would accept and ignore a date before the time.
    if hours.len() > 2 || !hours.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if hours.len() == 1 { format!("0{text}").parse().ok() } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// Half past two in the afternoon, in summer time, the day before clocks go back.
    fn now() -> Zoned {
        "2026-10-24T14:30:00[Europe/Berlin]".parse().unwrap()
    }

    fn shown(at: Result<Timestamp, String>) -> String {
        at.map_or_else(|error| error, |at| at.to_string())
    }

    #[test]
    fn reads_times_in_the_future() {
        for (text, expected) in [
            ("18:30", "2026-10-24T16:30:00Z"),
            ("9:00", "2026-10-25T08:00:00Z"),
            ("14:30", "2026-10-24T12:30:00Z"),
            ("18:30:15", "2026-10-24T16:30:15Z"),
            ("now", "2026-10-24T12:30:00Z"),
            ("tomorrow 9:00", "2026-10-25T08:00:00Z"),
            ("today 23:59", "2026-10-24T21:59:00Z"),
            ("tomorrow", "2026-10-24T22:00:00Z"),
            ("2026-12-01 09:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01T09:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01", "2026-11-30T23:00:00Z"),
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00-05:00", "2026-12-01T14:00:00Z"),
            ("2026-12-01T09:00[America/New_York]", "2026-12-01T14:00:00Z"),
        ] {
            assert_eq!(shown(future(text, &now())), expected, "{text}");
        }
    }

    #[test]
    fn rejects_invalid_and_past_times() {
        for text in
            ["", "soon", "25:00", "12:60", "2026-13-01 09:00", "2026-12-01 x", "9", "2h", "tomorrow 9", "\u{1b}[2J"]
        {
            assert!(future(text, &now()).unwrap_err().starts_with("expected"), "{text:?}");
        }
        let error = future("2020-01-01", &now()).unwrap_err();
        assert_eq!(error, "2020-01-01 00:00:00 CET has passed");
        assert!(future("today 9:00", &now()).unwrap_err().ends_with("has passed"));
    }

    #[test]
    fn reads_delays() {
        for (text, expected) in [
            ("90", "2026-10-24T12:31:30Z"),
            ("90s", "2026-10-24T12:31:30Z"),
            ("2h30m", "2026-10-24T15:00:00Z"),
            ("2h 30m", "2026-10-24T15:00:00Z"),
            ("10 minutes", "2026-10-24T12:40:00Z"),
            // The same time tomorrow, whatever the clocks do in between.
            ("1d", "2026-10-25T13:30:00Z"),
            ("PT1H", "2026-10-24T13:30:00Z"),
        ] {
            assert_eq!(shown(delay(text, &now())), expected, "{text}");
        }
        for text in ["", "h", "-2h", "2h ago", "18:30", "99999999999999999999", "2x"] {
            assert!(delay(text, &now()).is_err(), "{text:?}");
        }
        assert_eq!(delay("9000y", &now()).unwrap_err(), "that is too far in the future");
    }

    #[test]
    fn reads_times_in_the_past() {
        for (text, expected) in [
            ("2h", "2026-10-24T10:30:00Z"),
            ("3d", "2026-10-21T12:30:00Z"),
            ("today", "2026-10-23T22:00:00Z"),
            ("yesterday 18:00", "2026-10-23T16:00:00Z"),
            ("18:30", "2026-10-23T16:30:00Z"),
            ("9:00", "2026-10-24T07:00:00Z"),
            ("2026-01-15", "2026-01-14T23:00:00Z"),
        ] {
            assert_eq!(shown(past(text, &now())), expected, "{text}");
        }
        assert!(past("last week", &now()).unwrap_err().starts_with("expected how long ago"));
        assert_eq!(past("20000y", &now()).unwrap_err().split(' ').next(), Some("expected"));
    }

    #[test]
    fn reads_whole_seconds_with_the_units_of_a_day() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("0", 0), ("2h30m", 9000)]
        {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "s", "-5", "+5", "1.5m", "5w", "5 m", "99999999999999999999", "9999999999999999999h", "ü"] {
            assert!(parse_seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("2h30m", 9000), ("1d", 86_400), ("0", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "soon", "-1s", "1mo", "18:30"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
