//! Parser for server-sent events.

/// Maximum size of an event, in bytes. A message of a model may be one event.
const MAX_EVENT: usize = 64 * 1024 * 1024;

/// One event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its name; by default `message`.
    pub(super) event: String,
    /// Its data lines, joined.
    pub(super) data: String,
}

/// An event is longer than [`MAX_EVENT`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Splits a byte stream into events. Ignores comments, which are keep-alives.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The current incomplete line.
    line: Vec<u8>,
    /// The last byte was a CR, so a following LF belongs to it.
    after_cr: bool,
    event: String,
    data: Vec<u8>,
    has_data: bool,
}

impl Parser {
    /// Parses further bytes and appends the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, next) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + self.data.len() + part.len() > MAX_EVENT {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if end.is_some() {
                self.after_cr = next.first() == Some(&b'\r');
                rest = next.get(1..).unwrap_or_default();
                self.end_line(frames);
            } else {
                rest = next;
            }
        }
        Ok(())
    }

    fn end_line(&mut self, frames: &mut Vec<Frame>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                let event = if event.is_empty() { "message".to_owned() } else { event };
                let data = String::from_utf8_lossy(&data).into_owned();
                frames.push(Frame { event, data });
            }
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            // `id` is the cursor, which the data also contains. `retry` and comments are not needed.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.to_owned(), data: data.to_owned() }
    }

    fn parse(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut parser = Parser::default();
        let mut frames = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut frames).unwrap();
        }
        frames
    }

    #[test]
    fn parses_fields_comments_and_line_ends() {
        let text = b": keep-alive\n\nid: 7\r\nevent: run_event\r\ndata: {\"a\":\r\ndata:1}\r\n\r\ndata\n\nevent: x\n\ndata: y\n";
        assert_eq!(parse(&[text]), [frame("run_event", "{\"a\":\n1}"), frame("message", "")]);
    }

    #[test]
    fn rejects_event_above_the_size_limit() {
        let mut parser = Parser::default();
        let block = vec![b'x'; 8 * 1024 * 1024];
        let mut frames = Vec::new();
        let ends = (0..9).map(|_| parser.push(&block, &mut frames)).collect::<Vec<_>>();
        assert_eq!(ends.last(), Some(&Err(TooLong)));
    }

    proptest! {
        #[test]
        fn result_does_not_depend_on_chunk_boundaries(text in "([a-z]{0,3}(: ?)?[é:a-z]{0,4}(\r\n|\n|\r)){0,12}", cuts in proptest::collection::vec(0usize..200, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&pieces), parse(&[bytes]));
        }
    }
}
