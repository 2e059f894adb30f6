//! Where the rows of a query are made: small queries and big ones keep out of each other's way.
//!
//! A query keeps its thread busy from batch to batch, and a thread has its queries wait for each other. So what reads much is
//! for threads of its own, which the machine's scheduler puts behind the others.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::run::Session;
use crate::error::Result;

/// A query is big from so many bytes of files on that it has to look at.
const BIG: u64 = 16 << 20;

/// Batches that are ready before the client has taken those before them.
const AHEAD: usize = 2;

/// The threads of a server.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// For planning, small queries and INSERT.
    pub small: Handle,
    /// For big queries, folds and jobs.
    pub big: Handle,
}

impl Session {
    /// Has queries run on these threads; else they run where their rows are waited for.
    pub fn on(mut self, lanes: Lanes) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Runs a query.
    pub(super) fn rows(
        &self,
        physical: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(lanes) = &self.lanes else { return Ok(execute_stream(physical, context)?) };
        let lane = if bytes(&physical) >= BIG { &lanes.big } else { &lanes.small };
        let mut driven = RecordBatchReceiverStream::builder(physical.schema(), AHEAD);
        let sender = driven.tx();
        let work = async move {
            let mut rows = execute_stream(physical, context)?;
            while let Some(batch) = rows.next().await {
                let failed = batch.is_err();
                // Nobody waits for more.
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
            Ok::<(), DataFusionError>(())
        };
        driven.spawn_on(work, lane);
        Ok(driven.build())
    }
}

/// Bytes of all files that a plan scans, whichever columns and pages of them it needs in the end.
fn bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let mut sum = 0;
    let walked = plan.apply(|node| {
        let scan = (node.as_ref() as &dyn std::any::Any).downcast_ref::<DataSourceExec>();
        let config = scan.map(|scan| scan.data_source().as_ref() as &dyn std::any::Any);
        if let Some(config) = config.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
            let files = config.file_groups.iter().flat_map(|group| group.iter());
            sum += files.map(|file| file.effective_size()).sum::<u64>();
        }
        Ok(TreeNodeRecursion::Continue)
    });
    // The walk itself has nothing to fail with.
    walked.map_or(u64::MAX, |_| sum)
}
