//! Failures, and facts that can be read from the messages of any CLI.

use ostler_plugin::provider::{Failure, FailureKind};

/// Maximum length of a message in bytes.
const MAX_MESSAGE: usize = 4000;

/// A failure with a code of the vocabulary. The message is cut to its maximum length.
#[must_use]
pub fn failure(kind: FailureKind, code: &str, message: &str, hint: Option<&str>) -> Failure {
    Failure { kind, code: Some(code.to_owned()), hint: hint.map(str::to_owned), ..unknown(message) }
}

/// A failure of which only the message is known.
#[must_use]
pub fn unknown(message: &str) -> Failure {
    Failure {
        kind: FailureKind::Unknown,
        code: None,
        message: shorten(message.trim(), MAX_MESSAGE),
        hint: None,
        retry: None,
    }
}

/// Removes `Error: ` from the beginning of a message.
#[must_use]
pub fn unprefixed(line: &str) -> &str {
    line.strip_prefix("Error: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line)
}

/// The HTTP status in a message: `unexpected status 401 Unauthorized`, `last status: 429`, `HTTP 503`.
#[must_use]
pub fn http_status(message: &str) -> Option<u16> {
    let lower = message.to_ascii_lowercase();
    ["status code", "status", "http error", "api error", "http", "error code"].iter().find_map(|word| {
        lower.match_indices(word).find_map(|(at, _)| {
            let rest = lower.get(at + word.len()..)?.trim_start_matches([':', ' ', '(', '=']);
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let status = if digits.len() == 3 { digits.parse().ok()? } else { return None };
            (400..600).contains(&status).then_some(status)
        })
    })
}

/// The time to wait that a message states, in milliseconds: `try again in 1.5s`, `retry after 20 seconds`, `in 2 days 3
/// hours 5 minutes`. None if it states no duration, or a time of day.
#[must_use]
pub fn wait_ms(message: &str) -> Option<u64> {
    let lower = message.to_ascii_lowercase();
    ["try again in ", "retry in ", "retry after ", "retry-after: ", "retry-after ", "resets in ", "reset in "]
        .iter()
        .find_map(|lead| {
            let at = lower.find(lead)?;
            duration_ms(lower.get(at + lead.len()..)?)
        })
}

fn duration_ms(text: &str) -> Option<u64> {
    let mut total = 0.0_f64;
    let mut found = false;
    let mut rest = text.trim_start();
    loop {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        // A period after a number without a unit ends the sentence.
        let Ok(number) = rest.get(..digits)?.trim_end_matches('.').parse::<f64>() else { break };
        rest = rest.get(digits..)?.trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let factor = match rest.get(..letters)? {
            "ms" | "millisecond" | "milliseconds" => 1.0,
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
            "d" | "day" | "days" => 86_400_000.0,
            _ => break,
        };
        total += number * factor;
        found = true;
        rest = rest.get(letters..)?.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    // No CLI means more than a year. This also prevents overflows.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a year")]
    (found && (0.0..=31_536_000_000.0).contains(&total)).then(|| total.round() as u64)
}

/// Whether the text contains one of the phrases, ignoring case.
#[must_use]
pub fn mentions(text: &str, phrases: &[&str]) -> bool {
    let lower = text.to_lowercase();
    phrases.iter().any(|phrase| lower.contains(phrase))
}

/// Cuts a text to at most `max` bytes at a character boundary, with an ellipsis if something was cut.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max.saturating_sub('…'.len_utf8())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn http_status_is_found_in_messages() {
        assert_eq!(http_status("unexpected status 401 Unauthorized: x, url: http://h:8399/v1"), Some(401));
        assert_eq!(http_status("exceeded retry limit, last status: 429 Too Many Requests"), Some(429));
        assert_eq!(http_status("API Error: 529 overloaded"), Some(529));
        assert_eq!(http_status("status: 8399"), None);
        assert_eq!(http_status("exit status 1; http://127.0.0.1:4000/x"), None);
    }

    #[test]
    fn wait_time_is_found_in_messages() {
        assert_eq!(wait_ms("Rate limit reached. Please try again in 1.898s. Visit"), Some(1898));
        assert_eq!(wait_ms("try again in 28ms"), Some(28));
        assert_eq!(wait_ms("Try again in 2 days 3 hours 5 minutes."), Some(((2 * 24 + 3) * 60 + 5) * 60_000));
        assert_eq!(wait_ms("Retry after 20."), Some(20_000));
        assert_eq!(wait_ms("try again at 3:05 PM"), None);
        assert_eq!(wait_ms("try again in a moment"), None);
        assert_eq!(wait_ms("try again in 99999999999999999999 days"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_do_not_panic(text in "(status|try again in |[0-9.]{0,30}| |\\PC){0,12}", max in 0_usize..40) {
            let _ = (http_status(&text), wait_ms(&text));
            prop_assert!(shorten(&text, max).len() <= max.max('…'.len_utf8()));
        }
    }
}
