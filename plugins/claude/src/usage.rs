//! Tokens and cost of one attempt.
//!
//! A `claude --print` process is one attempt. The counters of older versions begin with the process, also after a resume.
//! The last line of newer versions counts the whole session. Until the last line reports the totals, those of the main
//! agent's messages are used, so that a stopped run has usage, too.

use ostler_plugin::provider::{Counter, Usage};
use serde_json::{Map, Value};

/// Tokens as the API counts them: three separate kinds of input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tokens {
    input: u64,
    cached: u64,
    cache_write: u64,
    output: u64,
}

impl Tokens {
    fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached: self.cached.saturating_add(other.cached),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached: self.cached.max(other.cached),
            cache_write: self.cache_write.max(other.cache_write),
            output: self.output.max(other.output),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            cached: self.cached.saturating_sub(other.cached),
            cache_write: self.cache_write.saturating_sub(other.cache_write),
            output: self.output.saturating_sub(other.output),
        }
    }

    /// Updates from `usage` of the API. Missing fields keep their value.
    fn update(self, usage: &Value) -> Self {
        let count = |key: &str, old: u64| usage.get(key).and_then(Value::as_u64).unwrap_or(old);
        Self {
            input: count("input_tokens", self.input),
            cached: count("cache_read_input_tokens", self.cached),
            cache_write: count("cache_creation_input_tokens", self.cache_write),
            output: count("output_tokens", self.output),
        }
    }

    /// The host counts cached tokens as a part of the input.
    fn into_usage(self) -> Usage {
        Usage {
            whole_session: false,
            input_tokens: Some(self.input.saturating_add(self.cached).saturating_add(self.cache_write)),
            cached_input_tokens: Some(self.cached),
            cache_write_tokens: Some(self.cache_write),
            output_tokens: Some(self.output),
            ..Usage::default()
        }
    }
}

/// The usage of the messages so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    done: Tokens,
    /// The current message.
    current: Tokens,
    /// Whether the last line includes earlier runs of its session.
    whole_session: bool,
    /// Whether more turns can follow a last line.
    many_turns: bool,
    /// The last totals, those of the messages at that time, and whether they include earlier runs.
    reported: Option<(Tokens, Tokens, bool)>,
}

/// The first version whose last line includes earlier runs of a resumed session. Neither the help nor the line shows it.
const COUNTS_SESSIONS: [u64; 3] = [2, 1, 277];

impl Meter {
    /// Sets the version from the first line.
    pub(crate) fn version(&mut self, version: &str) {
        let mut parts = version.split(['.', '-']).map(|part| part.parse::<u64>().unwrap_or(0));
        let numbers: [u64; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
        self.whole_session = numbers >= COUNTS_SESSIONS;
    }

    /// `message_start`.
    pub(crate) fn begin(&mut self, usage: Option<&Value>) {
        self.done = self.done.plus(self.current);
        self.current = usage.map_or_else(Tokens::default, |usage| Tokens::default().update(usage));
    }

    /// `message_delta`, which contains the totals of the message.
    pub(crate) fn update(&mut self, usage: &Value) -> Usage {
        self.current = self.current.update(usage);
        let seen = self.done.plus(self.current);
        match self.reported {
            // The totals also include what is not in these messages, such as those of sub-agents.
            Some((all, before, whole_session)) => Usage { whole_session, ..all.plus(seen.minus(before)).into_usage() },
            None => seen.into_usage(),
        }
    }

    /// Several turns are read, each with a last line.
    pub(crate) fn many_turns(&mut self) {
        self.many_turns = true;
    }

    /// The totals of the last line. An interrupted turn reports zeros; the counters of the messages are higher.
    pub(crate) fn total(&mut self, result: &Map<String, Value>) -> Usage {
        let seen = self.done.plus(self.current);
        let models = result.get("modelUsage").and_then(Value::as_object).filter(|models| !models.is_empty());
        let reported = match models {
            // All models of the run, including those of sub-agents.
            Some(models) => models.values().fold(Tokens::default(), |sum, model| sum.plus(of_model(model))),
            None => result.get("usage").map_or_else(Tokens::default, |usage| Tokens::default().update(usage)),
        };
        let searches = models.map_or(0, |models| models.values().map(|model| number(model, "webSearchRequests")).sum());
        let mut others = Vec::new();
        if let Some(turns) = result.get("num_turns").and_then(Value::as_f64) {
            others.push(Counter { name: "turns".to_owned(), value: turns });
        }
        if searches > 0 {
            others.push(Counter {
                name: "web-searches".to_owned(),
                value: f64::from(u32::try_from(searches).unwrap_or(u32::MAX)),
            });
        }
        let all = reported.most(seen);
        // A cost that does not include all messages would be too low.
        let cost = result.get("total_cost_usd").and_then(Value::as_f64).filter(|_| all == reported);
        let whole_session = self.whole_session && models.is_some();
        if self.many_turns {
            self.reported = Some((all, seen, whole_session));
        }
        Usage { cost_micro_usd: cost.and_then(micro), others, whole_session, ..all.into_usage() }
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn of_model(model: &Value) -> Tokens {
    Tokens {
        input: number(model, "inputTokens"),
        cached: number(model, "cacheReadInputTokens"),
        cache_write: number(model, "cacheCreationInputTokens"),
        output: number(model, "outputTokens"),
    }
}

/// US dollars as millionths, rounded to the nearest.
fn micro(dollars: f64) -> Option<u64> {
    let micro = (dollars * 1_000_000.0).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10^15")]
    (0.0..=1.0e15).contains(&micro).then_some(micro as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn input_includes_caches_and_all_models() {
        let result = json!({
            "num_turns": 3, "total_cost_usd": 0.002_199_999_999_999_999_7,
            "usage": {"input_tokens": 1, "output_tokens": 1},
            "modelUsage": {
                "a": {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 100, "cacheCreationInputTokens": 20, "webSearchRequests": 2},
                "b": {"inputTokens": 1, "outputTokens": 2},
            },
        });
        let usage = Meter::default().total(result.as_object().unwrap());
        assert_eq!(usage.input_tokens, Some(131));
        assert_eq!(
            (usage.cached_input_tokens, usage.cache_write_tokens, usage.output_tokens),
            (Some(100), Some(20), Some(7))
        );
        assert_eq!(usage.cost_micro_usd, Some(2200));
        assert!(!usage.whole_session);
        let others: Vec<_> = usage.others.iter().map(|counter| (counter.name.as_str(), counter.value)).collect();
        assert_eq!(others, [("turns", 3.0), ("web-searches", 2.0)]);
    }

    #[test]
    fn last_line_of_newer_versions_counts_the_whole_session() {
        let result = json!({"modelUsage": {"a": {"inputTokens": 240, "outputTokens": 14}}, "total_cost_usd": 0.001});
        for (version, whole) in
            [("2.1.197", false), ("2.1.332", true), ("2.2.0-beta.1", true), ("3", true), ("", false)]
        {
            let mut meter = Meter::default();
            meter.version(version);
            let usage = meter.total(result.as_object().unwrap());
            assert_eq!((usage.whole_session, usage.input_tokens), (whole, Some(240)), "{version}");
        }
    }

    #[test]
    fn usage_of_messages_is_kept_if_the_turn_is_interrupted() {
        let mut meter = Meter::default();
        meter.begin(Some(&json!({"input_tokens": 100, "cache_read_input_tokens": 7, "output_tokens": 1})));
        assert_eq!(meter.update(&json!({"output_tokens": 20})).output_tokens, Some(20));
        meter.begin(Some(&json!({"input_tokens": 50, "output_tokens": 1})));
        let usage = meter.update(&json!({"output_tokens": 4}));
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost_micro_usd), (Some(157), Some(24), None));
        let zeros = json!({"usage": {"input_tokens": 0, "output_tokens": 0}, "modelUsage": {}, "total_cost_usd": 0});
        let usage = meter.total(zeros.as_object().unwrap());
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost_micro_usd), (Some(157), Some(24), None));
    }

    #[test]
    fn messages_of_a_later_turn_add_to_the_totals_of_the_earlier_ones() {
        let mut meter = Meter::default();
        meter.version("2.1.332");
        meter.many_turns();
        meter.begin(Some(&json!({"input_tokens": 100, "output_tokens": 5})));
        meter.update(&json!({"output_tokens": 5}));
        // A sub-agent used tokens as well.
        let result = json!({"modelUsage": {"a": {"inputTokens": 150, "outputTokens": 8}}, "total_cost_usd": 0.001});
        assert_eq!(meter.total(result.as_object().unwrap()).input_tokens, Some(150));
        meter.begin(Some(&json!({"input_tokens": 20, "output_tokens": 1})));
        let usage = meter.update(&json!({"output_tokens": 3}));
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.whole_session), (Some(170), Some(11), true));
    }

    proptest! {
        #[test]
        fn usage_does_not_overflow(counts in prop::collection::vec(any::<u64>(), 4), cost in any::<f64>()) {
            let usage = json!({
                "input_tokens": counts[0], "cache_read_input_tokens": counts[1], "cache_creation_input_tokens": counts[2], "output_tokens": counts[3],
            });
            let mut meter = Meter::default();
            meter.begin(Some(&usage));
            meter.begin(Some(&usage));
            let before = meter.update(&usage);
            let result = json!({"usage": usage, "total_cost_usd": cost});
            let after = meter.total(result.as_object().unwrap());
            prop_assert!(after.input_tokens >= before.input_tokens);
        }
    }
}
