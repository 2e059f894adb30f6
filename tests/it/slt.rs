//! The corpus `tests/slt/*.slt`, which is the specification of SQL behaviour, run in process.
//!
//! Nothing here but [`InProcess`] knows how statements get to the engine: [`run_file`] takes any [`AsyncDB`], so that
//! the same corpus runs over the wire. Values are written as PostgreSQL's text format has them; an error reads
//! `SQLSTATE: message`, with ` (hint)` behind it where there is one.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Schema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use toplake::error::{Error, Result};
use toplake::statement::{Outcome, Session, parse};

use crate::harness::Home;

/// Runs one file of the corpus over connections that `connect` makes. `$DATA` in the file is the corpus' folder of
/// input files, `$OUT` a folder that is gone afterwards.
pub(crate) async fn run_file<D, F>(name: &str, out: &Path, connect: impl Fn() -> F)
where
    D: AsyncDB + Send,
    D::Error: Send,
    F: Future<Output = std::result::Result<D, D::Error>> + Send,
{
    let mut runner = Runner::new(connect);
    runner.set_var("DATA".into(), corpus().join("data").to_str().unwrap().into());
    runner.set_var("OUT".into(), out.to_str().unwrap().into());
    let file = corpus().join(format!("{name}.slt"));
    if let Err(e) = runner.run_file_async(&file).await {
        panic!("{}", e.display(false));
    }
    runner.shutdown_async().await;
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")
}

/// An error as the corpus names it.
#[derive(Debug)]
pub(crate) struct SltError {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl fmt::Display for SltError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sqlstate, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for SltError {}

impl From<Error> for SltError {
    fn from(e: Error) -> Self {
        SltError {
            sqlstate: e.kind().sqlstate().to_owned(),
            message: e.message().to_owned(),
            hint: e.hint().map(str::to_owned),
        }
    }
}

/// A session of an engine in this process.
pub(crate) struct InProcess {
    pub(crate) session: Session,
    /// By which a record can say that it is not for this one: `skipif`.
    pub(crate) name: &'static str,
}

#[async_trait]
impl AsyncDB for InProcess {
    type Error = SltError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> std::result::Result<DBOutput<DefaultColumnType>, SltError> {
        Ok(execute(&self.session, sql).await?)
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.name
    }

    fn error_sql_state(e: &SltError) -> Option<String> {
        Some(e.sqlstate.clone())
    }
}

async fn execute(session: &Session, sql: &str) -> Result<DBOutput<DefaultColumnType>> {
    let mut output = DBOutput::StatementComplete(0);
    for statement in parse(sql)? {
        output = match session.execute(&statement, &[]).await? {
            Outcome::Done { rows, .. } => DBOutput::StatementComplete(rows.unwrap_or(0)),
            Outcome::Rows { stream, .. } => {
                let types = column_types(&stream.schema());
                let batches: Vec<RecordBatch> = stream.try_collect().await?;
                DBOutput::Rows { types, rows: batches.iter().flat_map(text_rows).collect() }
            }
            Outcome::CopyIn(_) | Outcome::CopyOut { .. } => panic!("COPY is not for the corpus"),
        };
    }
    Ok(output)
}

fn column_types(schema: &Schema) -> Vec<DefaultColumnType> {
    let of = |t: &DataType| match t {
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_numeric() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    };
    schema.fields().iter().map(|f| of(f.data_type())).collect()
}

/// Rows in PostgreSQL's text format.
fn text_rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:::z"));
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    let value = |column: usize, row: usize| {
        let array = batch.column(column);
        match array.data_type() {
            _ if array.is_null(row) => "NULL".to_owned(),
            DataType::Boolean => if array.as_boolean().value(row) { "t" } else { "f" }.to_owned(),
            DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
            _ => match columns[column].value(row).to_string() {
                empty if empty.is_empty() => "(empty)".to_owned(),
                text => text,
            },
        }
    };
    (0..batch.num_rows()).map(|row| (0..columns.len()).map(|column| value(column, row)).collect()).collect()
}

async fn in_process(name: &str) {
    let (home, out) = (Home::new(), tempfile::tempdir().unwrap());
    let desk = home.desk().await;
    run_file(name, out.path(), || async {
        let session = Session::new(desk.engine.context(), desk.engine.warehouse().clone());
        Ok(InProcess { session, name: "toplake" })
    })
    .await;
}

/// One test a file.
macro_rules! corpus {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                in_process(stringify!($name)).await;
            }
        )*

        /// The files of the corpus.
        pub(crate) const FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

corpus! {
    alter_table,
    call,
    completeness,
    create_table,
    delete,
    drop,
    errors,
    external,
    insert,
    late,
    leaderboard,
    postgres,
    refresh,
    rollup,
    rollup_over_rollup,
    settings,
    system_tables,
    time_bucket,
    views,
}

#[test]
fn every_file_of_the_corpus_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(corpus())
        .unwrap()
        .filter_map(|f| f.unwrap().file_name().to_str().unwrap().strip_suffix(".slt").map(str::to_owned))
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}
