//! What columns of a result are called: as PostgreSQL calls them, and each by a name of its own within a query, which the
//! engine wants.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Ident, Query, SelectItem, SetExpr, Statement, VisitMut, VisitorMut,
};

use super::folded;

/// Gives names to columns that have none.
pub(super) fn give(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut Titles);
}

struct Titles;

impl VisitorMut for Titles {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut bodies = vec![query.body.as_mut()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Select(select) => name(&mut select.projection),
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_mut(), right.as_mut()]),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

fn name(items: &mut [SelectItem]) {
    let mut taken: HashSet<String> = HashSet::new();
    for item in items.iter() {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => drop(taken.insert(folded(alias))),
            SelectItem::UnnamedExpr(expr) if is_column(expr) => drop(taken.insert(title(expr))),
            _ => {}
        }
    }
    for item in items {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if is_column(expr) {
            continue;
        }
        let base = title(expr);
        let mut name = base.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn title(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
        Expr::Function(function) => {
            function.name.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default()
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => title(inner),
        Expr::Cast { expr, data_type, .. } => match title(expr) {
            inner if inner == UNKNOWN => cast_title(data_type),
            inner => inner,
        },
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(datafusion::sql::sqlparser::ast::AccessExpr::Dot(Expr::Identifier(field))) => folded(field),
            _ => title(root),
        },
        Expr::Case { else_result, .. } => match else_result.as_deref() {
            Some(column) if is_column(column) => title(column),
            _ => "case".to_owned(),
        },
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.as_slice() {
                [SelectItem::UnnamedExpr(expr)] => title(expr),
                [SelectItem::ExprWithAlias { alias, .. }] => folded(alias),
                _ => UNKNOWN.to_owned(),
            },
            _ => UNKNOWN.to_owned(),
        },
        _ => UNKNOWN.to_owned(),
    }
}

/// What PostgreSQL calls a column that has no name.
const UNKNOWN: &str = "?column?";

fn cast_title(data_type: &DataType) -> String {
    match data_type {
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => "int4".to_owned(),
        DataType::BigInt(_) | DataType::Int8(_) => "int8".to_owned(),
        DataType::SmallInt(_) | DataType::Int2(_) => "int2".to_owned(),
        DataType::Boolean | DataType::Bool => "bool".to_owned(),
        DataType::Text => "text".to_owned(),
        DataType::Custom(name, _) => name.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default(),
        other => other.to_string().to_lowercase(),
    }
}
