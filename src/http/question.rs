//! What the three questions (count, top, history) have in common: a rollup, one of its measures, a span of buckets, filters.
//!
//! A question is asked at one version of each table: the rollup and what it is made from are pinned first, and what is told
//! of completeness is that of the pinned events.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, StructArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use serde::Serialize;
use serde_json::value::RawValue;

use super::parameters::Parameters;
use super::span::{Span, show};
use super::value::number;
use crate::catalog::warehouse::Warehouse;
use crate::catalog::watermark;
use crate::error::{Error, Kind, Result, nearest};
use crate::lake::pin::Pins;
use crate::rollup::definition::Definition;
use crate::rollup::view::Rollup;
use crate::statement::{Outcome, Parsed, Session, parse_one};

/// What a measure is, which says what may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MeasureKind {
    /// A sum, a count, a least or greatest number.
    Number,
    /// A sketch of the leading items.
    TopItems,
    /// A sketch of how many are different.
    Distinct,
    /// A sketch that knows about how often any one item came.
    CountMin,
    /// Anything else: no question is about it.
    Other,
}

impl MeasureKind {
    /// That of a column of a rollup.
    pub(super) fn of(definition: &Definition, column: &str) -> MeasureKind {
        let Some(merge) = definition.merge_function(column) else { return MeasureKind::Other };
        let numeric = definition.schema().field_with_name(column).is_ok_and(|f| f.data_type().is_numeric());
        match merge.name() {
            "sum" | "min" | "max" if numeric => MeasureKind::Number,
            "approx_top_k_combine" | "approx_top_sum_combine" => MeasureKind::TopItems,
            "hll_union_agg" => MeasureKind::Distinct,
            "count_min_combine" => MeasureKind::CountMin,
            _ => MeasureKind::Other,
        }
    }

    /// Whether its numbers have bounds.
    pub(super) fn is_approximate(self) -> bool {
        matches!(self, MeasureKind::TopItems | MeasureKind::Distinct | MeasureKind::CountMin)
    }
}

/// A question, and the versions that it is asked of.
pub(super) struct Question {
    pub(super) rollup: Arc<Rollup>,
    pub(super) measure: String,
    pub(super) kind: MeasureKind,
    /// The key column that is asked by, and which of its values.
    pub(super) key: Option<String>,
    pub(super) items: Vec<ScalarValue>,
    pub(super) span: Span,
    filters: BTreeMap<String, Vec<ScalarValue>>,
    session: Session,
    pins: Pins,
    latest: Option<i64>,
    watermark: Option<i64>,
}

/// What every answer says of itself.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    rollup: String,
    measure: String,
    key: Option<String>,
    from: String,
    to: String,
    approximate: bool,
    as_of: Option<String>,
    watermark: Option<String>,
    complete: bool,
    versions: BTreeMap<String, i64>,
}

impl Question {
    /// Reads a question and pins what it is about.
    pub(super) async fn read(parameters: &Parameters, session: &Session) -> Result<Self> {
        let name = parameters.require("rollup")?;
        let warehouse = session.warehouse();
        session.check_may_read(name).await?;
        let rollup = match warehouse.rollup(name).await {
            Err(e) if e.kind() == Kind::UndefinedTable => return Err(no_rollup(name, warehouse).await?),
            found => found?,
        };
        let definition = &rollup.definition;
        let (measure, kind) = measure(definition, parameters.get("measure"))?;
        // The items of a sketch are keys of its own: they go by the sketch's name.
        let key = parameters.get("key").filter(|key| kind != MeasureKind::TopItems || *key != measure);
        let key = key.map(|key| key_column(definition, key)).transpose()?;
        let of = |column: &str, texts: &[String]| -> Result<Vec<ScalarValue>> {
            let t = definition.schema().field_with_name(column)?.data_type().clone();
            texts.iter().map(|text| value_of(column, text, &t)).collect()
        };
        let items = match (&key, parameters.items()) {
            (_, []) => vec![],
            (Some(key), items) => of(key, items)?,
            (None, _) if kind == MeasureKind::CountMin => vec![],
            (None, _) => return Err(Error::invalid_input("the parameter 'item' needs a 'key'")),
        };
        let filters = parameters.filters().iter().map(|(column, texts)| {
            let column = key_column(definition, column)?;
            Ok((column.clone(), of(&column, texts)?))
        });
        let filters = filters.collect::<Result<_>>()?;
        let (session, pins) = session.reading();
        let pinned = rollup.pin(&pins).await?;
        let events = pinned.source.events();
        let latest = watermark::last_event_time(events.table().name(), events.snapshot())?;
        let watermark = watermark::of(events.table().name(), events.snapshot())?;
        let bucketing = definition.bucketing();
        let newest = latest.unwrap_or_else(|| chrono::Utc::now().timestamp_micros());
        let span = match (parameters.get("from"), parameters.get("last")) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_input("'last' and 'from' are two ways to say the same"));
            }
            (Some(from), None) => Span::between(from, parameters.get("to"), newest, bucketing)?,
            (None, _) if parameters.get("to").is_some() => {
                return Err(Error::invalid_input("the parameter 'to' needs a 'from'"));
            }
            (None, last) => Span::last(last, newest, bucketing)?,
        };
        Ok(Question { rollup, measure, kind, key, items, span, filters, session, pins, latest, watermark })
    }

    /// What the answer says of itself.
    pub(super) fn standing(&self) -> Standing {
        let complete = self.watermark.is_some_and(|watermark| watermark >= self.span.to);
        Standing {
            rollup: self.rollup.table.name().to_owned(),
            measure: self.measure.clone(),
            key: self.key.clone(),
            from: show(self.span.from),
            to: show(self.span.to),
            approximate: self.kind.is_approximate(),
            as_of: self.latest.map(show),
            watermark: self.watermark.map(show),
            complete,
            versions: self.pins.versions(),
        }
    }

    /// Through when the rollup is complete.
    pub(super) fn complete_through(&self) -> Option<String> {
        self.watermark.map(|time| show(self.rollup.definition.bucketing().start(time)))
    }

    /// Whether the measure adds up over keys.
    pub(super) fn adds_up(&self) -> bool {
        let merge = self.rollup.definition.merge_function(&self.measure);
        self.kind == MeasureKind::Number && merge.is_some_and(|merge| merge.name() == "sum")
    }

    /// The key that has to be there.
    pub(super) fn require_key(&self) -> Result<&str> {
        self.key.as_deref().ok_or_else(|| Error::invalid_input("the parameter 'key' is missing"))
    }

    /// The measure, merged, in SQL.
    pub(super) fn merged(&self) -> Result<String> {
        let merge = self.rollup.definition.merge_function(&self.measure);
        let merge = merge.ok_or_else(|| Error::internal(format!("'{}' cannot be merged", self.measure)))?;
        Ok(format!("{}({})", merge.name(), quoted(&self.measure)))
    }

    /// `FROM … WHERE …` of a span of buckets and the filters; the values are put into `values`.
    pub(super) fn rows(&self, span: Span, items: &[ScalarValue], values: &mut Vec<ScalarValue>) -> String {
        let mut value = |v: ScalarValue| {
            values.push(v);
            format!("${}", values.len())
        };
        let bucket = quoted(self.rollup.definition.bucket_column());
        let zone = self.rollup.definition.has_zone().then(|| "UTC".into());
        let time = |micros| ScalarValue::TimestampMicrosecond(Some(micros), zone.clone());
        let (from, to) = (value(time(span.from)), value(time(span.to)));
        let mut sql =
            format!("FROM {} WHERE {bucket} >= {from} AND {bucket} < {to}", quoted(self.rollup.table.name()));
        let keyed = self.key.iter().filter(|_| !items.is_empty()).map(|key| (key, items));
        for (column, allowed) in self.filters.iter().map(|(c, v)| (c, v.as_slice())).chain(keyed) {
            let list: Vec<String> = allowed.iter().map(|v| value(v.clone())).collect();
            sql.push_str(&format!(" AND {} IN ({})", quoted(column), list.join(", ")));
        }
        sql
    }

    /// Runs a query at the versions of the question.
    pub(super) async fn run(&self, sql: &str, values: &[ScalarValue]) -> Result<RecordBatch> {
        let parsed = Parsed { sql: sql.to_owned(), offset: 0, statement: parse_one(sql)? };
        let Outcome::Rows { stream, .. } = self.session.execute(&parsed, values).await? else {
            return Err(Error::internal("a question gave no rows"));
        };
        let schema = stream.schema();
        let batches = datafusion::physical_plan::common::collect(stream).await?;
        Ok(datafusion::arrow::compute::concat_batches(&schema, &batches)?)
    }

    /// The bounds of a value: of a number they are the number itself; of a sketch's estimate, a struct, its own.
    pub(super) fn bounds(&self, column: &dyn Array, row: usize) -> Result<Bounds> {
        match column.as_any().downcast_ref::<StructArray>() {
            Some(_) if column.is_null(row) => Ok(Bounds::default()),
            Some(bounds) => {
                let part = |names: &[&str]| -> Result<Option<Box<RawValue>>> {
                    let found = names.iter().find_map(|name| bounds.column_by_name(name));
                    found.map_or(Ok(None), |column| number(column, row))
                };
                Ok(Bounds {
                    value: part(&["estimate", "count", "sum"])?,
                    lower: part(&["lower"])?,
                    upper: part(&["upper"])?,
                })
            }
            None => {
                let value = number(column, row)?;
                Ok(Bounds { lower: value.clone(), upper: value.clone(), value })
            }
        }
    }
}

/// A value, and between what it lies.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Bounds {
    pub(super) value: Option<Box<RawValue>>,
    pub(super) lower: Option<Box<RawValue>>,
    pub(super) upper: Option<Box<RawValue>>,
}

/// An identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A measure by its name; without one the first number, else the first that can be asked about.
fn measure(definition: &Definition, name: Option<&str>) -> Result<(String, MeasureKind)> {
    let all: Vec<(&str, MeasureKind)> =
        definition.measure_columns().map(|column| (column, MeasureKind::of(definition, column))).collect();
    let found = match name {
        Some(name) => all.iter().find(|(column, _)| *column == name),
        None => {
            let number = all.iter().find(|(_, kind)| *kind == MeasureKind::Number);
            number.or_else(|| all.iter().find(|(_, kind)| *kind != MeasureKind::Other))
        }
    };
    let Some((column, kind)) = found else {
        let names: Vec<&str> = all.iter().map(|(column, _)| *column).collect();
        let what =
            name.map_or("it has no measure to ask about".to_owned(), |n| format!("it has no measure '{n}'"));
        return Err(
            Error::new(Kind::UndefinedColumn, what).with_hint(format!("its measures: {}", names.join(", ")))
        );
    };
    if *kind == MeasureKind::Other {
        return Err(Error::not_supported(format!("the measure '{column}' is neither a number nor a sketch"))
            .with_hint("ask by SQL"));
    }
    Ok(((*column).to_owned(), *kind))
}

fn key_column(definition: &Definition, name: &str) -> Result<String> {
    match definition.key_columns().find(|key| *key == name) {
        Some(key) => Ok(key.to_owned()),
        None => {
            let keys: Vec<&str> = definition.key_columns().collect();
            Err(Error::new(Kind::UndefinedColumn, format!("the rollup has no key '{name}'"))
                .with_hint(format!("its keys: {}", keys.join(", "))))
        }
    }
}

/// A text as a value of a key.
fn value_of(column: &str, text: &str, t: &DataType) -> Result<ScalarValue> {
    let time = matches!(t, DataType::Timestamp(TimeUnit::Microsecond, _));
    let zoneless = time.then(|| text.trim_end_matches('Z').to_owned());
    ScalarValue::try_from_string(zoneless.unwrap_or_else(|| text.to_owned()), t)
        .map_err(|_| Error::invalid_value(format!("'{text}' is no value of the key '{column}'")))
}

async fn no_rollup(name: &str, warehouse: &Arc<Warehouse>) -> Result<Error> {
    let names = warehouse.list().await?;
    let error = Error::undefined_table(format!("there is no rollup '{name}'"));
    Ok(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("perhaps you meant '{near}'")),
        None => error.with_hint("/v1/catalog lists them"),
    })
}
