//! What the engine's own optimizer does not know: rules over rollups, and one over joins. Each is right by itself, and a
//! query means the same without it.
//!
//! | file | what |
//! | --- | --- |
//! | [`answer_from_rollup`] | a query over raw events is answered by a rollup that says the same |
//! | [`drop_merge`] | partial rows are not merged for a query that aggregates them again |
//! | [`aggregation`], [`candidates`] | what is asked of an events table; what there is to answer it |
//! | [`yield_in_joins`] | a join gives way to others, between `portions` of its rows |
//! | [`settings`] | what a session asks of its planner |

pub mod aggregation;
pub mod answer_from_rollup;
pub mod candidates;
pub mod drop_merge;
mod not_null;
pub(crate) mod portions;
pub mod settings;
pub mod yield_in_joins;

use std::sync::Arc;

use datafusion::optimizer::OptimizerRule;

/// Our rules, in the order in which they run: after the engine's own, which have pushed filters and columns down to the
/// scans by then, and do so again with what a rule has changed.
pub fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![Arc::new(answer_from_rollup::AnswerFromRollup), Arc::new(drop_merge::DropMerge)]
}
