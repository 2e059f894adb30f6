//! The lake under failures and races: every commit lands once or not at all, and whoever follows the log sees what
//! whoever opens the table sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::error::Kind;
use toplake::lake::action::{Add, CommitKind, Metadata};
use toplake::lake::committer::{Change, Position};
use toplake::lake::log;
use toplake::lake::range::TimeRanges;
use toplake::lake::schema::timestamp;
use toplake::lake::snapshot::{Commit, Snapshot};
use toplake::lake::store::Store;
use toplake::lake::table::{NewTable, Table};

use crate::harness::{Fault, FaultyStore, Gate, soon};

/// A store in memory, and a table in it.
struct Lab {
    faults: Arc<FaultyStore>,
    store: Store,
}

impl Lab {
    fn new() -> Self {
        let faults = Arc::new(FaultyStore::new(InMemory::new()));
        let store = Store::with_object_store(Arc::clone(&faults) as _, "memory:///warehouse/t").unwrap();
        Lab { faults, store }
    }

    async fn create(&self) -> Table {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("t", timestamp(false), false),
        ]);
        let new = NewTable { schema, configuration: vec![], description: None };
        Table::create("t", self.store.clone(), &new).await.unwrap().unwrap()
    }

    /// The table as another process opens it.
    async fn open(&self) -> Table {
        Table::open("t", self.store.clone()).await.unwrap().unwrap()
    }

    /// Every commit of the log, from the store.
    async fn log(&self) -> Vec<Commit> {
        let newest = log::load(&self.store, None).await.unwrap().unwrap().version;
        log::read_commits(&self.store, -1, newest).await.unwrap()
    }

    async fn put(&self, version: i64, lines: &str) {
        self.store
            .put(&log::commit_path(&self.store, version), lines.as_bytes().to_vec().into())
            .await
            .unwrap();
    }

    async fn remove(&self, version: i64) {
        self.store.delete_all(vec![log::commit_path(&self.store, version)]).await.unwrap();
    }
}

/// A file of one row; nobody opens it here.
fn file(name: &str) -> Add {
    Add {
        path: format!("{name}.parquet"),
        size: 100,
        modification_time: 1,
        data_change: true,
        stats: Some(
            r#"{"numRecords":1,"minValues":{"id":1,"t":"2026-01-01T00:00:00.000001Z"},"maxValues":{"id":1,"t":"2026-01-01T00:00:00.000001Z"},"nullCount":{"id":0,"t":0}}"#
                .into(),
        ),
        ..Default::default()
    }
}

fn append(on: &Snapshot, name: &str) -> Change {
    let mut change = Change::new(CommitKind::Append, "WRITE", on);
    change.adds = vec![file(name)];
    change
}

/// An append that moves the position of `app`.
fn step(on: &Snapshot, app: &str, to: i64) -> Change {
    let mut change = append(on, &format!("{app}-{to}"));
    change.positions = vec![Position { app: app.into(), from: on.position(app), to }];
    change
}

fn rewrite(on: &Snapshot, removes: &[&str], add: &str) -> Change {
    let mut change = Change::new(CommitKind::Rewrite, "OPTIMIZE", on);
    change.removes =
        removes.iter().map(|name| Arc::clone(&on.files[format!("{name}.parquet").as_str()])).collect();
    change.adds = vec![file(add)];
    change
}

/// How often each file was added, over the whole log.
fn times_added(log: &[Commit]) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for add in log.iter().flat_map(|c| &c.adds) {
        *times.entry(add.add.path.trim_end_matches(".parquet").to_owned()).or_default() += 1;
    }
    times
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.keys().map(|path| path.trim_end_matches(".parquet")).collect()
}

/// All that two readers of one version have to agree on.
fn content(s: &Snapshot) -> (i64, String, Vec<Add>, BTreeMap<String, i64>, Metadata, i64) {
    // Whether a commit changed rows is a property of the commit, and a checkpoint does not keep it.
    let files = s.files.values().map(|f| Add { data_change: true, ..f.add.clone() }).collect();
    let txns = s.txns.iter().map(|(app, version)| (app.to_string(), *version)).collect();
    (
        s.version,
        format!("{:?} {:?}", s.schema, s.protocol),
        files,
        txns,
        s.metadata.as_ref().clone(),
        s.timestamp,
    )
}

fn commit_content(c: &Commit) -> String {
    let paths = |files: &[Arc<toplake::lake::snapshot::File>]| {
        files.iter().map(|f| format!("{}={:?}", f.add.path, f.add.stats)).collect::<Vec<_>>()
    };
    format!(
        "{} {:?} {:?} {:?} +{:?} -{:?} {:?} {:?} {}",
        c.version,
        c.kind,
        c.id,
        c.ranges,
        paths(&c.adds),
        paths(&c.removes),
        c.txns,
        c.sources,
        c.timestamp
    )
}

#[tokio::test]
async fn a_stale_position_loses_and_writes_nothing() {
    let lab = Lab::new();
    let (table, zombie) = (lab.create().await, lab.open().await);
    let begun = zombie.update().await.unwrap();
    table.commit(&step(&table.snapshot(), "kafka-0", 10)).await.unwrap();
    table.commit(&step(&table.snapshot(), "kafka-0", 20)).await.unwrap();

    let (puts, _, _) = lab.faults.requests.so_far();
    for to in [10, 15, 20, 30] {
        let lost = zombie.commit(&step(&begun, "kafka-0", to)).await.unwrap_err();
        assert_eq!(lost.kind(), Kind::Conflict, "{lost}");
        assert!(lost.message().contains("kafka-0") && lost.message().contains("20"), "{lost}");
    }
    assert_eq!(lab.faults.requests.so_far().0, puts, "a commit that must lose was tried");

    // Another position is not concerned, and neither is the same one from where it stands.
    zombie.commit(&step(&begun, "kafka-1", 5)).await.unwrap();
    zombie.commit(&step(&zombie.snapshot(), "kafka-0", 30)).await.unwrap();
    assert_eq!(table.update().await.unwrap().position("kafka-0"), Some(30));
    assert!(times_added(&lab.log().await).values().all(|n| *n == 1));
}

#[tokio::test]
async fn a_commit_happens_once_whatever_becomes_of_its_answer() {
    use Fault::{LoseAnswer, Refuse, Repeat};
    let sequences: [&[Fault]; 7] = [
        &[LoseAnswer],
        &[LoseAnswer, LoseAnswer],
        &[Refuse],
        &[Refuse, Refuse, Refuse],
        &[Refuse, LoseAnswer],
        &[Repeat, LoseAnswer, Repeat],
        &[Refuse, Repeat, Refuse, LoseAnswer],
    ];
    for faults in sequences {
        let lab = Lab::new();
        let table = lab.create().await;
        lab.faults.on_put("_delta_log", faults.iter().cloned());
        for to in 1..=4 {
            let version = soon(table.commit(&step(&table.snapshot(), "app", to))).await.unwrap();
            assert_eq!(version, to, "{faults:?}");
            assert_eq!(table.snapshot().version, to, "{faults:?}");
        }
        assert!(lab.faults.is_spent(), "{faults:?}");
        let log = lab.log().await;
        assert_eq!(log.len(), 5, "{faults:?}");
        assert!(times_added(&log).values().all(|n| *n == 1), "{faults:?}");
        assert_eq!(content(&table.snapshot()), content(&lab.open().await.snapshot()), "{faults:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_looked_for_until_the_store_can_be_read() {
    let lab = Lab::new();
    let table = lab.create().await;
    let change = append(&table.snapshot(), "a");
    lab.faults.on_put("00001.json", [Fault::LoseAnswer]);
    // The first read is the look at the end of the log before the attempt.
    lab.faults.on_get("00001.json", [Fault::Delay(std::time::Duration::ZERO), Fault::Refuse, Fault::Refuse]);
    assert_eq!(soon(table.commit(&change)).await.unwrap(), 1);
    assert!(lab.faults.is_spent());
    assert_eq!(times_added(&lab.log().await), BTreeMap::from([("a".into(), 1)]));
}

#[tokio::test]
async fn a_lost_answer_is_found_below_the_commits_of_others() {
    let lab = Lab::new();
    let (table, other) = (lab.create().await, lab.open().await);
    let change = step(&table.snapshot(), "app", 1);
    let gate = Gate::new();
    lab.faults.on_put("00001.json", [Fault::LoseAnswer]);
    lab.faults
        .on_get("00001.json", [Fault::Delay(std::time::Duration::ZERO), Fault::Pause(Arc::clone(&gate))]);
    let writing = tokio::spawn(async move { table.commit(&change).await });
    gate.arrived().await;
    for name in ["b", "c"] {
        let on = other.update().await.unwrap();
        other.commit(&append(&on, name)).await.unwrap();
    }
    gate.release();
    assert_eq!(soon(writing).await.unwrap().unwrap(), 1);
    let once = ["app-1", "b", "c"].map(|name| (name.to_owned(), 1));
    assert_eq!(times_added(&lab.log().await), BTreeMap::from(once));
}

#[tokio::test]
async fn a_put_that_lands_after_its_time_out_adds_nothing() {
    let lab = Lab::new();
    let table = lab.create().await;
    let gate = Gate::new();
    lab.faults.on_put("00001.json", [Fault::Late(Arc::clone(&gate))]);
    assert_eq!(soon(table.commit(&append(&table.snapshot(), "a"))).await.unwrap(), 1);
    gate.arrived().await;
    gate.release();
    gate.arrived().await;
    assert_eq!(times_added(&lab.log().await), BTreeMap::from([("a".into(), 1)]));

    // The same where another writer takes the place meanwhile.
    let (gate, reading) = (Gate::new(), Gate::new());
    lab.faults.on_put("00002.json", [Fault::Late(Arc::clone(&gate))]);
    lab.faults
        .on_get("00002.json", [Fault::Delay(std::time::Duration::ZERO), Fault::Pause(Arc::clone(&reading))]);
    let other = lab.open().await;
    let writing = tokio::spawn(async move {
        let change = append(&table.snapshot(), "b");
        table.commit(&change).await
    });
    reading.arrived().await;
    other.commit(&append(&other.snapshot(), "c")).await.unwrap();
    reading.release();
    assert_eq!(soon(writing).await.unwrap().unwrap(), 3);
    gate.arrived().await;
    gate.release();
    gate.arrived().await;
    let once = ["a", "b", "c"].map(|name| (name.to_owned(), 1));
    assert_eq!(times_added(&lab.log().await), BTreeMap::from(once));
}

#[tokio::test]
async fn of_two_writers_racing_for_a_version_both_land_once() {
    let lab = Lab::new();
    let (slow, fast) = (lab.create().await, lab.open().await);
    let gate = Gate::new();
    lab.faults.on_put("00001.json", [Fault::Pause(Arc::clone(&gate))]);
    let change = append(&slow.snapshot(), "slow");
    let racing = tokio::spawn(async move { slow.commit(&change).await });
    gate.arrived().await;
    assert_eq!(fast.commit(&append(&fast.snapshot(), "fast")).await.unwrap(), 1);
    gate.release();
    assert_eq!(soon(racing).await.unwrap().unwrap(), 2);
    let once = ["slow", "fast"].map(|name| (name.to_owned(), 1));
    assert_eq!(times_added(&lab.log().await), BTreeMap::from(once));
}

#[tokio::test]
async fn of_two_writers_racing_from_one_position_one_loses() {
    let lab = Lab::new();
    let (slow, fast) = (lab.create().await, lab.open().await);
    let gate = Gate::new();
    lab.faults.on_put("00001.json", [Fault::Pause(Arc::clone(&gate))]);
    let change = step(&slow.snapshot(), "app", 1);
    let racing = tokio::spawn(async move { slow.commit(&change).await });
    gate.arrived().await;
    fast.commit(&step(&fast.snapshot(), "app", 2)).await.unwrap();
    gate.release();
    assert_eq!(soon(racing).await.unwrap().unwrap_err().kind(), Kind::Conflict);
    assert_eq!(times_added(&lab.log().await), BTreeMap::from([("app-2".to_owned(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_land_every_commit_once_and_in_their_own_order() {
    const WRITERS: i64 = 6;
    const EACH: i64 = 25;
    let lab = Arc::new(Lab::new());
    let shared = Arc::new(lab.create().await);
    let mut writers = vec![];
    for writer in 0..WRITERS {
        // Two of them share a handle, as two connections of one process do.
        let table = if writer < 2 { Arc::clone(&shared) } else { Arc::new(lab.open().await) };
        writers.push(tokio::spawn(async move {
            let app = format!("app{writer}");
            for to in 1..=EACH {
                let on = table.update().await.unwrap();
                table.commit(&step(&on, &app, to)).await.unwrap();
            }
        }));
    }
    for writer in writers {
        soon(writer).await.unwrap();
    }
    let log = lab.log().await;
    assert_eq!(log.len() as i64, WRITERS * EACH + 1);
    assert!(times_added(&log).values().all(|n| *n == 1));
    for writer in 0..WRITERS {
        let app = format!("app{writer}");
        let steps = log.iter().flat_map(|c| &c.txns).filter(|(a, _)| *a == app).map(|(_, to)| *to);
        assert_eq!(steps.collect::<Vec<_>>(), (1..=EACH).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_file_leaves_once() {
    let lab = Lab::new();
    let (table, other) = (lab.create().await, lab.open().await);
    for name in ["a", "b", "c"] {
        table.commit(&append(&table.snapshot(), name)).await.unwrap();
    }
    let planned = other.update().await.unwrap();
    table.commit(&rewrite(&table.snapshot(), &["a", "b"], "ab")).await.unwrap();

    // The same files, and some of them: either would double their rows.
    for removes in [&["a", "b"][..], &["b", "c"]] {
        let lost = other.commit(&rewrite(&planned, removes, "again")).await.unwrap_err();
        assert_eq!(lost.kind(), Kind::Conflict, "{lost}");
        assert!(lost.message().contains(".parquet"), "{lost}");
    }
    // Others are free to go.
    other.commit(&rewrite(&planned, &["c"], "c2")).await.unwrap();
    assert_eq!(names(&table.update().await.unwrap()), ["ab", "c2"]);
}

#[tokio::test]
async fn of_two_rewrites_racing_for_a_version_one_loses() {
    let lab = Lab::new();
    let (slow, fast) = (lab.create().await, lab.open().await);
    slow.commit(&append(&slow.snapshot(), "a")).await.unwrap();
    fast.update().await.unwrap();
    let gate = Gate::new();
    lab.faults.on_put("00002.json", [Fault::Pause(Arc::clone(&gate))]);
    let change = rewrite(&slow.snapshot(), &["a"], "slow");
    let racing = tokio::spawn(async move { slow.commit(&change).await });
    gate.arrived().await;
    fast.commit(&rewrite(&fast.snapshot(), &["a"], "fast")).await.unwrap();
    gate.release();
    assert_eq!(soon(racing).await.unwrap().unwrap_err().kind(), Kind::Conflict);
    assert_eq!(names(&fast.update().await.unwrap()), ["fast"]);
}

#[tokio::test]
async fn a_plan_that_a_replace_makes_void_loses() {
    let lab = Lab::new();
    let (table, other) = (lab.create().await, lab.open().await);
    table.commit(&append(&table.snapshot(), "a")).await.unwrap();
    let planned = other.update().await.unwrap();
    let mut replace = Change::new(CommitKind::Replace, "REFRESH", &planned);
    replace.ranges = Some(TimeRanges::from(vec![(0, 10)]));
    replace.adds = vec![file("r")];
    table.commit(&replace).await.unwrap();

    let mut fold = append(&planned, "fold");
    fold.refuses_replace = true;
    assert_eq!(other.commit(&fold).await.unwrap_err().kind(), Kind::Conflict);
    // An INSERT does not care.
    other.commit(&append(&planned, "insert")).await.unwrap();
}

#[tokio::test]
async fn an_append_in_flight_loses_to_a_change_of_the_definition() {
    let lab = Lab::new();
    let (table, other) = (lab.create().await, lab.open().await);
    let planned = other.update().await.unwrap();
    let mut options = Change::new(CommitKind::Metadata, "SET TBLPROPERTIES", &table.snapshot());
    let mut metadata = table.snapshot().metadata.as_ref().clone();
    metadata.configuration.insert("toplake.max_future".into(), "1".into());
    options.metadata = Some(metadata.clone());
    table.commit(&options).await.unwrap();

    let lost = other.commit(&append(&planned, "a")).await.unwrap_err();
    assert_eq!(lost.kind(), Kind::Conflict, "{lost}");
    let lost = other.commit(&options).await.unwrap_err();
    assert_eq!(lost.kind(), Kind::Conflict, "two changes of the definition: {lost}");
    other.commit(&append(&other.snapshot(), "a")).await.unwrap();

    // Dropped and made again: nothing that was planned before may land, not even what only moves a position.
    let planned = other.snapshot();
    let mut anew = Change::new(CommitKind::Metadata, "CREATE TABLE", &table.update().await.unwrap());
    anew.metadata = Some(Metadata { id: "another".into(), ..metadata });
    anew.removes = planned.files.values().cloned().collect();
    table.commit(&anew).await.unwrap();
    let mut position = step(&planned, "app", 1);
    position.adds.clear();
    assert_eq!(other.commit(&position).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(names(&other.update().await.unwrap()), Vec::<&str>::new());
}

#[tokio::test]
async fn a_table_that_needs_a_newer_writer_is_read_and_not_written() {
    let lab = Lab::new();
    let table = lab.create().await;
    table.commit(&append(&table.snapshot(), "a")).await.unwrap();
    lab.put(
        2,
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking"]}}"#,
    )
    .await;
    let opened = lab.open().await;
    assert_eq!(names(&opened.snapshot()), ["a"]);
    let refused = opened.commit(&append(&opened.snapshot(), "b")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NotSupported, "{refused}");
    lab.put(
        3,
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"]}}"#,
    )
    .await;
    let refused = Table::open("t", lab.store.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NotSupported, "{refused}");
    assert!(refused.message().contains("deletionVectors"), "{refused}");
}

/// One random history: whoever follows it, opens it, or asks for any of its versions sees the same.
async fn history(seed: u64, length: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let lab = Lab::new();
    let (writer, follower) = (lab.create().await, lab.open().await);
    let mut seen = vec![writer.snapshot()];
    let mut next_file = 0;
    while seen.len() < length {
        let now = writer.update().await.unwrap();
        let some: Vec<_> = now.files.values().filter(|_| rng.random_ratio(1, 4)).cloned().collect();
        let mut change = match rng.random_range(0..10) {
            0..=4 => Change::new(CommitKind::Append, "WRITE", &now),
            5 => Change { removes: some, ..Change::new(CommitKind::Rewrite, "OPTIMIZE", &now) },
            6 => Change {
                removes: some,
                ranges: Some(vec![(0, rng.random_range(1..100))].into()),
                sources: Some(BTreeMap::from([("s".to_owned(), rng.random_range(0..100))])),
                ..Change::new(CommitKind::Replace, "REFRESH", &now)
            },
            7 => {
                let mut metadata = now.metadata.as_ref().clone();
                metadata.configuration.insert("k".into(), rng.random_range(0..1000).to_string());
                let mut change = Change::new(CommitKind::Metadata, "SET TBLPROPERTIES", &now);
                change.metadata = Some(metadata);
                change
            }
            8 => {
                let table = if rng.random() { &writer } else { &follower };
                table.update().await.unwrap();
                table.checkpoint().await.unwrap();
                continue;
            }
            _ => {
                follower.update().await.unwrap();
                continue;
            }
        };
        if change.kind != CommitKind::Metadata {
            for _ in 0..rng.random_range(0..4) {
                let mut add = file(&format!("f {next_file}%"));
                add.path = add.path.replace('%', "%25").replace(' ', "%20");
                if rng.random() {
                    add.tags = Some([("toplake.part".to_owned(), Some("append".to_owned()))].into());
                }
                if rng.random_ratio(1, 5) {
                    add.stats = None;
                }
                change.adds.push(add);
                next_file += 1;
            }
        }
        for app in ["a", "b", "c"].iter().filter(|_| rng.random_ratio(1, 3)) {
            let from = now.position(app);
            change.positions.push(Position { app: (*app).into(), from, to: from.unwrap_or(0) + 1 });
        }
        // The follower's handle also writes at times.
        let committer = if rng.random_ratio(1, 4) { &follower } else { &writer };
        committer.commit(&change).await.unwrap();
        seen.push(committer.snapshot());
    }
    let newest = seen.last().unwrap();
    let fresh = lab.open().await;
    for (who, table) in [("writer", &writer), ("follower", &follower), ("fresh", &fresh)] {
        let now = table.update().await.unwrap();
        assert_eq!(content(&now), content(newest), "{who}, seed {seed}");
    }
    for old in &seen {
        assert_eq!(content(&fresh.snapshot_at(old.version).await.unwrap()), content(old), "seed {seed}");
    }
    for _ in 0..10 {
        let after = rng.random_range(-1..newest.version);
        let through = rng.random_range(after..=newest.version);
        let read = |commits: Vec<Arc<Commit>>| commits.iter().map(|c| commit_content(c)).collect::<Vec<_>>();
        let expected = read(fresh.commits(after, through).await.unwrap());
        assert_eq!(expected.len() as i64, through - after, "seed {seed}");
        assert_eq!(read(writer.commits(after, through).await.unwrap()), expected, "seed {seed}");
        assert_eq!(read(follower.commits(after, through).await.unwrap()), expected, "seed {seed}");
    }
}

#[tokio::test]
async fn following_the_log_equals_opening_the_table() {
    for seed in 0..12 {
        history(seed, 30).await;
    }
    // Past the version where checkpoints are written by themselves, and where following gives way to opening.
    history(100, 230).await;
}

#[tokio::test]
async fn a_checkpoint_stands_for_all_that_is_before_it() {
    let lab = Lab::new();
    let table = lab.create().await;
    for to in 1..=5 {
        table.commit(&step(&table.snapshot(), "app", to)).await.unwrap();
    }
    table.commit(&rewrite(&table.snapshot(), &["app-1", "app-2"], "app-12")).await.unwrap();
    let replayed = lab.open().await.snapshot();
    table.checkpoint().await.unwrap();
    let (_, _, lists) = lab.faults.requests.so_far();
    let from_checkpoint = lab.open().await.snapshot();
    assert_eq!(content(&from_checkpoint), content(&replayed));
    assert_eq!(lab.faults.requests.so_far().2, lists, "opening from a checkpoint takes no listing");

    // The commits before it may be cleaned up, as other engines do; what they held is still there.
    for version in 0..6 {
        lab.remove(version).await;
    }
    assert_eq!(content(&lab.open().await.snapshot()), content(&replayed));
    table.commit(&step(&table.snapshot(), "app", 6)).await.unwrap();
    assert_eq!(content(&lab.open().await.snapshot()), content(&table.snapshot()));
    let gone = lab.open().await.snapshot_at(3).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::Corrupt, "{gone}");
}

#[tokio::test]
async fn an_older_version_is_read_without_newer_checkpoints() {
    let lab = Lab::new();
    let table = lab.create().await;
    for to in 1..=9 {
        table.commit(&step(&table.snapshot(), "app", to)).await.unwrap();
        if to % 3 == 0 {
            table.checkpoint().await.unwrap();
        }
    }
    for version in 0..=9 {
        let old = table.snapshot_at(version).await.unwrap();
        assert_eq!((old.version, old.files.len() as i64), (version, version));
        assert_eq!(old.position("app"), (version > 0).then_some(version));
    }
    assert_eq!(table.snapshot_at(10).await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_follower_that_is_far_behind_catches_up() {
    let lab = Lab::new();
    let (table, follower) = (lab.create().await, lab.open().await);
    for to in 1..=150 {
        table.commit(&step(&table.snapshot(), "app", to)).await.unwrap();
    }
    let now = follower.update().await.unwrap();
    assert_eq!(content(&now), content(&table.snapshot()));
    assert_eq!(follower.commits(10, 150).await.unwrap().len(), 140);
    follower.commit(&step(&now, "app", 151)).await.unwrap();
}

#[tokio::test]
async fn a_hole_in_the_log_is_named() {
    let lab = Lab::new();
    let table = lab.create().await;
    for to in 1..=5 {
        table.commit(&step(&table.snapshot(), "app", to)).await.unwrap();
    }
    lab.remove(3).await;
    let hole = Table::open("t", lab.store.clone()).await.unwrap_err();
    assert_eq!(hole.kind(), Kind::Corrupt);
    assert!(hole.message().contains("00000000000000000003.json"), "{hole}");
    // Whoever asks for the commits must not be given those around the hole.
    let hole = log::read_commits(&lab.store, 1, 5).await.unwrap_err();
    assert_eq!(hole.kind(), Kind::Corrupt, "{hole}");

    // Also at the beginning, and after a checkpoint.
    lab.remove(0).await;
    let hole = Table::open("t", lab.store.clone()).await.unwrap_err();
    assert!(hole.message().contains("00000000000000000000.json"), "{hole}");
    table.checkpoint().await.unwrap();
    assert_eq!(lab.open().await.snapshot().version, 5);
    lab.put(7, "{}").await;
    let hole = Table::open("t", lab.store.clone()).await.unwrap_err();
    assert!(hole.message().contains("00000000000000000006.json"), "{hole}");
}

#[tokio::test]
async fn a_broken_line_is_named() {
    let lab = Lab::new();
    let table = lab.create().await;
    for broken in [
        r#"{"commitInfo":{}}"#.to_owned() + "\n\n{\"add\":{\"path\":",
        "{}\n\n{\"txn\":{\"appId\":1}}".into(),
    ] {
        lab.put(1, &broken).await;
        for e in [Table::open("t", lab.store.clone()).await.map(|_| ()), table.update().await.map(|_| ())] {
            let e = e.unwrap_err();
            assert_eq!(e.kind(), Kind::Corrupt, "{e}");
            assert!(e.message().contains("line 3 of") && e.message().contains("00001.json"), "{e}");
        }
    }
    // A commit that was cut off in the middle, and a file that is no checkpoint.
    let whole =
        lab.store.object_store().get(&log::commit_path(&lab.store, 0)).await.unwrap().bytes().await.unwrap();
    lab.put(1, std::str::from_utf8(&whole[..whole.len() - 10]).unwrap()).await;
    assert_eq!(table.update().await.unwrap_err().kind(), Kind::Corrupt);
    lab.remove(1).await;
    table.checkpoint().await.unwrap();
    lab.store.put(&log::checkpoint_path(&lab.store, 0), b"PAR1".as_slice().into()).await.unwrap();
    let e = Table::open("t", lab.store.clone()).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt);
    assert!(e.message().contains("00000.checkpoint.parquet"), "{e}");
}
