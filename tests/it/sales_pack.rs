//! `sql/sales`: every file runs, any number of times, and `top_1000` is what it says.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use toplake::catalog::events::append;
use toplake::catalog::warehouse::Object;
use toplake::demo::generator::{Generator, SCHEMA};
use toplake::session::{self, Engine};
use toplake::statement::Session;
use toplake::statement::variables::substitute;

const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sales");

async fn run(session: &Session, file: &str) {
    let sql = std::fs::read_to_string(Path::new(PACK).join(file)).unwrap();
    let sql = with_values(&sql);
    session.sql(&sql).await.unwrap_or_else(|e| panic!("{file}: {e}"));
}

/// What `-v day=… -v month=…` makes of a job.
fn with_values(sql: &str) -> String {
    let values = [("day", "2024-04-30"), ("month", "2024-04-01")];
    substitute(sql, &values.map(|(name, value)| (name.to_owned(), value.to_owned())).into()).unwrap()
}

async fn pack(warehouse: &Path) -> (Engine, Session) {
    let engine = session::open(warehouse.to_str().unwrap()).await.unwrap();
    let session = Session::new(engine.context(), engine.warehouse().clone());
    for file in ["schema.sql", "rollups.sql", "views.sql"] {
        run(&session, file).await;
    }
    (engine, session)
}

async fn number(session: &Session, sql: &str) -> i64 {
    session.sql(sql).await.unwrap()[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn table(session: &Session, sql: &str) -> String {
    pretty_format_batches(&session.sql(sql).await.unwrap()).unwrap().to_string()
}

#[tokio::test]
async fn every_file_runs_twice() {
    let warehouse = tempfile::tempdir().unwrap();
    let (_, session) = pack(warehouse.path()).await;
    drop(pack(warehouse.path()).await);
    let jobs = std::fs::read_dir(Path::new(PACK).join("jobs")).unwrap();
    let mut jobs: Vec<_> = jobs.map(|job| format!("jobs/{}", job.unwrap().file_name().display())).collect();
    jobs.sort();
    assert_eq!(jobs.len(), 9);
    // April is over.
    session.sql("INSERT INTO sales (event_time) VALUES ('2024-05-01 10:00:00')").await.unwrap();
    for job in jobs.iter().chain(&jobs) {
        run(&session, job).await;
        session
            .sql(
                "INSERT INTO sales (event_time, product_id, quantity) VALUES ('2024-05-01 10:00:00', 'A', 1)",
            )
            .await
            .unwrap();
    }
    assert_eq!(number(&session, "SELECT sum(quantity) FROM sales_yearly").await, 18);
    assert_eq!(
        number(&session, "SELECT quantity FROM top_1000 WHERE period = 'year'").await,
        17,
        "a snapshot"
    );
}

#[tokio::test]
async fn a_day_and_a_month_are_closed_when_they_are_over_and_not_before() {
    for job in ["close_day.sql", "close_month.sql"] {
        let warehouse = tempfile::tempdir().unwrap();
        let (_, session) = pack(warehouse.path()).await;
        session
            .sql(
                "INSERT INTO sales (event_time, product_id, quantity) VALUES ('2024-04-30 23:00:00', 'A', 1)",
            )
            .await
            .unwrap();
        let sql = std::fs::read_to_string(Path::new(PACK).join("jobs").join(job)).unwrap();
        let sql = with_values(&sql);
        let e = session.sql(&sql).await.unwrap_err();
        assert_eq!(e.kind().sqlstate(), "55000", "{job}: {e}");
        session
            .sql(
                "INSERT INTO sales (event_time, product_id, quantity) VALUES ('2024-05-01 00:15:00', 'A', 1)",
            )
            .await
            .unwrap();
        let rows = session.sql(&sql).await.unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1, "{job}");
    }
}

#[tokio::test]
async fn a_tie_at_the_cut_is_kept_whole() {
    let warehouse = tempfile::tempdir().unwrap();
    let (_, session) = pack(warehouse.path()).await;
    // 1,010 products of which the last 20 tie; one has no quantity; one of the leaders is given back, late.
    session
        .sql(
            "INSERT INTO sales (event_time, product_id, quantity, country)
             SELECT '2024-05-01 10:00:00', concat('P', lpad(value, 4, '0')),
                    CASE WHEN value > 990 THEN 10 ELSE 2000 - value END, CASE WHEN value % 2 = 0 THEN 'France' END
             FROM generate_series(1, 1010);
             INSERT INTO sales (event_time, product_id) VALUES ('2024-05-01 10:30:00', 'nothing');
             INSERT INTO sales (event_time, product_id, quantity) VALUES ('2024-05-01 09:00:00', 'P0001', -1999);
             REFRESH MATERIALIZED VIEW top_1000",
        )
        .await
        .unwrap();
    let shape = "SELECT period, count(*) AS n, count(DISTINCT rank) AS ranks, max(rank) AS last, min(bucket) AS bucket,
                        max(as_of) AS as_of, bool_or(complete) AS complete
                 FROM top_1000 GROUP BY period ORDER BY n DESC, period";
    let expected = "\
+--------+------+-------+------+---------------------+---------------------+----------+
| period | n    | ranks | last | bucket              | as_of               | complete |
+--------+------+-------+------+---------------------+---------------------+----------+
| hour   | 1010 | 991   | 991  | 2024-05-01T10:00:00 | 2024-05-01T10:30:00 | false    |
| day    | 1009 | 990   | 990  | 2024-05-01T00:00:00 | 2024-05-01T10:30:00 | false    |
| month  | 1009 | 990   | 990  | 2024-05-01T00:00:00 | 2024-05-01T10:30:00 | false    |
| week   | 1009 | 990   | 990  | 2024-04-29T00:00:00 | 2024-05-01T10:30:00 | false    |
| year   | 1009 | 990   | 990  | 2024-01-01T00:00:00 | 2024-05-01T10:30:00 | false    |
+--------+------+-------+------+---------------------+---------------------+----------+";
    assert_eq!(table(&session, shape).await, expected);
    let lead = "SELECT rank, product_id FROM top_10 WHERE period = 'day' LIMIT 2";
    let expected = "\
+------+------------+
| rank | product_id |
+------+------------+
| 1    | P0002      |
| 2    | P0003      |
+------+------------+";
    assert_eq!(table(&session, lead).await, expected);
    let tie = "SELECT rank, product_id FROM top_1000 WHERE period = 'day' OFFSET 988 LIMIT 3";
    let expected = "\
+------+------------+
| rank | product_id |
+------+------------+
| 989  | P0990      |
| 990  | P0991      |
| 990  | P0992      |
+------+------------+";
    assert_eq!(table(&session, tie).await, expected);
}

#[tokio::test]
async fn generated_sales_are_ranked_as_the_events_say() {
    let warehouse = tempfile::tempdir().unwrap();
    let (engine, session) = pack(warehouse.path()).await;
    let Object::Table(sales) = engine.warehouse().require("sales").await.unwrap() else { panic!("no table") };
    let schema = sales.table().snapshot().schema.clone();
    assert_eq!(schema, *SCHEMA, "the generator makes rows of sql/sales/schema.sql");
    let start = 1_704_067_200_000_000;
    let mut generator = Generator::new(1, 3000);
    for day in 0..3 {
        let day = start + day * 86_400_000_000;
        let batches: Vec<_> = generator.backfill(day, day + 86_400_000_000, 20_000).collect();
        let rows = RecordBatchStreamAdapter::new(
            schema.clone(),
            futures::stream::iter(batches.into_iter().map(|batch| batch.map_err(Into::into))),
        );
        append(&sales, Box::pin(rows)).await.unwrap();
        run(&session, "jobs/refresh_daily.sql").await;
    }
    for (period, unit) in
        [("hour", "hour"), ("day", "day"), ("week", "week"), ("month", "month"), ("year", "year")]
    {
        let ours = format!(
            "SELECT bucket, rank, product_id, quantity, as_of FROM top_1000 WHERE period = '{period}'"
        );
        let theirs = format!(
            "SELECT * FROM (
               SELECT bucket, CAST(rank() OVER (ORDER BY quantity DESC) AS BIGINT) AS rank, product_id, quantity,
                      max(last) OVER () AS as_of
               FROM (SELECT date_trunc('{unit}', event_time) AS bucket, product_id, sum(quantity) AS quantity,
                            max(event_time) AS last
                     FROM sales
                     WHERE date_trunc('{unit}', event_time) = (SELECT date_trunc('{unit}', max(event_time)) FROM sales)
                     GROUP BY 1, 2))
             WHERE rank <= 1000"
        );
        assert!(number(&session, &format!("SELECT count(*) FROM ({ours})")).await > 200, "{period}");
        for (a, b) in [(&ours, &theirs), (&theirs, &ours)] {
            let differ = number(&session, &format!("SELECT count(*) FROM ({a} EXCEPT {b})")).await;
            assert_eq!(differ, 0, "{period}");
        }
    }
}
