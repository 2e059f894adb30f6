//! `CALL resume('pipeline')`: a pipeline that has stopped by itself goes on.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringViewArray};

use super::call::Arguments;
use super::run::Session;
use crate::error::{Error, Result};

impl Session {
    /// `CALL resume(pipeline)`
    pub(super) async fn resume(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        let known = self.warehouse.pipelines().await?;
        let mut tables: Vec<&str> =
            known.iter().filter(|p| p.name == name).map(|p| p.table.as_str()).collect();
        tables.dedup();
        if tables.is_empty() {
            let mut names: Vec<&str> = known.iter().map(|p| p.name.as_str()).collect();
            names.dedup();
            let hint = match names.is_empty() {
                true => "none has run in the last day".to_owned(),
                false => format!("there are {} (see toplake.pipelines)", names.join(", ")),
            };
            return Err(Error::invalid_input(format!("there is no pipeline '{name}'")).with_hint(hint));
        }
        for table in &tables {
            self.warehouse.resume(table).await.map_err(|e| e.context(format!("pipeline '{name}'")))?;
        }
        let names = StringViewArray::from_iter_values(tables.iter().map(|_| name));
        Ok(vec![Arc::new(names), Arc::new(StringViewArray::from_iter_values(tables))])
    }
}
