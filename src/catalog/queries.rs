//! What the queries of views and rollups say: what they read, and whether they are those of a rollup.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::options::{ObjectKind, keys};
use super::warehouse::{Object, Warehouse};
use crate::dialect;
use crate::error::{Error, Result};
use crate::rollup::definition::{Definition, SourceKind};
use crate::rollup::view::Source;

impl Warehouse {
    /// Plans a query over what is in the warehouse, in a time zone that was frozen.
    pub async fn plan(&self, sql: &str, time_zone: Option<&str>) -> Result<LogicalPlan> {
        plan(&self.planner(time_zone)?, sql).await
    }

    /// Reads a query as the definition of a rollup. Fails with an error that names the clause at fault.
    pub async fn definition(
        self: &Arc<Self>,
        sql: &str,
        time_zone: Option<&str>,
    ) -> Result<(Definition, Source)> {
        let state = self.planner(time_zone)?;
        let plan = plan(&state, sql).await?;
        let source = self.only_source(&plan).await?;
        let kind = match &source {
            Source::Events { time_column, .. } => SourceKind::Events { time_column },
            Source::Rollup(finer) => SourceKind::Rollup(&finer.definition),
        };
        Ok((Definition::try_new(plan.clone(), kind, &state)?, source))
    }

    /// The one table that a rollup's query reads.
    async fn only_source(self: &Arc<Self>, plan: &LogicalPlan) -> Result<Source> {
        let refuse = |why: String| {
            Error::not_supported(format!("the query is not that of an incremental view: {why}"))
        };
        let scanned = tables_of(plan)?;
        let [name] = scanned.as_slice() else {
            return Err(refuse(format!("it reads {} tables or views, not one", scanned.len())));
        };
        match self.require(name).await? {
            Object::Table(events) if events.late_of().is_some() => {
                Err(refuse(format!("'{name}' has the late rows of another table"))
                    .with_hint("use a view, or refresh_mode = 'snapshot'"))
            }
            Object::Table(events) => match &events.options().time_column {
                Some(column) => {
                    Ok(Source::Events { table: Arc::clone(events.table()), time_column: column.clone() })
                }
                None => Err(refuse(format!("table '{name}' has no time_column"))
                    .with_hint("create the table WITH (time_column = '…')")),
            },
            Object::Rollup(finer) => Ok(Source::Rollup(Arc::clone(finer.rollup()))),
            other => Err(refuse(format!("its source '{name}' is {}", other.kind().with_article()))),
        }
    }

    /// Names of the objects whose definition reads `name` directly.
    pub async fn dependents(self: &Arc<Self>, name: &str) -> Result<Vec<String>> {
        let mut found = vec![];
        for other in self.list().await? {
            if other != name && self.sources(&other).await?.iter().any(|source| source == name) {
                found.push(other);
            }
        }
        Ok(found)
    }

    /// Names of what an object's definition reads directly.
    pub async fn sources(self: &Arc<Self>, name: &str) -> Result<Vec<String>> {
        let Some(table) = self.table(name).await? else { return Ok(vec![]) };
        let configuration = &table.snapshot().metadata.configuration;
        match ObjectKind::of(configuration) {
            ObjectKind::Table | ObjectKind::External => Ok(vec![]),
            ObjectKind::Rollup => Ok(configuration.get(keys::SOURCE).cloned().into_iter().collect()),
            ObjectKind::View | ObjectKind::Leaderboard => {
                let sql = configuration.get(keys::SQL).map_or("", String::as_str);
                Ok(super::names_in(sql)?)
            }
        }
    }

    /// The versions of the views that a query reads, directly or through others.
    pub async fn views_in(self: &Arc<Self>, sql: &str) -> Result<BTreeMap<String, i64>> {
        let mut open = super::names_in(sql)?;
        let mut found = BTreeMap::new();
        while let Some(name) = open.pop() {
            let Some(table) = self.table(&name).await? else { continue };
            let snapshot = table.update().await?;
            let is_view = ObjectKind::of(&snapshot.metadata.configuration) == ObjectKind::View;
            if is_view && found.insert(name.clone(), snapshot.version).is_none() {
                open.extend(self.sources(&name).await?);
            }
        }
        Ok(found)
    }
}

/// Names of the tables that a plan scans, each once.
pub fn tables_of(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names: Vec<String> = vec![];
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table().to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// Plans the query of a view, in PostgreSQL's SQL as statements are.
async fn plan(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    let mut statement = state.sql_to_statement(sql, &state.config_options().sql_parser.dialect)?;
    dialect::adapt(&mut statement);
    let plan = state.statement_to_plan(statement).await?;
    Ok(dialect::as_meant(plan, state.config_options().execution.time_zone.as_deref())?)
}

/// The configuration of a view of some kind.
pub fn view_configuration(kind: ObjectKind, sql: &str, time_zone: Option<&str>) -> BTreeMap<String, String> {
    let mut configuration = BTreeMap::from([
        (keys::KIND.to_owned(), kind.as_str().to_owned()),
        (keys::SQL.to_owned(), sql.to_owned()),
    ]);
    if let Some(zone) = time_zone {
        configuration.insert(keys::TIME_ZONE.to_owned(), zone.to_owned());
    }
    configuration
}
