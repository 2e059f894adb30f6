//! PostgreSQL's SQL where the engine's differs: what BI tools and their users write, whichever way it comes
//! in.
//!
//! `statement` puts expressions that the engine cannot plan, or plans otherwise, into words that it knows;
//! `operators` plans operators by the types of what they stand between; `session_zone` has instants read by
//! the clock of the session; `functions` has the functions.

mod functions;
mod operators;
mod session_zone;
mod statement;

use std::sync::Arc;

use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

pub use self::statement::adapt;

/// The functions that PostgreSQL has and the engine does not, or that do other things there.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    functions::scalar()
}

/// The same for aggregates.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    functions::aggregate()
}

/// What plans operators; it has to be asked before the engine's own.
pub fn expr_planner() -> Arc<dyn ExprPlanner> {
    Arc::new(operators::Operators)
}

/// What has casts of instants go by the clock of the session.
pub fn analyzer_rule() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(session_zone::SessionZone)
}
