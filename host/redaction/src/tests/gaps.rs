//! Regression tests for secrets that were missed: broken into lines, encoded twice, with invisible characters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::*;
use super::{bind, redactor, streamed};

/// 108 characters, as real keys have.
const KNOWN: &str =
    "k7Qp2xVd9LmR4tYw8ZsB1nHc6JfG3aTe5UoX0iKqWvEyPzDlMrNbSgCjFhAuOt7Qp2xVd9LmR4tYw8ZsB1nHc6JfG3aTe5UoX0iKqWvEyPzDl";

fn known() -> RunRedactor {
    bind(Masks::new([KnownSecret { name: "DEPLOY_TOKEN".to_owned(), value: KNOWN.to_owned() }]))
}

/// Assembled here, so that this file contains nothing that looks like a key.
fn anthropic() -> String {
    ["sk-", "ant-", "api03-", &KNOWN[..93], "AA"].concat()
}

fn broken(text: &str, width: usize, end: &str) -> String {
    text.as_bytes().chunks(width).map(|line| format!("{}{end}", std::str::from_utf8(line).unwrap())).collect()
}

/// Longest stretch of the secret's form that is in the output.
fn longest_left(form: &str, output: &str) -> usize {
    let plain: String =
        output.split("[REDACTED:").map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let mut longest = 0;
    for from in 0..form.len() {
        while from + longest < form.len() && plain.contains(&form[from..=from + longest]) {
            longest += 1;
        }
    }
    longest
}

/// Redacts the text whole and in pieces, expects the same result, and checks that at most `most` characters of the form
/// are left.
#[track_caller]
fn assert_removed(run: &RunRedactor, text: &str, form: &str, most: usize) {
    let output = run.redact(text).text.into_owned();
    let left = longest_left(form, &output.replace(['\n', '\r'], ""));
    assert!(left <= most, "{left} characters are left of {text:?}: {output:?}");
    assert!(output.contains("before") && output.contains("after"), "{output:?}");
    for cuts in [&[1][..], &[2], &[5, 3], &[61], &[77], &[80, 1]] {
        assert_eq!(streamed(run, text.as_bytes(), cuts), output, "cut at {cuts:?}: {text:?}");
    }
}

#[test]
fn known_value_is_found_in_base64_of_several_lines() {
    let run = known();
    for before in ["", "x", "export TOKEN=", "a longer text that stands before the value in the same file: "] {
        let encoded = STANDARD.encode(format!("{before}{KNOWN}\n"));
        let form = STANDARD.encode(KNOWN);
        for width in [60, 64, 76] {
            for end in ["\n", "\r\n"] {
                let text = format!("before\n{}after\n", broken(&encoded, width, end));
                let plain = encoded.replace('\n', "");
                // Fewer than eight characters at the end of a line are not detected.
                assert_removed(
                    &run,
                    &text,
                    if before.is_empty() { &form } else { &plain[plain.len() - 100..plain.len() - 4] },
                    10,
                );
            }
        }
        // As the text of a JSON string, in which the breaks are escaped.
        let json = serde_json::json!({ "out": format!("before {}after", broken(&encoded, 76, "\n")) }).to_string();
        let output = run.redact(&json).text.into_owned();
        assert!(longest_left(&form, &output.replace("\\n", "")) <= 10, "{output}");
        assert!(serde_json::from_str::<serde_json::Value>(&output).is_ok(), "{output}");
    }
}

#[test]
fn known_value_is_found_in_folded_lines() {
    let run = known();
    for (lead, width) in
        [("before ", 80), ("before, and a lot of words that fill the line up to here: ", 80), ("before ", 20)]
    {
        let text = format!("{}after\n", broken(&format!("{lead}{KNOWN} and "), width, "\n"));
        assert_removed(&run, &text, KNOWN, 7);
    }
    // Text that only starts like it is not changed.
    let text = format!("before {}\nother after\n", &KNOWN[..20]);
    assert_eq!(run.redact(&text).text, text);
    for cuts in [&[1][..], &[7], &[40]] {
        assert_eq!(streamed(&run, text.as_bytes(), cuts), text);
    }
}

#[test]
fn known_value_is_found_in_nested_encodings() {
    let run = known();
    for value in [KNOWN, "p'a\"s$ w\\o/r&d?\u{fc}+42"] {
        let run = if value == KNOWN {
            run.clone()
        } else {
            bind(Masks::new([KnownSecret { name: String::new(), value: value.to_owned() }]))
        };
        for before in ["", "x", "xy"] {
            let once = STANDARD.encode(format!("{before}{value}"));
            for twice in [STANDARD.encode(&once), STANDARD.encode(format!("z{once}"))] {
                assert_removed(&run, &format!("before {twice} after\n"), &twice, 12);
            }
        }
        let upper: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for form in [upper.to_lowercase(), upper] {
            assert_removed(&run, &format!("before {form} after\n"), &form, 3);
        }
    }
}

#[test]
fn invisible_characters_do_not_hide_a_secret() {
    let github = ["gh", "p_", "3gosogUX4hNSDVG4rZVos4SZ8tyPl13DAQI2"].concat();
    let colors = "\u{1b}[38;2;255;255;255;48;2;255;255;255m";
    for mark in
        ["\u{1b}[m\u{1b}[K", colors, "\u{1b}[01;31m\u{1b}[K", "\u{200b}", "\u{feff}", "\u{ad}", "\u{200d}\u{2060}"]
    {
        for at in [4, 10, 20] {
            for (run, secret) in [(known(), KNOWN), (redactor(), github.as_str()), (redactor(), &anthropic())] {
                let text = format!("before {}{mark}{} after\n", &secret[..at], &secret[at..]);
                assert_removed(&run, &text, secret, 3);
            }
        }
    }
    // Without a secret inside, they are kept.
    for text in
        ["a \u{1b}[31mred\u{1b}[0m word, gre\u{1b}[1men\u{1b}[0m\n", "zero\u{200b}width \u{1f468}\u{200d}\u{1f469}\n"]
    {
        assert_eq!(redactor().redact(text).text, text);
        assert_eq!(known().redact(text).text, text);
    }
}

#[test]
fn key_in_base64_of_several_lines_is_found_by_a_rule() {
    let run = redactor();
    for before in ["", "KEY="] {
        let encoded = STANDARD.encode(format!("{before}{}", anthropic()));
        for width in [64, 76] {
            for end in ["\n", "\r\n"] {
                let text = format!("before\n{}after\n", broken(&encoded, width, end));
                assert_removed(&run, &text, &encoded, 4);
            }
        }
    }
}

#[test]
fn lines_after_base64_are_unchanged() {
    let run = redactor();
    let encoded = STANDARD
        .encode(format!("export GITHUB_TOKEN={}\n", ["gh", "p_", "3gosogUX4hNSDVG4rZVos4SZ8tyPl13DAQI2"].concat()));
    for text in [format!("{encoded}\ndone\n"), format!("{}\nnext line of words\n", &encoded[..76])] {
        let output = run.redact(&text).text.into_owned();
        assert!(output.starts_with("[REDACTED:"), "{output}");
        assert_eq!(
            output.split_once('\n'),
            text.split_once('\n').map(|(_, rest)| (output.lines().next().unwrap(), rest))
        );
    }
}

#[test]
fn key_marked_as_an_example_is_not_redacted() {
    let run = redactor();
    let key = anthropic();
    for suffix in ["EXAMPLE", "xxxxxxxx", "-changeme", "-placeholder", "****"] {
        for text in [format!("ANTHROPIC_API_KEY={key}{suffix}\n"), format!("key {key}{suffix} here\n")] {
            let output = run.redact(&text).text.into_owned();
            assert!(!output.contains(&key[20..60]), "{suffix}: {output}");
        }
    }
    for text in [
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n",
        "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
        "ANTHROPIC_API_KEY=sk-ant-api03-xxxxxxxxxxxxxxxxxxxxxxxx\n",
        "API_KEY=your-api-key-here\nPASSWORD=changeme\nTOKEN=my_token_placeholder\n",
    ] {
        assert_eq!(run.redact(text).text, text);
    }
}
