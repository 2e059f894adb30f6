//! Sales at random, the table that they go to, and the rollups over it with what each has to say.

use std::sync::Arc;

use datafusion::arrow::array::{
    Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::SchemaRef;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

pub(super) const SCHEMA: &str =
    "CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR,
    country VARCHAR, quantity BIGINT, amount DECIMAL(18, 4)) WITH (time_column = 'event_time')";

/// Each rollup: what creates it, and the same over the raw events.
pub(super) const ROLLUPS: [(&str, &str, &str); 4] = [
    (
        "hourly",
        "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
            count(*) AS events, count(amount) AS paid, sum(amount) AS amount, min(quantity) AS least,
            max(event_time) AS last FROM sales WHERE country <> 'XX' OR country IS NULL GROUP BY 1, 2, 3",
        "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
            count(*) AS events, count(amount) AS paid, sum(amount) AS amount, min(quantity) AS least,
            max(event_time) AS last FROM truth WHERE country <> 'XX' OR country IS NULL GROUP BY 1, 2, 3",
    ),
    (
        "daily",
        "SELECT time_bucket(INTERVAL '1 day', bucket, 'Europe/Berlin') AS day, product_id, sum(quantity) AS quantity,
            sum(events) AS events, sum(amount) AS amount, min(least) AS least, max(last) AS last
            FROM hourly WHERE country <> 'YY' OR country IS NULL GROUP BY 1, 2",
        "SELECT time_bucket(INTERVAL '1 day', event_time, 'Europe/Berlin') AS day, product_id, sum(quantity) AS quantity,
            count(*) AS events, sum(amount) AS amount, min(quantity) AS least, max(event_time) AS last
            FROM truth WHERE country NOT IN ('XX', 'YY') OR country IS NULL GROUP BY 1, 2",
    ),
    (
        "monthly",
        "SELECT time_bucket(INTERVAL '1 month', day, 'Europe/Berlin') AS month, sum(quantity) AS quantity,
            sum(events) AS events, sum(amount) AS amount FROM daily GROUP BY 1",
        "SELECT time_bucket(INTERVAL '1 month', event_time, 'Europe/Berlin') AS month, sum(quantity) AS quantity,
            count(*) AS events, sum(amount) AS amount
            FROM truth WHERE country NOT IN ('XX', 'YY') OR country IS NULL GROUP BY 1",
    ),
    (
        "minutely",
        "SELECT time_bucket(INTERVAL '7 minutes', event_time) AS bucket, count(*) AS events FROM sales GROUP BY 1",
        "SELECT time_bucket(INTERVAL '7 minutes', event_time) AS bucket, count(*) AS events FROM truth GROUP BY 1",
    ),
];

/// Measures that the rollup by weeks may have besides its own: its definition is replaced again and again.
pub(super) const MORE: [&str; 3] =
    ["", ", max(event_time) AS last", ", max(event_time) AS last, min(quantity) AS least"];

/// The rollup by weeks.
pub(super) fn weekly(source: &str, more: usize) -> String {
    let more = MORE[more];
    format!(
        "SELECT date_trunc('week', event_time) AS week, country, count(quantity) AS counted, sum(quantity) AS quantity{more}
         FROM {source} GROUP BY 1, 2"
    )
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: i64,
    pub(super) time: i64,
    pub(super) product: Option<&'static str>,
    pub(super) country: Option<&'static str>,
    pub(super) quantity: Option<i64>,
    pub(super) amount: Option<i128>,
}

/// Several days around both changes of the clock in Berlin in 2026, in microseconds.
pub(super) fn random_time(random: &mut StdRng) -> i64 {
    let spring = 1_774_656_000_000_000_i64; // 2026-03-28
    let autumn = 1_792_800_000_000_000_i64; // 2026-10-24
    let base = *[spring, spring, autumn].choose(random).unwrap();
    // Often the same instants, often a bucket's edge.
    match random.random_range(0..4) {
        0 => base + random.random_range(0..72) * 3_600_000_000,
        1 => base + random.random_range(0..72) * 3_600_000_000 - 1,
        _ => base + random.random_range(0..72 * 3_600_000_000),
    }
}

pub(super) fn random_event(random: &mut StdRng, id: i64) -> Event {
    let refund = random.random_bool(0.1);
    let quantity = random.random_range(1..5) * if refund { -1 } else { 1 };
    Event {
        id,
        time: random_time(random),
        product: *[Some("a"), Some("b"), Some("c"), None].choose(random).unwrap(),
        country: *[Some("KR"), Some("XX"), Some("YY"), None].choose(random).unwrap(),
        quantity: random.random_bool(0.9).then_some(quantity),
        amount: random.random_bool(0.9).then_some(i128::from(quantity) * random.random_range(1..1_000_000)),
    }
}

pub(super) fn batch(schema: &SchemaRef, events: &[Event]) -> RecordBatch {
    let amounts: Decimal128Array = events.iter().map(|e| e.amount).collect();
    RecordBatch::try_new(
        Arc::clone(schema),
        vec![
            Arc::new(events.iter().map(|e| Some(e.id)).collect::<Int64Array>()),
            Arc::new(events.iter().map(|e| Some(e.time)).collect::<TimestampMicrosecondArray>()),
            Arc::new(events.iter().map(|e| e.product).collect::<StringViewArray>()),
            Arc::new(events.iter().map(|e| e.country).collect::<StringViewArray>()),
            Arc::new(events.iter().map(|e| e.quantity).collect::<Int64Array>()),
            Arc::new(amounts.with_precision_and_scale(18, 4).unwrap()),
        ],
    )
    .unwrap()
}
