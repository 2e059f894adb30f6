//! Every commit lands once or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use toplake::error::Kind;
use toplake::lake::action::{CommitKind, Metadata};
use toplake::lake::committer::Change;
use toplake::lake::range::TimeRanges;
use toplake::lake::snapshot::{Commit, Snapshot};
use toplake::lake::table::Table;

use super::{Lab, append, content, file, rewrite, step};
use crate::harness::{Fault, Gate, soon};

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
