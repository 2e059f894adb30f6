//! Parsing: a small parser of ours in front of DataFusion's, for what that one does not know.

use datafusion::sql::parser::{DFParserBuilder, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Statement as SqlStatement, TableObject,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use super::alter::AlterTable;
use super::copy::{Copy, Direction};
use super::output_names::distinguish;
use super::split::{Item, split, words};
use crate::dialect;
use crate::error::{Error, Result};

/// A statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// `REFRESH MATERIALIZED VIEW name`
    Refresh(String),
    /// `ALTER TABLE name SET (…)` or `RESET (…)`
    Alter(AlterTable),
    /// `COPY … FROM STDIN`, `COPY … TO STDOUT`
    Copy(Box<Copy>),
    /// What DataFusion's parser knows.
    Engine(Box<EngineStatement>),
}

/// A statement, with its text and where it stands.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The text, without a semicolon.
    pub sql: String,
    /// How many characters stand in front of it.
    pub offset: usize,
    /// What it is.
    pub statement: Statement,
}

impl Parsed {
    /// The table that an INSERT adds rows to.
    pub fn inserts_into(&self) -> Option<String> {
        match self.sql_statement()? {
            SqlStatement::Insert(insert) => match &insert.table {
                TableObject::TableName(name) => object_name(name).ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is a query, or asks about one.
    pub fn only_reads(&self) -> bool {
        use SqlStatement::{Explain, ExplainTable, Query, ShowVariable};
        matches!(
            self.sql_statement(),
            Some(Query(_) | Explain { .. } | ExplainTable { .. } | ShowVariable { .. })
        ) || matches!(&self.statement, Statement::Engine(s) if matches!(s.as_ref(), EngineStatement::Explain(_)))
            || matches!(&self.statement, Statement::Copy(copy) if matches!(copy.direction, Direction::Out { .. }))
    }

    fn sql_statement(&self) -> Option<&SqlStatement> {
        match &self.statement {
            Statement::Engine(statement) => match statement.as_ref() {
                EngineStatement::Statement(sql) => Some(sql),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Cuts a text into statements and parses each.
pub fn parse(sql: &str) -> Result<Vec<Parsed>> {
    split(sql)
        .into_iter()
        .map(|piece| {
            let statement = parse_one(piece.text).map_err(|e| match e.position() {
                Some(position) => e.with_position(position + piece.offset),
                None => e,
            })?;
            Ok(Parsed { sql: piece.text.to_owned(), offset: piece.offset, statement })
        })
        .collect()
}

/// Parses one statement. An error has its position in `sql`.
pub fn parse_one(sql: &str) -> Result<Statement> {
    let words = words(sql);
    if words.first().is_some_and(|w| w.is("refresh")) {
        return refresh(&words);
    }
    if let Some(alter) = AlterTable::read(&words) {
        return alter.map(Statement::Alter);
    }
    if let Some(copy) = Copy::read(sql) {
        return copy.map(|copy| Statement::Copy(Box::new(copy)));
    }
    let parsed = DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|e| located(e.into(), sql))?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(mut statement), true) => {
            distinguish(&mut statement);
            dialect::adapt(&mut statement);
            Ok(Statement::Engine(Box::new(statement)))
        }
        (None, _) => Err(Error::syntax("there is no statement")),
        _ => Err(Error::syntax("there is more than one statement")),
    }
}

/// `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH DATA]`; a refresh never blocks readers.
fn refresh(words: &[Item]) -> Result<Statement> {
    let usage =
        || Error::syntax("cannot read the statement").with_hint("write REFRESH MATERIALIZED VIEW name");
    let rest = match words {
        [_, materialized, view, rest @ ..] if materialized.is("materialized") && view.is("view") => rest,
        _ => return Err(usage()),
    };
    let rest = match rest {
        [concurrently, rest @ ..] if concurrently.is("concurrently") && !rest.is_empty() => rest,
        rest => rest,
    };
    let rest = match rest {
        [rest @ .., with, data] if with.is("with") && data.is("data") => rest,
        rest => rest,
    };
    let mut parts = vec![];
    for (i, item) in rest.iter().enumerate() {
        match item {
            Item::Word(name) | Item::Name(name) if i % 2 == 0 => parts.push(name.clone()),
            Item::Sign(dot) if i % 2 == 1 && dot == "." => {}
            _ => return Err(usage()),
        }
    }
    if parts.len() * 2 != rest.len() + 1 {
        return Err(usage());
    }
    table_name(parts).map(Statement::Refresh)
}

/// The name of an object of the warehouse: `name`, `public.name` or `toplake.public.name`.
pub fn object_name(name: &ObjectName) -> Result<String> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(normal(ident)),
        other => Err(Error::syntax(format!("'{other}' is not a name"))),
    };
    table_name(name.0.iter().map(part).collect::<Result<Vec<_>>>()?)
}

pub(super) fn table_name(parts: Vec<String>) -> Result<String> {
    use crate::catalog::schemas::{CATALOG, PUBLIC};
    match parts.as_slice() {
        [name] => Ok(name.clone()),
        [schema, name] if schema == PUBLIC => Ok(name.clone()),
        [catalog, schema, name] if catalog == CATALOG && schema == PUBLIC => Ok(name.clone()),
        _ => Err(Error::not_supported(format!("'{}' is not in the schema public", parts.join(".")))
            .with_hint("tables and views of a warehouse are in the schema public")),
    }
}

/// A quoted name is as it is written, another one in lower case.
pub fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Takes the position out of the parser's message: `… at Line: 1, Column: 8`.
fn located(e: Error, sql: &str) -> Error {
    let message = e.message().to_owned();
    let Some((text, place)) = message.rsplit_once(" at Line: ") else { return e };
    let Some((line, column)) = place.split_once(", Column: ") else { return e };
    let digits =
        |s: &str| s.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok();
    let (Some(line), Some(column)) = (digits(line), digits(column)) else { return e };
    let before: usize = sql.lines().take(line.saturating_sub(1)).map(|l| l.chars().count() + 1).sum();
    Error::syntax(text).with_position(before + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_is_read_in_all_its_forms() {
        for sql in [
            "REFRESH MATERIALIZED VIEW sales_hourly",
            "refresh materialized view concurrently public.sales_hourly",
            "REFRESH MATERIALIZED VIEW \"sales_hourly\" WITH DATA",
        ] {
            assert!(
                matches!(parse_one(sql), Ok(Statement::Refresh(name)) if name == "sales_hourly"),
                "{sql}"
            );
        }
        assert!(parse_one("REFRESH VIEW x").is_err() && parse_one("REFRESH MATERIALIZED VIEW a b").is_err());
    }

    #[test]
    fn an_error_says_where_in_the_whole_text() {
        let e = parse("SELECT 1;\nSELECT * FORM t").unwrap_err();
        assert_eq!(e.kind().sqlstate(), "42601");
        assert!(e.position().is_some_and(|p| p > 10), "{e:?}");
    }
}
