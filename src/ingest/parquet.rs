//! Parquet: row groups are read as they are needed; what was ingested before is not read again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt};
use object_store::ObjectStoreExt;
use tokio::sync::mpsc;

use super::decode::{Chunk, Decoding, Payload, Plan};
use super::files::InputFile;
use crate::error::{Error, Result};

/// Begins to decode a file.
pub(super) async fn open(file: &InputFile, plan: Plan) -> Result<Decoding> {
    let Plan { from, read, .. } = plan;
    file.check_size(file.store.head(&file.path).await?.size)?;
    let builder = ParquetRecordBatchStreamBuilder::new(Reader(file.clone())).await.map_err(cannot_read)?;
    let total = builder.metadata().file_metadata().num_rows().max(1);
    let skipped = usize::try_from(from).map_err(|_| Error::internal("a position below zero"))?;
    let mut rows = builder.with_batch_size(plan.rows).with_offset(skipped).build().map_err(cannot_read)?;
    let schema = Arc::clone(rows.schema());
    let (size, (sender, chunks)) = (file.size, mpsc::channel(1));
    tokio::spawn(async move {
        let mut position = from;
        let seen = |position: i64| (i128::from(size) * i128::from(position) / i128::from(total)) as u64;
        read.fetch_add(seen(position), Ordering::Relaxed);
        while let Some(batch) = rows.next().await {
            let chunk = batch.map_err(cannot_read).map(|batch| {
                let first = position + 1;
                let before = seen(position);
                position += batch.num_rows() as i64;
                read.fetch_add(seen(position) - before, Ordering::Relaxed);
                Chunk {
                    batch,
                    lines: (first..=position).collect(),
                    payload: Payload::Rows,
                    bad: vec![],
                    position,
                }
            });
            let failed = chunk.is_err();
            if sender.send(chunk).await.is_err() || failed {
                return;
            }
        }
    });
    Ok(Decoding { typed: Arc::clone(&schema), schema, chunks })
}

fn cannot_read(e: ParquetError) -> Error {
    match e {
        ParquetError::External(inner) if inner.is::<object_store::Error>() => {
            Error::storage(format!("cannot be read: {inner}"))
        }
        e => Error::corrupt(format!("cannot be read: {e}"))
            .with_hint("the file is damaged, or not of this format"),
    }
}

/// Reads stretches of a file.
struct Reader(InputFile);

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.0.store.get_range(&self.0.path, range).map_err(|e| ParquetError::External(Box::new(e))).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let found = self.0.store.get_ranges(&self.0.path, &ranges).await;
            found.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.0.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
