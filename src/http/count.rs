//! `/v1/count`: how much there is of one key, or of all.

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use datafusion::arrow::array::Array;
use datafusion::common::ScalarValue;
use serde::Serialize;

use super::parameters::Parameters;
use super::question::{Bounds, MeasureKind, Question, Standing};
use super::value::number;
use super::{Answer, Http, answer};
use crate::error::{Error, Result};

/// What may be asked.
const KNOWN: &[&str] = &["rollup", "key", "item", "measure", "last", "from", "to"];

#[derive(Debug, Serialize)]
pub(super) struct Count {
    #[serde(flatten)]
    standing: Standing,
    item: Option<String>,
    #[serde(flatten)]
    bounds: Bounds,
}

pub(super) async fn count(
    State(http): State<Http>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Count> {
    answer(&http, &headers, move |session| async move {
        let parameters = Parameters::read(query.as_deref(), KNOWN)?;
        let question = Question::read(&parameters, &session).await?;
        let item = match parameters.items() {
            [] if question.key.is_some() => {
                return Err(Error::invalid_input("the parameter 'item' is missing"));
            }
            [] => None,
            [item] => Some(item.clone()),
            _ => {
                return Err(Error::invalid_input("the parameter 'item' comes twice")
                    .with_hint("ask /v1/history for several"));
            }
        };
        let bounds = of(&question, item.as_deref()).await?;
        Ok(Count { standing: question.standing(), item, bounds })
    })
    .await
}

async fn of(question: &Question, item: Option<&str>) -> Result<Bounds> {
    let merged = question.merged()?;
    let mut values = vec![];
    let rows = question.rows(question.span, &question.items, &mut values);
    match question.kind {
        MeasureKind::Number => {
            let counted = question.run(&format!("SELECT {merged} {rows}"), &values).await?;
            let value = counted.column(0);
            if question.adds_up() && value.is_null(0) {
                // Of nothing there is 0.
                let zero = number(ScalarValue::Int64(Some(0)).to_array()?.as_ref(), 0)?;
                return Ok(Bounds { lower: zero.clone(), upper: zero.clone(), value: zero });
            }
            question.bounds(value.as_ref(), 0)
        }
        MeasureKind::Distinct => {
            let counted =
                question.run(&format!("SELECT hll_sketch_bounds({merged}) {rows}"), &values).await?;
            question.bounds(counted.column(0).as_ref(), 0)
        }
        MeasureKind::CountMin => {
            let item = item.ok_or_else(|| Error::invalid_input("the parameter 'item' is missing"))?;
            let item = item.parse::<i64>().map_or_else(|_| ScalarValue::from(item), ScalarValue::from);
            values.push(item);
            let at = values.len();
            let sql = format!(
                "SELECT count_min_estimate(sketch, ${at}), count_min_error(sketch) FROM (SELECT {merged} AS sketch {rows}) AS all_of_it"
            );
            let counted = question.run(&sql, &values).await?;
            let (value, error) =
                (number(counted.column(0).as_ref(), 0)?, number(counted.column(1).as_ref(), 0)?);
            let parsed = |raw: &Option<Box<serde_json::value::RawValue>>| {
                raw.as_ref().and_then(|r| r.get().parse::<f64>().ok())
            };
            let lower =
                parsed(&value).zip(parsed(&error)).map(|(value, error)| (value - error).max(0.0).ceil());
            let lower = lower.and_then(|lower| serde_json::value::to_raw_value(&(lower as i64)).ok());
            Ok(Bounds { upper: value.clone(), value, lower })
        }
        MeasureKind::TopItems | MeasureKind::Other => Err(Error::not_supported(format!(
            "the measure '{}' knows which items lead, and not each of them",
            question.measure
        ))
        .with_hint("ask /v1/top, or count by a measure that is a sum")),
    }
}
