//! DELETE.

use std::any::Any;

use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DmlStatement, LogicalPlan};

use super::run::{Outcome, Session};
use crate::catalog::events::EventsTable;
use crate::catalog::ledger;
use crate::catalog::options::keys;
use crate::catalog::side_table::SideTable;
use crate::error::{Error, Result};
use crate::lake::table::Table;
use crate::maintain::delete::{Condition, delete};
use crate::maintain::needed::rollups_over;
use crate::maintain::target::Rows;

impl Session {
    /// `DELETE FROM t [WHERE …]`
    pub(super) async fn delete(&self, statement: &DmlStatement, state: &SessionState) -> Result<Outcome> {
        let name = statement.table_name.table();
        let provider = source_as_provider(&statement.target)?;
        let any = provider.as_ref() as &dyn Any;
        let (rows, holders) = if let Some(events) = any.downcast_ref::<EventsTable>() {
            // Rows that are named for it but not added yet have to go too.
            self.warehouse.catch_up(events.table()).await?;
            (Rows::of(events.table()), self.holders_of_expired(events.table()).await?)
        } else if let Some(side) = any.downcast_ref::<SideTable>() {
            if side.name() == ledger::NAME {
                return Err(Error::not_supported("no row can be deleted from the ledger").with_hint(
                    "ALTER TABLE toplake.ledger SET (retention = …) says how long rows are kept",
                ));
            }
            let rows = Rows::of_side(side).await?;
            self.warehouse.catch_up(&rows.table).await?;
            (rows, None)
        } else {
            return Err(Error::wrong_object_type(format!("'{name}' has no rows of its own to delete"))
                .with_hint("delete from the tables that it is made from"));
        };
        let filter = match statement.input.as_ref() {
            LogicalPlan::TableScan(_) => None,
            LogicalPlan::Filter(filter) if matches!(filter.input.as_ref(), LogicalPlan::TableScan(_)) => {
                Some(filter.predicate.clone())
            }
            other => {
                return Err(Error::not_supported(format!("DELETE with {} is not possible", other.display())));
            }
        };
        let condition = Condition { table: statement.table_name.clone(), filter };
        let deleted = delete(&rows, &condition, holders.as_deref(), state)
            .await
            .map_err(|e| e.context(format!("table '{name}'")))?;
        Ok(Outcome::counted("DELETE", deleted))
    }

    /// What still has rows of a table that are past their retention.
    async fn holders_of_expired(&self, table: &Table) -> Result<Option<String>> {
        if table.snapshot().expired_through().is_none() {
            return Ok(None);
        }
        let rollups = rollups_over(&self.warehouse, table).await?;
        let mut holders: Vec<String> =
            rollups.iter().map(|r| format!("rollup '{}'", r.table.name())).collect();
        holders.extend(table.snapshot().option(keys::ARCHIVE).map(|url| format!("the archive {url}")));
        Ok((!holders.is_empty()).then(|| holders.join(", ")))
    }
}
