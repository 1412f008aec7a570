//! Recall for secrets that are not among the samples, and that ordinary output is unchanged.

use std::collections::BTreeMap;

use super::samples::leaks;
use super::{redactor, streamed};

#[path = "../../../../tests/redaction/generator.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other suites")]
mod generator;

#[test]
fn secrets_beyond_the_samples_are_found() {
    let run = redactor();
    let mut by_rule: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut missed = Vec::new();
    for case in [20_261_103, 31, 4_711].into_iter().flat_map(|seed| generator::secrets(seed, 4)) {
        let output = run.redact(&case.text).text.into_owned();
        for secret in &case.secrets {
            let entry = by_rule.entry(case.rule).or_default();
            entry.1 += 1;
            if leaks(secret, &output) {
                missed.push(format!("{}: {:?} gave {:?}", case.rule, case.text, output));
            } else {
                entry.0 += 1;
            }
        }
        for (before, after) in case.text.lines().zip(output.lines()) {
            if serde_json::from_str::<serde_json::Value>(before).is_ok() {
                assert!(serde_json::from_str::<serde_json::Value>(after).is_ok(), "{before} became {after}");
            }
        }
    }
    let (caught, all) = by_rule.values().fold((0, 0), |(c, a), (caught, all)| (c + caught, a + all));
    println!("recall {caught} of {all}: {:.2} %", caught as f64 * 100.0 / all as f64);
    missed.truncate(60);
    println!("{}", missed.join("\n"));
    assert!(caught * 1000 >= all * 985, "{caught} of {all}\n{}", missed.join("\n"));
    for (rule, (caught, all)) in by_rule {
        assert!(caught * 100 >= all * 90, "{rule}: {caught} of {all}\n{}", missed.join("\n"));
    }
}

#[test]
fn ordinary_output_is_unchanged() {
    let run = redactor();
    let changed: Vec<String> = [7, 1_000_003]
        .into_iter()
        .flat_map(|seed| generator::ordinary(seed, 20))
        .filter_map(|case| {
            let output = run.redact(&case.text).text.into_owned();
            (output != case.text).then(|| format!("{:?} became {output:?}", case.text))
        })
        .collect();
    assert!(changed.is_empty(), "{}\n{}", changed.len(), changed[..changed.len().min(40)].join("\n"));
}

#[test]
fn cuts_and_a_second_pass_change_nothing() {
    let run = redactor();
    for case in generator::secrets(99, 1).into_iter().chain(generator::ordinary(99, 1)) {
        let once = run.redact(&case.text).text.into_owned();
        assert_eq!(run.redact(&once).text, once, "{:?}", case.text);
        for cuts in [&[1][..], &[3, 1, 7], &[16, 2], &[64]] {
            assert_eq!(streamed(&run, case.text.as_bytes(), cuts), once, "{:?} cut at {cuts:?}", case.text);
        }
    }
}
