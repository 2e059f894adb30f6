//! `CALL compact`, `CALL accept_late`, `CALL expire`, and VACUUM.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{ObjectNamePart, VacuumStatement};

use super::call::Arguments;
use super::parse::normal;
use super::run::{Outcome, Session};
use crate::catalog::options::micros;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Result};
use crate::maintain::accept::accept_late;
use crate::maintain::compact::compact;
use crate::maintain::expire::expire;
use crate::maintain::target::Target;
use crate::maintain::vacuum::{vacuum, vacuum_all};

impl Session {
    /// `CALL compact(t)`
    pub(super) async fn compact(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        let target = Target::find(&self.warehouse, name).await?;
        let done = compact(&target, &self.ctx.state()).await?;
        let number = |n: u64| Arc::new(Int64Array::from(vec![n as i64])) as ArrayRef;
        Ok(vec![
            Arc::new(StringViewArray::from_iter_values([name])),
            number(done.files_removed),
            number(done.files_added),
            number(done.bytes_written),
            number(done.commits),
        ])
    }

    /// `CALL accept_late(t [, from [, to]])`
    pub(super) async fn accept_late(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        let Object::Table(events) = self.warehouse.require(name).await? else {
            return Err(Error::wrong_object_type(format!("'{name}' is a view, and has no late rows")));
        };
        let zoned = events.options().time_column.as_ref().is_some_and(|time| {
            let field = events.stored().field_with_name(time);
            field.is_ok_and(|f| matches!(f.data_type(), DataType::Timestamp(_, Some(_))))
        });
        let instant = |place, otherwise| match arguments.has(place) {
            true => arguments.instant(place, zoned),
            false => Ok(otherwise),
        };
        let range = (instant(1, i64::MIN)?, instant(2, i64::MAX)?);
        let rows = accept_late(&self.warehouse, &events, range, &self.ctx.state()).await?;
        Ok(vec![
            Arc::new(StringViewArray::from_iter_values([name])),
            Arc::new(Int64Array::from(vec![rows as i64])),
        ])
    }

    /// `CALL expire(t [, retention])`
    pub(super) async fn expire(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        let retention = arguments.optional_text(1).map(|text| micros("retention", text)).transpose()?;
        let Target::Rows(rows) = Target::find(&self.warehouse, name).await? else {
            return Err(Error::wrong_object_type(format!("'{name}' is a view, and keeps what it has"))
                .with_hint("retention is for the tables that views are made from"));
        };
        let done = expire(&self.warehouse, &rows, retention, &self.ctx.state()).await?;
        let number = |n: u64| Arc::new(Int64Array::from(vec![n as i64])) as ArrayRef;
        Ok(vec![
            Arc::new(StringViewArray::from_iter_values([name])),
            Arc::new(TimestampMicrosecondArray::from(vec![done.through])),
            number(done.rows),
            number(done.archived),
        ])
    }

    /// `VACUUM [FULL] [t]`
    pub(super) async fn vacuum(&self, statement: &VacuumStatement) -> Result<Outcome> {
        let VacuumStatement {
            full,
            sort_only,
            delete_only,
            reindex,
            recluster,
            table_name,
            threshold,
            boost,
        } = statement;
        if *sort_only || *delete_only || *reindex || *recluster || threshold.is_some() || *boost {
            return Err(Error::not_supported("VACUUM takes FULL and a table, and nothing else"));
        }
        let done = match table_name {
            None => vacuum_all(&self.warehouse, *full).await?,
            Some(name) => {
                let parts = name.0.iter().map(|part| match part {
                    ObjectNamePart::Identifier(ident) => Ok(normal(ident)),
                    other => Err(Error::syntax(format!("'{other}' is not a name"))),
                });
                let name = parts.collect::<Result<Vec<_>>>()?.join(".");
                let target = Target::find_to_vacuum(&self.warehouse, &name).await?;
                vacuum(&self.warehouse, &target, *full, None).await?
            }
        };
        tracing::info!(files = done.files, log = done.log, "vacuumed");
        Ok(Outcome::done("VACUUM"))
    }
}
