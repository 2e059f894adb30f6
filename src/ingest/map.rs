//! A chunk of input into rows of the table, and what is left over with its reasons.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use datafusion::arrow::compute::{can_cast_types, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;

use super::cast::{Rejected, Rows, sql_name};
use super::decode::{BadLine, Chunk};
use super::transform::Transform;
use crate::catalog::events::{EventsTable, TimeCheck};
use crate::catalog::options::TableOptions;
use crate::error::{Error, Kind, Result};

/// What chunks have.
#[derive(Debug, Clone)]
pub(super) struct Given<'a> {
    /// What they come from, as errors call it: `the file`.
    pub(super) who: &'static str,
    /// Their columns.
    pub(super) schema: &'a SchemaRef,
    /// The types that these stand for.
    pub(super) typed: &'a SchemaRef,
    /// Columns that a transform may read besides: where a row comes from. `SELECT *` does not mean them.
    pub(super) origin: Vec<Field>,
}

/// How rows of chunks become the table's.
pub(super) struct Mapper {
    table: SchemaRef,
    options: TableOptions,
    /// Which column of the chunk, or of the transform, each column of the table comes from.
    sources: Vec<Option<usize>>,
    transform: Option<Input>,
    /// The column that says when a row was ingested.
    processing_time: Option<usize>,
}

/// What a transform reads.
struct Input {
    transform: Transform,
    /// The chunk's columns as they are typed.
    typed: SchemaRef,
    /// With where they come from.
    schema: SchemaRef,
}

impl Mapper {
    /// Matches columns by name, or plans the transform. Fails if a given column is unknown, a column that may not
    /// be NULL is missing, or a type can never fit.
    pub(super) async fn new(
        events: &EventsTable,
        given: Given<'_>,
        transform: Option<&str>,
        session: &SessionState,
    ) -> Result<Self> {
        let transform = match transform {
            Some(sql) => Some(Input::new(sql, &given, session).await?),
            None => None,
        };
        let (schema, who) = match &transform {
            Some(input) => (input.transform.schema(), "the transform"),
            None => (given.schema, given.who),
        };
        let table = events.schema();
        let left_out = |name: &str| transform.is_some() && given.origin.iter().any(|f| f.name() == name);
        let sources = match_columns(schema, &table, who, events.table().name(), &left_out)?;
        Ok(Mapper { sources, options: events.options().clone(), table, transform, processing_time: None })
    }

    /// The same, with this column of the table saying when a row was ingested, whatever the input has for it. Fails if it is no
    /// column for a time.
    pub(super) fn with_processing_time(mut self, column: &str) -> Result<Self> {
        let index = self.table.index_of(column).map_err(|_| {
            Error::new(Kind::UndefinedColumn, format!("processing_time: the table has no column '{column}'"))
        })?;
        if !matches!(self.table.field(index).data_type(), DataType::Timestamp(..)) {
            return Err(Error::invalid_input(format!(
                "processing_time: column '{column}' is {}, not TIMESTAMP",
                sql_name(self.table.field(index).data_type())
            )));
        }
        self.processing_time = Some(index);
        Ok(self)
    }

    /// Makes the rows; `origin` has the columns of [`Given::origin`] for each row of the chunk, and is looked at by a
    /// transform only.
    pub(super) fn map(&self, chunk: &mut Chunk, origin: &[ArrayRef]) -> Result<Mapped> {
        let mut rejected = Rejected::default();
        let mut rows = Rows::all(chunk.batch.clone());
        if let Some(input) = &self.transform {
            rows = input.rows(rows, origin, &mut rejected)?;
            rows = input.transform.run(&rows, &mut rejected)?;
        }
        let mut rows = match self.processing_time {
            None => rows.cast(&self.table, &self.sources, &mut rejected)?,
            Some(index) => {
                let mut sources = self.sources.clone();
                sources[index] = Some(rows.batch.num_columns());
                with_now(rows)?.cast(&self.table, &sources, &mut rejected)?
            }
        };
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
        Ok(Mapped { rows, bad })
    }
}

/// What became of a chunk.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Rows to store.
    pub(super) rows: Rows,
    /// Lines that cannot be stored, in order.
    pub(super) bad: Vec<BadLine>,
}

/// The rows with one more column: the time of now.
fn with_now(rows: Rows) -> Result<Rows> {
    let Rows { batch, origin } = rows;
    let now = TimestampMicrosecondArray::from_value(chrono::Utc::now().timestamp_micros(), batch.num_rows());
    let now: ArrayRef = Arc::new(now.with_timezone("UTC"));
    let field = Field::new("now", now.data_type().clone(), false);
    let fields = batch.schema_ref().fields().iter().map(|f| f.as_ref().clone()).chain([field]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = batch.columns().iter().cloned().chain([now]).collect();
    Ok(Rows { batch: RecordBatch::try_new(schema, columns)?, origin })
}

impl Input {
    async fn new(sql: &str, given: &Given<'_>, session: &SessionState) -> Result<Self> {
        let mut fields: Vec<Field> = given.typed.fields().iter().map(|f| f.as_ref().clone()).collect();
        for field in &given.origin {
            if let Some(taken) = fields.iter().find(|f| f.name().eq_ignore_ascii_case(field.name())) {
                return Err(Error::not_supported(format!("{} has a column '{}'", given.who, taken.name()))
                    .with_hint(format!("{} is where a row came from; rename the other one", field.name())));
            }
            fields.push(field.clone());
        }
        let schema = Arc::new(Schema::new(fields));
        let transform = Transform::plan(sql, &schema, session).await.map_err(|e| e.context("transform"))?;
        Ok(Input { transform, typed: Arc::clone(given.typed), schema })
    }

    /// The rows of `input`.
    fn rows(&self, rows: Rows, origin_columns: &[ArrayRef], rejected: &mut Rejected) -> Result<Rows> {
        let all = rows.batch.num_rows();
        let Rows { batch, origin } = if rows.batch.schema_ref() == &self.typed {
            rows
        } else {
            let same: Vec<Option<usize>> = (0..self.typed.fields().len()).map(Some).collect();
            rows.cast(&self.typed, &same, rejected)?
        };
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for column in origin_columns {
            columns.push(match batch.num_rows() == all {
                true => Arc::clone(column),
                false => take(column, &origin, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(Rows { batch, origin })
    }
}

/// For each column of the table, which one of `given` has its name, whatever its case.
/// A column that the table has not may be there if `left_out` says so.
fn match_columns(
    given: &Schema,
    table: &Schema,
    who: &str,
    name: &str,
    left_out: &dyn Fn(&str) -> bool,
) -> Result<Vec<Option<usize>>> {
    let mut sources = vec![None; table.fields().len()];
    for (index, field) in given.fields().iter().enumerate() {
        let exact = table.fields().iter().position(|f| f.name() == field.name());
        let found =
            exact.or_else(|| table.fields().iter().position(|f| f.name().eq_ignore_ascii_case(field.name())));
        let Some(found) = found else {
            // `SELECT *` brings them along.
            if left_out(field.name()) {
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
        let matched = |names: &[&str]| match_columns(&text(names), &table, "the file", "t", &|_| false);
        assert_eq!(matched(&["NAME", "Id"]).unwrap(), [Some(1), Some(0)]);
        assert_eq!(matched(&["id"]).unwrap(), [Some(0), None]);
        assert!(matched(&["id", "nam"]).unwrap_err().message().contains("'nam'"));
        assert!(matched(&["id", "ID"]).unwrap_err().message().contains("two columns"));
        assert!(matched(&["name"]).unwrap_err().message().contains("'id' may not be NULL"));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)));
        let e =
            match_columns(&schema(&[("id", list, true)]), &table, "the file", "t", &|_| false).unwrap_err();
        assert!(e.message().contains("cannot become BIGINT"), "{}", e.message());
    }
}
