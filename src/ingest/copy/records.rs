//! Bytes into records, however they come in: a line, or for csv lines that a quoted field may continue on the next one.
//!
//! Lines may end with a newline, a carriage return, or both; the first one decides, and another kind in the data is an error, as
//! in PostgreSQL: what it was meant to be cannot be known. A line `\.` ends the data. In binary a record is a row with its lengths,
//! and is counted as a line.

use std::ops::Range;

use memchr::{memchr_iter, memchr2, memchr3};

use super::format::{Format, FormatKind};
use super::tuples::{self, Tuple};
use crate::error::{Error, Kind, Result};

/// A longer record is refused: it has to be held in memory.
const MAX_RECORD: usize = 16 << 20;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record: where it stands in [`Records::bytes`], and the 1-based number of the line it begins on.
    Record(Range<usize>, i64),
    /// Its end has not come yet.
    More,
    /// There are no more.
    End,
}

/// How lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Newline,
    Return,
    Both,
}

/// Cuts bytes into records.
pub(super) struct Records {
    buffer: Vec<u8>,
    /// Where the next record begins, and how far it was looked at.
    begin: usize,
    at: usize,
    /// For csv: whether that is within quotes.
    quoted: bool,
    ended: bool,
    ending: Option<Ending>,
    /// Lines passed.
    line: i64,
    /// For csv: quote and escape.
    quotes: Option<(u8, u8)>,
    /// For binary: whether what stands in front of the rows is passed.
    begun: Option<bool>,
}

impl Records {
    pub(super) fn new(format: &Format) -> Self {
        Records {
            buffer: vec![],
            begin: 0,
            at: 0,
            quoted: false,
            ended: false,
            ending: None,
            line: 0,
            quotes: (format.kind == FormatKind::Csv).then_some((format.quote, format.escape)),
            begun: (format.kind == FormatKind::Binary).then_some(false),
        }
    }

    /// The bytes that records stand in, until more are added.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The line that is being read.
    pub(super) fn line(&self) -> i64 {
        self.line + 1
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.begin);
        self.at -= self.begin;
        self.begin = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// No more bytes will come.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Next> {
        if let Some(begun) = self.begun {
            return self.tuple(begun);
        }
        loop {
            let Some(found) = self.find() else {
                self.at = self.buffer.len();
                return self.rest();
            };
            let byte = self.buffer[found];
            self.at = found + 1;
            if self.quoted {
                match self.quotes {
                    Some((quote, escape)) if byte == escape && escape != quote => {
                        match self.buffer.get(found + 1) {
                            Some(next) if *next == quote || *next == escape => self.at += 1,
                            None if !self.ended => return self.wait(found),
                            _ => {}
                        }
                    }
                    _ => self.quoted = false,
                }
                continue;
            }
            match byte {
                b'\n' => {
                    self.check_ending(Ending::Newline)?;
                    return Ok(self.record(found));
                }
                b'\r' => match self.buffer.get(found + 1) {
                    None if !self.ended => return self.wait(found),
                    Some(b'\n') => {
                        self.check_ending(Ending::Both)?;
                        self.at += 1;
                        return Ok(self.record(found));
                    }
                    _ => {
                        self.check_ending(Ending::Return)?;
                        return Ok(self.record(found));
                    }
                },
                _ if self.quotes.is_some() => self.quoted = true,
                // In text, a backslash takes the next byte with it, also a newline.
                _ if self.at < self.buffer.len() => self.at += 1,
                _ if self.ended => {}
                _ => return self.wait(found),
            }
        }
    }

    /// The next record in binary.
    fn tuple(&mut self, begun: bool) -> Result<Next> {
        if !begun {
            let Some(length) = tuples::header(&self.buffer[self.begin..])? else { return self.cut_short() };
            self.pass(length);
            self.begun = Some(true);
        }
        // As in PostgreSQL, the mark at the end may be missing.
        if self.ended && self.begin == self.buffer.len() {
            return Ok(Next::End);
        }
        match tuples::row(&self.buffer[self.begin..])? {
            Tuple::Row(length) => {
                let range = self.begin..self.begin + length;
                self.pass(length);
                self.line += 1;
                Ok(Next::Record(range, self.line))
            }
            Tuple::End => Ok(Next::End),
            Tuple::More => self.cut_short(),
        }
    }

    fn pass(&mut self, length: usize) {
        self.begin += length;
        self.at = self.begin;
    }

    /// The rest of what has begun has to come.
    fn cut_short(&self) -> Result<Next> {
        if self.ended {
            return Err(Error::new(Kind::BadCopyFormat, "unexpected EOF in COPY data"));
        }
        self.check_length()?;
        Ok(Next::More)
    }

    /// The next byte that matters.
    fn find(&self) -> Option<usize> {
        let rest = &self.buffer[self.at..];
        let found = match self.quotes {
            None => memchr3(b'\n', b'\r', b'\\', rest),
            Some((quote, escape)) if self.quoted => memchr2(quote, escape, rest),
            Some((quote, _)) => memchr3(b'\n', b'\r', quote, rest),
        };
        found.map(|found| self.at + found)
    }

    /// Looks at the byte again when there are more.
    fn wait(&mut self, at: usize) -> Result<Next> {
        self.at = at;
        self.check_length()?;
        Ok(Next::More)
    }

    /// What stands behind the last end of a line.
    fn rest(&mut self) -> Result<Next> {
        if !self.ended {
            self.check_length()?;
            return Ok(Next::More);
        }
        if self.quoted {
            return Err(Error::new(Kind::BadCopyFormat, "unterminated CSV quoted field"));
        }
        if self.begin == self.buffer.len() {
            return Ok(Next::End);
        }
        Ok(self.record(self.buffer.len()))
    }

    /// The record that ends here; the next one begins where the search stands.
    fn record(&mut self, end: usize) -> Next {
        let range = self.begin..end;
        let line = self.line + 1;
        let record = &self.buffer[range.clone()];
        if record == b"\\." {
            (self.begin, self.at) = (self.buffer.len(), self.buffer.len());
            return Next::End;
        }
        self.line += 1 + memchr_iter(b'\n', record).count() as i64;
        self.begin = self.at;
        Next::Record(range, line)
    }

    fn check_length(&self) -> Result<()> {
        if self.buffer.len() - self.begin > MAX_RECORD {
            return Err(Error::new(Kind::TooLarge, format!("a row is longer than {} MB", MAX_RECORD >> 20))
                .with_hint("a quote that is not closed, or a wrong length, makes all that follows one row"));
        }
        Ok(())
    }

    fn check_ending(&mut self, ending: Ending) -> Result<()> {
        let expected = *self.ending.get_or_insert(ending);
        if ending == expected {
            return Ok(());
        }
        let what = match ending {
            Ending::Newline => "newline",
            _ => "carriage return",
        };
        let (how, instead) = match (self.quotes, ending) {
            (Some(_), _) => ("unquoted", "put the field in quotes"),
            (None, Ending::Newline) => ("literal", "write it as \\n"),
            (None, _) => ("literal", "write it as \\r"),
        };
        Err(Error::new(Kind::BadCopyFormat, format!("{how} {what} found in data"))
            .with_hint(format!("{instead}, or end all lines as the first one")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, csv: bool, drip: usize) -> Result<Vec<(i64, String)>> {
        let mut records = Records::new(&Format::new(if csv { FormatKind::Csv } else { FormatKind::Text }));
        let mut chunks = text.as_bytes().chunks(drip.max(1));
        let mut found = vec![];
        loop {
            match records.next()? {
                Next::Record(range, line) => {
                    found.push((line, String::from_utf8(records.bytes()[range].to_vec()).unwrap()));
                }
                Next::End => return Ok(found),
                Next::More => match chunks.next() {
                    Some(bytes) => records.push(bytes),
                    None => records.end(),
                },
            }
        }
    }

    fn same(text: &str, csv: bool, expected: &[(i64, &str)]) {
        for drip in [1, 2, 3, 5, 1000] {
            let found = read(text, csv, drip).unwrap();
            let found: Vec<(i64, &str)> = found.iter().map(|(l, t)| (*l, t.as_str())).collect();
            assert_eq!(found, expected, "{text:?}, {drip} bytes at a time");
        }
    }

    #[test]
    fn records_are_the_same_however_the_bytes_come() {
        same("a\tb\nc\\\nd\\\\\n\ne", false, &[(1, "a\tb"), (2, "c\\\nd\\\\"), (4, ""), (5, "e")]);
        same("a\r\nb\\r\r\n\\.\r\nmore", false, &[(1, "a"), (2, "b\\r")]);
        same("a\rb\r", false, &[(1, "a"), (2, "b")]);
        same("a,\"b\r\n\"\"c\"\"\"\nd,e\"f,\n\"g", true, &[(1, "a,\"b\r\n\"\"c\"\"\""), (3, "d,e\"f,\n\"g")]);
        same("1\n\\.\n2\n", true, &[(1, "1")]);
        same("", true, &[]);
        same("\n", false, &[(1, "")]);
    }

    #[test]
    fn what_cannot_be_cut_is_an_error() {
        for (text, csv, why) in [
            ("a\nb\r\n", false, "literal carriage return"),
            ("a\r\nb\nc", false, "literal newline"),
            ("a\nb\r", true, "unquoted carriage return"),
            ("\"a\n", true, "unterminated"),
        ] {
            for drip in [1, 2, 100] {
                let e = read(text, csv, drip).unwrap_err();
                assert!(e.message().contains(why), "{text:?}: {e}");
                assert_eq!(e.kind().sqlstate(), "22P04");
            }
        }
        let mut records = Records::new(&Format::new(FormatKind::Text));
        records.push(&vec![b'x'; MAX_RECORD + 1]);
        assert_eq!(records.next().unwrap_err().kind(), Kind::TooLarge);
    }
}
