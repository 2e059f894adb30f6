//! PostgreSQL's SQL where the engine's differs: what BI tools and their users write, whichever way it comes
//! in.
//!
//! `statement` puts expressions that the engine cannot plan, or plans otherwise, into words that it knows;
//! `operators` plans operators by the types of what they stand between; `session_zone` has instants read by
//! the clock of the session; `text_values` reads texts that stand for other values, by `literal`; `functions` has the
//! functions.

mod functions;
pub mod literal;
mod operators;
mod session_zone;
mod statement;
mod text_values;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use self::statement::{adapt, call};

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

/// The plan of a statement or view as PostgreSQL means it: texts read as what they stand for, instants shown by the clock of
/// a time zone. It is for a plan before any optimisation, once.
pub fn as_meant(plan: LogicalPlan, zone: Option<&str>) -> Result<LogicalPlan> {
    session_zone::by_clock_of(zone, text_values::read_texts(plan)?)
}
