//! Known values in all their encodings.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::*;
use super::{bind, streamed};

const VALUE: &str = "p'a\"s$ w\\o/r&d?ü+42";

fn known(value: &str) -> RunRedactor {
    bind(Masks::new([KnownSecret { name: "DEPLOY_TOKEN".to_owned(), value: value.to_owned() }]))
}

#[test]
fn known_value_is_found_in_every_encoding() {
    let run = known(VALUE);
    let once = serde_json::to_string(VALUE).unwrap();
    let twice = serde_json::to_string(&once).unwrap();
    let percent = percent_encoding::utf8_percent_encode(VALUE, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut forms = vec![
        VALUE.to_owned(),
        once.trim_matches('"').to_owned(),
        twice.trim_matches('"').to_owned(),
        percent.replace("%2D", "-"),
        percent.to_lowercase().replace("%2d", "-"),
        VALUE.replace('\'', r"'\''"),
        VALUE.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"),
    ];
    for offset in 0..3 {
        let framed = format!("{}{VALUE}{}", "~".repeat(offset), "~".repeat(5));
        forms.push(STANDARD.encode(&framed));
        forms.push(URL_SAFE_NO_PAD.encode(&framed));
    }
    for form in forms {
        let text = format!("before {form} after\n");
        let output = run.redact(&text).text.into_owned();
        assert!(output.starts_with("before ") && output.ends_with(" after\n"), "{output}");
        assert!(output.contains("[REDACTED:deploy-token]"), "{form} gave {output}");
        assert!(!super::samples::leaks(&form, &output), "{form} gave {output}");
        for cuts in [&[1][..], &[2], &[5, 3]] {
            assert_eq!(streamed(&run, text.as_bytes(), cuts), output);
        }
    }
}

#[test]
fn value_that_becomes_known_later_is_masked_in_clones_and_streams_that_have_begun() {
    let run = known("first-secret-value");
    let (clone, mut stream, mut out) = (run.clone(), run.stream(), String::new());
    stream.push("before later-secret-value\nlater-", &mut out);
    run.add(&[KnownSecret { name: "secret-answer".to_owned(), value: "later-secret-value".to_owned() }]);
    stream.push("secret-value first-secret-value\n", &mut out);
    stream.finish(&mut out);
    assert_eq!(out, "before later-secret-value\n[REDACTED:secret-answer] [REDACTED:deploy-token]\n");
    assert_eq!(clone.redact("a later-secret-value").text, "a [REDACTED:secret-answer]");
}

#[test]
fn each_long_line_of_a_known_value_is_masked() {
    let run = known("first-line-of-it\nabc\nlast-line-of-it\n");
    assert_eq!(
        run.redact("x last-line-of-it y abc\nfirst-line-of-it\n").text,
        "x [REDACTED:deploy-token] y abc\n[REDACTED:deploy-token]\n"
    );
    assert_eq!(
        run.redact(r#"{"v":"first-line-of-it\nabc\nlast-line-of-it"}"#).text,
        r#"{"v":"[REDACTED:deploy-token]"}"#
    );
    assert!(Masks::new([KnownSecret { name: String::new(), value: "true".to_owned() }]).is_empty());
}

#[test]
fn value_equal_to_a_placeholder_word_leaves_placeholders_intact() {
    let run = known("generic-password");
    let once = run.redact("DB_PASSWORD=Cbgrr2664$pikfCYY generic-password\n").text.into_owned();
    assert_eq!(once, "DB_PASSWORD=[REDACTED:generic-password] [REDACTED:deploy-token]\n");
    assert_eq!(run.redact(&once).text, once);
    assert_eq!(run.redact("[REDACTED:no-generic-password]").text, "[REDACTED:no-[REDACTED:deploy-token]]");
}

#[test]
fn longer_of_two_values_leaves_no_tail() {
    let run = bind(Masks::new(
        ["secret-aa", "secret-aa-and-more"].map(|value| KnownSecret { name: String::new(), value: value.to_owned() }),
    ));
    assert_eq!(run.redact("secret-aa-and-more secret-aa").text, "[REDACTED:known-value] [REDACTED:known-value]");
}

#[test]
fn value_with_blanks_is_masked_for_any_cut() {
    let run = known("correct horse battery staple");
    let text = "say correct horse battery staple, or correct horse only\n";
    let output = "say [REDACTED:deploy-token], or correct horse only\n";
    for size in 1..text.len() {
        assert_eq!(streamed(&run, text.as_bytes(), &[size]), output);
    }
}

#[test]
fn debug_output_contains_no_secret() {
    let value = KnownSecret { name: "n".to_owned(), value: "hunter2-hunter2".to_owned() };
    let masks = Masks::new([value.clone()]);
    let shown = format!("{value:?} {masks:?}");
    assert!(!format!("{shown} {:?}", bind(masks)).contains("hunter2"));
    let mut stream = known("hunter2-hunter2").stream();
    stream.push("hunter2-hun", &mut String::new());
    assert!(!format!("{stream:?}").contains("hunter2"));
}
