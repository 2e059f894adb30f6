//! The example of real sales: what it shows is what sqlite says of the same file.

use std::process::Command;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use toplake::session;
use toplake::statement::Session;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/online_retail");
const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sales");

/// Reads the file without any of our code. The query's rows come out as lines, their values parted by `|`.
const SQLITE: &str = r#"
import csv, gzip, sqlite3, sys
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE sales (product TEXT, quantity INTEGER, at TEXT, cents INTEGER, customer TEXT, country TEXT)")
with gzip.open(sys.argv[1], "rt", encoding="utf-8", newline="") as file:
    for row in csv.DictReader(file):
        db.execute("INSERT INTO sales VALUES (?, ?, ?, ?, nullif(?, ''), ?)", (
            row["StockCode"], int(row["Quantity"]), row["InvoiceDate"], round(float(row["UnitPrice"]) * 100),
            row["CustomerID"].removesuffix(".0"), row["Country"]))
for row in db.execute(sys.argv[2]):
    print("|".join(str(value) for value in row))
"#;

/// What sqlite answers; `None` on a machine without Python, unless tests are run where it has to be there.
fn sqlite(query: &str) -> Option<Vec<String>> {
    let file = format!("{EXAMPLE}/online_retail_sample.csv.gz");
    let output = match Command::new("python3").args(["-c", SQLITE, &file, query]).output() {
        Ok(output) => output,
        Err(e) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("python3 is needed here: {e}"),
        Err(e) => {
            eprintln!("not compared with sqlite: there is no python3: {e}");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

async fn ours(session: &Session, query: &str) -> Vec<String> {
    let lines = |batch: &RecordBatch| -> Vec<String> {
        let value = |row: usize, column| array_value_to_string(batch.column(column), row).unwrap();
        let line = |row| (0..batch.num_columns()).map(|c| value(row, c)).collect::<Vec<_>>().join("|");
        (0..batch.num_rows()).map(line).collect()
    };
    session.sql(query).await.unwrap().iter().flat_map(lines).collect()
}

/// A warehouse with the SQL pack and the file's sales in it.
async fn loaded(warehouse: &std::path::Path) -> Session {
    let engine = session::open(warehouse.to_str().unwrap()).await.unwrap();
    let session = Session::new(engine.context(), engine.warehouse().clone());
    for file in ["schema", "rollups", "views"] {
        session.sql(&std::fs::read_to_string(format!("{PACK}/{file}.sql")).unwrap()).await.unwrap();
    }
    // As the example's README says, and once more: a file goes in once.
    for _ in 0..2 {
        let output = Command::new(env!("CARGO_BIN_EXE_toplake"))
            .args(["ingest", "files", "--table", "sales", "--warehouse", warehouse.to_str().unwrap()])
            .args(["--transform", &format!("{EXAMPLE}/to_sales.sql")])
            .arg(format!("{EXAMPLE}/online_retail_sample.csv.gz"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    session
}

/// Each of our queries beside the one that sqlite gets.
const QUESTIONS: &[(&str, &str, &str)] = &[
    (
        "pieces and money by month, refunds taken off",
        "SELECT substr(CAST(bucket AS VARCHAR), 1, 7), sum(quantity), CAST(sum(revenue) * 100 AS BIGINT), sum(events)
         FROM sales_monthly GROUP BY 1 ORDER BY 1",
        "SELECT substr(at, 1, 7), sum(quantity), sum(quantity * cents), count(*) FROM sales GROUP BY 1 ORDER BY 1",
    ),
    (
        "the ten products that sold most in each year",
        "SELECT year, rank, product_id, quantity FROM (
           SELECT year, product_id, quantity, rank() OVER (PARTITION BY year ORDER BY quantity DESC) AS rank FROM (
             SELECT extract(YEAR FROM bucket) AS year, product_id, sum(quantity) AS quantity
             FROM sales_yearly GROUP BY 1, 2))
         WHERE rank <= 10 ORDER BY 1, 2, 3",
        "SELECT year, rank, product, quantity FROM (
           SELECT *, rank() OVER (PARTITION BY year ORDER BY quantity DESC) AS rank FROM (
             SELECT CAST(substr(at, 1, 4) AS INTEGER) AS year, product, sum(quantity) AS quantity
             FROM sales GROUP BY 1, 2))
         WHERE rank <= 10 ORDER BY 1, 2, 3",
    ),
    (
        "top_10 of the latest year",
        "SELECT rank, product_id, quantity FROM top_10 WHERE period = 'year'",
        "SELECT rank, product, quantity FROM (
           SELECT *, rank() OVER (ORDER BY quantity DESC) AS rank FROM (
             SELECT product, sum(quantity) AS quantity FROM sales WHERE at >= '2011' GROUP BY 1))
         WHERE rank <= 10 ORDER BY rank, product",
    ),
    (
        "top_1000 of the latest week, which is that of Monday, 5 December 2011",
        "SELECT rank, product_id, quantity FROM top_1000 WHERE period = 'week'",
        "SELECT rank, product, quantity FROM (
           SELECT *, rank() OVER (ORDER BY quantity DESC) AS rank FROM (
             SELECT product, sum(quantity) AS quantity FROM sales WHERE at >= '2011-12-05' GROUP BY 1))
         WHERE rank <= 1000 ORDER BY rank, product",
    ),
    (
        "countries, from the days",
        "SELECT country, sum(quantity), sum(events) FROM sales_by_country GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(quantity), count(*) FROM sales GROUP BY 1 ORDER BY 1",
    ),
    (
        "customers and refunds, from the events",
        "SELECT count(*), count(DISTINCT event_id), count(customer_id), count(DISTINCT customer_id),
                sum(CASE WHEN quantity < 0 THEN 1 ELSE 0 END) FROM sales",
        "SELECT count(*), count(*), count(customer), count(DISTINCT customer), sum(quantity < 0) FROM sales",
    ),
];

#[tokio::test]
async fn what_the_example_shows_is_what_sqlite_says() {
    let warehouse = tempfile::tempdir().unwrap();
    let session = loaded(warehouse.path()).await;
    session.sql("REFRESH MATERIALIZED VIEW top_1000").await.unwrap();
    for folded in [false, true] {
        for (what, query, theirs) in QUESTIONS {
            let found = ours(&session, query).await;
            assert!(!found.is_empty(), "{what}: no rows");
            if let Some(expected) = sqlite(theirs) {
                assert_eq!(found, expected, "{what}, folded: {folded}");
            }
        }
        for job in ["weekly", "yearly"] {
            let job = std::fs::read_to_string(format!("{PACK}/jobs/refresh_{job}.sql")).unwrap();
            session.sql(&job).await.unwrap();
        }
    }
}
