//! `COPY t [(columns)] FROM STDIN` and `COPY t [(columns)] | (query) TO STDOUT`, in the spelling of PostgreSQL.
//!
//! `COPY … TO 'file' STORED AS …` is the engine's, and is left to it.

use std::ops::Range;

use datafusion::arrow::datatypes::Schema;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::Statement;
use tokio::runtime::Handle;

use super::copy_options::{Columns, Options};
use super::parse::{parse_one, table_name};
use super::run::{Outcome, Session};
use super::split::tokens;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Kind, Result};
use crate::ingest::copy::{CopyIn, Load};

/// The statement.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Rows from the client, or to it.
    pub direction: Direction,
    pub(super) options: Options,
}

/// Which way rows go.
#[derive(Debug, Clone)]
pub enum Direction {
    /// `FROM STDIN`
    In {
        /// The table.
        table: String,
        /// Its columns, in the order of the fields; none are all of them.
        columns: Vec<String>,
    },
    /// `TO STDOUT`
    Out {
        /// The text of what gives the rows,
        sql: String,
        /// and what it says.
        query: Box<EngineStatement>,
    },
}

impl Copy {
    /// Reads a statement; `None` if it is another one. An error has its position in `sql`.
    pub(super) fn read(sql: &str) -> Option<Result<Self>> {
        let mut words = Words::new(sql);
        words.eat("copy").then(|| Self::parts(&mut words)).and_then(Result::transpose)
    }

    /// `None` for the engine's own.
    fn parts(words: &mut Words<'_>) -> Result<Option<Self>> {
        let binary = words.eat("binary");
        let source = match words.parentheses()? {
            Some(query) => Source::Query(query),
            None => {
                let mut parts = vec![words.name()?];
                while words.eat(".") {
                    parts.push(words.name()?);
                }
                let columns = if words.is("(") { words.names()? } else { vec![] };
                Source::Table(parts, columns)
            }
        };
        let from = words.eat("from");
        if !from && !words.eat("to") {
            return Err(words.expected("FROM or TO"));
        }
        if !words.eat("stdin") && !words.eat("stdout") {
            return words.elsewhere(from).map(|()| None);
        }
        let options = Options::read(words, from, binary)?;
        let direction = match (source, from) {
            (Source::Table(parts, columns), true) => Direction::In { table: table_name(parts)?, columns },
            (Source::Query(_), true) => {
                return Err(Error::syntax("COPY (query) can only be copied TO")
                    .with_hint("write COPY t FROM STDIN, with the name of a table"));
            }
            (Source::Table(parts, columns), false) => {
                let quoted = |names: &[String], by: &str| {
                    let names = names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
                    names.collect::<Vec<_>>().join(by)
                };
                let all = if columns.is_empty() { "*".to_owned() } else { quoted(&columns, ", ") };
                let sql = format!("SELECT {all} FROM {}", quoted(&parts, "."));
                Direction::Out { query: query(&sql)?, sql }
            }
            (Source::Query(range), false) => {
                let before = words.sql[..range.start].chars().count();
                let sql = words.sql[range].to_owned();
                let query = query(&sql).map_err(|e| match e.position() {
                    Some(position) => e.with_position(position + before),
                    None => e,
                })?;
                Direction::Out { sql, query }
            }
        };
        Ok(Some(Copy { direction, options }))
    }
}

enum Source {
    Table(Vec<String>, Vec<String>),
    /// Where the query stands.
    Query(Range<usize>),
}

/// A query, and nothing else that gives rows.
fn query(sql: &str) -> Result<Box<EngineStatement>> {
    match parse_one(sql)? {
        Statement::Engine(engine) if matches!(engine.as_ref(), EngineStatement::Statement(s) if matches!(s.as_ref(), SqlStatement::Query(_))) => {
            Ok(engine)
        }
        _ => {
            Err(Error::not_supported("only a query can be copied")
                .with_hint("write COPY (SELECT …) TO STDOUT"))
        }
    }
}

impl Session {
    /// `COPY`
    pub(super) async fn copy(&self, copy: &Copy) -> Result<Outcome> {
        match &copy.direction {
            Direction::In { table, columns } => self.copy_in(table, columns, &copy.options).await,
            Direction::Out { sql, query } => match self.query(sql, query, &[]).await? {
                Outcome::Rows { stream, .. } => {
                    let format = copy.options.format(&stream.schema(), &all_of(&stream.schema()))?;
                    Ok(Outcome::CopyOut { format, stream })
                }
                other => Ok(other),
            },
        }
    }

    async fn copy_in(&self, name: &str, columns: &[String], options: &Options) -> Result<Outcome> {
        let events = match self.warehouse.require(name).await? {
            Object::Table(events) => events,
            other => {
                return Err(Error::wrong_object_type(format!(
                    "cannot copy to '{name}', which is {}",
                    other.kind().with_article()
                ))
                .with_hint("copy to the table that it is made from"));
            }
        };
        let columns = indexes(columns, events.stored(), name)?;
        let load = Load {
            format: options.format(events.stored(), &columns)?,
            columns,
            ignore_errors: options.ignore_errors,
            key: options.key.clone(),
            zone: self.time_zone().unwrap_or_else(|| "UTC".to_owned()),
        };
        let transaction = self.transaction.lock().clone();
        let threads = self.lanes.as_ref().map_or_else(Handle::current, |lanes| lanes.big.clone());
        let copy = CopyIn::begin(&self.warehouse, events, transaction, load, &threads).await?;
        Ok(Outcome::CopyIn(Box::new(copy)))
    }
}

fn all_of(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len()).collect()
}

/// Where columns stand in a table.
fn indexes(columns: &[String], schema: &Schema, table: &str) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Ok(all_of(schema));
    }
    let mut found = vec![];
    for column in columns {
        let index = schema.index_of(column).map_err(|_| {
            Error::new(Kind::UndefinedColumn, format!("column '{column}' of table '{table}' does not exist"))
        })?;
        if found.contains(&index) {
            return Err(Error::new(
                Kind::DuplicateColumn,
                format!("column '{column}' is named more than once"),
            ));
        }
        found.push(index);
    }
    Ok(found)
}

/// The tokens of a statement, one after the other.
pub(super) struct Words<'a> {
    sql: &'a str,
    tokens: Vec<Range<usize>>,
    at: usize,
}

impl<'a> Words<'a> {
    fn new(sql: &'a str) -> Self {
        Words { sql, tokens: tokens(sql), at: 0 }
    }

    /// The next one as it is written; empty at the end.
    pub(super) fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |range| &self.sql[range.clone()])
    }

    /// Whether the next one is this key word or sign.
    pub(super) fn is(&self, word: &str) -> bool {
        self.peek().eq_ignore_ascii_case(word)
    }

    /// Takes the next one if it is this key word or sign.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let is = self.is(word);
        self.at += usize::from(is);
        is
    }

    /// Whether there are no more.
    pub(super) fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// An error at the next one.
    pub(super) fn expected(&self, what: &str) -> Error {
        let found = match self.peek() {
            "" => "the end".to_owned(),
            found => format!("'{found}'"),
        };
        self.located(Error::syntax(format!("expected {what}, found {found}")))
    }

    /// An error, with the place of the next one.
    pub(super) fn located(&self, e: Error) -> Error {
        let at = self.tokens.get(self.at).map_or(self.sql.len(), |range| range.start);
        e.with_position(self.sql[..at].chars().count() + 1)
    }

    /// A name.
    pub(super) fn name(&mut self) -> Result<String> {
        let text = self.peek();
        let name = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').unwrap_or(rest).replace("\"\"", "\""),
            None if text.starts_with(|c: char| c.is_alphabetic() || c == '_') && !text.ends_with('\'') => {
                text.to_lowercase()
            }
            None => return Err(self.expected("a name")),
        };
        self.at += 1;
        Ok(name)
    }

    /// Names in parentheses.
    pub(super) fn names(&mut self) -> Result<Vec<String>> {
        if !self.eat("(") {
            return Err(self.expected("("));
        }
        let names = self.list()?;
        if !self.eat(")") {
            return Err(self.expected(", or )"));
        }
        Ok(names)
    }

    /// Names with commas between.
    pub(super) fn list(&mut self) -> Result<Vec<String>> {
        let mut names = vec![self.name()?];
        while self.eat(",") {
            names.push(self.name()?);
        }
        Ok(names)
    }

    /// Some columns, or `*`.
    pub(super) fn columns(&mut self, in_parentheses: bool) -> Result<Columns> {
        if self.eat("*") {
            return Ok(Columns::All);
        }
        Ok(Columns::Some(if in_parentheses { self.names()? } else { self.list()? }))
    }

    /// A string: `'…'` or `E'…'`.
    pub(super) fn string(&mut self) -> Result<String> {
        let text = self.peek();
        let (inner, escapes) = match text.strip_prefix(['e', 'E']).filter(|rest| rest.starts_with('\'')) {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let Some(inner) = inner.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) else {
            return Err(self.expected("a string in quotes"));
        };
        self.at += 1;
        let inner = inner.replace("''", "'");
        Ok(if escapes { unescaped(&inner) } else { inner })
    }

    /// Where stands what the next parenthesis encloses.
    fn parentheses(&mut self) -> Result<Option<Range<usize>>> {
        if !self.is("(") {
            return Ok(None);
        }
        let (opened, mut depth) = (self.at, 0usize);
        while !self.is_done() {
            match self.peek() {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(Some(self.tokens[opened].end..self.tokens[self.at - 1].start));
            }
        }
        Err(self.expected(")"))
    }

    /// A file or a program, which are refused, but for files that the engine writes.
    fn elsewhere(&self, from: bool) -> Result<()> {
        let rest =
            || self.tokens[self.at.min(self.tokens.len())..].iter().map(|range| &self.sql[range.clone()]);
        let engine = || {
            rest()
                .any(|word| ["stored", "options", "partitioned"].iter().any(|w| word.eq_ignore_ascii_case(w)))
        };
        let refused = |what: &str, hint: &str| Err(self.located(Error::not_supported(what).with_hint(hint)));
        match (self.is("program"), from) {
            (true, _) => refused("COPY does not start programs", "psql's \\copy does, where psql runs"),
            (_, true) => refused(
                "COPY does not read files of the server",
                "psql's \\copy reads a file where psql runs, and toplake ingest files reads any store",
            ),
            (_, false) if rest().count() > 1 && !engine() => refused(
                "COPY in this spelling does not write files of the server",
                "psql's \\copy writes a file where psql runs; COPY … TO '…' STORED AS PARQUET | CSV | JSON writes to a store",
            ),
            (_, false) => Ok(()),
        }
    }
}

/// The text of a string with backslashes.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, if c == '\\' { characters.next() } else { None }) {
            ('\\', Some(escaped)) => out.push(match escaped {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Option<Result<Copy>> {
        Copy::read(sql)
    }

    #[test]
    fn what_is_copied() {
        let copy = read("copy public.\"T\" (a, \"B\") from stdin").unwrap().unwrap();
        assert!(
            matches!(&copy.direction, Direction::In { table, columns } if table == "T" && columns == &["a", "B"])
        );
        let copy = read("COPY (SELECT ')' AS x FROM (SELECT 1) t) TO STDOUT").unwrap().unwrap();
        let Direction::Out { query, .. } = &copy.direction else { panic!("{copy:?}") };
        assert_eq!(query.to_string(), "SELECT ')' AS x FROM (SELECT 1) t");
        let copy = read("COPY toplake.rollups (name) TO STDOUT").unwrap().unwrap();
        assert!(
            matches!(&copy.direction, Direction::Out { query, .. } if query.to_string().contains("\"rollups\""))
        );
        assert!(read("SELECT 1").is_none());
        for engine in ["COPY t TO 'x.parquet'", "COPY t TO 'x' STORED AS CSV OPTIONS ('a' 'b')"] {
            assert!(read(engine).is_none(), "{engine}");
        }
    }

    #[test]
    fn what_is_not_copied() {
        for (sql, code, position) in [
            ("COPY t FROM 'x.csv'", "0A000", Some(13)),
            ("COPY t TO '/tmp/x' WITH (FORMAT csv)", "0A000", Some(11)),
            ("COPY t FROM PROGRAM 'ls'", "0A000", Some(13)),
            ("COPY (SELECT 1) FROM STDIN", "42601", None),
            ("COPY (DELETE FROM t) TO STDOUT", "0A000", None),
            ("COPY (SELECT 'é', 1 FORM t) TO STDOUT", "42601", Some(26)),
            ("COPY t", "42601", Some(7)),
            ("COPY 1 TO STDOUT", "42601", Some(6)),
            ("COPY (SELECT 1 TO STDOUT", "42601", Some(25)),
        ] {
            let e = read(sql).unwrap().expect_err(sql);
            assert_eq!((e.kind().sqlstate(), e.position()), (code, position), "{sql}: {e}");
        }
    }
}
