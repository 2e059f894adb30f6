//! A chunk of a file into rows of the table, and what is left over with its reasons.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringViewArray, StringViewBuilder,
};
use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;

use super::cast::{Rejected, Rows, sql_name};
use super::decode::{BadLine, Chunk, Decoding};
use super::transform::{INPUT_FILE, INPUT_LINE, Transform};
use crate::catalog::events::{EventsTable, TimeCheck};
use crate::catalog::options::TableOptions;
use crate::error::{Error, Kind, Result};

/// How one file's rows become the table's.
pub(super) struct Mapper {
    table: SchemaRef,
    options: TableOptions,
    /// Which column of the file, or of the transform, each column of the table comes from.
    sources: Vec<Option<usize>>,
    transform: Option<Input>,
}

/// What a transform reads.
struct Input {
    transform: Transform,
    /// The file's columns as they are typed.
    typed: SchemaRef,
    /// With the file's name and the line.
    schema: SchemaRef,
    url: String,
    /// The file's address, as often as a chunk had rows so far.
    names: StringViewArray,
}

/// What became of a chunk.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Rows to store.
    pub(super) batch: RecordBatch,
    /// Lines that cannot be stored, in order.
    pub(super) bad: Vec<BadLine>,
}

impl Mapper {
    /// Matches columns by name, or plans the transform. Fails if a column of the file is unknown, a column that may not
    /// be NULL is missing, or a type can never fit.
    pub(super) async fn new(
        events: &EventsTable,
        file: &Decoding,
        url: &str,
        transform: Option<&str>,
        session: &SessionState,
    ) -> Result<Self> {
        let transform = match transform {
            Some(sql) => Some(Input::new(sql, file, url, session).await?),
            None => None,
        };
        let (given, who) = match &transform {
            Some(input) => (input.transform.schema(), "the transform"),
            None => (&file.schema, "the file"),
        };
        let table = events.schema();
        let sources = match_columns(given, &table, who, events.table().name())?;
        Ok(Mapper { sources, options: events.options().clone(), table, transform })
    }

    /// Makes the rows.
    pub(super) fn map(&mut self, chunk: &mut Chunk) -> Result<Mapped> {
        let mut rejected = Rejected::default();
        let mut rows = Rows::all(chunk.batch.clone());
        if let Some(input) = &mut self.transform {
            rows = input.rows(rows, &chunk.lines, &mut rejected)?;
            rows = input.transform.run(&rows, &mut rejected)?;
        }
        let mut rows = rows.cast(&self.table, &self.sources, &mut rejected)?;
        let check = TimeCheck::new(&self.options, &self.table);
        let late = check.bad_rows(&rows.batch);
        for row in &late {
            let why = check.check(&rows.batch.slice(*row, 1)).err();
            rejected
                .add(rows.origin.value(*row), || why.map_or_else(String::new, |e| e.message().to_owned()));
        }
        if !late.is_empty() {
            rows = rows.without(&rejected)?;
        }
        let mut bad = std::mem::take(&mut chunk.bad);
        bad.extend(rejected.0.into_iter().map(|(row, reason)| {
            let row = row as usize;
            BadLine { line: chunk.lines[row], reason, payload: chunk.payload(row) }
        }));
        bad.sort_by_key(|b| b.line);
        Ok(Mapped { batch: rows.batch, bad })
    }
}

impl Input {
    async fn new(sql: &str, file: &Decoding, url: &str, session: &SessionState) -> Result<Self> {
        let mut fields: Vec<Field> = file.typed.fields().iter().map(|f| f.as_ref().clone()).collect();
        for (name, t) in [(INPUT_FILE, DataType::Utf8View), (INPUT_LINE, DataType::Int64)] {
            if let Some(taken) = fields.iter().find(|f| f.name().eq_ignore_ascii_case(name)) {
                return Err(Error::not_supported(format!("the file has a column '{}'", taken.name()))
                    .with_hint(format!("{name} is where a row came from; rename the file's column")));
            }
            fields.push(Field::new(name, t, false));
        }
        let schema = Arc::new(Schema::new(fields));
        let transform = Transform::plan(sql, &schema, session).await.map_err(|e| e.context("transform"))?;
        let names = StringViewArray::from(Vec::<&str>::new());
        Ok(Input { transform, typed: Arc::clone(&file.typed), schema, url: url.to_owned(), names })
    }

    /// The rows of `input`.
    fn rows(&mut self, rows: Rows, lines: &[i64], rejected: &mut Rejected) -> Result<Rows> {
        let Rows { batch, origin } = if rows.batch.schema_ref() == &self.typed {
            rows
        } else {
            let same: Vec<Option<usize>> = (0..self.typed.fields().len()).map(Some).collect();
            rows.cast(&self.typed, &same, rejected)?
        };
        if self.names.len() < lines.len() {
            let mut names = StringViewBuilder::with_capacity(lines.len()).with_deduplicate_strings();
            (0..lines.len()).for_each(|_| names.append_value(&self.url));
            self.names = names.finish();
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns.push(Arc::new(self.names.slice(0, batch.num_rows())));
        columns.push(Arc::new(Int64Array::from_iter_values(
            origin.values().iter().map(|row| lines[*row as usize]),
        )));
        Ok(Rows { batch: RecordBatch::try_new(Arc::clone(&self.schema), columns)?, origin })
    }
}

/// For each column of the table, which one of `given` has its name, whatever its case.
fn match_columns(given: &Schema, table: &Schema, who: &str, name: &str) -> Result<Vec<Option<usize>>> {
    let mut sources = vec![None; table.fields().len()];
    for (index, field) in given.fields().iter().enumerate() {
        let exact = table.fields().iter().position(|f| f.name() == field.name());
        let found =
            exact.or_else(|| table.fields().iter().position(|f| f.name().eq_ignore_ascii_case(field.name())));
        let Some(found) = found else {
            // `SELECT *` brings them along.
            if [INPUT_FILE, INPUT_LINE].contains(&field.name().as_str()) && who == "the transform" {
                continue;
            }
            return Err(Error::new(
                Kind::UndefinedColumn,
                format!("{who} has a column '{}', and table '{name}' has not", field.name()),
            )
            .with_hint("leave it out, or rename it, with --transform"));
        };
        let target = table.field(found);
        if !can_cast_types(field.data_type(), target.data_type()) {
            return Err(Error::invalid_value(format!(
                "column '{}' of {who} is {} and cannot become {}",
                field.name(),
                sql_name(field.data_type()),
                sql_name(target.data_type())
            )));
        }
        if sources[found].replace(index).is_some() {
            return Err(Error::invalid_input(format!("two columns of {who} are named '{}'", target.name())));
        }
    }
    let missing =
        table.fields().iter().zip(&sources).find(|(field, source)| !field.is_nullable() && source.is_none());
    if let Some((field, _)) = missing {
        return Err(Error::not_null(format!(
            "column '{}' may not be NULL, and {who} has no such column",
            field.name()
        )));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> Schema {
        Schema::new(
            fields.iter().map(|(name, t, null)| Field::new(*name, t.clone(), *null)).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn columns_are_matched_by_name() {
        let table = schema(&[("id", DataType::Int64, false), ("name", DataType::Utf8View, true)]);
        let text = |names: &[&str]| {
            schema(&names.iter().map(|n| (*n, DataType::Utf8View, true)).collect::<Vec<_>>())
        };
        let matched = |names: &[&str]| match_columns(&text(names), &table, "the file", "t");
        assert_eq!(matched(&["NAME", "Id"]).unwrap(), [Some(1), Some(0)]);
        assert_eq!(matched(&["id"]).unwrap(), [Some(0), None]);
        assert!(matched(&["id", "nam"]).unwrap_err().message().contains("'nam'"));
        assert!(matched(&["id", "ID"]).unwrap_err().message().contains("two columns"));
        assert!(matched(&["name"]).unwrap_err().message().contains("'id' may not be NULL"));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)));
        let e = match_columns(&schema(&[("id", list, true)]), &table, "the file", "t").unwrap_err();
        assert!(e.message().contains("cannot become BIGINT"), "{}", e.message());
    }
}
