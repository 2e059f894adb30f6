//! Writing rows into the files of a table. A file is part of the table only once a commit names it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use futures::StreamExt;
use object_store::buffered::BufWriter;

use super::action::Add;
use super::scan::locate;
use super::schema;
use super::snapshot::PART;
use super::stats::StatsCollector;
use super::store::Store;
use super::table::now_ms;
use crate::error::{Error, Kind, Result};

/// A file is closed when it has about this many bytes.
pub const TARGET_BYTES: usize = 128 << 20;

/// Writes the files of one piece of work.
pub struct FileWriter {
    store: Store,
    /// As shown to users: NOT NULL is checked against it.
    schema: SchemaRef,
    /// As stored.
    file_schema: SchemaRef,
    part: Option<&'static str>,
    bloom_filters: Vec<String>,
    open: Option<OpenFile>,
    adds: Vec<Add>,
    rows: u64,
}

struct OpenFile {
    path: String,
    writer: AsyncArrowWriter<BufWriter>,
    stats: StatsCollector,
}

impl FileWriter {
    /// A writer of rows of `schema` into the table at `store`; `part` marks the files in `replace` commits.
    pub fn new(store: &Store, schema: SchemaRef, part: Option<&'static str>) -> Self {
        let file_schema = schema::file_schema(&schema);
        FileWriter {
            store: store.clone(),
            schema,
            file_schema,
            part,
            bloom_filters: vec![],
            open: None,
            adds: vec![],
            rows: 0,
        }
    }

    /// Puts bloom filters on these columns. They take memory while a file is written, so only files that are to stay have
    /// them.
    pub fn with_bloom_filters(mut self, columns: Vec<String>) -> Self {
        self.bloom_filters = columns;
        self
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes a batch; its columns are matched by position and cast to the table's types.
    ///
    /// Fails on a value that does not fit ([`Kind::InvalidValue`]) and on a NULL in a column that may have none.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = conform(batch, &self.schema)?;
        let batch = conform(&batch, &self.file_schema)?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        open.stats.update(&batch)?;
        open.writer.write(&batch).await?;
        self.rows += batch.num_rows() as u64;
        self.open = Some(open);
        if self.open_bytes() >= TARGET_BYTES { self.cut().await } else { Ok(()) }
    }

    /// About how many bytes the open file has.
    pub fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.writer.bytes_written() + open.writer.in_progress_size())
    }

    /// Closes the open file: what is written next goes into another one.
    pub async fn cut(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.adds.push(open.close(self.part).await?);
        }
        Ok(())
    }

    /// Writes a whole stream.
    pub async fn write_all(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.next().await {
            self.write(&batch?).await?;
        }
        Ok(())
    }

    /// Closes the last file and gives what a commit has to name.
    pub async fn finish(mut self) -> Result<Vec<Add>> {
        self.cut().await?;
        Ok(self.adds)
    }

    /// Gives up: removes what was written. What cannot be removed now is left to VACUUM.
    pub async fn abandon(mut self) {
        if let Some(open) = self.open.take()
            && let Err(e) = open.writer.into_inner().abort().await
        {
            tracing::debug!(error = %e, "could not abort a file");
        }
        discard(&self.store, &self.adds).await;
    }

    fn start(&self) -> Result<OpenFile> {
        let path = format!("part-{}.zstd.parquet", uuid::Uuid::now_v7());
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(super::table::engine_info());
        for column in &self.bloom_filters {
            properties =
                properties.set_column_bloom_filter_enabled(ColumnPath::new(vec![column.clone()]), true);
        }
        let buffer = BufWriter::new(Arc::clone(self.store.object_store()), self.store.path(&path));
        let writer =
            AsyncArrowWriter::try_new(buffer, Arc::clone(&self.file_schema), Some(properties.build()))?;
        Ok(OpenFile { path, writer, stats: StatsCollector::try_new(&self.file_schema)? })
    }
}

impl OpenFile {
    async fn close(mut self, part: Option<&'static str>) -> Result<Add> {
        self.writer.finish().await?;
        let tags = part.map(|part| [(PART.to_owned(), Some(part.to_owned()))].into());
        Ok(Add {
            path: self.path,
            size: self.writer.bytes_written() as i64,
            modification_time: now_ms(),
            data_change: true,
            stats: Some(self.stats.finish()?),
            tags,
            ..Default::default()
        })
    }
}

/// Removes files that no commit names. What cannot be removed now is left to VACUUM.
pub async fn discard(store: &Store, adds: &[Add]) {
    let paths = adds.iter().filter_map(|a| locate(store, &a.path).ok()).collect();
    if let Err(e) = store.delete_all(paths).await {
        tracing::debug!(error = %e, "could not remove files that were not committed");
    }
}

/// Microseconds in UTC are the same numbers with and without the zone's name. The engine's cast would look the zone up for
/// each of them.
fn in_utc(array: &ArrayRef, wanted: &DataType) -> Option<ArrayRef> {
    let utc = |zone: &Option<Arc<str>>| matches!(zone.as_deref(), None | Some("UTC" | "+00:00" | "Z"));
    match (array.data_type(), wanted) {
        (
            DataType::Timestamp(TimeUnit::Microsecond, from),
            DataType::Timestamp(TimeUnit::Microsecond, to),
        ) if utc(from) && utc(to) => {
            let times = array.as_primitive::<TimestampMicrosecondType>().clone();
            Some(Arc::new(times.with_timezone_opt(to.clone())))
        }
        _ => None,
    }
}

/// Casts a batch to `schema`, column by column, and checks NOT NULL.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::invalid_input(format!(
            "rows have {} columns where the table has {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let strict = CastOptions { safe: false, ..Default::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| -> Result<ArrayRef> {
        if !field.is_nullable() && array.null_count() > 0 {
            return Err(Error::not_null(format!("column '{}' may not be NULL", field.name())));
        }
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        if let Some(relabelled) = in_utc(array, field.data_type()) {
            return Ok(relabelled);
        }
        cast_with_options(array, field.data_type(), &strict)
            .map_err(|e| Error::from(e).context(format!("column '{}'", field.name())))
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| Error::new(Kind::Internal, e.to_string()))
}
