//! What a session may run: one check, in front of describing and of running, so that a prepared statement is checked each
//! time too.
//!
//! Checked is what the statement itself names. What a view reads was its owner's business when the view was made: its query
//! is planned by the warehouse, not by this session. Which names a statement reads is asked of the engine, which plans no
//! others. Functions that name a table (`watermark('t')`, `audit('r', …)`) are given to the session with its [`Access`] in
//! them, and procedures are checked when their arguments are known.
//!
//! [`Access`]: crate::catalog::access::Access

use std::ops::ControlFlow;
use std::time::Duration;

use datafusion::common::ResolvedTableReference;
use datafusion::sql::parser::{ResetStatement, Statement as EngineStatement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    FromTable, ObjectName, Set, Statement as SqlStatement, TableFactor, TableObject, TableWithJoins,
    visit_statements,
};

use super::copy::Direction;
use super::ddl::with_options;
use super::parse::Statement;
use super::run::Session;
use crate::catalog::access::denied;
use crate::catalog::late;
use crate::catalog::privileges::{Privilege, Role};
use crate::catalog::schemas::{CATALOG, PUBLIC, SYSTEM};
use crate::error::{Error, Result};

/// A right that another server took is held here for that long at most.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// Settings of the engine that concern how answers look, and nothing else.
const HARMLESS: [&str; 3] = ["datafusion.explain.", "datafusion.format.", "datafusion.execution.time_zone"];

/// What a statement needs.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// A right on a table.
    Table(Privilege, ResolvedTableReference),
    /// The role admin.
    Admin(String),
}

/// What a procedure needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// A right on the table that its first argument names.
    On(Privilege),
    /// To be a writer.
    Writer,
    /// To be an admin.
    Admin,
}

impl Session {
    /// Whether this session may do something with a table or view, by the grants that this process has seen last.
    pub fn may(&self, privilege: Privilege, name: &str) -> bool {
        self.access.may(privilege, &self.warehouse, name)
    }

    /// Refuses a statement that this session may not run.
    pub(super) async fn authorize(&self, statement: &Statement) -> Result<()> {
        if self.access.is_admin() {
            return locations(statement)?.iter().try_for_each(|at| self.access.locations().check(at));
        }
        for need in self.needs(statement)? {
            match need {
                Need::Admin(what) => self.access.require_admin(&what)?,
                Need::Table(privilege, table) => self.check_table(privilege, &table).await?,
            }
        }
        Ok(())
    }

    /// Whether this session may do everything.
    pub fn is_admin(&self) -> bool {
        self.access.is_admin()
    }

    /// Refuses to read a table or view of the warehouse that this session may not read.
    pub async fn check_may_read(&self, name: &str) -> Result<()> {
        match self.access.is_admin() {
            true => Ok(()),
            false => self.check_public(Privilege::Select, name).await,
        }
    }

    /// Refuses a procedure that this session may not call on `name`.
    pub(super) async fn authorize_call(&self, procedure: &str, right: Right, name: &str) -> Result<()> {
        if self.access.is_admin() {
            return Ok(());
        }
        match right {
            Right::Writer if self.access.role() == Role::Reader => {
                Err(denied("CALL", procedure).with_hint("it is for the role writer"))
            }
            Right::Writer => Ok(()),
            Right::Admin => self.access.require_admin(&format!("CALL {procedure}")),
            // A name may have a schema in front, and may also be one with a dot in it: whatever it is, it has to be allowed.
            Right::On(privilege) => {
                self.check_table(privilege, &in_warehouse(PUBLIC, name)).await?;
                match name.split_once('.') {
                    Some((schema, name)) => {
                        Box::pin(self.check_table(privilege, &in_warehouse(schema, name))).await
                    }
                    None => Ok(()),
                }
            }
        }
    }

    async fn check_table(&self, privilege: Privilege, table: &ResolvedTableReference) -> Result<()> {
        let name = table.table.as_ref();
        if table.catalog.as_ref() != CATALOG {
            return Err(Error::undefined_table(format!("there is no catalog '{}'", table.catalog)));
        }
        match table.schema.as_ref() {
            PUBLIC => self.check_public(privilege, name).await,
            SYSTEM if privilege == Privilege::Select && name != "dead_letters" => Ok(()),
            // Bad input is that of any table.
            SYSTEM if privilege == Privilege::Select && self.access.role() == Role::Writer => Ok(()),
            "pg_catalog" | "information_schema" | "pg_information_schema"
                if privilege == Privilege::Select =>
            {
                Ok(())
            }
            SYSTEM | "pg_catalog" | "information_schema" | "pg_information_schema" => {
                Err(denied(privilege.name(), &format!("{}.{name}", table.schema)))
            }
            schema => Err(Error::undefined_table(format!("there is no schema '{schema}'"))),
        }
    }

    async fn check_public(&self, privilege: Privilege, name: &str) -> Result<()> {
        // Of what is not there the planner speaks.
        let Some(table) = self.warehouse.table(name).await? else { return Ok(()) };
        let snapshot = table.seen_within(KNOWN_FOR).await?;
        if let Some(events) = late::events_of(&snapshot)
            && let Some(events) = self.warehouse.table(events).await?
        {
            events.seen_within(KNOWN_FOR).await?;
        }
        self.access.check(privilege, &self.warehouse, name)
    }

    fn needs(&self, statement: &Statement) -> Result<Vec<Need>> {
        match statement {
            Statement::Refresh(name) => Ok(vec![Need::Table(Privilege::Insert, in_warehouse(PUBLIC, name))]),
            Statement::Alter(_) => admin("ALTER TABLE"),
            Statement::Copy(copy) => match &copy.direction {
                Direction::In { table, .. } => {
                    Ok(vec![Need::Table(Privilege::Insert, in_warehouse(PUBLIC, table))])
                }
                Direction::Out { query, .. } => self.needs_of_engine(query),
            },
            Statement::Engine(statement) => self.needs_of_engine(statement),
        }
    }

    fn needs_of_engine(&self, statement: &EngineStatement) -> Result<Vec<Need>> {
        let sql = match statement {
            EngineStatement::Statement(sql) => sql.as_ref(),
            EngineStatement::Explain(explain) => return self.needs_of_engine(&explain.statement),
            EngineStatement::Reset(ResetStatement::Variable(name)) => return setting(name),
            EngineStatement::CreateExternalTable(_) => return admin("CREATE EXTERNAL TABLE"),
            EngineStatement::CopyTo(_) => return admin("COPY to a file"),
        };
        match sql {
            SqlStatement::Explain { statement, .. } => self.needs_of_sql(statement),
            // Its arguments are a query of their own, and its table is known with them.
            SqlStatement::Call(_) => Ok(vec![]),
            SqlStatement::Query(_) if writes_within(sql) => admin("a query that writes"),
            SqlStatement::Query(_)
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. }
            | SqlStatement::ShowVariables { .. }
            | SqlStatement::ShowCreate { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowTables { .. } => self.reads(statement),
            SqlStatement::Insert(insert) => {
                let TableObject::TableName(target) = &insert.table else {
                    return admin("INSERT into a function");
                };
                let mut needs = self.writes(statement, target, &[Privilege::Insert])?;
                if let Some(source) = &insert.source {
                    // The target may be read too.
                    let query = SqlStatement::Query(source.clone());
                    needs.extend(self.needs_of_sql(&query)?);
                }
                Ok(needs)
            }
            SqlStatement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                let [TableWithJoins { relation: TableFactor::Table { name, .. }, joins }] = from.as_slice()
                else {
                    return Err(Error::not_supported("DELETE is from one table"));
                };
                if !joins.is_empty() {
                    return Err(Error::not_supported("DELETE is from one table"));
                }
                let read = delete.selection.is_some() || delete.returning.is_some();
                let rights =
                    if read { vec![Privilege::Delete, Privilege::Select] } else { vec![Privilege::Delete] };
                self.writes(statement, name, &rights)
            }
            // It is never run; who may write is told so.
            SqlStatement::Update(update) => match &update.table.relation {
                TableFactor::Table { name, .. } => self.writes(statement, name, &Privilege::ALL),
                _ => admin("UPDATE"),
            },
            SqlStatement::Set(Set::SingleAssignment { variable, .. }) => setting(variable),
            SqlStatement::Set(Set::SetTimeZone { .. }) => Ok(vec![]),
            other => admin(&first_words(other)),
        }
    }

    fn needs_of_sql(&self, sql: &SqlStatement) -> Result<Vec<Need>> {
        self.needs_of_engine(&EngineStatement::Statement(Box::new(sql.clone())))
    }

    /// The rights of a statement that reads everything that it names.
    fn reads(&self, statement: &EngineStatement) -> Result<Vec<Need>> {
        let named = self.named(statement)?.into_iter();
        Ok(named.map(|table| Need::Table(Privilege::Select, table)).collect())
    }

    /// The rights of a statement that writes to one table, and reads all others that it names.
    fn writes(
        &self,
        statement: &EngineStatement,
        target: &ObjectName,
        rights: &[Privilege],
    ) -> Result<Vec<Need>> {
        let target = self.resolve(object_name_to_table_reference(target.clone(), true)?);
        let mut needs: Vec<Need> = rights.iter().map(|right| Need::Table(*right, target.clone())).collect();
        let others = self.named(statement)?.into_iter().filter(|table| *table != target);
        needs.extend(others.map(|table| Need::Table(Privilege::Select, table)));
        Ok(needs)
    }

    /// The tables that the engine looks up to plan a statement.
    fn named(&self, statement: &EngineStatement) -> Result<Vec<ResolvedTableReference>> {
        let (tables, _) = resolve_table_references(statement, true)?;
        Ok(tables.into_iter().map(|table| self.resolve(table)).collect())
    }

    fn resolve(&self, table: datafusion::common::TableReference) -> ResolvedTableReference {
        let state = self.ctx.state_ref();
        let state = state.read();
        let catalog = &state.config().options().catalog;
        table.resolve(&catalog.default_catalog, &catalog.default_schema)
    }
}

/// Where a statement reads or writes outside of the warehouse.
fn locations(statement: &Statement) -> Result<Vec<String>> {
    match statement {
        Statement::Alter(alter) => Ok(alter.option(ARCHIVE).into_iter().collect()),
        Statement::Engine(statement) => locations_of_engine(statement),
        Statement::Refresh(_) | Statement::Copy(_) => Ok(vec![]),
    }
}

fn locations_of_engine(statement: &EngineStatement) -> Result<Vec<String>> {
    match statement {
        EngineStatement::CreateExternalTable(create) => Ok(create.locations.clone()),
        EngineStatement::CopyTo(copy) => Ok(vec![copy.target.clone()]),
        EngineStatement::Explain(explain) => locations_of_engine(&explain.statement),
        EngineStatement::Statement(sql) => match sql.as_ref() {
            SqlStatement::CreateTable(create) => {
                Ok(with_options(&create.table_options)?.remove(ARCHIVE).into_iter().collect())
            }
            SqlStatement::Explain { statement, .. } => {
                locations_of_engine(&EngineStatement::Statement(statement.clone()))
            }
            _ => Ok(vec![]),
        },
        EngineStatement::Reset(_) => Ok(vec![]),
    }
}

/// The option of a table that says where events go that are past their retention.
const ARCHIVE: &str = "archive";

fn admin(what: &str) -> Result<Vec<Need>> {
    Ok(vec![Need::Admin(what.to_owned())])
}

/// A setting of the engine may raise limits or change where files go; those that do not are listed.
fn setting(name: &ObjectName) -> Result<Vec<Need>> {
    let parts = name.0.iter().map(|part| part.as_ident().map_or("", |ident| ident.value.as_str()));
    let name = parts.collect::<Vec<_>>().join(".").to_lowercase();
    if name.starts_with("toplake.") || HARMLESS.iter().any(|harmless| name.starts_with(harmless)) {
        return Ok(vec![]);
    }
    admin(&format!("the setting '{name}'"))
}

fn in_warehouse(schema: &str, name: &str) -> ResolvedTableReference {
    ResolvedTableReference { catalog: CATALOG.into(), schema: schema.into(), table: name.into() }
}

/// Whether there is another statement in a query: `WITH gone AS (DELETE …) SELECT …`, `WITH … INSERT …`.
fn writes_within(query: &SqlStatement) -> bool {
    let mut statements = 0;
    let _ = visit_statements(query, |_| {
        statements += 1;
        ControlFlow::<()>::Continue(())
    });
    statements > 1
}

/// What a statement is, for messages.
fn first_words(statement: &SqlStatement) -> String {
    let text = statement.to_string();
    let words = text.split_whitespace().take_while(|w| w.chars().all(|c| c.is_ascii_uppercase()));
    words.take(3).collect::<Vec<_>>().join(" ")
}
