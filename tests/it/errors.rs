//! What a user is told of a wrong statement: SQLSTATE, message, hint, and where it is.

use toplake::statement::parse;

use crate::harness::{Desk, Home};

/// A wrong statement; its SQLSTATE; part of the message; part of the hint, if it has one; the text at its position.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

const CASES: &[Case] = &[
    // Syntax.
    ("SELEC 1", "42601", "", None, Some("SELEC")),
    ("SELECT * FORM sales", "42601", "", None, Some("sales")),
    ("SELECT * FROM sales WHERE", "42601", "", None, None),
    ("SELECT (1", "42601", "", None, None),
    ("SELECT 'open", "42601", "", None, None),
    ("SELECT 1 2", "42601", "", None, Some("2")),
    ("CREATE TABLE", "42601", "", None, None),
    ("REFRESH sales_hourly", "42601", "cannot read", Some("REFRESH MATERIALIZED VIEW name"), None),
    ("COPY sales FROM STDIN (FORMAT)", "42601", "expected", None, Some(")")),
    ("COPY sales FROM STDIN (DELIMITER 'ab')", "0A000", "single one-byte", None, None),
    // Tables.
    ("SELECT * FROM nothing", "42P01", "table 'nothing' not found", None, Some("nothing")),
    (
        "SELECT * FROM sale",
        "42P01",
        "table 'sale' not found",
        Some("perhaps you meant 'sales'"),
        Some("sale"),
    ),
    ("SELECT * FROM sales_houly", "42P01", "'sales_houly'", Some("'sales_hourly'"), Some("sales_houly")),
    (
        "SELECT * FROM toplake.rollup",
        "42P01",
        "'toplake.rollup'",
        Some("'toplake.rollups'"),
        Some("toplake.rollup"),
    ),
    ("SELECT 'sale' FROM sales JOIN sale ON true", "42P01", "", Some("'sales'"), Some("sale ON")),
    ("INSERT INTO salse VALUES (1)", "42P01", "", Some("'sales'"), Some("salse")),
    ("DELETE FROM salse", "42P01", "", Some("'sales'"), Some("salse")),
    ("DROP TABLE salse", "42P01", "", Some("'sales'"), Some("salse")),
    ("REFRESH MATERIALIZED VIEW sales_hourl", "42P01", "", Some("'sales_hourly'"), Some("sales_hourl")),
    ("COPY salse FROM STDIN", "42P01", "", Some("'sales'"), Some("salse")),
    ("COPY (SELECT * FROM salse) TO STDOUT", "42P01", "", Some("'sales'"), Some("salse")),
    // Columns.
    ("SELECT nothing FROM sales", "42703", "column 'nothing' not found", None, Some("nothing")),
    (
        "SELECT quantiti FROM sales",
        "42703",
        "column 'quantiti' not found",
        Some("'quantity'"),
        Some("quantiti"),
    ),
    ("SELECT 'é', contry FROM sales", "42703", "", Some("'country'"), Some("contry")),
    ("SELECT country FROM sales WHERE quantty > 1", "42703", "", Some("'quantity'"), Some("quantty")),
    ("SELECT country FROM sales ORDER BY quantty", "42703", "", Some("'quantity'"), Some("quantty")),
    (
        "SELECT s.quantty FROM sales AS s",
        "42703",
        "column 's.quantty' not found",
        Some("'quantity'"),
        Some("s.quantty"),
    ),
    ("SELECT x.quantity FROM sales AS s", "42P01", "table 'x' is not in FROM", None, Some("x.")),
    ("SELECT Upper FROM cased", "42703", "", Some("\"Upper\", in double quotes"), Some("Upper")),
    (
        "SELECT quantity FROM sales a JOIN sales b ON a.country = b.country",
        "42702",
        "more than one",
        Some("t.quantity"),
        Some("quantity"),
    ),
    ("INSERT INTO sales (event_time, quantty) VALUES ('2026-01-01', 1)", "42703", "", None, Some("quantty")),
    // Functions.
    (
        "SELECT no_such_function(1)",
        "42883",
        "function 'no_such_function' not found",
        None,
        Some("no_such_function"),
    ),
    ("SELECT uper('a')", "42883", "function 'uper' not found", Some("'upper'"), Some("uper")),
    ("SELECT sum(country) FROM sales", "42883", "function 'sum' does not take", None, Some("sum")),
    ("SELECT sum(quantity, 2) FROM sales", "42883", "function 'sum' does not take", None, Some("sum")),
    // Types.
    ("SELECT country + quantity FROM sales", "42883", "VARCHAR + BIGINT", None, None),
    ("SELECT quantity FROM sales WHERE quantity", "42804", "", None, None),
    ("SELECT NOT country FROM sales", "42804", "", None, None),
    ("SELECT -country FROM sales", "42804", "", None, None),
    ("SELECT CAST(country AS BIGINT) FROM sales", "22P02", "'DE'", None, None),
    ("SELECT TIMESTAMP 'yesterday at noon'", "22P02", "yesterday", None, None),
    ("SELECT DATE '2026-02-31'", "22P02", "2026-02-31", None, None),
    ("SELECT CAST(40000 + quantity AS SMALLINT) FROM sales", "22003", "", None, None),
    ("SELECT CAST(quantity * 1000000 AS DECIMAL(4, 2)) FROM sales", "22003", "", None, None),
    ("SELECT 1 / (quantity - 1) FROM sales", "22012", "division by zero", None, None),
    ("SELECT quantity % (quantity - 1) FROM sales", "22012", "division by zero", None, None),
    // Grouping.
    ("SELECT country, sum(quantity) FROM sales", "42803", "", None, None),
    ("SELECT country FROM sales GROUP BY quantity", "42803", "", None, None),
    ("SELECT sum(quantity) FROM sales HAVING country = 'DE'", "42803", "", None, None),
    // Numbers of columns.
    ("INSERT INTO sales (event_time, quantity) VALUES ('2026-01-01')", "42601", "", None, None),
    ("INSERT INTO sales (event_time) VALUES ('2026-01-01', 1)", "42601", "", None, None),
    ("SELECT 1 UNION ALL SELECT 1, 2", "42601", "different number of columns", None, None),
    ("VALUES (1, 2), (3)", "42601", "", None, None),
    ("SELECT country FROM sales ORDER BY 3", "42P10", "", None, None),
    // What may not be.
    ("INSERT INTO sales (quantity) VALUES (1)", "23502", "'event_time' may not be NULL", None, None),
    ("INSERT INTO sales (event_time, quantity) VALUES ('2026-01-01', 'x')", "22P02", "'x'", None, None),
    ("INSERT INTO sales (event_time) VALUES ('3026-01-01')", "22P02", "max_future", None, None),
    ("UPDATE sales SET quantity = 1", "0A000", "UPDATE is not possible", Some("INSERT a row"), None),
    ("CREATE INDEX i ON sales (country)", "0A000", "CREATE INDEX is not possible", None, None),
    ("CREATE TABLE sales (a BIGINT)", "42P07", "'sales'", None, None),
    ("CREATE TABLE twice (a BIGINT, A BIGINT)", "22023", "", None, None),
    ("DROP VIEW sales", "42809", "'sales' is a table", Some("DROP TABLE"), None),
    ("DROP TABLE sales", "2BP01", "depends on 'sales'", Some("CASCADE"), None),
    ("WITH a AS (SELECT 1), a AS (SELECT 2) SELECT * FROM a", "42712", "more than once", None, None),
    ("SELECT $1", "42P02", "", None, None),
    ("SET datafusion.nonsense = 1", "22023", "", None, None),
];

/// Signs of what is not meant for users.
const SLANG: &[&str] = &[
    "Utf8",
    "Int64",
    "Float64",
    "Boolean(",
    "DataType",
    "Some(",
    "Internal error",
    "bug report",
    "DataFusion",
    "Arrow error",
    "Optimizer rule",
    "\n",
];

async fn told(desk: &Desk, sql: &str) -> toplake::error::Error {
    let statements = match parse(sql) {
        Ok(statements) => statements,
        Err(e) => return e,
    };
    match desk.session.execute(&statements[0], &[]).await {
        Err(e) => e,
        Ok(toplake::statement::Outcome::Rows { stream, .. }) => {
            let rows = datafusion::physical_plan::common::collect(stream).await;
            rows.expect_err(sql).into()
        }
        Ok(_) => panic!("{sql}: no error"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_statements() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, country VARCHAR, quantity BIGINT) WITH (time_column = 'event_time');
         CREATE TABLE cased (\"Upper\" BIGINT);
         INSERT INTO sales VALUES ('2026-01-01 10:00:00', 'DE', 1);
         CREATE MATERIALIZED VIEW sales_hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) AS quantity FROM sales GROUP BY 1",
    )
    .await;
    let mut wrong = vec![];
    for (sql, code, message, hint, at) in CASES {
        let e = told(&desk, sql).await;
        let text_at = e.position().map(|p| sql.chars().skip(p - 1).collect::<String>());
        let right = e.kind().sqlstate() == *code
            && e.message().contains(message)
            && e.hint().unwrap_or_default().contains(hint.unwrap_or_default())
            && at.is_none_or(|at| text_at.as_deref().is_some_and(|text| text.starts_with(at)))
            && !SLANG.iter().any(|word| e.message().contains(word))
            && e.message()
                .chars()
                .next()
                .is_some_and(|c| !c.is_uppercase() || e.message()[1..].starts_with(char::is_uppercase));
        if !right {
            wrong.push(format!(
                "{sql}\n    {} {:?} hint {:?} at {text_at:?}\n    expected {code} {message:?} {hint:?} {at:?}",
                e.kind().sqlstate(),
                e.message(),
                e.hint()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    assert_eq!(desk.value("SELECT count(*) FROM sales").await, "1", "one of them has done something");
}
