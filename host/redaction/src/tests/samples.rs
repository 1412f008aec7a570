//! The published samples: every secret is found, and nothing else is changed.

use serde_json::Value;

use super::{redactor, streamed};

struct Sample {
    id: String,
    text: String,
    secrets: Vec<String>,
}

fn samples() -> Vec<Sample> {
    include_str!("../../../../tests/redaction/samples.jsonl")
        .lines()
        .map(|line| {
            let sample: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| sample[key].as_str().unwrap().to_owned();
            let secrets =
                sample["secrets"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
            Sample { id: format!("{} {} {}", text("id"), text("rule"), text("context")), text: text("text"), secrets }
        })
        .collect()
}

/// Whether half of a secret's characters, at least twelve, are left in a row.
pub(super) fn leaks(secret: &str, output: &str) -> bool {
    let size = if secret.len() < 12 { secret.len() } else { (secret.len() / 2).max(12) };
    secret.as_bytes().windows(size).any(|part| memchr::memmem::find(output.as_bytes(), part).is_some())
}

#[test]
fn every_secret_is_redacted_and_nothing_else_is_changed() {
    let run = redactor();
    let mut wrong = Vec::new();
    for sample in samples() {
        let output = run.redact(&sample.text);
        if sample.secrets.iter().any(|secret| leaks(secret, &output.text)) {
            wrong.push(format!("missed {}: {}", sample.id, output.text));
        }
        if sample.secrets.is_empty() && output.text != sample.text {
            wrong.push(format!("changed {}: {}", sample.id, output.text));
        }
        if run.redact(&output.text).text != output.text {
            wrong.push(format!("not stable {}: {}", sample.id, run.redact(&output.text).text));
        }
        for (before, after) in sample.text.lines().zip(output.text.lines()) {
            if serde_json::from_str::<Value>(before).is_ok() && serde_json::from_str::<Value>(after).is_err() {
                wrong.push(format!("broken JSON {}: {after}", sample.id));
            }
        }
        if sample.text.lines().count() != output.text.lines().count() {
            wrong.push(format!("lines lost {}", sample.id));
        }
        for cuts in [&[1][..], &[2, 3], &[7], &[1, 13, 5], &[40]] {
            let pieces = streamed(&run, sample.text.as_bytes(), cuts);
            if pieces != output.text {
                wrong.push(format!("cut {cuts:?} {}: {pieces:?} is not {:?}", sample.id, output.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn text_around_a_secret_is_kept() {
    let run = redactor();
    for sample in samples() {
        // The first and the last line of a key are redacted with it.
        let mut rest: String =
            sample.text.split("-----").enumerate().filter(|(at, _)| at % 2 == 0).map(|(_, part)| part).collect();
        for secret in &sample.secrets {
            rest = rest.replace(secret.as_str(), "\u{0}");
        }
        let output = run.redact(&sample.text).text.into_owned();
        for word in rest.split(['\u{0}', ' ', '\n', '"', ',', '\\']).filter(|word| word.len() > 2) {
            assert!(output.contains(word), "{}: lost {word:?} in {output:?}", sample.id);
        }
    }
}
