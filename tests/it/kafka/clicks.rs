//! The events of these tests, each known by its number, and what has to come of them.

use std::collections::BTreeMap;

use chrono::DateTime;

/// With sums, so that of two wrong events one cannot stand for the other.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE clicks (event_id BIGINT, ad_id BIGINT, click_time TIMESTAMP NOT NULL, country VARCHAR)
      WITH (time_column = 'click_time');
    CREATE MATERIALIZED VIEW clicks_minutely WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 minute', click_time) AS bucket, ad_id, count(*) AS clicks, sum(event_id) AS ids
      FROM clicks GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW clicks_hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket, sum(clicks) AS clicks, sum(ids) AS ids
      FROM clicks_minutely GROUP BY 1;";

pub(crate) const RAW: &str =
    "SELECT count(*), count(DISTINCT event_id), coalesce(sum(event_id), 0) FROM clicks";
pub(crate) const MINUTES: &str = "SELECT bucket, ad_id, clicks, ids FROM clicks_minutely";
pub(crate) const HOURS: &str = "SELECT bucket, clicks, ids FROM clicks_hourly";

/// 2026-03-01 10:00.
const START: i64 = 1_772_359_200_000;

/// A click's ad; each ad is in all partitions, as numbers go round them.
fn ad(id: i64) -> i64 {
    id / 16 % 13
}

/// Milliseconds; about 27 a second, and up to two minutes out of order.
fn time(id: i64) -> i64 {
    START + id * 37 + id * 7919 % 120_000
}

fn text(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).unwrap().format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

/// A click as a message.
pub(crate) fn message(id: i64) -> String {
    message_from(id, ["DE", "FR", "IN"][(id % 3) as usize])
}

/// The same with a country of one's own.
pub(crate) fn message_from(id: i64, country: &str) -> String {
    let (ad, time) = (ad(id), text(time(id)));
    format!(r#"{{"event_id":{id},"ad_id":{ad},"click_time":"{time}Z","country":"{country}"}}"#)
}

/// What the queries above give, in the form of `Desk::rows`.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) raw: Vec<String>,
    pub(crate) minutes: Vec<String>,
    pub(crate) hours: Vec<String>,
}

/// What they have to give if these clicks are counted, each as often as it is named.
pub(crate) fn expected(ids: impl IntoIterator<Item = i64>) -> Answers {
    let (mut all, mut distinct) = ((0, 0), std::collections::HashSet::new());
    let (mut minutes, mut hours) = (BTreeMap::new(), BTreeMap::new());
    for id in ids {
        let time = time(id);
        let hour = hours.entry(time - time % 3_600_000).or_insert((0, 0));
        let minute = minutes.entry((time - time % 60_000, ad(id))).or_insert((0, 0));
        for (clicks, ids) in [&mut all, hour, minute] {
            *clicks += 1;
            *ids += id;
        }
        distinct.insert(id);
    }
    let bucket = |millis: i64| DateTime::from_timestamp_millis(millis).unwrap().format("%Y-%m-%dT%H:%M:%S");
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    let minute =
        |((time, ad), (n, ids)): (&(i64, i64), &(i64, i64))| format!("{},{ad},{n},{ids}", bucket(*time));
    Answers {
        raw: vec![format!("{},{},{}", all.0, distinct.len(), all.1)],
        minutes: sorted(minutes.iter().map(minute).collect()),
        hours: sorted(hours.iter().map(|(time, (n, ids))| format!("{},{n},{ids}", bucket(*time))).collect()),
    }
}
