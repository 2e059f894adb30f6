//! Metabase: prepared statements of pgJDBC's, with a comment in front, in the time zone of the report.

use std::error::Error;

use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::{Server, check, rows};

#[tokio::test(flavor = "multi_thread")]
async fn connecting() {
    let server = Server::start().await;
    let client = server.connect().await;
    for sql in [
        "SET extra_float_digits = 3",
        "SET application_name = 'Metabase v0.56.1 [1e2c-4f]'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    check(&client, &[("SELECT 1", &["1"]), ("show timezone;", &["UTC"])]).await;
    client.batch_execute("SET SESSION TIMEZONE TO 'Europe/Paris';").await.unwrap();
    check(&client, &[("show timezone;", &["Europe/Paris"])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fingerprints_and_field_values() {
    let server = Server::start().await;
    let client = server.connect().await;
    let sample = "-- Metabase
        SELECT \"public\".\"sales\".\"event_id\" AS \"event_id\",
        SUBSTRING(\"public\".\"sales\".\"country\", 1, 3) AS \"substring9\",
               \"public\".\"sales\".\"unit_price\" AS \"unit_price\"
        FROM \"public\".\"sales\" LIMIT 10000";
    let found = rows(&client, sample).await;
    assert_eq!((found.len(), found.contains(&"3|Fra|9.9900".to_owned())), (2880, true));
    check(
        &client,
        &[
            (
                "SELECT \"public\".\"sales\".\"country\" AS \"country\" FROM \"public\".\"sales\"
                 GROUP BY \"public\".\"sales\".\"country\" ORDER BY \"public\".\"sales\".\"country\" ASC
                 LIMIT 1001",
                &["France", "Kenya"],
            ),
            ("SELECT TRUE AS \"_\" FROM \"public\".\"sales\" WHERE 1 <> 1 LIMIT 0", &[]),
            (
                "SELECT COUNT(*) AS \"count\", COUNT(DISTINCT \"product_id\") AS \"d\",
                    MIN(\"quantity\") AS \"min\",
                        MAX(\"quantity\") AS \"max\", AVG(\"quantity\") AS \"avg\",
                        STDDEV_POP(\"quantity\") AS \"s\",
                        VAR_POP(\"quantity\") AS \"v\" FROM \"public\".\"sales\"",
                &["2880|7|-1|3|1|1.4142135623730951|2"],
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_over_time() {
    let server = Server::start().await;
    let client = server.connect().await;
    check(
        &client,
        &[
            (
                "-- Metabase:: userID: 1 queryType: MBQL queryHash: 6f5f9c
                 SELECT DATE_TRUNC('month', \"public\".\"sales\".\"event_time\") AS \"event_time\",
                 COUNT(*) AS \"count\"
                 FROM \"public\".\"sales\"
                 WHERE (\"public\".\"sales\".\"event_time\" >= DATE_TRUNC('month', (NOW() + INTERVAL
                 '-1200 month')))
                   AND (\"public\".\"sales\".\"event_time\" < DATE_TRUNC('month', (NOW() + INTERVAL
                   '1200 month')))
                 GROUP BY DATE_TRUNC('month', \"public\".\"sales\".\"event_time\")
                 ORDER BY DATE_TRUNC('month', \"public\".\"sales\".\"event_time\") ASC",
                &["2026-01-01 00:00:00|2880"],
            ),
            (
                "SELECT CAST(\"event_time\" AS date) AS \"d\", SUM(\"quantity\") AS \"sum\" FROM
                    \"public\".\"sales\"
                 WHERE \"event_time\" >= CAST((NOW() + INTERVAL '-36500 day') AS date) GROUP BY
                 CAST(\"event_time\" AS date)
                 ORDER BY CAST(\"event_time\" AS date) ASC",
                &["2026-01-29|1440", "2026-01-30|1440"],
            ),
            // Weeks that begin on Sunday.
            (
                "SELECT (DATE_TRUNC('week', (\"event_time\" + INTERVAL '1 day')) + INTERVAL '-1 day') AS
                    \"w\", COUNT(*) AS \"count\"
                 FROM \"public\".\"sales\"
                 GROUP BY (DATE_TRUNC('week', (\"event_time\" + INTERVAL '1 day')) + INTERVAL '-1 day')
                 ORDER BY 1",
                &["2026-01-25 00:00:00|2880"],
            ),
            // Day of the week, where it begins on Sunday and where on Monday.
            (
                "SELECT (CAST(extract(dow from \"event_time\") AS integer) + 1) AS \"sunday\",
                        CASE WHEN MOD(((CAST(extract(dow from \"event_time\") AS integer) + 1) + 6), 7)
                        = 0 THEN 7
                             ELSE MOD(((CAST(extract(dow from \"event_time\") AS integer) + 1) + 6), 7)
                             END AS \"monday\"
                 FROM \"public\".\"sales\" GROUP BY 1, 2 ORDER BY 1",
                &["5|4", "6|5"],
            ),
            // Week of the year, day of the year, quarter, hour of the day.
            (
                "SELECT CEIL((CAST(extract(doy from DATE_TRUNC('week', \"event_time\")) AS integer) /
                    7.0)) AS \"w\",
                        CAST(extract(week from \"event_time\") AS integer) AS \"iso\",
                        CAST(extract(quarter from \"event_time\") AS integer) AS \"q\",
                        CAST(extract(doy from \"event_time\") AS integer) AS \"doy\",
                        CAST(extract(hour from \"event_time\") AS integer) AS \"h\"
                 FROM \"public\".\"sales\" WHERE \"event_id\" = 1",
                &["4|5|1|30|23"],
            ),
            // datetimeDiff, in each unit.
            (
                "SELECT CAST(extract(year from AGE(DATE_TRUNC('day', CAST('2026-01-31' AS timestamp)),
                    DATE_TRUNC('day', CAST('2023-05-15' AS timestamp)))) AS integer) AS \"y\",
                        CAST((extract(month from AGE(DATE_TRUNC('day', CAST('2026-01-31' AS timestamp)),
                        DATE_TRUNC('day', CAST('2023-05-15' AS timestamp))))
                            + (extract(year from AGE(DATE_TRUNC('day', CAST('2026-01-31' AS timestamp)),
                            DATE_TRUNC('day', CAST('2023-05-15' AS timestamp)))) * 12)) AS integer) AS
                            \"m\",
                        (CAST('2026-01-31' AS DATE) - CAST('2026-01-01' AS DATE)) AS \"d\",
                        CAST(TRUNC(extract(epoch from CAST('2026-01-31 10:00' AS timestamp)) -
                        extract(epoch from CAST('2026-01-31' AS timestamp))) AS integer) / 3600 AS \"h\"",
                &["2|32|30|10"],
            ),
            // convertTimezone
            (
                "SELECT TIMEZONE('Europe/Paris', TIMEZONE('UTC', \"event_time\")) AS \"t\" FROM
                    \"public\".\"sales\" WHERE \"event_id\" = 1",
                &["2026-01-31 00:59:00"],
            ),
            // Numbers of seconds and texts that a field says to be times.
            (
                "SELECT TO_TIMESTAMP(1769817540.5) AS \"a\", TO_TIMESTAMP('20260131235959',
                    'YYYYMMDDHH24MISS') AS \"b\"",
                &["2026-01-30 23:59:00.5+00|2026-01-31 23:59:59+00"],
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_of_the_report_decides_what_day_it_is() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("SET SESSION TIMEZONE TO 'Europe/Paris';").await.unwrap();
    // The instant is 2026-01-31 23:59:59.123456 in UTC.
    check(
        &client,
        &[
            ("SELECT DATE_TRUNC('day', tz) FROM types WHERE id = 1", &["2026-02-01 00:00:00+01"]),
            (
                "SELECT CAST(tz AS date) AS d, tz::timestamp AS t FROM types WHERE id = 1",
                &["2026-02-01|2026-02-01 00:59:59.123456"],
            ),
            ("SELECT extract(hour from tz), extract(month from tz) FROM types WHERE id = 1", &["0|2"]),
            ("SELECT to_char(tz, 'DD HH24 TZ OF') FROM types WHERE id = 1", &["01 00 CET +01"]),
            ("SELECT extract(epoch from tz) FROM types WHERE id = 1", &["1769903999.123456"]),
            (
                "SELECT DATE_TRUNC('day', ts), CAST(ts AS date) FROM types WHERE id = 1",
                &["2026-01-31 00:00:00|2026-01-31"],
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_other_kinds() {
    let server = Server::start().await;
    let client = server.connect().await;
    check(
        &client,
        &[
            // Bins.
            (
                "SELECT ((FLOOR(((\"quantity\" - -1.0) / 1.5)) * 1.5) + -1.0) AS \"q\", COUNT(*) AS
                    \"count\" FROM \"public\".\"sales\"
                 GROUP BY ((FLOOR(((\"quantity\" - -1.0) / 1.5)) * 1.5) + -1.0) ORDER BY 1",
                &["-1|1152", "0.5|576", "2|1152"],
            ),
            (
                "SELECT PERCENTILE_CONT(0.9) within group (order by \"quantity\") AS \"p\",
                        PERCENTILE_CONT(0.5) within group (order by \"unit_price\") AS \"m\" FROM
                        \"public\".\"sales\"",
                &["3|9.99"],
            ),
            // A running total.
            (
                "SELECT DATE_TRUNC('day', \"event_time\") AS \"d\",
                        SUM(COUNT(*)) OVER (ORDER BY DATE_TRUNC('day', \"event_time\") ASC ROWS
                        UNBOUNDED PRECEDING) AS \"count\"
                 FROM \"public\".\"sales\" GROUP BY DATE_TRUNC('day', \"event_time\") ORDER BY
                 DATE_TRUNC('day', \"event_time\") ASC",
                &["2026-01-29 00:00:00|1440", "2026-01-30 00:00:00|2880"],
            ),
            // Share, and distinct values under a condition.
            (
                "SELECT SUM(CASE WHEN \"country\" = 'France' THEN 1 ELSE 0.0 END) / COUNT(*) AS \"share\",
                        COUNT(DISTINCT CASE WHEN \"country\" = 'France' THEN \"product_id\" END) AS
                        \"d\" FROM \"public\".\"sales\"",
                &["0.3333333333333333|7"],
            ),
            // Expressions of text.
            (
                "SELECT substring(\"product_id\" FROM '[0-9]+') AS \"n\", CASE WHEN 2 < 1 THEN '' ELSE
                    SPLIT_PART(\"product_id\", '-', 2) END AS \"s\",
                        CONCAT(\"country\", '/', \"product_id\") AS \"c\", REPLACE(\"country\", 'e',
                        'E') AS \"r\", LENGTH(\"country\") AS \"l\"
                 FROM \"public\".\"sales\" WHERE \"event_id\" = 3",
                &["3|3|France/product-3|FrancE|6"],
            ),
            (
                "SELECT LOG(10, 100) AS \"l\", POWER(2, 3) AS \"p\", ROUND(2.5) AS \"r\", CEIL(1.2) AS
                \"c\"",
                &["2|8|3|2"],
            ),
            // A question over a question, and a native one with a filter of the dashboard's.
            (
                "SELECT \"source\".\"country\" AS \"country\", \"source\".\"sum\" AS \"sum\" FROM
                    (SELECT \"public\".\"sales\".\"country\" AS \"country\",
                 SUM(\"public\".\"sales\".\"quantity\") AS \"sum\" FROM \"public\".\"sales\" GROUP BY
                 \"public\".\"sales\".\"country\") AS \"source\"
                 WHERE \"source\".\"sum\" > 1000 LIMIT 1048575",
                &["Kenya|1920"],
            ),
        ],
    )
    .await;
}

/// A value in the text that a server sends for it.
struct Text(String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Text(String::from_utf8(raw.to_vec())?))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

async fn prepared(client: &Client, sql: &str, types: &[Type], values: &[&(dyn ToSql + Sync)]) -> Vec<String> {
    let statement = client.prepare_typed(sql, types).await.unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
    let rows = client.query(&statement, values).await.unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
    rows.iter().map(|row| row.get::<_, Text>(0).0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_with_the_types_of_pgjdbc() {
    let server = Server::start().await;
    let client = server.connect().await;
    let by_text = "SELECT \"country\" || '/' || CAST(COUNT(*) AS TEXT) FROM \"public\".\"sales\"
                   WHERE (LOWER(\"country\") LIKE $1) AND (\"quantity\" > $2) GROUP BY \"country\"";
    let found = prepared(&client, by_text, &[Type::VARCHAR, Type::INT8], &[&"%ran%", &1_i64]).await;
    assert_eq!(found, ["France/384"]);
    let by_interval = "SELECT CAST(now() + $1 * INTERVAL '1 day' > now() AS TEXT)";
    assert_eq!(prepared(&client, by_interval, &[Type::FLOAT8], &[&2.0_f64]).await, ["true"]);
    let by_list = "SELECT \"country\" FROM \"public\".\"sales\" WHERE \"country\" IN ($1, $2) GROUP BY
        \"country\" ORDER BY 1";
    let found = prepared(&client, by_list, &[Type::VARCHAR, Type::VARCHAR], &[&"Kenya", &"Peru"]).await;
    assert_eq!(found, ["Kenya"]);
}
