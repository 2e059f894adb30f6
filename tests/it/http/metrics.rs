//! What the documentation says of metrics is what there is.

use std::collections::BTreeSet;

use toplake::metrics::METRICS;

use super::{Process, get, until};

/// The names in the first column of the table of metrics.
fn documented() -> BTreeSet<String> {
    let path = format!("{}/docs/operations.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = text.lines().skip_while(|line| !line.starts_with("| metric |"));
    let header = rows.next().expect("docs/operations.md has no table of metrics");
    assert!(header.contains("labels"), "{header}");
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

/// Those that a demo without a stream, an audit and a refused query does not have anything to say of.
const ELSEWHERE: &[&str] = &[
    "toplake_ingest_rows_total",
    "toplake_ingest_lag_messages",
    "toplake_pipeline_state",
    "toplake_pipeline_error_ratio",
    "toplake_queries_refused_total",
    "toplake_commit_conflicts_total",
    "toplake_fold_errors_total",
    "toplake_workers",
    "toplake_spread_queries_total",
    "toplake_workers_lost_total",
    "toplake_worker_tasks",
];

#[test]
fn the_table_in_the_documentation_has_all_metrics_and_no_others() {
    let mut named: BTreeSet<String> = METRICS.iter().map(|m| m.name.to_owned()).collect();
    let documented = documented();
    for process in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        named.insert(process.to_owned());
    }
    assert_eq!(documented, named);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_tells_every_metric_that_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = folder.path().join("demo");
    let arguments = [
        "demo",
        "--warehouse",
        warehouse.to_str().unwrap(),
        "--history",
        "20000",
        "--days",
        "3",
        "--rate",
        "50",
    ];
    let demo = Process::start(&arguments).await;
    let (client, connection) = tokio_postgres::connect(
        &format!("host=127.0.0.1 port={} user=toplake dbname=toplake", demo.pg.port()),
        tokio_postgres::NoTls,
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    // One of each kind of statement, twice for what is kept; one that fails.
    for _ in 0..2 {
        for sql in [
            "SELECT sum(quantity) FROM sales_daily",
            "SELECT count(*) FROM audit('sales_daily', '-infinity', 'infinity')",
            "SELECT count(*) FROM sales a, ad_clicks b WHERE a.quantity > 1000 AND b.ad_id < 0",
            "INSERT INTO sales (event_id, event_time, product_id, quantity) VALUES (1, now(), 'x', 1)",
            "REFRESH MATERIALIZED VIEW sales_daily",
        ] {
            client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
        assert!(client.simple_query("SELECT * FROM nowhere").await.is_err());
    }
    let expected: Vec<String> =
        documented().into_iter().filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
    let missing = async || {
        // Between two refreshes the same answer is given again.
        for _ in 0..5 {
            client.simple_query("SELECT * FROM top_1000 WHERE period = 'day' LIMIT 10").await.unwrap();
        }
        let text = get(demo.http, "/metrics", None).await.body;
        let has = |name: &str| {
            text.lines()
                .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ', '_'])))
        };
        expected.iter().filter(|name| !has(name)).cloned().collect::<Vec<_>>()
    };
    // Jobs, and leaderboards that are due, take a moment.
    until("the demo tells all metrics", async || {
        let missing = missing().await;
        if !missing.is_empty() {
            eprintln!("missing: {missing:?}");
        }
        missing.is_empty()
    })
    .await;
    let text = get(demo.http, "/metrics", None).await.body;
    for metric in METRICS.iter().filter(|m| text.contains(&format!("\n{}", m.name))) {
        assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
    }
}
