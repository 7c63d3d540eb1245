//! Reads server-sent events, and what an upstream sends beside them.
//!
//! This is written out because two things matter here that general decoders leave out: an error
//! object sent into the stream as plain JSON, without `data:`, must be found; and an event of
//! megabytes (a generated image) that arrives in small pieces must cost time in proportion to its
//! size.

use std::mem;

use bytes::Bytes;

/// As much of what is no event is kept, in bytes.
const MAX_STRAY: usize = 64 * 1024;

/// Takes bytes as they arrive, gives events as they are complete. Lines end with LF or CRLF.
#[derive(Default)]
pub(crate) struct SseDecoder {
    buffer: Vec<u8>,
    /// Where the next unread line begins.
    start: usize,
    /// Up to where the buffer is known to hold no line end.
    searched: usize,
    data: Vec<u8>,
    stray: Vec<u8>,
}

/// What is left when a stream ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remainder {
    /// The data of an event that was not closed by an empty line.
    pub(crate) event: Option<Bytes>,
    /// Lines that are no event stream, such as a bare JSON object.
    pub(crate) stray: Bytes,
}

impl SseDecoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The data of the next complete event.
    pub(crate) fn next_event(&mut self) -> Option<Bytes> {
        while let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let (from, to) = (self.start, self.searched + found);
            self.start = to + 1;
            self.searched = to + 1;
            if self.take_line(from, to) && !self.data.is_empty() {
                return Some(Bytes::from(mem::take(&mut self.data)));
            }
        }
        self.searched = self.buffer.len();
        None
    }

    /// Reads one line; true if it was empty, which closes an event.
    fn take_line(&mut self, from: usize, to: usize) -> bool {
        let line = &self.buffer[from..to];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return true;
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        } else if !is_other_field(line) && self.stray.len() + line.len() < MAX_STRAY {
            self.stray.extend_from_slice(line);
            self.stray.push(b'\n');
        }
        false
    }

    pub(crate) fn finish(mut self) -> Remainder {
        if self.start < self.buffer.len() {
            self.take_line(self.start, self.buffer.len());
        }
        let event = (!self.data.is_empty()).then(|| Bytes::from(self.data));
        Remainder { event, stray: Bytes::from(self.stray) }
    }
}

/// Comments, and fields that carry no data.
fn is_other_field(line: &[u8]) -> bool {
    [&b":"[..], b"event:", b"id:", b"retry:"].iter().any(|prefix| line.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a text that arrives in pieces of `size` bytes.
    fn decode(text: &str, size: usize) -> (Vec<String>, Remainder) {
        let mut decoder = SseDecoder::default();
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            decoder.push(piece);
            while let Some(event) = decoder.next_event() {
                events.push(String::from_utf8(event.to_vec()).unwrap());
            }
        }
        (events, decoder.finish())
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = "data: {\"a\":1}\r\n\r\n: ping\r\nevent: x\r\ndata:{\r\ndata: }\r\n\r\ndata: 3\n\n";
        for size in 1..text.len() {
            let (events, rest) = decode(text, size);
            assert_eq!(events, ["{\"a\":1}", "{\n}", "3"], "pieces of {size}");
            assert_eq!(rest, Remainder::default());
        }
    }

    #[test]
    fn a_bare_error_object_is_found() {
        let text = "data: 1\r\n\r\n{\"error\": {\r\n  \"code\": 503\r\n}}";
        for size in [1, 5, 1000] {
            let (events, rest) = decode(text, size);
            assert_eq!(events, ["1"]);
            assert_eq!(rest.stray, Bytes::from_static(b"{\"error\": {\n  \"code\": 503\n}}\n"));
        }
    }

    #[test]
    fn an_unfinished_event_is_left_over() {
        let (events, rest) = decode("data: {\"text\":\"ha", 4);
        assert!(events.is_empty());
        assert_eq!(rest.event.unwrap(), Bytes::from_static(b"{\"text\":\"ha"));
    }
}
