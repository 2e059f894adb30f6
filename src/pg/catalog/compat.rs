//! Makes queries of PostgreSQL's catalogs such that the engine can plan them.
//!
//! The rules are datafusion-pg-catalog's. Some of them give up part of an answer (a correlated subquery in the select
//! list becomes NULL), so the whole set is for statements that name a catalog table; what users ask of their own
//! tables goes to the engine as it was written.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, SelectItem, SetExpr, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, FixVersionColumnName, RewriteRegCastToSubquery,
    SqlStatementRewriteRule, StripCallableQualifier,
};

use crate::statement::split::{Item, words};

/// Statements that the engine plans as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A name of the session or a cast to an object number, among a user's own tables.
    Names,
    /// It reads the catalog.
    Everything,
}

/// The statement as the engine can plan it; none when it can be left alone, or does not parse.
pub(in crate::pg) fn rewrite(sql: &str) -> Option<String> {
    match needs(sql) {
        Needs::Nothing => None,
        Needs::Names => {
            let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
            let casts = RewriteRegCastToSubquery::new();
            let rules: [&dyn SqlStatementRewriteRule; 4] = [
                &StripCallableQualifier,
                &CurrentUserVariableToSessionUserFunctionCall,
                &casts,
                &FixVersionColumnName,
            ];
            let statements = statements.into_iter().map(|s| rules.iter().fold(s, |s, rule| rule.rewrite(s)));
            Some(joined(statements))
        }
        Needs::Everything => {
            static PARSER: OnceLock<PostgresCompatibilityParser> = OnceLock::new();
            let parser = PARSER.get_or_init(PostgresCompatibilityParser::new);
            let mut statements = parser.parse(sql).ok()?;
            let _ = VisitMut::visit(&mut statements, &mut Missing);
            Some(joined(statements.into_iter()))
        }
    }
}

/// What the engine does not have and catalog queries use.
struct Missing;

impl VisitorMut for Missing {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // `array(SELECT …)` makes lists of options and members, of which there are none here.
            Expr::Function(function)
                if function.name.to_string().eq_ignore_ascii_case("array")
                    && matches!(function.args, FunctionArguments::Subquery(_)) =>
            {
                if let Some(none) = parse_expr("NULL::text[]") {
                    *expr = none;
                }
            }
            // A correlated subquery must be an aggregate. Those of catalog queries find one row by its number, so any
            // aggregate of it is its value.
            Expr::Subquery(query) => {
                if let SetExpr::Select(select) = query.body.as_mut()
                    && let [SelectItem::UnnamedExpr(item)] = select.projection.as_mut_slice()
                    && !matches!(item, Expr::Function(_) | Expr::Value(_))
                    && query.limit_clause.is_none()
                    && let Some(aggregate) = parse_expr(&format!("max({item})"))
                {
                    *item = aggregate;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn parse_expr(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

fn joined(statements: impl Iterator<Item = impl ToString>) -> String {
    statements.map(|s| s.to_string()).collect::<Vec<_>>().join("; ")
}

fn needs(sql: &str) -> Needs {
    // Most statements are told apart without looking at each word.
    let lower = sql.to_lowercase();
    let hints = ["pg_", "information_schema", "current_", "session_user", "version", "reg"];
    if !hints.iter().any(|h| lower.contains(h)) {
        return Needs::Nothing;
    }
    let mut needs = Needs::Nothing;
    let items = words(sql);
    // Statements that write are the user's own, whatever their names.
    let reads = items.first().is_some_and(|i| i.is("select") || i.is("with") || i.is("values") || i.is("("));
    if !reads {
        return Needs::Nothing;
    }
    for item in &items {
        let (Item::Word(name) | Item::Name(name)) = item else { continue };
        match name.as_str() {
            "pg_catalog" | "information_schema" => return Needs::Everything,
            name if PG_CATALOG_TABLES.contains(&name) => return Needs::Everything,
            "current_user" | "session_user" | "current_catalog" | "current_schema" | "current_role"
            | "version" | "regclass" | "regtype" | "regproc" | "regnamespace" => needs = Needs::Names,
            _ => {}
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_statements_are_left_alone() {
        for sql in [
            "SELECT (SELECT max(a) FROM u WHERE u.b = t.b) FROM t",
            "SELECT * FROM t WHERE a = 'pg_catalog'",
            "SELECT region FROM sales",
            "INSERT INTO t SELECT * FROM pg_class",
        ] {
            assert_eq!(rewrite(sql), None, "{sql}");
        }
        let names = rewrite("SELECT current_user, (SELECT max(a) FROM u WHERE u.b = t.b) FROM t").unwrap();
        assert!(names.contains("WHERE u.b = t.b"), "{names}");
    }
}
