//! The answer of a run: written to standard output as it arrives, or read from the stored events.

use super::clean::Cleaner;
use super::output::Output;
use ostler_client::Client;
use ostler_protocol::methods::RunEventsParams;
use ostler_protocol::{AnswerRange, ApiError, ErrorKind, Output as Form, RunId, RunRecord};

/// Writes the answer as it comes: cleaned for a terminal, unchanged for everything else.
#[derive(Debug, Default)]
pub(super) struct Answer {
    cleaner: Cleaner,
    /// The first bytes of a UTF-8 character whose last bytes have not arrived.
    partial: Vec<u8>,
}

impl Answer {
    pub(super) fn write(&mut self, out: &mut Output, bytes: &[u8]) -> Result<(), ApiError> {
        if out.stdout_terminal {
            let text = self.text(bytes);
            let shown = self.cleaner.push(&text);
            return out.write(&shown);
        }
        out.write_bytes(bytes)
    }

    pub(super) fn finish(&mut self, out: &mut Output) -> Result<(), ApiError> {
        let rest = if std::mem::take(&mut self.partial).is_empty() { "" } else { "\u{fffd}" };
        let mut rest = self.cleaner.push(rest);
        rest.push_str(&self.cleaner.finish());
        out.write(&rest)
    }

    /// Decodes bytes that arrive in pieces. Bytes that are not UTF-8 become U+FFFD.
    fn text(&mut self, bytes: &[u8]) -> String {
        self.partial.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.partial);
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            let (good, bad) = rest.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(good).unwrap_or_default());
            let Some(length) = error.error_len() else {
                self.partial = bad.to_vec();
                return text;
            };
            text.push('\u{fffd}');
            rest = bad.get(length..).unwrap_or_default();
        }
        text.push_str(std::str::from_utf8(rest).unwrap_or_default());
        text
    }
}

/// Whether the record contains only the beginning of its answer.
pub(super) fn is_cut(run: &RunRecord) -> bool {
    let stored = run.final_text.as_deref().unwrap_or_default();
    run.answer.as_ref().is_some_and(|location| location.exceeds(stored))
}

/// Passes the whole answer of a run to `take`, piece by piece. Returns whether the run has an answer. The output of a
/// program is passed unchanged; the text of an agent ends with a line feed.
///
/// # Errors
/// The error that `take` returns, and `IO` if a part of the answer is no longer stored.
pub(super) async fn copy(
    client: &Client,
    run: &RunRecord,
    take: &mut impl FnMut(&[u8]) -> Result<(), ApiError>,
) -> Result<bool, ApiError> {
    if let Some(location) = &run.answer {
        let last = pieces(client, run.summary.run_id, location, take).await?;
        if location.output == Form::Lines && last.is_some_and(|last| last != b'\n') {
            take(b"\n")?;
        }
        return Ok(true);
    }
    let structured = run.structured_output.as_ref().map(ToString::to_string);
    let Some(answer) = run.final_text.as_ref().or(structured.as_ref()) else { return Ok(false) };
    take(answer.as_bytes())?;
    if !answer.is_empty() && !answer.ends_with('\n') {
        take(b"\n")?;
    }
    Ok(true)
}

/// Prints the whole answer of a run, and ends its last line.
pub(super) async fn show(client: &Client, run: &RunRecord, out: &mut Output) -> Result<(), ApiError> {
    let (mut answer, mut last) = (Answer::default(), None);
    copy(client, run, &mut |piece| {
        last = piece.last().copied().or(last);
        answer.write(out, piece)
    })
    .await?;
    answer.finish(out)?;
    if last.is_some_and(|last| last != b'\n') { out.write("\n") } else { Ok(()) }
}

/// Passes the stored pieces of an answer to `take`. Returns the last byte.
async fn pieces(
    client: &Client,
    run_id: RunId,
    location: &AnswerRange,
    take: &mut impl FnMut(&[u8]) -> Result<(), ApiError>,
) -> Result<Option<u8>, ApiError> {
    let (mut after, mut bytes, mut last) = (location.from_cursor.saturating_sub(1), 0, None);
    while after < location.to_cursor {
        let page =
            client.get_run_events(&RunEventsParams { run_id, after: Some(after), before: None, limit: None }).await?;
        for piece in page.events.iter().filter_map(|event| location.piece(event)) {
            bytes += piece.len() as u64;
            last = piece.last().copied().or(last);
            take(&piece)?;
        }
        match page.events.last() {
            Some(event) => after = event.cursor,
            None => break,
        }
    }
    let missing = (location.bytes + location.lost_bytes).saturating_sub(bytes);
    if missing > 0 {
        let message = format!("the answer of run {run_id} is not whole: {missing} bytes of it are not stored");
        return Err(ApiError::new(ErrorKind::Io, message));
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cleans_text_independently_of_chunk_boundaries(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6), "[a€😀\n]{0,4}".prop_map(String::into_bytes),
            ], 0..8),
        ) {
            let mut answer = Answer::default();
            let mut text: String = parts.iter().map(|part| answer.text(part)).collect();
            if !answer.partial.is_empty() {
                text.push('\u{fffd}');
            }
            let bytes = parts.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
