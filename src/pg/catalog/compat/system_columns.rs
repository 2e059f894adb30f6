//! Columns that every table of PostgreSQL has without declaring them: `tableoid` and `xmin`, of tables of the catalog.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Statement, TableFactor, Value, VisitMut, VisitorMut};

use super::folded;
use crate::pg::catalog::{PG_CATALOG, system};

/// Puts the number of the table, or that of a transaction, in their place.
pub(super) fn replace(statement: &mut Statement) {
    let mut tables = Tables::default();
    let _ = VisitMut::visit(statement, &mut tables);
    let _ = VisitMut::visit(statement, &mut Columns(tables.0));
}

/// Tables of the catalog by the name that the statement has for them.
#[derive(Default)]
struct Tables(HashMap<String, i32>);

impl VisitorMut for Tables {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, .. } = factor
            && let Some(table) = name.0.last().and_then(|p| p.as_ident()).map(folded)
            && let Some(relation) = system::relation(PG_CATALOG, &table)
        {
            let called = alias.as_ref().map_or(table, |alias| folded(&alias.name));
            self.0.insert(called, relation.oid);
        }
        ControlFlow::Continue(())
    }
}

struct Columns(HashMap<String, i32>);

impl VisitorMut for Columns {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [.., table, column] = parts.as_slice()
            && let Some(oid) = self.0.get(&folded(table))
        {
            let number = match folded(column).as_str() {
                "tableoid" => *oid,
                // All rows are of one transaction, the first that there is.
                "xmin" => 3,
                _ => return ControlFlow::Continue(()),
            };
            *expr = Expr::Value(Value::Number(number.to_string(), false).into());
        }
        ControlFlow::Continue(())
    }
}
