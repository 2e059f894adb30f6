//! The options of COPY, in the spelling with parentheses and in the one before it.

use datafusion::arrow::datatypes::Schema;

use super::copy::Words;
use crate::error::{Error, Kind, Result};
use crate::ingest::copy::format::{Format, FormatKind, Header};

/// A key is kept in the table for good.
const MAX_KEY: usize = 255;

/// The options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    kind: Option<FormatKind>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<Columns>,
    force_null: Option<Columns>,
    force_not_null: Option<Columns>,
    freeze: Option<bool>,
    encoding: Option<String>,
    on_error: Option<String>,
    /// Whether bad rows go to the dead letters.
    pub(super) ignore_errors: bool,
    /// Loads of one key count once.
    pub(super) key: Option<String>,
}

/// Some columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Columns {
    All,
    Some(Vec<String>),
}

impl Options {
    /// Reads what stands behind STDIN or STDOUT.
    pub(super) fn read(words: &mut Words<'_>, from: bool, binary: bool) -> Result<Self> {
        let mut options = Options { kind: binary.then_some(FormatKind::Binary), ..Default::default() };
        let with = words.eat("with");
        if words.eat("(") {
            loop {
                options.listed(words)?;
                if !words.eat(",") {
                    break;
                }
            }
            if !words.eat(")") {
                return Err(words.expected(", or )"));
            }
        } else {
            while !words.is_done() && !words.is("where") {
                options.spelt(words)?;
            }
        }
        if words.is("where") {
            return Err(words.located(
                Error::not_supported("COPY … WHERE is not possible")
                    .with_hint("copy into a plain table, and INSERT … SELECT … WHERE from there"),
            ));
        }
        if !words.is_done() {
            return Err(words.expected(if with { "an option, or (" } else { "WITH" }));
        }
        options.check(from)?;
        Ok(options)
    }

    /// `name value` within the parentheses.
    fn listed(&mut self, words: &mut Words<'_>) -> Result<()> {
        let place = words.located(Error::syntax("an option is given twice"));
        let name = words.name()?;
        match name.as_str() {
            "format" => {
                let format = words.name().or_else(|_| words.string())?.to_lowercase();
                let kind = match format.as_str() {
                    "text" => FormatKind::Text,
                    "csv" => FormatKind::Csv,
                    "binary" => FormatKind::Binary,
                    _ => {
                        let e = Error::invalid_input(format!("COPY format '{format}' is not known"));
                        return Err(e.with_hint("formats are text, csv and binary"));
                    }
                };
                once(&mut self.kind, kind, place)
            }
            "delimiter" => once(&mut self.delimiter, words.string()?, place),
            "null" => once(&mut self.null, words.string()?, place),
            "quote" => once(&mut self.quote, words.string()?, place),
            "escape" => once(&mut self.escape, words.string()?, place),
            "encoding" => once(&mut self.encoding, words.string().or_else(|_| words.name())?, place),
            "header" if words.eat("match") => once(&mut self.header, Header::Match, place),
            "header" => {
                let header = if flag(words)? { Header::Present } else { Header::None };
                once(&mut self.header, header, place)
            }
            "freeze" => once(&mut self.freeze, flag(words)?, place),
            "force_quote" => once(&mut self.force_quote, words.columns(true)?, place),
            "force_null" => once(&mut self.force_null, words.columns(true)?, place),
            "force_not_null" => once(&mut self.force_not_null, words.columns(true)?, place),
            "on_error" => once(&mut self.on_error, words.string().or_else(|_| words.name())?, place),
            "idempotency_key" => once(&mut self.key, words.string()?, place),
            other => Err(place_of(place, Error::syntax(format!("COPY has no option '{other}'")))),
        }
    }

    /// An option in the spelling without parentheses.
    fn spelt(&mut self, words: &mut Words<'_>) -> Result<()> {
        let place = words.located(Error::syntax("an option is given twice"));
        let string = |words: &mut Words<'_>| {
            words.eat("as");
            words.string()
        };
        match words.name()?.as_str() {
            "binary" => once(&mut self.kind, FormatKind::Binary, place),
            "csv" => once(&mut self.kind, FormatKind::Csv, place),
            "delimiter" => once(&mut self.delimiter, string(words)?, place),
            "null" => once(&mut self.null, string(words)?, place),
            "quote" => once(&mut self.quote, string(words)?, place),
            "escape" => once(&mut self.escape, string(words)?, place),
            "encoding" => once(&mut self.encoding, string(words)?, place),
            "header" => once(&mut self.header, Header::Present, place),
            "freeze" => once(&mut self.freeze, true, place),
            "force" if words.eat("quote") => once(&mut self.force_quote, words.columns(false)?, place),
            "force" if words.eat("null") => once(&mut self.force_null, words.columns(false)?, place),
            "force" if words.eat("not") && words.eat("null") => {
                once(&mut self.force_not_null, words.columns(false)?, place)
            }
            "force" => Err(words.expected("QUOTE, NULL or NOT NULL")),
            other => Err(place_of(place, Error::syntax(format!("COPY has no option '{other}'")))),
        }
    }

    /// Refuses what does not go together.
    fn check(&mut self, from: bool) -> Result<()> {
        let kind = self.kind.unwrap_or(FormatKind::Text);
        let refuse = |what: String| Err(Error::not_supported(what));
        let only = |given: bool, name: &str, allowed: bool, when: &str| match given && !allowed {
            true => Err(Error::not_supported(format!("COPY {name} is possible {when} only"))),
            false => Ok(()),
        };
        let (csv, binary) = (kind == FormatKind::Csv, kind == FormatKind::Binary);
        for (given, name) in [
            (self.delimiter.is_some(), "DELIMITER"),
            (self.null.is_some(), "NULL"),
            (self.header.is_some_and(|h| h != Header::None), "HEADER"),
        ] {
            only(given, name, !binary, "in text and csv")?;
        }
        for (given, name) in [
            (self.quote.is_some(), "QUOTE"),
            (self.escape.is_some(), "ESCAPE"),
            (self.force_quote.is_some(), "FORCE_QUOTE"),
            (self.force_null.is_some(), "FORCE_NULL"),
            (self.force_not_null.is_some(), "FORCE_NOT_NULL"),
        ] {
            only(given, name, csv, "in csv")?;
        }
        only(self.force_quote.is_some(), "FORCE_QUOTE", !from, "with TO")?;
        for (given, name) in [
            (self.force_null.is_some(), "FORCE_NULL"),
            (self.force_not_null.is_some(), "FORCE_NOT_NULL"),
            (self.header == Some(Header::Match), "HEADER MATCH"),
            (self.on_error.is_some(), "ON_ERROR"),
            (self.key.is_some(), "IDEMPOTENCY_KEY"),
        ] {
            only(given, name, from, "with FROM")?;
        }
        if let Some(encoding) = &self.encoding
            && !matches!(encoding.to_lowercase().replace('-', "").as_str(), "utf8" | "unicode")
        {
            return refuse(format!("COPY in encoding '{encoding}' is not possible"))
                .map_err(|e| e.with_hint("convert it to UTF-8, for example with iconv"));
        }
        self.ignore_errors = match self.on_error.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("stop") => false,
            // A dead letter is text.
            Some("ignore") if binary => {
                return refuse("COPY ON_ERROR 'ignore' is possible in text and csv only".to_owned());
            }
            Some("ignore") => true,
            Some(other) => {
                let e = Error::invalid_input(format!("COPY ON_ERROR '{other}' is not known"));
                return Err(e.with_hint("write 'stop' or 'ignore'"));
            }
        };
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
            return Err(Error::invalid_input(format!("COPY IDEMPOTENCY_KEY takes 1 to {MAX_KEY} bytes")));
        }
        self.characters(kind)
    }

    /// Refuses characters that would make the format ambiguous.
    fn characters(&self, kind: FormatKind) -> Result<()> {
        let defaults = Format::new(kind);
        let one = |given: &Option<String>, name: &str, default: u8| match given.as_deref().map(str::as_bytes)
        {
            None => Ok(default),
            Some([byte]) if byte.is_ascii() => Ok(*byte),
            Some(_) => Err(Error::not_supported(format!("COPY {name} must be a single one-byte character"))),
        };
        let delimiter = one(&self.delimiter, "DELIMITER", defaults.delimiter)?;
        let quote = one(&self.quote, "QUOTE", defaults.quote)?;
        one(&self.escape, "ESCAPE", quote)?;
        let null = self.null.as_deref().unwrap_or(&defaults.null);
        let wrong = |what: &str| Err(Error::invalid_input(what));
        let ends_lines = |byte: u8| matches!(byte, b'\n' | b'\r');
        if ends_lines(delimiter) || (kind == FormatKind::Csv && ends_lines(quote)) {
            return wrong("COPY DELIMITER and QUOTE cannot be newline or carriage return");
        }
        if null.bytes().any(ends_lines) {
            return wrong("COPY NULL cannot use newline or carriage return");
        }
        if kind == FormatKind::Text
            && (delimiter.is_ascii_lowercase()
                || delimiter.is_ascii_digit()
                || matches!(delimiter, b'\\' | b'.'))
        {
            return wrong(
                "COPY DELIMITER cannot be a lower-case letter, a digit, a dot or a backslash in text",
            );
        }
        if kind == FormatKind::Csv && delimiter == quote {
            return wrong("COPY DELIMITER and QUOTE must be different");
        }
        if null.bytes().any(|byte| byte == delimiter) {
            return wrong("COPY DELIMITER must not appear in NULL");
        }
        if kind == FormatKind::Csv && null.bytes().any(|byte| byte == quote) {
            return wrong("COPY QUOTE must not appear in NULL");
        }
        Ok(())
    }

    /// The format for rows of these columns.
    pub(super) fn format(&self, schema: &Schema, columns: &[usize]) -> Result<Format> {
        let defaults = Format::new(self.kind.unwrap_or(FormatKind::Text));
        let byte = |given: &Option<String>, default| given.as_ref().map_or(default, |s| s.as_bytes()[0]);
        let quote = byte(&self.quote, defaults.quote);
        let flags = |given: &Option<Columns>, option: &str| -> Result<Vec<bool>> {
            match given {
                None => Ok(vec![]),
                Some(Columns::All) => Ok(vec![true; columns.len()]),
                Some(Columns::Some(names)) => {
                    let mut flags = vec![false; columns.len()];
                    for name in names {
                        let found = columns.iter().position(|i| schema.field(*i).name() == name);
                        let found = found.ok_or_else(|| {
                            Error::new(
                                Kind::UndefinedColumn,
                                format!("COPY {option}: column '{name}' is not copied"),
                            )
                        })?;
                        flags[found] = true;
                    }
                    Ok(flags)
                }
            }
        };
        Ok(Format {
            delimiter: byte(&self.delimiter, defaults.delimiter),
            null: self.null.clone().unwrap_or_else(|| defaults.null.clone()),
            header: self.header.unwrap_or(Header::None),
            quote,
            escape: byte(&self.escape, quote),
            force_quote: flags(&self.force_quote, "FORCE_QUOTE")?,
            force_null: flags(&self.force_null, "FORCE_NULL")?,
            force_not_null: flags(&self.force_not_null, "FORCE_NOT_NULL")?,
            ..defaults
        })
    }
}

/// `true`, `on`, `1`, nothing, or their opposites.
fn flag(words: &mut Words<'_>) -> Result<bool> {
    if words.is(",") || words.is(")") {
        return Ok(true);
    }
    for (word, value) in
        [("true", true), ("on", true), ("1", true), ("false", false), ("off", false), ("0", false)]
    {
        if words.eat(word) || words.eat(&format!("'{word}'")) {
            return Ok(value);
        }
    }
    Err(words.expected("true or false"))
}

fn once<T>(option: &mut Option<T>, value: T, twice: Error) -> Result<()> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

/// An error where another one is.
fn place_of(place: Error, e: Error) -> Error {
    match place.position() {
        Some(position) => e.with_position(position),
        None => e,
    }
}

#[cfg(test)]
mod tests {
    use super::super::copy::Copy;
    use super::*;

    fn options(sql: &str) -> Result<Options> {
        Copy::read(sql).unwrap().map(|copy| copy.options)
    }

    #[test]
    fn both_spellings_say_the_same() {
        for (new, old) in [
            ("FROM STDIN WITH (FORMAT csv, HEADER, NULL 'x')", "FROM STDIN CSV HEADER NULL AS 'x'"),
            ("FROM STDIN (DELIMITER E'\\t', FORMAT 'text')", "FROM STDIN WITH DELIMITER E'\\t'"),
            (
                "TO STDOUT (FORMAT csv, FORCE_QUOTE *, QUOTE '''')",
                "TO STDOUT WITH CSV FORCE QUOTE * QUOTE ''''",
            ),
            (
                "FROM STDIN (FORMAT csv, FORCE_NULL (a), FORCE_NOT_NULL (b, a), ESCAPE '\\')",
                "FROM STDIN CSV FORCE NULL a FORCE NOT NULL b, a ESCAPE '\\'",
            ),
            ("TO STDOUT (FORMAT binary)", "TO STDOUT BINARY"),
            ("FROM STDIN (FORMAT binary)", "FROM STDIN BINARY"),
            ("FROM STDIN (ENCODING 'UTF-8', FREEZE off)", "FROM STDIN ENCODING 'utf8'"),
        ] {
            let schema = Schema::new(
                ["a", "b"]
                    .map(|n| {
                        datafusion::arrow::datatypes::Field::new(
                            n,
                            datafusion::arrow::datatypes::DataType::Int64,
                            true,
                        )
                    })
                    .to_vec(),
            );
            let format =
                |sql: &str| options(&format!("COPY t {sql}")).unwrap().format(&schema, &[0, 1]).unwrap();
            assert_eq!(format(new), format(old), "{new}");
        }
        let read =
            options("COPY t FROM STDIN (ON_ERROR ignore, IDEMPOTENCY_KEY 'it''s', HEADER match)").unwrap();
        assert_eq!(
            (read.ignore_errors, read.key.as_deref(), read.header),
            (true, Some("it's"), Some(Header::Match))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (rest, code) in [
            ("FROM STDIN (FORMAT xml)", "22023"),
            ("FROM STDIN (FORMAT csv, FORMAT csv)", "42601"),
            ("FROM STDIN (NONSENSE 1)", "42601"),
            ("FROM STDIN (DELIMITER 'ab')", "0A000"),
            ("FROM STDIN (DELIMITER 'é')", "0A000"),
            ("FROM STDIN (DELIMITER 'a')", "22023"),
            ("FROM STDIN (DELIMITER E'\\n')", "22023"),
            ("FROM STDIN (NULL E'a\\nb')", "22023"),
            ("FROM STDIN (NULL 'a,b', FORMAT csv)", "22023"),
            ("FROM STDIN (NULL 'a\"b', FORMAT csv)", "22023"),
            ("FROM STDIN (QUOTE '\"')", "0A000"),
            ("FROM STDIN (QUOTE ',', FORMAT csv)", "22023"),
            ("FROM STDIN (FORCE_QUOTE *, FORMAT csv)", "0A000"),
            ("TO STDOUT (FORCE_NULL *, FORMAT csv)", "0A000"),
            ("TO STDOUT (HEADER match)", "0A000"),
            ("TO STDOUT (IDEMPOTENCY_KEY 'x')", "0A000"),
            ("FROM STDIN (IDEMPOTENCY_KEY '')", "22023"),
            ("FROM STDIN (ON_ERROR maybe)", "22023"),
            ("FROM STDIN (ENCODING 'latin1')", "0A000"),
            ("FROM STDIN (HEADER perhaps)", "42601"),
            ("TO STDOUT (FORMAT binary, HEADER)", "0A000"),
            ("FROM STDIN BINARY (ON_ERROR ignore)", "42601"),
            ("FROM STDIN (FORMAT binary, ON_ERROR ignore)", "0A000"),
            ("FROM STDIN BINARY NULL 'x'", "0A000"),
            ("FROM STDIN WHERE a > 1", "0A000"),
            ("FROM STDIN (FORMAT csv", "42601"),
            ("FROM STDIN CSV nonsense", "42601"),
            ("FROM STDIN FORCE a", "42601"),
        ] {
            let e = options(&format!("COPY t {rest}")).expect_err(rest);
            assert_eq!(e.kind().sqlstate(), code, "{rest}: {e}");
        }
    }
}
