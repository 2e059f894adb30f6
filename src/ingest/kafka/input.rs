//! Messages into rows of the table.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::messages::{Kept, Known, Messages};
use super::options::{Format, Options, UnknownFields};
use crate::catalog::events::EventsTable;
use crate::error::{Error, Result};
use crate::ingest::csv::CsvDecoder;
use crate::ingest::decode::{Chunk, Payload, TextDecoder};
use crate::ingest::map::{Given, Mapped, Mapper};
use crate::ingest::ndjson::NdjsonDecoder;

/// What a SELECT calls a field of a JSON message that has the name of something else: `json.timestamp`.
const JSON: &str = "json";

/// How messages become rows; planned once for a version of the table's columns.
pub(super) struct Input {
    decoder: Decoder,
    known: Vec<Known>,
    mapper: Mapper,
}

enum Decoder {
    Json(NdjsonDecoder),
    Csv(CsvDecoder),
    Raw,
}

/// What became of some messages.
pub(super) struct Decoded {
    /// Rows to store, and what cannot be stored.
    pub(super) mapped: Mapped,
    /// What the rows were made from, by their origin.
    pub(super) chunk: Chunk,
    /// Events in the messages, good and bad.
    pub(super) events: u64,
}

/// A field that is taken from each message.
struct Wanted {
    /// Its name there.
    key: String,
    /// The column of `input`.
    column: Field,
}

impl Input {
    /// Plans it. Fails where the transform, the declared columns or the table do not fit together.
    pub(super) async fn plan(
        options: &Options,
        events: &EventsTable,
        session: &SessionState,
    ) -> Result<Self> {
        let table = events.schema();
        let declared = match &options.columns {
            Some(columns) => Some(declared(columns, session).await.map_err(|e| e.context("columns"))?),
            None => None,
        };
        let sql = match (&options.transform, options.format) {
            (Some(sql), _) => Some(sql.clone()),
            (None, Format::Raw) => Some(all_known(&table)),
            (None, _) => None,
        };
        let references = match &sql {
            Some(sql) => Some(References::of(sql, session)?),
            None => None,
        };
        let (wanted, known, sql) = match (references, options.format) {
            (None, Format::Json) => (columns_of(&table), vec![], None),
            (None, _) => (columns_of(declared.as_ref().unwrap_or(&table)), vec![], None),
            (Some(references), format) => {
                let known: Vec<Known> = Known::ALL.into_iter().filter(|k| references.has(k.name())).collect();
                let wanted = match format {
                    Format::Json => references.fields(&table, declared.as_ref()),
                    Format::Csv => columns_of(declared.as_ref().unwrap_or(&table)),
                    Format::Raw => vec![],
                };
                (wanted, known, Some(references.sql))
            }
        };
        let typed: SchemaRef =
            Arc::new(Schema::new(wanted.iter().map(|w| w.column.clone()).collect::<Vec<_>>()));
        let decoder = match options.format {
            Format::Json => {
                let strict = options.unknown_fields == UnknownFields::Refuse && sql.is_none();
                let keys = wanted.iter().map(|w| w.key.as_str());
                Decoder::Json(NdjsonDecoder::of_keys(keys, Arc::clone(&typed), strict))
            }
            Format::Csv => {
                let delimiter = u8::try_from(options.delimiter).unwrap_or(b',');
                Decoder::Csv(CsvDecoder::of_names(wanted.iter().map(|w| w.key.clone()), delimiter))
            }
            Format::Raw => Decoder::Raw,
        };
        let nothing: SchemaRef = Arc::new(Schema::empty());
        let schema = match &decoder {
            Decoder::Json(json) => json.schema(),
            Decoder::Csv(csv) => csv.schema(),
            Decoder::Raw => &nothing,
        };
        let given = Given {
            who: "the message",
            schema,
            typed: &typed,
            origin: known.iter().map(|known| known.field()).collect(),
        };
        let mut mapper = Mapper::new(events, given, sql.as_deref(), session).await?;
        if let Some(column) = &options.processing_time {
            mapper = mapper.with_processing_time(column)?;
        }
        Ok(Input { decoder, known, mapper })
    }

    /// What has to be kept of messages beside their values.
    pub(super) fn kept(&self) -> Kept {
        Kept { keys: self.known.contains(&Known::Key), headers: self.known.contains(&Known::Headers) }
    }

    /// Makes the rows.
    pub(super) fn rows(&mut self, mut messages: Messages, from: (&str, i32)) -> Result<Decoded> {
        let raw = messages.take_records(matches!(self.decoder, Decoder::Json(_)));
        let mut chunk = match &mut self.decoder {
            Decoder::Json(json) => json.decode(raw)?,
            Decoder::Csv(csv) => csv.decode(raw)?,
            Decoder::Raw => {
                let options = RecordBatchOptions::new().with_row_count(Some(raw.spans.len()));
                let (lines, spans) = raw.spans.into_iter().map(|span| (span.line, span.range)).unzip();
                Chunk {
                    batch: RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?,
                    lines,
                    payload: Payload::Text { bytes: raw.bytes, spans },
                    bad: raw.bad,
                    position: raw.position,
                }
            }
        };
        let events = chunk.len() as u64;
        let known = messages.known(&self.known, from, &chunk.lines, |row| chunk.payload(row))?;
        let mapped = self.mapper.map(&mut chunk, &known)?;
        Ok(Decoded { mapped, chunk, events })
    }
}

/// The SELECT of raw messages into the columns that the table has for them.
fn all_known(table: &Schema) -> String {
    let there = |known: &Known| table.fields().iter().any(|f| f.name() == known.name());
    let names = Known::ALL.into_iter().filter(there).map(|known| format!("\"{}\"", known.name()));
    format!("SELECT {} FROM input", names.collect::<Vec<_>>().join(", "))
}

fn columns_of(schema: &Schema) -> Vec<Wanted> {
    let wanted =
        |f: &Arc<Field>| Wanted { key: f.name().clone(), column: f.as_ref().clone().with_nullable(true) };
    schema.fields().iter().map(wanted).collect()
}

/// Columns written as in CREATE TABLE.
async fn declared(columns: &str, session: &SessionState) -> Result<Schema> {
    let dialect = session.config_options().sql_parser.dialect;
    let statement = session.sql_to_statement(&format!("CREATE TABLE input ({columns})"), &dialect)?;
    match session.statement_to_plan(statement).await? {
        plan @ LogicalPlan::Ddl(_) => Ok(plan.schema().as_arrow().clone()),
        _ => Err(Error::invalid_input("they are not written as in CREATE TABLE")
            .with_hint("ts BIGINT, country VARCHAR")),
    }
}

/// The names that a SELECT uses, any of which may be a field of a message.
struct References {
    /// The statement with `json.x` made one name.
    sql: String,
    names: Vec<ast::Ident>,
    /// Fields named as `json.x`.
    qualified: Vec<String>,
    wildcard: bool,
}

impl References {
    fn of(sql: &str, session: &SessionState) -> Result<Self> {
        let dialect = session.config_options().sql_parser.dialect;
        let Statement::Statement(mut statement) = session.sql_to_statement(sql, &dialect)? else {
            return Err(Error::not_supported("the transform is not a SELECT over input"));
        };
        let (mut names, mut qualified) = (vec![], vec![]);
        let _ = ast::visit_expressions_mut(statement.as_mut(), |expr| {
            match expr {
                ast::Expr::Identifier(ident) => names.push(ident.clone()),
                ast::Expr::CompoundIdentifier(parts)
                    if parts[0].value.eq_ignore_ascii_case(JSON) && parts.len() == 2 =>
                {
                    let key = parts[1].value.clone();
                    *expr = ast::Expr::Identifier(ast::Ident::with_quote('"', format!("{JSON}.{key}")));
                    if !qualified.contains(&key) {
                        qualified.push(key);
                    }
                }
                ast::Expr::CompoundIdentifier(parts) => names.extend(parts.iter().cloned()),
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        Ok(References { sql: statement.to_string(), names, qualified, wildcard: has_wildcard(sql) })
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|ident| ident.value.eq_ignore_ascii_case(name))
    }

    /// The fields of a message that it reads, with their types.
    fn fields(&self, table: &Schema, declared: Option<&Schema>) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = vec![];
        let known = |name: &str| Known::ALL.iter().any(|k| k.name().eq_ignore_ascii_case(name));
        let typed = [declared, Some(table)];
        // What it is called is what it is called where it has a type; elsewhere as it is written.
        let find = |ident: &ast::Ident| {
            typed.iter().flatten().flat_map(|schema| schema.fields()).find(|f| match ident.quote_style {
                Some(_) => f.name() == &ident.value,
                None => f.name().eq_ignore_ascii_case(&ident.value),
            })
        };
        let mut add = |key: &str, name: String, t: Option<&DataType>| {
            if !wanted.iter().any(|w| w.column.name() == &name) {
                let t = t.cloned().unwrap_or(DataType::Utf8View);
                wanted.push(Wanted { key: key.to_owned(), column: Field::new(name, t, true) });
            }
        };
        for ident in self.names.iter().filter(|ident| !known(&ident.value)) {
            let field = find(ident);
            let name = field.map_or(&ident.value, |f| f.name());
            add(name, name.clone(), field.map(|f| f.data_type()));
        }
        for key in &self.qualified {
            let field = find(&ast::Ident::with_quote('"', key.as_str()));
            add(key, format!("{JSON}.{key}"), field.map(|f| f.data_type()));
        }
        if self.wildcard {
            for field in declared.unwrap_or(table).fields().iter().filter(|f| !known(f.name())) {
                add(field.name(), field.name().clone(), Some(field.data_type()));
            }
        }
        wanted
    }
}

/// Whether there is a `*` that stands for columns.
fn has_wildcard(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return false };
    let tokens: Vec<&Token> = tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_))).collect();
    tokens.windows(2).any(|pair| {
        let before = match pair[0] {
            Token::Comma | Token::Period => true,
            Token::Word(word) => word.value.eq_ignore_ascii_case("select"),
            _ => false,
        };
        before && matches!(pair[1], Token::Mul)
    })
}
