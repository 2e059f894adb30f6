//! Functions that give rows: in a select list, and in FROM.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FunctionArg, Ident, Query, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, Value, VisitorMut, visit_expressions,
};

use super::{folded, parse_expr};
use crate::dialect::call;
use crate::pg::catalog::functions::SETS;

/// Has their lists unnested, and reads fields of records.
pub(super) struct Sets;

impl VisitorMut for Sets {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_set(expr) {
            let list = expr.clone();
            *expr = call("unnest", vec![list]);
        }
        // `t.a[1]` is a column, and `(f(a)).x` a field.
        if let Expr::CompoundFieldAccess { root, access_chain } = expr
            && matches!(root.as_ref(), Expr::Nested(_) | Expr::Function(_))
        {
            let mut value = match root.as_ref() {
                Expr::Nested(inner) => inner.as_ref().clone(),
                other => other.clone(),
            };
            let mut dotted = false;
            for access in access_chain.iter() {
                match access {
                    AccessExpr::Dot(Expr::Identifier(field)) => {
                        let name = Expr::Value(Value::SingleQuotedString(folded(field)).into());
                        value = call("get_field", vec![value, name]);
                        dotted = true;
                    }
                    other => {
                        value = Expr::CompoundFieldAccess {
                            root: Box::new(value),
                            access_chain: vec![other.clone()],
                        };
                    }
                }
            }
            if dotted {
                *expr = value;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut bodies = vec![query.body.as_mut()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Select(select) => {
                    for item in &mut select.projection {
                        name_field(item);
                    }
                    for (at, table) in select.from.iter_mut().enumerate() {
                        derive(&mut table.relation, at > 0);
                        table.joins.iter_mut().for_each(|join| derive(&mut join.relation, true));
                    }
                }
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_mut(), right.as_mut()]),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

/// A field of a record is called like the field.
fn name_field(item: &mut SelectItem) {
    if let SelectItem::UnnamedExpr(expr) = item
        && let Expr::CompoundFieldAccess { access_chain, .. } = expr
        && let Some(AccessExpr::Dot(Expr::Identifier(field))) = access_chain.last()
    {
        *item = SelectItem::ExprWithAlias { alias: Ident::new(folded(field)), expr: expr.clone() };
    }
}

fn is_set(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    let name = function.name.0.last().and_then(|p| p.as_ident()).map(|i| i.value.to_lowercase());
    name.is_some_and(|name| SETS.contains(&name.as_str())) && function.over.is_none()
}

/// `FROM f(…) AS a` is a query of its own, which may take its arguments from tables before it.
fn derive(factor: &mut TableFactor, follows: bool) {
    let (name, arguments, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => {
            (name.0.last().and_then(|p| p.as_ident()).map(folded), args.args.clone(), alias.clone())
        }
        TableFactor::Function { name, args, alias, .. } => {
            (name.0.last().and_then(|p| p.as_ident()).map(folded), args.clone(), alias.clone())
        }
        _ => return,
    };
    let Some(name) = name else { return };
    let lateral = follows && arguments.iter().any(takes_columns);
    let list = arguments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let title = alias.as_ref().map_or(name.clone(), |a| a.name.to_string());
    let columns: Vec<String> =
        alias.iter().flat_map(|a| &a.columns).map(|column| column.name.to_string()).collect();
    let column = columns.first().cloned().unwrap_or_else(|| title.clone());
    let records = ["aclexplode", "pg_options_to_table", "_pg_expandarray"];
    let query = if records.contains(&name.as_str()) {
        let fields: &[&str] = match name.as_str() {
            "aclexplode" => &["grantor", "grantee", "privilege_type", "is_grantable"],
            "pg_options_to_table" => &["option_name", "option_value"],
            _ => &["x", "n"],
        };
        let fields = fields.iter().enumerate().map(|(at, field)| {
            let column = columns.get(at).map_or(*field, String::as_str);
            format!("get_field(record.r, '{field}') AS {column}")
        });
        let fields = fields.collect::<Vec<_>>().join(", ");
        // Already a list function here, so that it is not unnested twice.
        format!("SELECT {fields} FROM (SELECT {name}({list}) AS r) AS record")
    } else if SETS.contains(&name.as_str()) {
        format!("SELECT {name}({list}) AS {column}")
    } else if name == "generate_series" && arguments.iter().any(takes_columns) {
        let bounds = arguments.iter().map(|a| format!("CAST({a} AS BIGINT)")).collect::<Vec<_>>().join(", ");
        format!("SELECT unnest(generate_series({bounds})) AS {column}")
    } else if SCALARS.contains(&name.as_str()) {
        format!("SELECT {name}({list}) AS {column}")
    } else {
        name_column(&name, factor);
        return;
    };
    if let Some(Expr::Subquery(subquery)) = parse_expr(&format!("({query})")) {
        let mut alias = alias;
        if let Some(alias) = &mut alias {
            alias.columns.clear();
        }
        *factor = TableFactor::Derived {
            lateral,
            subquery,
            alias: Some(alias.unwrap_or_else(|| table_alias(&title))),
            sample: None,
        };
    }
}

/// The one column of a function is called like its table.
fn name_column(function: &str, factor: &mut TableFactor) {
    let TableFactor::Table { alias, .. } = factor else { return };
    if !matches!(function, "generate_series" | "unnest") {
        return;
    }
    let alias = alias.get_or_insert_with(|| table_alias(function));
    if alias.columns.is_empty() {
        let column = TableAliasColumnDef { name: alias.name.clone(), data_type: None };
        alias.columns.push(column);
    }
}

/// Whether an argument is made of columns, which a table function of the engine cannot take.
fn takes_columns(argument: &FunctionArg) -> bool {
    let mut columns = false;
    let _ = visit_expressions(argument, |expr| {
        columns |= matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        ControlFlow::<()>::Continue(())
    });
    columns
}

fn table_alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::new(name), columns: vec![], at: None }
}

/// Functions of one value that stand in FROM like a table of one row.
const SCALARS: [&str; 5] =
    ["string_to_array", "current_setting", "current_schemas", "current_database", "version"];
