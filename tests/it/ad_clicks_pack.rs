//! `sql/ad_clicks`: every file runs, any number of times, and its answers are those of the clicks themselves.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Desk, Home};

const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/ad_clicks");

async fn run(desk: &Desk, file: &str) {
    desk.run(&std::fs::read_to_string(Path::new(PACK).join(file)).unwrap()).await;
}

async fn run_jobs(desk: &Desk) {
    let mut jobs: Vec<_> =
        std::fs::read_dir(Path::new(PACK).join("jobs")).unwrap().map(|e| e.unwrap().path()).collect();
    jobs.sort();
    assert!(jobs.len() >= 4);
    for job in jobs {
        let sql = std::fs::read_to_string(&job).unwrap().replace(":'day'", "'2026-11-21'");
        let rows = desk.rows(&sql).await;
        assert!(!job.ends_with("audit_daily.sql") || rows.is_empty(), "{rows:?}");
    }
}

/// Clicks of two hours that end at 12:00, most of them lately.
fn insert(random: &mut StdRng, rows: usize) -> String {
    let rows = (0..rows).map(|_| {
        let ago = random.random_range(0..10_000_u32).isqrt() * random.random_range(1..72);
        let (hour, minute, second) = (11 - ago / 3600, 59 - ago / 60 % 60, 59 - ago % 60);
        let ad = 300 / random.random_range(1..60);
        let (user, country) =
            (random.random_range(0..500), ["'DE'", "'FR'", "NULL"][random.random_range(0..3)]);
        format!(
            "({ad}, '2026-11-21 {hour:02}:{minute:02}:{second:02}', {user}, '10.0.0.{}', {country})",
            user % 256
        )
    });
    format!("INSERT INTO ad_clicks VALUES {}", rows.collect::<Vec<_>>().join(", "))
}

async fn assert_same(desk: &Desk, found: &str, expected: &str, when: &str) {
    let expected = desk.rows(expected).await;
    assert!(!expected.is_empty(), "{when}: {found}");
    assert_eq!(desk.rows(found).await, expected, "{when}: {found}");
}

async fn assert_right(desk: &Desk, when: &str) {
    for minutes in [1, 5, 15, 60] {
        let found = format!("SELECT rank, ad_id, clicks FROM popular_ads WHERE minutes = {minutes}");
        let expected = format!(
            "SELECT * FROM (SELECT rank() OVER (ORDER BY n DESC) AS rank, ad_id, n FROM (
               SELECT ad_id, count(*) AS n FROM ad_clicks
               WHERE date_trunc('minute', click_time) >
                     (SELECT date_trunc('minute', max(click_time)) - INTERVAL '{minutes} minutes' FROM ad_clicks)
               GROUP BY ad_id)) WHERE rank <= 100"
        );
        assert_same(desk, &found, &expected, when).await;
    }
    let of_filter = "SELECT filter_id, ad_id, sum(clicks) FROM clicks_by_filter WHERE bucket >= '2026-11-21 11:30:00' GROUP BY 1, 2";
    let from_clicks = "SELECT filter_id, ad_id, count(*) FROM ad_clicks AS c JOIN filters AS f ON f.country IS NULL OR f.country = c.country
                       WHERE click_time >= '2026-11-21 11:30:00' GROUP BY 1, 2";
    assert_same(desk, of_filter, from_clicks, when).await;
    let one_ad = "SELECT sum(clicks) FROM ad_clicks_minutely
                  WHERE ad_id = 300 AND bucket > last_event_time('ad_clicks') - INTERVAL '5 minutes'";
    let counted = "SELECT count(*) FROM ad_clicks WHERE ad_id = 300 AND date_trunc('minute', click_time) >
                     (SELECT max(click_time) - INTERVAL '5 minutes' FROM ad_clicks)";
    assert_same(desk, one_ad, counted, when).await;
    let outside = "SELECT count(*) FROM ad_reach JOIN
                     (SELECT date_trunc('day', click_time) AS b, ad_id AS a, count(DISTINCT user_id) AS n FROM ad_clicks GROUP BY 1, 2)
                   ON b = bucket AND a = ad_id WHERE abs(users - n) > 1 + n * 0.12";
    assert_eq!(desk.value(outside).await, "0", "{when}: reach");
    let first = "SELECT bucket, ad_id, clicks FROM top_ads_over_time WHERE clicks > 4";
    let counted = "SELECT date_trunc('minute', click_time), ad_id, count(*) AS n FROM ad_clicks GROUP BY 1, 2 HAVING count(*) > 4";
    assert_same(desk, first, counted, when).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_answers_are_those_of_the_clicks() {
    let home = Home::new();
    let desk = home.desk().await;
    for _ in 0..2 {
        for file in ["schema.sql", "rollups.sql", "views.sql"] {
            run(&desk, file).await;
        }
    }
    desk.run("INSERT INTO filters VALUES (1, 'all', NULL), (2, 'Germany', 'DE')").await;
    let mut random = StdRng::seed_from_u64(3);
    for round in 0..3 {
        desk.run(&insert(&mut random, 1500)).await;
        desk.run("REFRESH MATERIALIZED VIEW popular_ads").await;
        assert_right(&desk, &format!("round {round}, before the jobs")).await;
        run_jobs(&desk).await;
        assert_right(&desk, &format!("round {round}, after the jobs")).await;
    }
    // A new filter works on old clicks.
    desk.run("INSERT INTO filters VALUES (3, 'France', 'FR')").await;
    assert_right(&desk, "with a new filter").await;
}
