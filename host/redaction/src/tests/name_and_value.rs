//! Secrets whose names are on another line.

use super::super::*;
use super::{bind, redactor, streamed};

const SECRET: &str = "x7Qm2kV9tR4wZs81";

/// Redacts the text whole and in pieces, and expects the same result.
#[track_caller]
fn redacted(text: &str) -> String {
    let run = redactor();
    let output = run.redact(text).text.into_owned();
    for cuts in [&[1][..], &[2], &[7, 3], &[13], &[40, 1]] {
        assert_eq!(streamed(&run, text.as_bytes(), cuts), output, "cut at {cuts:?}: {text:?}");
    }
    assert_eq!(run.redact(&output).text, output, "a second pass");
    output
}

/// Checks that only the secret is removed.
#[track_caller]
fn assert_redacted(text: &str) {
    let output = redacted(text);
    let mut parts = output.split("[REDACTED:");
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        left.push_str(SECRET);
        left.push_str(part.split_once(']').unwrap().1);
    }
    assert_eq!(left, text, "{output}");
    assert!(!output.contains(SECRET), "{output}");
}

#[track_caller]
fn assert_unchanged(text: &str) {
    assert_eq!(redacted(text), text);
}

#[test]
fn takes_value_of_pair_on_the_next_line() {
    for text in [
        "{\"name\": \"BILLING_API_TOKEN\",\n \"value\": \"x7Qm2kV9tR4wZs81\"}\n",
        "        {\n            \"name\": \"DB_PASSWORD\",\n            \"value\": \"x7Qm2kV9tR4wZs81\"\n        },\n",
        "    - name: DB_PASSWORD\n      value: x7Qm2kV9tR4wZs81\n    - name: TZ\n      value: UTC\n",
        "    - name: DB_PASSWORD\r\n      value: x7Qm2kV9tR4wZs81\r\n",
        "      \"ParameterKey\": \"DbPassword\",\n      \"ParameterValue\": \"x7Qm2kV9tR4wZs81\"\n",
        "  <key>db_password</key>\n  <string>x7Qm2kV9tR4wZs81</string>\n",
        "  <name>fs.azure.account.key</name>\n  <value>x7Qm2kV9tR4wZs81x7Qm2kV9tR4wZs81</value>\n",
        "+    - name: DB_PASSWORD\n+      value: x7Qm2kV9tR4wZs81\n",
        "    12\t    - name: DB_PASSWORD\n    13\t      value: x7Qm2kV9tR4wZs81\n",
        "- name: DB_PASSWORD\n  value: |\n    x7Qm2kV9tR4wZs81\n",
        "- name: DB_PASSWORD\n  value:\n    x7Qm2kV9tR4wZs81\n",
    ] {
        let output = redacted(text);
        assert!(!output.contains("x7Qm2kV9tR4w"), "{text} gave {output}");
        assert_eq!(output.lines().count(), text.lines().count());
    }
}

#[test]
fn takes_value_of_pair_after_other_members() {
    assert_redacted(
        "{\n  \"Name\": \"/app/db/password\",\n  \"Type\": \"SecureString\",\n  \"Value\": \"x7Qm2kV9tR4wZs81\",\n}\n",
    );
    assert_redacted("{\n  \"name\": \"API_TOKEN\",\n  \"slotSetting\": false,\n  \"value\": \"x7Qm2kV9tR4wZs81\"\n}\n");
    assert_redacted(
        "\"db_password\": {\n  \"sensitive\": true,\n  \"type\": \"string\",\n  \"value\": \"x7Qm2kV9tR4wZs81\"\n}\n",
    );
    assert_redacted("variable \"db_password\" {\n  type    = string\n  default = \"x7Qm2kV9tR4wZs81\"\n}\n");
}

#[test]
fn takes_value_that_comes_before_its_name() {
    assert_redacted("{\n  \"value\": \"x7Qm2kV9tR4wZs81\",\n  \"name\": \"API_TOKEN\"\n}\n");
    assert_redacted("  - value: x7Qm2kV9tR4wZs81\n    name: DB_PASSWORD\n");
    assert_redacted("  - value: x7Qm2kV9tR4wZs81\n    name: DB_PASSWORD");
}

#[test]
fn takes_value_on_the_line_after_its_operator() {
    for text in [
        "API_TOKEN =\n   \"x7Qm2kV9tR4wZs81\"\n",
        "API_TOKEN =\n   x7Qm2kV9tR4wZs81\n",
        "API_TOKEN =\n   x7Qm2kV9tR4wZs81",
        "const API_TOKEN: &str =\n    \"x7Qm2kV9tR4wZs81\";\n",
        "password:\n  x7Qm2kV9tR4wZs81\n",
        "\"password\":\n  \"x7Qm2kV9tR4wZs81\",\n",
        "export API_TOKEN=\\\nx7Qm2kV9tR4wZs81\n",
        "password: |\n  x7Qm2kV9tR4wZs81\nuser: app\n",
        "password: >-\n  x7Qm2kV9tR4wZs81\n",
        "stringData:\n  password: |-\n    x7Qm2kV9tR4wZs81\n  user: app\n",
        "\"adminPassword\": {\n  \"value\": \"x7Qm2kV9tR4wZs81\"\n}\n",
        "\"adminPassword\": {\n\n  \"value\": \"x7Qm2kV9tR4wZs81\"\n}\n",
    ] {
        assert_redacted(text);
    }
}

#[test]
fn takes_secrets_in_escaped_lines() {
    for text in [
        r#"{"out":"{\n  \"name\": \"API_TOKEN\",\n  \"value\": \"x7Qm2kV9tR4wZs81\"\n}"}"#,
        r#"{"out":"password: |\n  x7Qm2kV9tR4wZs81\nuser: app"}"#,
        r#"{"out":"\"adminPassword\": {\n    \"value\": \"x7Qm2kV9tR4wZs81\"\n}"}"#,
        r#"{"out":"API_TOKEN =\n   \"x7Qm2kV9tR4wZs81\""}"#,
    ] {
        assert_redacted(&format!("{text}\n"));
    }
}

#[test]
fn leaves_values_of_other_names() {
    for text in [
        "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      key: password\n      name: db\n- name: BUILD\n  value: x7Qm2kV9tR4wZs81\n",
        "{\"name\": \"API_TOKEN\"},\n{\"value\": \"x7Qm2kV9tR4wZs81\"}\n",
        "{\n  \"name\": \"API_TOKEN\"\n},\n{\n  \"value\": \"x7Qm2kV9tR4wZs81\"\n}\n",
        "- name: BUILD\n  value: x7Qm2kV9tR4wZs81\n- name: DB_PASSWORD\n  valueFrom: db\n",
        "password:\n  type: string\n  example: x7Qm2kV9tR4wZs81\n",
        "The password:\nx7Qm2kV9tR4wZs81 is the id of the build.\n",
        "password: |\nx7Qm2kV9tR4wZs81\n",
        "token:\n  description: what the lexer gives\n  value: string\n",
        "const TOKEN: &str =\n    next_token_of_lexer;\n",
        "password: |\n  see the notes of the team\nid: x7Qm2kV9tR4wZs81\n",
    ] {
        assert_unchanged(text);
    }
}

#[test]
fn takes_values_of_json_objects_by_the_name_of_the_object() {
    let mut document = serde_json::json!({
        "parameters": {"adminPassword": {"value": SECRET}, "size": {"value": SECRET}},
        "list": [{"ParameterKey": "DbPassword", "ParameterValue": SECRET}],
    });
    assert_eq!(redactor().redact_json(&mut document), 2);
    let left = serde_json::json!({
        "parameters": {"adminPassword": {"value": "[REDACTED:generic-password]"}, "size": {"value": SECRET}},
        "list": [{"ParameterKey": "DbPassword", "ParameterValue": "[REDACTED:generic-password]"}],
    });
    assert_eq!(document, left);
}

#[test]
fn takes_known_ordinary_value_of_a_name_on_another_line() {
    let run = bind(Masks::new([KnownSecret { name: "DB_PASSWORD".to_owned(), value: "postgres".to_owned() }]));
    let text = "- name: DB_USER\n  value: postgres\n- name: DB_PASSWORD\n  value: postgres\n";
    let output = "- name: DB_USER\n  value: postgres\n- name: DB_PASSWORD\n  value: [REDACTED:db-password]\n";
    assert_eq!(run.redact(text).text, output);
    for size in 1..text.len() {
        assert_eq!(streamed(&run, text.as_bytes(), &[size]), output, "pieces of {size}");
    }
}

#[test]
fn plain_line_is_not_held_back() {
    let run = redactor();
    let mut stream = run.stream();
    let mut push = |text: &str| {
        let mut out = String::new();
        stream.push(text, &mut out);
        out
    };
    assert_eq!(push("- name: DB_PASSWORD\n"), "- name: DB_PASSWORD\n");
    assert_eq!(push("  other: words flow "), "  other: words flow ");
    assert_eq!(push("here\n"), "here\n");
    assert_eq!(push("  value: x7Qm2kV9tR4wZs81"), "");
    assert_eq!(push("\n"), "");
    assert_eq!(push("a line\n"), "  value: [REDACTED:generic-password]\na line\n");
    assert_eq!(push("The token:\n"), "The token:\n");
    assert_eq!(push("we "), "");
    assert_eq!(push("have "), "we have ");
}
