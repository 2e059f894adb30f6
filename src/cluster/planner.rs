//! What is spread over workers, and what the server runs itself.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::display::{PlanType, StringifiedPlan};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_distributed::{DistributedExec, SessionStateBuilderExt, display_plan_ascii};

use super::on_workers::OnWorkersExec;
use super::tasks::{OneThread, bytes_read};
use super::{Cluster, travel};
use crate::statement::Remarks;

/// Plans as the engine does, then spreads what is large.
#[derive(Debug)]
pub(super) struct Planner {
    cluster: Arc<Cluster>,
    distributed: Distributed,
}

/// The half that spreads a plan that is [`Given`].
pub(super) type Distributed = Arc<dyn QueryPlanner + Send + Sync>;

impl Planner {
    /// A planner with these halves.
    pub(super) fn new(cluster: Arc<Cluster>, distributed: Distributed) -> Self {
        Planner { cluster, distributed }
    }
}

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let local = DefaultPhysicalPlanner::default().create_physical_plan(logical, session).await?;
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else { return Ok(local) };
        if let LogicalPlan::Explain(explain) = logical {
            let state = &*in_parts(state);
            let inner = DefaultPhysicalPlanner::default().create_physical_plan(&explain.plan, state).await;
            return match inner {
                Ok(inner) => self.explained(local, inner, state).await,
                // What cannot be planned is explained as far as it can.
                Err(_) => Ok(local),
            };
        }
        if !self.is_large(&local)? {
            return Ok(local);
        }
        let several = in_parts(state);
        let parts = match &several {
            Cow::Borrowed(_) => Arc::clone(&local),
            Cow::Owned(state) => {
                DefaultPhysicalPlanner::default().create_physical_plan(logical, state).await?
            }
        };
        let spread = self.spread(Arc::clone(&parts), &several).await?;
        Ok(if Arc::ptr_eq(&spread, &parts) { local } else { spread })
    }
}

/// The session, with plans in parts that may go to different tasks: one that has no parts is worked at as a whole.
pub(super) fn in_parts(state: &SessionState) -> Cow<'_, SessionState> {
    if state.config().target_partitions() > 1 {
        return Cow::Borrowed(state);
    }
    let mut state = state.clone();
    state.config_mut().options_mut().execution.target_partitions = 2;
    state.config_mut().set_extension(Arc::new(OneThread));
    Cow::Owned(state)
}

impl Planner {
    /// Whether there is anybody for a plan that is large. Where that is refused, it is once the plan is known to be.
    pub(super) fn may_spread(&self) -> bool {
        self.cluster.members.live().len() > 1 || self.cluster.is_needed()
    }

    /// The plan, spread over the workers where it is large enough for that.
    pub(super) async fn spread(
        &self,
        local: Arc<dyn ExecutionPlan>,
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(sink) = local.downcast_ref::<DataSinkExec>() {
            // What takes the rows stays here, above what may be run once more: it commits after the last of them.
            let rows = Box::pin(self.spread(Arc::clone(sink.input()), state)).await?;
            if Arc::ptr_eq(&rows, sink.input()) {
                return Ok(local);
            }
            let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            return local.replace_children(vec![rows], anew);
        }
        if !self.is_large(&local)? {
            return Ok(local);
        }
        if !self.cluster.has_enough()? {
            Remarks::make(
                state.config(),
                "the query runs on the server alone: fewer than two workers are live",
            );
            return Ok(local);
        }
        let Some(spread) = distribute(&self.distributed, &local, state).await? else { return Ok(local) };
        if let Err(e) = travel::check(&spread, &local, state) {
            tracing::info!(reason = %e, "a plan stays on the server: a part of it cannot go to a worker");
            let remark =
                format!("the query runs on the server alone: a part of it cannot go to a worker: {e}");
            Remarks::make(state.config(), &remark);
            return Ok(local);
        }
        let again = Again { distributed: Arc::clone(&self.distributed), local, state: state.clone() };
        Ok(Arc::new(OnWorkersExec::new(spread, again, Arc::clone(&self.cluster))))
    }

    /// Whether a scan is worth more than one task.
    fn is_large(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
        let mut large = false;
        plan.apply(|node| {
            large |= bytes_read(node.as_ref()).is_some_and(|bytes| bytes > self.cluster.bytes_per_task);
            Ok(if large { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(large)
    }

    /// EXPLAIN with the stages that a plan has.
    async fn explained(
        &self,
        explain: Arc<dyn ExecutionPlan>,
        inner: Arc<dyn ExecutionPlan>,
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(rows) = explain.downcast_ref::<ExplainExec>() else { return Ok(explain) };
        // What would be refused is explained as the server would run it.
        let Ok(spread) = self.spread(inner, state).await else { return Ok(explain) };
        let Some(spread) = spread.downcast_ref::<OnWorkersExec>() else { return Ok(explain) };
        let stages = display_plan_ascii(spread.stages().as_ref(), false);
        let mut plans: Vec<StringifiedPlan> = rows.stringified_plans().to_vec();
        for plan in plans.iter_mut().filter(|plan| plan.plan_type == PlanType::FinalPhysicalPlan) {
            plan.plan = Arc::new(stages.clone());
        }
        Ok(Arc::new(ExplainExec::new(explain.schema(), plans, rows.verbose())))
    }
}

/// What it takes to spread a plan once more, over the workers that are there then.
#[derive(Debug)]
pub(super) struct Again {
    distributed: Distributed,
    local: Arc<dyn ExecutionPlan>,
    state: SessionState,
}

impl Again {
    /// The plan that is spread.
    pub(super) fn local(&self) -> &Arc<dyn ExecutionPlan> {
        &self.local
    }

    /// The same for the workers that are there now; the local plan where these are too few for it.
    pub(super) async fn plan(&self, cluster: &Cluster) -> Result<Arc<dyn ExecutionPlan>> {
        let spread = match cluster.has_enough()? {
            true => distribute(&self.distributed, &self.local, &self.state).await?,
            false => None,
        };
        Ok(spread.unwrap_or_else(|| Arc::clone(&self.local)))
    }
}

/// A plan that is there already, for the half of the planner that asks for one.
#[derive(Debug)]
struct Given(Arc<dyn ExecutionPlan>);

/// Hands out the plan that its session was [`Given`].
#[derive(Debug)]
struct GivenPlanner;

#[async_trait]
impl QueryPlanner for GivenPlanner {
    async fn create_physical_plan(
        &self,
        _: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match session.config().get_extension::<Given>() {
            Some(given) => Ok(Arc::clone(&given.0)),
            None => Err(DataFusionError::Internal("no plan was given to be spread".into())),
        }
    }
}

/// The plan in stages, if it has more than one.
async fn distribute(
    distributed: &Distributed,
    local: &Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut state = state.clone();
    state.config_mut().set_extension(Arc::new(Given(Arc::clone(local))));
    // The plan is given, so no other is read.
    let plan = distributed.create_physical_plan(&LogicalPlan::default(), &state).await?;
    let is_spread = match local.is::<AnalyzeExec>() {
        true => plan.children().first().is_some_and(|input| input.is::<DistributedExec>()),
        false => plan.is::<DistributedExec>(),
    };
    Ok(is_spread.then_some(plan))
}

/// The half that spreads plans.
pub(super) fn distributed(builder: SessionStateBuilder) -> SessionStateBuilder {
    builder.with_query_planner(Arc::new(GivenPlanner)).with_distributed_planner()
}
