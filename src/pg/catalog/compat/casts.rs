//! Casts to types that stand for numbers of objects (`regclass`), and to types that the engine has under another name.
//!
//! `'sales'::regclass` is the number of what has this name, so it can be compared with other numbers; as text, and as a
//! column of the result, it is the name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Query, SelectItem, SetExpr, Statement,
    TimezoneInfo, Value, VisitorMut,
};

use crate::dialect::call;
use crate::pg::catalog::functions::CASTS;

/// Puts functions in the place of such casts.
pub(super) struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, data_type, .. } = expr {
            let name = name_of(data_type);
            if let Some((_, reads, _)) = CASTS.iter().find(|c| c.0 == name) {
                *expr = call(reads, vec![typed(inner)]);
            } else if is_text(data_type) && shows_name(inner) {
                *expr = shown(inner.as_ref().clone());
            } else if let Some(known) = renamed(&name) {
                *data_type = known;
            }
        }
        // `a::regclass || '.'`
        if let Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } = expr {
            for side in [left, right] {
                if shows_name(side) {
                    **side = shown(side.as_ref().clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// A parameter that is cast to such a type is a name.
fn typed(expr: &Expr) -> Expr {
    match expr {
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => as_text(expr.clone()),
        expr => expr.clone(),
    }
}

fn as_text(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::Text,
        array: false,
        format: None,
    }
}

/// Columns of the result that are such casts become names.
pub(super) fn show_results(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        show_in(query);
    }
}

fn show_in(query: &mut Query) {
    fn items(body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => {
                for item in &mut select.projection {
                    match item {
                        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                            if let Expr::Cast { data_type, .. } = expr
                                && CASTS.iter().any(|c| c.0 == name_of(data_type))
                            {
                                *expr = as_text(expr.clone());
                            }
                        }
                        _ => {}
                    }
                }
            }
            SetExpr::SetOperation { left, right, .. } => {
                items(left);
                items(right);
            }
            SetExpr::Query(query) => items(&mut query.body),
            _ => {}
        }
    }
    items(&mut query.body);
}

/// The last part of a type's name.
fn name_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Regclass => "regclass".to_owned(),
        DataType::Custom(name, _) => {
            name.0.last().and_then(|p| p.as_ident()).map(super::folded).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_))
        || matches!(name_of(data_type).as_str(), "text" | "varchar" | "name")
}

/// Whether it is a number that is to be shown as a name.
fn shows_name(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => {
            let name = function.name.to_string();
            CASTS.iter().any(|c| c.1 == name)
        }
        Expr::Nested(inner) => shows_name(inner),
        _ => false,
    }
}

fn shown(expr: Expr) -> Expr {
    let name = match &expr {
        Expr::Function(function) => function.name.to_string(),
        Expr::Nested(inner) => return shown(inner.as_ref().clone()),
        _ => String::new(),
    };
    match CASTS.iter().find(|c| c.1 == name) {
        Some((_, _, shows)) => call(shows, vec![expr]),
        None => expr,
    }
}

/// Types of one name here and another there.
fn renamed(name: &str) -> Option<DataType> {
    Some(match name {
        "name" | "char" | "bpchar" | "aclitem" | "pg_node_tree" | "inet" | "unknown" | "json" | "jsonb" => {
            DataType::Text
        }
        "xid" | "cid" => DataType::Int4(None),
        "timestamptz" => DataType::Timestamp(None, TimezoneInfo::Tz),
        "timestamp" => DataType::Timestamp(None, TimezoneInfo::None),
        "numeric" => DataType::Numeric(ExactNumberInfo::None),
        "date" => DataType::Date,
        _ => return None,
    })
}
