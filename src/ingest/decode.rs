//! A file into chunks of rows. Text is read and decoded on a thread of its own, a few chunks ahead of who takes them.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::LineDelimitedWriter;
use futures::StreamExt;
use object_store::{GetResultPayload, ObjectStoreExt};
use tokio::sync::{mpsc, oneshot};

use super::csv::CsvDecoder;
use super::files::{Compression, Format, InputFile};
use super::lines::{Limits, RawChunk, Records};
use super::ndjson::NdjsonDecoder;
use crate::error::{Error, Result};

/// Chunks that may wait to be taken.
const AHEAD: usize = 2;

/// Blocks of a remote file that may wait to be decoded.
const BLOCKS_AHEAD: usize = 8;

/// Input that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadLine {
    /// The 1-based number of the line it begins on, or of the row.
    pub(super) line: i64,
    /// Why.
    pub(super) reason: String,
    /// The line, or the row as JSON.
    pub(super) payload: Option<String>,
}

/// Rows that are handled together.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The rows that could be decoded.
    pub(super) batch: RecordBatch,
    /// The 1-based line or row number of each.
    pub(super) lines: Vec<i64>,
    /// What each was made from.
    pub(super) payload: Payload,
    /// What could not be decoded.
    pub(super) bad: Vec<BadLine>,
    /// Lines or rows of the file up to the end of this chunk.
    pub(super) position: i64,
}

/// What rows were made from.
#[derive(Debug)]
pub(super) enum Payload {
    /// The lines.
    Text { bytes: Vec<u8>, spans: Vec<Range<usize>> },
    /// Nothing that a person could read: shown as JSON.
    Rows,
}

impl Chunk {
    /// Lines or rows in it, good and bad.
    pub(super) fn len(&self) -> usize {
        self.lines.len() + self.bad.len()
    }

    /// What a row was made from, for its dead letter.
    pub(super) fn payload(&self, row: usize) -> Option<String> {
        match &self.payload {
            Payload::Text { bytes, spans } => spans.get(row).map(|span| text_of(bytes, span)),
            Payload::Rows => {
                let mut writer = LineDelimitedWriter::new(vec![]);
                writer.write(&self.batch.slice(row, 1)).ok()?;
                writer.finish().ok()?;
                String::from_utf8(writer.into_inner()).ok().map(|s| s.trim_end().to_owned())
            }
        }
    }
}

/// A stretch of bytes, as far as it is text.
pub(super) fn text_of(bytes: &[u8], range: &Range<usize>) -> String {
    String::from_utf8_lossy(&bytes[range.clone()]).into_owned()
}

/// What the rows are for; decides how ndjson is typed.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// The table's own columns.
    Columns(SchemaRef),
    /// The columns of the file, for a transform.
    Input,
}

/// Decodes records of text.
pub(super) trait TextDecoder: Send {
    /// The columns that [`Self::decode`] gives.
    fn schema(&self) -> &SchemaRef;
    /// The types that they stand for.
    fn typed(&self) -> &SchemaRef;
    /// Decodes a chunk.
    fn decode(&mut self, raw: RawChunk) -> Result<Chunk>;
}

/// A file that is being decoded.
pub(super) struct Decoding {
    /// The columns of the chunks.
    pub(super) schema: SchemaRef,
    /// The types that they stand for: numbers in ndjson come as text, so that no digit is lost.
    pub(super) typed: SchemaRef,
    /// The chunks, in order.
    pub(super) chunks: mpsc::Receiver<Result<Chunk>>,
}

/// Where and how to decode.
pub(super) struct Plan {
    /// What the rows are for.
    pub(super) wanted: Wanted,
    /// Lines or rows that are passed over.
    pub(super) from: i64,
    /// Rows of a chunk.
    pub(super) rows: usize,
    /// Counts the bytes read.
    pub(super) read: Arc<AtomicU64>,
}

/// Begins to decode a file; `None` if there is nothing in it.
pub(super) async fn open(file: &InputFile, plan: Plan) -> Result<Option<Decoding>> {
    let delimiter = match file.format {
        Format::Parquet => return super::parquet::open(file, plan).await.map(Some),
        Format::Csv { delimiter } => Some(delimiter),
        Format::Ndjson => None,
    };
    let Plan { wanted, from, rows, read } = plan;
    let limits = Limits { rows, ..Default::default() };
    let bytes = Counted { inner: raw(file).await?, read, left: file.size };
    let compression = file.compression;
    let (opened, columns) = oneshot::channel();
    let (sender, chunks) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let begun = begin(bytes, compression, delimiter, limits, wanted);
        let (mut decoder, mut records, mut next) = match begun {
            Ok(Some(begun)) => begun,
            other => return drop(opened.send(other.map(|_| None))),
        };
        let schemas = (Arc::clone(decoder.schema()), Arc::clone(decoder.typed()));
        if opened.send(Ok(Some(schemas))).is_err() {
            return;
        }
        loop {
            next.skip_through(from);
            if !(next.spans.is_empty() && next.bad.is_empty()) {
                let line = next.position;
                let chunk = decoder.decode(next).map_err(|e| e.context(format!("before line {line}")));
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
            match records.next_chunk() {
                Ok(None) => return,
                Ok(Some(chunk)) => next = chunk,
                Err(e) => return drop(sender.blocking_send(Err(cannot_read(e)))),
            }
        }
    });
    let columns = columns.await.map_err(|_| Error::internal("the decoder has stopped"))??;
    Ok(columns.map(|(schema, typed)| Decoding { schema, typed, chunks }))
}

type Begun = (Box<dyn TextDecoder>, Records, RawChunk);

/// Reads the first chunk, which says what the columns are.
fn begin(
    bytes: Counted,
    compression: Compression,
    delimiter: Option<u8>,
    limits: Limits,
    wanted: Wanted,
) -> Result<Option<Begun>> {
    let read: Box<dyn Read + Send> = match compression {
        Compression::None => Box::new(bytes),
        Compression::Gzip => {
            let buffered = io::BufReader::with_capacity(1 << 16, bytes);
            Box::new(flate2::bufread::MultiGzDecoder::new(buffered))
        }
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes)?),
    };
    let mut records = Records::new(read, delimiter, limits);
    let Some(mut first) = records.next_chunk().map_err(cannot_read)? else { return Ok(None) };
    if first.bytes.starts_with(b"\xEF\xBB\xBF")
        && let Some(span) = first.spans.first_mut()
        && span.range.start == 0
    {
        span.range.start = 3;
    }
    let decoder: Box<dyn TextDecoder> = match delimiter {
        Some(delimiter) => Box::new(CsvDecoder::new(&mut first, delimiter)?),
        None => Box::new(NdjsonDecoder::new(&first, wanted)?),
    };
    Ok(Some((decoder, records, first)))
}

fn cannot_read(e: io::Error) -> Error {
    if e.raw_os_error().is_some() || e.kind() == io::ErrorKind::ConnectionAborted {
        Error::storage(format!("cannot be read: {e}"))
    } else {
        Error::corrupt(format!("cannot be read: {e}"))
            .with_hint("the file is damaged, or not compressed as its name says")
    }
}

/// The bytes of a file as they are stored.
async fn raw(file: &InputFile) -> Result<Box<dyn Read + Send>> {
    let found = file.store.get(&file.path).await?;
    file.check_size(found.meta.size)?;
    match found.payload {
        GetResultPayload::File(file, _) => Ok(Box::new(file)),
        GetResultPayload::Stream(mut blocks) => {
            let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
            tokio::spawn(async move {
                while let Some(block) = blocks.next().await {
                    let failed = block.is_err();
                    if sender.send(block).await.is_err() || failed {
                        return;
                    }
                }
            });
            Ok(Box::new(Blocks { receiver, block: Bytes::new() }))
        }
    }
}

/// A remote file as it comes in.
struct Blocks {
    receiver: mpsc::Receiver<object_store::Result<Bytes>>,
    block: Bytes,
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(block) => self.block = block.map_err(lost)?,
            }
        }
        let n = self.block.len().min(out.len());
        self.block.copy_to_slice(&mut out[..n]);
        Ok(n)
    }
}

/// An error of the store, not of what is stored.
fn lost(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, e)
}

/// Counts bytes, and takes an early end for the error that it is.
struct Counted {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    left: u64,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut out[..room])?;
        if n == 0 {
            return Err(lost(format!("it ended {} bytes early", self.left)));
        }
        self.left -= n as u64;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
