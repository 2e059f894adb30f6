//! `toplake.rollups` and `toplake.leaderboards`: what materialized views there are, and how far each has come.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::jobs::REFRESH;
use super::leaderboard::LeaderboardTable;
use super::live_table::LiveRows;
use super::options::keys;
use super::warehouse::{Object, Warehouse};
use super::watermark;
use crate::error::Result;
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::lake::snapshot::Snapshot;
use crate::lake::table::now_ms;
use crate::rollup::view::{Edition, PinnedRollup};

/// Which kind of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Incremental ones.
    Rollups,
    /// Snapshots.
    Leaderboards,
}

/// The system table.
#[derive(Debug)]
pub struct Rollups {
    warehouse: Arc<Warehouse>,
    which: Which,
    schema: SchemaRef,
}

impl Rollups {
    /// The system table of one kind of view.
    pub fn new(warehouse: Arc<Warehouse>, which: Which) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        let fields = match which {
            Which::Rollups => vec![
                text("name"),
                text("source"),
                text("status"),
                number("source_version"),
                number("folded_version"),
                number("lag_commits"),
                number("lag_rows"),
                number("lag_seconds"),
                Field::new("watermark", timestamp(true), true),
                Field::new("complete_through", timestamp(true), true),
                number("files"),
                number("partial_rows"),
                Field::new("last_commit", timestamp(true), true),
                number("definition_version"),
                text("last_error"),
                text("definition"),
            ],
            Which::Leaderboards => vec![
                text("name"),
                number("rows"),
                Field::new("last_refresh", timestamp(true), true),
                number("refresh_every_seconds"),
                number("age_seconds"),
                text("last_error"),
                text("definition"),
            ],
        };
        Rollups { warehouse, which, schema: Arc::new(Schema::new(fields)) }
    }

    async fn rows(&self, pins: &Pins) -> Result<RecordBatch> {
        match self.which {
            Which::Rollups => self.rollups(pins).await,
            Which::Leaderboards => self.leaderboards(pins).await,
        }
    }

    async fn rollups(&self, pins: &Pins) -> Result<RecordBatch> {
        let mut names = Texts::default();
        let (mut sources, mut status, mut definitions) =
            (Texts::default(), Texts::default(), Texts::default());
        let (mut source_versions, mut folded, mut lags) = (vec![], vec![], vec![]);
        let (mut lag_rows, mut lag_seconds) = (vec![], vec![]);
        let (mut watermarks, mut complete) = (vec![], vec![]);
        let (mut files, mut rows, mut times) = (vec![], vec![], vec![]);
        let mut editions = vec![];
        let mut errors = Texts::default();
        for name in self.warehouse.list().await? {
            let Ok(Some(Object::Rollup(table))) = self.warehouse.get(&name).await else { continue };
            let pinned = table.rollup().pin(pins).await?;
            let position = pinned.position();
            let source_version = pinned.source.snapshot().version;
            let events = pinned.source.events();
            let waiting = Waiting::of(&pinned).await;
            lag_rows.push(waiting.as_ref().map(|w| w.rows));
            lag_seconds.push(waiting.as_ref().map(|w| w.seconds));
            // A table whose files say nothing of their times has no watermark.
            watermarks.push(watermark::of(events.table().name(), events.snapshot()).ok().flatten());
            complete.push(watermark::complete_through(table.rollup(), events.snapshot()).ok().flatten());
            editions.push(Some(Edition::of(&pinned.snapshot).version()));
            errors.push(self.warehouse.jobs().error(REFRESH, &name));
            names.push(Some(name));
            sources.push(Some(pinned.source.table().name().to_owned()));
            status.push(Some(if position.is_some() { "ready" } else { "building" }.to_owned()));
            source_versions.push(Some(source_version));
            folded.push(position);
            lags.push(position.map(|p| waiting.as_ref().map_or(source_version - p, |w| w.commits)));
            files.push(Some(pinned.snapshot.files.len() as i64));
            rows.push(pinned.snapshot.rows().map(|n| n as i64));
            times.push(Some(pinned.snapshot.timestamp * 1000));
            definitions.push(pinned.snapshot.option(keys::SQL).map(str::to_owned));
        }
        self.batch(vec![
            names.array(),
            sources.array(),
            status.array(),
            Arc::new(Int64Array::from(source_versions)),
            Arc::new(Int64Array::from(folded)),
            Arc::new(Int64Array::from(lags)),
            Arc::new(Int64Array::from(lag_rows)),
            Arc::new(Int64Array::from(lag_seconds)),
            Arc::new(TimestampMicrosecondArray::from(watermarks).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(complete).with_timezone("UTC")),
            Arc::new(Int64Array::from(files)),
            Arc::new(Int64Array::from(rows)),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Int64Array::from(editions)),
            errors.array(),
            definitions.array(),
        ])
    }

    async fn leaderboards(&self, pins: &Pins) -> Result<RecordBatch> {
        let (mut names, mut definitions) = (Texts::default(), Texts::default());
        let (mut rows, mut times, mut every, mut ages) = (vec![], vec![], vec![], vec![]);
        let mut errors = Texts::default();
        for name in self.warehouse.list().await? {
            let Ok(Some(Object::Leaderboard(table))) = self.warehouse.get(&name).await else { continue };
            let snapshot = pins.snapshot(table.table()).await?;
            ages.push(self.age(&table, &snapshot).await);
            errors.push(self.warehouse.jobs().error(REFRESH, &name));
            names.push(Some(name));
            rows.push(snapshot.rows().map(|n| n as i64));
            times.push(Some(snapshot.timestamp * 1000));
            every.push(
                snapshot
                    .option(keys::REFRESH_EVERY)
                    .and_then(|v| v.parse::<i64>().ok())
                    .map(|v| v / 1_000_000),
            );
            definitions.push(Some(table.sql().to_owned()));
        }
        self.batch(vec![
            names.array(),
            Arc::new(Int64Array::from(rows)),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Int64Array::from(every)),
            Arc::new(Int64Array::from(ages)),
            errors.array(),
            definitions.array(),
        ])
    }

    /// For how many seconds a leaderboard has not shown something that is new in what it reads; 0 if there is nothing new.
    async fn age(&self, board: &LeaderboardTable, snapshot: &Snapshot) -> Option<i64> {
        let shown = board.sources_shown(snapshot).await.ok()?;
        let is_new = |(name, version): (&String, &i64)| {
            self.warehouse.opened(name).is_some_and(|now| now.version > *version)
        };
        let age = (now_ms() - snapshot.timestamp).max(0) / 1000;
        Some(if shown.is_empty() || shown.iter().any(is_new) { age } else { 0 })
    }

    fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// More unfolded commits than this are not looked into.
const MAX_COMMITS: i64 = 4096;

/// What is new in a rollup's source and not folded yet. A query sees it all the same.
struct Waiting {
    /// Commits that change rows.
    commits: i64,
    /// Rows that were appended.
    rows: i64,
    /// How long the first change has waited.
    seconds: i64,
}

impl Waiting {
    /// `None` while the rollup is built, or where it is so far behind that looking would take long.
    async fn of(pinned: &PinnedRollup) -> Option<Self> {
        let snapshot = pinned.source.snapshot();
        let position = pinned.position().filter(|position| snapshot.version - position <= MAX_COMMITS)?;
        let commits = pinned.source.table().commits(position, snapshot.version).await.ok()?;
        let (mut waiting, mut rows, mut first) = (0, 0, None);
        for commit in commits.iter().filter(|commit| commit.changes_rows()) {
            waiting += 1;
            first.get_or_insert(commit.timestamp);
            rows += commit.appended().filter_map(|f| f.stats(&snapshot.schema).rows).sum::<u64>();
        }
        let seconds = first.map_or(0, |at: i64| (now_ms() - at).max(0) / 1000);
        Some(Waiting { commits: waiting, rows: rows as i64, seconds })
    }
}

/// A column of text in the making.
#[derive(Default)]
struct Texts(Vec<Option<String>>);

impl Texts {
    fn push(&mut self, text: Option<String>) {
        self.0.push(text);
    }

    fn array(self) -> ArrayRef {
        Arc::new(self.0.into_iter().collect::<StringViewArray>())
    }
}

#[async_trait]
impl LiveRows for Rollups {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    async fn now(&self, pins: &Pins) -> Result<RecordBatch> {
        self.rows(pins).await
    }
}
