//! The engine behind the PostgreSQL front end.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::inventory::Holdings;
use super::rate::{Rate, Rates};
use super::workers::Workers;
use crate::catalog::access::Access;
use crate::catalog::locations::Locations;
use crate::catalog::schemas::CATALOG;
use crate::error::{Error, Result};
use crate::session::Engine;
use crate::statement::{self, Session, Statement};
use crate::{http, pg};

/// A session of the engine for each client.
pub struct Front {
    engine: Engine,
    bounds: Bounds,
    workers: Option<Workers>,
    /// Who is connected.
    connected: pg::Sessions,
    /// Sessions of those who ask by HTTP.
    asking: Mutex<HashMap<Access, Session>>,
}

/// What nobody gets beyond.
pub struct Bounds {
    /// Where admins may read and write outside of the warehouse.
    pub locations: Locations,
    /// How many statements a second the users of each role may start.
    pub rates: Rates,
}

impl Default for Bounds {
    /// Wherever the process may, and as many as come.
    fn default() -> Self {
        Bounds { locations: Locations::anywhere(), rates: Rates::default() }
    }
}

impl Front {
    /// A front for an engine, without bounds. Statements run where their connection runs.
    pub fn new(engine: Engine) -> Arc<Self> {
        Self::within(engine, Bounds::default())
    }

    /// The same within bounds.
    pub fn within(engine: Engine, bounds: Bounds) -> Arc<Self> {
        Arc::new(Front {
            engine,
            bounds,
            workers: None,
            connected: Default::default(),
            asking: Default::default(),
        })
    }

    /// A front within bounds whose statements run on threads of their own.
    pub(super) fn with_workers(
        engine: Engine,
        bounds: Bounds,
        workers: Workers,
        connected: pg::Sessions,
    ) -> Arc<Self> {
        Arc::new(Front { engine, bounds, workers: Some(workers), connected, asking: Default::default() })
    }
}

impl Front {
    /// A session that shares the machine with others.
    fn among_others(&self, ctx: SessionContext, access: Access) -> Session {
        let session =
            Session::of(ctx, Arc::clone(self.engine.warehouse()), access).beside(self.engine.workload());
        match &self.workers {
            Some(workers) => session.on(workers.lanes()),
            None => session,
        }
    }
}

impl http::Host for Front {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn session(&self, access: &Access) -> Result<Session> {
        if let Some(rate) = self.bounds.rates.of(access.role()) {
            rate.take()?;
        }
        let mut asking = self.asking.lock();
        if let Some(session) = asking.get(access) {
            return Ok(session.clone());
        }
        let session = self.among_others(self.engine.context_of(access), access.clone());
        asking.insert(access.clone(), session.clone());
        Ok(session)
    }

    fn threads(&self) -> Handle {
        self.workers.as_ref().map_or_else(Handle::current, |workers| workers.lanes().small)
    }

    fn connections(&self) -> usize {
        self.connected.count()
    }
}

#[async_trait]
impl pg::Engine for Front {
    async fn connect(&self, client: &pg::Client) -> Result<Arc<dyn pg::Connection>> {
        let access = Access::new(&client.user, client.role, self.bounds.locations.clone());
        let ctx = self.engine.context_of(&access);
        let holdings = Arc::new(Holdings(Arc::clone(self.engine.warehouse())));
        pg::register_pg_catalog_of(&ctx, CATALOG, client, holdings)?;
        let session = self.among_others(ctx, access).watching();
        let rate = self.bounds.rates.of(client.role);
        Ok(Arc::new(Connected { session, rate, workers: self.workers.clone() }))
    }

    fn memory(&self) -> Option<Arc<dyn MemoryPool>> {
        Some(Arc::clone(&self.engine.state().runtime_env().memory_pool))
    }
}

struct Connected {
    session: Session,
    rate: Option<Arc<Rate>>,
    workers: Option<Workers>,
}

impl Connected {
    /// Work that is more than looking something up.
    async fn on_workers<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match &self.workers {
            Some(workers) => workers.run(false, work).await,
            None => work.await,
        }
    }

    fn statement(parsed: &pg::Parsed) -> Result<&Arc<statement::Parsed>> {
        parsed.payload().ok_or_else(|| Error::internal("a statement that was not parsed"))
    }
}

#[async_trait]
impl pg::Connection for Connected {
    fn parse(&self, sql: &str) -> Result<pg::Parsed> {
        let statement: Statement = statement::parse_one(sql)?;
        let parsed = statement::Parsed { sql: sql.to_owned(), offset: 0, statement };
        Ok(pg::Parsed::new(sql).with_payload(Arc::new(Arc::new(parsed))))
    }

    async fn describe(&self, parsed: &pg::Parsed, hints: &[Option<DataType>]) -> Result<pg::Description> {
        let statement = Arc::clone(Self::statement(parsed)?);
        let (session, hints) = (self.session.clone(), hints.to_vec());
        self.on_workers(async move { session.describe(&statement, &hints).await }).await
    }

    async fn execute(&self, parsed: &pg::Parsed, parameters: &[ScalarValue]) -> Result<pg::Outcome> {
        if let Some(rate) = &self.rate {
            rate.take()?;
        }
        let statement = Self::statement(parsed)?;
        if let Some(outcome) = self.session.at_hand(&statement.sql, parameters).await? {
            return Ok(outcome);
        }
        let Some(workers) = &self.workers else { return self.session.execute(statement, parameters).await };
        let (session, statement) = (self.session.for_this_statement(), Arc::clone(statement));
        let parameters = parameters.to_vec();
        // What is no query may be a fold, a compaction, a recompute.
        let big = !statement.only_reads() && statement.inserts_into().is_none();
        workers.run(big, async move { session.execute(&statement, &parameters).await }).await
    }

    fn at_hand(&self, text: &str) -> Result<Option<pg::Outcome>> {
        let found = self.session.at_hand_unparsed(text)?;
        if let (Some(_), Some(rate)) = (&found, &self.rate) {
            rate.take()?;
        }
        Ok(found)
    }

    fn started(&self) {
        self.session.started();
    }

    fn stop(&self) -> bool {
        self.session.interrupt().stop()
    }

    fn shares(&self, stamp: &pg::Stamp) -> bool {
        self.session.shares(stamp)
    }

    fn part(&self, parsed: &pg::Parsed) -> pg::Part {
        match Self::statement(parsed).map(|s| s.inserts_into()) {
            Ok(Some(table)) => pg::Part::Inserts(table),
            Ok(None) if Self::statement(parsed).is_ok_and(|s| s.only_reads()) => pg::Part::Reads,
            _ => pg::Part::Alone,
        }
    }

    async fn transaction(&self, step: pg::Transaction) -> Result<()> {
        let session = self.session.for_this_statement();
        self.on_workers(async move {
            match step {
                pg::Transaction::Begin => session.begin(),
                pg::Transaction::Commit => session.commit().await?,
                pg::Transaction::Rollback => session.rollback().await,
                pg::Transaction::Savepoint(name) => session.savepoint(&name).await?,
                pg::Transaction::Release(name) => session.release(&name).await?,
                pg::Transaction::RollbackTo(name) => session.rollback_to(&name).await?,
            }
            Ok(())
        })
        .await
    }

    async fn setting_changed(&self, name: &str, value: &str) -> Result<()> {
        if name == "timezone" {
            self.session.set_time_zone(value);
        }
        Ok(())
    }
}
