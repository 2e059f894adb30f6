//! Weights: how much an item counts.
//!
//! A sketch adds 64-bit integers. A DECIMAL weight is taken by its digits (12.50 of scale 2 as 1250), and the scale stands
//! in the sketch's type, so sums of money stay exact to the digit.

use std::sync::Arc;

use datafusion::arrow::array::types::{Decimal128Type, Int64Type};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;

use super::item::cast;

/// What the weights of a sketch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightType {
    /// There are none: an item counts 1.
    One,
    /// Integers.
    Integer,
    /// Decimals.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
}

impl WeightType {
    /// Fails where weights of this type cannot be added exactly; `function` is for the message.
    pub(crate) fn try_new(t: &DataType, function: &str) -> Result<Self> {
        match t {
            _ if t.is_integer() => Ok(WeightType::Integer),
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                Ok(WeightType::Decimal { precision: *p, scale: *s })
            }
            other => plan_err!(
                "{function} adds integers or decimals, not {other}: cast the weight, for example to DECIMAL(18, 2)"
            ),
        }
    }

    /// The type of a column of such weights.
    pub(crate) fn column_type(self) -> DataType {
        match self {
            WeightType::One | WeightType::Integer => DataType::Int64,
            WeightType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        }
    }

    /// The type of a sum of such weights, as that of SQL's `sum`.
    pub(crate) fn sum_type(self) -> DataType {
        match self {
            WeightType::One | WeightType::Integer => DataType::Int64,
            WeightType::Decimal { precision, scale } => DataType::Decimal128((precision + 10).min(38), scale),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; 3] {
        match self {
            WeightType::One => [0, 0, 0],
            WeightType::Integer => [1, 0, 0],
            WeightType::Decimal { precision, scale } => [2, precision, scale as u8],
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 3]) -> Result<Self> {
        match bytes {
            [0, 0, 0] => Ok(WeightType::One),
            [1, 0, 0] => Ok(WeightType::Integer),
            [2, precision @ 1..=38, scale] if (scale as i8).unsigned_abs() <= precision => {
                Ok(WeightType::Decimal { precision, scale: scale as i8 })
            }
            _ => exec_err!("the sketch is corrupt: it has weights of the unknown type {bytes:?}"),
        }
    }

    /// The same unit: what may be added to each other.
    pub(crate) fn adds_to(self, other: WeightType) -> bool {
        match (self, other) {
            (WeightType::Decimal { scale: a, .. }, WeightType::Decimal { scale: b, .. }) => a == b,
            _ => self == other,
        }
    }

    /// The digits of a column of such weights. Fails where a weight needs more than 63 bits.
    pub(crate) fn digits(self, column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
        let column = cast(column, &self.column_type())?;
        let Some(decimals) = column.as_primitive_opt::<Decimal128Type>() else {
            return Ok(column.as_primitive::<Int64Type>().values().clone());
        };
        let outside = |v: &i128| i64::try_from(*v).is_err_and(|_| true) || *v == i128::from(i64::MIN);
        if let Some(row) =
            (0..decimals.len()).find(|i| decimals.is_valid(*i) && outside(&decimals.values()[*i]))
        {
            return exec_err!(
                "the weight {} has too many digits for a sketch",
                decimals.value_as_string(row)
            );
        }
        Ok(decimals.values().iter().map(|v| *v as i64).collect())
    }

    /// A column of sums, of their digits.
    pub(crate) fn sums(self, digits: Vec<i64>) -> Result<ArrayRef> {
        match self.sum_type() {
            DataType::Decimal128(precision, scale) => {
                let digits: ScalarBuffer<i128> = digits.iter().map(|v| i128::from(*v)).collect();
                let sums = PrimitiveArray::<Decimal128Type>::new(digits, None);
                Ok(Arc::new(sums.with_precision_and_scale(precision, scale)?))
            }
            _ => Ok(Arc::new(Int64Array::from(digits))),
        }
    }
}

/// A sum that has outgrown 63 bits.
pub(crate) fn overflow() -> datafusion::error::DataFusionError {
    exec_datafusion_err!(
        "the weights of the sketch add up to more than {}: use a smaller unit or fewer decimals",
        i64::MAX
    )
}
