//! Random queries over random data mean the same with and without each of our rules: while events are appended and not
//! folded, deleted, refunded, expired, and while rollups learn new measures.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};

use super::without;
use crate::harness::{Desk, Home};

/// Measures that the rollup by hours may have besides its own.
const MORE: [&str; 2] = ["", ", min(quantity) AS least, count(amount) AS paid"];

fn hourly(more: usize) -> String {
    let more = MORE[more];
    format!(
        "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
             count(*) AS events, max(event_time) AS last, sum(weight) AS weight{more}
           FROM sales GROUP BY 1, 2, 3"
    )
}

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR NOT NULL, country VARCHAR, quantity BIGINT,
                        amount DECIMAL(18, 4), weight DOUBLE) WITH (time_column = 'event_time')";
/// One product has two names, one has none, and one is not there.
const NAMES: &str = "CREATE TABLE names (product_id VARCHAR, name VARCHAR);
    INSERT INTO names VALUES ('a', 'apple'), ('a', 'Apfel'), ('b', NULL), ('x', 'xylophone')";
const DAILY: &str = "
    CREATE MATERIALIZED VIEW daily AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, sum(quantity) AS quantity, sum(events) AS events,
        max(last) AS last FROM hourly GROUP BY 1, 2";
const SOLD: &str = "
    CREATE MATERIALIZED VIEW sold AS
      SELECT time_bucket(INTERVAL '1 day', event_time, 'Europe/Berlin') AS bucket, country, product_id,
        sum(quantity) AS quantity, sum(amount) AS amount, count(amount) AS paid
      FROM sales WHERE quantity > 0 GROUP BY 1, 2, 3";

/// Three days around a change of the clock in Berlin, often on the edge of an hour.
fn time(random: &mut StdRng) -> String {
    let edge = random.random_range(0..72 * 4) * 900;
    let seconds = if random.random_bool(0.5) { edge } else { random.random_range(0..72 * 3600) };
    let at = chrono::DateTime::from_timestamp(1_774_656_000 + seconds, 0).unwrap();
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn one_of(random: &mut StdRng, from: &[&'static str]) -> &'static str {
    from.choose(random).unwrap()
}

fn some_of(random: &mut StdRng, from: &[&str], most: usize) -> Vec<String> {
    let count = random.random_range(0..=most);
    from.iter().choose_multiple(random, count).into_iter().map(|s| (*s).to_owned()).collect()
}

fn event(random: &mut StdRng) -> String {
    let product = one_of(random, &["'a'", "'b'", "'c'"]);
    let country = one_of(random, &["'DE'", "'FR'", "NULL"]);
    let quantity = one_of(random, &["1", "2", "3", "-1", "NULL"]);
    let amount = one_of(random, &["1.5", "0.0001", "123456.7", "-1.5", "NULL"]);
    let weight = one_of(random, &["0.25", "1.5", "NULL"]);
    format!("('{}', {product}, {country}, {quantity}, {amount}, {weight})", time(random))
}

async fn step(random: &mut StdRng, desk: &Desk) {
    let rollup = one_of(random, &["hourly", "daily", "sold"]);
    let sql = match random.random_range(0..20) {
        0..7 => {
            let rows: Vec<String> = (0..random.random_range(1..20)).map(|_| event(random)).collect();
            format!("INSERT INTO sales VALUES {}", rows.join(", "))
        }
        7..14 => format!("REFRESH MATERIALIZED VIEW {rollup}"),
        14..16 => {
            let since = desk.table("sales").await.snapshot().expired_through().unwrap_or(0);
            let product = one_of(random, &["'a'", "'b'", "'c'"]);
            format!(
                "DELETE FROM sales WHERE product_id = {product} AND event_time < '{}'
                   AND event_time >= to_timestamp_micros({since})",
                time(random)
            )
        }
        16..18 => hourly(random.random_range(0..2)),
        18 => format!("CALL compact('{rollup}')"),
        _ => format!("CALL expire('sales', '{} hours')", random.random_range(12..96)),
    };
    desk.run(&sql).await;
}

/// The conditions of a query.
fn conditions(random: &mut StdRng, time_column: &str, others: &[&str]) -> String {
    let mut all = some_of(random, others, 2);
    if random.random_bool(0.4) {
        let (from, to) = (time(random), time(random));
        // Midnights and full hours are what people ask for.
        let cut = |t: &str| t[..if t.contains("0:") { 10 } else { 13 }].to_owned();
        let from = if random.random_bool(0.8) { at(&cut(&from)) } else { from };
        all.push(format!("{time_column} >= '{from}'"));
        if random.random_bool(0.5) {
            all.push(format!("{time_column} < '{}'", at(&cut(&to))));
        }
    }
    if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
}

/// A day, or a day and an hour, as a timestamp.
fn at(text: &str) -> String {
    if text.len() == 10 { format!("{text} 00:00:00") } else { format!("{text}:00:00") }
}

fn aggregation(groups: &[String], aggregates: &[String], from: &str, conditions: &str) -> String {
    let columns: Vec<String> =
        groups.iter().chain(aggregates).enumerate().map(|(i, e)| format!("{e} AS c{i}")).collect();
    let columns = if columns.is_empty() { "count(*) AS c0".to_owned() } else { columns.join(", ") };
    let by: Vec<String> = (1..=groups.len()).map(|i| i.to_string()).collect();
    let by = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
    format!("SELECT {columns} FROM {from}{conditions}{by}")
}

fn over_events(random: &mut StdRng) -> String {
    let groups = some_of(
        random,
        &[
            "time_bucket(INTERVAL '1 hour', event_time)",
            "time_bucket(INTERVAL '1 day', event_time)",
            "date_trunc('month', event_time)",
            "time_bucket(INTERVAL '1 day', event_time, 'Europe/Berlin')",
            "product_id",
            "upper(country)",
            "country",
        ],
        2,
    );
    let mut aggregates = some_of(
        random,
        &[
            "sum(quantity)",
            "count(*)",
            "sum(amount)",
            "count(amount)",
            "max(event_time)",
            "max(product_id)",
            "min(quantity)",
            "count(*) FILTER (WHERE country = 'DE')",
            "sum(quantity) FILTER (WHERE product_id <> 'a')",
        ],
        3,
    );
    if random.random_bool(0.2) {
        aggregates.extend(some_of(
            random,
            &["avg(quantity)", "sum(weight)", "count(DISTINCT product_id)"],
            1,
        ));
    }
    let mut filters = conditions(
        random,
        "event_time",
        &["country = 'DE'", "product_id IN ('a', 'b')", "country IS NULL", "country <> 'FR'", "quantity > 0"],
    );
    if random.random_bool(0.1) {
        filters = " WHERE event_time < '2000-01-01'".to_owned();
    }
    aggregation(&groups, &aggregates, "sales", &filters)
}

fn over_rollups(random: &mut StdRng) -> String {
    let groups = some_of(
        random,
        &["bucket", "time_bucket(INTERVAL '1 day', bucket)", "product_id", "upper(product_id)"],
        2,
    );
    let mut aggregates = some_of(
        random,
        &[
            "sum(quantity)",
            "sum(events)",
            "max(last)",
            "max(bucket)",
            "sum(quantity) FILTER (WHERE product_id = 'a')",
        ],
        3,
    );
    if random.random_bool(0.3) {
        aggregates.extend(some_of(
            random,
            &[
                "count(*)",
                "max(quantity)",
                "avg(quantity)",
                "sum(quantity) FILTER (WHERE events > 1)",
                "count(quantity)",
            ],
            1,
        ));
    }
    let filters = conditions(random, "bucket", &["product_id = 'a'", "product_id <> 'b'"]);
    let measure = if random.random_bool(0.15) { " WHERE quantity > 1" } else { "" };
    let from = match random.random_range(0..7) {
        0 => "hourly".to_owned(),
        1 => "daily".to_owned(),
        join @ 2..5 => {
            let kind = one_of(random, &["JOIN", "LEFT JOIN", "RIGHT JOIN"]);
            let (left, right) = if join == 2 { ("daily", "names") } else { ("names", "hourly") };
            let (left, right) = if join == 4 { ("hourly", "daily") } else { (left, right) };
            format!(
                "(SELECT l.product_id, bucket, quantity, events, last FROM
                    (SELECT * FROM {left}) AS l {kind} (SELECT product_id AS other{} FROM {right}) AS r
                    ON l.product_id = r.other) AS j",
                if left == "names" { ", bucket, quantity, events, last" } else { "" }
            )
        }
        5 => format!("(SELECT bucket, product_id, quantity, events, last FROM hourly{measure}) AS h"),
        _ => format!(
            "(SELECT bucket, product_id, quantity, events, last FROM hourly{measure}
              UNION ALL SELECT bucket, product_id, quantity, events, last FROM daily) AS b"
        ),
    };
    aggregation(&groups, &aggregates, &from, &filters)
}

/// The new measures, while they are known here and there.
fn over_new_measures(random: &mut StdRng) -> String {
    let groups = some_of(random, &["bucket", "product_id"], 2);
    aggregation(&groups, &["sum(paid)".to_owned(), "min(least)".to_owned()], "hourly", "")
}

/// How often each rule had a say.
#[derive(Default)]
struct Said {
    from_rollups: usize,
    unmerged: usize,
    queries: usize,
}

async fn check(random: &mut StdRng, desks: &[Desk; 3], said: &mut Said, seed: u64) {
    let [plain, rewriting, merging] = desks;
    for _ in 0..4 {
        let knows = plain.rollup("hourly").await.definition.schema().index_of("paid").is_ok();
        let sql = match random.random_range(0..10) {
            0..5 => over_events(random),
            5 if knows => over_new_measures(random),
            _ => over_rollups(random),
        };
        let wanted = merging.rows(&sql).await;
        assert_eq!(plain.rows(&sql).await, wanted, "seed {seed}, partial rows: {sql}");
        assert_eq!(rewriting.rows(&sql).await, wanted, "seed {seed}, from a rollup: {sql}");
        let explain = format!("EXPLAIN {sql}");
        said.queries += 1;
        said.unmerged += usize::from(plain.rows(&explain).await != merging.rows(&explain).await);
        said.from_rollups += usize::from(rewriting.rows(&explain).await != plain.rows(&explain).await);
    }
}

/// `TOPLAKE_OPTIMIZER_SEEDS` raises the number of runs.
#[test]
fn a_query_means_the_same_with_and_without_a_rule() {
    let seeds = std::env::var("TOPLAKE_OPTIMIZER_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let first = std::env::var("TOPLAKE_OPTIMIZER_FIRST").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut said = Said::default();
    for seed in first..first + seeds {
        let home = Home::new();
        runtime.block_on(async {
            let mut random = StdRng::seed_from_u64(seed);
            let plain = home.desk().await;
            plain.run(&format!("{SCHEMA}; {NAMES}; {}; {DAILY}; {SOLD}", hourly(0))).await;
            let merging = without(&plain, "drop_merge").await;
            let rewriting = Desk {
                engine: plain.engine.clone(),
                session: toplake::statement::Session::new(
                    plain.engine.context(),
                    plain.session.warehouse().clone(),
                ),
            };
            rewriting.run("SET toplake.rewrite = on").await;
            plain.run(super::TWO_PARTITIONS).await;
            rewriting.run(super::TWO_PARTITIONS).await;
            let desks = [plain, rewriting, merging];
            for _ in 0..10 {
                step(&mut random, &desks[0]).await;
                step(&mut random, &desks[0]).await;
                check(&mut random, &desks, &mut said, seed).await;
            }
        });
    }
    assert!(said.from_rollups * 10 > said.queries, "{} of {} from rollups", said.from_rollups, said.queries);
    assert!(said.unmerged * 10 > said.queries, "{} of {} not merged", said.unmerged, said.queries);
}
