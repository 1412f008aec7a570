//! Known values that are ordinary words, and documents with ordinary lines.

use proptest::prelude::*;

use super::super::*;
use super::{bind, streamed};

fn known(values: &[(&str, &str)]) -> RunRedactor {
    let secrets =
        values.iter().map(|(name, value)| KnownSecret { name: (*name).to_owned(), value: (*value).to_owned() });
    bind(Masks::new(secrets))
}

fn assert_redacted(run: &RunRedactor, text: &str, expected: &str) {
    assert_eq!(run.redact(text).text, expected, "{text}");
    for size in 1..text.len().min(80) {
        assert_eq!(streamed(run, text.as_bytes(), &[size]), expected, "{text} in pieces of {size}");
    }
}

#[test]
fn ordinary_word_is_masked_only_as_a_credential() {
    let run = known(&[("POSTGRES_PASSWORD", "postgres")]);
    for text in [
        "database postgres is up\n",
        "psql -U postgres --dbname=postgres\n",
        "POSTGRES_USER=postgres\n",
        "image: postgres:16\n",
        "postgres://postgres@localhost/postgres\n",
        "LOG:  role \"postgres\" has no password, postgres\n",
    ] {
        assert_redacted(&run, text, text);
    }
    for (text, expected) in [
        ("POSTGRES_PASSWORD=postgres\n", "POSTGRES_PASSWORD=[REDACTED:postgres-password]\n"),
        ("PGPASSWORD=postgres psql -U postgres", "PGPASSWORD=[REDACTED:postgres-password] psql -U postgres"),
        (
            "postgres://postgres:postgres@localhost/postgres\n",
            "postgres://postgres:[REDACTED:postgres-password]@localhost/postgres\n",
        ),
        (r#"{"password": "postgres"}"#, r#"{"password": "[REDACTED:postgres-password]"}"#),
        (r#"{"a":"{\"password\":\"postgres\"}"}"#, r#"{"a":"{\"password\":\"[REDACTED:postgres-password]\"}"}"#),
        (
            "POSTGRES_PASSWORD=\u{1b}[01;31m\u{1b}[Kpostgres\u{1b}[m\u{1b}[K\n",
            "POSTGRES_PASSWORD=\u{1b}[01;31m\u{1b}[K[REDACTED:postgres-password]\u{1b}[m\u{1b}[K\n",
        ),
        ("POSTGRES_PASSWORD=post\u{1b}[31mgres\u{1b}[m\n", "POSTGRES_PASSWORD=[REDACTED:postgres-password]\u{1b}[m\n"),
    ] {
        assert_redacted(&run, text, expected);
    }
}

#[test]
fn example_password_is_masked_as_a_credential() {
    let run = known(&[("DB_PASSWORD", "changeme")]);
    assert_redacted(&run, "DB_PASSWORD=changeme # changeme", "DB_PASSWORD=[REDACTED:db-password] # changeme");
    assert_redacted(&known(&[]), "DB_PASSWORD=changeme", "DB_PASSWORD=changeme");
}

#[test]
fn short_value_is_masked_as_a_credential() {
    let run = known(&[("DB_PASSWORD", "abc")]);
    assert_redacted(&run, "abc password=abc abc", "abc password=[REDACTED:db-password] abc");
}

#[test]
fn credential_in_base64_of_a_text_is_found() {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode("A=1\nPOSTGRES_PASSWORD=postgres\nB=2\n");
    let run = known(&[("POSTGRES_PASSWORD", "postgres")]);
    assert_redacted(&run, &format!("x: {encoded} y\n"), "x: [REDACTED:postgres-password] y\n");
}

#[test]
fn members_of_a_json_value_are_masked() {
    let run = known(&[("POSTGRES_PASSWORD", "postgres")]);
    let mut document = serde_json::json!({
        "env": {"POSTGRES_PASSWORD": "postgres", "POSTGRES_USER": "postgres"},
        "variables": [{"name": "DB_PASSWORD", "value": "postgres"}, {"name": "DB_USER", "value": "postgres"}],
        "argv": ["psql", "--password", "postgres", "--dbname", "postgres"],
    });
    assert_eq!(run.redact_json(&mut document), 3);
    assert_eq!(
        document,
        serde_json::json!({
            "env": {"POSTGRES_PASSWORD": "[REDACTED:postgres-password]", "POSTGRES_USER": "postgres"},
            "variables": [
                {"name": "DB_PASSWORD", "value": "[REDACTED:postgres-password]"}, {"name": "DB_USER", "value": "postgres"},
            ],
            "argv": ["psql", "--password", "[REDACTED:postgres-password]", "--dbname", "postgres"],
        })
    );
}

#[test]
fn value_that_is_also_open_counts_as_ordinary() {
    let secrets = ["alexander", "x7Qm2kV9tR4w"]
        .map(|value| KnownSecret { name: "APP_PASSWORD".to_owned(), value: value.to_owned() });
    let open = ["alexander", "x7Qm2kV9tR4w"].map(str::to_owned).into();
    let run = bind(Masks::with_open(secrets, &open));
    assert_redacted(
        &run,
        "alexander x7Qm2kV9tR4w password=alexander\n",
        "alexander [REDACTED:app-password] password=[REDACTED:app-password]\n",
    );
}

const ACCOUNT: &str = r#"{
  "type": "service_account",
  "project_id": "kettle-project",
  "nested": {
    "scopes": []
  },
  "serial": "5ac717f7bf0387a3153397df6dae75db5c12ea26",
  "client_secret": "kettle-orbit-seven"
}
"#;

#[test]
fn only_distinctive_members_of_a_document_are_masked_elsewhere() {
    let run = known(&[("APP_CREDENTIALS", ACCOUNT)]);
    for text in [
        "{\n  \"type\": \"service_account\",\n  \"project_id\": \"other\"\n}\n",
        "  \"project_id\": \"kettle-project\",\n",
        "  \"scopes\": []\n  },\n",
    ] {
        assert_redacted(&run, text, text);
    }
    assert_redacted(
        &run,
        "id 5ac717f7bf0387a3153397df6dae75db5c12ea26, kettle-orbit-seven.\n",
        "id [REDACTED:app-credentials], [REDACTED:app-credentials].\n",
    );
}

#[test]
fn document_is_masked_as_a_whole() {
    let run = known(&[("APP_CREDENTIALS", ACCOUNT)]);
    let mask = "[REDACTED:app-credentials]";
    let masked = format!("{{\n  {mask}\n  {mask}\n  {mask}\n    {mask}\n  {mask}\n  {mask}\n  {mask}\n{mask}\n");
    assert_redacted(&run, ACCOUNT, &masked);
    assert_redacted(&run, &format!("before\n{ACCOUNT}after\n"), &format!("before\n{masked}after\n"));
    assert_redacted(&run, &ACCOUNT.replace('\n', "\r\n"), &masked.replace('\n', "\r\n"));
    let string = serde_json::json!({ "file": ACCOUNT }).to_string();
    assert_redacted(&run, &string, &format!("{{\"file\":\"{mask}\"}}"));
}

#[test]
fn document_with_blank_lines_is_masked_as_a_whole() {
    let run = known(&[("APP_CREDENTIALS", "user = alice\n\n[part]\nx = 1\n")]);
    let mask = "[REDACTED:app-credentials]";
    assert_redacted(&run, "a\nuser = alice\n\n[part]\nx = 1\nb\n", &format!("a\n{mask}\n\n{mask}\n{mask}\nb\n"));
    assert_redacted(&run, "user = alice\n\n[part]\nx = 2\n", "user = alice\n\n[part]\nx = 2\n");
}

/// Snippets whose combinations use the words both as credentials and otherwise.
const SNIPPETS: &[&str] = &[
    "postgres",
    "P@ssw0rd",
    "P%40ssw0rd",
    "dev",
    "password",
    "DB_PASSWORD",
    "POSTGRES_PASSWORD",
    "token",
    "key",
    "user",
    "=",
    ":",
    ": ",
    " = ",
    " ",
    "\n",
    "\r\n",
    "\"",
    "\\\"",
    "'",
    "\\n",
    ",",
    ", ",
    "(",
    ")",
    "--password ",
    "--password=",
    " -p",
    " -p ",
    "mysql -u root",
    "sshpass",
    "://",
    "@",
    "%3A",
    "%40",
    "%3D",
    "Bearer ",
    "Basic ",
    "cG9zdGdyZXM6cG9zdGdyZXM=",
    "cG9zdGdyZXM",
    "\u{1b}[31m",
    "\u{1b}[m",
    "\u{1b}[ 1m",
    "\\u001b[0m",
    "\u{200b}",
    "ü",
    "<password>",
    "</password>",
    ".",
    "!",
    "-",
    "/",
    "\"value\": \"",
    "\"name\": \"",
    "is ",
    "[REDACTED:",
    "[REDACTED:db-password]",
    "]",
    "-u a:",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "x ",
    "word ",
    "{",
    "}",
    "  \"type\": \"service_account\",",
    "  \"a\": [",
    "  ],",
    "  \"client_secret\": \"kettle-orbit-seven\"",
];

const DOCUMENT: &str =
    "{\n  \"type\": \"service_account\",\n  \"a\": [\n  ],\n  \"client_secret\": \"kettle-orbit-seven\"\n}\n";

fn random_text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![
            12 => (0..SNIPPETS.len()).prop_map(|at| SNIPPETS[at].to_owned()),
            1 => "[ -~]{1,6}",
            1 => (0..=DOCUMENT.len()).prop_map(|at| DOCUMENT[..at].to_owned()),
            1 => Just(DOCUMENT.to_owned()),
        ],
        1..24,
    )
    .prop_map(|parts| parts.concat())
}

fn random_text_redactor() -> RunRedactor {
    known(&[
        ("DB_PASSWORD", "postgres"),
        ("API_TOKEN", "P@ssw0rd"),
        ("PIN_SECRET", "dev"),
        ("APP_CREDENTIALS", DOCUMENT),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, rng_seed: proptest::test_runner::RngSeed::Fixed(6), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_do_not_change_the_masking_of_words(text in random_text(), cuts in prop::collection::vec(1usize..40, 1..6)) {
        let run = random_text_redactor();
        let whole = run.redact(&text).text.into_owned();
        prop_assert_eq!(streamed(&run, text.as_bytes(), &cuts), whole.clone());
        prop_assert_eq!(streamed(&run, text.as_bytes(), &[1]), whole);
    }

    #[test]
    fn second_pass_does_not_change_masked_words(text in random_text()) {
        let run = random_text_redactor();
        let once = run.redact(&text).text.into_owned();
        prop_assert_eq!(run.redact(&once).text.into_owned(), once);
    }

    #[test]
    fn distinctive_value_is_masked_everywhere(
        before in random_text(),
        value in "[a-zA-Z0-9]{8,24}",
        after in random_text(),
        cuts in prop::collection::vec(1usize..40, 1..6),
    ) {
        let run = known(&[("DB_PASSWORD", "postgres"), ("API_TOKEN", &value)]);
        let text = format!("{before}{value}{after}");
        prop_assert!(!run.redact(&text).text.contains(&value));
        prop_assert!(!streamed(&run, text.as_bytes(), &cuts).contains(&value));
    }
}
