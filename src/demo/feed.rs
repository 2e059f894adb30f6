//! Puts generated events into a table, and remembers with each commit up to when.
//!
//! The position `toplake.demo` (microseconds) moves in the commit of the rows, so a demo that is stopped at any moment
//! carries on where it was: nothing is missing and nothing is there twice.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use super::Sample;
use super::clicks::Clicks;
use super::generator::{Generator, rhythm};
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::{Change, Position};
use crate::lake::table::Table;
use crate::lake::writer::FileWriter;

/// The generator's seed: every demo sells the same products.
const SEED: u64 = 42;
/// Products in the demo.
const PRODUCTS: usize = 100_000;
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// Event ids are taken in blocks, one for each start, so that two starts never give the same one.
const ID_BLOCK: i64 = 1 << 40;

/// The name of the position.
const POSITION: &str = "toplake.demo";
/// The name of the number of starts.
const STARTS: &str = "toplake.demo.starts";

/// Feeds one table.
pub struct Feed {
    table: Arc<Table>,
    sample: Option<Box<dyn Sample>>,
    /// Up to when events were made, in microseconds.
    through: Option<i64>,
}

impl Feed {
    /// A feed for `table`, which must have the columns of the pack's `sales`.
    pub async fn sales(table: Arc<Table>) -> Result<Self> {
        let sales = |start| Generator::new(SEED, PRODUCTS).with_next_event_id(start * ID_BLOCK);
        Self::start(table, |start| Box::new(sales(start))).await
    }

    /// A feed for `table`, which must have the columns of the pack's `ad_clicks`.
    pub async fn clicks(table: Arc<Table>) -> Result<Self> {
        Self::start(table, |start| Box::new(Clicks::new(SEED, start))).await
    }

    /// `sample` makes the events of the start of this number.
    async fn start(table: Arc<Table>, sample: impl Fn(i64) -> Box<dyn Sample>) -> Result<Self> {
        loop {
            let now = table.update().await?;
            let starts = now.position(&app(STARTS, &now.metadata.id));
            let next = starts.unwrap_or(0) + 1;
            let mut change = Change::new(CommitKind::Append, "DEMO START", &now);
            change.positions = vec![Position { app: app(STARTS, &now.metadata.id), from: starts, to: next }];
            match table.commit(&change).await {
                Err(e) if e.kind() == Kind::Conflict => continue,
                done => done?,
            };
            let through = now.position(&app(POSITION, &now.metadata.id));
            return Ok(Feed { table, sample: Some(sample(next)), through });
        }
    }

    /// Up to when there are events, in microseconds; `None` if there are none.
    pub fn through(&self) -> Option<i64> {
        self.through
    }

    /// Makes about `rows` events between `from` and `to` (microseconds), in a commit for each day, with the shop's rhythm;
    /// `progress` is told how many there are so far.
    pub async fn backfill(&mut self, from: i64, to: i64, rows: u64, progress: impl Fn(u64)) -> Result<()> {
        let days: Vec<(i64, i64)> =
            (0..).map(|d| from + d * DAY).take_while(|t| *t < to).map(|t| (t, to.min(t + DAY))).collect();
        let weights: Vec<f64> = days.iter().map(|(a, b)| weight(*a, *b)).collect();
        let total: f64 = weights.iter().sum();
        let mut done = 0;
        for ((begin, end), weight) in days.into_iter().zip(weights) {
            let rows = (rows as f64 * weight / total).round() as u64;
            self.make(end, move |sample| sample.backfill(begin, end, rows)).await?;
            done += rows;
            progress(done);
        }
        Ok(())
    }

    /// Makes `rows` events of the second that ends at `now` (microseconds).
    pub async fn live(&mut self, now: i64, rows: usize) -> Result<()> {
        self.make(now, move |sample| Ok(vec![sample.live(now, rows)?])).await
    }

    /// Generates off the runtime's threads and commits.
    async fn make<F>(&mut self, through: i64, make: F) -> Result<()>
    where
        F: FnOnce(&mut dyn Sample) -> Result<Vec<RecordBatch>> + Send + 'static,
    {
        let mut sample = self.sample.take().ok_or_else(|| Error::internal("the generator is gone"))?;
        let made = tokio::task::spawn_blocking(move || {
            let made = make(sample.as_mut());
            (sample, made)
        });
        let (sample, made) = made.await.map_err(|e| Error::internal(format!("the generator failed: {e}")))?;
        self.sample = Some(sample);
        let now = self.table.update().await?;
        let mut writer = FileWriter::new(self.table.store(), Arc::clone(&now.schema), None);
        for batch in made? {
            writer.write(&batch).await?;
        }
        let mut change = Change::new(CommitKind::Append, "DEMO", &now);
        change.adds = writer.finish().await?;
        change.positions =
            vec![Position { app: app(POSITION, &now.metadata.id), from: self.through, to: through }];
        self.table.commit(&change).await?;
        self.through = Some(through);
        Ok(())
    }
}

/// How much is sold between two instants, by the rhythm of its hours.
fn weight(from: i64, to: i64) -> f64 {
    (0..).map(|h| from + h * HOUR).take_while(|t| *t < to).map(|t| rhythm(t) * HOUR.min(to - t) as f64).sum()
}

fn app(name: &str, table_id: &str) -> String {
    format!("{name}:{table_id}")
}
