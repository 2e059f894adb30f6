//! Files on their way from table to table: they arrive however long nothing was on its way and whatever was cleaned up in
//! between, and whoever cleans up while they do leaves them.

use std::sync::Arc;
use std::time::Duration;

use toplake::ingest::files::find;
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, ingest};
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::log::commit_path;
use toplake::maintain::target::Target;
use toplake::maintain::vacuum::{Horizon, vacuum};

use crate::harness::{Desk, Fault, Gate, Home, soon};

const SCHEMA: &str = "
    CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '10 minutes', late = 'divert');
    INSERT INTO sales VALUES (0, '2026-03-01 10:00:00', 'p', 1);";

async fn vacuum_now(desk: &Desk, name: &str) {
    let target = Target::find(desk.engine.warehouse(), name).await.unwrap();
    vacuum(desk.engine.warehouse(), &target, true, Some(Horizon(Duration::ZERO))).await.unwrap();
}

/// One row that comes late and one that cannot be stored; nobody follows the commit that names them.
async fn ingest_unfollowed(home: &Home, desk: &Desk, id: usize) {
    let path = home.path(&format!("{id}.csv"));
    std::fs::write(&path, format!("event_id,event_time\n{id},2026-03-01 09:00:00\n{id},never\n")).unwrap();
    let files = find(&[path.to_str().unwrap().to_owned()], None, None).await.unwrap();
    let options = Options { follow: false, max_errors: "90%".parse().unwrap(), ..Options::default() };
    let done = ingest(&desk.engine, "sales", &files, &options, &mut Progress::hidden()).await.unwrap();
    assert_eq!((done.late, done.dead), (1, 1));
}

/// Many commits that name nothing, after which the log before them is gone.
async fn long_idle(desk: &Desk, name: &str) {
    let table = desk.table(name).await;
    for _ in 0..120 {
        table.commit(&Change::new(CommitKind::Rewrite, "IDLE", &table.snapshot())).await.unwrap();
    }
    table.checkpoint().await.unwrap();
    let idle = table.snapshot().version;
    vacuum_now(desk, name).await;
    let gone = commit_path(table.store(), idle - 1);
    assert!(table.store().get(&gone).await.unwrap().is_none(), "the log of {name} is cleaned up to {idle}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_however_much_of_the_log_is_gone() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for round in 1..=3 {
        for name in ["sales", "sales_late"] {
            long_idle(&desk, name).await;
        }
        ingest_unfollowed(&home, &desk, round).await;
        for desk in [&desk, &home.desk().await] {
            assert_eq!(desk.rows("SELECT event_id FROM sales_late").await, [round.to_string()]);
            let letters = desk.value("SELECT count(*) FROM toplake.dead_letters").await;
            assert_eq!(letters, round.to_string());
        }
        let accepting = home.desk().await;
        if round == 2 {
            // The vacuum follows, and then nothing is left to follow.
            vacuum_now(&desk, "sales").await;
        }
        assert_eq!(accepting.rows("CALL accept_late('sales')").await, ["sales,1"]);
        vacuum_now(&desk, "toplake.dead_letters").await;
        assert_eq!(desk.value("SELECT count(*) FROM sales").await, (round + 1).to_string());
        assert_eq!(desk.value("SELECT count(*) FROM sales_late").await, "0");
    }
    for name in ["sales", "sales_late"] {
        long_idle(&desk, name).await;
    }
    desk.run("DROP TABLE sales").await;
    assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "3");
}

/// Whoever pinned the late table before its files were added and the log was cleaned up is told to look again: what it would
/// read is not all there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_old_for_the_log_does_not_miss_files() {
    use toplake::catalog::outbox::Route;
    use toplake::error::Kind;
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let (events, late) = (desk.table("sales").await, desk.table("sales_late").await);
    ingest_unfollowed(&home, &desk, 1).await;
    let pinned = late.snapshot();
    assert_eq!(Route::Late.pending(&pinned, &events, &events.snapshot()).await.unwrap().len(), 1);
    long_idle(&desk, "sales").await;
    // A process that has none of it in memory.
    let other = home.desk().await.table("sales").await;
    let refused = Route::Late.pending(&pinned, &other, &other.snapshot()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict, "{refused}");
    assert!(
        Route::Late
            .pending(&late.update().await.unwrap(), &other, &other.snapshot())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_long_is_found_without_reading_the_log() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for round in 1..=2 {
        let sales = desk.table("sales").await;
        for _ in 0..150 {
            sales.commit(&Change::new(CommitKind::Rewrite, "IDLE", &sales.snapshot())).await.unwrap();
        }
        sales.checkpoint().await.unwrap();
        ingest_unfollowed(&home, &desk, round).await;
        let (fresh, store) = home.faulty_desk().await;
        fresh.run("SELECT count(*) FROM sales").await;
        let (_, before, _) = store.requests.so_far();
        assert_eq!(fresh.value("SELECT count(*) FROM sales_late").await, round.to_string());
        let (_, after, _) = store.requests.so_far();
        // Each object is looked for once, and the next commits of both tables.
        assert!(after - before < 80, "{}", after - before);
        desk.run("CALL accept_late('sales', '2020-01-01', '2020-01-02')").await;
    }
}

/// At whatever moment of a vacuum a follower adds the files.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_vacuum_leaves_what_a_follower_adds_meanwhile() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for before in 0.. {
        ingest_unfollowed(&home, &desk, before + 1).await;
        let (slow, faults) = home.faulty_desk().await;
        // What is open before costs the vacuum no request, so that those which count are its own.
        slow.table("sales_late").await;
        let gate = Gate::new();
        faults.on_get("sales", vec![Fault::Delay(Duration::ZERO); before]);
        faults.on_get("sales", [Fault::Pause(Arc::clone(&gate))]);
        let mut vacuuming = tokio::spawn(async move { vacuum_now(&slow, "sales_late").await });
        let paused = tokio::select! {
            () = gate.arrived() => true,
            done = soon(&mut vacuuming) => { done.unwrap(); false }
        };
        desk.engine.warehouse().follow(&*desk.table("sales").await).await.unwrap();
        if paused {
            gate.release();
            soon(vacuuming).await.unwrap();
        }
        let expected = (before + 1).to_string();
        for desk in [&desk, &home.desk().await] {
            assert_eq!(desk.value("SELECT count(event_id) FROM sales_late").await, expected, "{before}");
        }
        if !paused {
            assert!(before > 5, "{before}");
            return;
        }
    }
}
