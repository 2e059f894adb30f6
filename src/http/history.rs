//! `/v1/history`: how keys, or all of them, went from bucket to bucket.

use std::collections::HashMap;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::parameters::Parameters;
use super::question::{Bounds, MeasureKind, Question, Standing, quoted};
use super::span::show;
use super::value::key;
use super::{Answer, Http, answer};
use crate::error::{Error, Result};

/// What may be asked.
const KNOWN: &[&str] = &["rollup", "key", "item", "measure", "last", "from", "to"];

/// More keys are not asked for at a time.
const MOST_ITEMS: usize = 100;

/// More values are not given at a time.
const MOST_VALUES: usize = 100_000;

#[derive(Debug, Serialize)]
pub(super) struct History {
    #[serde(flatten)]
    standing: Standing,
    complete_through: Option<String>,
    buckets: Vec<String>,
    series: Vec<Series>,
}

#[derive(Debug, Serialize)]
struct Series {
    item: Option<Value>,
    values: Vec<Option<Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower: Option<Vec<Option<Box<RawValue>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper: Option<Vec<Option<Box<RawValue>>>>,
}

pub(super) async fn history(
    State(http): State<Http>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<History> {
    answer(&http, &headers, move |session| async move {
        let parameters = Parameters::read(query.as_deref(), KNOWN)?;
        let question = Question::read(&parameters, &session).await?;
        of(&question, parameters.items()).await
    })
    .await
}

async fn of(question: &Question, items: &[String]) -> Result<History> {
    let merged = question.merged()?;
    let value = match question.kind {
        MeasureKind::Number => merged,
        MeasureKind::Distinct => format!("hll_sketch_bounds({merged})"),
        _ => {
            return Err(Error::not_supported(format!("the measure '{}' has no history", question.measure))
                .with_hint("ask for a measure that is a number, or counts what is different"));
        }
    };
    if question.key.is_some() && (items.is_empty() || items.len() > MOST_ITEMS) {
        return Err(Error::invalid_input(format!(
            "the parameter 'item' has to come 1 to {MOST_ITEMS} times"
        )));
    }
    let starts = question.span.buckets(question.rollup.definition.bucketing())?;
    if starts.len() * items.len().max(1) > MOST_VALUES {
        return Err(Error::invalid_input(format!("that would be more than {MOST_VALUES} values"))
            .with_hint("ask for less time or fewer items"));
    }
    let mut values = vec![];
    let rows = question.rows(question.span, &question.items, &mut values);
    let bucket = quoted(question.rollup.definition.bucket_column());
    let item = question.key.as_deref().map_or("CAST(NULL AS VARCHAR)".to_owned(), quoted);
    let sql = format!("SELECT {bucket} AS bucket, {item} AS item, {value} AS value {rows} GROUP BY 1, 2");
    let found = question.run(&sql, &values).await?;
    let times = found.column(0).as_primitive::<TimestampMicrosecondType>();
    let mut known: HashMap<(String, i64), Bounds> = HashMap::new();
    for row in 0..found.num_rows() {
        let item = key(found.column(1), row)?.to_string();
        known.insert((item, times.value(row)), question.bounds(found.column(2).as_ref(), row)?);
    }
    // Of nothing there is 0, where things add up; there is no least of nothing.
    let nothing = if question.adds_up() || question.kind == MeasureKind::Distinct {
        let zero = serde_json::value::to_raw_value(&0).ok();
        Bounds { value: zero.clone(), lower: zero.clone(), upper: zero }
    } else {
        Bounds::default()
    };
    let asked: Vec<Option<Value>> = match question.key {
        Some(_) => {
            question.items.iter().map(|item| Ok(Some(key(&item.to_array()?, 0)?))).collect::<Result<_>>()?
        }
        None => vec![None],
    };
    let series = asked.into_iter().map(|item| {
        let shown = item.clone().unwrap_or(Value::Null).to_string();
        let each: Vec<Bounds> = starts
            .iter()
            .map(|start| known.get(&(shown.clone(), *start)).unwrap_or(&nothing).clone())
            .collect();
        let approximate = question.kind.is_approximate();
        let part = |of: fn(&Bounds) -> &Option<Box<RawValue>>| {
            each.iter().map(|b| of(b).clone()).collect::<Vec<_>>()
        };
        Series {
            item,
            values: part(|b| &b.value),
            lower: approximate.then(|| part(|b| &b.lower)),
            upper: approximate.then(|| part(|b| &b.upper)),
        }
    });
    let series = series.collect();
    Ok(History {
        standing: question.standing(),
        complete_through: question.complete_through(),
        buckets: starts.into_iter().map(show).collect(),
        series,
    })
}
