//! `CALL run_job('name')`, `pause_job`, `resume_job`: jobs that servers run on a schedule. A call says what is wanted in the
//! warehouse; the server whose turn it is sees it within seconds.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringViewArray};

use super::call::Arguments;
use super::run::Session;
use crate::error::Result;

impl Session {
    /// `CALL run_job(job)`
    pub(super) async fn run_job(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        self.warehouse.want_job(name).await?;
        Ok(named(name))
    }

    /// `CALL pause_job(job)`
    pub(super) async fn pause_job(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        self.warehouse.pause_job(name, true).await?;
        Ok(named(name))
    }

    /// `CALL resume_job(job)`
    pub(super) async fn resume_job(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        self.warehouse.pause_job(name, false).await?;
        Ok(named(name))
    }
}

fn named(job: &str) -> Vec<ArrayRef> {
    vec![Arc::new(StringViewArray::from_iter_values([job]))]
}
