//! The one place that makes a session of the engine: server, shell, worker and tests all call it.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use datafusion::catalog::{CatalogProviderList, TableFunction, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{ViewTable, source_as_provider};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::catalog::access::Access;
use crate::catalog::audit::{self, Audit, AuditFunction};
use crate::catalog::events::EventsTable;
use crate::catalog::leaderboard::LeaderboardTable;
use crate::catalog::schemas::{CATALOG, PUBLIC, WarehouseCatalog};
use crate::catalog::side_table::SideTable;
use crate::catalog::warehouse::{Object, Warehouse};
use crate::catalog::watermark;
use crate::dialect;
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::table::Table;
use crate::optimizer;
use crate::optimizer::candidates::{Candidates, rollups_over};
use crate::optimizer::settings::PlannerSettings;
use crate::rollup::table::RollupTable;
use crate::rollup::view::Rollup;
use crate::workload::{Resources, Workload, share_of};

/// What every session of a process shares.
#[derive(Debug, Clone)]
pub struct Engine {
    warehouse: Arc<Warehouse>,
    base: SessionState,
    /// The same with a share of the memory.
    background: SessionState,
    workload: Arc<Workload>,
}

impl Engine {
    /// An engine over a warehouse whose queries may take `memory_limit` bytes together; beyond that they spill, then
    /// fail.
    pub fn try_new(warehouse: Arc<Warehouse>, memory_limit: usize) -> Result<Self> {
        Self::within(warehouse, &Resources::with_memory(memory_limit))
    }

    /// An engine over a warehouse whose queries take no more than these resources.
    pub fn within(warehouse: Arc<Warehouse>, resources: &Resources) -> Result<Self> {
        Self::extended(warehouse, resources, Ok)
    }

    /// The same with something more in its sessions.
    pub fn extended(
        warehouse: Arc<Warehouse>,
        resources: &Resources,
        more: impl FnOnce(SessionStateBuilder) -> Result<SessionStateBuilder>,
    ) -> Result<Self> {
        // Without a list cache, which would never see a new file of an external table.
        let runtime = resources.runtime().with_object_list_cache_limit(0).build_arc()?;
        let builder = SessionStateBuilder::new().with_config(config()).with_runtime_env(runtime);
        let base = more(plug(builder.with_default_features(), &warehouse)?)?.build();
        warehouse.set_planner(base.clone());
        let shared = Arc::new(share_of(base.runtime_env(), resources.memory_of_jobs));
        let background =
            SessionStateBuilder::new_from_existing(base.clone()).with_runtime_env(shared).build();
        Ok(Engine { warehouse, base, background, workload: Workload::new(resources) })
    }

    /// The warehouse.
    pub fn warehouse(&self) -> &Arc<Warehouse> {
        &self.warehouse
    }

    /// What queries of this engine share.
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// A session of its own: settings that it changes, and catalogs that it adds, are seen by nobody else.
    pub fn context(&self) -> SessionContext {
        self.context_in(&self.base)
    }

    /// A session of its own for work that no user waits for.
    pub fn background_context(&self) -> SessionContext {
        self.context_in(&self.background)
    }

    fn context_in(&self, state: &SessionState) -> SessionContext {
        let catalogs = datafusion::catalog::MemoryCatalogProviderList::new();
        for name in self.base.catalog_list().catalog_names() {
            if let Some(catalog) = self.base.catalog_list().catalog(&name) {
                catalogs.register_catalog(name, catalog);
            }
        }
        let own = SessionStateBuilder::new_from_existing(state.clone()).with_catalog_list(Arc::new(catalogs));
        SessionContext::new_with_state(own.build())
    }

    /// The same for somebody who may not do everything: functions that name a table look at it with the rights of whoever
    /// calls them.
    pub fn context_of(&self, access: &Access) -> SessionContext {
        let ctx = self.context();
        if !access.is_admin() {
            for function in watermark::udfs(&self.warehouse, Some(access)) {
                ctx.register_udf(function.as_ref().clone());
            }
            ctx.register_udtf(audit::NAME, Arc::new(AuditFunction::new(&self.warehouse, Some(access))));
        }
        ctx
    }

    /// A state for work that somebody has asked for.
    pub fn state(&self) -> SessionState {
        self.base.clone()
    }

    /// A state for work that no user waits for, such as folds and refreshes: of the memory it takes no more than its share,
    /// and spills, so that queries have theirs.
    pub fn background(&self) -> SessionState {
        self.background.clone()
    }
}

/// Plugs a warehouse into any DataFusion program: its catalog `toplake`, the functions and the store. Rollups are read
/// and planned like any table from then on; statements such as CREATE MATERIALIZED VIEW go through
/// [`crate::statement::Session`].
pub fn plug(builder: SessionStateBuilder, warehouse: &Arc<Warehouse>) -> Result<SessionStateBuilder> {
    let mut builder = with_functions(builder);
    builder.scalar_functions().get_or_insert_default().extend(watermark::udfs(warehouse, None));
    builder.expr_planners().get_or_insert_default().insert(0, dialect::expr_planner());
    let audit = TableFunction::new(audit::NAME.to_owned(), Arc::new(AuditFunction::new(warehouse, None)));
    builder.table_functions().get_or_insert_default().insert(audit::NAME.to_owned(), Arc::new(audit));
    builder = optimizer::rules().into_iter().fold(builder, SessionStateBuilder::with_optimizer_rule);
    builder = builder.with_physical_optimizer_rule(Arc::new(optimizer::yield_in_joins::YieldInJoins));
    let catalogs = builder
        .catalog_list()
        .get_or_insert_with(|| Arc::new(datafusion::catalog::MemoryCatalogProviderList::new()))
        .clone();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(WarehouseCatalog::new(warehouse)));
    let store = warehouse.store();
    let runtime = builder.runtime_env().get_or_insert_default();
    runtime.register_object_store(store.root_url(), Arc::clone(store.object_store()));
    Ok(builder)
}

/// The functions that look into no warehouse: those that a worker finds by their names.
pub fn with_functions(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let scalars = builder.scalar_functions().get_or_insert_default();
    scalars.extend(toplake_udfs::all_scalar_functions());
    scalars.extend(dialect::scalar_functions());
    let aggregates = builder.aggregate_functions().get_or_insert_default();
    aggregates.extend(toplake_udfs::all_aggregate_functions());
    aggregates.extend(dialect::aggregate_functions());
    builder
}

/// Those functions and the engine's own, by name.
pub fn functions() -> &'static SessionState {
    static FUNCTIONS: LazyLock<SessionState> =
        LazyLock::new(|| with_functions(SessionStateBuilder::new().with_default_features()).build());
    &FUNCTIONS
}

/// Plugs a warehouse into a context that is already there.
pub fn plug_context(ctx: &SessionContext, warehouse: &Arc<Warehouse>) -> Result<SessionContext> {
    let builder = SessionStateBuilder::new_from_existing(ctx.state());
    let state = plug(builder, warehouse)?.build();
    warehouse.set_planner(planner(&state));
    Ok(SessionContext::new_with_state(state))
}

/// The state that plans the definitions of views: names without a schema are those of the warehouse.
fn planner(state: &SessionState) -> SessionState {
    let mut state = state.clone();
    let ours = config();
    state.config_mut().options_mut().catalog = ours.options().catalog.clone();
    state.config_mut().options_mut().sql_parser = ours.options().sql_parser.clone();
    state
}

/// PostgreSQL's dialect and names, in UTC.
fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let options = config.options_mut();
    options.sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
    options.execution.time_zone = Some("UTC".to_owned());
    options.extensions.insert(PlannerSettings::default());
    // For max(a), min(f(b)) the engine would skip rows by their a, and so miss the least f(b).
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config
}

/// Bytes that a process may use for queries if nothing else is said: two thirds of the machine's memory.
pub fn default_memory_limit() -> usize {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text
            .lines()
            .find(|l| l.starts_with("MemTotal:"))?
            .split_whitespace()
            .nth(1)?
            .parse::<usize>()
            .ok()?;
        Some(line * 1024)
    });
    total.unwrap_or(4 << 30) / 3 * 2
}

/// An engine over the warehouse at a location, with defaults.
pub async fn open(location: &str) -> Result<Engine> {
    open_within(location, &Resources::with_memory(default_memory_limit())).await
}

/// An engine over the warehouse at a location, whose queries take no more than these resources.
pub async fn open_within(location: &str, resources: &Resources) -> Result<Engine> {
    open_extended(location, resources, Ok).await
}

/// The same with something more in its sessions.
pub async fn open_extended(
    location: &str,
    resources: &Resources,
    more: impl FnOnce(SessionStateBuilder) -> Result<SessionStateBuilder>,
) -> Result<Engine> {
    Engine::extended(Warehouse::open(location).await?, resources, more)
        .map_err(|e| Error::context(e, format!("warehouse '{location}'")))
}

/// Pins every table that a plan reads, coarsest rollups first and raw events last, so that no rollup has folded more
/// than its source shows.
pub async fn pin_all(plan: &LogicalPlan, pins: &Pins) -> Result<()> {
    pin(Readers::of(plan)?, pins).await
}

/// Pins every table that a statement reads, and where its session wants that the rollups that may answer for raw events.
pub async fn prepare(plan: &LogicalPlan, warehouse: &Arc<Warehouse>, state: &mut SessionState) -> Result<()> {
    let pins = Pins::of(state.config());
    let mut found = Readers::of(plan)?;
    if !PlannerSettings::of(state.config()).rewrite {
        return pin(found, &pins).await;
    }
    let rollups = rollups_over(warehouse, &found.tables).await?;
    found.rollups.extend(rollups.iter().map(|table| Arc::clone(table.rollup())));
    pin(found, &pins).await?;
    let candidates = Candidates::of(&rollups, &pins, state).await?;
    state.config_mut().options_mut().extensions.insert(candidates);
    Ok(())
}

async fn pin(mut found: Readers, pins: &Pins) -> Result<()> {
    for board in &found.leaderboards {
        pins.snapshot(board).await?;
    }
    for provider in &found.audits {
        if let Some(audit) = (provider.as_ref() as &dyn Any).downcast_ref::<Audit>() {
            found.rollups.push(audit.rollup().await?);
        }
    }
    for (warehouse, name) in std::mem::take(&mut found.calls) {
        match warehouse.get(&name).await? {
            Some(Object::Rollup(table)) => found.rollups.push(Arc::clone(table.rollup())),
            _ => found.watermarks.extend(warehouse.table(&name).await?),
        }
    }
    for provider in &found.sides {
        if let Some(side) = (provider.as_ref() as &dyn Any).downcast_ref::<SideTable>() {
            pins.snapshot(side.table().await?).await?;
        }
    }
    for table in &found.late {
        pins.snapshot(table).await?;
    }
    found.rollups.sort_by_key(|r| std::cmp::Reverse(r.level()));
    // All of them before the first source: two may have one in common.
    for rollup in &found.rollups {
        pins.snapshot(&rollup.table).await?;
    }
    for rollup in &found.rollups {
        rollup.pin(pins).await?;
    }
    for table in &found.tables {
        pins.snapshot(table).await?;
    }
    for table in &found.watermarks {
        pins.snapshot(table).await?;
    }
    Ok(())
}

/// Whether the rows of a plan depend on nothing but the pinned versions of what it reads: not on files elsewhere, system
/// tables, the clock or chance.
pub fn depends_on_pins_only(plan: &LogicalPlan) -> Result<bool> {
    Ok(!Readers::of(plan)?.more)
}

/// Whether the rows of a plan depend on nothing but the versions of the tables that it scans: also not on the watermark of
/// another.
pub fn depends_on_scans_only(plan: &LogicalPlan) -> Result<bool> {
    let readers = Readers::of(plan)?;
    Ok(!readers.more && readers.calls.is_empty())
}

/// Whether a function may give another result at another time for the same arguments. A watermark is that of its pinned
/// table.
fn varies(expr: &Expr) -> bool {
    let volatility = match expr {
        Expr::ScalarFunction(call) if watermark::is_one(&call.func) => Volatility::Immutable,
        Expr::ScalarFunction(call) => call.func.signature().volatility,
        Expr::AggregateFunction(call) => call.func.signature().volatility,
        _ => Volatility::Immutable,
    };
    volatility != Volatility::Immutable
}

/// What a plan reads.
#[derive(Default)]
struct Readers {
    leaderboards: Vec<Arc<Table>>,
    rollups: Vec<Arc<Rollup>>,
    /// Tables of late rows, which are pinned before the events tables whose commits name their files.
    late: Vec<Arc<Table>>,
    tables: Vec<Arc<Table>>,
    /// Side tables, which are pinned before the tables whose commits have something for them.
    sides: Vec<Arc<dyn TableProvider>>,
    audits: Vec<Arc<dyn TableProvider>>,
    /// What completeness is asked of, and the tables among it.
    calls: Vec<(Arc<Warehouse>, String)>,
    watermarks: Vec<Arc<Table>>,
    /// Whether there is more that the rows depend on.
    more: bool,
}

impl Readers {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut found = Readers::default();
        found.collect(plan)?;
        Ok(found)
    }

    fn collect(&mut self, plan: &LogicalPlan) -> Result<()> {
        let mut inner = vec![];
        plan.apply_with_subqueries(|node| {
            for expr in node.expressions() {
                self.calls.extend(watermark::calls_in(&expr));
                self.more |= expr.exists(|e| Ok(varies(e)))?;
            }
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
            {
                inner.push(provider);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for provider in inner {
            let any = provider.as_ref() as &dyn Any;
            if let Some(table) = any.downcast_ref::<RollupTable>() {
                self.rollups.push(Arc::clone(table.rollup()));
            } else if let Some(table) = any.downcast_ref::<EventsTable>() {
                match table.late_of() {
                    Some(events) => {
                        self.late.push(Arc::clone(table.table()));
                        self.tables.push(Arc::clone(events));
                    }
                    None => self.tables.push(Arc::clone(table.table())),
                }
            } else if let Some(table) = any.downcast_ref::<LeaderboardTable>() {
                self.leaderboards.push(Arc::clone(table.table()));
            } else if any.is::<Audit>() {
                self.audits.push(provider);
            } else if let Some(view) = any.downcast_ref::<ViewTable>() {
                self.collect(view.logical_plan())?;
            } else {
                if any.is::<SideTable>() {
                    self.sides.push(provider);
                }
                self.more = true;
            }
        }
        Ok(())
    }
}
