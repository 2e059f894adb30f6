//! Makes statements about PostgreSQL's catalogs such that the engine can plan them.
//!
//! The whole set of rules is for statements that name a catalog table; what users ask of their own tables goes to the
//! engine as it was written. `casts` has names and numbers of objects, `subqueries` what stands in brackets, `sets` the
//! functions that give rows, `titles` what columns are called, `system_columns` those that every table has.

mod casts;
mod sets;
mod subqueries;
mod system_columns;
mod titles;

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Statement, Value,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, CurrentUserVariableToSessionUserFunctionCall, FixArrayLiteral,
    FixVersionColumnName, ResolveUnqualifiedIdentifier, SqlStatementRewriteRule, StripCallableQualifier,
    StripCollate,
};

use super::{INFORMATION_SCHEMA, INFORMATION_SCHEMA_INSIDE, PG_CATALOG, system};
use crate::dialect::call;
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
    let needs = needs(sql);
    if needs == Needs::Nothing {
        return None;
    }
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
    for statement in &mut statements {
        *statement = match needs {
            Needs::Names => of_names(statement.clone()),
            _ => of_catalog(statement.clone()),
        };
    }
    Some(statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn of_names(statement: Statement) -> Statement {
    let rules: [&dyn SqlStatementRewriteRule; 3] =
        [&StripCallableQualifier, &CurrentUserVariableToSessionUserFunctionCall, &FixVersionColumnName];
    let mut statement = statement;
    let _ = VisitMut::visit(&mut statement, &mut Words);
    casts::show_results(&mut statement);
    let _ = VisitMut::visit(&mut statement, &mut casts::Casts);
    rules.iter().fold(statement, |s, rule| rule.rewrite(s))
}

fn of_catalog(statement: Statement) -> Statement {
    let mut statement = statement;
    let mut named = CommonTables::default();
    let _ = VisitMut::visit(&mut statement, &mut named);
    let _ = VisitMut::visit(&mut statement, &mut Relations { common: named.0 });
    system_columns::replace(&mut statement);
    let _ = VisitMut::visit(&mut statement, &mut Words);
    titles::give(&mut statement);
    casts::show_results(&mut statement);
    let _ = VisitMut::visit(&mut statement, &mut casts::Casts);
    let _ = VisitMut::visit(&mut statement, &mut Operators);
    let rules: [&dyn SqlStatementRewriteRule; 6] = [
        &AliasDuplicatedProjectionRewrite,
        &ResolveUnqualifiedIdentifier,
        &StripCallableQualifier,
        &FixArrayLiteral,
        &CurrentUserVariableToSessionUserFunctionCall,
        &StripCollate,
    ];
    let mut statement = rules.iter().fold(statement, |s, rule| rule.rewrite(s));
    let _ = VisitMut::visit(&mut statement, &mut sets::Sets);
    let _ = VisitMut::visit(&mut statement, &mut subqueries::Subqueries);
    let _ = VisitMut::visit(&mut statement, &mut subqueries::Orders);
    statement
}

/// Names of WITH, which hide tables.
#[derive(Default)]
struct CommonTables(HashSet<String>);

impl VisitorMut for CommonTables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(tables.map(|table| folded(&table.alias.name)));
        ControlFlow::Continue(())
    }
}

/// An identifier as it is looked up.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn is_schema(part: &ObjectNamePart, name: &str) -> bool {
    part.as_ident().is_some_and(|ident| folded(ident) == name)
}

/// Puts the schema in front of tables of `pg_catalog`, and the inner name of `information_schema` in its place.
struct Relations {
    common: HashSet<String>,
}

impl VisitorMut for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        match name.0.as_mut_slice() {
            [table] => {
                let known =
                    |n: &String| system::relation(PG_CATALOG, n).is_some() && !self.common.contains(n);
                if table.as_ident().map(folded).filter(known).is_some() {
                    name.0.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
                }
            }
            [schema, _] | [_, schema, _] if is_schema(schema, INFORMATION_SCHEMA) => {
                *schema = ObjectNamePart::Identifier(Ident::new(INFORMATION_SCHEMA_INSIDE));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let Some(schema) = parts.len().checked_sub(3).and_then(|at| parts.get_mut(at))
            && folded(schema) == INFORMATION_SCHEMA
        {
            *schema = Ident::new(INFORMATION_SCHEMA_INSIDE);
        }
        ControlFlow::Continue(())
    }
}

/// Words that stand for the user.
struct Words;

impl VisitorMut for Words {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(call)
                if matches!(call.args, FunctionArguments::None)
                    && matches!(call.name.to_string().to_lowercase().as_str(), "user" | "current_role") =>
            {
                call.name = ObjectName::from(vec![Ident::new("session_user")]);
            }
            Expr::Identifier(ident) if ident.quote_style.is_none() && folded(ident) == "current_role" => {
                if let Some(user) = parse_expr("session_user") {
                    *expr = user;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `OPERATOR(pg_catalog.=)` is `=`, and the engine knows no escape character of LIKE but the backslash.
struct Operators;

impl VisitorMut for Operators {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::BinaryOp { op, .. } = expr
            && let BinaryOperator::PGCustomBinaryOperator(parts) = op
            && let Some(plain) = parts.last().and_then(|sign| operator(sign))
        {
            *op = plain;
        }
        // `polroles = '{0}'`: a list as text.
        if let Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } = expr {
            for side in [left, right] {
                if let Some(list) = list_in(side) {
                    **side = list;
                }
            }
        }
        if let Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } = expr
            && let Some(Value::SingleQuotedString(escape)) = escape_char.take().map(|e| e.value)
            && escape != "\\"
        {
            **pattern = with_backslashes(pattern, &escape);
        }
        ControlFlow::Continue(())
    }
}

/// The list of numbers that a text is.
fn list_in(expr: &Expr) -> Option<Expr> {
    let Expr::Value(value) = expr else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    let numbers = text.strip_prefix('{')?.strip_suffix('}')?;
    numbers
        .split(',')
        .all(|n| n.trim().parse::<i64>().is_ok())
        .then(|| parse_expr(&format!("ARRAY[{numbers}]")))?
}

/// A pattern of LIKE in which another character takes away the meaning of the next.
fn with_backslashes(pattern: &Expr, escape: &str) -> Expr {
    let text = |text: &str| Expr::Value(Value::SingleQuotedString(text.to_owned()).into());
    let doubled = call("replace", vec![pattern.clone(), text("\\"), text("\\\\")]);
    call("replace", vec![doubled, text(escape), text("\\")])
}

fn operator(sign: &str) -> Option<BinaryOperator> {
    match parse_expr(&format!("a {sign} b"))? {
        Expr::BinaryOp { op, .. } => Some(op),
        _ => None,
    }
}

fn parse_expr(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

fn needs(sql: &str) -> Needs {
    // Most statements are told apart without looking at each word.
    let lower = sql.to_lowercase();
    let hints = ["pg_", "information_schema", "current_", "session_user", "version", "reg", "has_", "user"];
    if !hints.iter().any(|h| lower.contains(h)) && !ASK.iter().any(|name| lower.contains(name)) {
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
            PG_CATALOG | INFORMATION_SCHEMA => return Needs::Everything,
            name if system::relation(PG_CATALOG, name).is_some() => return Needs::Everything,
            name if ASK.contains(&name) || name.starts_with("pg_") || name.starts_with("has_") => {
                needs = Needs::Names;
            }
            _ => {}
        }
    }
    needs
}

/// Names that ask of the session or its catalog wherever they stand.
const ASK: [&str; 22] = [
    "current_user",
    "session_user",
    "user",
    "current_catalog",
    "current_schema",
    "current_role",
    "version",
    "regclass",
    "regtype",
    "regproc",
    "regprocedure",
    "regnamespace",
    "regrole",
    "to_regclass",
    "to_regtype",
    "to_regnamespace",
    "to_regproc",
    "to_regrole",
    "obj_description",
    "col_description",
    "shobj_description",
    "format_type",
];

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

    #[test]
    fn names_of_the_catalog_are_found_where_they_are() {
        for (sql, rewritten) in [
            ("SELECT a.oid FROM pg_class AS a", "SELECT a.oid FROM pg_catalog.pg_class AS a"),
            (
                "WITH pg_class AS (SELECT 1 AS a) SELECT pg_class.a FROM pg_class, pg_am",
                "WITH pg_class AS (SELECT 1 AS a) SELECT pg_class.a FROM pg_class, pg_catalog.pg_am",
            ),
            (
                "SELECT t.table_name FROM INFORMATION_SCHEMA.tables AS t",
                "SELECT t.table_name FROM pg_information_schema.tables AS t",
            ),
            (
                "SELECT a.oid FROM pg_class AS a WHERE a.oid OPERATOR(pg_catalog.>=) 3",
                "SELECT a.oid FROM pg_catalog.pg_class AS a WHERE a.oid >= 3",
            ),
        ] {
            assert_eq!(rewrite(sql).as_deref(), Some(rewritten));
        }
    }
}
