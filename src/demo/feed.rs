//! Puts generated sales into the table, and remembers with each commit up to when.
//!
//! The position `toplake.demo` (microseconds) moves in the commit of the rows, so a demo that is stopped at any moment
//! carries on where it was: nothing is missing and nothing is there twice.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use super::generator::Generator;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::{Change, Position};
use crate::lake::table::Table;
use crate::lake::writer::FileWriter;

/// The generator's seed: every demo sells the same products.
const SEED: u64 = 42;
/// Products in the demo.
const PRODUCTS: usize = 100_000;
/// Rows of one commit of a backfill.
const CHUNK_ROWS: u64 = 500_000;
/// Event ids are taken in blocks, one for each start, so that two starts never give the same one.
const ID_BLOCK: i64 = 1 << 40;

/// The name of the position.
const POSITION: &str = "toplake.demo";
/// The name of the number of starts.
const STARTS: &str = "toplake.demo.starts";

/// Feeds one table.
pub struct Feed {
    table: Arc<Table>,
    generator: Option<Generator>,
    /// Up to when events were made, in microseconds.
    through: Option<i64>,
}

impl Feed {
    /// A feed for `table`, which must have the columns of the pack's `sales`.
    pub async fn start(table: Arc<Table>) -> Result<Self> {
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
            let generator = Generator::new(SEED, PRODUCTS).with_next_event_id(next * ID_BLOCK);
            return Ok(Feed { table, generator: Some(generator), through });
        }
    }

    /// Up to when there are events, in microseconds; `None` if there are none.
    pub fn through(&self) -> Option<i64> {
        self.through
    }

    /// Makes `rows` events between `from` and `to` (microseconds), in commits of some hundred thousand; `progress` is
    /// told how many there are so far.
    pub async fn backfill(&mut self, from: i64, to: i64, rows: u64, progress: impl Fn(u64)) -> Result<()> {
        let chunks = rows.div_ceil(CHUNK_ROWS).max(1);
        let (mut done, span) = (0, (to - from) / chunks as i64);
        for chunk in 0..chunks {
            let begin = from + span * chunk as i64;
            let end = if chunk + 1 == chunks { to } else { begin + span };
            let rows = (rows * (chunk + 1) / chunks) - (rows * chunk / chunks);
            self.make(end, move |generator| generator.backfill(begin, end, rows).collect()).await?;
            done += rows;
            progress(done);
        }
        Ok(())
    }

    /// Makes `rows` events of the second that ends at `now` (microseconds).
    pub async fn live(&mut self, now: i64, rows: usize) -> Result<()> {
        self.make(now, move |generator| Ok(vec![generator.live(now, rows)?])).await
    }

    /// Generates off the runtime's threads and commits.
    async fn make<F>(&mut self, through: i64, make: F) -> Result<()>
    where
        F: FnOnce(&mut Generator) -> Result<Vec<RecordBatch>> + Send + 'static,
    {
        let mut generator = self.generator.take().ok_or_else(|| Error::internal("the generator is gone"))?;
        let made = tokio::task::spawn_blocking(move || {
            let made = make(&mut generator);
            (generator, made)
        });
        let (generator, made) = made.await.map_err(|e| Error::internal(format!("the generator failed: {e}")))?;
        self.generator = Some(generator);
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

fn app(name: &str, table_id: &str) -> String {
    format!("{name}:{table_id}")
}
