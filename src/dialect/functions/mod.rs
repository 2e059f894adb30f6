//! Functions, one family a file.

mod age;
mod date_part;
mod date_trunc;
mod format;
pub(super) mod interval;
mod numbers;
mod pattern;
mod scalar;
mod timezone;
mod to_char;
mod to_number;
mod to_timestamp;

use std::sync::Arc;

use datafusion::functions::math;
use datafusion::functions_aggregate::{bool_and_or, variance};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// Every scalar function.
pub(super) fn scalar() -> Vec<Arc<ScalarUDF>> {
    let under = |udf: Arc<ScalarUDF>, names: &[&'static str]| {
        Arc::new(udf.as_ref().clone().with_aliases(names.iter().copied()))
    };
    let mut all = vec![
        under(math::signum(), &["sign"]),
        under(math::ceil(), &["ceiling"]),
        date_part::udf(),
        date_trunc::udf(),
        timezone::udf(),
        to_char::udf(),
        to_number::udf(),
        to_timestamp::to_timestamp(),
        to_timestamp::to_date(),
    ];
    all.extend(age::udfs());
    all.extend(format::udfs());
    all.extend(interval::udfs());
    all.extend(numbers::udfs());
    all
}

/// Parts of a time.
pub(super) fn date_part() -> Arc<ScalarUDF> {
    date_part::udf()
}

/// What a clock of a zone shows, and when.
pub(super) fn timezone() -> Arc<ScalarUDF> {
    timezone::udf()
}

/// Every aggregate function.
pub(super) fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let under =
        |udf: Arc<AggregateUDF>, name: &'static str| Arc::new(udf.as_ref().clone().with_aliases([name]));
    vec![under(bool_and_or::bool_and_udaf(), "every"), under(variance::var_samp_udaf(), "variance")]
}
