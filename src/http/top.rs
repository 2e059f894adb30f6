//! `/v1/top`: which keys lead.

use std::collections::HashMap;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StructArray};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::parameters::Parameters;
use super::question::{Bounds, MeasureKind, Question, Standing, quoted};
use super::span::Span;
use super::value::{key, number};
use super::{Answer, Http, answer};
use crate::error::{Error, Result};

/// What may be asked.
const KNOWN: &[&str] = &["rollup", "key", "measure", "n", "last", "from", "to", "previous"];

/// More rows are not given at a time.
const MOST: usize = 10_000;

/// Of the time before, so many are ranked.
const RANKED_BEFORE: usize = 1_000;

#[derive(Debug, Serialize)]
pub(super) struct Top {
    #[serde(flatten)]
    standing: Standing,
    rows: Vec<Row>,
    total: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Row {
    rank: u64,
    key: Value,
    #[serde(flatten)]
    bounds: Bounds,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Option<Previous>>,
}

/// Where a key was in the time just before.
#[derive(Debug, Clone, Serialize)]
struct Previous {
    rank: u64,
    value: Option<Box<RawValue>>,
}

pub(super) async fn top(
    State(http): State<Http>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Top> {
    answer(&http, &headers, move |session| async move {
        let parameters = Parameters::read(query.as_deref(), KNOWN)?;
        let question = Question::read(&parameters, &session).await?;
        let n = parameters.number("n", 10, MOST)?;
        let (mut rows, total) = leaders(&question, n, question.span).await?;
        if parameters.flag("previous")? {
            let before = question.span.previous(question.rollup.definition.bucketing())?;
            let before = leaders(&question, n.max(RANKED_BEFORE), before).await?.0;
            let before: HashMap<String, Previous> = before
                .into_iter()
                .map(|row| (row.key.to_string(), Previous { rank: row.rank, value: row.bounds.value }))
                .collect();
            for row in &mut rows {
                row.previous = Some(before.get(&row.key.to_string()).cloned());
            }
        }
        Ok(Top { standing: question.standing(), rows, total })
    })
    .await
}

/// The first `n` of a span, best first, and the sum of all where they add up. Those with the same value share a rank, and
/// the key decides who comes first.
async fn leaders(question: &Question, n: usize, span: Span) -> Result<(Vec<Row>, Option<Box<RawValue>>)> {
    let merged = question.merged()?;
    let mut values = vec![];
    let rows = question.rows(span, &[], &mut values);
    let (keys, batch) = match question.kind {
        MeasureKind::TopItems => {
            if let Some(key) = &question.key {
                return Err(Error::not_supported(format!(
                    "the measure '{}' has its own items, which cannot be told apart by '{key}'",
                    question.measure
                ))
                .with_hint("leave the parameter 'key' out; filters work"));
            }
            let estimate = estimate_of(&merged)?;
            let sql = format!("SELECT unnest({estimate}({merged}, {n})) AS top {rows}");
            let tops = question.run(&sql, &values).await?;
            let items = tops
                .column(0)
                .as_struct_opt()
                .and_then(|top: &StructArray| top.column_by_name("item").cloned());
            (items.ok_or_else(|| Error::internal("a sketch gave no items"))?, tops)
        }
        MeasureKind::Number | MeasureKind::Distinct => {
            let key = quoted(question.require_key()?);
            let (value, order) = match question.kind {
                MeasureKind::Distinct => (format!("hll_sketch_bounds({merged})"), "value['estimate']"),
                _ => (merged.clone(), "value"),
            };
            let sql = format!(
                "SELECT value, key FROM (SELECT {key} AS key, {value} AS value {rows} GROUP BY 1) AS keys \
                 ORDER BY {order} DESC NULLS LAST, key LIMIT {n}"
            );
            let tops = question.run(&sql, &values).await?;
            (tops.column(1).clone(), tops)
        }
        MeasureKind::CountMin | MeasureKind::Other => {
            return Err(Error::not_supported(format!(
                "the measure '{}' knows how often an item came, and not which items there are",
                question.measure
            ))
            .with_hint("ask /v1/count for one item"));
        }
    };
    let mut found: Vec<Row> = vec![];
    for row in 0..batch.num_rows() {
        let bounds = question.bounds(batch.column(0).as_ref(), row)?;
        let text = |bounds: &Bounds| bounds.value.as_ref().map(|v| v.get().to_owned());
        let rank = match found.last() {
            Some(last) if text(&last.bounds) == text(&bounds) => last.rank,
            _ => row as u64 + 1,
        };
        found.push(Row { rank, key: key(&keys, row)?, bounds, previous: None });
    }
    let total = if question.adds_up() { total(question, span).await? } else { None };
    Ok((found, total))
}

/// The sum over all keys.
async fn total(question: &Question, span: Span) -> Result<Option<Box<RawValue>>> {
    let mut values = vec![];
    let rows = question.rows(span, &[], &mut values);
    let all: RecordBatch = question.run(&format!("SELECT {} {rows}", question.merged()?), &values).await?;
    if all.num_rows() == 0 || all.column(0).is_null(0) {
        return Ok(None);
    }
    number(all.column(0).as_ref(), 0)
}

/// The function that reads the items out of what this one merges.
fn estimate_of(merged: &str) -> Result<&'static str> {
    match merged.split('(').next() {
        Some("approx_top_k_combine") => Ok("approx_top_k_estimate"),
        Some("approx_top_sum_combine") => Ok("approx_top_sum_estimate"),
        _ => Err(Error::internal(format!("nothing reads items out of {merged}"))),
    }
}
