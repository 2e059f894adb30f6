//! Texts that stand for other values, read as PostgreSQL reads them: `'\\x00ff'::bytea`, `'{1,2}'::int[]`,
//! `'1 day 01:30:00'::interval`. The engine's cast would take the text's own bytes, or fail.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use super::literal;
use crate::error::Error;

/// The plan, with such texts read.
pub(super) fn read_texts(plan: LogicalPlan) -> Result<LogicalPlan> {
    let read =
        plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(read_text)))?;
    Ok(read.data)
}

fn read_text(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
    let Expr::Literal(value, metadata) = inner.as_ref() else { return Ok(Transformed::no(expr)) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(Transformed::no(expr)) };
    match value_of(text, field.data_type())? {
        Some(value) => Ok(Transformed::yes(Expr::Literal(value, metadata.clone()))),
        None => Ok(Transformed::no(expr)),
    }
}

/// The value that a text stands for; none where the engine's own cast does.
fn value_of(text: &str, to: &DataType) -> Result<Option<ScalarValue>> {
    let invalid =
        |what: &str| Error::invalid_value(format!("invalid input syntax for type {what}: \"{text}\""));
    match to {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes = literal::bytes(text).ok_or_else(|| invalid("bytea"))?;
            Ok(Some(ScalarValue::Binary(Some(bytes)).cast_to(to)?))
        }
        DataType::List(item) if text.trim_start().starts_with('{') => {
            let malformed = || Error::invalid_value(format!("malformed array literal: \"{text}\""));
            let items = literal::array(text).ok_or_else(malformed)?;
            let items = items.into_iter().map(|found| match found {
                None => Ok(ScalarValue::try_new_null(item.data_type())?),
                Some(found) => match value_of(&found, item.data_type())? {
                    Some(value) => Ok(value),
                    None => ScalarValue::from(found).cast_to(item.data_type()),
                },
            });
            let items = items.collect::<Result<Vec<_>>>()?;
            let list = ScalarValue::List(ScalarValue::new_list_nullable(&items, item.data_type()));
            Ok(Some(list.cast_to(to)?))
        }
        DataType::Interval(_) => Ok(match literal::interval(text.trim()) {
            Some(interval) => Some(ScalarValue::IntervalMonthDayNano(Some(interval)).cast_to(to)?),
            None => None,
        }),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_what_they_stand_for() {
        let read = |text: &str, to: &DataType| value_of(text, to).unwrap().map(|value| value.to_string());
        assert_eq!(
            value_of("\\x00ff", &DataType::Binary).unwrap(),
            Some(ScalarValue::Binary(Some(vec![0, 255])))
        );
        let ints = DataType::new_list(DataType::Int32, true);
        assert_eq!(read("{1,NULL,3}", &ints).as_deref(), Some("[1, , 3]"));
        assert!(value_of("{1,x}", &ints).is_err() && value_of("{1", &ints).is_err());
        assert_eq!(read("12", &DataType::Int64), None);
    }
}
