//! Streams: when text is released, and that cuts do not change the result.

use proptest::prelude::*;

use super::super::*;
use super::{redactor, streamed};

fn push(stream: &mut StreamRedactor, text: &str) -> String {
    let mut out = String::new();
    stream.push(text, &mut out);
    out
}

#[test]
fn finished_line_is_released_at_once() {
    let mut stream = redactor().stream();
    assert_eq!(push(&mut stream, "plain line\n"), "plain line\n");
    assert_eq!(
        push(&mut stream, "export GH=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\n"),
        "export GH=[REDACTED:github-pat]\n"
    );
    assert_eq!(stream.held(), 0);
}

#[test]
fn prose_is_released_word_by_word() {
    let mut stream = redactor().stream();
    assert_eq!(push(&mut stream, "The API key is read "), "The API key is read ");
    assert_eq!(push(&mut stream, "once at sta"), "once at ");
    assert_eq!(push(&mut stream, "rt, so the token "), "start, so the ");
    assert_eq!(push(&mut stream, "count stays. Wörter auch: "), "token count stays. Wörter auch: ");
    assert_eq!(push(&mut stream, "gh"), "");
    assert_eq!(push(&mut stream, "p_3gosogUX4hNSDVG4rZVos4SZ8ty"), "");
    assert_eq!(push(&mut stream, "Pl13DAQI2 is it"), "[REDACTED:github-pat] is ");
    let mut out = String::new();
    stream.finish(&mut out);
    assert_eq!(out, "it");
}

#[test]
fn open_match_is_held_back_and_redacted_by_finish() {
    let mut stream = redactor().stream();
    assert_eq!(push(&mut stream, "password = \"Cbgrr2664$pik"), "");
    let mut out = String::new();
    stream.finish(&mut out);
    assert_eq!(out, "password = \"[REDACTED:generic-password]");
    assert_eq!(stream.held(), 0);
}

#[test]
fn cut_characters_are_joined_and_invalid_bytes_replaced() {
    let run = redactor();
    let text = "å→😀 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 ü\n";
    for size in 1..20 {
        assert_eq!(streamed(&run, text.as_bytes(), &[size]), "å→😀 [REDACTED:github-pat] ü\n");
    }
    for size in 1..8 {
        assert_eq!(streamed(&run, b"a\xff\xfeb\xe2\x82 c\xf0\x9f", &[size]), "a\u{fffd}\u{fffd}b\u{fffd} c\u{fffd}");
    }
}

#[test]
fn key_is_redacted_line_by_line_for_any_cut() {
    let run = redactor();
    let mut stream = run.stream();
    let body = "MIIEpQIBAAKCAQEA1EEr0/Xh+emdvcUdTBKarkjrIdq8u8X/sBvD9BaQM/sDt2F8";
    let mut out = String::new();
    for line in [
        "-----BEGIN RSA PRIVATE KEY-----\n",
        body,
        "\n",
        body,
        "\nKfWBltWiwWgyfYNz2z/ySnGBFYMKgIH4\n",
        "... (cut off)\n",
        body,
        "\n",
    ] {
        stream.push(line, &mut out);
    }
    stream.finish(&mut out);
    let expected = format!("{}... (cut off)\n{body}\n", "[REDACTED:private-key]\n".repeat(4));
    assert_eq!(out, expected);
}

/// A line far longer than the limit, with secrets where it must be split.
fn long_line(filler: &str, every: usize) -> String {
    let mut text = String::new();
    for at in 0..60 {
        text.push_str(&filler.repeat(every / filler.len() + at));
        text.push_str(",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,");
    }
    text
}

#[test]
fn long_lines_use_bounded_memory_and_lose_no_text() {
    let run = redactor();
    for filler in ["x", "word ", "{\"a\":1},", "ü", "A/b9", "%20a"] {
        let text = long_line(filler, 9973);
        let whole = run.redact(&text);
        assert_eq!(whole.count, 60, "{filler}");
        assert!(!whole.text.contains("ghp_"), "{filler}");
        for cuts in [&[4096][..], &[100_000], &[65_536, 1], &[777]] {
            let mut stream = run.stream();
            let (mut out, mut at, mut turn, mut most) = (String::new(), 0, 0, 0);
            while at < text.len() {
                let end = (at + cuts[turn % cuts.len()]).min(text.len());
                stream.push_bytes(&text.as_bytes()[at..end], &mut out);
                most = most.max(stream.held());
                (at, turn) = (end, turn + 1);
            }
            stream.finish(&mut out);
            assert!(out == whole.text, "{filler} cut {cuts:?}");
            assert!(most <= 68 * 1024, "{most} bytes held");
        }
    }
}

#[test]
fn secret_longer_than_its_rule_leaves_no_tail() {
    let run = redactor();
    let token = format!("hvs.{}", "aB3xYz9Q".repeat(30_000));
    let output = run.redact(&format!("a {token} b\n")).text.into_owned();
    assert_eq!(output, "a [REDACTED:vault-service-token] b\n");
    assert_eq!(streamed(&run, format!("a {token} b\n").as_bytes(), &[5000]), output);
}

/// Snippets whose combinations give difficult input for the rules.
const SNIPPETS: &[&str] = &[
    "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",
    "AKIAUAUDC6E55DKA2DUT",
    "token=",
    "password: ",
    "\"api_key\": \"",
    "\"",
    "\\\"",
    "\\n",
    "\n",
    " ",
    "\r\n",
    "=",
    ":",
    "Authorization: Bearer ",
    "Authorization: Basic ",
    "b3BzOmREYnVweUZUYUdIMGNTeG94Vw==",
    "Cbgrr2664$pikfCYY",
    "hvs.WEQoBFRyEofIqYXHnpzsKM_74N",
    "://",
    "user:",
    "@host/",
    "?sig=",
    "%3D",
    "%2D",
    "\u{1b}[33m",
    "\\u001b[0m",
    "\\u0026",
    "\\/",
    "ü",
    "→",
    "{",
    "}",
    "[REDACTED:github-pat]",
    "[REDACTED:",
    "]",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCn4bOsPQ1YxYJnS",
    "TlBNX1RPS0VOPW5wbV9ZUnNYR3JtY3E5WFhWVG9tYTd5Z3J0N3dWcmh4VGlpeGpTeXgK",
    "eyJhbGciOiJFUzI1NiJ9.",
    "eyJzdWIiOiJnMWliNnh1NnBzIn0.",
    "sk-",
    "key",
    "cookie: sid=",
    "--password ",
    "commit ",
    "5ac717f7bf0387a3153397df6dae75db5c12ea26",
    "word",
    ", ",
    "curl -u a:",
    "xoxb-545724497801-2393789695957-66Z2TyJXQdifZjRny6FAg8Vd",
    "+",
    "-",
    "  name: DB_PASSWORD\n",
    "  \"name\": \"API_TOKEN\",\n",
    "  value: x7Qm2kV9tR4wZs81\n",
    "  \"value\": \"x7Qm2kV9tR4wZs81\"",
    "value: ",
    "password: |\n",
    "    x7Qm2kV9tR4wZs81\n",
    "token =\n",
    "\"secret\": {\n",
    "the password is ",
    "- ",
    "known value",
    "kno",
    "wn va",
];

fn random_text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![9 => (0..SNIPPETS.len()).prop_map(|at| SNIPPETS[at].to_owned()), 1 => "[ -~]{1,6}"],
        1..24,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, rng_seed: proptest::test_runner::RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cut_changes_the_output(text in random_text(), cuts in prop::collection::vec(1usize..40, 1..6)) {
        let run = super::bind(Masks::new([KnownSecret { name: String::new(), value: "known value".to_owned() }]));
        let whole = run.redact(&text).text.into_owned();
        prop_assert_eq!(streamed(&run, text.as_bytes(), &cuts), whole.clone());
        prop_assert_eq!(streamed(&run, text.as_bytes(), &[1]), whole);
    }

    #[test]
    fn redacting_twice_changes_nothing(text in random_text()) {
        let run = super::bind(Masks::new([KnownSecret { name: String::new(), value: "known value".to_owned() }]));
        let once = run.redact(&text).text.into_owned();
        prop_assert_eq!(run.redact(&once).text.into_owned(), once);
    }

    #[test]
    fn json_stays_valid(parts in prop::collection::vec(random_text(), 1..4), depth in 1usize..4) {
        let run = redactor();
        let mut text = serde_json::to_string(&parts).unwrap();
        for _ in 0..depth {
            text = serde_json::json!({ "out": text }).to_string();
        }
        let output = run.redact(&text).text.into_owned();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&output).is_ok(), "{} became {}", text, output);
    }
}
