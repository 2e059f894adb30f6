//! What a table knows of a file without opening it: rows, and per column the lowest value, the highest and the NULLs.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// Strings are cut to this many characters in statistics; a cut maximum is rounded up.
const MAX_CHARS: usize = 64;

/// Microseconds that a time may lose where a writer cuts it to milliseconds.
const CUT: i64 = 999;

/// Bounds of one column in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// No value is lower; `None` if not known or all are NULL.
    pub min: Option<ScalarValue>,
    /// No value is higher.
    pub max: Option<ScalarValue>,
    /// NULLs, where known.
    pub nulls: Option<u64>,
    /// Whether `min` and `max` occur, and are not only bounds.
    pub exact: bool,
}

/// What is known of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileStats {
    /// Rows, where known.
    pub rows: Option<u64>,
    /// By column name.
    pub columns: HashMap<String, ColumnStats>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Json {
    num_records: Option<u64>,
    min_values: HashMap<String, Box<RawValue>>,
    max_values: HashMap<String, Box<RawValue>>,
    null_count: HashMap<String, Box<RawValue>>,
}

impl FileStats {
    /// Reads Delta's JSON for the columns of `schema`. What cannot be read counts as not known.
    pub fn parse(json: &str, schema: &SchemaRef) -> Self {
        let Ok(json) = serde_json::from_str::<Json>(json) else { return FileStats::default() };
        let columns = schema.fields().iter().filter_map(|f| {
            let (min, max) = (json.min_values.get(f.name()), json.max_values.get(f.name()));
            let nulls = json.null_count.get(f.name()).and_then(|raw| raw.get().parse().ok());
            if min.is_none() && max.is_none() && nulls.is_none() {
                return None;
            }
            let min = min.and_then(|raw| parse_value(raw.get(), f, false));
            let max = max.and_then(|raw| parse_value(raw.get(), f, true));
            let exact = min.as_ref().is_none_or(|v| v.1) && max.as_ref().is_none_or(|v| v.1);
            let stats = ColumnStats { min: min.map(|v| v.0), max: max.map(|v| v.0), nulls, exact };
            Some((f.name().clone(), stats))
        });
        FileStats { rows: json.num_records, columns: columns.collect() }
    }

    /// Lowest and highest value of a time column in microseconds, if both are known.
    pub fn time_bounds(&self, column: &str) -> Option<(i64, i64)> {
        let stats = self.columns.get(column)?;
        match (&stats.min, &stats.max) {
            (
                Some(ScalarValue::TimestampMicrosecond(Some(a), _)),
                Some(ScalarValue::TimestampMicrosecond(Some(b), _)),
            ) => Some((*a, *b)),
            _ => None,
        }
    }

    /// A time that the file has events of, or that lies less than a millisecond below the highest, in microseconds. It
    /// is never above the highest.
    pub fn highest_time_seen(&self, column: &str) -> Option<i64> {
        let (_, highest) = self.time_bounds(column)?;
        let exact = self.columns.get(column).is_some_and(|c| c.exact);
        Some(if exact { highest } else { highest - CUT })
    }
}

/// The value, and whether it is one of the column and not only a bound.
fn parse_value(raw: &str, field: &Field, upper: bool) -> Option<(ScalarValue, bool)> {
    let text = || serde_json::from_str::<String>(raw).ok();
    Some(match field.data_type() {
        DataType::Utf8View => {
            let text = text()?;
            let exact = text.chars().count() < MAX_CHARS.min(32);
            (ScalarValue::Utf8View(Some(text)), exact)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let text = text()?;
            let digits =
                text.split_once('.').map_or(0, |(_, f)| f.chars().take_while(char::is_ascii_digit).count());
            let parsed = chrono::DateTime::parse_from_rfc3339(&text)
                .ok()
                .map(|t| t.timestamp_micros())
                .or_else(|| {
                    chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f")
                        .ok()
                        .map(|t| t.and_utc().timestamp_micros())
                })?;
            // Writers that cut to milliseconds leave a maximum that is too low.
            let micros = if upper && digits < 6 { parsed.saturating_add(CUT) } else { parsed };
            (ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()), digits == 6)
        }
        DataType::Date32 => (ScalarValue::try_from_string(text()?, &DataType::Date32).ok()?, true),
        DataType::Float32 | DataType::Float64 => {
            (ScalarValue::try_from_string(raw.into(), field.data_type()).ok()?, false)
        }
        DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            (ScalarValue::try_from_string(raw.into(), field.data_type()).ok()?, true)
        }
        DataType::Decimal128(_, _) => {
            (ScalarValue::try_from_string(raw.into(), field.data_type()).ok()?, true)
        }
        _ => return None,
    })
}

/// Collects the statistics of a file while it is written.
#[derive(Debug)]
pub struct StatsCollector {
    rows: u64,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    index: usize,
    name: String,
    nulls: u64,
    bounds: Option<(MinAccumulator, MaxAccumulator)>,
}

impl StatsCollector {
    /// A collector for files of `schema`.
    pub fn try_new(schema: &SchemaRef) -> Result<Self> {
        let columns = schema.fields().iter().enumerate().map(|(index, f)| {
            let t = f.data_type();
            let bounded = matches!(
                t,
                DataType::Int8
                    | DataType::Int16
                    | DataType::Int32
                    | DataType::Int64
                    | DataType::Float32
                    | DataType::Float64
                    | DataType::Date32
                    | DataType::Utf8View
                    | DataType::Decimal128(_, _)
                    | DataType::Timestamp(TimeUnit::Microsecond, _)
            );
            let bounds =
                if bounded { Some((MinAccumulator::try_new(t)?, MaxAccumulator::try_new(t)?)) } else { None };
            Ok(Column { index, name: f.name().clone(), nulls: 0, bounds })
        });
        Ok(StatsCollector { rows: 0, columns: columns.collect::<Result<_>>()? })
    }

    /// Counts a batch in.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for column in &mut self.columns {
            let array = batch.column(column.index);
            column.nulls += array.null_count() as u64;
            if let Some((min, max)) = &mut column.bounds {
                min.update_batch(std::slice::from_ref(array))?;
                max.update_batch(std::slice::from_ref(array))?;
            }
        }
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Delta's JSON.
    pub fn finish(mut self) -> Result<String> {
        let (mut mins, mut maxs, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for column in &mut self.columns {
            let key = json_string(&column.name)?;
            if let Some((min, max)) = &mut column.bounds {
                let (min, max) =
                    (format_value(&min.evaluate()?, false)?, format_value(&max.evaluate()?, true)?);
                // One without the other would come from a NaN: then nothing is known.
                if let (Some(min), Some(max)) = (min, max) {
                    mins.push(format!("{key}:{min}"));
                    maxs.push(format!("{key}:{max}"));
                }
            }
            nulls.push(format!("{key}:{}", column.nulls));
        }
        Ok(format!(
            r#"{{"numRecords":{},"minValues":{{{}}},"maxValues":{{{}}},"nullCount":{{{}}}}}"#,
            self.rows,
            mins.join(","),
            maxs.join(","),
            nulls.join(",")
        ))
    }
}

fn json_string(s: &str) -> Result<String> {
    serde_json::to_string(s).map_err(|e| Error::internal(e.to_string()))
}

fn format_value(value: &ScalarValue, upper: bool) -> Result<Option<String>> {
    Ok(match value {
        v if v.is_null() => None,
        ScalarValue::Float32(Some(v)) if !v.is_finite() => None,
        ScalarValue::Float64(Some(v)) if !v.is_finite() => None,
        ScalarValue::Float32(Some(v)) => Some(format!("{v:?}")),
        ScalarValue::Float64(Some(v)) => Some(format!("{v:?}")),
        ScalarValue::Utf8View(Some(s)) => {
            let cut: String = s.chars().take(MAX_CHARS).collect();
            let cut = if upper && cut.len() < s.len() { cut + "\u{10FFFF}" } else { cut };
            Some(json_string(&cut)?)
        }
        ScalarValue::TimestampMicrosecond(Some(micros), _) => {
            chrono::DateTime::from_timestamp_micros(*micros)
                .map(|t| format!("\"{}\"", t.format("%Y-%m-%dT%H:%M:%S%.6fZ")))
        }
        ScalarValue::Date32(Some(_)) => Some(format!("\"{value}\"")),
        other => Some(other.to_string()),
    })
}

/// Statistics of a set of files, as the engine wants them for pruning: one row a file.
#[derive(Debug)]
pub struct PruningStats<'a> {
    /// Of each file.
    pub files: &'a [Arc<FileStats>],
    /// Of the table.
    pub schema: &'a SchemaRef,
}

impl PruningStats<'_> {
    fn column(
        &self,
        name: &str,
        pick: impl Fn(&ColumnStats) -> Option<&ScalarValue>,
    ) -> Option<datafusion::arrow::array::ArrayRef> {
        let field = self.schema.field_with_name(name).ok()?;
        let null = ScalarValue::try_from(field.data_type()).ok()?;
        let values = self
            .files
            .iter()
            .map(|f| f.columns.get(name).and_then(&pick).cloned().unwrap_or_else(|| null.clone()));
        ScalarValue::iter_to_array(values).ok()
    }
}

impl datafusion::common::pruning::PruningStatistics for PruningStats<'_> {
    fn min_values(&self, column: &datafusion::common::Column) -> Option<datafusion::arrow::array::ArrayRef> {
        self.column(&column.name, |c| c.min.as_ref())
    }

    fn max_values(&self, column: &datafusion::common::Column) -> Option<datafusion::arrow::array::ArrayRef> {
        self.column(&column.name, |c| c.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &datafusion::common::Column) -> Option<datafusion::arrow::array::ArrayRef> {
        let counts = self.files.iter().map(|f| f.columns.get(&column.name).and_then(|c| c.nulls));
        Some(Arc::new(counts.collect::<datafusion::arrow::array::UInt64Array>()))
    }

    fn row_counts(&self) -> Option<datafusion::arrow::array::ArrayRef> {
        Some(Arc::new(self.files.iter().map(|f| f.rows).collect::<datafusion::arrow::array::UInt64Array>()))
    }

    fn contained(
        &self,
        _: &datafusion::common::Column,
        _: &std::collections::HashSet<ScalarValue>,
    ) -> Option<datafusion::arrow::array::BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Decimal128Array, StringViewArray, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::Schema;

    #[test]
    fn what_is_written_is_read_again_to_the_microsecond_and_the_last_digit() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("t", super::super::schema::timestamp(true), true),
            Field::new("d", DataType::Decimal128(38, 4), true),
            Field::new("s", DataType::Utf8View, true),
        ]));
        let big = 12_345_678_901_234_567_890_123_456_789_i128;
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(
                    TimestampMicrosecondArray::from(vec![1_760_000_000_123_456, -1]).with_timezone("UTC"),
                ),
                Arc::new(
                    Decimal128Array::from(vec![Some(big), None]).with_precision_and_scale(38, 4).unwrap(),
                ),
                Arc::new(StringViewArray::from(vec!["ä\"b".to_owned(), "z".repeat(100)])),
            ],
        )
        .unwrap();
        let mut collector = StatsCollector::try_new(&schema).unwrap();
        collector.update(&batch).unwrap();
        let stats = FileStats::parse(&collector.finish().unwrap(), &schema);
        assert_eq!(stats.rows, Some(2));
        assert_eq!(stats.time_bounds("t"), Some((-1, 1_760_000_000_123_456)));
        assert_eq!(stats.columns["d"].max, Some(ScalarValue::Decimal128(Some(big), 38, 4)));
        assert_eq!(stats.columns["d"].nulls, Some(1));
        let Some(ScalarValue::Utf8View(Some(max))) = &stats.columns["s"].max else { panic!() };
        assert!(max.as_str() > "z".repeat(100).as_str());
    }

    #[test]
    fn a_maximum_cut_to_milliseconds_is_rounded_up() {
        let schema: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("t", super::super::schema::timestamp(true), true)]));
        let json = r#"{"numRecords":1,"minValues":{"t":"1970-01-01T00:00:00.001Z"},"maxValues":{"t":"1970-01-01T00:00:00.001Z"}}"#;
        let stats = FileStats::parse(json, &schema);
        assert_eq!(
            (stats.time_bounds("t"), stats.highest_time_seen("t")),
            (Some((1_000, 1_999)), Some(1_000))
        );
    }
}
