//! `CALL require_complete`: a job that closes a period begins with it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringViewArray, TimestampMicrosecondArray};

use super::call::Arguments;
use super::run::Session;
use crate::catalog::watermark;
use crate::error::{Error, Result};
use crate::lake::instant::shown;
use crate::lake::pin::Pins;

impl Session {
    /// `CALL require_complete(rollup, through)`: an error unless the watermark has passed `through`, and with it every
    /// bucket that ends there or before.
    pub(super) async fn require_complete(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        let rollup = self.warehouse.rollup(name).await?;
        let wanted = arguments.instant(1, rollup.definition.has_zone())?;
        let pinned = rollup.pin(&Pins::default()).await?;
        let events = pinned.source.events();
        let table = events.table().name();
        let Some(through) = watermark::complete_through(&rollup, events.snapshot())? else {
            return Err(Error::not_complete(format!(
                "'{name}' is not complete at all: '{table}' has no events"
            )));
        };
        if through < wanted {
            let reached = watermark::of(table, events.snapshot())?.map_or_else(String::new, shown);
            return Err(Error::not_complete(format!(
                "'{name}' is complete through {}, and {} is asked for",
                shown(through),
                shown(wanted)
            ))
            .with_hint(format!(
                "the watermark of '{table}' stands at {reached}; it moves with newer events, allowed_lateness behind them"
            )));
        }
        Ok(vec![
            Arc::new(StringViewArray::from_iter_values([name])),
            Arc::new(TimestampMicrosecondArray::from_value(through, 1)),
        ])
    }
}
