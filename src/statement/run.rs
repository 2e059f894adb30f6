//! Running statements in a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{DmlStatement, LogicalPlan, SetVariable, Statement as EngineCommand, WriteOp};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::TryStreamExt;
use parking_lot::Mutex;
use tracing::Instrument;

use super::call::Call;
use super::describe::describe_plan;
use super::lanes::Lanes;
use super::observed::{note, observed, span};
use super::output_names::{named, renamed};
use super::parse::{Parsed, Statement, parse};
use super::plans::{Named, Plan, Plans, Stamp};
use super::remarks::Remarks;
use crate::catalog::access::Access;
use crate::catalog::events::DIVERTED;
use crate::catalog::interrupt::Interrupt;
use crate::catalog::late;
use crate::catalog::transaction::Transaction;
use crate::catalog::warehouse::{Object, Warehouse};
use crate::dialect;
use crate::error::{Error, Kind, Result};
use crate::ingest::copy::CopyIn;
use crate::ingest::copy::format::Format;
use crate::lake::pin::Pins;
use crate::leaderboard;
use crate::metrics;
use crate::optimizer::settings::PlannerSettings;
use crate::rollup::fold::fold;
use crate::session::prepare;
use crate::workload::{Weight, Workload, holding};

/// Times a statement is planned, if what it reads is replaced or expires between planning and pinning.
const TRIES: usize = 5;

/// A session: a context of the engine, and the warehouse behind it.
#[derive(Clone)]
pub struct Session {
    pub(super) ctx: SessionContext,
    pub(super) warehouse: Arc<Warehouse>,
    pub(super) plans: Arc<Plans>,
    pub(super) watching: bool,
    pub(super) lanes: Option<Lanes>,
    /// Whether settings of the engine are other than those of a new session.
    pub(super) custom: Arc<AtomicBool>,
    pub(super) transaction: Arc<Mutex<Option<Transaction>>>,
    pub(super) interrupt: Arc<Mutex<Interrupt>>,
    pub(super) access: Access,
    /// What its queries share with others; alone they may take all.
    pub(super) workload: Option<Arc<Workload>>,
}

/// What is known of a statement before it runs.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The columns of its result; none for a command.
    pub fields: Option<SchemaRef>,
    /// The types of `$1`, `$2`, … as far as they are known.
    pub parameters: Vec<Option<DataType>>,
}

/// What a statement gives.
pub enum Outcome {
    /// Rows.
    Rows {
        /// The command's tag, without a number.
        tag: String,
        /// The rows.
        stream: SendableRecordBatchStream,
        /// What they hang on, where the same statement can be answered in the same way without running it.
        stamp: Option<Stamp>,
        /// What there is to know besides.
        notice: Option<String>,
    },
    /// No rows.
    Done {
        /// The command's tag, without a number.
        tag: String,
        /// How many rows it wrote, where it counts them.
        rows: Option<u64>,
        /// What there is to know besides.
        notice: Option<String>,
    },
    /// The client is to send rows.
    CopyIn(Box<CopyIn>),
    /// Rows that the client wants in this format.
    CopyOut {
        /// The format.
        format: Format,
        /// The rows.
        stream: SendableRecordBatchStream,
    },
}

impl Outcome {
    /// A command that does not count rows.
    pub fn done(tag: &str) -> Self {
        Outcome::Done { tag: tag.to_owned(), rows: None, notice: None }
    }

    /// A command that wrote so many rows.
    pub fn counted(tag: &str, rows: u64) -> Self {
        Outcome::Done { tag: tag.to_owned(), rows: Some(rows), notice: None }
    }
}

impl Session {
    /// A session over `warehouse`; `ctx` must have been made by [`crate::session`].
    pub fn new(ctx: SessionContext, warehouse: Arc<Warehouse>) -> Self {
        Self::of(ctx, warehouse, Access::everything())
    }

    /// A session of somebody who may not do everything; `ctx` must have been made for the same one.
    pub fn of(ctx: SessionContext, warehouse: Arc<Warehouse>, access: Access) -> Self {
        Session {
            ctx,
            warehouse,
            access,
            workload: None,
            plans: Default::default(),
            watching: false,
            lanes: None,
            custom: Default::default(),
            transaction: Default::default(),
            interrupt: Default::default(),
        }
    }

    /// The same, beside others.
    pub fn beside(mut self, workload: &Arc<Workload>) -> Self {
        self.workload = Some(Arc::clone(workload));
        self
    }

    /// The engine's context.
    pub fn context(&self) -> &SessionContext {
        &self.ctx
    }

    /// The warehouse.
    pub fn warehouse(&self) -> &Arc<Warehouse> {
        &self.warehouse
    }

    /// Runs a text of statements, one after the other, and gives the rows of the last one.
    pub async fn sql(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut rows = vec![];
        for statement in parse(sql)? {
            // Boxed: the work of any statement would have room on the stack of whoever waits for it.
            rows = match Box::pin(self.execute(&statement, &[])).await? {
                Outcome::Rows { stream, .. } => stream.try_collect().await?,
                Outcome::Done { .. } => vec![],
                Outcome::CopyIn(copy) => {
                    copy.abandon().await;
                    return Err(needs_client());
                }
                Outcome::CopyOut { .. } => return Err(needs_client()),
            };
        }
        Ok(rows)
    }

    /// Plans a statement without running it. `hints` are what the client says of its parameters.
    pub async fn describe(&self, parsed: &Parsed, hints: &[Option<DataType>]) -> Result<Description> {
        self.authorize(&parsed.statement).await?;
        match self.description(parsed, hints).await {
            Err(e) => Err(self.blame(e, &parsed.sql).await),
            known => known,
        }
    }

    async fn description(&self, parsed: &Parsed, hints: &[Option<DataType>]) -> Result<Description> {
        if let Some(function) = Call::in_statement(&parsed.statement) {
            return self.describe_call(function, hints).await;
        }
        let Statement::Engine(statement) = &parsed.statement else { return Ok(Description::default()) };
        if ddl_tag(statement).is_some() {
            return Ok(Description::default());
        }
        let plan = match self.plans.get(&parsed.sql) {
            Some(plan) if plan.is_current().await? => plan.logical.clone(),
            _ => self.plan_anew(&self.ctx.state(), &parsed.sql, statement).await?.0,
        };
        let described = describe_plan(&plan, hints)?;
        let fields = described.fields.map(|fields| named(statement, &fields));
        Ok(Description { fields, ..described })
    }

    /// Runs a statement with values for `$1`, `$2`, …
    pub async fn execute(&self, parsed: &Parsed, parameters: &[ScalarValue]) -> Result<Outcome> {
        let begun = Instant::now();
        let done = async {
            self.authorize(&parsed.statement).await?;
            match self.outcome(parsed, parameters).await {
                Err(e) => Err(self.blame(e, &parsed.sql).await),
                done => done,
            }
        };
        let done = done.instrument(span(&parsed.sql)).await;
        note(&done, begun);
        done
    }

    async fn outcome(&self, parsed: &Parsed, parameters: &[ScalarValue]) -> Result<Outcome> {
        if let Some(function) = Call::in_statement(&parsed.statement) {
            return Box::pin(self.call(function, parameters)).await;
        }
        if let Some(what) = commits_by_itself(&parsed.statement) {
            self.outside(what)?;
        }
        match &parsed.statement {
            Statement::Refresh(name) => self.refresh(name).await,
            Statement::Alter(alter) => self.alter(alter).await,
            Statement::Copy(copy) => Box::pin(self.copy(copy)).await,
            Statement::Engine(statement) => match statement.as_ref() {
                EngineStatement::Statement(sql) if ddl_tag(statement).is_some() => self.ddl(sql).await,
                EngineStatement::CreateExternalTable(create) => {
                    self.create_external(create, &parsed.sql).await
                }
                statement => self.query(&parsed.sql, statement, parameters).await,
            },
        }
    }

    /// `REFRESH MATERIALIZED VIEW`; once more where the view's definition was replaced meanwhile.
    async fn refresh(&self, name: &str) -> Result<Outcome> {
        let mut tries = 1;
        loop {
            match self.refresh_once(name).await {
                Err(e) if e.kind() == Kind::Conflict && tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn refresh_once(&self, name: &str) -> Result<Outcome> {
        let context = |e: Error| e.context(format!("'{name}'"));
        match self.warehouse.require(name).await? {
            Object::Rollup(table) => {
                let state = self.ctx.state();
                while !fold(table.rollup(), &state).await.map_err(context)?.pending.is_empty() {}
            }
            Object::Leaderboard(board) => {
                leaderboard::refresh(&self.warehouse, &board, &self.ctx.state()).await.map_err(context)?;
            }
            other => {
                return Err(Error::wrong_object_type(format!(
                    "'{name}' is {}, not a materialized view",
                    other.kind().with_article()
                )));
            }
        }
        Ok(Outcome::done("REFRESH MATERIALIZED VIEW"))
    }

    /// Plans a statement of the engine's, after looking at the store where the plan may depend on what is there.
    async fn plan(&self, state: &SessionState, statement: &EngineStatement) -> Result<LogicalPlan> {
        if lists_tables(statement) {
            self.warehouse.list().await?;
        }
        let plan = state.statement_to_plan(statement.clone()).await?;
        Ok(dialect::as_meant(plan, state.config_options().execution.time_zone.as_deref())?)
    }

    /// Plans a statement, and keeps the plan where that is possible.
    pub(super) async fn plan_anew(
        &self,
        state: &SessionState,
        sql: &str,
        statement: &EngineStatement,
    ) -> Result<(LogicalPlan, Option<Arc<Plan>>)> {
        let names = Named::by(statement, &self.warehouse).await?;
        let logical = self.plan(state, statement).await?;
        let Some(names) = names else { return Ok((logical, None)) };
        let plan = Plan::of(&logical, names, statement, state)?.map(Arc::new);
        if let Some(plan) = &plan {
            self.plans.keep(sql, Arc::clone(plan));
        }
        Ok((logical, plan))
    }

    /// A new statement is about to run. What is stopped from now on is that one.
    pub fn started(&self) {
        *self.interrupt.lock() = Interrupt::default();
    }

    /// That of the statement which runs.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.lock().clone()
    }

    /// The same session for the statement that runs, and for no other.
    pub fn for_this_statement(&self) -> Self {
        Session { interrupt: Arc::new(Mutex::new(self.interrupt())), ..self.clone() }
    }

    /// Sets the time zone.
    pub fn set_time_zone(&self, zone: &str) {
        let state = self.ctx.state_ref();
        state.write().config_mut().options_mut().execution.time_zone = Some(zone.to_owned());
        self.plans.clear();
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        statement: &EngineStatement,
        parameters: &[ScalarValue],
    ) -> Result<Outcome> {
        let begun = Instant::now();
        let mut tries = 1;
        let Ready { plan, state, physical, stamp, alone, remarks } = loop {
            match self.planned(sql, statement, parameters).await {
                Ok(Planned::Done(outcome)) => return Ok(outcome),
                Ok(Planned::Query(planned)) => break *planned,
                Err(e) if e.kind() == Kind::Conflict && tries < TRIES => tries += 1,
                Err(e) => return Err(e),
            }
        };
        let context = TaskContext::from(&state);
        let weight = Weight::of(&physical);
        metrics::query_reads(weight.bytes);
        let (context, place) = match &self.workload {
            Some(workload) => workload.admit(self.access.role(), weight, context).await?,
            None => (Arc::new(context), None),
        };
        let stream = match &plan {
            // Whoever runs this waits for all of it.
            LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => {
                datafusion::physical_plan::execute_stream(Arc::clone(&physical), context)?
            }
            _ => self.rows(Arc::clone(&physical), weight, context)?,
        };
        let schema = named(statement, &stream.schema());
        let stream = renamed(holding(stream, place), schema);
        if let LogicalPlan::Dml(DmlStatement { op, table_name, .. }) = &plan {
            let mut rows = count(stream).await?;
            let metrics = physical.metrics().and_then(|m| m.sum_by_name(DIVERTED));
            let mut diverted = metrics.map_or(0, |n| n.as_usize() as u64);
            if let Some(alone) = alone
                && let Some(appended) = alone.commit(&self.interrupt()).await?
            {
                (rows, diverted) = (appended.rows, appended.late);
            }
            let (tag, rows) = (dml_tag(op).to_owned(), Some(rows));
            if diverted > 0 {
                let s = if diverted == 1 { "row came" } else { "rows came" };
                remarks
                    .add(format!("{diverted} {s} late and went to '{}'", late::name_of(table_name.table())));
            }
            return Ok(Outcome::Done { tag, rows, notice: remarks.notice() });
        }
        if let LogicalPlan::Copy(_) = &plan {
            return Ok(Outcome::counted("COPY", count(stream).await?));
        }
        let tag = match &plan {
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => "EXPLAIN",
            _ => match statement {
                EngineStatement::Statement(s) if s.to_string().starts_with("SHOW") => "SHOW",
                _ => "SELECT",
            },
        };
        let stream = observed(stream, if weight.is_heavy() { "heavy" } else { "small" }, begun);
        Ok(Outcome::Rows { tag: tag.to_owned(), stream, stamp, notice: remarks.notice() })
    }

    /// Plans a statement with pins of its own. Nothing has been read or written then, unless it is
    /// done at once.
    async fn planned(
        &self,
        sql: &str,
        statement: &EngineStatement,
        parameters: &[ScalarValue],
    ) -> Result<Planned> {
        let mut state = self.ctx.state();
        let interrupt = self.interrupt();
        let transaction = self.transaction.lock().clone();
        match &transaction {
            Some(transaction) => transaction.install(state.config_mut(), &interrupt),
            None => drop(Pins::install(state.config_mut())),
        }
        let (mut plan, known) = match self.plans.get(sql) {
            Some(known) => (known.logical.clone(), Some(known)),
            None => self.plan_anew(&state, sql, statement).await?,
        };
        if !parameters.is_empty() {
            plan = plan.replace_params_with_values(&parameters.to_vec().into())?;
        }
        match &plan {
            // Settings change the session itself, so they run in its context.
            LogicalPlan::Statement(
                EngineCommand::Prepare(_) | EngineCommand::Execute(_) | EngineCommand::Deallocate(_),
            ) => {
                return Err(Error::not_supported("PREPARE and EXECUTE are for clients of a server")
                    .with_hint("run the statement itself"));
            }
            LogicalPlan::Statement(_) => {
                self.ctx.execute_logical_plan(resetting(plan)).await?.collect().await?;
                self.custom.store(true, Ordering::Relaxed);
                self.plans.clear();
                if PlannerSettings::of(&self.ctx.copied_config()).rewrite {
                    // So that rollups are known which others have made.
                    self.warehouse.list().await?;
                }
                return Ok(Planned::Done(Outcome::done(if is_reset(statement) { "RESET" } else { "SET" })));
            }
            LogicalPlan::Ddl(ddl) => {
                return Err(Error::not_supported(format!(
                    "{} is not possible in a warehouse",
                    spelt(ddl.name())
                )));
            }
            LogicalPlan::Dml(dml) if dml.op == WriteOp::Delete => {
                self.outside("DELETE")?;
                return Ok(Planned::Done(self.delete(dml, &state).await?));
            }
            LogicalPlan::Dml(dml) if dml.op == WriteOp::Update => {
                return Err(Error::not_supported("UPDATE is not possible").with_hint(
                    "INSERT a row that corrects the old one, or DELETE it and INSERT the new one",
                ));
            }
            _ => {}
        }
        if let Some(transaction) = &transaction
            && reads_tables(&plan)?
        {
            transaction.flush().await?;
        }
        let mut alone = None;
        if matches!(plan, LogicalPlan::Dml(_)) && transaction.is_none() {
            let own = Transaction::alone(Pins::of(state.config()));
            own.install(state.config_mut(), &interrupt);
            alone = Some(own);
        }
        if matches!(plan, LogicalPlan::Dml(_)) {
            plan = nullable_values(plan)?;
        }
        let prepared = prepare(&plan, &self.warehouse, &mut state).await;
        let mut stamp = None;
        if let Some(known) = known {
            stamp = known.stamp(&Pins::of(state.config())).filter(|_| self.is_plain());
            if !known.is_current_if_pinned().await? {
                self.plans.forget(sql);
                return Err(Error::conflict("what the statement names was defined anew meanwhile"));
            }
        }
        prepared?;
        let remarks = Remarks::install(state.config_mut());
        let physical = state.create_physical_plan(&plan).await?;
        Ok(Planned::Query(Box::new(Ready { plan, state, physical, stamp, alone, remarks })))
    }
}

/// Of a statement that is not part of a transaction: what it is called.
fn commits_by_itself(statement: &Statement) -> Option<&'static str> {
    match statement {
        Statement::Refresh(_) => Some("REFRESH MATERIALIZED VIEW"),
        Statement::Alter(_) => Some("ALTER TABLE"),
        Statement::Copy(_) => None,
        Statement::Engine(statement) => ddl_tag(statement),
    }
}

/// Of COPY where nobody is at the other end.
pub fn needs_client() -> Error {
    Error::not_supported("COPY FROM STDIN and TO STDOUT need a client that speaks PostgreSQL's protocol")
        .with_hint("use psql with a server; for files there are `toplake ingest files` and COPY … TO '…' STORED AS …")
}

/// `CREATE INDEX` for the engine's `CreateIndex`.
fn spelt(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_uppercase());
    }
    words
}

/// What planning a statement gives.
enum Planned {
    /// It is done: a setting is set, rows are deleted.
    Done(Outcome),
    /// It is ready to run.
    Query(Box<Ready>),
}

/// A statement that is ready to run.
struct Ready {
    plan: LogicalPlan,
    state: SessionState,
    physical: Arc<dyn ExecutionPlan>,
    stamp: Option<Stamp>,
    /// Of an INSERT outside of a transaction: its own.
    alone: Option<Transaction>,
    /// What there is to know besides its rows.
    remarks: Arc<Remarks>,
}

/// The engine can reset its own settings only: ours are set to their default.
fn resetting(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Statement(EngineCommand::ResetVariable(reset))
            if reset.variable.starts_with("toplake.") =>
        {
            let set = SetVariable { variable: reset.variable, value: "default".to_owned() };
            LogicalPlan::Statement(EngineCommand::SetVariable(set))
        }
        other => other,
    }
}

/// The VALUES of an INSERT may be NULL: it is the table that refuses them, and it names its own column.
fn nullable_values(plan: LogicalPlan) -> Result<LogicalPlan> {
    let changed = plan.transform_up(|node| match node {
        LogicalPlan::Values(mut values) => {
            let fields = values.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
            let fields = fields.collect::<Vec<_>>().into();
            values.schema =
                Arc::new(DFSchema::from_unqualified_fields(fields, values.schema.metadata().clone())?);
            Ok(Transformed::yes(LogicalPlan::Values(values)))
        }
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })?;
    Ok(changed.data)
}

/// Whether a plan reads tables, other than the one that it writes.
fn reads_tables(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::TableScan(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The number that a writing plan gives.
async fn count(stream: SendableRecordBatchStream) -> Result<u64> {
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    let counts = batches.iter().filter_map(|b| b.column(0).as_primitive_opt::<UInt64Type>());
    Ok(counts.flat_map(|c| c.values().iter()).sum())
}

fn dml_tag(op: &WriteOp) -> &'static str {
    match op {
        WriteOp::Insert(_) => "INSERT",
        WriteOp::Delete => "DELETE",
        WriteOp::Update => "UPDATE",
        _ => "WRITE",
    }
}

/// The tag of a statement that changes what the warehouse holds.
pub(super) fn ddl_tag(statement: &EngineStatement) -> Option<&'static str> {
    match statement {
        EngineStatement::CreateExternalTable(_) => Some("CREATE EXTERNAL TABLE"),
        EngineStatement::Statement(sql) => match sql.as_ref() {
            SqlStatement::CreateTable(_) => Some("CREATE TABLE"),
            SqlStatement::CreateView(view) if view.materialized => Some("CREATE MATERIALIZED VIEW"),
            SqlStatement::CreateView(_) => Some("CREATE VIEW"),
            SqlStatement::Drop { .. } => Some("DROP"),
            SqlStatement::Vacuum(_) => Some("VACUUM"),
            SqlStatement::Grant(_) => Some("GRANT"),
            SqlStatement::Revoke(_) => Some("REVOKE"),
            SqlStatement::Comment { .. } => Some("COMMENT"),
            _ => None,
        },
        _ => None,
    }
}

fn is_reset(statement: &EngineStatement) -> bool {
    matches!(statement, EngineStatement::Reset(_))
}

/// Whether a statement may read the list of tables.
fn lists_tables(statement: &EngineStatement) -> bool {
    let text = statement.to_string().to_lowercase();
    text.starts_with("show") || text.contains("information_schema") || text.contains("pg_")
}
