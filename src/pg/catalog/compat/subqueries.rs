//! Subqueries as values: `ARRAY(SELECT …)`, and one row found by its number.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, GroupByExpr, Ident, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SetExpr, VisitorMut, visit_expressions,
};

use super::parse_expr;
use crate::dialect::call;

/// Puts aggregates in them, for which the engine has joins.
pub(super) struct Subqueries;

impl VisitorMut for Subqueries {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("array")
            && let FunctionArguments::Subquery(query) = &function.args
            && let Some(list) = list_of(query)
        {
            *expr = call("array_or_empty", vec![list]);
        }
        ControlFlow::Continue(())
    }
}

/// Has a query that is ordered by subqueries give them as columns first, where the engine can have them.
pub(super) struct Orders;

impl VisitorMut for Orders {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(ordered) = ordered_by_columns(query) {
            *query = ordered;
        }
        ControlFlow::Continue(())
    }
}

fn ordered_by_columns(query: &Query) -> Option<Query> {
    let keys = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(keys)) if keys.iter().any(|key| has_subquery(&key.expr)) => {
            keys.clone()
        }
        _ => return None,
    };
    let mut inner = query.clone();
    (inner.order_by, inner.limit_clause, inner.fetch) = (None, None, None);
    let SetExpr::Select(select) = inner.body.as_mut() else { return None };
    let names = select.projection.iter().map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.to_string()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.to_string()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(ToString::to_string),
        _ => None,
    });
    let names = names.collect::<Option<Vec<_>>>()?.join(", ");
    let mut order = vec![];
    for (number, key) in keys.into_iter().enumerate() {
        if !has_subquery(&key.expr) {
            order.push(key.to_string());
            continue;
        }
        let name = Ident::with_quote('"', format!("order {number}"));
        let item = SelectItem::ExprWithAlias { expr: key.expr.clone(), alias: name.clone() };
        select.projection.push(item);
        order.push(OrderByExpr { expr: Expr::Identifier(name), ..key }.to_string());
    }
    let limit = query.limit_clause.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = format!("(SELECT {names} FROM ({inner}) AS unordered ORDER BY {} {limit})", order.join(", "));
    match parse_expr(&text)? {
        Expr::Subquery(query) => Some(*query),
        _ => None,
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    let _ = visit_expressions(expr, |e| {
        found |= matches!(e, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. });
        ControlFlow::<()>::Continue(())
    });
    found
}

/// The values of a query as a list, in its order.
fn list_of(query: &Query) -> Option<Expr> {
    let mut query = query.clone();
    let simple = query.limit_clause.is_none() && query.fetch.is_none() && query.with.is_none();
    if let SetExpr::Select(select) = query.body.as_mut()
        && simple
        && is_plain(select)
        && let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
            select.projection.as_mut_slice()
    {
        let order = match query.order_by.take().map(|order| order.kind) {
            Some(OrderByKind::Expressions(keys)) => {
                let keys = keys.iter().map(|key| {
                    // A number is that of a column, of which there is one.
                    let text = key.to_string();
                    match text.strip_prefix('1') {
                        Some(rest) if matches!(key.expr, Expr::Value(_)) => format!("{item}{rest}"),
                        _ => text,
                    }
                });
                format!(" ORDER BY {}", keys.collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        *item = parse_expr(&format!("array_agg({item}{order})"))?;
        return Some(Expr::Subquery(Box::new(query)));
    }
    parse_expr(&format!("(SELECT array_agg(listed.item) FROM ({query}) AS listed(item))"))
}

fn is_plain(select: &Select) -> bool {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
        GroupByExpr::All(_) => true,
    };
    select.distinct.is_none() && !grouped && select.having.is_none()
}
