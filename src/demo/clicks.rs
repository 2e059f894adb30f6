//! Clicks on ads that are not there: a few lead, most are clicked on hardly ever, and every ten minutes another one is in
//! fashion. Rows are those of `sql/ad_clicks/schema.sql`. The same seed gives the same clicks.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::Sample;
use super::random::{Random, Weighted, mix};
use crate::error::Result;

const ADS: usize = 5_000;
const USERS: usize = 100_000;

/// How steeply ads differ.
const ZIPF: f64 = 1.0;

/// Of 1,000 clicks, how many come late, and by how much at most.
const LATE: u64 = 10;
const LONGEST_DELAY: f64 = 4.0 * 60e6;

/// Of 100 clicks, how many go to the ad in fashion, and for how long it is.
const FASHION: u64 = 6;
const FASHION_LASTS: i64 = 10 * 60_000_000;

/// Countries, each with its share of the users.
const COUNTRIES: [(&str, f64); 8] = [
    ("US", 34.0),
    ("IN", 20.0),
    ("DE", 12.0),
    ("BR", 10.0),
    ("JP", 9.0),
    ("FR", 7.0),
    ("PL", 5.0),
    ("KE", 3.0),
];

const BATCH_ROWS: u64 = 65_536;

/// The columns of `ad_clicks`.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("ad_id", DataType::Int64, true),
        Field::new("click_time", time, false),
        Field::new("user_id", DataType::Int64, true),
        Field::new("ip", DataType::Utf8View, true),
        Field::new("country", DataType::Utf8View, true),
    ]))
});

/// Makes clicks.
#[derive(Debug)]
pub struct Clicks {
    seed: u64,
    random: Random,
    popularity: Weighted,
    country_of: Vec<u32>,
    addresses: StringViewArray,
    country_names: StringViewArray,
}

impl Clicks {
    /// A generator for the `start`-th process that makes them, so that no two make the same.
    pub fn new(seed: u64, start: i64) -> Self {
        let mut random = Random::new(mix(seed ^ 0xad));
        let countries = Weighted::new(&COUNTRIES.map(|(_, share)| share));
        let country_of = (0..USERS).map(|_| countries.draw(&mut random)).collect();
        // Addresses that are set aside for examples (RFC 5737).
        let address =
            |user: usize| format!("{}.{}", ["192.0.2", "198.51.100", "203.0.113"][user % 3], user / 3 % 256);
        Clicks {
            seed,
            random: Random::new(mix(seed) ^ mix(start as u64)),
            popularity: Weighted::zipf(ADS, ZIPF),
            country_of,
            addresses: (0..USERS).map(|user| Some(address(user))).collect(),
            country_names: COUNTRIES.iter().map(|(name, _)| Some(*name)).collect(),
        }
    }

    fn batch(&mut self, from: i64, to: i64, rows: usize) -> Result<RecordBatch> {
        let (mut ads, mut times, mut users, mut countries) = (
            Vec::with_capacity(rows),
            Vec::with_capacity(rows),
            Vec::with_capacity(rows),
            Vec::with_capacity(rows),
        );
        let random = &mut self.random;
        for _ in 0..rows {
            let arrival = from + random.below((to - from).max(1) as u64) as i64;
            let place = if random.below(100) < FASHION {
                (mix(self.seed ^ arrival.div_euclid(FASHION_LASTS) as u64) % 40) as u32
            } else {
                self.popularity.draw(random)
            };
            let late =
                if random.below(1000) < LATE { random.log_uniform(1e6, LONGEST_DELAY) as i64 } else { 0 };
            let user = (random.unit().powi(2) * USERS as f64) as u32;
            // The number of an ad does not tell its place.
            ads.push(10_000 + (i64::from(place) * 7_919) % ADS as i64);
            times.push(arrival - late);
            users.push(user);
            countries.push(self.country_of[user as usize]);
        }
        let addresses = take(&self.addresses, &UInt32Array::from(users.clone()), None)?;
        let names = take(&self.country_names, &UInt32Array::from(countries), None)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ads)),
            Arc::new(TimestampMicrosecondArray::from(times)),
            Arc::new(Int64Array::from_iter_values(users.into_iter().map(i64::from))),
            addresses,
            names,
        ];
        Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
    }
}

impl Sample for Clicks {
    fn backfill(&mut self, from: i64, to: i64, rows: u64) -> Result<Vec<RecordBatch>> {
        let parts = rows.div_ceil(BATCH_ROWS).max(1);
        let cut = |part: u64| from + ((to - from) as i128 * i128::from(part) / i128::from(parts)) as i64;
        let each = |part: u64| rows * (part + 1) / parts - rows * part / parts;
        (0..parts).map(|part| self.batch(cut(part), cut(part + 1), each(part) as usize)).collect()
    }

    fn live(&mut self, now: i64, rows: usize) -> Result<RecordBatch> {
        self.batch(now - 1_000_000, now, rows)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    use super::*;

    #[test]
    fn clicks_are_as_many_as_were_asked_for_and_the_same_again() {
        let (from, to) = (1_700_000_000_000_000, 1_700_003_600_000_000);
        let made = Clicks::new(1, 1).backfill(from, to, 150_001).unwrap();
        assert_eq!(made.iter().map(RecordBatch::num_rows).sum::<usize>(), 150_001);
        assert_eq!(made, Clicks::new(1, 1).backfill(from, to, 150_001).unwrap());
        assert_ne!(made, Clicks::new(1, 2).backfill(from, to, 150_001).unwrap());
        let ads = made[0].column(0).as_primitive::<Int64Type>();
        let first = ads.values().iter().filter(|ad| **ad == 10_000).count();
        assert!(first > ads.len() / 30, "the first ad leads: {first} of {}", ads.len());
        let times = made[0].column(1).as_primitive::<TimestampMicrosecondType>();
        assert!(times.values().iter().all(|t| *t < to && *t > from - 5 * 60_000_000));
        assert_eq!(Clicks::new(1, 1).live(to, 7).unwrap().num_rows(), 7);
    }
}
