//! Tableau: what it writes for a worksheet over a table.

use super::{Server, check};

#[tokio::test(flavor = "multi_thread")]
async fn worksheets() {
    let server = Server::start().await;
    let client = server.connect().await;
    check(
        &client,
        &[
            (
                "SELECT \"sales\".\"country\" AS \"country\", SUM(\"sales\".\"quantity\") AS
                    \"sum:quantity:ok\"
                 FROM \"public\".\"sales\" \"sales\" GROUP BY 1 ORDER BY 1",
                &["France|960", "Kenya|1920"],
            ),
            (
                "SELECT CAST(TRUNC(EXTRACT(YEAR FROM \"sales\".\"event_time\")) AS INTEGER) AS
                    \"yr:event_time:ok\",
                        CAST(TRUNC(EXTRACT(QUARTER FROM \"sales\".\"event_time\")) AS INTEGER) AS
                        \"qr:event_time:ok\"
                 FROM \"public\".\"sales\" \"sales\" GROUP BY 1, 2",
                &["2026|1"],
            ),
            (
                "SELECT DATE_TRUNC('MONTH', CAST(\"sales\".\"event_time\" AS TIMESTAMP)) AS
                    \"tmn:event_time:ok\",
                        COUNT(DISTINCT \"sales\".\"product_id\") AS \"ctd:product_id:ok\"
                 FROM \"public\".\"sales\" \"sales\" GROUP BY 1",
                &["2026-01-01 00:00:00|7"],
            ),
            // Week of the year.
            (
                "SELECT CAST(FLOOR((7 + CAST(TRUNC(EXTRACT(DOY FROM \"event_time\")) AS INTEGER) - 1
                        + CAST(TRUNC(EXTRACT(DOW FROM DATE_TRUNC('YEAR', \"event_time\"))) AS INTEGER))
                        / 7) AS INTEGER) AS \"wk:event_time:ok\"
                 FROM \"public\".\"sales\" \"sales\" GROUP BY 1",
                &["5"],
            ),
            // The range of a filter, and whether there is anything at all.
            (
                "SELECT MIN(\"sales\".\"event_time\") AS \"TEMP(min)\", MAX(\"sales\".\"event_time\") AS
                    \"TEMP(max)\", COUNT(1) AS \"n\"
                 FROM \"public\".\"sales\" \"sales\" HAVING (COUNT(1) > 0)",
                &["2026-01-29 00:00:00|2026-01-30 23:59:00|2880"],
            ),
            (
                "SELECT COUNT(1) AS \"n\" FROM \"public\".\"sales\" \"sales\"
                 WHERE ((\"sales\".\"event_time\" >= (TIMESTAMP '2026-01-30 00:00:00.000')) AND
                 (\"sales\".\"event_time\" <= (TIMESTAMP '2026-01-30 23:59:59.000')))",
                &["1440"],
            ),
            ("SELECT * FROM (SELECT country FROM sales) \"Custom SQL Query\" LIMIT 0", &[]),
            (
                "SELECT \"sales\".\"country\" AS c FROM \"public\".\"sales\" \"sales\" ORDER BY 1 FETCH
                FIRST 1 ROWS ONLY",
                &["France"],
            ),
        ],
    )
    .await;
    // It goes on with sub-queries where it may not make these.
    let temporary =
        "CREATE LOCAL TEMPORARY TABLE \"#Tableau_1_Connect\" (\"COL\" INTEGER) ON COMMIT PRESERVE ROWS";
    assert!(client.simple_query(temporary).await.is_err());
    check(&client, &[("SELECT 1 AS \"ONE\"", &["1"])]).await;
}
