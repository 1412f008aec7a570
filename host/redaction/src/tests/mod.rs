#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bundled;
mod gaps;
mod kinds;
mod masks;
mod measure;
mod name_and_value;
mod ordinary;
mod recall;
mod requirements;
mod rules;
mod samples;
mod streams;
mod words;

use std::sync::Arc;

use super::*;

/// The bundled plugin, called natively.
pub(super) fn redactor() -> RunRedactor {
    bind(Masks::none())
}

pub(super) fn bind(masks: Masks) -> RunRedactor {
    static COMPILED: std::sync::OnceLock<Arc<Redactor>> = std::sync::OnceLock::new();
    let compiled = COMPILED
        .get_or_init(|| Arc::new(Redactor::compile(vec![bundled::plugin("{}")], OperatorRules::default()).unwrap()));
    RunRedactor::new(Arc::clone(compiled), Arc::new(masks), Arc::new(IgnoreFaults))
}

/// Streams `text` in pieces of the lengths `cuts`, repeated as needed.
pub(super) fn streamed(run: &RunRedactor, text: &[u8], cuts: &[usize]) -> String {
    let mut stream = run.stream();
    let (mut out, mut at, mut turn) = (String::new(), 0, 0);
    while at < text.len() {
        let end = (at + cuts[turn % cuts.len()].max(1)).min(text.len());
        stream.push_bytes(&text[at..end], &mut out);
        (at, turn) = (end, turn + 1);
    }
    stream.finish(&mut out);
    out
}
