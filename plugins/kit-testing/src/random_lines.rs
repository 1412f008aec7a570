//! Random and damaged lines, and properties that hold for every transcript.

use ostler_plugin::Transcript;
use ostler_plugin::provider::{ExitStatus, Line, OutputStream, Step};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// Captured lines in any order, some of them damaged, mixed with random lines that match `words`.
pub fn lines(corpus: Vec<Line>, words: &'static str) -> impl Strategy<Value = Vec<Line>> {
    let known = (0..corpus.len(), 0_usize..4000, 0..4_u8, any::<char>()).prop_map(move |(index, at, how, c)| {
        let mut line = corpus[index].clone();
        let at = (0..=at.min(line.text.len())).rev().find(|at| line.text.is_char_boundary(*at)).unwrap_or(0);
        match how {
            0 => line.text.truncate(at),
            1 => line.text.insert(at, c),
            2 => line.truncated = true,
            _ => {}
        }
        line
    });
    let random = (words, any::<bool>()).prop_map(|(text, out)| Line {
        stream: if out { OutputStream::Stdout } else { OutputStream::Stderr },
        text,
        truncated: false,
    });
    prop::collection::vec(prop_oneof![4 => known, 1 => random], 0..24)
}

/// Reads the lines, finishes, and returns the events.
///
/// # Errors
/// If covered lines are not among the given ones in order, or if the transcript writes to a CLI that reads no input.
pub fn survives(mut transcript: impl Transcript, lines: Vec<Line>, code: Option<i32>) -> Result<Step, TestCaseError> {
    let count = lines.len();
    let step = transcript.read(lines);
    prop_assert!(step.covered.iter().all(|index| (*index as usize) < count));
    prop_assert!(step.covered.windows(2).all(|pair| pair[0] < pair[1]));
    prop_assert!(step.write.is_empty() && !step.end_input);
    transcript.finish(ExitStatus { code, ..ExitStatus::default() }, Vec::new());
    Ok(step)
}

/// Reads the lines at once and in two parts.
///
/// # Errors
/// If that results in other events or another outcome.
pub fn batches_make_no_difference<T: Transcript>(
    begin: impl Fn() -> T,
    lines: &[Line],
    cut: usize,
) -> Result<(), TestCaseError> {
    let mut whole = begin();
    let all = whole.read(lines.to_vec());
    let mut parts = begin();
    let cut = cut.min(lines.len());
    let mut events = parts.read(lines[..cut].to_vec()).events;
    events.extend(parts.read(lines[cut..].to_vec()).events);
    prop_assert_eq!(all.events, events);
    let exit = ExitStatus { code: Some(1), ..ExitStatus::default() };
    prop_assert_eq!(whole.finish(exit, Vec::new()), parts.finish(exit, Vec::new()));
    Ok(())
}
