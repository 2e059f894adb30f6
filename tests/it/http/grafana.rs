//! The SQL of each panel and variable in `examples/grafana` runs.

use serde_json::Value;

use crate::harness::Home;

/// Everything that is sent as SQL, with what it is for.
fn queries(value: &Value, title: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            let title = object.get("title").or(object.get("name")).and_then(Value::as_str).unwrap_or(title);
            if let Some(sql) = object.get("rawSql").and_then(Value::as_str) {
                found.push((title.to_owned(), sql.to_owned()));
            }
            // A variable's query is a text.
            let is_variable = object.get("type").and_then(Value::as_str) == Some("query");
            if let (true, Some(sql)) = (is_variable, object.get("query").and_then(Value::as_str)) {
                found.push((title.to_owned(), sql.to_owned()));
            }
            object.values().for_each(|value| queries(value, title, found));
        }
        Value::Array(items) => items.iter().for_each(|value| queries(value, title, found)),
        _ => {}
    }
}

/// The query as Grafana sends it.
fn expanded(sql: &str) -> String {
    const FROM: &str = "'2026-02-28T00:00:00Z'";
    const TO: &str = "'2026-03-02T00:00:00Z'";
    let mut sql = sql.to_owned();
    while let Some(at) = sql.find("$__timeFilter(") {
        let end = at + sql[at..].find(')').unwrap();
        let column = sql[at + "$__timeFilter(".len()..end].to_owned();
        sql.replace_range(at..=end, &format!("{column} BETWEEN {FROM} AND {TO}"));
    }
    while let Some(at) = sql.find("$__timeGroup(") {
        let end = at + sql[at..].find(')').unwrap();
        let (column, width) = sql[at + "$__timeGroup(".len()..end].split_once(',').unwrap();
        let width = match width.trim().trim_matches('\'') {
            "1m" => "1 minute",
            "1h" => "1 hour",
            "1d" => "1 day",
            other => panic!("a group of {other}"),
        };
        let group = format!("time_bucket(INTERVAL '{width}', {column})");
        sql.replace_range(at..=end, &group);
    }
    sql.replace("$__timeFrom()", FROM)
        .replace("$__timeTo()", TO)
        .replace("${country:sqlstring}", "'FR','DE'")
        .replace("${product:sqlstring}", "'a'")
        .replace("'$product'", "'a'")
        .replace("'$period'", "'day'")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboards_runs() {
    let home = Home::new();
    let desk = home.desk().await;
    let root = env!("CARGO_MANIFEST_DIR");
    for file in [
        "sales/schema",
        "sales/rollups",
        "sales/views",
        "ad_clicks/schema",
        "ad_clicks/rollups",
        "ad_clicks/views",
    ] {
        desk.run(&std::fs::read_to_string(format!("{root}/sql/{file}.sql")).unwrap()).await;
    }
    desk.run(
        "INSERT INTO sales (event_id, event_time, product_id, quantity, unit_price, country)
           VALUES (1, '2026-03-01 10:00:00', 'a', 2, 1.5, 'FR'), (2, '2026-03-01 11:00:00', 'b', 3, 2, 'DE');
         INSERT INTO ad_clicks VALUES (7, '2026-03-01 10:00:00', 1, '192.0.2.1', 'FR');
         REFRESH MATERIALIZED VIEW top_1000; REFRESH MATERIALIZED VIEW popular_ads",
    )
    .await;
    let mut answered = 0;
    for dashboard in ["business", "pipeline"] {
        let path = format!("{root}/examples/grafana/dashboards/{dashboard}.json");
        let text = std::fs::read_to_string(path).unwrap();
        let mut all = vec![];
        queries(&serde_json::from_str(&text).unwrap(), dashboard, &mut all);
        assert!(all.len() >= 8, "{dashboard} has {} queries", all.len());
        for (title, sql) in all {
            let sql = expanded(&sql);
            assert!(!sql.contains("$__") && !sql.contains("${"), "{title}: {sql}");
            let rows =
                desk.try_run(&sql).await.unwrap_or_else(|e| panic!("{dashboard}, {title}: {e}\n{sql}"));
            answered += usize::from(rows.iter().any(|batch| batch.num_rows() > 0));
        }
    }
    assert!(answered >= 15, "{answered} queries found something");
}
