//! Cursors of SQL: `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.
//!
//! A cursor is a portal that a statement made, and a stream of the engine under it. It reads on as far as somebody wants
//! rows, so a cursor over a large result costs what is fetched. To go back it keeps the rows that it has given: all of them
//! where it was declared with SCROLL, for as long as memory lets it; some where nothing was said; none with NO SCROLL.

pub(super) mod statements;

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::sync::Mutex;

use super::error::{Failure, state};

/// Rows that a cursor keeps, in bytes, if it was not said whether it has to go back.
const FEW: usize = 4 << 20;

/// Where to go from where the cursor is, and which rows to give on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// So many of the next rows; none is all.
    Forward(Option<u64>),
    /// So many of the rows before, the nearest first; none is all.
    Backward(Option<u64>),
    /// The row of this number, from the end if it is negative.
    Absolute(i64),
    /// The row that is so far from here.
    Relative(i64),
}

/// How far back a cursor can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scroll {
    /// `NO SCROLL`
    Never,
    /// As far as the rows it happens to have.
    Perhaps,
    /// `SCROLL`
    Always,
}

/// A result and a place in it.
pub(super) struct Cursor {
    rows: SendableRecordBatchStream,
    scroll: Scroll,
    /// Rows that were read and not forgotten, and the number of rows in front of each batch.
    kept: VecDeque<(u64, RecordBatch)>,
    /// For what is kept.
    memory: Option<MemoryReservation>,
    bytes: usize,
    /// Rows that were read.
    read: u64,
    /// Whether there are no more.
    drained: bool,
    /// The row that the cursor is on, from 1 on: 0 in front of the first, one more than there are behind the last.
    at: u64,
}

impl Cursor {
    pub(super) fn new(
        rows: SendableRecordBatchStream,
        scroll: Scroll,
        pool: Option<&Arc<dyn MemoryPool>>,
    ) -> Self {
        let memory = pool.map(|pool| MemoryConsumer::new("cursor").register(pool));
        Cursor { rows, scroll, kept: VecDeque::new(), memory, bytes: 0, read: 0, drained: false, at: 0 }
    }

    /// Goes somewhere and gives the rows of the way; those in front are read when they are asked for.
    pub(super) async fn fetch(
        cursor: &Arc<Mutex<Self>>,
        direction: Direction,
    ) -> Result<SendableRecordBatchStream, Failure> {
        let mut here = cursor.lock().await;
        let schema = here.rows.schema();
        let at = here.at;
        let found = match direction {
            Direction::Forward(count) => {
                drop(here);
                return Ok(Self::forward(Arc::clone(cursor), schema, count));
            }
            Direction::Backward(count) => here.back(count.unwrap_or(u64::MAX))?,
            Direction::Relative(0) => here.again()?,
            Direction::Relative(n) => here.go_to(at.saturating_add_signed(n)).await?,
            Direction::Absolute(n) if n >= 0 => here.go_to(n.unsigned_abs()).await?,
            Direction::Absolute(n) => {
                here.drain().await?;
                let number = (here.read + 1).saturating_sub(n.unsigned_abs());
                here.go_to(number).await?
            }
        };
        let found = futures::stream::iter(found.map(Ok));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, found)))
    }

    fn forward(cursor: Arc<Mutex<Self>>, schema: SchemaRef, count: Option<u64>) -> SendableRecordBatchStream {
        let rows = futures::stream::try_unfold((cursor, count), |(cursor, left)| async move {
            let batch = cursor.lock().await.next(left.unwrap_or(u64::MAX)).await?;
            Ok::<_, DataFusionError>(batch.map(|batch| {
                let left = left.map(|left| left - batch.num_rows() as u64);
                (batch, (cursor, left))
            }))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// At most so many of the next rows, as many as lie together; none at the end, which is behind the last row.
    async fn next(&mut self, most: u64) -> Result<Option<RecordBatch>, DataFusionError> {
        if most == 0 {
            return Ok(None);
        }
        loop {
            if let Some((start, batch)) =
                self.kept.iter().find(|(s, b)| (*s..*s + rows(b)).contains(&self.at))
            {
                let from = self.at - start;
                let count = most.min(rows(batch) - from);
                self.at += count;
                return Ok(Some(batch.slice(from as usize, count as usize)));
            }
            if !self.read_on().await? {
                self.at = self.read + 1;
                return Ok(None);
            }
        }
    }

    /// Reads a batch; false if there is none.
    async fn read_on(&mut self) -> Result<bool, DataFusionError> {
        if self.drained {
            return Ok(false);
        }
        let Some(batch) = self.rows.next().await.transpose()? else {
            self.drained = true;
            return Ok(false);
        };
        self.make_room(batch.get_array_memory_size())?;
        let start = self.read;
        self.read += rows(&batch);
        self.kept.push_back((start, batch));
        Ok(true)
    }

    /// Forgets what need not be kept, so that so many more bytes can be.
    fn make_room(&mut self, bytes: usize) -> Result<(), DataFusionError> {
        let keep = match self.scroll {
            Scroll::Never => false,
            Scroll::Perhaps => self.bytes + bytes <= FEW,
            Scroll::Always => true,
        };
        if !keep {
            self.kept.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        match &self.memory {
            Some(memory) if self.scroll == Scroll::Always => memory.try_resize(self.bytes),
            Some(memory) => {
                memory.resize(self.bytes);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// So many of the rows in front of this one, the nearest first.
    fn back(&mut self, count: u64) -> Result<Option<RecordBatch>, Failure> {
        if self.scroll == Scroll::Never && count > 0 {
            return Err(cannot_go_back());
        }
        let first = self.at.saturating_sub(count);
        // Row n has n - 1 rows in front of it.
        let wanted = first.max(1) - 1..self.at.max(1) - 1;
        let found = self.between(wanted)?;
        self.at = first;
        let Some(found) = found else { return Ok(None) };
        let backwards = UInt64Array::from_iter_values((0..rows(&found)).rev());
        Ok(Some(take_record_batch(&found, &backwards)?))
    }

    /// The row that the cursor is on.
    fn again(&mut self) -> Result<Option<RecordBatch>, Failure> {
        match self.at == 0 || self.at > self.read {
            true => Ok(None),
            false => self.between(self.at - 1..self.at),
        }
    }

    /// Goes to the row of this number; 0 is in front of the first.
    async fn go_to(&mut self, number: u64) -> Result<Option<RecordBatch>, Failure> {
        if self.scroll == Scroll::Never && number <= self.at && self.at > 0 {
            return Err(cannot_go_back());
        }
        if number == 0 {
            self.check_kept(0)?;
            self.at = 0;
            return Ok(None);
        }
        if number <= self.at {
            self.check_kept(number - 1)?;
            self.at = number - 1;
        }
        while self.at < number - 1 {
            if self.next(number - 1 - self.at).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(self.next(1).await?)
    }

    /// Reads all that is left.
    async fn drain(&mut self) -> Result<(), Failure> {
        while self.read_on().await? {}
        Ok(())
    }

    /// Rows by the number of rows in front of them.
    fn between(&self, range: std::ops::Range<u64>) -> Result<Option<RecordBatch>, Failure> {
        if range.is_empty() {
            return Ok(None);
        }
        self.check_kept(range.start)?;
        let parts = self.kept.iter().filter_map(|(start, batch)| {
            let (from, to) = (range.start.max(*start), range.end.min(start + rows(batch)));
            (from < to).then(|| batch.slice((from - start) as usize, (to - from) as usize))
        });
        let parts: Vec<RecordBatch> = parts.collect();
        Ok(Some(concat_batches(&self.rows.schema(), &parts)?))
    }

    /// Whether the row with so many in front of it was not forgotten.
    fn check_kept(&self, row: u64) -> Result<(), Failure> {
        let first = self.kept.front().map_or(self.read, |(start, _)| *start);
        match row >= first {
            true => Ok(()),
            false => Err(cannot_go_back()),
        }
    }
}

fn rows(batch: &RecordBatch) -> u64 {
    batch.num_rows() as u64
}

fn cannot_go_back() -> Failure {
    Failure::new(state::NOT_IN_STATE, "cursor can only scan forward")
        .with_hint("declare it with SCROLL to enable backward scan")
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use futures::TryStreamExt;

    /// A cursor over 1, 2, … in batches of three.
    fn over(count: i64, scroll: Scroll) -> Arc<Mutex<Cursor>> {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batches: Vec<_> = (1..=count)
            .collect::<Vec<_>>()
            .chunks(3)
            .map(|c| RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(c.to_vec()))]))
            .map(|b| b.map_err(DataFusionError::from))
            .collect();
        let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches));
        Arc::new(Mutex::new(Cursor::new(Box::pin(stream), scroll, None)))
    }

    async fn fetch(cursor: &Arc<Mutex<Cursor>>, direction: Direction) -> Result<Vec<i64>, Failure> {
        let batches: Vec<_> = Cursor::fetch(cursor, direction).await?.try_collect().await?;
        Ok(batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect())
    }

    #[tokio::test]
    async fn rows_come_as_they_would_from_a_list() {
        use Direction::*;
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for count in [0i64, 1, 3, 8] {
            let cursor = over(count, Scroll::Always);
            // Where a list says that the cursor is.
            let mut at = 0i64;
            for _ in 0..500 {
                let n = random(6) as i64;
                let direction = match random(7) {
                    0 => Forward(Some(n as u64)),
                    1 => Forward(None),
                    2 => Backward(Some(n as u64)),
                    3 => Backward(None),
                    4 => Absolute(n - 3),
                    5 => Relative(n - 3),
                    _ => Forward(Some(1)),
                };
                let one = |row: i64| -> Vec<i64> {
                    (1..=count).contains(&row).then_some(row).into_iter().collect()
                };
                let (expected, to) = match direction {
                    Forward(n) => {
                        let last = n.map_or(count + 1, |n| (at + n as i64).min(count + 1));
                        ((at + 1..=last.min(count)).collect(), last)
                    }
                    Backward(n) => {
                        let first = n.map_or(0, |n| (at - n as i64).max(0));
                        ((first.max(1)..at).rev().collect(), first)
                    }
                    Absolute(n) if n < 0 => (one((count + 1 + n).max(0)), (count + 1 + n).max(0)),
                    Absolute(n) => (one(n), n.min(count + 1)),
                    Relative(n) => (one(at + n), (at + n).clamp(0, count + 1)),
                };
                assert_eq!(
                    fetch(&cursor, direction).await.unwrap(),
                    expected,
                    "{direction:?} at {at} of {count}"
                );
                at = to;
            }
        }
    }

    #[tokio::test]
    async fn one_that_goes_forward_only_forgets() {
        let cursor = over(9, Scroll::Never);
        assert_eq!(fetch(&cursor, Direction::Forward(Some(5))).await.unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(cursor.lock().await.kept.len(), 1);
        let failure = fetch(&cursor, Direction::Backward(Some(1))).await.unwrap_err();
        assert_eq!(failure.sqlstate, "55000");
        assert!(fetch(&cursor, Direction::Absolute(2)).await.is_err());
        assert_eq!(fetch(&cursor, Direction::Absolute(8)).await.unwrap(), [8]);
        assert_eq!(fetch(&cursor, Direction::Forward(None)).await.unwrap(), [9]);
    }

    #[tokio::test]
    async fn rows_read_on_the_way_are_there_behind_the_end() {
        let cursor = over(7, Scroll::Perhaps);
        assert_eq!(fetch(&cursor, Direction::Absolute(-2)).await.unwrap(), [6]);
        assert_eq!(fetch(&cursor, Direction::Backward(None)).await.unwrap(), [5, 4, 3, 2, 1]);
        assert_eq!(fetch(&cursor, Direction::Forward(Some(2))).await.unwrap(), [1, 2]);
    }
}
