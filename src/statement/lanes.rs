//! Where the rows of a query are made: small queries and big ones keep out of each other's way.
//!
//! A query keeps its thread busy from batch to batch, and a thread has its queries wait for each other. So what reads much is
//! for threads of its own, which the machine's scheduler puts behind the others.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::run::Session;
use crate::error::Result;
use crate::workload::Weight;

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
        weight: Weight,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(lanes) = &self.lanes else { return Ok(execute_stream(physical, context)?) };
        let lane = if weight.is_heavy() { &lanes.big } else { &lanes.small };
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
        driven.spawn_on(work.in_current_span(), lane);
        Ok(driven.build())
    }
}
