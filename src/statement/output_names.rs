//! What the columns of a result are called.
//!
//! As in PostgreSQL: `count(*)` gives a column `count`, `CAST(a AS BIGINT)` one that is called `a`, `1 + 1` one that is called
//! `?column?`, and any number of columns may have the same name. To the engine each has a name of its own, which is that of
//! its expression; so those that would have one twice are given another before the statement is planned, and all get
//! PostgreSQL's names when rows are given.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement as SqlStatement,
    TrimWhereField,
};
use futures::StreamExt;

use super::parse::normal;

/// Stands in an alias of ours behind the name that it is for. A private-use character: nobody's name has it.
const MARK: char = '\u{f8ff}';

const UNNAMED: &str = "?column?";

/// Gives columns of a query's result that have one name to the engine different ones.
pub(super) fn distinguish(statement: &mut EngineStatement) {
    if let EngineStatement::Statement(statement) = statement
        && let SqlStatement::Query(query) = statement.as_mut()
    {
        distinguish_in(&mut query.body);
    }
}

fn distinguish_in(body: &mut SetExpr) {
    match body {
        SetExpr::Query(query) => distinguish_in(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            distinguish_in(left);
            distinguish_in(right);
        }
        SetExpr::Select(select) => {
            let mut seen = HashSet::new();
            for (i, item) in select.projection.iter_mut().enumerate() {
                let names = match &*item {
                    SelectItem::UnnamedExpr(expr) => {
                        let expr = without_casts(expr);
                        let text = expr.to_string();
                        // The same column, or an alias like it.
                        column(expr).map_or(vec![text.clone()], |name| vec![text, format!("AS {name}")])
                    }
                    SelectItem::ExprWithAlias { alias, .. } => vec![format!("AS {}", normal(alias))],
                    _ => continue,
                };
                let named = matches!(item, SelectItem::ExprWithAlias { .. });
                let twice = match (&*item, names.as_slice()) {
                    // Columns of different tables may be called the same.
                    (SelectItem::UnnamedExpr(_), [text, alias]) => {
                        seen.contains(text) || seen.contains(&format!("ALIAS {alias}"))
                    }
                    (_, names) => names.iter().any(|name| seen.contains(name)),
                };
                if named && let Some(name) = names.first() {
                    seen.insert(format!("ALIAS {name}"));
                }
                seen.extend(names);
                if twice {
                    distinguish_item(item, i);
                }
            }
        }
        _ => {}
    }
}

fn distinguish_item(item: &mut SelectItem, number: usize) {
    let marked = |name: &str| Ident::with_quote('"', format!("{name}{MARK}{number}"));
    match item {
        SelectItem::UnnamedExpr(expr) => {
            let alias = marked(&name_of(expr));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        SelectItem::ExprWithAlias { alias, .. } => *alias = marked(&normal(alias)),
        _ => {}
    }
}

/// The columns of a result, as PostgreSQL names them.
pub(super) fn named(statement: &EngineStatement, schema: &SchemaRef) -> SchemaRef {
    let EngineStatement::Statement(statement) = statement else { return Arc::clone(schema) };
    let SqlStatement::Query(query) = statement.as_ref() else { return Arc::clone(schema) };
    let Some(items) = first_items(&query.body) else { return Arc::clone(schema) };
    let is_star =
        |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let fields = schema.fields();
    let star = match items.iter().filter(|item| is_star(item)).count() {
        0 if fields.len() == items.len() => 0,
        1 if fields.len() + 1 >= items.len() => fields.len() + 1 - items.len(),
        // Which column comes from which item is not known.
        _ => return Arc::clone(schema),
    };
    let columns = items.iter().flat_map(|item| match item {
        SelectItem::UnnamedExpr(expr) => vec![(Some(name_of(expr)), is_text(expr))],
        SelectItem::ExprWithAlias { alias, expr } => {
            let name = alias.value.split_once(MARK).map(|(name, _)| name.to_owned());
            vec![(name, is_text(expr))]
        }
        item if is_star(item) => vec![(None, false); star],
        _ => vec![(None, false)],
    });
    let renamed = fields.iter().zip(columns).map(|(field, (name, text))| {
        let name = name.filter(|name| name != field.name());
        let text = text && !field.metadata().is_empty();
        if name.is_none() && !text {
            return Arc::clone(field);
        }
        let mut told = field.as_ref().clone();
        if let Some(name) = name {
            told = told.with_name(name);
        }
        // A cast to text takes a value's kind from it, which the engine hands on.
        if text {
            told = told.with_metadata(Default::default());
        }
        Arc::new(told)
    });
    Arc::new(Schema::new_with_metadata(renamed.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The same rows under other names.
pub(super) fn renamed(rows: SendableRecordBatchStream, schema: SchemaRef) -> SendableRecordBatchStream {
    if rows.schema() == schema {
        return rows;
    }
    let told = Arc::clone(&schema);
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        // The engine's batches may know better than its plan what cannot be NULL, or which type a string has.
        let fields = batch.schema_ref().fields().iter().zip(told.fields());
        let fields = fields.map(|(field, told)| field.as_ref().clone().with_name(told.name()));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The items of the SELECT that names the columns.
fn first_items(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => first_items(&query.body),
        SetExpr::SetOperation { left, .. } => first_items(left),
        _ => None,
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast { data_type: DataType::Text | DataType::Varchar(_), .. })
}

/// To the engine a cast is called what it casts.
fn without_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => without_casts(expr),
        expr => expr,
    }
}

/// The name of a plain column.
fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(normal(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(normal),
        _ => None,
    }
}

/// What PostgreSQL calls a column that has no alias.
pub fn name_of(expr: &Expr) -> String {
    find(expr).map_or_else(|| UNNAMED.to_owned(), |(name, _)| name)
}

/// The name of an expression, and whether it is better than that of a type or of CASE around it.
fn find(expr: &Expr) -> Option<(String, bool)> {
    let good = |name: &str| Some((name.to_owned(), true));
    if let Some(name) = column(expr) {
        return Some((name, true));
    }
    match expr {
        Expr::Function(function) => last(&function.name).map(|name| (name, true)),
        Expr::Cast { expr, data_type, .. } => match find(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_name(data_type), false)),
        },
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), false)),
        Expr::Interval(_) => Some(("interval".to_owned(), false)),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(find) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Expr::Nested(expr) | Expr::Collate { expr, .. } => find(expr),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(field)) => column(field).map(|name| (name, true)),
            _ => find(root),
        },
        Expr::Subquery(query) => of_query(query),
        Expr::Exists { .. } => good("exists"),
        Expr::Array(_) => good("array"),
        Expr::Tuple(_) => good("row"),
        Expr::AtTimeZone { .. } => good("timezone"),
        Expr::Extract { .. } => good("extract"),
        Expr::Ceil { .. } => good("ceil"),
        Expr::Floor { .. } => good("floor"),
        Expr::Position { .. } => good("position"),
        Expr::Substring { shorthand: true, .. } => good("substr"),
        Expr::Substring { .. } => good("substring"),
        Expr::Overlay { .. } => good("overlay"),
        Expr::Trim { trim_where, .. } => good(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        _ => None,
    }
}

fn of_query(query: &Query) -> Option<(String, bool)> {
    match first_items(&query.body)? {
        [SelectItem::UnnamedExpr(expr)] => find(expr),
        [SelectItem::ExprWithAlias { alias, .. }] => Some((normal(alias), true)),
        _ => None,
    }
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(normal)
}

/// The name by which PostgreSQL keeps a type.
fn type_name(data_type: &DataType) -> String {
    let text = data_type.to_string().to_lowercase();
    let bare = text.split('(').next().unwrap_or_default().trim();
    match bare {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" | "float4" => "float4",
        "double precision" | "double" | "float" => "float8",
        "boolean" => "bool",
        "decimal" | "dec" => "numeric",
        "character varying" => "varchar",
        "char" | "character" => "bpchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        bare => bare,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse::{Statement, parse_one};

    fn query(sql: &str) -> EngineStatement {
        let Ok(Statement::Engine(statement)) = parse_one(sql) else { panic!("{sql}") };
        *statement
    }

    #[test]
    fn columns_are_named_as_in_postgresql() {
        for (expr, name) in [
            ("count(*)", "count"),
            ("pg_catalog.FORMAT_TYPE(a, b)", "format_type"),
            ("a", "a"),
            ("t.\"A b\"", "A b"),
            ("a + 1", "?column?"),
            ("'x'", "?column?"),
            ("NULL", "?column?"),
            ("1::bigint", "int8"),
            ("CAST(a AS BIGINT)", "a"),
            ("sum(a)::numeric(10, 2)", "sum"),
            ("DATE '2026-01-01'", "date"),
            ("CASE WHEN a THEN 1 ELSE 2 END", "case"),
            ("CASE WHEN a THEN 1 ELSE b END", "b"),
            ("(SELECT max(x) FROM u)", "max"),
            ("EXISTS (SELECT 1)", "exists"),
            ("extract(epoch FROM a)", "extract"),
            ("a AT TIME ZONE 'UTC'", "timezone"),
            ("ARRAY[1]", "array"),
            ("((a))", "a"),
            ("trim(a)", "btrim"),
            ("a[1]", "a"),
            ("a IS NULL", "?column?"),
        ] {
            let EngineStatement::Statement(statement) = query(&format!("SELECT {expr} FROM t")) else {
                panic!()
            };
            let SqlStatement::Query(query) = *statement else { panic!() };
            let Some([SelectItem::UnnamedExpr(expr)]) = first_items(&query.body) else { panic!("{query}") };
            assert_eq!(name_of(expr), name, "{expr}");
        }
    }

    #[test]
    fn those_with_one_name_are_told_apart() {
        for (sql, apart) in [
            ("SELECT 1, 1", true),
            ("SELECT a AS x, b AS X", true),
            ("SELECT a AS b, b FROM t", true),
            ("SELECT count(*), count(*) FROM t", true),
            ("SELECT a, a::date FROM t", true),
            ("SELECT t.a, u.a FROM t, u", false),
            ("SELECT a, a + 1, count(*) FROM t", false),
        ] {
            let text = query(sql).to_string();
            assert_eq!(text.contains(MARK), apart, "{text}");
        }
    }
}
