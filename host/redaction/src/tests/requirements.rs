//! The requirements of redaction, one test for each, through a whole stream with the bundled rules.
//!
//! Two requirements are shown elsewhere: that rules of others cannot let anything through (`super::rules`), and that
//! everything is redacted before it is stored anywhere (the end-to-end suite `leaks`).

use super::super::*;
use super::{bind, redactor, streamed};

/// Assembled here, so that this file contains nothing that looks like a token.
fn token() -> String {
    ["gh", "p_", "3gosogUX4hNSDVG4rZVos4SZ8tyPl13DAQI2"].concat()
}

const BODY: &str = "MIIEpQIBAAKCAQEA1EEr0/Xh+emdvcUdTBKarkjrIdq8u8X/sBvD9BaQM/sDt2F8";

fn redacted(text: &str) -> String {
    streamed(&redactor(), text.as_bytes(), &[text.len()])
}

/// A redactor that knows these values, too.
fn known(values: &[&str]) -> RunRedactor {
    let known = values.iter().map(|value| KnownSecret { name: "KNOWN".to_owned(), value: (*value).to_owned() });
    bind(Masks::new(known))
}

#[track_caller]
fn assert_unchanged(text: &str) {
    assert_eq!(redacted(text), text);
}

/// The text without `secret`, and otherwise with `kept`.
#[track_caller]
fn assert_redacted(text: &str, secret: &str, kept: &[&str]) {
    let out = redacted(text);
    assert!(!out.contains(secret) && out.contains("[REDACTED:"), "{out}");
    for part in kept {
        assert!(out.contains(part), "{part} is lost: {out}");
    }
}

#[test]
fn requirement_01_cuts_change_nothing() {
    let text = format!("ü \u{1b}[33m{}\u{1b}[0m → {{\"password\":\"Cbgrr2664$pikfCYY\"}}\nplain\n", token());
    let whole = redacted(&text);
    for size in 1..40 {
        assert_eq!(streamed(&redactor(), text.as_bytes(), &[size, 3]), whole, "pieces of {size}");
    }
}

#[test]
fn requirement_02_no_tail_of_a_longer_secret_is_left() {
    let out =
        streamed(&known(&["k3y-alpha9", "k3y-alpha9-and-more-7"]), b"a k3y-alpha9-and-more-7 b k3y-alpha9 c\n", &[5]);
    assert!(!out.contains("alpha") && !out.contains("more") && out.starts_with("a [REDACTED"), "{out}");
}

#[test]
fn requirement_03_keys_of_several_lines_are_redacted() {
    let key = ["-----BEGIN RSA PRIVATE KEY-----", "", BODY, BODY, "KfWBltWiwWgyfYNz2z/ySnGBFYMKgIH4"];
    let forms: [fn(usize, &str) -> String; 8] = [
        |_, line| format!("{line}\n"),
        |_, line| format!("{line}\r\n"),
        |_, line| format!("{line}\r"),
        |_, line| format!("      {line}\n"),
        |number, line| format!("{:>6}\t{line}\n", number + 1),
        |_, line| format!("+{line}\n"),
        |number, line| format!("2026-11-03T08:14:0{number}.55Z {line}\n"),
        |_, line| format!("{line}\\n"),
    ];
    for form in forms {
        // Without a footer: cut off.
        let text: String = key.iter().enumerate().map(|(number, line)| form(number, line)).collect();
        assert_redacted(&text, &BODY[..16], &[]);
        assert!(!redacted(&text).contains("KfWBltWi"), "{text}");
    }
    assert_redacted(&format!("{}\n{BODY}\nno key text here\n", key[0]), BODY, &["no key text here"]);
}

#[test]
fn requirement_04_json_in_json_stays_json() {
    let inner = serde_json::json!({ "cmd": format!("export T={}\nnext", token()), "api_key": "IRkH7GhPsnx9fNlM0SpsHbOocQPpsgQ3V5D" });
    let once = serde_json::json!({ "text": inner.to_string() });
    let twice = serde_json::json!({ "event": once.to_string(), "n": 1 });
    for line in [once.to_string(), twice.to_string()] {
        let out = redacted(&line);
        assert!(!out.contains("3gosog") && !out.contains("IRkH7Gh"), "{out}");
        let parsed: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(parsed.is_object() && out.contains("next"), "{out}");
    }
}

#[test]
fn requirement_05_known_values_are_found_in_every_encoding() {
    use base64::Engine as _;
    let value = "correct horse/battery+9\"x";
    let run = known(&[value]);
    let base64 = base64::engine::general_purpose::STANDARD;
    let percent = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut forms = vec![value.to_owned(), percent, serde_json::to_string(value).unwrap()];
    forms.extend(["", "a", "ab"].map(|before| base64.encode(format!("{before}{value}"))));
    for form in forms {
        let out = streamed(&run, format!("x {form} y\n").as_bytes(), &[7]);
        assert!(out.contains("[REDACTED:") && !out.contains(form.trim_matches('"')), "{form}: {out}");
    }
}

#[test]
fn requirement_06_unknown_values_are_found_in_encodings() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let inside = format!("export GITHUB_TOKEN={}\nexport PORT=8080\n", token());
    let once = base64.encode(&inside);
    assert_redacted(&format!("data: {once}\n"), &once, &["data: "]);
    let twice = base64.encode(&once);
    assert_redacted(&format!("data: {twice}\n"), &twice, &["data: "]);
    let percent = percent_encoding::utf8_percent_encode(&token(), percent_encoding::NON_ALPHANUMERIC).to_string();
    assert_redacted(&format!("q={percent}&lang=en\n"), &percent, &["lang=en"]);
}

#[test]
fn requirement_07_credentials_of_urls_are_redacted() {
    assert_redacted(
        "postgres://app:DHk8U%21qexqDS@db.acme.test:5432/x\n",
        "DHk8U",
        &["postgres://app:", "@db.acme.test:5432/x"],
    );
    assert_redacted("redis://:qbbGz6qFk52JdX@cache/0\n", "qbbGz6qFk52JdX", &["redis://:", "@cache/0"]);
    let url = "https://s3.acme.test/b?X-Amz-Signature=5ac717f7bf0387a3153397df6dae75db5c12ea26c85d&X-Amz-Expires=60\n";
    assert_redacted(url, "5ac717f7bf03", &["https://s3.acme.test/b?X-Amz-Signature=", "&X-Amz-Expires=60"]);
}

#[test]
fn requirement_08_values_of_secret_names_are_redacted() {
    let value = "IRkH7GhPsnx9fNlM0SpsHbOocQPpsgQ3V5D";
    for form in [
        format!("API_KEY={value}"),
        format!("apiKey: '{value}'"),
        format!("api-key := \"{value}\""),
        format!("'api_key' => '{value}'"),
        format!("--api-key {value}"),
        format!("<apiKey>{value}</apiKey>"),
        format!("API_KEY\u{1b}[0m=\u{1b}[33m{value}\u{1b}[0m"),
        format!("| `API_KEY` | `{value}` | prod |"),
        format!("{{\"name\":\"API_KEY\",\"value\":\"{value}\"}}"),
    ] {
        assert_redacted(&format!("{form}\n"), value, &[]);
    }
    assert_unchanged(
        "api_key = load_key(path)\ntoken: string;\npassword: ${PASSWORD}\nsecret = \"/run/secrets/db\"\nkey=settings.API_KEY\n",
    );
}

#[test]
fn requirement_09_entropy_alone_is_not_redacted() {
    assert_unchanged("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  dist/app.js\n");
    assert_unchanged(
        "      resolved integrity sha512-IRkH7GhPsnx9fNlM0SpsHbOocQPpsgQ3V5DIRkH7GhPsnx9fNlM0SpsHbOocQPpsgQ3V5Dxx==\n",
    );
    assert_redacted("AUTH_SECRET=q7Xw2LmZ9v\n", "q7Xw2LmZ9v", &["AUTH_SECRET="]);
}

#[test]
fn requirement_10_ordinary_text_is_unchanged() {
    assert_unchanged("commit 5ac717f7bf0387a3153397df6dae75db5c12ea26\n");
    assert_unchanged("{\"id\":\"toolu_01cFRMhwT7dk0hOF3FlP6E9i\",\"request_id\":\"req_011CSHoEeqs5C35K2UUqR7Fy\"}\n");
    assert_unchanged("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJHnq2vX0k9v1z8x7q2m9k4v1z8x7q2m9k4v1z8 me@host\n");
    assert_unchanged("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nTOKEN=<your-token>\nTOKEN={{ token }}\nTOKEN=xxxxxxxx\n");
}

#[test]
fn requirement_11_placeholders_are_stable() {
    let text = format!("a={} b={}\npassword=\"Cbgrr2664$pikfCYY\"\n", token(), token());
    let once = redacted(&text);
    assert_eq!(once.matches("[REDACTED:github-pat]").count(), 2, "{once}");
    assert_unchanged(&once);
}

#[test]
fn requirement_12_rules_respect_word_edges() {
    for before in ["\u{1b}[33m", "\\u001b[33m", "%3D", "\\n", "\\\\n", "\\u0026", "é"] {
        assert_redacted(&format!("x{before}{}\n", token()), "3gosog", &["x"]);
    }
}

#[test]
fn requirement_13_rules_start_with_literals() {
    let run = redactor();
    // The literal of these is inside the token; they are searched from the last blank before it.
    const INSIDE: [&str; 7] = [
        "azure-ad-client-secret",
        "azure-storage-account-key",
        "hashicorp-tf-api-token",
        "mailchimp-api-key",
        "microsoft-teams-webhook",
        "new-relic-user-api-key",
        "telegram-bot-api-token",
    ];
    for rule in run.shared().redactor.rules.iter().filter(|rule| matches!(rule.finder, compile::Finder::Search(_))) {
        assert!(INSIDE.contains(&rule.id.as_str()), "{} is searched for everywhere", rule.id);
    }
    // If one rule could start anywhere, unfinished lines would be held back until their end.
    assert_eq!(run.shared().redactor.lookback, 0);
}
