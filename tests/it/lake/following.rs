//! Whoever follows the log sees what whoever opens the table sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::error::Kind;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::{Change, Position};
use toplake::lake::log;
use toplake::lake::snapshot::Commit;
use toplake::lake::table::Table;

use super::{Lab, content, file, rewrite, step};

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
