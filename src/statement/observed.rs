//! What statements tell in numbers and in the log: how long each takes, how much it reads and gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tracing::Span;

use super::run::Outcome;
use crate::error::Result;
use crate::metrics;

/// The span of the next statement: what is logged in it carries its number, which no other statement of the process has.
pub(super) fn span(sql: &str) -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let span = tracing::info_span!("statement", id);
    span.in_scope(|| tracing::debug!(sql, "begins"));
    span
}

/// Counts a statement that gave no rows. One that fails is counted by whoever tells the client.
pub(super) fn note(done: &Result<Outcome>, begun: Instant) {
    if let Ok(Outcome::Done { tag, rows, .. }) = done {
        let kind = if matches!(tag.as_str(), "INSERT" | "DELETE" | "COPY") { "write" } else { "command" };
        metrics::statement_done(kind, rows.unwrap_or(0), begun.elapsed());
    }
}

/// The same rows, counted, and their time when they have been taken or are not wanted any more.
pub(super) fn observed(
    rows: SendableRecordBatchStream,
    kind: &'static str,
    begun: Instant,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let mut seen = Seen { kind, begun, rows: 0, span: Span::current() };
    let rows = rows.inspect(move |batch: &EngineResult<RecordBatch>| match batch {
        Ok(batch) => seen.rows += batch.num_rows() as u64,
        Err(e) => seen.span.in_scope(|| tracing::debug!(error = %e, "failed")),
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows))
}

struct Seen {
    kind: &'static str,
    begun: Instant,
    rows: u64,
    span: Span,
}

impl Drop for Seen {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        metrics::statement_done(self.kind, self.rows, took);
        self.span.in_scope(|| tracing::debug!(kind = self.kind, rows = self.rows, ?took, "ends"));
    }
}
