//! Has joins give way to others.
//!
//! The engine's own operators give way where rows come in. A join that compares each row with each of a million others goes
//! on for minutes with the rows that it has: without this, a query that was cancelled would keep its thread until then.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use super::portions::PortionsExec;

/// Times a batch of the engine's they take a tenth of a second.
const FEW: usize = 16_384;

/// The rule. It runs behind the engine's own, which look for joins.
#[derive(Debug)]
pub struct YieldInJoins;

impl PhysicalOptimizerRule for YieldInJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let compares_all = node.is::<CrossJoinExec>() || node.is::<NestedLoopJoinExec>();
            let multiplies = compares_all
                || node.is::<HashJoinExec>()
                || node.is::<SortMergeJoinExec>()
                || node.is::<UnnestExec>();
            if !multiplies {
                return Ok(Transformed::no(node));
            }
            // The left side is kept; the right one is what is compared with it, batch by batch.
            let node = match node.children().as_slice() {
                [left, right] if compares_all && !is_small(left) => {
                    let right = Arc::new(PortionsExec::new(Arc::clone(right)));
                    let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
                    let children = vec![Arc::clone(left), right as _];
                    Arc::clone(&node).replace_children(children, anew)?
                }
                _ => node,
            };
            // What comes out is as much again.
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as _))
        })
        .data()
    }

    fn name(&self) -> &str {
        "yield_in_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether a batch is soon compared with all of its rows.
fn is_small(side: &Arc<dyn ExecutionPlan>) -> bool {
    let statistics = StatisticsContext::new().compute(side.as_ref(), &StatisticsArgs::new());
    statistics.is_ok_and(|s| s.num_rows.get_value().is_some_and(|rows| *rows <= FEW))
}
