//! Guards of streams: what they find depends on the rows alone, however these are cut into batches and whoever reads them, and
//! they give back what they took.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::catalog::events::EventsTable;
use toplake::catalog::late::EventWriter;
use toplake::catalog::outbox::Route;
use toplake::catalog::warehouse::Object;
use toplake::error::{Error, Kind, Result};
use toplake::ingest::guards::{Dedup, GuardOptions, Guards, MaxPerKey};
use toplake::lake::action::{Add, CommitKind};
use toplake::lake::committer::{Change, Position};
use toplake::lake::event_times::{Partition, Seen};
use toplake::lake::writer::discard;
use toplake::maintain::compact::compact;
use toplake::maintain::expire::expire;
use toplake::maintain::target::{Rows, Target};
use toplake::maintain::vacuum::{Horizon, vacuum};

use crate::harness::{Desk, Home};

const SCHEMA: &str = "
    CREATE TABLE clicks (event_id VARCHAR, event_time TIMESTAMP NOT NULL, user_id BIGINT, n BIGINT)
      WITH (time_column = 'event_time');";

const SECOND: i64 = 1_000_000;

/// What a stream gives; its offset is its number.
#[derive(Debug, Clone)]
struct Event {
    id: Option<String>,
    user: Option<i64>,
    time: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stored,
    Duplicate,
    Suspect,
}

/// The rules, as they are written down.
struct Model<'a> {
    options: &'a GuardOptions,
    taken: Vec<(String, i64)>,
    counts: HashMap<(i64, i64), u64>,
    highest: i64,
}

impl<'a> Model<'a> {
    fn new(options: &'a GuardOptions) -> Self {
        Model { options, taken: vec![], counts: HashMap::new(), highest: i64::MIN }
    }

    fn judge(&mut self, event: &Event) -> Verdict {
        self.highest = self.highest.max(event.time);
        if let (Some(dedup), Some(id)) = (&self.options.dedup, &event.id) {
            let same = |(key, time): &(String, i64)| {
                key == id && (time - event.time).abs() <= dedup.window && *time >= self.highest - dedup.window
            };
            if self.taken.iter().any(same) {
                return Verdict::Duplicate;
            }
            self.taken.push((id.clone(), event.time));
        }
        if let (Some(max), Some(user)) = (&self.options.max_per_key, event.user) {
            let begin = event.time.div_euclid(max.per) * max.per;
            if begin > self.highest - 2 * max.per {
                let count = self.counts.entry((user, begin)).or_default();
                if *count >= max.limit {
                    return Verdict::Suspect;
                }
                *count += 1;
            }
        }
        Verdict::Stored
    }
}

fn options(window: i64, per: i64, limit: u64) -> GuardOptions {
    GuardOptions {
        dedup: Some(Dedup { key: vec!["event_id".to_owned()], window }),
        max_per_key: Some(MaxPerKey { keys: vec!["user_id".to_owned()], per, limit }),
        memory: 64 << 20,
    }
}

fn partition(number: i64) -> Partition {
    Partition { source: "kafka:c/clicks/t".to_owned(), number }
}

/// A process that reads a partition.
struct Reader {
    desk: Desk,
    events: Arc<EventsTable>,
    partition: Partition,
    pool: Arc<dyn MemoryPool>,
    guards: Guards,
    /// Where the partition stood when they were loaded.
    position: Option<i64>,
}

impl Reader {
    async fn take_over(home: &Home, options: &GuardOptions, partition: &Partition) -> Result<Self> {
        let desk = home.desk().await;
        Self::at(desk, options, partition).await
    }

    async fn at(desk: Desk, options: &GuardOptions, partition: &Partition) -> Result<Self> {
        let Object::Table(events) = desk.engine.warehouse().require("clicks").await? else { panic!() };
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let now = events.table().update().await?;
        let position = now.position(&partition.consumed_app(&now.metadata.id));
        let warehouse = desk.engine.warehouse();
        let guards = Guards::load(options, warehouse, &events, partition, &pool).await?;
        Ok(Reader { guards, events, partition: partition.clone(), pool, position, desk })
    }

    /// Where it goes on.
    fn next(&self) -> usize {
        self.position.unwrap_or(0) as usize
    }

    /// Judges the next rows; they are stored with [`Self::commit`].
    fn judge(&mut self, events: &[Event], first: usize) -> (Vec<Verdict>, RecordBatch) {
        let rows = batch(events, first, &self.events);
        let judged = self.guards.judge(&rows).unwrap();
        let mut verdicts = vec![Verdict::Stored; events.len()];
        for row in &judged.duplicates {
            verdicts[*row as usize] = Verdict::Duplicate;
        }
        for row in &judged.suspects {
            verdicts[*row as usize] = Verdict::Suspect;
        }
        let kept = match &judged.keep {
            Some(keep) => filter_record_batch(&rows, keep).unwrap(),
            None => rows,
        };
        let stored = verdicts.iter().filter(|v| **v == Verdict::Stored).count();
        assert_eq!(kept.num_rows(), stored);
        (verdicts, kept)
    }

    /// Stores rows, which consume the partition up to `to`.
    async fn commit(&mut self, kept: &[RecordBatch], to: usize) -> Result<()> {
        let table = self.events.table();
        let now = table.snapshot();
        let mut writer = EventWriter::new(&self.events, &now);
        for rows in kept {
            writer.write(rows).await?;
        }
        let mut divided = writer.finish().await?;
        let keys: Vec<Add> = self.guards.finish().await?;
        let mut change = Change::new(CommitKind::Append, "STREAM", &now);
        divided.plan(&mut change, &now).await?;
        Route::RecentKeys.name_in(&mut change, &keys);
        let app = self.partition.consumed_app(&now.metadata.id);
        change.positions = vec![Position { app, from: self.position, to: to as i64 }];
        // As far as the rows that are stored go; what was judged may go further.
        let highest = change.adds.iter().filter_map(|add| {
            let stats = toplake::lake::stats::FileStats::parse(add.stats.as_deref()?, &now.schema);
            Some(stats.time_bounds("event_time")?.1)
        });
        change.seen = Seen { active: [(self.partition.clone(), highest.max())].into(), ..Default::default() };
        match table.commit(&change).await {
            Ok(_) => {
                self.position = Some(to as i64);
                Ok(())
            }
            Err(e) => {
                divided.discard().await;
                discard(self.desk.engine.warehouse().recent_keys().store(), &keys).await;
                Err(e)
            }
        }
    }
}

fn batch(events: &[Event], first: usize, table: &EventsTable) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter(events.iter().map(|e| e.id.as_deref()))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.time))),
        Arc::new(Int64Array::from_iter(events.iter().map(|e| e.user))),
        Arc::new(Int64Array::from_iter_values((first..first + events.len()).map(|n| n as i64))),
    ];
    RecordBatch::try_new(Arc::clone(table.stored()), columns).unwrap()
}

/// Events around a time that goes on, some of them late, some far ahead, few keys, NULLs in between.
fn random_events(rng: &mut StdRng, n: usize) -> Vec<Event> {
    let (ids, users) = (rng.random_range(5..60), rng.random_range(2..6));
    let mut now = rng.random_range(-50..1000) * SECOND;
    (0..n)
        .map(|_| {
            now += rng.random_range(0..3) * SECOND;
            if rng.random_bool(0.01) {
                now += rng.random_range(0..200) * SECOND;
            }
            let late = if rng.random_bool(0.2) { rng.random_range(0..90) * SECOND } else { 0 };
            Event {
                id: rng.random_bool(0.95).then(|| format!("event number {}", rng.random_range(0..ids))),
                user: rng.random_bool(0.9).then(|| rng.random_range(0..users)),
                time: now - late + rng.random_range(-2..3),
            }
        })
        .collect()
}

/// Compaction, retention, vacuum: whatever there is.
async fn keep_up(desk: &Desk, what: u32) {
    let warehouse = desk.engine.warehouse();
    let events = desk.table("clicks").await;
    let rows = Rows::of_side(warehouse.recent_keys()).await.unwrap();
    match what {
        0 => warehouse.follow(&events).await.unwrap(),
        1 => drop(compact(&Target::Rows(rows), &desk.engine.state()).await.unwrap()),
        2 => drop(expire(warehouse, &rows, None, &desk.engine.state()).await.unwrap()),
        _ => {
            for target in [Target::Rows(rows), Target::find(warehouse, "clicks").await.unwrap()] {
                let now = Some(Horizon(std::time::Duration::ZERO));
                vacuum(warehouse, &target, true, now).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_depends_on_the_rows_alone() {
    let seeds = std::env::var("TOPLAKE_GUARD_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    let mut found = HashMap::new();
    for seed in 0..seeds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let home = Home::new();
        let upkeep = home.desk().await;
        upkeep.run(SCHEMA).await;
        let mut options = options(
            rng.random_range(1..80) * SECOND,
            rng.random_range(1..40) * SECOND,
            rng.random_range(1..4),
        );
        match rng.random_range(0..6) {
            0 => options.dedup = None,
            1 => options.max_per_key = None,
            _ => {}
        }
        let stream = random_events(rng, 400);
        let mut model = Model::new(&options);
        let expected: Vec<Verdict> = stream.iter().map(|event| model.judge(event)).collect();

        let mut reader = Reader::take_over(&home, &options, &partition(3)).await.unwrap();
        let mut verdicts = vec![];
        while reader.next() < stream.len() {
            let (mut at, mut kept, mut of_commit) = (reader.next(), vec![], vec![]);
            for _ in 0..rng.random_range(1..4) {
                let to = stream.len().min(at + rng.random_range(0..25));
                let (judged, rows) = reader.judge(&stream[at..to], at);
                of_commit.extend(judged);
                kept.push(rows);
                at = to;
            }
            if rng.random_bool(0.15) {
                // Somebody else took the partition over and was faster: nothing of this commit is.
                let mut other = Reader::take_over(&home, &options, &partition(3)).await.unwrap();
                let next = other.next();
                let to = stream.len().min(next + rng.random_range(1..20));
                let (judged, rows) = other.judge(&stream[next..to], next);
                other.commit(&[rows], to).await.unwrap();
                verdicts.extend(judged);
                let lost = reader.commit(&kept, at).await.unwrap_err();
                assert_eq!(lost.kind(), Kind::Conflict, "{lost}");
                reader = Reader::take_over(&home, &options, &partition(3)).await.unwrap();
                continue;
            }
            reader.commit(&kept, at).await.unwrap();
            verdicts.extend(of_commit);
            if rng.random_bool(0.2) {
                keep_up(&upkeep, rng.random_range(0..4)).await;
            }
            if rng.random_bool(0.1) {
                reader = Reader::take_over(&home, &options, &partition(3)).await.unwrap();
            }
        }
        if let Some(at) = (0..stream.len()).find(|at| verdicts[*at] != expected[*at]) {
            let (found, expected) = (verdicts[at], expected[at]);
            panic!("seed {seed}, event {at}: {found:?}, not {expected:?}\n{options:?}\n{:?}", &stream[..=at]);
        }
        for verdict in verdicts {
            *found.entry(format!("{verdict:?}")).or_insert(0) += 1;
        }
        let stored = upkeep.value("SELECT count(*), count(DISTINCT n) FROM clicks").await;
        let expected = expected.iter().filter(|v| **v == Verdict::Stored).count();
        assert_eq!(stored, format!("{expected},{expected}"), "seed {seed}");
    }
    assert!(found.len() == 3 && found.values().all(|n| *n > 100), "{found:?}");
}

fn event(id: &str, user: i64, second: i64) -> Event {
    Event { id: Some(id.to_owned()), user: Some(user), time: second * SECOND }
}

/// Rows of the side table.
async fn remembered(desk: &Desk) -> u64 {
    let table = desk.engine.warehouse().recent_keys().table().await.unwrap();
    table.update().await.unwrap().rows().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_tables_and_other_keys_know_nothing_of_each_other() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let options = options(100 * SECOND, 100 * SECOND, 9);
    let verdict = async |options: &GuardOptions, number: i64| {
        let mut reader = Reader::take_over(&home, options, &partition(number)).await.unwrap();
        let first = reader.next();
        let (verdicts, kept) = reader.judge(&[event("a", 1, 50)], first);
        reader.commit(&[kept], first + 1).await.unwrap();
        verdicts[0]
    };
    assert_eq!(verdict(&options, 0).await, Verdict::Stored);
    assert_eq!(verdict(&options, 0).await, Verdict::Duplicate);
    assert_eq!(verdict(&options, 1).await, Verdict::Stored);
    let mut other = options.clone();
    other.dedup.as_mut().unwrap().key.push("user_id".to_owned());
    assert_eq!(verdict(&other, 0).await, Verdict::Stored);
    assert_eq!(verdict(&options, 0).await, Verdict::Duplicate);
    desk.run("DROP TABLE clicks").await;
    desk.run(SCHEMA).await;
    assert_eq!(verdict(&options, 0).await, Verdict::Stored);
    // What the dropped table left behind goes, what is remembered of the new one stays.
    assert!(remembered(&desk).await > 4);
    desk.run("CALL expire('toplake.recent_keys')").await;
    assert_eq!(verdict(&options, 0).await, Verdict::Duplicate);
    assert_eq!(desk.rows("CALL expire('toplake.recent_keys')").await, ["toplake.recent_keys,NULL,0,0"]);
    // The event, its count, and how far the partition had come by each of both guards.
    assert_eq!(remembered(&desk).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_the_window_is_forgotten_everywhere() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let options = options(10 * SECOND, 10 * SECOND, 5);
    for number in 0..2 {
        let mut reader = Reader::take_over(&home, &options, &partition(number)).await.unwrap();
        let mut size = vec![];
        for round in 0..40_i64 {
            let events: Vec<Event> = (0..500).map(|i| event(&format!("{round} {i}"), i, round * 5)).collect();
            let (verdicts, kept) = reader.judge(&events, 0);
            assert!(verdicts.iter().all(|v| *v == Verdict::Stored));
            reader.commit(&[kept], (round + 1) as usize).await.unwrap();
            size.push(reader.pool.reserved());
        }
        assert!(size[0] > 10_000, "{size:?}");
        assert!(size[39] <= size[10] * 2, "it grows: {size:?}");
        drop(reader.guards);
        assert_eq!(reader.pool.reserved(), 0);
        // One partition lags behind the other: nothing of it is taken.
        if number == 0 {
            desk.run("CALL compact('toplake.recent_keys')").await;
        }
    }
    desk.run("CALL expire('toplake.recent_keys')").await;
    // Of each partition: the events at 185, 190 and 195 seconds; the counts in the buckets of 180 and 190, from four commits;
    // and how far it had come, within ten seconds by the one guard and within twenty by the other.
    assert_eq!(remembered(&desk).await, 2 * (3 * 500 + 4 * 500 + 3 + 5));
    let mut reader = Reader::take_over(&home, &options, &partition(1)).await.unwrap();
    let (verdicts, _) = reader.judge(&[event("37 1", 1, 195), event("36 1", 1, 195)], 0);
    assert_eq!(verdicts, [Verdict::Duplicate, Verdict::Stored]);
    desk.run("VACUUM toplake.recent_keys").await;
    let refused =
        desk.try_run("ALTER TABLE toplake.recent_keys SET (retention = '1 day')").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::WrongObjectType);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_cannot_fit_is_refused_at_the_start_and_memory_is_bounded_later() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    // 20,000 events in 100 seconds, of two partitions.
    for number in 0..2 {
        let plenty = options(1000 * SECOND, SECOND, 1);
        let mut reader = Reader::take_over(&home, &plenty, &partition(number)).await.unwrap();
        let events: Vec<Event> = (0..10_000).map(|i| event(&format!("{i:036}"), i, i / 100)).collect();
        let (_, kept) = reader.judge(&events, 0);
        reader.commit(&[kept], 10_000).await.unwrap();
    }
    let load = async |window: i64, memory: usize, pool: Option<usize>| {
        let options = GuardOptions { memory, max_per_key: None, ..options(window * SECOND, SECOND, 1) };
        let reader = Reader::at(home.desk().await, &options, &partition(0)).await?;
        let Some(limit) = pool else { return Ok(reader) };
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(limit));
        let warehouse = reader.desk.engine.warehouse();
        let guards = Guards::load(&options, warehouse, &reader.events, &partition(0), &pool).await?;
        Ok::<_, Error>(Reader { guards, pool, ..reader })
    };
    // 10,000 keys take about 0.6 MB; of nine times the window nine times as much is to be expected.
    let mut reader = load(100, 1 << 20, None).await.unwrap();
    let refused = load(900, 1 << 20, None).await.err().unwrap();
    assert_eq!(refused.kind(), Kind::ResourcesExhausted, "{refused}");
    assert!(refused.message().contains("dedup_window does not fit"), "{refused}");
    assert!(refused.hint().unwrap().contains("shorten the window"));
    load(900, 16 << 20, None).await.unwrap();
    load(900, 16 << 20, Some(1 << 20)).await.err().unwrap();
    // Of ten thousand times the window nobody can say.
    load(1_000_000, 1 << 20, None).await.unwrap();
    // What is remembered already does not fit.
    let refused = load(100, 100_000, None).await.err().unwrap();
    assert_eq!(refused.kind(), Kind::ResourcesExhausted, "{refused}");
    // More keys than the rate had promised.
    let many: Vec<Event> = (0..30_000).map(|i| event(&format!("x{i:036}"), i, 99)).collect();
    let rows = batch(&many, 0, &reader.events);
    let refused = reader.guards.judge(&rows).unwrap_err();
    assert_eq!(refused.kind(), Kind::ResourcesExhausted, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_make_no_sense_are_refused_by_name() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let refused = async |options: GuardOptions| {
        let e = Reader::at(desk.clone(), &options, &partition(0)).await.err().unwrap();
        assert!(e.message().starts_with("guards of 'clicks', partition kafka:c/clicks/t/0: "), "{e}");
        e
    };
    let usual = || options(SECOND, SECOND, 1);
    let mut unknown = usual();
    unknown.dedup.as_mut().unwrap().key = vec!["ip".to_owned()];
    assert_eq!(refused(unknown).await.kind(), Kind::UndefinedColumn);
    for wrong in [options(0, SECOND, 1), options(SECOND, -1, 1), options(SECOND, SECOND, 0)] {
        assert_eq!(refused(wrong).await.kind(), Kind::InvalidInput);
    }
    desk.run("DROP TABLE clicks; CREATE TABLE clicks (event_id VARCHAR, user_id BIGINT)").await;
    assert_eq!(refused(usual()).await.kind(), Kind::WrongObjectType);
}

/// What is on its way into the side table is found there: neither a follower nor a vacuum loses any of it.
#[tokio::test(flavor = "multi_thread")]
async fn files_on_their_way_are_read_and_kept() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let options = options(100 * SECOND, SECOND, 1);
    let mut reader = Reader::take_over(&home, &options, &partition(0)).await.unwrap();
    for round in 0..30_i64 {
        let (verdicts, kept) = reader.judge(&[event(&round.to_string(), round, round)], 0);
        assert_eq!(verdicts, [Verdict::Stored]);
        reader.commit(&[kept], (round + 1) as usize).await.unwrap();
        if round % 10 == 4 {
            keep_up(&desk, 3).await;
        }
        let mut other = Reader::take_over(&home, &options, &partition(0)).await.unwrap();
        let again: Vec<Event> = (0..=round).map(|i| event(&i.to_string(), i, i)).collect();
        let (verdicts, _) = other.judge(&again, 0);
        assert!(verdicts.iter().all(|v| *v == Verdict::Duplicate), "round {round}: {verdicts:?}");
    }
    // Nothing new, nothing written.
    let (_, kept) = reader.judge(&[event("29", 29, 29)], 0);
    assert_eq!(kept.num_rows(), 0);
    assert!(reader.guards.finish().await.unwrap().is_empty());
    let (_, kept) = reader.judge(&[event("29", 29, 30)], 0);
    assert_eq!((kept.num_rows(), reader.guards.finish().await.unwrap().len()), (0, 1));
}
