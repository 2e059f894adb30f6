//! `time_bucket` in SQL: results, errors, and what the planner makes of it.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::test_util::batches_to_string;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionContext, col};
use toplake_udfs::{BucketWidth, Bucketing, register_all};

fn session() -> SessionContext {
    let ctx = SessionContext::new();
    register_all(&ctx).unwrap();
    ctx
}

/// A session in which no rule rewrites anything.
fn session_without_optimizer() -> SessionContext {
    let state = SessionStateBuilder::new().with_default_features().with_optimizer_rules(vec![]).build();
    let ctx = SessionContext::new_with_state(state);
    register_all(&ctx).unwrap();
    ctx
}

async fn query(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    run(ctx, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn run(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    ctx.sql(sql).await?.collect().await
}

/// The one value of a query, as text.
async fn value(ctx: &SessionContext, sql: &str) -> String {
    let batches = query(ctx, sql).await;
    let text = cast(batches[0].column(0), &DataType::Utf8).unwrap();
    let text = text.as_string::<i32>();
    if text.is_null(0) { "NULL".into() } else { text.value(0).into() }
}

async fn error(ctx: &SessionContext, sql: &str) -> String {
    match run(ctx, sql).await {
        Ok(batches) => panic!("{sql}: {}", batches_to_string(&batches)),
        Err(error) => error.to_string(),
    }
}

/// Instants two days apart on average, with a nullable copy in every type, in the table `t`.
fn register_table(ctx: &SessionContext, order: bool) -> Vec<i64> {
    // A linear congruential generator: deterministic, and dense enough to hit buckets.
    let mut seed = 42_u64;
    let mut instants: Vec<i64> = (0..2_000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let quarter_hours = (seed >> 33) as i64 % (12 * 366 * 96) - 366 * 96;
            quarter_hours * 900_000_000
        })
        .collect();
    instants.sort_unstable();
    let micros = TimestampMicrosecondArray::from(instants.clone());
    let nullable: ArrayRef = Arc::new(
        micros
            .iter()
            .enumerate()
            .map(|(i, v)| v.filter(|_| i % 7 != 0))
            .collect::<TimestampMicrosecondArray>(),
    );
    let days: Date32Array = instants.iter().map(|v| Some(v.div_euclid(86_400_000_000) as i32)).collect();
    let zoned = |zone: &str| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("ts", Arc::new(micros), false),
        ("s", cast(&nullable, &DataType::Timestamp(TimeUnit::Second, None)).unwrap(), true),
        ("ms", cast(&nullable, &DataType::Timestamp(TimeUnit::Millisecond, None)).unwrap(), true),
        ("us", Arc::clone(&nullable), true),
        ("ns", cast(&nullable, &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap(), true),
        ("berlin", cast(&cast(&nullable, &zoned("UTC")).unwrap(), &zoned("Europe/Berlin")).unwrap(), true),
        ("day", Arc::new(days), true),
        ("n", Arc::new(Int64Array::from_iter_values(0..instants.len() as i64)), false),
        ("width", Arc::new(StringArray::from(vec!["1 hour"; instants.len()])), false),
    ];
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, array, null)| Field::new(*name, array.data_type().clone(), *null))
        .collect();
    let arrays = columns.into_iter().map(|(_, array, _)| array).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let mut table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
    if order {
        table = table.with_sort_order(vec![vec![col("ts").sort(true, false)]]);
    }
    ctx.register_table("t", Arc::new(table)).unwrap();
    instants
}

#[tokio::test]
async fn one_line_makes_it_usable() {
    let ctx = SessionContext::new();
    register_all(&ctx).unwrap();
    let sql = "SELECT time_bucket(INTERVAL '1 hour', ts) AS bucket, count(*) AS n
               FROM (VALUES (TIMESTAMP '2024-05-15 10:42:00'), (TIMESTAMP '2024-05-15 10:00:00'),
                            (TIMESTAMP '2024-05-15 11:00:00'), (NULL)) AS t(ts)
               GROUP BY 1 ORDER BY 1";
    let expected = "\
+---------------------+---+
| bucket              | n |
+---------------------+---+
| 2024-05-15T10:00:00 | 2 |
| 2024-05-15T11:00:00 | 1 |
|                     | 1 |
+---------------------+---+";
    assert_eq!(pretty_format_batches(&query(&ctx, sql).await).unwrap().to_string(), expected);
}

#[tokio::test]
async fn arguments_of_every_kind() {
    let ctx = session();
    for (args, expected) in [
        ("INTERVAL '15 minutes', TIMESTAMP '2024-05-15 10:42:00'", "2024-05-15T10:30:00"),
        ("'15 minutes', TIMESTAMP '2024-05-15 10:42:00'", "2024-05-15T10:30:00"),
        ("CAST('1 hour' AS INTERVAL), TIMESTAMP '2024-05-15 10:42:00'", "2024-05-15T10:00:00"),
        (
            "arrow_cast('1 month', 'Interval(YearMonth)'), TIMESTAMP '2024-05-15 10:42:00'",
            "2024-05-01T00:00:00",
        ),
        ("arrow_cast('1 day', 'Interval(DayTime)'), TIMESTAMP '2024-05-15 10:42:00'", "2024-05-15T00:00:00"),
        ("'1 month', DATE '2024-05-15'", "2024-05-01T00:00:00"),
        ("'1 month', '2024-05-15T10:42:00Z'", "2024-05-01T00:00:00"),
        ("'1 month', TIMESTAMP '1968-05-15 10:42:00'", "1968-05-01T00:00:00"),
        ("'1 day', TIMESTAMP '2024-05-15 10:42:00', 'Asia/Kolkata'", "2024-05-14T18:30:00"),
        ("'1 day', TIMESTAMP '2024-05-15 10:42:00', '+05:30'", "2024-05-14T18:30:00"),
        (
            "'1 day', arrow_cast(TIMESTAMP '2024-05-15 10:42:00', 'Timestamp(us, \"Asia/Kolkata\")')",
            "2024-05-15T00:00:00+05:30",
        ),
        (
            "'1 day', arrow_cast(TIMESTAMP '2024-05-15 10:42:00', 'Timestamp(us, \"Asia/Kolkata\")'), 'UTC'",
            "2024-05-15T05:30:00+05:30",
        ),
        (
            "'1 day', TIMESTAMP '2024-05-15 10:42:00', NULL, TIMESTAMP '2020-01-01 11:00:00'",
            "2024-05-14T11:00:00",
        ),
        (
            "'1 day', TIMESTAMP '2024-05-15 10:42:00', NULL, '2020-01-01T11:00:00+01:00'",
            "2024-05-15T10:00:00",
        ),
        ("'3 days', TIMESTAMP '2024-05-15 10:42:00', NULL, DATE '2024-05-14'", "2024-05-14T00:00:00"),
        ("'1 hour', NULL", "NULL"),
        ("'1 hour', CAST(NULL AS TIMESTAMP), 'Europe/Berlin'", "NULL"),
    ] {
        assert_eq!(value(&ctx, &format!("SELECT time_bucket({args})")).await, expected, "{args}");
    }
}

#[tokio::test]
async fn the_result_has_the_type_of_the_timestamp() {
    let ctx = session();
    register_table(&ctx, false);
    for column in ["ts", "s", "ms", "us", "ns", "berlin"] {
        let sql =
            format!("SELECT {column}, time_bucket('1 week', {column}, 'Asia/Kolkata') AS bucket FROM t");
        let schema = query(&ctx, &sql).await[0].schema();
        assert_eq!(schema.field(0).data_type(), schema.field(1).data_type());
        assert_eq!(schema.field(0).is_nullable(), schema.field(1).is_nullable());
    }
    let schema = query(&ctx, "SELECT time_bucket('1 week', day) FROM t").await[0].schema();
    assert_eq!(schema.field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
}

#[tokio::test]
async fn wrong_arguments_are_named_when_planning() {
    let ctx = session();
    register_table(&ctx, false);
    for (args, expected) in [
        ("'1 hour'", "takes a width, a timestamp"),
        ("'1 hour', ts, 'UTC', ts, ts", "not 5 arguments"),
        ("5, ts", "must be an interval such as INTERVAL '1 hour'"),
        ("NULL, ts", "must be an interval such as INTERVAL '1 hour'"),
        ("'soon', ts", "cannot read the bucket width 'soon'"),
        ("INTERVAL '1 month 1 day', ts", "either months, or days, or a time"),
        ("INTERVAL '0 days', ts", "must be positive"),
        ("INTERVAL '-1 hours', ts", "must be positive"),
        ("'1 hour', n", "cast the Int64 to one"),
        ("'1 hour', ts, 'Mars/Olympus'", "unknown time zone 'Mars/Olympus'"),
        ("'1 hour', ts, TIMESTAMP '2024-01-01'", "an origin is the fourth argument"),
        ("'1 hour', ts, 'UTC', 5", "origin of time_bucket must be a timestamp"),
        ("'1 hour', ts, 'UTC', 'noon'", "noon"),
        ("'500 milliseconds', s", "start between two values of Timestamp(s)"),
        ("'1 day', ms, NULL, '2024-01-01T00:00:00.000001'", "start between two values of Timestamp(ms)"),
        ("width, ts", "must be constants"),
        ("'1 hour', ts, width", "must be constants"),
        ("'1 hour', ts, 'UTC', ts", "must be constants"),
    ] {
        let sql = format!("SELECT time_bucket({args}) FROM t");
        let plan = match ctx.sql(&sql).await {
            Ok(frame) => frame.create_physical_plan().await.map(|_| ()),
            Err(error) => Err(error),
        };
        let error = plan.expect_err(args).to_string();
        assert!(error.contains(expected), "{args}: {error}");
    }
    let error = error(
        &session_without_optimizer(),
        "SELECT time_bucket(w, TIMESTAMP '2024-01-01') FROM (VALUES ('1 day')) AS t(w)",
    )
    .await;
    assert!(error.contains("must be constants"), "{error}");
}

#[tokio::test]
async fn timestamps_out_of_range_are_errors_and_the_least_one_is_in_a_bucket() {
    let ctx = session();
    let error =
        error(&ctx, "SELECT time_bucket('1 day', arrow_cast(9223372036854775807, 'Timestamp(s)'))").await;
    assert!(error.contains("beyond the year"), "{error}");
    let least = "arrow_cast(-9223372036854775808, 'Timestamp(ns)')";
    let sql = format!("SELECT time_bucket('1 year', {least}, 'Europe/Berlin') = {least}");
    assert_eq!(value(&ctx, &sql).await, "true");
}

#[tokio::test]
async fn sql_gives_what_the_rust_api_gives() {
    let ctx = session();
    let instants = register_table(&ctx, false);
    for width in ["15 minutes", "1 hour", "4 hours", "7 hours", "1 day", "1 week", "1 month", "1 year"] {
        for zone in [None, Some("Europe/Berlin"), Some("Australia/Lord_Howe"), Some("+05:30")] {
            for origin in [None, Some(1_700_000_100_000_000)] {
                let buckets = Bucketing::new(
                    BucketWidth::parse(width).unwrap(),
                    zone.map(|zone| zone.parse().unwrap()),
                    origin,
                );
                let zone = zone.map_or("NULL".to_string(), |zone| format!("'{zone}'"));
                let origin =
                    origin.map_or("NULL".to_string(), |o| format!("arrow_cast({o}, 'Timestamp(us)')"));
                let sql = format!(
                    "SELECT time_bucket('{width}', ts, {zone}, {origin}),
                            time_bucket('{width}', s, {zone}, {origin}),
                            time_bucket('{width}', ms, {zone}, {origin}),
                            time_bucket('{width}', us, {zone}, {origin}),
                            time_bucket('{width}', ns, {zone}, {origin})
                     FROM t"
                );
                let mut row = 0;
                for batch in query(&ctx, &sql).await {
                    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
                    let columns: Vec<_> = batch.columns().iter().map(|c| cast(c, &micros).unwrap()).collect();
                    for i in 0..batch.num_rows() {
                        let expected = buckets.start(instants[row]);
                        for (c, column) in columns.iter().enumerate() {
                            let column = column.as_primitive::<TimestampMicrosecondType>();
                            let expected = (c == 0 || row % 7 != 0).then_some(expected);
                            let actual = column.is_valid(i).then(|| column.value(i));
                            assert_eq!(actual, expected, "{sql} column {c} row {row}");
                        }
                        row += 1;
                    }
                }
                assert_eq!(row, instants.len());
            }
        }
    }
}

/// The optimizer turns these filters into ranges; without it they run as they are written.
#[tokio::test]
async fn filters_on_the_bucket_select_the_same_rows_as_ranges() {
    let (optimized, plain) = (session(), session_without_optimizer());
    register_table(&optimized, false);
    register_table(&plain, false);
    let buckets = [
        ("time_bucket('1 hour', $)", "2024-01-01T00:00:00"),
        ("time_bucket('7 hours', $)", "1975-06-01T07:00:00"),
        ("time_bucket('1 day', $, 'Europe/Berlin')", "1980-04-05T23:00:00"),
        ("time_bucket('1 week', $, 'America/New_York')", "1975-06-02T04:00:00"),
        ("time_bucket('1 month', $)", "1975-06-01T00:00:00"),
        ("time_bucket('1 year', $)", "1969-01-01T00:00:00"),
        ("time_bucket('1 year', $, NULL, TIMESTAMP '2000-04-01')", "1975-04-01T00:00:00"),
    ];
    let mut selected = 0;
    for (i, column) in ["ts", "us", "s", "ms", "ns", "berlin", "day"].into_iter().enumerate() {
        // All buckets for one column, one or two for each of the others.
        for (bucket, start) in buckets.into_iter().skip(i).step_by(if i == 0 { 1 } else { 5 }) {
            let bucket = bucket.replace('$', column);
            // At the start of a bucket, and within one.
            for literal in
                [format!("TIMESTAMP '{start}Z'"), format!("TIMESTAMP '{start}Z' + INTERVAL '1 second'")]
            {
                let mut filters: Vec<String> =
                    ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
                        .iter()
                        .flat_map(|op| {
                            [format!("{bucket} {op} {literal}"), format!("NOT ({literal} {op} {bucket})")]
                        })
                        .collect();
                filters.push(format!("{bucket} IN ({literal}, TIMESTAMP '1976-01-01T00:00:00Z')"));
                filters.push(format!("{bucket} NOT IN ({literal}, TIMESTAMP '1976-01-01T00:00:00Z')"));
                filters.push(format!("{bucket} BETWEEN {literal} AND TIMESTAMP '1979-01-01T00:00:00Z'"));
                for filter in filters {
                    let sql = format!("SELECT n FROM t WHERE {filter} ORDER BY n");
                    let rows = query(&optimized, &sql).await;
                    assert_eq!(
                        batches_to_string(&rows),
                        batches_to_string(&query(&plain, &sql).await),
                        "{sql}"
                    );
                    selected += rows.iter().map(RecordBatch::num_rows).sum::<usize>();
                }
            }
        }
    }
    assert!(selected > 0);
}

async fn plan(ctx: &SessionContext, sql: &str) -> String {
    let batches = query(ctx, &format!("EXPLAIN FORMAT INDENT {sql}")).await;
    pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test]
async fn filters_become_ranges_that_prune() {
    let ctx = session();
    register_table(&ctx, false);
    let sql = "SELECT n FROM t WHERE time_bucket('1 month', ts) = TIMESTAMP '1975-06-01'";
    let plan = plan(&ctx, sql).await;
    assert!(!plan.contains("time_bucket"), "{plan}");
    assert!(plan.contains("1975-06-01") || plan.contains("170812800000000"), "{plan}");
}

#[tokio::test]
async fn sorted_timestamps_are_sorted_buckets() {
    let ctx = session();
    register_table(&ctx, true);
    let sorted = plan(&ctx, "SELECT time_bucket('1 day', ts, 'Europe/Berlin') AS b FROM t ORDER BY b").await;
    assert!(!sorted.contains("SortExec"), "{sorted}");
    let grouped = plan(&ctx, "SELECT time_bucket('1 day', ts) AS b, count(*) FROM t GROUP BY b").await;
    assert!(grouped.contains("ordering_mode=Sorted"), "{grouped}");
}
