//! Refreshing a snapshot view: its query is run whole, and its rows replaced in one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::leaderboard::LeaderboardTable;
use crate::catalog::options::keys;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::{Change, Position};
use crate::lake::pin::Pins;
use crate::lake::range::TimeRanges;
use crate::lake::snapshot::Snapshot;
use crate::lake::writer::{FileWriter, discard};
use crate::session::{depends_on_pins_only, pin_all};

/// Times a refresh is run again after losing to another that had not read all that it has to show.
const TRIES: usize = 20;

/// What a refresh has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refreshed {
    /// Rows that the leaderboard has now.
    pub rows: u64,
    /// Whether anything was new in what it reads.
    pub committed: bool,
}

/// Refreshes a leaderboard: afterwards it shows all that was there when the refresh began. Does nothing if what it reads
/// has not changed since the last refresh, or if another has shown it meanwhile.
pub async fn refresh(
    warehouse: &Arc<Warehouse>,
    board: &LeaderboardTable,
    state: &SessionState,
) -> Result<Refreshed> {
    let (mut wanted, mut last) = (None, None);
    for _ in 0..TRIES {
        match once(warehouse, board, state, &mut wanted).await {
            Err(e) if e.kind() == Kind::Conflict => last = Some(e),
            done => return done,
        }
    }
    Err(last.unwrap_or_else(|| Error::internal("no try was made")))
}

/// One try; the first sets the versions that are `wanted`.
async fn once(
    warehouse: &Arc<Warehouse>,
    board: &LeaderboardTable,
    state: &SessionState,
    wanted: &mut Option<BTreeMap<String, i64>>,
) -> Result<Refreshed> {
    let table = board.table();
    let now = table.update().await?;
    let mut state = state.clone();
    let pins = Pins::install(state.config_mut());
    let views = warehouse.views_in(board.sql()).await?;
    let plan = warehouse.plan(board.sql(), now.option(keys::TIME_ZONE)).await?;
    pin_all(&plan, &pins).await?;
    let mut sources = pins.versions();
    sources.extend(views);
    let wanted = wanted.get_or_insert_with(|| sources.clone());
    let app = refresh_app(&now);
    let from = now.position(&app);
    if from.is_some() && depends_on_pins_only(&plan)? && shows(&board.sources_shown(&now).await?, wanted) {
        return Ok(Refreshed { rows: now.rows().unwrap_or(0), committed: false });
    }
    let mut change = Change::new(CommitKind::Replace, "REFRESH", &now);
    change.ranges = Some(TimeRanges::everything());
    change.removes = now.files.values().cloned().collect();
    change.positions = vec![Position { app, from, to: from.unwrap_or(0) + 1 }];
    change.sources = Some(sources);
    let mut writer = FileWriter::new(table.store(), Arc::clone(&now.schema), None);
    writer.write_all(run(&state, &plan).await?).await?;
    let rows = writer.rows();
    change.adds = writer.finish().await?;
    match table.commit(&change).await {
        Err(e) => {
            if e.kind() == Kind::Conflict {
                discard(table.store(), &change.adds).await;
            }
            Err(e)
        }
        Ok(_) => Ok(Refreshed { rows, committed: true }),
    }
}

async fn run(
    state: &SessionState,
    plan: &LogicalPlan,
) -> Result<datafusion::execution::SendableRecordBatchStream> {
    let plan = state.create_physical_plan(plan).await?;
    Ok(datafusion::physical_plan::execute_stream(plan, state.task_ctx())?)
}

/// Whether a refresh that read `read` shows all that is in `wanted`. A table's versions never go back.
fn shows(read: &BTreeMap<String, i64>, wanted: &BTreeMap<String, i64>) -> bool {
    read.len() == wanted.len()
        && wanted.iter().all(|(name, version)| read.get(name).is_some_and(|read| read >= version))
}

/// The position that each refresh moves by one, so that of two refreshes one loses.
fn refresh_app(snapshot: &Snapshot) -> String {
    format!("toplake.refresh:{}", snapshot.metadata.id)
}
