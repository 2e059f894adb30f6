//! Dead letters on their way: their files are written first, and the commit of the good rows names them.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};

use super::decode::BadLine;
use crate::catalog::dead_letters;
use crate::catalog::side_table::SideTable;
use crate::catalog::sources::topic_of;
use crate::error::Result;
use crate::lake::action::Add;
use crate::lake::writer::FileWriter;

/// Writes the dead letters of one commit.
pub(super) struct Outbox {
    writer: FileWriter,
    table: String,
    source: String,
    /// Which partition of a stream the source is.
    partition: Option<i64>,
}

impl Outbox {
    /// For lines of the file `source` that were meant for `table`, or for messages of a partition of the stream `source`.
    pub(super) fn new(letters: &SideTable, table: &str, source: &str, partition: Option<i64>) -> Self {
        let writer = FileWriter::new(letters.store(), Arc::clone(&dead_letters::SCHEMA), None);
        Outbox { writer, table: table.to_owned(), source: source.to_owned(), partition }
    }

    /// Adds lines.
    pub(super) async fn write(&mut self, bad: &[BadLine]) -> Result<()> {
        if bad.is_empty() {
            return Ok(());
        }
        let now = chrono::Utc::now().timestamp_micros();
        let same =
            |text: &str| Arc::new(StringViewArray::from_iter_values(bad.iter().map(|_| text))) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_value(now, bad.len()).with_timezone("UTC")),
            same(&self.table),
            same(&self.source),
            Arc::new(Int64Array::from_iter_values(bad.iter().map(|b| b.line))),
            Arc::new(StringViewArray::from_iter_values(bad.iter().map(|b| &b.reason))),
            Arc::new(StringViewArray::from_iter(bad.iter().map(|b| b.payload.as_deref()))),
            Arc::new(StringViewArray::from_iter(bad.iter().map(|_| topic_of(&self.source)))),
            Arc::new(Int64Array::from_iter(bad.iter().map(|_| self.partition))),
        ];
        self.writer.write(&RecordBatch::try_new(Arc::clone(&dead_letters::SCHEMA), columns)?).await
    }

    /// What the commit has to name.
    pub(super) async fn finish(self) -> Result<Vec<Add>> {
        self.writer.finish().await
    }

    /// Gives up.
    pub(super) async fn abandon(self) {
        self.writer.abandon().await;
    }
}
