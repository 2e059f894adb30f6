//! The demo: sample events that look like a shop's and an ad network's.

pub mod clicks;
pub mod feed;
pub mod generator;
mod random;

use datafusion::arrow::array::RecordBatch;

use crate::error::Result;

/// Sample events of a table.
pub trait Sample: Send + 'static {
    /// This many events between two instants (microseconds), about in the order in which they came in.
    fn backfill(&mut self, from: i64, to: i64, rows: u64) -> Result<Vec<RecordBatch>>;

    /// This many that come in over the second that ends at `now`.
    fn live(&mut self, now: i64, rows: usize) -> Result<RecordBatch>;
}
