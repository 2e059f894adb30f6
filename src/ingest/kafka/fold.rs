//! Folding while rows come in: what is read from a rollup need not be summed up from the events again.

use std::sync::Arc;

use tokio::sync::Notify;

use super::pipeline::Pipeline;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Kind, Result};
use crate::rollup::fold::fold;

/// Folds the rollups that are made from the table directly after each commit, or after a few where they come faster.
pub(super) async fn follow(pipeline: Arc<Pipeline>, committed: Arc<Notify>) {
    let mut said: Option<String> = None;
    loop {
        committed.notified().await;
        match once(&pipeline).await {
            Ok(()) => said = None,
            Err(e) => {
                let what = e.to_string();
                if said.as_ref() != Some(&what) {
                    tracing::warn!(ingest = pipeline.name(), error = %e, "a fold failed; the next commit tries again");
                    said = Some(what);
                }
            }
        }
    }
}

async fn once(pipeline: &Pipeline) -> Result<()> {
    let warehouse = pipeline.engine.warehouse();
    let mut failed: Option<Error> = None;
    for name in warehouse.dependents(&pipeline.options.table).await? {
        let folded = match warehouse.get(&name).await {
            Ok(Some(Object::Rollup(table))) => fold(table.rollup(), &pipeline.session).await.map(|_| ()),
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        };
        match folded {
            // Another process does the same.
            Err(e) if e.kind() == Kind::Conflict => {}
            Err(e) => failed = failed.or(Some(e.context(format!("'{name}'")))),
            Ok(()) => {}
        }
    }
    failed.map_or(Ok(()), Err)
}
