//! What we write is a Delta table to others, and what others write is one to us: the Python package `deltalake` reads
//! and writes the same tables.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{Desk, Home};

/// Packages that the script needs.
const PACKAGES: &[&str] = &["deltalake>=1.1,<2", "pyarrow"];

/// A Python that has them: the machine's, or one in a virtual environment that is made once in the target folder. Without
/// one the tests here are left out, but not where CI runs them.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let works = |python: &Path| {
            let tried = Command::new(python).args(["-c", "import deltalake, pyarrow"]).output();
            tried.is_ok_and(|done| done.status.success())
        };
        let installed = PathBuf::from("python3");
        if works(&installed) {
            return Some(installed);
        }
        let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("delta-readers");
        let python = environment.join("bin/python");
        if !works(&python) {
            let run = |command: &mut Command| command.output().is_ok_and(|done| done.status.success());
            run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
        }
        works(&python).then_some(python)
    });
    if found.is_none() {
        let needed = "python3 with the packages deltalake and pyarrow is needed, and cannot be installed";
        assert!(std::env::var_os("CI").is_none(), "{needed}");
        eprintln!("left out: {needed}");
    }
    found.as_deref()
}

/// Runs the script and gives the lines that it prints.
fn script(python: &Path, arguments: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/delta_readers.py");
    let done = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

const COLUMNS: [&str; 5] = ["event_id", "event_time", "product_id", "quantity", "unit_price"];

const SALES: &str = "CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR,
                                         quantity BIGINT, unit_price DECIMAL(18, 4))
                       WITH (time_column = 'event_time')";

const HOURLY: &str = "CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
                        SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id,
                               sum(quantity) AS quantity, count(*) AS events, sum(quantity * unit_price) AS revenue,
                               max(event_time) AS last_event
                        FROM sales GROUP BY 1, 2";

const HOURLY_COLUMNS: [&str; 6] = ["bucket", "product_id", "quantity", "events", "revenue", "last_event"];

/// The view, over the raw events.
const HOURLY_FROM_EVENTS: &str = "SELECT date_trunc('hour', event_time), product_id, sum(quantity), count(*),
                                         sum(quantity * unit_price), max(event_time)
                                  FROM sales GROUP BY 1, 2";

/// What another reader sees of a table equals the rows that a query of ours gives.
async fn assert_same(python: &Path, desk: &Desk, table: &Path, columns: &[&str], query: &str, when: &str) {
    let mut arguments = vec!["read", table.to_str().unwrap()];
    arguments.extend(columns);
    assert_eq!(script(python, &arguments), desk.rows(query).await, "{when}: {query}");
}

/// The rollup is right before and after a refresh.
async fn assert_rollup_right(desk: &Desk, when: &str) {
    let expected = desk.rows(HOURLY_FROM_EVENTS).await;
    assert_eq!(desk.rows("SELECT * FROM hourly").await, expected, "{when}, before the refresh");
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(desk.rows("SELECT * FROM hourly").await, expected, "{when}, after the refresh");
}

/// Copies a table without the commits below `version`, which a checkpoint stands for.
fn copy_from_checkpoint(table: &Path, copy: &Path, version: i64) {
    std::fs::create_dir_all(copy.join("_delta_log")).unwrap();
    for folder in ["", "_delta_log"] {
        for entry in std::fs::read_dir(table.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let older =
                name.strip_suffix(".json").is_some_and(|n| n.parse::<i64>().is_ok_and(|n| n < version));
            if entry.path().is_file() && !older {
                std::fs::copy(entry.path(), copy.join(folder).join(name)).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_what_we_write() {
    let Some(python) = python() else { return };
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SALES).await;
    desk.run(HOURLY).await;
    desk.run("CREATE MATERIALIZED VIEW top_10 AS
                SELECT product_id, sum(quantity) AS quantity FROM hourly GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10").await;
    let (sales, top) = (home.path("sales"), home.path("top_10"));
    let all_same = async |when: &str| {
        assert_same(python, &desk, &sales, &COLUMNS, "SELECT * FROM sales", when).await;
        desk.run("REFRESH MATERIALIZED VIEW top_10").await;
        assert_same(python, &desk, &top, &["product_id", "quantity"], "SELECT * FROM top_10", when).await;
    };
    all_same("while empty").await;

    desk.run(
        "INSERT INTO sales VALUES (1, '2026-01-01 10:05:00', 'apple', 3, 1.5),
                                       (2, '2026-01-01 10:55:00.123456', 'äpfel, \"rot\"', -2, -0.0001),
                                       (3, '2026-01-01 11:00:00', NULL, NULL, NULL)",
    )
    .await;
    desk.run(
        "INSERT INTO sales VALUES (4, '1969-12-31 23:59:59.999999', '', 9223372036854775807,
                                        '99999999999999.9999')",
    )
    .await;
    all_same("after appends").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_rollups_and_checkpoints() {
    let Some(python) = python() else { return };
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SALES).await;
    desk.run(
        "INSERT INTO sales VALUES (1, '2026-01-01 10:05:00', 'apple', 3, 1.5),
                                       (2, '2026-01-01 10:55:00.123456', 'pear', -2, 0.25)",
    )
    .await;
    // Folded in one go, each bucket and key is one row of the rollup's own table.
    desk.run(HOURLY).await;
    let (sales, hourly) = (home.path("sales"), home.path("hourly"));
    let view = "SELECT * FROM hourly";
    assert_same(python, &desk, &hourly, &HOURLY_COLUMNS, view, "as built").await;
    desk.run("INSERT INTO sales VALUES (3, '2026-01-01 12:00:00', 'apple', 1, 1)").await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_same(python, &desk, &hourly, &HOURLY_COLUMNS, view, "after a fold").await;

    // A late event makes a partial row; computing its bucket anew replaces both in one commit.
    desk.run("INSERT INTO sales VALUES (4, '2026-01-01 10:30:00', 'apple', 2, 1.5)").await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    let stored = script(python, &["read", hourly.to_str().unwrap(), "bucket", "product_id", "quantity"]);
    assert_eq!(
        stored.iter().filter(|row| row.starts_with("2026-01-01T10:00:00,apple")).count(),
        2,
        "{stored:?}"
    );
    desk.run("CALL recompute('hourly', '-infinity', 'infinity')").await;
    assert_same(python, &desk, &hourly, &HOURLY_COLUMNS, view, "after a replace").await;
    assert_rollup_right(&desk, "after a replace").await;

    for (name, columns) in [("sales", &COLUMNS[..]), ("hourly", &HOURLY_COLUMNS[..])] {
        let table = desk.table(name).await;
        table.checkpoint().await.unwrap();
        let query = format!("SELECT * FROM {name}");
        assert_same(python, &desk, &home.path(name), columns, &query, "with a checkpoint").await;
        let copy = tempfile::tempdir().unwrap();
        copy_from_checkpoint(&home.path(name), copy.path(), table.snapshot().version);
        assert_same(python, &desk, copy.path(), columns, &query, "from the checkpoint alone").await;
    }
    desk.run("INSERT INTO sales VALUES (5, '2026-01-02 00:00:00', 'kiwi', 1, 1)").await;
    assert_same(python, &desk, &sales, &COLUMNS, "SELECT * FROM sales", "on top of a checkpoint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_what_others_write() {
    let Some(python) = python() else { return };
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("foreign table");
    let path = path.to_str().unwrap();
    let rows = r#"[[1, "2026-01-01T10:05:00", "apple", 3, "1.5"], [2, "2026-01-01T10:55:00.123456", "pear", -2, "-0.0001"],
                   [3, "2026-01-01T11:00:00", null, null, null]]"#;
    script(python, &["create", path, "{}", rows]);
    let desk = home.desk().await;
    desk.run(&format!("CREATE EXTERNAL TABLE foreign_sales STORED AS DELTA LOCATION '{path}'")).await;
    let query =
        "SELECT event_id, CAST(event_time AS TIMESTAMP) AS event_time, product_id, quantity, unit_price
                 FROM foreign_sales";
    let same = async |when: &str| assert_same(python, &desk, Path::new(path), &COLUMNS, query, when).await;
    same("as created").await;
    assert_eq!(
        desk.value("SELECT count(*) FROM foreign_sales WHERE event_time >= '2026-01-01T10:55:00.123456Z'")
            .await,
        "2"
    );
    script(python, &["append", path, r#"[[4, "2026-01-02T00:00:00", "kiwi", 1, "1"]]"#]);
    same("after an append").await;
    script(python, &["delete", path, "event_id = 1 OR event_id = 3"]);
    same("after a delete").await;
    assert_eq!(desk.value("SELECT count(*) FROM foreign_sales").await, "2");

    // It may be the source of views and snapshots, also in another process.
    desk.run("CREATE VIEW kiwis AS SELECT * FROM foreign_sales WHERE product_id = 'kiwi'").await;
    desk.run("CREATE MATERIALIZED VIEW foreign_top AS
                SELECT product_id, sum(quantity) AS quantity FROM foreign_sales GROUP BY 1 ORDER BY 2 DESC LIMIT 1").await;
    let other = home.desk().await;
    assert_eq!(other.rows("SELECT event_id FROM kiwis").await, ["4"]);
    assert_eq!(other.rows("SELECT * FROM foreign_top").await, ["kiwi,1"]);
    script(python, &["append", path, r#"[[5, "2026-01-02T00:00:00", "plum", 9, "1"]]"#]);
    other.run("REFRESH MATERIALIZED VIEW foreign_top").await;
    assert_eq!(other.rows("SELECT * FROM foreign_top").await, ["plum,9"]);
    assert_eq!(desk.rows("SELECT * FROM foreign_top").await, ["plum,9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_in_the_warehouse_is_an_events_table() {
    let Some(python) = python() else { return };
    let home = Home::new();
    let desk = home.desk().await;
    let path = home.path("sales");
    let path = path.to_str().unwrap();
    let configuration = r#"{"toplake.time_column": "event_time", "toplake.allowed_lateness": "60000000"}"#;
    script(python, &["create", path, configuration, r#"[[1, "2026-01-01T10:05:00", "apple", 3, "1.5"]]"#]);
    assert_eq!(desk.rows("SELECT event_id, product_id FROM sales").await, ["1,apple"]);
    desk.run(HOURLY).await;
    assert_rollup_right(&desk, "as built").await;
    desk.run("INSERT INTO sales VALUES (2, '2026-01-01 10:06:00', 'apple', 2, 1.5)").await;
    assert_rollup_right(&desk, "after our append").await;
    script(python, &["append", path, r#"[[3, "2026-01-01T11:00:00", "pear", 7, "0.25"]]"#]);
    assert_rollup_right(&desk, "after their append").await;
    script(python, &["delete", path, "event_id = 1"]);
    assert_rollup_right(&desk, "after their delete").await;
    let query = "SELECT event_id, CAST(event_time AS TIMESTAMP) AS event_time, product_id, quantity, unit_price FROM sales";
    assert_same(python, &desk, Path::new(path), &COLUMNS, query, "at the end").await;
    assert_eq!(desk.value("SELECT watermark('sales')").await, "2026-01-01T10:59:00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_write_to_our_table_reaches_the_rollups_over_it() {
    let Some(python) = python() else { return };
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SALES).await;
    desk.run(
        "INSERT INTO sales VALUES (1, '2026-01-01 10:05:00', 'apple', 3, 1.5),
                                       (2, '2026-01-01 11:00:00', 'pear', 4, 0.25),
                                       (3, '2026-01-03 11:00:00', 'pear', 5, 0.25)",
    )
    .await;
    desk.run(HOURLY).await;
    desk.run("CREATE MATERIALIZED VIEW daily WITH (refresh_mode = 'incremental') AS
                SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(events) AS events, sum(revenue) AS revenue
                FROM hourly GROUP BY 1").await;
    let path = home.path("sales");
    let path = path.to_str().unwrap();
    let daily_right = async |when: &str| {
        let expected = "SELECT date_trunc('day', event_time), count(*), sum(quantity * unit_price) FROM sales GROUP BY 1";
        let expected = desk.rows(expected).await;
        assert_eq!(desk.rows("SELECT * FROM daily").await, expected, "{when}");
        // One that follows no log, but opens it.
        assert_eq!(home.desk().await.rows("SELECT * FROM daily").await, expected, "{when}, elsewhere");
    };
    let steps: [(&str, &[&str]); 6] = [
        ("an append", &["append", path, r#"[[4, "2026-01-01T10:59:59.999999", "apple", 2, "1.5"]]"#]),
        (
            "a late append",
            &[
                "append",
                path,
                r#"[[5, "2025-06-01T00:00:00", "plum", 2, "1"], [6, "2026-01-03T11:30:00", "pear", -5, "0.25"]]"#,
            ],
        ),
        ("a delete of some rows of a file", &["delete", path, "event_id = 2"]),
        ("a compaction", &["compact", path]),
        ("a delete of whole files", &["delete", path, "event_time < '2026-01-02T00:00:00Z'"]),
        ("a delete of everything", &["delete", path, "true"]),
    ];
    for (what, command) in steps {
        script(python, command);
        daily_right(what).await;
        assert_rollup_right(&desk, what).await;
        daily_right(what).await;
        assert_same(python, &desk, Path::new(path), &COLUMNS, "SELECT * FROM sales", what).await;
        desk.run("INSERT INTO sales VALUES (9, '2026-01-01 11:00:00', 'pear', 4, 0.25)").await;
        daily_right(what).await;
        if what == "a late append" {
            desk.run("REFRESH MATERIALIZED VIEW daily").await;
            daily_right(what).await;
        }
    }
    desk.run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await;
    daily_right("at the end").await;
}
