//! Sketches in rollups: folded, merged and cascaded they give what one pass over the events gives, within their bounds.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::corruption::corrupt;
use crate::harness::{Desk, Home};

const SCHEMA: &str = "
    CREATE TABLE clicks (click_time TIMESTAMP NOT NULL, ad_id BIGINT, country VARCHAR, user_id VARCHAR, price DECIMAL(12, 4))
      WITH (time_column = 'click_time');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', click_time) AS bucket, country,
             approx_top_k_accumulate(ad_id, 4096) AS ads,
             approx_top_k_accumulate(user_id, 32) AS some_users,
             approx_top_sum_accumulate(ad_id, price, 4096) AS revenue,
             count_min_sketch(user_id, 0.01, 0.99) AS clicks_of_user,
             hll_sketch_agg(user_id, 14) AS users,
             count(*) AS clicks
      FROM clicks GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW daily WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket,
             approx_top_k_combine(ads) AS ads,
             approx_top_k_combine(some_users) AS some_users,
             approx_top_sum_combine(revenue) AS revenue,
             count_min_combine(clicks_of_user) AS clicks_of_user,
             hll_union_agg(users) AS users,
             sum(clicks) AS clicks
      FROM hourly GROUP BY 1;";

/// Clicks of five days, most of them of the last; some are paid back.
fn insert(random: &mut StdRng, rows: usize) -> String {
    let row = |random: &mut StdRng| {
        let day = 1 + random.random_range(0..25_u32).isqrt();
        let (hour, minute) = (random.random_range(0..24), random.random_range(0..60));
        let ad = 1000 / random.random_range(1..400);
        let user = random.random_range(0..300_u32).isqrt() * random.random_range(1..5);
        let country = ["NULL", "'DE'", "'FR'"][random.random_range(0..3)];
        let price = random.random_range(-20_000..90_000_i64);
        format!(
            "('2026-03-{day:02} {hour:02}:{minute:02}:00', {ad}, {country}, 'user {user} of the network', {price} / 10000.0)"
        )
    };
    let rows: Vec<String> = (0..rows).map(|_| row(random)).collect();
    format!("INSERT INTO clicks VALUES {}", rows.join(", "))
}

/// What is exact at this size equals a pass over the events; what is not has bounds that hold.
async fn assert_right(desk: &Desk, when: &str) {
    for (rollup, bucket) in [("hourly", "hour"), ("daily", "day")] {
        let from_rollup = |ask: &str| {
            format!("SELECT bucket, {ask} FROM (SELECT bucket, {{}} AS s FROM {rollup} GROUP BY bucket)")
        };
        for (ask, merge, make) in [
            (
                "approx_top_k_estimate(s, 500)",
                "approx_top_k_combine(ads)",
                "approx_top_k_accumulate(ad_id, 4096)",
            ),
            (
                "approx_top_sum_estimate(s, 500)",
                "approx_top_sum_combine(revenue)",
                "approx_top_sum_accumulate(ad_id, price, 4096)",
            ),
            ("hll_sketch_estimate(s)", "hll_union_agg(users)", "hll_sketch_agg(user_id, 14)"),
            (
                "sha256(sketch_bytes(s))",
                "count_min_combine(clicks_of_user)",
                "count_min_sketch(user_id, 0.01, 0.99)",
            ),
        ] {
            let found = desk.rows(&from_rollup(ask).replace("{}", merge)).await;
            let expected = desk
                .rows(&format!("SELECT date_trunc('{bucket}', click_time), {ask}
                                FROM (SELECT date_trunc('{bucket}', click_time) AS click_time, {make} AS s FROM clicks GROUP BY 1)"))
                .await;
            assert_eq!(found, expected, "{rollup}: {ask} {when}");
        }
        let outside = format!(
            "SELECT count(*) FROM (
               SELECT date_trunc('{bucket}', click_time) AS b, user_id AS u, count(*) AS n FROM clicks GROUP BY 1, 2)
             JOIN (SELECT bucket, unnest(approx_top_k_estimate(s, 20)) AS t
                   FROM (SELECT bucket, approx_top_k_combine(some_users) AS s FROM {rollup} GROUP BY bucket))
             ON b = bucket AND u = t['item'] WHERE n < t['lower'] OR n > t['upper']"
        );
        assert_eq!(desk.value(&outside).await, "0", "{rollup}: bounds {when}");
        let audit = format!("SELECT * FROM audit('{rollup}', '-infinity', 'infinity')");
        assert_eq!(desk.rows(&audit).await, Vec::<String>::new(), "{rollup} {when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sketches_roll_up_like_sums() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let mut random = StdRng::seed_from_u64(17);
    for round in 0..4 {
        desk.run(&insert(&mut random, 700)).await;
        assert_right(&desk, &format!("before refresh {round}")).await;
        desk.run("REFRESH MATERIALIZED VIEW hourly").await;
        if round % 2 == 1 {
            desk.run("REFRESH MATERIALIZED VIEW daily").await;
        }
        assert_right(&desk, &format!("after refresh {round}")).await;
    }
    // A process that knows nothing but what is stored.
    assert_right(&home.desk().await, "to another process").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_over_a_sketch_has_to_merge_it() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let wrong = "CREATE MATERIALIZED VIEW w WITH (refresh_mode = 'incremental') AS
                 SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, max(users) AS users FROM hourly GROUP BY 1";
    let error = desk.try_run(wrong).await.unwrap_err().to_string();
    assert!(error.contains("must use hll_union_agg(users)"), "{error}");
}

/// A sketch of other rows is found, and mended.
#[tokio::test(flavor = "multi_thread")]
async fn audit_finds_a_wrong_sketch() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let mut random = StdRng::seed_from_u64(23);
    desk.run(&insert(&mut random, 900)).await;
    desk.run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await;
    // Each day gets the sketches of the first one.
    let first = ["ads", "some_users", "revenue", "clicks_of_user", "users"]
        .map(|sketch| format!("first_value({sketch}) OVER (ORDER BY bucket) AS {sketch}"));
    corrupt(&desk, "daily", &format!("SELECT bucket, {}, clicks FROM stored", first.join(", "))).await;
    let audit = "SELECT DISTINCT measure FROM audit('daily', '-infinity', 'infinity')";
    assert_eq!(desk.rows(audit).await, ["ads", "clicks_of_user", "revenue", "some_users", "users"]);
    desk.run("CALL repair('daily', '-infinity', 'infinity')").await;
    assert_right(&desk, "after repair").await;
}
