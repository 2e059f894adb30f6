//! Clicks as an ad system sends them, keyed by the person who clicked.

use std::io::Write;

use chrono::DateTime;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE ad_clicks (ad_id BIGINT, click_time TIMESTAMP NOT NULL, user_id BIGINT, ip VARCHAR, country VARCHAR)
      WITH (time_column = 'click_time', allowed_lateness = '5 minutes', max_future = '1 hour');
    CREATE MATERIALIZED VIEW ad_clicks_minutely AS
      SELECT time_bucket(INTERVAL '1 minute', click_time) AS bucket, country, ad_id, count(*) AS clicks
      FROM ad_clicks GROUP BY 1, 2, 3";

/// Makes messages, one after the other into the same buffer.
pub(crate) struct Clicks {
    random: StdRng,
    message: Vec<u8>,
    /// The second that `prefix` spells.
    second: i64,
    prefix: String,
    partitions: u64,
    /// Text that nobody asks for, of which a message has as much as makes it `bytes` long.
    filling: String,
    bytes: usize,
}

/// Characters of the filling, and the most that a message has of it.
const FILLING: usize = 1 << 16;

impl Clicks {
    pub(crate) fn new(partitions: i32, bytes: usize) -> Self {
        let mut random = StdRng::seed_from_u64(5);
        Clicks {
            filling: (0..2 * FILLING).map(|_| char::from(b'a' + random.random_range(0..26))).collect(),
            bytes,
            random: StdRng::seed_from_u64(5),
            message: vec![],
            second: i64::MIN,
            prefix: String::new(),
            partitions: partitions as u64,
        }
    }

    /// The click of a moment, in microseconds, by somebody of a partition: user_id modulo the number of partitions.
    pub(crate) fn message(&mut self, micros: i64, partition: i32) -> &[u8] {
        let second = micros.div_euclid(1_000_000);
        if second != self.second {
            self.second = second;
            self.prefix =
                DateTime::from_timestamp(second, 0).unwrap().format("%Y-%m-%dT%H:%M:%S").to_string();
        }
        // A few ads get most of the clicks.
        let ad = (10_000.0 * self.random.random::<f64>().powi(4)) as u64;
        let user = self.random.random_range(0..5_000_000) * self.partitions + partition as u64;
        let [a, b, c] = self.random.random::<[u8; 3]>();
        let country = char::from(b'A' + self.random.random_range(0..20));
        self.message.clear();
        write!(
            self.message,
            r#"{{"ad_id":{ad},"click_time":"{}.{:06}Z","user_id":{user},"ip":"10.{a}.{b}.{c}","country":"{country}X"}}"#,
            self.prefix,
            micros.rem_euclid(1_000_000),
        )
        .unwrap();
        let missing = self.bytes.saturating_sub(self.message.len() + r#","more":"","#.len()).min(FILLING);
        if missing > 0 {
            let from = self.random.random_range(0..FILLING);
            self.message.pop();
            write!(self.message, r#","more":"{}"}}"#, &self.filling[from..from + missing]).unwrap();
        }
        &self.message
    }
}
