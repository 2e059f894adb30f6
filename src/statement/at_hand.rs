//! Statements whose answer is in memory: leaderboards, for the sessions of a server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::literals::Lifted;
use super::parse::{Statement, parse_one};
use super::plans::{Found, Plan, Stamp, Template};
use super::run::{Outcome, Session};
use crate::catalog::privileges::Privilege;
use crate::error::Result;
use crate::metrics;

impl Session {
    /// Has statements over leaderboards read what is known of them from a moment ago: see
    /// [`Table::watched`](crate::lake::table::Table::watched).
    pub fn watching(mut self) -> Self {
        self.watching = true;
        self
    }

    /// Whether an answer that another session was given is what this one would get for the same statement and time zone.
    pub fn shares(&self, stamp: &Stamp) -> bool {
        self.is_plain() && self.may_read(stamp) && stamp.holds()
    }

    /// The answer of a statement whose rows are in memory and whose plan is known, perhaps with other values; none where
    /// there is more to do. Takes no time to speak of.
    pub async fn at_hand(&self, sql: &str, parameters: &[ScalarValue]) -> Result<Option<Outcome>> {
        if !self.is_plain() {
            return Ok(None);
        }
        let begun = Instant::now();
        let found = match self.plans.get(sql) {
            Some(plan) => plan.look_up(parameters, &self.state()),
            None if parameters.is_empty() => self.with_other_values(sql).await?,
            None => None,
        };
        Ok(self.given(found, begun))
    }

    /// The same of a text that nobody has parsed yet.
    pub fn at_hand_unparsed(&self, text: &str) -> Result<Option<Outcome>> {
        if !self.is_plain() {
            return Ok(None);
        }
        let begun = Instant::now();
        let Some(lifted) = Lifted::of(text) else { return Ok(None) };
        let Some(Template::Plan(plan)) = self.plans.known_template(&lifted.sql) else { return Ok(None) };
        let Some(values) = plan.lifted().and_then(|types| lifted.values(types)) else { return Ok(None) };
        Ok(self.given(plan.look_up(&values, &self.state()), begun))
    }

    fn given(&self, found: Option<Found>, begun: Instant) -> Option<Outcome> {
        let Found { schema, rows, stamp } = found.filter(|found| self.may_read(&found.stamp))?;
        metrics::statement_done("memory", rows.num_rows() as u64, begun.elapsed());
        let rows = futures::stream::iter([Ok(rows)]);
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
        Some(Outcome::Rows { tag: "SELECT".to_owned(), stream, stamp: Some(stamp), notice: None })
    }

    /// Looks a statement up by the plan of those that differ from it in values only.
    async fn with_other_values(&self, sql: &str) -> Result<Option<Found>> {
        let Some(lifted) = Lifted::of(sql) else { return Ok(None) };
        match self.plans.template(&lifted.sql) {
            None | Some(Template::Useless) => Ok(None),
            Some(Template::Plan(plan)) => {
                let Some(values) = plan.lifted().and_then(|types| lifted.values(types)) else {
                    return Ok(None);
                };
                let found = plan.look_up(&values, &self.state());
                if found.is_none() && !plan.is_unchanged() {
                    self.plans.learn(&lifted.sql, Template::Once);
                }
                Ok(found)
            }
            Some(Template::Once) => {
                let plan = self.template(&lifted.sql).await;
                let useful = plan.filter(|plan| plan.lifted().is_some());
                self.plans.learn(&lifted.sql, useful.map_or(Template::Useless, Template::Plan));
                Ok(None)
            }
        }
    }

    fn state(&self) -> Arc<SessionState> {
        self.plans.state(|| self.ctx.state())
    }

    /// The plan of a statement without its values. What it has to say against it, the statement with its values will.
    async fn template(&self, sql: &str) -> Option<Arc<Plan>> {
        let Statement::Engine(statement) = parse_one(sql).ok()? else { return None };
        let is_query = matches!(statement.as_ref(), EngineStatement::Statement(s) if matches!(s.as_ref(), SqlStatement::Query(_)));
        if !is_query {
            return None;
        }
        self.plan_anew(&self.ctx.state(), sql, &statement).await.ok()?.1
    }

    /// Whether it may read what an answer is made from; who may not is told so where the statement is run.
    fn may_read(&self, stamp: &Stamp) -> bool {
        stamp.names().iter().all(|name| self.may(Privilege::Select, name))
    }

    /// Whether it is in no transaction, and its settings are those of a new session.
    pub(super) fn is_plain(&self) -> bool {
        self.watching && !self.custom.load(Ordering::Relaxed) && self.transaction.lock().is_none()
    }
}
