//! The parts of a known value that are secrets by themselves: the value, the members of a document, its lines.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::credentials::speaks_of_secret;
use super::measure::{Weight, has_words_only, is_plain_path, is_word_like, looks_random, weigh};
use ostler_protocol::secret_like;

/// The most parts of one value.
const MAX_PARTS: usize = 512;
/// The longest name in an assignment.
const MAX_NAME: usize = 64;

/// A value, or a part of it, and where it is masked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'v> {
    pub(super) value: Cow<'v, str>,
    pub(super) weight: Weight,
}

/// The whole value and the parts of it that are secrets alone.
pub(super) fn parts<'v>(name: &str, value: &'v str) -> Vec<Part<'v>> {
    let trimmed = value.trim();
    let mut parts = Parts::default();
    let several = trimmed.contains(['\n', '\r']);
    // A document as a whole is distinctive, whatever its lines are.
    let weight = if several { Weight::Everywhere } else { weigh(name, trimmed) };
    parts.add(value, weight);
    let document = trimmed.starts_with(['{', '[']).then(|| serde_json::from_str::<Value>(trimmed).ok()).flatten();
    match document {
        Some(document) => parts.members(name, &document),
        None if several => trimmed.lines().for_each(|line| parts.line(line, true)),
        None => {
            parts.user_info(name, trimmed);
            // A key in an environment variable often has escaped line ends.
            let lines = trimmed.replace("\\r", "").replace("\\n", "\n");
            if lines.contains('\n') {
                lines.lines().for_each(|line| parts.line(line, true));
            }
        }
    }
    parts.found
}

#[derive(Default)]
struct Parts<'v> {
    found: Vec<Part<'v>>,
}

impl<'v> Parts<'v> {
    fn add(&mut self, value: impl Into<Cow<'v, str>>, weight: Weight) {
        if weight != Weight::Nowhere && self.found.len() < MAX_PARTS {
            self.found.push(Part { value: value.into(), weight });
        }
    }

    /// A part with its own name. If the name does not suggest a secret, the value decides.
    fn named(&mut self, name: &str, value: impl Into<Cow<'v, str>>) {
        let value = value.into();
        let weight = if secret_like(name) { weigh(name, &value) } else { Weight::Nowhere };
        match weight {
            // An address is not a secret just because its name is `auth_uri`.
            Weight::AsCredential if is_plain_path(name, value.trim()) => {}
            // Many kinds of values follow names like `auth_source`: a plain word there is not masked everywhere.
            Weight::Everywhere if is_word_like(value.trim()) && !speaks_of_secret(name, &[]) => {
                self.add(value, Weight::AsCredential);
            }
            Weight::Everywhere if has_words_only(value.trim()) && !speaks_of_secret(name, &[]) => {}
            Weight::Nowhere if looks_random(value.trim()) => self.add(value, Weight::Everywhere),
            weight => {
                self.user_info(name, &value);
                self.add(value, weight);
            }
        }
    }

    fn members(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    // `{"token": {"value": "…"}}`: such a name does not suggest a secret.
                    let generic = ["value", "data", "raw"].iter().any(|word| key.eq_ignore_ascii_case(word));
                    self.members(if generic { name } else { key }, value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.members(name, item)),
            Value::String(text) if text.trim().contains(['\n', '\r']) => {
                if secret_like(name) {
                    self.add(text.clone(), Weight::Everywhere);
                }
                text.lines().for_each(|line| self.line(line, secret_like(name)));
            }
            Value::String(text) => self.named(name, text.clone()),
            Value::Number(number) if secret_like(name) => self.named(name, number.to_string()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A line of a document of any kind. A line without an assignment is distinctive in a secret unless it is ordinary.
    fn line(&mut self, line: &str, secret: bool) {
        let line = line.trim();
        let line = line.strip_prefix("- ").unwrap_or(line).trim_start();
        if line.starts_with("-----") {
            return;
        }
        if let Some((name, value)) = element(line) {
            return self.named(name, value.to_owned());
        }
        if let Some((name, value)) = assignment(line).filter(|(_, value)| !value.trim().is_empty()) {
            let value = unquoted(value);
            // The name does not suggest a secret, but the whole document is one: then the line counts as one.
            if secret && !secret_like(name) && weigh(name, value) == Weight::Everywhere && !is_word_like(value) {
                self.add(line.to_owned(), Weight::Everywhere);
            }
            return self.named(name, value.to_owned());
        }
        let value = unquoted(line);
        if looks_random(value) {
            self.add(value.to_owned(), Weight::Everywhere);
        } else if secret && !is_structure(line) && !is_plain_path("", value) {
            self.add(value.to_owned(), weigh("", value));
        }
    }

    /// The password in a URL: `postgres://app:…@host`.
    fn user_info(&mut self, name: &str, value: &str) {
        let Some((_, rest)) = value.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let Some(password) = authority
            .rsplit_once('@')
            .and_then(|(user_info, _)| user_info.split_once(':'))
            .map(|(_, password)| password)
        else {
            return;
        };
        let weight = weigh(name, password);
        self.add(password.to_owned(), weight);
        if let Ok(decoded) = percent_decode_str(password).decode_utf8()
            && decoded != password
        {
            self.add(decoded.clone().into_owned(), weigh(name, &decoded));
        }
    }
}

/// Whether a line is only structure: a comment, a section, a tag, a bracket, a lone key.
fn is_structure(line: &str) -> bool {
    let key = line.strip_suffix(['{', '[', ':', '(']).map(|key| key.trim_matches([' ', ':', '=', '"', '\'']));
    ["# ", "// ", "; "].iter().any(|start| line.starts_with(start))
        || line.bytes().all(|byte| b"{}[](),;#/<>-".contains(&byte))
        || (line.starts_with('[') && line.ends_with(']'))
        || (line.starts_with('<') && line.ends_with('>'))
        || key.is_some_and(|key| key.is_empty() || is_word_like(key))
}

/// Name and content of a line of XML with a single element.
fn element(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix('<')?.split_once('>')?;
    let name = name.split(' ').next()?;
    let content = rest.strip_suffix('>')?.strip_suffix(name)?.strip_suffix("</")?;
    (!content.is_empty()).then_some((name, content))
}

/// Name and value of a line of JSON, YAML or shell that assigns something.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let end = line.find([':', '='])?;
    let (name, rest) = (line.get(..end)?, line.get(end + 1..)?);
    let name = name.trim().trim_start_matches("export ").trim_matches(['"', '\'']);
    // Base64 ends with such characters, and `host:5432:…` has them without blanks.
    let assigns = if line.as_bytes().get(end) == Some(&b':') {
        rest.is_empty() || rest.starts_with([' ', '\t'])
    } else {
        !rest.trim_matches('=').is_empty()
    };
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    (assigns && is_name).then_some((name, rest))
}

fn unquoted(value: &str) -> &str {
    let value = value.trim().trim_end_matches(',').trim_end();
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or_else(|| value.trim_start_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn of(value: &str) -> (Vec<String>, Vec<String>) {
        let (everywhere, rest): (Vec<_>, Vec<_>) =
            parts("APP_SECRET", value).into_iter().partition(|part| part.weight == Weight::Everywhere);
        let values = |parts: Vec<Part<'_>>| parts.into_iter().map(|part| part.value.into_owned()).collect();
        (values(everywhere), values(rest))
    }

    #[test]
    fn distinctive_members_of_a_document_are_parts() {
        let document = serde_json::json!({
            "type": "service_account",
            "project_id": "my-project-123456",
            "private_key_id": "5ac717f7bf0387a3153397df6dae75db5c12ea26",
            "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCn4bOsPQ1YxYJnS\nTlBNX1RPS0VOPW5wbV9Z\n-----END PRIVATE KEY-----\n",
            "client_email": "robot@my-project-123456.iam.gserviceaccount.com",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "installed": {"client_secret": "Cbgrr2664pikfCYY", "password": "postgres", "count": 3},
            "token": {"value": "kettle-orbit-seven"},
        });
        for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
            let (everywhere, weak) = of(&text);
            assert_eq!(everywhere[0], text);
            let mut others = everywhere[1..].to_vec();
            others.sort();
            let mut expected = vec![
                "5ac717f7bf0387a3153397df6dae75db5c12ea26",
                document["private_key"].as_str().unwrap(),
                "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCn4bOsPQ1YxYJnS",
                "TlBNX1RPS0VOPW5wbV9Z",
                "Cbgrr2664pikfCYY",
                "kettle-orbit-seven",
            ];
            expected.sort_unstable();
            assert_eq!(others, expected);
            assert_eq!(weak, ["postgres"]);
        }
    }

    #[test]
    fn distinctive_lines_of_other_documents_are_parts() {
        let text = "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: kubernetes\nusers:\n\
                    - name: admin\n  user:\n    token: kettle-orbit-seven\n    password: changeme\n\
                    \x20   client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo=\n[section]\n# comment\nbare-telling-line\nabc\n";
        let (everywhere, weak) = of(text);
        assert_eq!(
            everywhere,
            [text, "kettle-orbit-seven", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo=", "bare-telling-line"]
        );
        assert_eq!(weak, ["changeme", "abc"]);
    }

    #[test]
    fn lines_that_resemble_structure_or_assignments_stay_parts() {
        let text = "PIN=83920175\nDB_PW=kettle-orbit-nine\n1: 4829-1937\n#Kettle!Orbit7\n<kettle-orbit-9\n//Kettle/Orbit\n\
                    KettleOrbit7:\n<password>kettle-orbit-two</password>\nkind: Config\n# a comment\n[section]\n";
        let expected = [
            text,
            "PIN=83920175",
            "kettle-orbit-nine",
            "1: 4829-1937",
            "#Kettle!Orbit7",
            "<kettle-orbit-9",
            "//Kettle/Orbit",
            "KettleOrbit7:",
            "kettle-orbit-two",
        ];
        let everywhere = of(text).0;
        for part in expected {
            assert!(everywhere.iter().any(|found| found == part), "{part:?}: {everywhere:?}");
        }
        for ordinary in ["kind: Config", "Config", "# a comment", "[section]"] {
            assert!(!everywhere.iter().any(|found| found == ordinary), "{ordinary:?}: {everywhere:?}");
        }
    }

    #[test]
    fn numbers_with_secret_names_and_escaped_lines_are_parts() {
        assert_eq!(of(r#"{"password": 483920175566, "count": 300}"#).0[1..], ["483920175566"]);
        let key = r"-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END KEY-----";
        assert_eq!(of(key).0[1..], ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"]);
    }

    #[test]
    fn password_of_a_url_is_a_part() {
        assert_eq!(of("postgres://app:x7Qm2kV9%21@db/app").0[1..], ["x7Qm2kV9%21", "x7Qm2kV9!"]);
        assert_eq!(of("postgres://postgres:postgres@db/app").1, ["postgres"]);
        assert_eq!(of("https://example.com:8080/a@b").0.len() + of("https://example.com:8080/a@b").1.len(), 1);
    }

    #[test]
    fn plain_value_has_one_part() {
        assert_eq!(of("swordfish\n"), (vec!["swordfish\n".to_owned()], vec![]));
        assert_eq!(of("postgres"), (vec![], vec!["postgres".to_owned()]));
        assert_eq!(of("true"), (vec![], vec![]));
    }
}
