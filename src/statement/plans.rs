//! What a session's statements mean: their plans, kept as long as nothing that they name is defined anew.
//!
//! A plan is found by the statement's text. It is good for as long as each table, rollup and view under it has the
//! metadata that it was planned with; what may look different each time for other reasons (system tables, files
//! elsewhere, lists of tables) is planned each time.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{ViewTable, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use parking_lot::Mutex;
use quick_cache::unsync::Cache;

use super::lookup::Lookup;
use crate::catalog::events::EventsTable;
use crate::catalog::leaderboard::LeaderboardTable;
use crate::catalog::options::ObjectKind;
use crate::catalog::schemas::PUBLIC;
use crate::catalog::warehouse::Warehouse;
use crate::catalog::watermark;
use crate::error::Result;
use crate::lake::action::Metadata;
use crate::lake::pin::Pins;
use crate::lake::table::Table;
use crate::rollup::table::RollupTable;
use crate::rollup::view::Rollup;
use crate::session::depends_on_scans_only;

/// More rows than these are not looked through on a thread that has clients to talk to.
const FEW: u64 = 50_000;

/// So many statements a session remembers, of so many bytes each.
const STATEMENTS: usize = 64;
const MAX_LENGTH: usize = 8 << 10;

/// The plans of a session.
pub(super) struct Plans {
    kept: Mutex<Cache<String, Arc<Plan>>>,
    /// Texts of statements without their values.
    templates: Mutex<Cache<String, Template>>,
    /// What [`Plan::look_up`] is done in.
    state: Mutex<Option<Arc<SessionState>>>,
}

/// What is known of a statement without its values.
#[derive(Clone)]
pub(super) enum Template {
    /// It came once: not worth a plan of its own.
    Once,
    /// It has no plan that would be of use.
    Useless,
    /// Its plan.
    Plan(Arc<Plan>),
}

impl Default for Plans {
    fn default() -> Self {
        Plans {
            kept: Mutex::new(Cache::new(STATEMENTS)),
            templates: Mutex::new(Cache::new(STATEMENTS)),
            state: Mutex::new(None),
        }
    }
}

impl Plans {
    /// The plan of a statement, if it was kept.
    pub(super) fn get(&self, sql: &str) -> Option<Arc<Plan>> {
        self.kept.lock().get(sql).cloned()
    }

    /// Keeps a plan.
    pub(super) fn keep(&self, sql: &str, plan: Arc<Plan>) {
        if sql.len() <= MAX_LENGTH {
            self.kept.lock().insert(sql.to_owned(), plan);
        }
    }

    /// Forgets the plan of a statement.
    pub(super) fn forget(&self, sql: &str) {
        self.kept.lock().remove(sql);
    }

    /// What is known of a statement without its values.
    pub(super) fn known_template(&self, sql: &str) -> Option<Template> {
        self.templates.lock().get(sql).cloned()
    }

    /// What is known of a statement without its values; the first time, that it came.
    pub(super) fn template(&self, sql: &str) -> Option<Template> {
        let mut templates = self.templates.lock();
        let known = templates.get(sql).cloned();
        if known.is_none() {
            templates.insert(sql.to_owned(), Template::Once);
        }
        known
    }

    /// The session's state, as it was at the first call.
    pub(super) fn state(&self, session: impl FnOnce() -> SessionState) -> Arc<SessionState> {
        Arc::clone(self.state.lock().get_or_insert_with(|| Arc::new(session())))
    }

    /// Remembers what is known of it.
    pub(super) fn learn(&self, sql: &str, template: Template) {
        self.templates.lock().insert(sql.to_owned(), template);
    }

    /// Forgets all: a setting has changed.
    pub(super) fn clear(&self) {
        *self.kept.lock() = Cache::new(STATEMENTS);
        *self.templates.lock() = Cache::new(STATEMENTS);
        *self.state.lock() = None;
    }
}

/// A statement's plan before any optimisation, and what it was made from.
pub(super) struct Plan {
    pub(super) logical: LogicalPlan,
    named: Named,
    /// The rollups among it, which are also what those are that they are made from.
    rollups: Vec<Arc<Rollup>>,
    /// Whether its rows hang on nothing but leaderboards, and the views in between.
    only_boards: bool,
    lookup: Option<Lookup>,
}

impl Plan {
    /// The plan of a statement that named all this before it was planned; none where it has to be planned each time.
    pub(super) fn of(
        logical: &LogicalPlan,
        named: Named,
        statement: &EngineStatement,
        state: &SessionState,
    ) -> Result<Option<Plan>> {
        let commands = matches!(logical, LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Ddl(_));
        // What was defined anew meanwhile may be in the plan or not.
        if commands || !named.is_unchanged() {
            return Ok(None);
        }
        let explained = matches!(logical, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        let mut scans = Scans { ours: true, boards: !explained, rollups: vec![] };
        scans.look_at(logical)?;
        if !scans.ours {
            return Ok(None);
        }
        // A watermark is that of a table which is not among the names.
        let only_boards = scans.boards && !named.names.is_empty() && depends_on_scans_only(logical)?;
        let lookup = if only_boards { Lookup::of(logical, statement, state) } else { None };
        Ok(Some(Plan { logical: logical.clone(), named, rollups: scans.rollups, only_boards, lookup }))
    }

    /// Whether everything that it names is what it was, as the logs have it now.
    pub(super) async fn is_current(&self) -> Result<bool> {
        for name in &self.named.names {
            name.table.update().await?;
        }
        for rollup in &self.rollups {
            rollup.update().await?;
        }
        self.is_current_if_pinned().await
    }

    /// The same of a statement that has pinned what it reads: only the logs of views are looked at.
    pub(super) async fn is_current_if_pinned(&self) -> Result<bool> {
        for view in self.named.names.iter().filter(|n| n.is_view) {
            view.table.update().await?;
        }
        Ok(self.named.is_unchanged() && self.rollups.iter().all(|rollup| rollup.is_current()))
    }

    /// What rows that are read at `pins` hang on, if nobody has to look into the store for it.
    pub(super) fn stamp(&self, pins: &Pins) -> Option<Stamp> {
        if !self.only_boards {
            return None;
        }
        let version = |table: &Table| match pins.get(table.name()) {
            Some(pinned) => pinned.version,
            None => table.snapshot().version,
        };
        let versions = self.named.names.iter().map(|n| (Arc::clone(&n.table), version(&n.table)));
        Some(Stamp { direct: Arc::clone(&self.named.direct), versions: versions.collect() })
    }

    /// The types of its parameters, if [`Self::look_up`] may be of use, and what it gives is not named after one.
    pub(super) fn lifted(&self) -> Option<&[DataType]> {
        let named = self.logical.schema().fields().iter().any(|field| field.name().contains('$'));
        self.lookup.as_ref().filter(|_| !named).map(|lookup| lookup.parameters.as_slice())
    }

    /// Whether what it names is still defined as it was, as far as this process knows.
    pub(super) fn is_unchanged(&self) -> bool {
        self.named.is_unchanged()
    }

    /// The rows that it gives with values for its parameters, where that takes next to nothing. None where it does not, or
    /// what it reads is not known without looking; and where it fails, which is for the engine to say.
    pub(super) fn look_up(&self, parameters: &[ScalarValue], state: &SessionState) -> Option<Found> {
        let lookup = self.lookup.as_ref()?;
        let fits = |(value, wanted): (&ScalarValue, &DataType)| value.data_type() == *wanted;
        if parameters.len() != lookup.parameters.len() || !parameters.iter().zip(&lookup.parameters).all(fits)
        {
            return None;
        }
        let (mut versions, mut board) = (Vec::with_capacity(self.named.names.len()), None);
        for name in &self.named.names {
            let snapshot = name.table.watched()?;
            if snapshot.rows().is_none_or(|rows| rows > FEW) {
                return None;
            }
            versions.push((Arc::clone(&name.table), snapshot.version));
            if name.table.name() == lookup.name() {
                board = Some(snapshot);
            }
        }
        let board = board.filter(|_| self.named.is_unchanged())?;
        let rows = lookup.run(&board, parameters, state).ok().flatten()?;
        let stamp = Stamp { direct: Arc::clone(&self.named.direct), versions: versions.into() };
        Some(Found { schema: Arc::clone(lookup.schema()), rows, stamp })
    }
}

/// Rows that were found in memory.
pub(super) struct Found {
    pub(super) schema: SchemaRef,
    pub(super) rows: RecordBatch,
    pub(super) stamp: Stamp,
}

/// The versions of all that an answer was made from, where that is leaderboards and views over them: as long as it
/// [holds](Stamp::holds), the same statement has the same answer.
#[derive(Debug, Clone)]
pub struct Stamp {
    direct: Arc<[String]>,
    versions: Arc<[(Arc<Table>, i64)]>,
}

impl Stamp {
    /// The tables and views that the statement itself names.
    pub fn names(&self) -> &[String] {
        &self.direct
    }

    /// Whether these are the versions of now, as far as that is known without looking: see [`Table::watched`].
    pub fn holds(&self) -> bool {
        let now =
            |(table, version): &(Arc<Table>, i64)| table.watched().is_some_and(|s| s.version == *version);
        // All of them are asked, so that all are watched from the first time on.
        self.versions.iter().filter(|of| !now(of)).count() == 0
    }
}

/// What a statement names, directly or through views, and how that was defined as far as this process knew.
#[derive(Clone)]
pub(super) struct Named {
    direct: Arc<[String]>,
    names: Vec<Name>,
}

#[derive(Clone)]
struct Name {
    table: Arc<Table>,
    metadata: Arc<Metadata>,
    is_view: bool,
}

impl Named {
    /// Looks it up in what is open; planning reads the logs, and finds out whether it is still so. None if the statement
    /// names something that is not in the warehouse.
    pub(super) async fn by(statement: &EngineStatement, warehouse: &Arc<Warehouse>) -> Result<Option<Named>> {
        let (relations, _) = datafusion::sql::resolve::resolve_table_references(statement, true)?;
        let mut open: Vec<String> = vec![];
        for relation in relations {
            if relation.schema().is_some_and(|schema| schema != PUBLIC) {
                return Ok(None);
            }
            open.push(relation.table().to_owned());
        }
        let direct = open.clone().into();
        let mut found: Vec<Name> = vec![];
        while let Some(name) = open.pop() {
            if found.iter().any(|n| n.table.name() == name) {
                continue;
            }
            let Some(table) = warehouse.table(&name).await? else { return Ok(None) };
            let metadata = Arc::clone(&table.snapshot().metadata);
            let is_view = ObjectKind::of(&metadata.configuration) == ObjectKind::View;
            if is_view {
                open.extend(warehouse.sources(&name).await?);
            }
            found.push(Name { table, metadata, is_view });
        }
        Ok(Some(Named { direct, names: found }))
    }

    fn is_unchanged(&self) -> bool {
        self.names.iter().all(|n| Arc::ptr_eq(&n.table.snapshot().metadata, &n.metadata))
    }
}

/// What kinds of tables a plan reads.
struct Scans {
    /// None but those of the warehouse.
    ours: bool,
    /// None but leaderboards.
    boards: bool,
    rollups: Vec<Arc<Rollup>>,
}

impl Scans {
    fn look_at(&mut self, plan: &LogicalPlan) -> Result<()> {
        let mut views = vec![];
        plan.apply_with_subqueries(|node| {
            // A watermark is that of a table which the statement does not read.
            for expr in node.expressions() {
                self.boards &= !expr.exists(|e| Ok(watermark::is_call(e)))?;
            }
            if let LogicalPlan::TableScan(scan) = node {
                let Ok(provider) = source_as_provider(&scan.source) else {
                    self.ours = false;
                    return Ok(TreeNodeRecursion::Stop);
                };
                let any = provider.as_ref() as &dyn std::any::Any;
                if let Some(table) = any.downcast_ref::<RollupTable>() {
                    self.boards = false;
                    self.rollups.push(Arc::clone(table.rollup()));
                } else if any.is::<EventsTable>() {
                    self.boards = false;
                } else if any.is::<ViewTable>() {
                    views.push(provider);
                } else if !any.is::<LeaderboardTable>() {
                    self.ours = false;
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for view in views {
            if let Some(view) = (view.as_ref() as &dyn std::any::Any).downcast_ref::<ViewTable>() {
                self.look_at(view.logical_plan())?;
            }
        }
        Ok(())
    }
}
