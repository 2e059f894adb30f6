//! Bytes into records: lines, or for csv lines that a quoted field may continue on the next one.
//!
//! Where a chunk ends depends on the records alone, never on how the bytes came in, so that a file is cut the same way
//! each time it is read.

use std::io::{self, Read};
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2};

use super::decode::BadLine;

/// Most rows of a chunk.
pub(super) const CHUNK_ROWS: usize = 16 << 10;

/// Bytes asked of the reader at once.
const READ: usize = 256 << 10;

/// Bytes of an overlong line that its dead letter keeps.
const KEPT: usize = 64 << 10;

/// Bounds of what is held in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A chunk ends with this many records.
    pub(super) rows: usize,
    /// A chunk ends with the record that reaches this many bytes.
    pub(super) bytes: usize,
    /// A longer record is bad.
    pub(super) record: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: CHUNK_ROWS, bytes: 4 << 20, record: 4 << 20 }
    }
}

/// A record within its chunk, without the line's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Which bytes of the chunk.
    pub(super) range: Range<usize>,
    /// The 1-based number of the line it begins on.
    pub(super) line: i64,
}

/// Records that are handled together.
#[derive(Debug)]
pub(super) struct RawChunk {
    pub(super) bytes: Vec<u8>,
    pub(super) spans: Vec<Span>,
    pub(super) bad: Vec<BadLine>,
    /// Lines of the file up to the end of this chunk.
    pub(super) position: i64,
}

impl RawChunk {
    /// Leaves out what begins on a line up to `line`.
    pub(super) fn skip_through(&mut self, line: i64) {
        self.spans.retain(|s| s.line > line);
        self.bad.retain(|b| b.line > line);
    }
}

/// Reads records.
pub(super) struct Records {
    read: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    ended: bool,
    /// Lines passed.
    line: i64,
    /// For csv: what separates fields. Without it a record is a line.
    delimiter: Option<u8>,
    limits: Limits,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Boundary {
    /// A record: where its text ends, where the next one begins, how many lines it takes.
    Record { end: usize, next: usize, lines: i64 },
    /// Its end has not come yet.
    Open,
}

impl Records {
    pub(super) fn new(read: Box<dyn Read + Send>, delimiter: Option<u8>, limits: Limits) -> Self {
        Records { read, buffer: vec![], ended: false, line: 0, delimiter, limits }
    }

    /// The next records; `None` at the end.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<RawChunk>> {
        let (mut spans, mut bad, mut at) = (vec![], vec![], 0);
        while spans.len() + bad.len() < self.limits.rows && at < self.limits.bytes {
            let found = loop {
                if at == self.buffer.len() && self.ended {
                    break None;
                }
                match boundary(&self.buffer[at..], self.delimiter, self.ended) {
                    Boundary::Record { next, .. } if next > self.limits.record => break Some(None),
                    Boundary::Record { end, next, lines } => break Some(Some((end, next, lines))),
                    Boundary::Open if self.ended || self.buffer.len() - at > self.limits.record => {
                        break Some(None);
                    }
                    Boundary::Open => self.fill()?,
                }
            };
            match found {
                None => break,
                Some(Some((end, next, lines))) => {
                    spans.push(Span { range: at..at + end, line: self.line + 1 });
                    self.line += lines;
                    at += next;
                }
                Some(None) => {
                    bad.push(self.give_up(at)?);
                    self.line += 1;
                }
            }
        }
        if at == 0 && bad.is_empty() {
            return Ok(None);
        }
        let rest = self.buffer.split_off(at);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        Ok(Some(RawChunk { bytes, spans, bad, position: self.line }))
    }

    /// Takes one line out of the buffer: a quote on it is never closed, or it is too long.
    fn give_up(&mut self, at: usize) -> io::Result<BadLine> {
        let limit = self.limits.record;
        let first = memchr(b'\n', &self.buffer[at..]);
        let length = first.unwrap_or(self.buffer.len() - at);
        let kept = length.min(if length > limit { KEPT } else { length });
        let payload = String::from_utf8_lossy(&self.buffer[at..at + kept]).trim_end_matches('\r').to_owned();
        let mut end = first;
        while end.is_none() && !self.ended {
            self.buffer.truncate(at);
            self.fill()?;
            end = memchr(b'\n', &self.buffer[at..]);
        }
        let next = end.map_or(self.buffer.len(), |end| at + end + 1);
        self.buffer.drain(at..next);
        let reason = if length > limit {
            format!("the line is longer than {limit} bytes")
        } else {
            format!("a quoted field is not closed before the end of the file, or {limit} bytes on")
        };
        Ok(BadLine { line: self.line + 1, reason, payload: Some(payload) })
    }

    fn fill(&mut self) -> io::Result<()> {
        let length = self.buffer.len();
        self.buffer.resize(length + READ, 0);
        let read = loop {
            match self.read.read(&mut self.buffer[length..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.buffer.truncate(length + read.as_ref().copied().unwrap_or(0));
        self.ended = read? == 0;
        Ok(())
    }
}

/// Finds the end of the record at the beginning of `bytes`; `ended` if no more will come.
fn boundary(bytes: &[u8], delimiter: Option<u8>, ended: bool) -> Boundary {
    let newline = memchr(b'\n', bytes);
    let line = &bytes[..newline.unwrap_or(bytes.len())];
    if let Some(delimiter) = delimiter
        && memchr(b'"', line).is_some()
    {
        return quoted_boundary(bytes, delimiter, ended);
    }
    match newline {
        Some(end) => Boundary::Record { end: without_return(bytes, end), next: end + 1, lines: 1 },
        None if ended => {
            Boundary::Record { end: without_return(bytes, bytes.len()), next: bytes.len(), lines: 1 }
        }
        None => Boundary::Open,
    }
}

/// The same where there are quotes: field by field.
fn quoted_boundary(bytes: &[u8], delimiter: u8, ended: bool) -> Boundary {
    let mut at = 0;
    let last = |at: usize| {
        let lines = 1 + memchr_iter(b'\n', &bytes[..at]).count() as i64;
        Boundary::Record { end: without_return(bytes, at), next: (at + 1).min(bytes.len()), lines }
    };
    loop {
        if bytes.get(at) == Some(&b'"') {
            match closing_quote(bytes, at + 1) {
                // The next byte may be a second quote, which would make it one that is part of the text.
                Some(close) if close + 1 < bytes.len() || ended => at = close + 1,
                _ => return Boundary::Open,
            }
        }
        match memchr2(delimiter, b'\n', &bytes[at.min(bytes.len())..]) {
            Some(found) if bytes[at + found] == delimiter => at += found + 1,
            Some(found) => return last(at + found),
            None if ended => return last(bytes.len()),
            None => return Boundary::Open,
        }
    }
}

/// Where the quoted text that begins at `from` is closed: two quotes stand for one.
pub(super) fn closing_quote(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let quote = from + memchr(b'"', bytes.get(from..)?)?;
        if bytes.get(quote + 1) != Some(&b'"') {
            return Some(quote);
        }
        from = quote + 2;
    }
}

fn without_return(bytes: &[u8], end: usize) -> usize {
    if bytes[..end].ends_with(b"\r") { end - 1 } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte or a few at a time.
    struct Drip(Vec<u8>, usize);

    impl Read for Drip {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            Ok(n)
        }
    }

    fn read(
        text: &str,
        delimiter: Option<u8>,
        limits: Limits,
        drip: usize,
    ) -> (Vec<(i64, String)>, Vec<i64>) {
        let mut records = Records::new(Box::new(Drip(text.into(), drip)), delimiter, limits);
        let (mut good, mut bad) = (vec![], vec![]);
        while let Some(chunk) = records.next_chunk().unwrap() {
            good.extend(
                chunk
                    .spans
                    .iter()
                    .map(|s| (s.line, String::from_utf8(chunk.bytes[s.range.clone()].to_vec()).unwrap())),
            );
            bad.extend(chunk.bad.iter().map(|b| b.line));
        }
        (good, bad)
    }

    #[test]
    fn quoted_newlines_continue_a_record_however_the_bytes_come() {
        let text = "a,b\r\n1,\"x\ny \"\"z\"\"\"\n2,5\" pipe\n\n3,last";
        for drip in [1, 2, 3, 7, 1000] {
            for rows in [1, 2, 100] {
                let limits = Limits { rows, ..Default::default() };
                let (good, bad) = read(text, Some(b','), limits, drip);
                let lines: Vec<(i64, &str)> = good.iter().map(|(l, t)| (*l, t.as_str())).collect();
                let expected =
                    vec![(1, "a,b"), (2, "1,\"x\ny \"\"z\"\"\""), (4, "2,5\" pipe"), (5, ""), (6, "3,last")];
                assert_eq!(lines, expected, "{drip} bytes at a time, {rows} rows a chunk");
                assert!(bad.is_empty());
            }
        }
    }

    #[test]
    fn an_unclosed_quote_costs_its_line_only() {
        let (good, bad) = read("a\n\"open\nnext\nlast\n", Some(b','), Limits::default(), 3);
        assert_eq!(good.iter().map(|(l, _)| *l).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(bad, [2]);
    }

    #[test]
    fn an_overlong_line_is_bad_and_not_held() {
        let text = format!("a\n{}\nb\n", "x".repeat(3 << 20));
        let (good, bad) = read(&text, None, Limits { record: 1000, ..Default::default() }, 100_000);
        assert_eq!(good, [(1, "a".to_owned()), (3, "b".to_owned())]);
        assert_eq!(bad, [2]);
    }
}
