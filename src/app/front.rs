//! The engine behind the PostgreSQL front end.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use crate::catalog::schemas::CATALOG;
use crate::error::{Error, Result};
use crate::pg;
use crate::session::Engine;
use crate::statement::{self, Session, Statement};

/// A session of the engine for each client.
pub struct Front {
    engine: Engine,
}

impl Front {
    /// A front for an engine.
    pub fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Front { engine })
    }
}

#[async_trait]
impl pg::Engine for Front {
    async fn connect(&self, client: &pg::Client) -> Result<Arc<dyn pg::Connection>> {
        let ctx = self.engine.context();
        pg::register_pg_catalog(&ctx, CATALOG, client)?;
        Ok(Arc::new(Connected(Session::new(ctx, Arc::clone(self.engine.warehouse())))))
    }
}

struct Connected(Session);

impl Connected {
    fn statement(parsed: &pg::Parsed) -> Result<&statement::Parsed> {
        parsed.payload().ok_or_else(|| Error::internal("a statement that was not parsed"))
    }
}

#[async_trait]
impl pg::Connection for Connected {
    fn parse(&self, sql: &str) -> Result<pg::Parsed> {
        let statement: Statement = statement::parse_one(sql)?;
        let parsed = statement::Parsed { sql: sql.to_owned(), offset: 0, statement };
        Ok(pg::Parsed::new(sql).with_payload(Arc::new(parsed)))
    }

    async fn describe(&self, parsed: &pg::Parsed, _hints: &[Option<DataType>]) -> Result<pg::Description> {
        self.0.describe(Self::statement(parsed)?).await
    }

    async fn execute(&self, parsed: &pg::Parsed, parameters: &[ScalarValue]) -> Result<pg::Outcome> {
        self.0.execute(Self::statement(parsed)?, parameters).await
    }

    async fn setting_changed(&self, name: &str, value: &str) -> Result<()> {
        if name == "timezone" {
            let state = self.0.context().state_ref();
            state.write().config_mut().options_mut().execution.time_zone = Some(value.to_owned());
        }
        Ok(())
    }
}
