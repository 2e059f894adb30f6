//! What columns of a result are called: as PostgreSQL calls them, and each by a name of its own within a query, which the
//! engine wants.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, Statement, VisitMut, VisitorMut,
};

use super::folded;
use crate::statement::name_of;

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
            SelectItem::UnnamedExpr(expr) if is_column(expr) => drop(taken.insert(name_of(expr))),
            _ => {}
        }
    }
    for item in items {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if is_column(expr) {
            continue;
        }
        let base = name_of(expr);
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
