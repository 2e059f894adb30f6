//! CREATE and DROP: what changes what the warehouse holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::{CreateExternalTable, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateTableOptions, CreateView, Expr, ObjectType, SqlOption, Statement as SqlStatement,
    Value,
};

use super::parse::{normal, object_name};
use super::run::{Outcome, Session};
use crate::catalog::events::append;
use crate::catalog::late;
use crate::catalog::options::{Late, ObjectKind, RefreshMode, TableOptions, ViewOptions, keys};
use crate::catalog::queries::{tables_of, view_configuration};
use crate::catalog::warehouse::Object;
use crate::error::{Error, Kind, Result};
use crate::lake::pin::Pins;
use crate::lake::schema::storable_schema;
use crate::lake::table::NewTable;
use crate::leaderboard;
use crate::maintain::expire::joined;
use crate::rollup::fold::fold;
use crate::rollup::view::{Rollup, Source};
use crate::session::pin_all;

impl Session {
    pub(super) async fn ddl(&self, statement: &SqlStatement) -> Result<Outcome> {
        match statement {
            SqlStatement::CreateTable(create) => self.create_table(create).await,
            SqlStatement::CreateView(create) if create.materialized => self.create_materialized(create).await,
            SqlStatement::CreateView(create) => self.create_view(create).await,
            SqlStatement::Drop { object_type, if_exists, names, cascade, .. } => {
                for name in names {
                    self.drop_object(*object_type, &object_name(name)?, *if_exists, *cascade).await?;
                }
                Ok(Outcome::done(match object_type {
                    ObjectType::View => "DROP VIEW",
                    ObjectType::MaterializedView => "DROP MATERIALIZED VIEW",
                    _ => "DROP TABLE",
                }))
            }
            SqlStatement::Vacuum(vacuum) => self.vacuum(vacuum).await,
            SqlStatement::Grant(grant) => self.grant(grant).await,
            SqlStatement::Revoke(revoke) => self.revoke(revoke).await,
            comment @ SqlStatement::Comment { .. } => self.comment(comment).await,
            other => Err(Error::internal(format!("not a statement that creates or drops: {other}"))),
        }
    }

    /// `CREATE TABLE … (…) WITH (…)` and `CREATE TABLE … AS SELECT …`
    async fn create_table(&self, create: &CreateTable) -> Result<Outcome> {
        let name = object_name(&create.name)?;
        if create.temporary || create.or_replace {
            return Err(Error::not_supported("TEMPORARY and OR REPLACE are not possible for a table"));
        }
        let options = TableOptions::from_sql(&with_options(&create.table_options)?)?;
        let mut plain = create.clone();
        plain.table_options = CreateTableOptions::None;
        let mut state = self.ctx.state();
        let pins = Pins::install(state.config_mut());
        // Without a zone the engine takes TIMESTAMPTZ for TIMESTAMP.
        state.config_mut().options_mut().execution.time_zone.get_or_insert_with(|| "UTC".to_owned());
        let statement = EngineStatement::Statement(Box::new(SqlStatement::CreateTable(plain)));
        let plan = match state.statement_to_plan(statement).await? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(planned)) => {
                if planned.constraints.iter().next().is_some() || !planned.column_defaults.is_empty() {
                    return Err(Error::not_supported(format!(
                        "table '{name}': keys, checks and defaults are not possible"
                    ))
                    .with_hint("only NOT NULL is"));
                }
                planned.input.as_ref().clone()
            }
            other => return Err(Error::internal(format!("CREATE TABLE was planned as {}", other.display()))),
        };
        let schema = with_time_column(storable_schema(plan.schema().as_arrow())?.as_ref(), &options)?;
        if options.late == Late::Divert && self.warehouse.table(&name).await?.is_none() {
            // First, so that a table of that name is an error and no half of the work.
            self.warehouse.late_table(&name, &Arc::new(schema.clone()), &options).await?;
        }
        let new = NewTable { schema, configuration: options.to_configuration(), description: None };
        if !self.warehouse.create(&name, &new).await? {
            return exists(&name, create.if_not_exists, "CREATE TABLE");
        }
        if create.query.is_none() {
            return Ok(Outcome::done("CREATE TABLE"));
        }
        let filled = async {
            pin_all(&plan, &pins).await?;
            let physical = state.create_physical_plan(&plan).await?;
            let rows = datafusion::physical_plan::execute_stream(physical, state.task_ctx())?;
            match self.warehouse.require(&name).await? {
                Object::Table(events) => append(&events, rows).await,
                other => Err(Error::conflict(format!("'{name}' has become {}", other.kind().with_article()))),
            }
        };
        match filled.await {
            Ok(appended) => Ok(Outcome::counted("SELECT", appended.rows)),
            Err(e) => {
                self.warehouse.drop(&name).await?;
                Err(e.context(format!("table '{name}'")))
            }
        }
    }

    /// `CREATE VIEW … AS …`
    async fn create_view(&self, create: &CreateView) -> Result<Outcome> {
        let name = object_name(&create.name)?;
        let sql = view_sql(create)?;
        let plan = self.warehouse.plan(&sql, self.time_zone().as_deref()).await?;
        if tables_of(&plan)?.contains(&name) || self.reaches(&sql, &name).await? {
            return Err(Error::invalid_input(format!("view '{name}' would read itself")));
        }
        let schema = storable_or_text(plan.schema().as_arrow());
        let configuration = view_configuration(ObjectKind::View, &sql, self.time_zone().as_deref());
        let new = NewTable { schema, configuration: configuration.into_iter().collect(), description: None };
        self.make(&name, new, create.or_replace, create.if_not_exists, ObjectKind::View).await?;
        Ok(Outcome::done("CREATE VIEW"))
    }

    /// `CREATE MATERIALIZED VIEW … WITH (…) AS …`
    async fn create_materialized(&self, create: &CreateView) -> Result<Outcome> {
        const TAG: &str = "CREATE MATERIALIZED VIEW";
        let name = object_name(&create.name)?;
        let options = ViewOptions::from_sql(&with_options(&create.options)?)?;
        let sql = view_sql(create)?;
        let zone = self.time_zone();
        let incremental = match options.refresh_mode {
            RefreshMode::Snapshot => None,
            RefreshMode::Incremental => Some(self.warehouse.definition(&sql, zone.as_deref()).await?),
            RefreshMode::Auto => match self.warehouse.definition(&sql, zone.as_deref()).await {
                Ok(found) => Some(found),
                Err(e) if e.kind() == Kind::NotSupported => None,
                Err(e) => return Err(e),
            },
        };
        let kind = if incremental.is_some() { ObjectKind::Rollup } else { ObjectKind::Leaderboard };
        let mut configuration = view_configuration(kind, &sql, zone.as_deref());
        if let Some(every) = options.refresh_every {
            configuration.insert(keys::REFRESH_EVERY.to_owned(), every.to_string());
        }
        let schema = match &incremental {
            Some((definition, source)) => {
                configuration.insert(keys::SOURCE.to_owned(), source.table().name().to_owned());
                configuration
                    .insert(keys::SOURCE_ID.to_owned(), source.table().snapshot().metadata.id.clone());
                definition.schema().as_ref().clone()
            }
            None => {
                let plan = self.warehouse.plan(&sql, zone.as_deref()).await?;
                nullable(storable_schema(plan.schema().as_arrow())?.as_ref())
            }
        };
        if self.reaches(&sql, &name).await? {
            return Err(Error::invalid_input(format!("materialized view '{name}' would read itself")));
        }
        let new = NewTable { schema, configuration: configuration.into_iter().collect(), description: None };
        if create.or_replace
            && let Some((definition, source)) = &incremental
            && let Some(Object::Rollup(there)) = self.warehouse.get(&name).await?
        {
            let rows = self.replace_rollup(there.rollup(), definition, source, &new).await?;
            return Ok(Outcome::counted("SELECT", rows));
        }
        if !self.make(&name, new, create.or_replace, create.if_not_exists, kind).await? {
            return Ok(Outcome::done(TAG));
        }
        let filled = match self.warehouse.require(&name).await? {
            Object::Rollup(table) => self.fill(table.rollup()).await,
            Object::Leaderboard(board) => {
                leaderboard::refresh(&self.warehouse, &board, &self.ctx.state()).await.map(|r| r.rows)
            }
            other => Err(Error::conflict(format!("'{name}' has become {}", other.kind().with_article()))),
        };
        match filled {
            Ok(rows) => Ok(Outcome::counted("SELECT", rows)),
            Err(e) => {
                // A view that could not be filled would be there and wrong.
                self.warehouse.drop(&name).await?;
                Err(e.context(format!("materialized view '{name}'")))
            }
        }
    }

    /// Fills a rollup that was just made.
    async fn fill(&self, rollup: &Arc<Rollup>) -> Result<u64> {
        if let Source::Events { table, .. } = &rollup.source {
            joined(table).await?;
        }
        Ok(fold(rollup, &self.ctx.state()).await?.rows)
    }

    /// `CREATE EXTERNAL TABLE …`
    pub(super) async fn create_external(&self, create: &CreateExternalTable, sql: &str) -> Result<Outcome> {
        const TAG: &str = "CREATE EXTERNAL TABLE";
        let name = object_name(&create.name)?;
        let provider = crate::catalog::external::open(&self.ctx.state(), sql).await?;
        let mut configuration = view_configuration(ObjectKind::External, sql, self.time_zone().as_deref());
        configuration.insert(keys::KIND.to_owned(), ObjectKind::External.as_str().to_owned());
        let schema = storable_or_text(provider.schema().as_ref());
        let new = NewTable { schema, configuration: configuration.into_iter().collect(), description: None };
        if !self.warehouse.create(&name, &new).await? {
            return exists(&name, create.if_not_exists, TAG);
        }
        Ok(Outcome::done(TAG))
    }

    /// Makes or replaces an object; says whether it did.
    async fn make(
        &self,
        name: &str,
        new: NewTable,
        or_replace: bool,
        if_not_exists: bool,
        kind: ObjectKind,
    ) -> Result<bool> {
        if self.warehouse.create(name, &new).await? {
            return Ok(true);
        }
        if or_replace {
            let there = self.warehouse.require(name).await?.kind();
            if there.sql_name() != kind.sql_name() {
                return Err(Error::wrong_object_type(format!("'{name}' is {}", there.with_article())));
            }
            self.refuse_rollups_over(name).await?;
            self.warehouse.replace(name, &new).await?;
            return Ok(true);
        }
        exists(name, if_not_exists, "").map(|_| false)
    }

    /// A rollup over another keeps positions in that one's log, so its source cannot be exchanged under it.
    pub(super) async fn refuse_rollups_over(&self, name: &str) -> Result<()> {
        for dependent in self.warehouse.dependents(name).await? {
            if self.warehouse.require(&dependent).await?.kind() == ObjectKind::Rollup {
                return Err(Error::dependent_objects(format!("rollup '{dependent}' is made over '{name}'"))
                    .with_hint(format!("DROP MATERIALIZED VIEW {dependent} first")));
            }
        }
        Ok(())
    }

    /// Whether a query reads `name`, directly or through views.
    async fn reaches(&self, sql: &str, name: &str) -> Result<bool> {
        let mut open = crate::catalog::names_in(sql)?;
        let mut seen = std::collections::BTreeSet::new();
        while let Some(next) = open.pop() {
            if next == name {
                return Ok(true);
            }
            if seen.insert(next.clone()) {
                open.extend(self.warehouse.sources(&next).await?);
            }
        }
        Ok(false)
    }

    async fn drop_object(
        &self,
        object: ObjectType,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<()> {
        if !matches!(object, ObjectType::Table | ObjectType::View | ObjectType::MaterializedView) {
            return Err(Error::not_supported(format!("DROP {object} is not possible")));
        }
        let Some(table) = self.warehouse.table(name).await? else {
            return if if_exists {
                Ok(())
            } else {
                Err(Error::undefined_table(format!("there is no table or view '{name}'")).with_name(name))
            };
        };
        // The kind stands in the configuration: a view whose source is broken can still be dropped.
        let kind = ObjectKind::of(&table.update().await?.metadata.configuration);
        let fits = match object {
            ObjectType::Table => matches!(kind, ObjectKind::Table | ObjectKind::External),
            ObjectType::View => kind == ObjectKind::View,
            _ => matches!(kind, ObjectKind::Rollup | ObjectKind::Leaderboard),
        };
        if !fits {
            return Err(Error::wrong_object_type(format!("'{name}' is {}", kind.with_article())).with_hint(
                format!("DROP {} {name}", kind.sql_name().trim_start_matches("external ").to_uppercase()),
            ));
        }
        if let Some(events) = late::events_of(&table.snapshot())
            && let Some(Object::Table(of)) = self.warehouse.get(events).await?
            && of.late().is_some()
        {
            return Err(Error::dependent_objects(format!("late rows of '{events}' go to '{name}'"))
                .with_hint(format!("ALTER TABLE {events} SET (late = 'accept') first")));
        }
        let dependents = self.warehouse.dependents(name).await?;
        if !dependents.is_empty() && !cascade {
            return Err(Error::dependent_objects(format!(
                "'{}' depends on '{name}'",
                dependents.join("', '")
            ))
            .with_hint("DROP … CASCADE drops it too"));
        }
        for dependent in dependents {
            let kind = match self.warehouse.table(&dependent).await? {
                Some(table) => ObjectKind::of(&table.snapshot().metadata.configuration),
                None => continue,
            };
            let object = match kind {
                ObjectKind::View => ObjectType::View,
                ObjectKind::Rollup | ObjectKind::Leaderboard => ObjectType::MaterializedView,
                ObjectKind::Table | ObjectKind::External => ObjectType::Table,
            };
            Box::pin(self.drop_object(object, &dependent, true, true)).await?;
        }
        self.warehouse.drop(name).await
    }

    pub(super) fn time_zone(&self) -> Option<String> {
        let zone = self.ctx.state().config().options().execution.time_zone.clone();
        zone.or_else(|| Some("UTC".to_owned()))
    }
}

/// `IF NOT EXISTS` makes an object that is there no error.
fn exists(name: &str, if_not_exists: bool, tag: &str) -> Result<Outcome> {
    if if_not_exists {
        Ok(Outcome::done(tag))
    } else {
        Err(Error::duplicate_table(format!("there is a table or view '{name}' already")))
    }
}

/// The text of a view's query; column names behind the view's name are put on it.
fn view_sql(create: &CreateView) -> Result<String> {
    if create.columns.is_empty() {
        return Ok(create.query.to_string());
    }
    let names: Vec<String> = create.columns.iter().map(|c| c.name.to_string()).collect();
    Ok(format!("SELECT * FROM ({}) AS renamed ({})", create.query, names.join(", ")))
}

/// The options of `WITH (…)` as text.
pub(super) fn with_options(options: &CreateTableOptions) -> Result<BTreeMap<String, String>> {
    let list = match options {
        CreateTableOptions::None => return Ok(BTreeMap::new()),
        CreateTableOptions::With(list) | CreateTableOptions::Options(list) => list,
        other => {
            return Err(Error::syntax(format!("cannot read the options '{other}'"))
                .with_hint("write WITH (key = 'value')"));
        }
    };
    list.iter()
        .map(|option| match option {
            SqlOption::KeyValue { key, value } => Ok((normal(key), option_text(value)?)),
            other => {
                Err(Error::syntax(format!("cannot read the option '{other}'"))
                    .with_hint("write key = 'value'"))
            }
        })
        .collect()
}

fn option_text(value: &Expr) -> Result<String> {
    match value {
        Expr::Value(v) => Ok(match &v.value {
            Value::SingleQuotedString(s) => s.clone(),
            other => other.to_string(),
        }),
        Expr::Identifier(ident) => Ok(normal(ident)),
        other => Err(Error::syntax(format!("'{other}' is not the value of an option"))),
    }
}

/// The time column may not be NULL and must be a timestamp.
fn with_time_column(schema: &Schema, options: &TableOptions) -> Result<Schema> {
    let Some(time) = &options.time_column else { return Ok(schema.clone()) };
    let field = schema.field_with_name(time).map_err(|_| {
        Error::undefined_column(format!("time_column is '{time}', and there is no column of that name"))
    })?;
    if !matches!(field.data_type(), DataType::Timestamp(_, _)) {
        return Err(Error::invalid_input(format!("time_column '{time}' has type {}", field.data_type()))
            .with_hint("declare it TIMESTAMP or TIMESTAMPTZ"));
    }
    let fields = schema.fields().iter().map(|f| {
        if f.name() == time { Arc::new(f.as_ref().clone().with_nullable(false)) } else { Arc::clone(f) }
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true)));
    Schema::new(fields.collect::<Vec<_>>())
}

/// The columns of a view as other Delta readers see them: they have no rows, so any type will do.
fn storable_or_text(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().enumerate().map(|(i, f)| {
        let t = crate::lake::schema::storable(f.data_type(), f.name()).unwrap_or(DataType::Utf8View);
        let duplicate =
            schema.fields().iter().take(i).any(|other| other.name().eq_ignore_ascii_case(f.name()));
        let name = if duplicate { format!("{}_{i}", f.name()) } else { f.name().clone() };
        Field::new(name, t, true)
    });
    Schema::new(fields.collect::<Vec<_>>())
}
