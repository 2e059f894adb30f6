//! Runs a plan that is spread over workers, and once more over those that remain where one is lost before the first row.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, execute_stream,
};
use datafusion_distributed::DistributedExt;
use futures::StreamExt;

use super::Cluster;
use super::channels::{LOST, is_lost};
use super::planner::Again;
use super::travel::Settings;
use crate::error::{Error, Kind};
use crate::metrics;

/// The plan, and what it takes to plan it again.
#[derive(Debug)]
pub(super) struct OnWorkersExec {
    spread: Arc<dyn ExecutionPlan>,
    again: Arc<Again>,
    cluster: Arc<Cluster>,
}

impl OnWorkersExec {
    pub(super) fn new(spread: Arc<dyn ExecutionPlan>, again: Again, cluster: Arc<Cluster>) -> Self {
        OnWorkersExec { spread, again: Arc::new(again), cluster }
    }

    /// The plan in stages.
    pub(super) fn stages(&self) -> &Arc<dyn ExecutionPlan> {
        &self.spread
    }
}

impl DisplayAs for OnWorkersExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnWorkersExec")
    }
}

impl ExecutionPlan for OnWorkersExec {
    fn name(&self) -> &str {
        "OnWorkersExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.spread.properties()
    }

    /// The plan that the server would run itself: what it reads is what the query weighs.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.again.local()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            // What was spread is not made anew: another plan is run as it is.
            Some(local) if children.is_empty() && !Arc::ptr_eq(&local, self.again.local()) => Ok(local),
            Some(_) if children.is_empty() => Ok(self),
            _ => internal_err!("OnWorkersExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("OnWorkersExec has one partition");
        }
        let context = with_settings(&context);
        let (spread, again, cluster) =
            (Arc::clone(&self.spread), Arc::clone(&self.again), Arc::clone(&self.cluster));
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema(), 2);
        let out = builder.tx();
        builder.spawn(async move {
            metrics::spread();
            cluster.runs.fetch_add(1, Ordering::Relaxed);
            let (first, mut rows) = match begin(&spread, &context).await {
                Err(e) if is_lost(&e) => {
                    tracing::warn!(error = %first_line(&e), "a worker was lost before the first row: once more");
                    metrics::worker_lost("retried");
                    cluster.members.look_again().await;
                    let plan = again.plan(&cluster).await?;
                    begin(&plan, &context).await.map_err(|e| told(e, "twice, before the first row"))?
                }
                begun => begun?,
            };
            let mut next = first.map(Ok);
            while let Some(batch) = next {
                let batch = batch.map_err(|e| told(e, "after the first row"));
                let failed = batch.is_err();
                if out.send(batch).await.is_err() || failed {
                    return Ok(());
                }
                next = rows.next().await;
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

/// Runs a plan up to its first row.
async fn begin(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<(Option<RecordBatch>, SendableRecordBatchStream)> {
    let mut rows = execute_stream(Arc::clone(plan), Arc::clone(context))?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            return Ok((Some(batch), rows));
        }
    }
    Ok((None, rows))
}

/// An error as users are told it.
fn told(e: DataFusionError, when: &str) -> DataFusionError {
    if !is_lost(&e) {
        return e;
    }
    metrics::worker_lost("failed");
    Error::new(Kind::WorkersLost, format!("a worker was lost {when}: {}", first_line(&e)))
        .with_hint("try again; toplake.workers says how each is")
        .into()
}

fn first_line(e: &DataFusionError) -> String {
    let text = e.to_string();
    let text = text.split_once(LOST).map_or(text.as_str(), |(_, rest)| rest.trim_start_matches(": "));
    text.lines().next().unwrap_or_default().trim_end_matches(['"', '\\']).to_owned()
}

/// The context of a run, with what workers are to have set.
fn with_settings(context: &Arc<TaskContext>) -> Arc<TaskContext> {
    let mut config = context.session_config().clone();
    let settings = Settings::of(config.options());
    config.set_distributed_option_extension(settings);
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}
