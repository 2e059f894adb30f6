//! `CALL accept_late('t')`: rows that came late go to the table that they were meant for, each once.
//!
//! One commit of the late table takes them out of it and names the files in which they go to the events table; a follower
//! adds those, each once ([`outbox`](crate::catalog::outbox)). Between the two the rows are in neither table, and whatever
//! dies there, the next follower finds them.

use std::sync::Arc;

use datafusion::common::{Column, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col};

use crate::catalog::events::EventsTable;
use crate::catalog::late;
use crate::catalog::outbox::Route;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::provider::Files;
use crate::lake::range::TimeRanges;
use crate::lake::schema::difference;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::table::Table;
use crate::lake::writer::{FileWriter, discard};

/// Times that the work is planned again after losing to another writer.
const TRIES: usize = 20;

/// Accepts the late rows of `[from, to)` and says how many.
pub async fn accept_late(
    warehouse: &Arc<Warehouse>,
    events: &EventsTable,
    range: (i64, i64),
    state: &SessionState,
) -> Result<u64> {
    let name = events.table().name();
    let late = warehouse.table(&late::name_of(name)).await?;
    let late = late.filter(|late| late::events_of(&late.snapshot()) == Some(name));
    let (Some(late), Some(time)) = (late, &events.options().time_column) else {
        return Err(Error::wrong_object_type(format!("table '{name}' has no late rows"))
            .with_hint(format!("ALTER TABLE {name} SET (late = 'divert') has them kept apart")));
    };
    let work = Work { events: events.table(), late: &late, time, range, state };
    let mut lost = None;
    for _ in 0..TRIES {
        Route::Late.follow(events.table(), &late).await?;
        match work.attempt().await {
            Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
            done => {
                let rows = done.map_err(|e| e.context(format!("table '{}'", late.name())))?;
                // Also what an earlier call left on its way.
                Route::Accepted.follow(&late, events.table()).await?;
                return Ok(rows);
            }
        }
    }
    Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
}

struct Work<'a> {
    events: &'a Table,
    late: &'a Table,
    time: &'a str,
    range: (i64, i64),
    state: &'a SessionState,
}

impl Work<'_> {
    async fn attempt(&self) -> Result<u64> {
        let on = self.late.update().await?;
        let events = self.events.update().await?;
        if let Some(what) = difference(&on.schema, &events.schema) {
            return Err(Error::wrong_object_type(format!(
                "its rows do not fit '{}': {what}",
                self.events.name()
            ))
            .with_hint(format!(
                "INSERT INTO {} SELECT … FROM {}, column by column",
                self.events.name(),
                self.late.name()
            )));
        }
        let (from, to) = self.range;
        let bounds = |file: &File| file.stats(&on.schema).time_bounds(self.time);
        let touched = |file: &&Arc<File>| bounds(file).is_none_or(|(low, high)| high >= from && low < to);
        let files: Vec<Arc<File>> = on.files.values().filter(touched).cloned().collect();
        if files.is_empty() {
            return Ok(0);
        }
        let mut accepted = FileWriter::new(self.events.store(), Arc::clone(&on.schema), None);
        let mut stay = FileWriter::new(self.late.store(), Arc::clone(&on.schema), Some("carry"));
        let written = async {
            self.copy(&on, &files, true, &mut accepted).await?;
            self.copy(&on, &files, false, &mut stay).await
        };
        if let Err(e) = written.await {
            accepted.abandon().await;
            stay.abandon().await;
            return Err(e);
        }
        let rows = accepted.rows();
        let mut change = Change::new(CommitKind::Replace, "ACCEPT", &on);
        change.refuses_alteration = true;
        change.ranges = Some([self.range].into_iter().collect::<TimeRanges>());
        change.removes = files;
        change.adds = stay.finish().await?;
        let accepted = accepted.finish().await?;
        Route::Accepted.name_in(&mut change, &accepted);
        let committed = if rows > 0 { self.late.commit(&change).await.map(|_| rows) } else { Ok(0) };
        if rows == 0 || committed.as_ref().is_err_and(|e| e.kind() == Kind::Conflict) {
            discard(self.late.store(), &change.adds).await;
            discard(self.events.store(), &accepted).await;
        }
        committed
    }

    /// The rows of files that lie in the range, or those that do not.
    async fn copy(
        &self,
        on: &Snapshot,
        files: &[Arc<File>],
        inside: bool,
        to: &mut FileWriter,
    ) -> Result<()> {
        let zone = match on.schema.field_with_name(self.time)?.data_type() {
            datafusion::arrow::datatypes::DataType::Timestamp(_, zone) => zone.clone(),
            other => return Err(Error::internal(format!("time column '{}' has type {other}", self.time))),
        };
        let instant = |t| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(t), zone.clone()), None);
        let time = || col(Column::new_unqualified(self.time));
        let (from, until) = self.range;
        let within = time().gt_eq(instant(from)).and(time().lt(instant(until)));
        let files = Files::new(self.late.store(), Arc::clone(&on.schema), files.to_vec());
        let rows = LogicalPlanBuilder::from(files.into_plan("late")?);
        let rows = rows.filter(if inside { within } else { within.is_not_true() })?.build()?;
        let physical = self.state.create_physical_plan(&rows).await?;
        to.write_all(datafusion::physical_plan::execute_stream(physical, self.state.task_ctx())?).await
    }
}
