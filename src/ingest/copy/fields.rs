//! A record into its fields.

use std::ops::Range;

use memchr::{memchr, memchr2};

use super::format::{Format, FormatKind};
use super::tuples::number;
use crate::error::{Error, Kind, Result};

/// A field of the record that was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Null,
    /// A stretch of the record.
    Plain(Range<usize>),
    /// A stretch of what was unescaped.
    Unescaped(Range<usize>),
    /// What stands for NULL, which it is not.
    NullText,
}

/// Reads fields; keeps room between records.
pub(super) struct Fields {
    format: Format,
    fields: Vec<Field>,
    unescaped: Vec<u8>,
}

impl Fields {
    pub(super) fn new(format: Format) -> Self {
        Fields { format, fields: vec![], unescaped: vec![] }
    }

    /// Cuts a record.
    pub(super) fn read(&mut self, record: &[u8]) -> Result<()> {
        self.fields.clear();
        self.unescaped.clear();
        match self.format.kind {
            FormatKind::Csv => self.csv(record),
            FormatKind::Text => self.text(record),
            FormatKind::Binary => self.binary(record),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The bytes of the fields of the record that was read last; none for NULL.
    pub(super) fn bytes<'a>(&'a self, record: &'a [u8]) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.fields.iter().map(|field| match field {
            Field::Null => None,
            Field::Plain(range) => Some(&record[range.clone()]),
            Field::Unescaped(range) => Some(&self.unescaped[range.clone()]),
            Field::NullText => Some(self.format.null.as_bytes()),
        })
    }

    /// The same as text.
    pub(super) fn values<'a>(&'a self, record: &'a [u8]) -> impl Iterator<Item = Result<Option<&'a str>>> {
        self.bytes(record).map(|bytes| {
            let Some(bytes) = bytes else { return Ok(None) };
            std::str::from_utf8(bytes).map(Some).map_err(|e| {
                let byte = bytes.get(e.valid_up_to()).copied().unwrap_or_default();
                Error::new(
                    Kind::NotText,
                    format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
                )
                .with_hint("COPY takes UTF-8")
            })
        })
    }

    /// With lengths, which fit the record: by them it was cut.
    fn binary(&mut self, record: &[u8]) -> Result<()> {
        let mut at = 2;
        while let Some(length) = number(record, at) {
            at += 4;
            let end = usize::try_from(length).map_or(at, |length| at + length);
            self.fields.push(if length < 0 { Field::Null } else { Field::Plain(at..end) });
            at = end;
        }
        Ok(())
    }

    /// With backslashes.
    fn text(&mut self, record: &[u8]) -> Result<()> {
        let (delimiter, null) = (self.format.delimiter, self.format.null.as_bytes());
        let mut from = 0;
        loop {
            let (mut at, begun) = (from, self.unescaped.len());
            let mut plain = from;
            let end = loop {
                match memchr2(delimiter, b'\\', &record[at..]).map(|found| at + found) {
                    None => break record.len(),
                    Some(found) if record[found] == delimiter => break found,
                    Some(found) => {
                        self.unescaped.extend_from_slice(&record[plain..found]);
                        at = unescape(record, found + 1, &mut self.unescaped);
                        plain = at;
                    }
                }
            };
            // As it was written, an escaped one is no NULL.
            let field = match &record[from..end] {
                raw if raw == null => {
                    self.unescaped.truncate(begun);
                    Field::Null
                }
                _ if plain == from => Field::Plain(from..end),
                _ => {
                    self.unescaped.extend_from_slice(&record[plain..end]);
                    Field::Unescaped(begun..self.unescaped.len())
                }
            };
            self.fields.push(field);
            if end == record.len() {
                return Ok(());
            }
            from = end + 1;
        }
    }

    /// With quotes.
    fn csv(&mut self, record: &[u8]) -> Result<()> {
        let Format { delimiter, quote, escape, .. } = self.format;
        let mut from = 0;
        loop {
            let begun = self.unescaped.len();
            let (mut at, mut plain, mut quoted) = (from, from, false);
            let end = loop {
                match memchr2(delimiter, quote, &record[at..]).map(|found| at + found) {
                    None => break record.len(),
                    Some(found) if record[found] == delimiter => break found,
                    Some(found) => {
                        quoted = true;
                        self.unescaped.extend_from_slice(&record[plain..found]);
                        at = unquote(record, found + 1, quote, escape, &mut self.unescaped)?;
                        plain = at;
                    }
                }
            };
            let column = self.fields.len();
            let is = |columns: &[bool]| columns.get(column) == Some(&true);
            let null = self.format.null.as_bytes();
            if quoted {
                self.unescaped.extend_from_slice(&record[plain..end]);
            }
            self.fields.push(if quoted {
                match &self.unescaped[begun..] == null && is(&self.format.force_null) {
                    true => Field::Null,
                    false => Field::Unescaped(begun..self.unescaped.len()),
                }
            } else if &record[from..end] == null {
                if is(&self.format.force_not_null) { Field::NullText } else { Field::Null }
            } else {
                Field::Plain(from..end)
            });
            if end == record.len() {
                return Ok(());
            }
            from = end + 1;
        }
    }
}

/// Takes what stands behind a backslash; gives where it ends.
fn unescape(record: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let digits = |from: usize, most: usize, base: u32| {
        let digits = record[from..].iter().take(most).map_while(|b| char::from(*b).to_digit(base));
        digits.fold((from, 0u32), |(to, value), digit| (to + 1, value * base + digit))
    };
    let Some(byte) = record.get(at) else {
        // A backslash at the end of everything.
        out.push(b'\\');
        return at;
    };
    let (value, to) = match byte {
        b'b' => (8, at + 1),
        b'f' => (12, at + 1),
        b'n' => (b'\n', at + 1),
        b'r' => (b'\r', at + 1),
        b't' => (b'\t', at + 1),
        b'v' => (11, at + 1),
        b'0'..=b'7' => {
            let (to, value) = digits(at, 3, 8);
            (value as u8, to)
        }
        b'x' => match digits(at + 1, 2, 16) {
            (to, _) if to == at + 1 => (b'x', to),
            (to, value) => (value as u8, to),
        },
        other => (*other, at + 1),
    };
    out.push(value);
    to
}

/// Takes what stands in quotes; gives where it ends, behind the closing one.
fn unquote(record: &[u8], mut from: usize, quote: u8, escape: u8, out: &mut Vec<u8>) -> Result<usize> {
    let mut at = from;
    loop {
        let found = match quote == escape {
            true => memchr(quote, &record[at..]),
            false => memchr2(quote, escape, &record[at..]),
        };
        let Some(found) = found.map(|found| at + found) else {
            return Err(Error::new(Kind::BadCopyFormat, "unterminated CSV quoted field"));
        };
        let next = record.get(found + 1);
        if record[found] == escape && next.is_some_and(|next| *next == quote || *next == escape) {
            out.extend_from_slice(&record[from..found]);
            // The escaped one goes with what follows it.
            (from, at) = (found + 1, found + 2);
        } else if record[found] == quote {
            out.extend_from_slice(&record[from..found]);
            return Ok(found + 1);
        } else {
            at = found + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(format: &Format, record: &str) -> Vec<Option<String>> {
        let mut fields = Fields::new(format.clone());
        fields.read(record.as_bytes()).unwrap();
        let values = fields.values(record.as_bytes());
        values.map(|v| v.unwrap().map(str::to_owned)).collect()
    }

    fn some(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|v| (*v != "NULL").then(|| (*v).to_owned())).collect()
    }

    #[test]
    fn text() {
        let format = Format::new(FormatKind::Text);
        for (record, expected) in [
            ("a\tb", vec!["a", "b"]),
            ("\\N\t\\\\N\t", vec!["NULL", "\\N", ""]),
            (r"\b\f\n\r\t\v\\\.\q", vec!["\u{8}\u{c}\n\r\t\u{b}\\.q"]),
            (r"\1012\x41g\x\xz", vec!["A2Agxxz"]),
            ("a\\\tb\tc\\\nd", vec!["a\tb", "c\nd"]),
            (r"\303\251é", vec!["éé"]),
            ("end\\", vec!["end\\"]),
            ("", vec![""]),
        ] {
            assert_eq!(fields(&format, record), some(&expected), "{record:?}");
        }
        let format = Format { null: String::new(), delimiter: b'|', ..format };
        assert_eq!(fields(&format, "a||\\|"), some(&["a", "NULL", "|"]));
        let mut bad = Fields::new(Format::new(FormatKind::Text));
        bad.read(br"ok	\377").unwrap();
        let e = bad.values(br"ok	\377").nth(1).unwrap().unwrap_err();
        assert_eq!(e.kind().sqlstate(), "22021");
    }

    #[test]
    fn csv() {
        let format = Format::new(FormatKind::Csv);
        for (record, expected) in [
            ("a,b", vec!["a", "b"]),
            (",\"\", ", vec!["NULL", "", " "]),
            (r#""a,""b""",c"d,e"f"#, vec!["a,\"b\"", "cd,ef"]),
            ("\"\"\"\"", vec!["\""]),
            ("", vec!["NULL"]),
        ] {
            assert_eq!(fields(&format, record), some(&expected), "{record:?}");
        }
        let format = Format { escape: b'\\', null: "nil".into(), ..format };
        assert_eq!(fields(&format, r#"nil,"nil","a\"b\\c\d""#), some(&["NULL", "nil", "a\"b\\c\\d"]));
        let format = Format { force_null: vec![false, true], force_not_null: vec![true, false], ..format };
        assert_eq!(fields(&format, r#"nil,"nil""#), some(&["nil", "NULL"]));
        assert!(Fields::new(format).read(b"\"a").is_err());
    }
}
