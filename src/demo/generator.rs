//! Sales of a shop that is not there: a few products sell all the time and most sell hardly ever, there is more going on
//! in the afternoon than at night and at weekends than on weekdays, some events come late, and some are refunds.
//!
//! Rows are those of `sql/sales/schema.sql`. The same seed gives the same sales.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
    UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::Sample;
use super::random::{Random, Weighted, mix};
use crate::error::Result;

/// Of 1,000 events, how many come late.
const LATE: u64 = 20;

/// Of 1,000 events, how many are refunds.
const REFUNDS: u64 = 10;

/// Of 1,000 events, how many are of customers that nobody knows.
const GUESTS: u64 = 50;

/// Late is from a minute …
const SHORTEST_DELAY: f64 = 60e6;

/// … to two days.
const LONGEST_DELAY: f64 = 2.0 * DAY as f64;

/// How steeply products differ: the first sells `n^1.05` times as often as the n-th.
const ZIPF: f64 = 1.05;

/// How many of 100 lines sell 1, 2, … pieces.
const QUANTITIES: [f64; 5] = [50.0, 25.0, 13.0, 8.0, 4.0];

const CUSTOMERS: usize = 50_000;

const BATCH_ROWS: u64 = 65_536;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Countries, each with its share of the customers.
const COUNTRIES: [(&str, f64); 20] = [
    ("United States", 28.0),
    ("Germany", 13.0),
    ("United Kingdom", 11.0),
    ("France", 8.0),
    ("Japan", 7.0),
    ("India", 6.0),
    ("Canada", 4.5),
    ("Brazil", 4.0),
    ("Italy", 3.5),
    ("Spain", 3.0),
    ("Netherlands", 2.5),
    ("Australia", 2.2),
    ("Poland", 1.8),
    ("Mexico", 1.5),
    ("Sweden", 1.2),
    ("Switzerland", 1.0),
    ("Austria", 0.7),
    ("Ireland", 0.5),
    ("Portugal", 0.4),
    ("New Zealand", 0.2),
];

/// The columns of `sales`.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("event_id", DataType::Int64, true),
        Field::new("event_time", time.clone(), false),
        Field::new("occurred_at", time, true),
        Field::new("product_id", DataType::Utf8View, true),
        Field::new("quantity", DataType::Int64, true),
        Field::new("unit_price", DataType::Decimal128(18, 4), true),
        Field::new("customer_id", DataType::Utf8View, true),
        Field::new("country", DataType::Utf8View, true),
    ]))
});

/// Makes sales.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    random: Random,
    next_event_id: i64,
    popularity: Weighted,
    /// The product on each place of the popularity, so that names do not tell it.
    product_at: Vec<u32>,
    /// In units of 0.0001.
    prices: Vec<i128>,
    quantities: Weighted,
    countries: Weighted,
    country_of: Vec<u32>,
    product_names: StringViewArray,
    country_names: StringViewArray,
    customer_names: StringViewArray,
}

impl Generator {
    /// A generator of the sales of this many products (at least one).
    pub fn new(seed: u64, products: usize) -> Self {
        let products = products.max(1);
        // The shop is drawn from numbers of its own: it stays the same however many sales it made.
        let mut random = Random::new(mix(seed ^ 0x5109));
        let mut product_at: Vec<u32> = (0..products as u32).collect();
        for i in (1..products).rev() {
            product_at.swap(i, random.below(i as u64 + 1) as usize);
        }
        // Whole cents, from about 1 to 200.
        let prices = (0..products).map(|_| random.log_uniform(99.0, 19_999.0) as i128 * 100).collect();
        let countries = Weighted::new(&COUNTRIES.map(|(_, share)| share));
        let country_of = (0..CUSTOMERS).map(|_| countries.draw(&mut random)).collect();
        Generator {
            seed,
            random: Random::new(mix(seed)),
            next_event_id: 1,
            popularity: Weighted::zipf(products, ZIPF),
            product_at,
            prices,
            quantities: Weighted::new(&QUANTITIES),
            countries,
            country_of,
            product_names: (1..=products).map(|i| Some(format!("P{i:06}"))).collect(),
            country_names: COUNTRIES.iter().map(|(name, _)| Some(*name)).collect(),
            customer_names: (1..=CUSTOMERS).map(|i| Some(format!("C{i:06}"))).collect(),
        }
    }

    /// Carries on where another process stopped: event ids go up from `id`, and sales are not those made before.
    pub fn with_next_event_id(mut self, id: i64) -> Self {
        self.next_event_id = id;
        self.random = Random::new(mix(self.seed) ^ mix(id as u64));
        self
    }

    /// The id of the next event.
    pub fn next_event_id(&self) -> i64 {
        self.next_event_id
    }

    /// This many sales between two instants, in batches, in the order in which they came in. That is the order of time to
    /// the hour, but for the late ones.
    pub fn backfill(
        &mut self,
        from_micros: i64,
        to_micros: i64,
        rows: u64,
    ) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        let slots = slots(from_micros, to_micros, rows);
        let (mut slot, mut done_in_slot, mut left) = (0, 0, slots.iter().map(|s| s.rows).sum::<u64>());
        std::iter::from_fn(move || {
            let size = left.min(BATCH_ROWS);
            if size == 0 {
                return None;
            }
            left -= size;
            let mut columns = Columns::with_capacity(size as usize);
            while columns.len() < size {
                let Slot { from, to, rows } = slots[slot];
                if done_in_slot == rows {
                    (slot, done_in_slot) = (slot + 1, 0);
                    continue;
                }
                done_in_slot += 1;
                let arrival = from + self.random.below((to - from) as u64) as i64;
                self.event(arrival, from_micros, &mut columns);
            }
            Some(self.batch(columns))
        })
    }

    /// This many sales that come in now, over the second that ends now.
    pub fn live(&mut self, now_micros: i64, rows: usize) -> Result<RecordBatch> {
        let mut columns = Columns::with_capacity(rows);
        for _ in 0..rows {
            let arrival = now_micros - self.random.below(1_000_000) as i64;
            self.event(arrival, i64::MIN, &mut columns);
        }
        self.batch(columns)
    }

    /// One event. A late one is of an earlier time, though not before `earliest`. A refund counts when it is given, not at
    /// its sale, so its time is that of its arrival.
    fn event(&mut self, arrival: i64, earliest: i64, columns: &mut Columns) {
        let random = &mut self.random;
        let product = self.product_at[self.popularity.draw(random) as usize];
        let quantity = i64::from(self.quantities.draw(random)) + 1;
        let kind = random.below(1000);
        let (time, quantity) = if kind < LATE {
            let longest = (arrival.saturating_sub(earliest) as f64).min(LONGEST_DELAY);
            let delay =
                if longest > SHORTEST_DELAY { random.log_uniform(SHORTEST_DELAY, longest) } else { 0.0 };
            ((arrival - delay as i64).max(earliest), quantity)
        } else if kind < LATE + REFUNDS {
            (arrival, -quantity)
        } else {
            (arrival, quantity)
        };
        let customer = if random.below(1000) < GUESTS {
            None
        } else {
            // The square makes some customers come more often.
            Some((random.unit().powi(2) * CUSTOMERS as f64) as u32)
        };
        let country = match customer {
            Some(customer) => self.country_of[customer as usize],
            None => self.countries.draw(random),
        };
        columns.times.push(time);
        columns.products.push(product);
        columns.quantities.push(quantity);
        columns.prices.push(self.prices[product as usize]);
        columns.customers.push(customer);
        columns.countries.push(country);
    }

    fn batch(&mut self, columns: Columns) -> Result<RecordBatch> {
        let first = self.next_event_id;
        self.next_event_id += columns.times.len() as i64;
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(columns.times));
        // Names are taken from those that are there: no text is made for a row.
        let product_ids = take(&self.product_names, &UInt32Array::from(columns.products), None)?;
        let customer_ids = take(&self.customer_names, &UInt32Array::from(columns.customers), None)?;
        let countries = take(&self.country_names, &UInt32Array::from(columns.countries), None)?;
        let prices = Decimal128Array::from(columns.prices).with_precision_and_scale(18, 4)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(first..self.next_event_id)),
            Arc::clone(&times),
            times,
            product_ids,
            Arc::new(Int64Array::from(columns.quantities)),
            Arc::new(prices),
            customer_ids,
            countries,
        ];
        Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
    }
}

impl Sample for Generator {
    fn backfill(&mut self, from: i64, to: i64, rows: u64) -> Result<Vec<RecordBatch>> {
        Generator::backfill(self, from, to, rows).collect()
    }

    fn live(&mut self, now: i64, rows: usize) -> Result<RecordBatch> {
        Generator::live(self, now, rows)
    }
}

/// How busy the shop is at an instant: 1 on average, about 0.3 in the small hours and 1.9 on a Saturday afternoon (UTC).
pub fn rhythm(micros: i64) -> f64 {
    let hour = micros.rem_euclid(DAY) as f64 / HOUR as f64;
    let daily = 1.0 - 0.65 * ((hour - 3.0) / 24.0 * std::f64::consts::TAU).cos();
    // The first day of the epoch was a Thursday.
    let weekly = match (micros.div_euclid(DAY) + 3).rem_euclid(7) {
        5 | 6 => 1.15,
        _ => 0.94,
    };
    daily * weekly
}

/// A part of an hour, and how many events come in then.
struct Slot {
    from: i64,
    to: i64,
    rows: u64,
}

/// Shares `rows` out to the hours between two instants by how busy the shop is.
fn slots(from: i64, to: i64, rows: u64) -> Vec<Slot> {
    let mut slots = vec![];
    let mut start = from;
    while start < to {
        let end = ((start.div_euclid(HOUR) + 1) * HOUR).min(to);
        slots.push(Slot { from: start, to: end, rows: 0 });
        start = end;
    }
    let weight = |s: &Slot| rhythm(s.from + (s.to - s.from) / 2) * (s.to - s.from) as f64;
    let total: f64 = slots.iter().map(weight).sum();
    let last = slots.len().saturating_sub(1);
    let (mut passed, mut given) = (0.0, 0);
    for (i, slot) in slots.iter_mut().enumerate() {
        passed += weight(slot);
        // Rounding the running total keeps the sum what was asked for.
        let through = if i == last { rows } else { (passed / total * rows as f64) as u64 };
        slot.rows = through - given;
        given = through;
    }
    slots
}

/// The columns of a batch that is being made.
struct Columns {
    times: Vec<i64>,
    products: Vec<u32>,
    quantities: Vec<i64>,
    prices: Vec<i128>,
    customers: Vec<Option<u32>>,
    countries: Vec<u32>,
}

impl Columns {
    fn with_capacity(rows: usize) -> Self {
        Columns {
            times: Vec::with_capacity(rows),
            products: Vec::with_capacity(rows),
            quantities: Vec::with_capacity(rows),
            prices: Vec::with_capacity(rows),
            customers: Vec::with_capacity(rows),
            countries: Vec::with_capacity(rows),
        }
    }

    fn len(&self) -> u64 {
        self.times.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};

    use super::*;

    /// A Monday.
    const FROM: i64 = 1_704_067_200_000_000;

    fn two_weeks(seed: u64, rows: u64) -> RecordBatch {
        let mut generator = Generator::new(seed, 1000);
        let batches: Vec<_> = generator.backfill(FROM, FROM + 14 * DAY, rows).collect::<Result<_>>().unwrap();
        assert!(batches.iter().rev().skip(1).all(|b| b.num_rows() as u64 == BATCH_ROWS));
        concat_batches(&SCHEMA, &batches).unwrap()
    }

    fn times(batch: &RecordBatch) -> &[i64] {
        batch.column(1).as_primitive::<TimestampMicrosecondType>().values()
    }

    fn quantities(batch: &RecordBatch) -> &[i64] {
        batch.column(4).as_primitive::<Int64Type>().values()
    }

    fn close(found: usize, expected: f64, tolerance: f64) {
        assert!((found as f64 / expected - 1.0).abs() < tolerance, "{found} where {expected} was expected");
    }

    #[test]
    fn the_same_seed_gives_the_same_sales() {
        assert_eq!(two_weeks(7, 10_000), two_weeks(7, 10_000));
        assert_ne!(two_weeks(7, 10_000), two_weeks(8, 10_000));
        let live = |seed| Generator::new(seed, 1000).live(FROM, 100).unwrap();
        assert_eq!(live(7), live(7));
    }

    #[test]
    fn events_are_as_many_as_asked_for_and_within_their_time() {
        for rows in [0, 1, 999, 140_000] {
            let batch = two_weeks(1, rows);
            assert_eq!(batch.num_rows() as u64, rows);
            assert!(times(&batch).iter().all(|t| (FROM..FROM + 14 * DAY).contains(t)));
        }
        assert_eq!(Generator::new(1, 10).backfill(FROM, FROM, 5).count(), 0);
    }

    #[test]
    fn an_id_is_used_once_also_after_a_restart() {
        let mut first = Generator::new(1, 100);
        let mut batches: Vec<_> = first.backfill(FROM, FROM + DAY, 1000).collect::<Result<_>>().unwrap();
        batches.push(first.live(FROM + DAY, 50).unwrap());
        let mut second = Generator::new(1, 100).with_next_event_id(first.next_event_id());
        batches.push(second.live(FROM + DAY, 50).unwrap());
        assert_ne!(batches[1].column(3), batches[2].column(3), "a restart is not a repetition");
        let all = concat_batches(&SCHEMA, &batches).unwrap();
        let ids: HashSet<i64> = all.column(0).as_primitive::<Int64Type>().values().iter().copied().collect();
        assert_eq!(ids.len(), 1100);
    }

    #[test]
    fn products_sell_by_zipf() {
        let batch = two_weeks(3, 300_000);
        let mut sold: HashMap<&str, usize> = HashMap::new();
        for product in batch.column(3).as_string_view().iter().flatten() {
            *sold.entry(product).or_default() += 1;
        }
        let mut sold: Vec<usize> = sold.into_values().collect();
        sold.sort_by_key(|n| std::cmp::Reverse(*n));
        let harmonic: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-ZIPF)).sum();
        for rank in [1_usize, 2, 5, 10, 50] {
            close(sold[rank - 1], 300_000.0 / harmonic * (rank as f64).powf(-ZIPF), 0.08);
        }
        assert!(sold.len() > 990, "{} products sold", sold.len());
    }

    #[test]
    fn some_are_late_and_some_are_refunds() {
        let batch = two_weeks(4, 300_000);
        close(quantities(&batch).iter().filter(|q| **q < 0).count(), 3_000.0, 0.1);
        assert!(quantities(&batch).iter().all(|q| (1..=5).contains(&q.abs())));
        close(batch.column(6).null_count(), 15_000.0, 0.1);
        let now = FROM + 100 * DAY;
        let live = Generator::new(4, 1000).live(now, 300_000).unwrap();
        let delays: Vec<i64> = times(&live).iter().map(|t| now - t).collect();
        assert!(delays.iter().all(|d| (0..=2 * DAY + 1_000_000).contains(d)));
        close(delays.iter().filter(|d| **d >= SHORTEST_DELAY as i64).count(), 6_000.0, 0.1);
        assert!(delays.iter().any(|d| *d > DAY), "late by days");
    }

    #[test]
    fn nights_are_quiet_and_weekends_busy() {
        let batch = two_weeks(5, 300_000);
        let during = |hours: std::ops::Range<i64>| {
            times(&batch).iter().filter(|t| hours.contains(&(t.rem_euclid(DAY) / HOUR))).count() as f64
        };
        assert!(during(14..16) > 3.5 * during(2..4), "{} and {}", during(14..16), during(2..4));
        let weekend = times(&batch).iter().filter(|t| (*t - FROM) / DAY % 7 >= 5).count() as f64;
        let share = weekend / 300_000.0;
        assert!((0.31..0.35).contains(&share), "{share} of all at weekends");
        let average = (0..7 * 24).map(|h| rhythm(FROM + h * HOUR)).sum::<f64>() / (7.0 * 24.0);
        assert!((average - 1.0).abs() < 0.01, "{average}");
    }

    #[test]
    fn batches_are_narrow_but_for_the_late() {
        let mut generator = Generator::new(6, 1000);
        for batch in generator.backfill(FROM, FROM + 14 * DAY, 1_000_000) {
            let batch = batch.unwrap();
            let mut sorted = times(&batch).to_vec();
            sorted.sort_unstable();
            let (low, high) = (sorted[sorted.len() / 40], sorted[sorted.len() - 1]);
            assert!(high - low < 3 * DAY / 2, "{} hours", (high - low) / HOUR);
        }
    }

    #[test]
    fn a_product_has_one_price_and_a_customer_one_country() {
        let batch = two_weeks(9, 50_000);
        let prices = batch.column(5).as_primitive::<Decimal128Type>();
        let (products, customers, countries) = (
            batch.column(3).as_string_view(),
            batch.column(6).as_string_view(),
            batch.column(7).as_string_view(),
        );
        let (mut price_of, mut country_of) = (HashMap::new(), HashMap::new());
        for i in 0..batch.num_rows() {
            let price = prices.value(i);
            assert!((9_900..=1_999_900).contains(&price) && price % 100 == 0, "{price}");
            assert_eq!(*price_of.entry(products.value(i)).or_insert(price), price);
            if customers.is_valid(i) {
                let country = countries.value(i);
                assert_eq!(*country_of.entry(customers.value(i)).or_insert(country), country);
            }
        }
        assert_eq!(countries.iter().flatten().collect::<HashSet<_>>().len(), COUNTRIES.len());
    }
}
