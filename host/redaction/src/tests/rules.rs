//! Rules of plugins and operators, plugins that fail, JSON documents.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::super::*;
use super::{bundled, redactor};

struct Fake {
    verify: fn(&[Candidate]) -> Result<Vec<bool>, Fault>,
    scan: fn(&str) -> Result<Vec<Find>, Fault>,
}

impl RedactorPlugin for Fake {
    fn verify(&self, candidates: &[Candidate]) -> Result<Vec<bool>, Fault> {
        (self.verify)(candidates)
    }

    fn scan(&self, text: &str) -> Result<Vec<Find>, Fault> {
        (self.scan)(text)
    }
}

#[derive(Default)]
struct RecordedFaults(Mutex<Vec<String>>);

impl FaultSink for RecordedFaults {
    fn fault(&self, plugin: &str, fault: &Fault) {
        self.0.lock().unwrap().push(format!("{plugin}: {fault}"));
    }
}

fn fake(
    rules: RuleSet,
    verify: fn(&[Candidate]) -> Result<Vec<bool>, Fault>,
    scan: fn(&str) -> Result<Vec<Find>, Fault>,
) -> PluginRules {
    PluginRules { name: "fake".to_owned(), rules, plugin: Arc::new(Fake { verify, scan }) }
}

fn rule(id: &str, pattern: &str, keywords: &[&str]) -> Rule {
    Rule { keywords: keywords.iter().map(|k| (*k).to_owned()).collect(), ..Rule::new(id, pattern) }
}

fn run_with(plugins: Vec<PluginRules>, operator: OperatorRules) -> (RunRedactor, Arc<RecordedFaults>) {
    let heard = Arc::new(RecordedFaults::default());
    let redactor = Redactor::compile(plugins, operator).unwrap();
    (RunRedactor::new(Arc::new(redactor), Arc::new(Masks::none()), Arc::clone(&heard) as Arc<dyn FaultSink>), heard)
}

#[expect(clippy::unnecessary_wraps, reason = "stands for a call that can fail")]
fn nothing(_: &str) -> Result<Vec<Find>, Fault> {
    Ok(Vec::new())
}

#[expect(clippy::unnecessary_wraps, reason = "stands for a call that can fail")]
fn yes(candidates: &[Candidate]) -> Result<Vec<bool>, Fault> {
    Ok(vec![true; candidates.len()])
}

#[test]
fn all_invalid_rules_are_reported_at_once() {
    let rules = RuleSet {
        rules: vec![
            rule("Bad Id", "abc", &["abc"]),
            rule("open", "(abc", &["abc"]),
            rule("empty", "a*", &["aa"]),
            Rule { max_length: 1 << 20, ..rule("long", "abc", &["abc"]) },
            Rule { secret_groups: vec![3], ..rule("group", "a(b)c", &["abc"]) },
            rule("huge", r"[\w\d\s]{900}{900}", &["abc"]),
            Rule {
                block: Some(Block { body: "[".to_owned(), end: "x".to_owned(), max_lines: 3 }),
                ..rule("block", "abc", &["abc"])
            },
        ],
        allow: vec![Allow { rules: vec!["missing".to_owned()], target: AllowTarget::Secret, pattern: "(".to_owned() }],
        scan_overlap: None,
    };
    let operator = OperatorRules { rules: vec![rule("mine", "[", &["xy"])], allow: Vec::new() };
    let errors = Redactor::compile(vec![fake(rules, yes, nothing)], operator).unwrap_err();
    let text = errors.to_string();
    for part in [
        "fake: rule `Bad Id`, id",
        "rule `open`, pattern",
        "rule `empty`, pattern",
        "rule `long`, max-length",
        "rule `group`, secret-groups",
        "rule `huge`, pattern",
        "rule `block`, block.body",
        "allow entry 1, rules: there is no rule `missing`",
        "allow entry 1, pattern",
        "redaction: rule `mine`, pattern",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn exception_applies_to_its_rules_only() {
    let rules = RuleSet {
        rules: vec![rule("one", "one-[a-z]+", &["one-"]), rule("two", "two-[a-z]+", &["two-"])],
        allow: vec![Allow { rules: vec!["one".to_owned()], target: AllowTarget::Line, pattern: "harmless".to_owned() }],
        scan_overlap: None,
    };
    let (run, _) = run_with(vec![fake(rules.clone(), yes, nothing)], OperatorRules::default());
    assert_eq!(run.redact("one-a two-b harmless\none-c\n").text, "one-a [REDACTED:two] harmless\n[REDACTED:one]\n");
    let operator = OperatorRules {
        rules: vec![rule("mine", "acme-[0-9]+", &["acme-"])],
        allow: vec![Allow {
            rules: Vec::new(),
            target: AllowTarget::Secret,
            pattern: "^(?:two-ok|acme-0)$".to_owned(),
        }],
    };
    let (run, _) = run_with(vec![fake(rules, yes, nothing)], operator);
    assert_eq!(run.redact("two-ok two-no acme-0 acme-1").text, "two-ok [REDACTED:two] acme-0 [REDACTED:mine]");
}

#[test]
fn every_candidate_is_redacted_if_the_plugin_fails() {
    let rules =
        RuleSet { rules: vec![Rule { verify: true, ..rule("asked", "ask-[a-z]+", &["ask-"]) }], ..RuleSet::default() };
    for verify in
        [(|_: &[Candidate]| Err(Fault::new("trapped"))) as fn(&[Candidate]) -> Result<Vec<bool>, Fault>, |_| {
            Ok(Vec::new())
        }]
    {
        let (run, heard) = run_with(vec![fake(rules.clone(), verify, nothing)], OperatorRules::default());
        assert_eq!(run.redact("x ask-me y").text, "x [REDACTED:asked] y");
        assert_eq!(heard.0.lock().unwrap().len(), 1);
    }
    let (run, heard) = run_with(
        vec![fake(rules, |c| Ok(c.iter().map(|c| c.secret == "ask-b" && c.before == "ask-a ").collect()), nothing)],
        OperatorRules::default(),
    );
    assert_eq!(run.redact("ask-a ask-b ask-c").text, "ask-a [REDACTED:asked] ask-c");
    assert!(heard.0.lock().unwrap().is_empty());
}

#[test]
fn failed_scan_withholds_its_lines() {
    let rules =
        RuleSet { rules: vec![rule("one", "one-[a-z]+", &["one-"])], scan_overlap: Some(4), ..RuleSet::default() };
    let scan = |text: &str| {
        Ok(text
            .split_whitespace()
            .filter(|word| word.starts_with("zz"))
            .map(|word| Find { rule: "Odd Word".to_owned(), secret: word.to_owned() })
            .collect())
    };
    let (run, _) = run_with(vec![fake(rules.clone(), yes, scan)], OperatorRules::default());
    let text = "one-a zzz\nb zzy c\n";
    let output = "[REDACTED:one] [REDACTED:odd-word]\nb [REDACTED:odd-word] c\n";
    assert_eq!(run.redact(text).text, output);
    assert_eq!(run.redact(output).text, output);
    for size in 1..text.len() {
        assert_eq!(super::streamed(&run, text.as_bytes(), &[size]), output);
    }
    let (run, heard) =
        run_with(vec![fake(rules, yes, |_| Err(Fault::new("ran out of fuel")))], OperatorRules::default());
    assert_eq!(run.redact("one-a zzz").text, "[REDACTED:withheld]");
    assert_eq!(*heard.0.lock().unwrap(), ["fake: ran out of fuel"]);
    assert_eq!(run.redact("a\n\n  b c\r\n").text, "[REDACTED:withheld]\n\n  [REDACTED:withheld]\r\n");
    // The host's own messages stay readable.
    let redactor = Arc::clone(&run.shared().redactor);
    let lenient = RunRedactor::with(redactor, Arc::new(Masks::none()), Arc::new(IgnoreFaults), Unscanned::ByRules);
    assert_eq!(lenient.redact("one-a zzz").text, "[REDACTED:one] zzz");
}

#[test]
fn rules_without_keywords_or_fixed_start_are_applied() {
    let rules = RuleSet {
        rules: vec![
            Rule { whole_word: true, ..rule("everywhere", "[0-9]{3}-[0-9]{3}", &[]) },
            Rule { max_length: 40, ..rule("around", r"[a-z ]{4}MARK[a-z ]{2}", &["mark"]) },
            Rule { secret_groups: vec![1, 2], ..rule("pair", r"id=(\w+) key=(\w+)", &["id="]) },
            Rule { min_entropy: Some(3.0), ..rule("rich", "rich-[a-z]+", &["rich-"]) },
        ],
        ..RuleSet::default()
    };
    let (run, _) = run_with(vec![fake(rules, yes, nothing)], OperatorRules::default());
    let text = "a 123-456 1123-456 bb ccMARKdd e id=one key=two rich-aaaa rich-abcdefghij\n";
    let output = "a [REDACTED:everywhere] 1123-456 b[REDACTED:around] e id=[REDACTED:pair] key=[REDACTED:pair] rich-aaaa [REDACTED:rich]\n";
    assert_eq!(run.redact(text).text, output);
    for size in 1..text.len() {
        assert_eq!(super::streamed(&run, text.as_bytes(), &[size]), output);
    }
}

#[test]
fn text_without_rules_is_withheld() {
    let run = RunRedactor::new(Arc::new(Redactor::withholding()), Arc::new(Masks::none()), Arc::new(IgnoreFaults));
    assert_eq!(run.redact("  a b\n\nc").text, "  [REDACTED:withheld]\n\n[REDACTED:withheld]");
    assert_eq!(super::streamed(&run, b"  a b\n\nc", &[1]), "  [REDACTED:withheld]\n\n[REDACTED:withheld]");
    let mut document = json!({"a": ["b"]});
    run.redact_json(&mut document);
    assert!(!document.to_string().contains("\"b\""));
}

#[test]
fn without_rules_only_unusual_words_of_host_messages_are_withheld() {
    let known = KnownSecret { name: String::new(), value: "Tz4mQ8vLw2Xk".to_owned() };
    let (masks, faults) = (Arc::new(Masks::new([known])), Arc::new(IgnoreFaults));
    let run = RunRedactor::with(Arc::new(Redactor::withholding()), masks, faults, Unscanned::ByRules);
    for plain in [
        "redactor secrets: failed to start: mmap failed to reserve 0x104000000 bytes: Cannot allocate memory (os error 12)",
        "no redactor plugin can run; see `ostler plugin list`\n",
        "PLUGIN_FAILED /plugins/redactor/secrets wasm32 x86_64 8000000 KiB",
        "größer als 100 MiB",
    ] {
        assert_eq!(run.redact(plain).text, plain);
    }
    let token = ["gh", "p_K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    let text = format!("the setting {token} is wrong, key=x7Qm2kV9tR4w too\n");
    assert_eq!(run.redact(&text).text, "the setting [REDACTED:withheld] is wrong, [REDACTED:withheld] too\n");
    assert_eq!(run.redact("it is Tz4mQ8vLw2Xk").text, "it is [REDACTED:known-value]");
}

#[test]
fn json_values_are_redacted_by_their_keys() {
    let run = redactor();
    let mut document = json!({
        "password": "x9Qr7LmZ2vTk",
        "env": [{"name": "DB_PASSWORD", "value": "x9Qr7LmZ2vTk"}, {"name": "MODE", "value": "fast"}],
        "args": ["tool", "--token", "x9Qr7LmZ2vTkA8fE3bN6", "--verbose", "yes"],
        "headers": {"Authorization": "Bearer ZIiS9PeQWuM4wNKJFD1xd20MXS9fSPbKC7", "Accept": "*/*"},
        "note": "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 and text",
        "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": 1,
        "thread_id": "6bfb0826-5d56-4568-a766-4beb22f4ba40",
        "input_tokens": 123,
    });
    let count = run.redact_json(&mut document);
    assert_eq!(
        document,
        json!({
            "password": "[REDACTED:generic-password]",
            "env": [{"name": "DB_PASSWORD", "value": "[REDACTED:generic-password]"}, {"name": "MODE", "value": "fast"}],
            "args": ["tool", "--token", "[REDACTED:cli-password-flag]", "--verbose", "yes"],
            "headers": {"Authorization": "Bearer [REDACTED:http-bearer-opaque]", "Accept": "*/*"},
            "note": "[REDACTED:github-pat] and text",
            "[REDACTED:github-pat]": 1,
            "thread_id": "6bfb0826-5d56-4568-a766-4beb22f4ba40",
            "input_tokens": 123,
        })
    );
    assert_eq!(count, 6);
}

#[test]
fn equal_candidates_are_verified_once() {
    fn odd_ones(candidates: &[Candidate]) -> Result<Vec<bool>, Fault> {
        let mut seen = std::collections::HashSet::new();
        if candidates.iter().all(|candidate| seen.insert((&candidate.secret, &candidate.before, &candidate.after))) {
            return Ok(candidates.iter().map(|candidate| candidate.secret.ends_with(['1', '3'])).collect());
        }
        Err(Fault::new("asked twice"))
    }
    let rules =
        RuleSet { rules: vec![Rule { verify: true, ..rule("key", "key-[0-9]", &["key-"]) }], ..RuleSet::default() };
    let (run, heard) = run_with(vec![fake(rules, odd_ones, nothing)], OperatorRules::default());
    let text = "key-1 is odd\nkey-2\nkey-3\n".repeat(700);
    let expected = "[REDACTED:key] is odd\nkey-2\n[REDACTED:key]\n".repeat(700);
    assert_eq!(run.redact(&text).text, expected);
    assert!(heard.0.lock().unwrap().is_empty());
}

#[test]
fn settings_disable_rules_and_allow_values() {
    let settings = r#"{"disable": ["github-pat"], "allow": [{"pattern": "^gsk_twc6", "rules": ["groq-api-key"]}]}"#;
    let (run, _) = run_with(vec![bundled::plugin(settings)], OperatorRules::default());
    for text in
        ["see 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", "see 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"]
    {
        assert_eq!(run.redact(text).text, text);
    }
}

#[test]
fn rejects_rules_beyond_the_total_size_quickly() {
    let began = std::time::Instant::now();
    // Each within the limit of one pattern.
    let within: Vec<Rule> =
        (0..900).map(|number| rule(&format!("r{number}"), &format!("k{number}\\w{{60}}"), &[])).collect();
    let errors = compile_errors(within, Vec::new());
    assert!(errors.iter().any(|error| error.contains("more than 64 MiB in all")), "{errors:?}");
    // Each beyond it: a failed compilation takes time, too.
    let beyond: Vec<Rule> =
        (0..900).map(|number| rule(&format!("r{number}"), &format!("k{number}(\\W{{100}}){{100}}"), &[])).collect();
    let errors = compile_errors(beyond, Vec::new());
    assert!(errors.len() < 40, "{} errors", errors.len());
    let many = (0..1001).map(|number| rule(&format!("r{number}"), "abc", &[])).collect();
    assert!(compile_errors(many, Vec::new())[0].contains("1001 rules"));
    let allow = Allow { rules: Vec::new(), target: AllowTarget::Secret, pattern: "a".to_owned() };
    assert!(compile_errors(Vec::new(), vec![allow; 1001])[0].contains("1001 allow entries"));
    let keyword = |number: usize| format!("{number:060}");
    let words: Vec<String> = (0..250).map(keyword).collect();
    let wordy = |id: &str| Rule { keywords: words.clone(), ..rule(id, "abc", &[]) };
    let wordy = (0..100).map(|number| wordy(&format!("r{number}"))).collect();
    assert!(compile_errors(wordy, Vec::new())[0].contains("keywords together"));
    let names = Allow { rules: vec!["x".to_owned(); 1000], target: AllowTarget::Secret, pattern: "a".to_owned() };
    assert!(compile_errors(vec![rule("x", "abc", &[])], vec![names; 21])[0].contains("20000 rules in all"));
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

fn compile_errors(rules: Vec<Rule>, allow: Vec<Allow>) -> Vec<String> {
    let plugin = fake(RuleSet { rules, allow, scan_overlap: None }, yes, nothing);
    let errors = Redactor::compile(vec![plugin], OperatorRules::default()).unwrap_err();
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn large_plugin_does_not_use_up_the_limits_of_others() {
    let large: Vec<Rule> =
        (0..900).map(|number| rule(&format!("r{number}"), &format!("k{number}\\w{{60}}"), &[])).collect();
    let plugin = fake(RuleSet { rules: large, ..RuleSet::default() }, yes, nothing);
    let small = PluginRules {
        name: "small".to_owned(),
        ..fake(RuleSet { rules: vec![rule("x", "xyz", &[])], ..RuleSet::default() }, yes, nothing)
    };
    let allow = Allow { rules: vec!["nowhere".to_owned()], target: AllowTarget::Secret, pattern: "a".to_owned() };
    let operator = OperatorRules { rules: Vec::new(), allow: vec![allow] };
    let errors = Redactor::compile(vec![plugin, small], operator).unwrap_err();
    let sources: std::collections::BTreeSet<&str> = errors.0.iter().map(|error| error.source_name.as_str()).collect();
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["fake", "redaction"], "{errors}");
}
