//! `mod`, `div`, `width_bucket`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use datafusion::arrow::compute::kernels::numeric::{div, rem};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::scalar::{NUMBERS, Scalar, doc, exactly};

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let mod_ = Scalar {
        name: "mod",
        takes: |types| alike("mod", types),
        gives: |types| Ok(types[0].clone()),
        run: |args, _| Ok(rem(&args[0], &args[1])?),
        doc: doc(NUMBERS, "The remainder of a division.", "mod(a, b)", "SELECT mod(7, 3);  -- 1"),
    };
    let div_ = Scalar {
        name: "div",
        takes: |types| match alike("div", types)?[0] {
            DataType::Int64 => Ok(vec![DataType::Int64; 2]),
            _ => Ok(vec![DataType::Float64; 2]),
        },
        gives: |types| Ok(types[0].clone()),
        run: |args, _| {
            let whole = div(&args[0], &args[1])?;
            let Some(exact) = whole.as_primitive_opt::<Float64Type>() else { return Ok(whole) };
            Ok(Arc::new(exact.unary::<_, Float64Type>(f64::trunc)) as ArrayRef)
        },
        doc: doc(NUMBERS, "The quotient, cut to a whole number.", "div(a, b)", "SELECT div(9, 4);  -- 2"),
    };
    let width_bucket = Scalar {
        name: "width_bucket",
        takes: |types| {
            use DataType::{Float64, Int64};
            exactly("width_bucket", types, &[Float64, Float64, Float64, Int64])
        },
        gives: |_| Ok(DataType::Int32),
        run: |args, _| {
            let of = |i: usize| args[i].as_primitive::<Float64Type>();
            let (value, low, high, count) = (of(0), of(1), of(2), args[3].as_primitive::<Int64Type>());
            let rows = (0..value.len()).map(|i| {
                if [0, 1, 2, 3].iter().any(|a| args[*a].is_null(i)) {
                    return Ok(None);
                }
                bucket(value.value(i), low.value(i), high.value(i), count.value(i)).map(Some)
            });
            Ok(Arc::new(rows.collect::<Result<Int32Array>>()?) as ArrayRef)
        },
        doc: doc(
            NUMBERS,
            "Which of `count` buckets between `low` and `high` a value falls into, from 1 on.",
            "width_bucket(value, low, high, count)",
            "SELECT width_bucket(5.35, 0.024, 10.06, 5);  -- 3",
        ),
    };
    [mod_, div_, width_bucket].map(Scalar::udf).into()
}

/// One type for two numbers.
fn alike(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [a, b] = types else { return plan_err!("function '{name}' takes 2 arguments, not {}", types.len()) };
    let scale = |t: &DataType| match t {
        DataType::Decimal128(_, scale) => Some(*scale),
        _ => None,
    };
    let common = match (a, b) {
        (a, b) if !numeric(a) || !numeric(b) => {
            return plan_err!("function '{name}' takes numbers, not {a} and {b}");
        }
        (a, b) if a.is_floating() || b.is_floating() => DataType::Float64,
        (a, b) => match (scale(a), scale(b)) {
            (None, None) => DataType::Int64,
            (a, b) => DataType::Decimal128(38, a.unwrap_or(0).max(b.unwrap_or(0))),
        },
    };
    Ok(vec![common; 2])
}

fn numeric(t: &DataType) -> bool {
    t.is_numeric() || t.is_null()
}

fn bucket(value: f64, low: f64, high: f64, count: i64) -> Result<i32> {
    let Ok(count) = i32::try_from(count) else {
        return exec_err!("width_bucket has no room for {count} buckets");
    };
    if count <= 0 || low == high || value.is_nan() || !low.is_finite() || !high.is_finite() {
        return exec_err!("width_bucket needs a count above 0 and two bounds that differ");
    }
    let share = (value - low) / (high - low);
    Ok(match share {
        s if s < 0.0 => 0,
        s if s >= 1.0 => count.saturating_add(1),
        s => (s * f64::from(count)) as i32 + 1,
    })
}
