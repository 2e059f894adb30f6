//! Audit finds what is wrong in a rollup, all of it and nothing else; repair mends that and nothing else.

use crate::corruption::{corrupt, replaced_since};
use crate::harness::{Desk, Home};

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, country VARCHAR, quantity BIGINT,
                        weight DOUBLE PRECISION) WITH (time_column = 'event_time');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
             count(*) AS events, sum(weight) AS weight
      FROM sales GROUP BY 1, 2, 3;
    CREATE MATERIALIZED VIEW daily WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(quantity) AS quantity, sum(events) AS events
      FROM hourly GROUP BY 1;
    CREATE MATERIALIZED VIEW weekly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 week', bucket) AS bucket, sum(quantity) AS quantity FROM daily GROUP BY 1;
    INSERT INTO sales VALUES
      ('2026-03-01 10:00:00', 'a', 'KR', 3, 0.1), ('2026-03-01 10:30:00', 'a', 'KR', 4, 0.2),
      ('2026-03-01 10:59:59', 'b', NULL, 5, 0.3), ('2026-03-01 11:00:00', 'a', 'KR', 6, NULL),
      ('2026-03-02 10:00:00', NULL, NULL, NULL, 0.4), ('2026-03-03 10:00:00', 'a \"x\"', 'DE', -7, 0.5)";
const ALL: &str = "'-infinity', 'infinity'";
const ROLLUPS: [&str; 3] = ["hourly", "daily", "weekly"];

async fn desk(home: &Home) -> Desk {
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    fold(&desk).await;
    // More partial rows than one for some buckets, and some that are not folded.
    desk.run("INSERT INTO sales VALUES ('2026-03-01 10:00:00', 'a', 'KR', 1, 0.7), ('2026-03-02 10:00:00', NULL, NULL, 1, 1)")
        .await;
    fold(&desk).await;
    desk.run("INSERT INTO sales VALUES ('2026-03-01 10:00:00', 'a', 'KR', 1, 0.7), ('2026-03-09 10:00:00', 'c', 'FR', 1, 1)")
        .await;
    for rollup in ROLLUPS {
        assert_clean(&desk, rollup, "at first").await;
    }
    desk
}

async fn fold(desk: &Desk) {
    for rollup in ROLLUPS {
        desk.run(&format!("REFRESH MATERIALIZED VIEW {rollup}")).await;
    }
}

async fn audit(desk: &Desk, rollup: &str, more: &str) -> Vec<String> {
    desk.rows(&format!(
        "SELECT bucket, keys, measure, expected, found, problem FROM audit('{rollup}', {ALL}{more})"
    ))
    .await
}

async fn assert_clean(desk: &Desk, rollup: &str, when: &str) {
    assert_eq!(audit(desk, rollup, "").await, Vec::<String>::new(), "{rollup} {when}");
    assert_eq!(
        audit(desk, rollup, ", 'source'").await,
        Vec::<String>::new(),
        "{rollup} {when}, from its source"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_is_found_and_mended_and_no_other() {
    let home = Home::new();
    let desk = desk(&home).await;
    corrupt(
        &desk,
        "hourly",
        "SELECT bucket, product_id, country, quantity + CASE WHEN product_id = 'b' THEN 100 ELSE 0 END, events, weight
         FROM stored",
    )
    .await;
    let hourly = vec![
        r#"2026-03-01T10:00:00Z,{"product_id":"b","country":null},quantity,5,105,other value"#.to_owned(),
    ];
    assert_eq!(audit(&desk, "hourly", "").await, hourly);
    assert_eq!(audit(&desk, "hourly", ", 'source'").await, hourly);
    // The days had folded the right rows before; their source is wrong now.
    assert_eq!(audit(&desk, "daily", "").await, Vec::<String>::new());
    assert_eq!(
        audit(&desk, "daily", ", 'source'").await,
        ["2026-03-01T00:00:00Z,{},quantity,120,20,other value"]
    );
    let outside = "SELECT * FROM audit('hourly', '2026-03-01 11:00:00', '2026-04-01')";
    assert_eq!(desk.rows(outside).await, Vec::<String>::new());

    let before = desk.table("hourly").await.snapshot().version;
    assert_eq!(desk.rows(&format!("CALL repair('hourly', {ALL})")).await, ["hourly,1,1,3"]);
    let hour = 1_772_359_200_000_000; // 2026-03-01 10:00
    assert_eq!(replaced_since(&desk, "hourly", before).await, [[(hour, hour + 3_600_000_000)]]);
    for rollup in ROLLUPS {
        assert_clean(&desk, rollup, "after the repair").await;
    }
    assert_eq!(desk.rows(&format!("CALL repair('hourly', {ALL})")).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_missing_or_too_many_are_found() {
    let home = Home::new();
    let desk = desk(&home).await;
    corrupt(
        &desk,
        "hourly",
        "SELECT * FROM stored WHERE product_id IS NOT NULL
         UNION ALL SELECT bucket, 'z', country, quantity, events, NULL FROM stored WHERE product_id = 'b'",
    )
    .await;
    let found = audit(&desk, "hourly", "").await;
    let lonely = |problem: &str| found.iter().filter(|line| line.ends_with(problem)).count();
    assert_eq!((lonely("missing row"), lonely("surplus row"), found.len()), (3, 3, 6), "{found:#?}");
    let missing = r#"2026-03-02T10:00:00Z,{"product_id":null,"country":null},events,2,NULL,missing row"#;
    let surplus = r#"2026-03-01T10:00:00Z,{"product_id":"z","country":null},quantity,NULL,5,surplus row"#;
    assert!(found.iter().any(|line| line == missing), "{found:#?}");
    assert!(found.iter().any(|line| line == surplus), "{found:#?}");
    desk.run(&format!("CALL repair('hourly', {ALL})")).await;
    assert_clean(&desk, "hourly", "after the repair").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doubles_are_compared_within_a_tolerance() {
    let home = Home::new();
    let desk = desk(&home).await;
    corrupt(
        &desk,
        "hourly",
        "SELECT bucket, product_id, country, quantity, events, weight * (1 + 1e-13) FROM stored",
    )
    .await;
    assert_clean(&desk, "hourly", "within the tolerance").await;
    corrupt(
        &desk,
        "hourly",
        "SELECT bucket, product_id, country, quantity, events, weight * (1 + 1e-6) FROM stored",
    )
    .await;
    let found = audit(&desk, "hourly", "").await;
    assert!(found.len() >= 3 && found.iter().all(|line| line.contains(",weight,")), "{found:#?}");
    corrupt(&desk, "hourly", "SELECT bucket, product_id, country, quantity, events, NULL FROM stored").await;
    let found = audit(&desk, "hourly", "").await;
    assert!(found.iter().any(|line| line.contains("NULL,other value")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_over_a_rollup_is_mended_without_the_one_below() {
    let home = Home::new();
    let desk = desk(&home).await;
    corrupt(&desk, "daily", "SELECT bucket, quantity, events + 1 AS events FROM stored WHERE quantity > 0")
        .await;
    let versions = |found: &[String]| found.iter().filter(|line| line.contains(",events,")).count();
    assert!(versions(&audit(&desk, "daily", "").await) >= 2);
    let hourly = desk.table("hourly").await.snapshot().version;
    desk.run(&format!("CALL repair('weekly', {ALL})")).await;
    for rollup in ROLLUPS {
        assert_clean(&desk, rollup, "after the repair").await;
    }
    assert_eq!(desk.table("hourly").await.snapshot().version, hourly, "the hours were right");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_rollups_are_audited_at_one_version() {
    let home = Home::new();
    let desk = desk(&home).await;
    let writer = tokio::spawn({
        let desk = home.desk().await;
        async move {
            for i in 0..15 {
                desk.run(&format!(
                    "INSERT INTO sales VALUES ('2026-03-0{} 10:00:00', 'n', 'KR', 1, 0.25)",
                    1 + i % 3
                ))
                .await;
                fold(&desk).await;
            }
        }
    });
    while !writer.is_finished() {
        let all =
            ROLLUPS.map(|rollup| format!("SELECT '{rollup}' AS rollup, * FROM audit('{rollup}', {ALL})"));
        assert_eq!(desk.rows(&all.join(" UNION ALL ")).await, Vec::<String>::new());
    }
    writer.await.unwrap();
}
