//! `late = 'divert'`: rows that come after the watermark has passed them go to `<table>_late`.
//!
//! Which they are is decided at the version that the commit builds on: the committer refuses rows that the watermark has
//! passed since they were divided, and they are divided again. So a bucket that is complete does not change any more by what
//! comes in. The late table is a plain table that may be read, deleted from and expired; the commit of the rows that came in
//! time names its files ([`outbox`](super::outbox)).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, Scalar, TimestampMicrosecondArray};
use datafusion::arrow::compute::kernels::cmp::gt_eq;
use datafusion::arrow::compute::{filter_record_batch, min, not};
use datafusion::arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::events::EventsTable;
use super::options::{Late, TableOptions, keys};
use super::outbox::Route;
use super::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::action::Add;
use crate::lake::committer::Change;
use crate::lake::log::LEAST_AGE;
use crate::lake::provider::Files;
use crate::lake::scan::locate;
use crate::lake::schema::difference;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::stats::FileStats;
use crate::lake::store::Store;
use crate::lake::table::{NewTable, Table};
use crate::lake::writer::{FileWriter, conform, discard};

/// The name of an events table's late table.
pub fn name_of(events: &str) -> String {
    format!("{events}_late")
}

/// The name of the events table that a late table belongs to.
pub fn events_of(table: &Snapshot) -> Option<&str> {
    table.option(keys::LATE_OF)
}

impl Warehouse {
    /// The late table of the events table `events`; made if it is not there. Fails if there is something else of that name.
    pub async fn late_table(
        self: &Arc<Self>,
        events: &str,
        schema: &SchemaRef,
        options: &TableOptions,
    ) -> Result<Arc<Table>> {
        let name = name_of(events);
        let own = TableOptions { late: Late::Accept, archive: None, ..options.clone() };
        let mut configuration = own.to_configuration();
        configuration.push((keys::LATE_OF.to_owned(), events.to_owned()));
        let description = Some(format!("rows of '{events}' that came late"));
        let new = NewTable { schema: schema.as_ref().clone(), configuration, description };
        self.create(&name, &new).await?;
        let table = self.table(&name).await?;
        let table = table.ok_or_else(|| Error::conflict(format!("'{name}' was dropped meanwhile")))?;
        let there = table.update().await?;
        if events_of(&there) == Some(events)
            && let Some(what) = difference(schema, &there.schema)
        {
            return Err(Error::duplicate_table(format!(
                "late rows of '{events}' do not fit '{name}', which has other columns: {what}"
            ))
            .with_hint(format!(
                "ALTER TABLE {events} SET (late = 'accept'), keep elsewhere what you need of {name}, drop it, and SET (late = 'divert')"
            )));
        }
        if events_of(&there) != Some(events) {
            return Err(Error::duplicate_table(format!(
                "late rows of '{events}' would go to '{name}', and there is another table or view of that name"
            ))
            .with_hint(format!("rename or drop '{name}', or leave late = 'accept'")));
        }
        Ok(table)
    }
}

/// Writes rows for one commit into an events table: those that come in time, and those that do not.
pub struct EventWriter {
    divided: Divided,
    in_time: FileWriter,
    late: Option<FileWriter>,
    /// Rows before this instant are late.
    watermark: Option<i64>,
}

impl EventWriter {
    /// A writer for a commit that is planned on `now`.
    pub fn new(events: &EventsTable, now: &Snapshot) -> Self {
        let divided = Divided::nothing(events);
        EventWriter {
            in_time: divided.writer(&divided.store),
            late: divided.late_store.as_ref().map(|store| divided.writer(store)),
            watermark: divided.watermark(now),
            divided,
        }
    }

    /// Writes rows of the table.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let (in_time, late) = self.divided.divide(&conform(rows, &self.divided.schema)?, self.watermark)?;
        self.in_time.write(&in_time).await?;
        match (&mut self.late, late) {
            (Some(writer), Some(late)) => writer.write(&late).await,
            _ => Ok(()),
        }
    }

    /// Rows that came in time, and those that did not, as far as they are written.
    pub fn rows(&self) -> (u64, u64) {
        (self.in_time.rows(), self.late.as_ref().map_or(0, FileWriter::rows))
    }

    /// About how many bytes the open files have.
    pub fn open_bytes(&self) -> usize {
        self.in_time.open_bytes() + self.late.as_ref().map_or(0, FileWriter::open_bytes)
    }

    /// Closes the files.
    pub async fn finish(self) -> Result<Divided> {
        let EventWriter { mut divided, in_time, late, .. } = self;
        divided.in_time = in_time.finish().await?;
        if let Some(late) = late {
            divided.late = late.finish().await?;
        }
        Ok(divided)
    }

    /// Gives up.
    pub async fn abandon(self) {
        self.in_time.abandon().await;
        if let Some(late) = self.late {
            late.abandon().await;
        }
    }
}

/// The files of rows that came in time, and of those that did not.
#[derive(Debug)]
pub struct Divided {
    schema: SchemaRef,
    /// The time column and its place.
    time: Option<(usize, String)>,
    store: Store,
    late_store: Option<Store>,
    unfit: Option<Arc<Error>>,
    in_time: Vec<Add>,
    late: Vec<Add>,
    /// Files that a commit names already: they stay, whatever comes of this one.
    named: HashSet<String>,
}

impl Divided {
    /// Files that are on their way into the table, not divided yet.
    pub fn of_named(events: &EventsTable, files: Vec<Add>) -> Self {
        let named = files.iter().map(|add| add.path.clone()).collect();
        Divided { in_time: files, named, ..Divided::nothing(events) }
    }

    fn nothing(events: &EventsTable) -> Self {
        let schema = Arc::clone(events.stored());
        let time = events.options().time_column.as_ref();
        let time = time.and_then(|column| Some((schema.index_of(column).ok()?, column.clone())));
        Divided {
            schema,
            time,
            store: events.table().store().clone(),
            late_store: events.late_store().cloned(),
            unfit: events.unfit().cloned(),
            in_time: vec![],
            late: vec![],
            named: HashSet::new(),
        }
    }

    fn writer(&self, store: &Store) -> FileWriter {
        FileWriter::new(store, Arc::clone(&self.schema), None)
    }

    /// Whether late rows go elsewhere at one version.
    fn diverts(&self, now: &Snapshot) -> bool {
        let options = TableOptions::from_configuration(&now.metadata.configuration);
        options.late == Late::Divert && self.time.is_some() && self.late_store.is_some()
    }

    /// The instant before which rows are late at one version; `None` where all are in time.
    fn watermark(&self, now: &Snapshot) -> Option<i64> {
        now.event_times.watermark().filter(|_| self.diverts(now))
    }

    /// The files of rows that came in time.
    pub fn in_time(&self) -> &[Add] {
        &self.in_time
    }

    /// Rows that came in time.
    pub fn rows(&self) -> u64 {
        self.count(&self.in_time)
    }

    /// Rows that came late.
    pub fn late_rows(&self) -> u64 {
        self.count(&self.late)
    }

    fn count(&self, adds: &[Add]) -> u64 {
        let stats = adds.iter().filter_map(|add| add.stats.as_deref());
        stats.filter_map(|json| FileStats::parse(json, &self.schema).rows).sum()
    }

    /// Has a commit that is planned on `now` store them; rows that the watermark has passed since are divided again. Where
    /// late ones have nowhere to go the files are removed, and the error says why.
    pub async fn plan(&mut self, change: &mut Change, now: &Snapshot) -> Result<()> {
        let planned = Divided::plan_all(vec![&mut *self], change, now).await;
        if planned.is_err() {
            self.discard().await;
        }
        planned
    }

    /// The same for the files of several writers; on an error they are all still there.
    pub async fn plan_all(all: Vec<&mut Self>, change: &mut Change, now: &Snapshot) -> Result<()> {
        change.planned_at = now.version;
        change.planned_on = Arc::clone(&now.metadata);
        change.refuses_late = false;
        change.adds.clear();
        let mut late = vec![];
        for divided in all {
            divided.divide_again(divided.watermark(now)).await?;
            if let Some(why) = divided.unfit.as_ref().filter(|_| !divided.late.is_empty()) {
                let refused = Error::new(why.kind(), why.message());
                return Err(match why.hint() {
                    Some(hint) => refused.with_hint(hint),
                    None => refused,
                });
            }
            change.refuses_late |= divided.diverts(now);
            change.adds.extend(divided.in_time.iter().cloned());
            late.extend(divided.late.iter().cloned());
        }
        Route::Late.name_in(change, &late);
        Ok(())
    }

    /// Refuses to commit files that VACUUM has taken for those of a dead process: it does after an hour at the earliest.
    pub async fn check_there(&self, begun: Instant) -> Result<()> {
        if begun.elapsed() < LEAST_AGE / 2 {
            return Ok(());
        }
        let mut files = vec![];
        for add in &self.in_time {
            files.push((&self.store, locate(&self.store, &add.path)?));
        }
        if let Some(store) = &self.late_store {
            for add in &self.late {
                files.push((store, locate(store, &add.path)?));
            }
        }
        for (store, path) in files {
            if !store.exists(&path).await? {
                return Err(Error::conflict(
                    "files that it has written were removed meanwhile: it was open too long",
                ));
            }
        }
        Ok(())
    }

    /// Removes the files.
    pub async fn discard(&self) {
        self.discard_own(&self.in_time).await;
        if let Some(store) = &self.late_store {
            discard(store, &self.late).await;
        }
    }

    /// Removes files of rows that were in time, but for those that a commit names.
    async fn discard_own(&self, in_time: &[Add]) {
        let own: Vec<Add> = in_time.iter().filter(|add| !self.named.contains(&add.path)).cloned().collect();
        discard(&self.store, &own).await;
    }

    /// Rows on either side of the watermark; the second is `None` if none is late.
    fn divide(
        &self,
        rows: &RecordBatch,
        watermark: Option<i64>,
    ) -> Result<(RecordBatch, Option<RecordBatch>)> {
        let (Some(watermark), Some((index, _))) = (watermark, &self.time) else {
            return Ok((rows.clone(), None));
        };
        let times = rows.column(*index).as_primitive::<TimestampMicrosecondType>();
        if min(times).is_none_or(|lowest| lowest >= watermark) {
            return Ok((rows.clone(), None));
        }
        let watermark = TimestampMicrosecondArray::from_value(watermark, 1);
        let watermark = Scalar::new(watermark.with_data_type(times.data_type().clone()));
        let in_time = gt_eq(times, &watermark)?;
        Ok((filter_record_batch(rows, &in_time)?, Some(filter_record_batch(rows, &not(&in_time)?)?)))
    }

    /// Writes the files anew that have rows of the other side.
    async fn divide_again(&mut self, watermark: Option<i64>) -> Result<()> {
        let (Some((_, column)), Some(late_store)) = (&self.time, &self.late_store) else { return Ok(()) };
        let limit = watermark.unwrap_or(i64::MIN);
        let bounds = |add: &Add| {
            let stats = add.stats.as_deref().map(|json| FileStats::parse(json, &self.schema));
            stats.and_then(|stats| stats.time_bounds(column)).unwrap_or((i64::MIN, i64::MAX))
        };
        let wrong = |adds: &[Add], is_wrong: &dyn Fn((i64, i64)) -> bool| -> (Vec<Add>, Vec<Add>) {
            adds.iter().cloned().partition(|add| is_wrong(bounds(add)))
        };
        let (old_in_time, in_time) = wrong(&self.in_time, &|(lowest, _)| lowest < limit);
        let (old_late, late) = wrong(&self.late, &|(_, highest)| highest >= limit);
        if old_in_time.is_empty() && old_late.is_empty() {
            return Ok(());
        }
        let (mut to_in_time, mut to_late) = (self.writer(&self.store), self.writer(late_store));
        let olds = old_in_time.iter().map(|add| (&self.store, add));
        let ctx = SessionContext::new();
        for (store, add) in olds.chain(old_late.iter().map(|add| (late_store, add))) {
            let file = Arc::new(File::new(add.clone()));
            let plan = Files::new(store, Arc::clone(&self.schema), vec![file]).into_plan("rows")?;
            let mut rows = ctx.execute_logical_plan(plan).await?.execute_stream().await?;
            while let Some(rows) = rows.try_next().await? {
                let (in_time, late) = self.divide(&conform(&rows, &self.schema)?, watermark)?;
                to_in_time.write(&in_time).await?;
                if let Some(late) = late {
                    to_late.write(&late).await?;
                }
            }
        }
        self.discard_own(&old_in_time).await;
        discard(late_store, &old_late).await;
        self.in_time = in_time.into_iter().chain(to_in_time.finish().await?).collect();
        self.late = late.into_iter().chain(to_late.finish().await?).collect();
        Ok(())
    }
}
