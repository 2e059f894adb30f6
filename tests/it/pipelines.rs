//! Pipelines, as operators see them: how they are, how far they are, and moving them by hand.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use toplake::catalog::offsets::{Offset, Stream};
use toplake::catalog::pipelines::{
    FORGOTTEN_AFTER, LOST_AFTER, PartitionStatus, PipelineState, PipelineStatus, RESUME,
};
use toplake::error::Kind;
use toplake::lake::action::{CommitKind, LedgerEntry};
use toplake::lake::committer::{Change, Position};
use toplake::lake::event_times::{Partition, Seen};
use toplake::lake::table::{Table, now_ms};

use crate::harness::{Home, soon};

const SCHEMA: &str = "
    CREATE TABLE clicks (ad BIGINT, event_time TIMESTAMP NOT NULL) WITH (time_column = 'event_time');";

const SOURCE: &str = "kafka:eu/clicks/5Jc9";

/// 2026-03-01 10:00:00, in microseconds.
const TEN: i64 = 1_772_359_200_000_000;

fn status(name: &str, instance: &str) -> PipelineStatus {
    let partition = |number, position, end| PartitionStatus {
        source: SOURCE.into(),
        topic: "clicks".into(),
        partition: number,
        position,
        end,
        newest: None,
    };
    PipelineStatus {
        name: name.into(),
        instance: instance.into(),
        table: "clicks".into(),
        host: "ingest-1".into(),
        pid: 4711,
        started: TEN,
        written: 0,
        state: PipelineState::Running,
        reason: None,
        since: TEN,
        partitions: vec![partition(0, 100, Some(120)), partition(1, 50, Some(45))],
        consumed_per_second: 12.5,
        window: 1000,
        errors: 3,
    }
}

/// Consumes a partition up to `to`, as a pipeline does, with messages that the broker took `after` microseconds after 10:00.
async fn consume(table: &Table, number: i64, to: i64, end: i64, after: i64) -> toplake::error::Result<i64> {
    let on = table.snapshot();
    let partition = Partition { source: SOURCE.into(), number };
    let app = partition.consumed_app(&on.metadata.id);
    let from = on.position(&app);
    let consumed = (to - from.unwrap_or(0)) as u64;
    let mut change = Change::new(CommitKind::Append, "INGEST", &on);
    change.positions = vec![Position { app, from, to }];
    change.ledger = vec![LedgerEntry {
        source: SOURCE.into(),
        partition: Some(number),
        from: from.unwrap_or(0),
        to,
        consumed,
        stored: consumed,
        newest: Some(TEN + after),
        end: Some(end),
        ..Default::default()
    }];
    change.seen = Seen { active: [(partition, Some(TEN))].into(), ..Default::default() };
    table.commit(&change).await
}

/// As if an object had been written so long ago.
fn age(home: &Home, path: &str, by: Duration) {
    let file = std::fs::File::options().write(true).open(home.path(path)).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

const PIPELINES: &str = "SELECT name, table_name, state, reason, host, pid, instance, partitions, lag,
                                consumed_per_second, window, errors FROM toplake.pipelines ORDER BY 1, 7";

#[tokio::test(flavor = "multi_thread")]
async fn every_process_sees_how_pipelines_are() {
    let home = Home::new();
    let (here, there) = (home.desk().await, home.desk().await);
    assert!(there.rows(PIPELINES).await.is_empty());
    let warehouse = here.engine.warehouse();
    warehouse.report(&status("clicks", "a")).await.unwrap();
    let stopped = PipelineStatus {
        state: PipelineState::Stopped,
        reason: Some("7 % of 1000 messages are bad".into()),
        partitions: vec![],
        ..status("a/b ü", "b")
    };
    warehouse.report(&stopped).await.unwrap();
    let bad = "a/b ü,clicks,stopped,7 % of 1000 messages are bad,ingest-1,4711,b,0,0,12.5,1000,3";
    let good = "clicks,clicks,running,NULL,ingest-1,4711,a,2,20,12.5,1000,3";
    assert_eq!(there.rows(PIPELINES).await, [bad, good]);
    let recent = "SELECT bool_and(written BETWEEN now() - INTERVAL '1 minute' AND now() + INTERVAL '1 second'
                                  AND started = since) FROM toplake.pipelines";
    assert_eq!(there.value(recent).await, "true");
    let again = there.engine.warehouse().pipelines().await.unwrap();
    assert_eq!(again[0], PipelineStatus { written: again[0].written, ..stopped.clone() });

    // A report takes the place of the one before. What nobody can read keeps nobody from reading the others.
    let waiting = PipelineStatus { state: PipelineState::Waiting, ..status("clicks", "a") };
    warehouse.report(&waiting).await.unwrap();
    std::fs::write(home.path("_toplake/pipelines/other-c.json"), "{\"name\":").unwrap();
    assert_eq!(there.rows("SELECT instance, state FROM toplake.pipelines").await, ["a,waiting", "b,stopped"]);

    age(&home, "_toplake/pipelines/clicks-a.json", LOST_AFTER + Duration::from_secs(2));
    assert_eq!(there.rows("SELECT instance, state FROM toplake.pipelines").await, ["a,lost", "b,stopped"]);
    there.engine.warehouse().forget_lost_pipelines(FORGOTTEN_AFTER).await.unwrap();
    assert_eq!(there.value("SELECT count(*) FROM toplake.pipelines").await, "2");
    age(&home, "_toplake/pipelines/clicks-a.json", FORGOTTEN_AFTER + Duration::from_secs(2));
    there.engine.warehouse().forget_lost_pipelines(FORGOTTEN_AFTER).await.unwrap();
    assert_eq!(there.rows("SELECT instance, state FROM toplake.pipelines").await, ["b,stopped"]);

    warehouse.withdraw("a/b ü", "b").await.unwrap();
    warehouse.withdraw("a/b ü", "b").await.unwrap();
    assert!(there.rows(PIPELINES).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_resumed_sees_it_in_the_log() {
    let home = Home::new();
    let (here, there) = (home.desk().await, home.desk().await);
    here.run(SCHEMA).await;
    let unknown = there.try_run("CALL resume('clicks')").await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.hint()), (Kind::InvalidInput, Some("none has run in the last day")));
    let warehouse = here.engine.warehouse();
    for instance in ["a", "b"] {
        warehouse.report(&status("clicks", instance)).await.unwrap();
    }
    let unknown = there.try_run("CALL resume('click')").await.unwrap_err();
    assert!(unknown.hint().unwrap().contains("there are clicks"), "{unknown}");
    let table = here.table("clicks").await;
    assert_eq!(table.snapshot().position(RESUME), None);
    for times in 1..=2 {
        assert_eq!(there.rows("CALL resume('clicks')").await, ["clicks,clicks"]);
        assert_eq!(table.update().await.unwrap().position(RESUME), Some(times));
    }
    // It is no reason for anybody's commit to be planned again.
    let on = table.snapshot();
    there.run("CALL resume('clicks')").await;
    let mut change = Change::new(CommitKind::Append, "WRITE", &on);
    change.refuses_replace = true;
    change.refuses_alteration = true;
    table.commit(&change).await.unwrap();
}

const SOURCES: &str = "SELECT topic, partition, position, end_position, lag, idle, event_to_broker_seconds
                       FROM toplake.sources WHERE table_name = 'clicks' ORDER BY partition";

#[tokio::test(flavor = "multi_thread")]
async fn sources_say_how_far_behind_each_stage_is() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("clicks").await;
    consume(&table, 0, 100, 130, 1_500_000).await.unwrap();
    consume(&table, 1, 7, 7, 250_000).await.unwrap();
    consume(&table, 0, 110, 120, 2_000_000).await.unwrap();
    // The highest end that is known.
    let expected = ["clicks,0,110,130,20,false,2.0", "clicks,1,7,7,0,false,0.25"];
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.rows(SOURCES).await, expected);
        let times = "SELECT bool_and(committed_at BETWEEN now() - INTERVAL '1 minute' AND now()),
                            bool_and(abs(broker_to_commit_seconds - date_part('epoch', committed_at) + 1772359200
                                         + event_to_broker_seconds) < 0.01),
                            count(commit_to_fold_seconds) FROM toplake.sources";
        assert_eq!(desk.value(times).await, "true,true,0");
    }
    // What a pipeline knows counts too, also of a partition that nothing was committed of yet.
    let mut said = status("clicks", "a");
    said.partitions[0].end = Some(200);
    said.partitions[1].partition = 2;
    said.partitions[1].end = Some(60);
    desk.engine.warehouse().report(&said).await.unwrap();
    let elsewhere = PipelineStatus { table: "other".into(), ..status("other", "a") };
    desk.engine.warehouse().report(&elsewhere).await.unwrap();
    let expected =
        ["clicks,0,110,200,90,false,2.0", "clicks,1,7,7,0,false,0.25", "clicks,2,NULL,60,10,NULL,NULL"];
    assert_eq!(desk.rows(SOURCES).await, expected);
    desk.engine.warehouse().withdraw("clicks", "a").await.unwrap();

    // Long after the last message, for a process that has just started: the commit that said it is looked up.
    for _ in 0..120 {
        table.commit(&Change::new(CommitKind::Rewrite, "IDLE", &table.snapshot())).await.unwrap();
    }
    table.checkpoint().await.unwrap();
    let fresh = home.desk().await;
    assert_eq!(fresh.rows(SOURCES).await[0], "clicks,0,110,120,10,false,2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_say_how_long_commits_wait_to_be_folded_and_open_no_file() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let waits = "SELECT commit_to_fold_seconds FROM toplake.sources WHERE table_name = 'clicks'";
    desk.run("INSERT INTO clicks VALUES (1, '2026-03-01 10:00:00')").await;
    assert_eq!(desk.value(waits).await, "NULL");
    for bucket in ["minute", "hour"] {
        desk.run(&format!(
            "CREATE MATERIALIZED VIEW by_{bucket} WITH (refresh_mode = 'incremental') AS
             SELECT time_bucket(INTERVAL '1 {bucket}', event_time) AS bucket, count(*) AS clicks FROM clicks GROUP BY 1"
        ))
        .await;
    }
    assert_eq!(desk.value(waits).await, "0.0");
    let before = now_ms();
    desk.run("INSERT INTO clicks VALUES (2, '2026-03-01 10:01:00')").await;
    desk.run("REFRESH MATERIALIZED VIEW by_hour").await;
    // One of two has folded it.
    let seconds = soon(async {
        loop {
            let seconds: f64 = desk.value(waits).await.parse().unwrap();
            if seconds > 0.0 {
                return seconds;
            }
        }
    })
    .await;
    assert!(seconds <= (now_ms() - before) as f64 / 1e3, "{seconds}");
    for file in std::fs::read_dir(home.path("clicks")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "parquet") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let fresh = home.desk().await;
    assert!(fresh.value(waits).await.parse::<f64>().unwrap() > 0.0);
}

fn offsets(home: &Home, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
    command.arg("offsets").args(arguments).args(["--warehouse", &home.location()]);
    command.stdin(Stdio::null()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_shown_and_moved_by_hand() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("clicks").await;
    consume(&table, 3, 100, 130, 0).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let shown = offsets(&home, &["show", "--table", "clicks"]);
    let out = text(&shown.stdout);
    assert!(
        shown.status.success() && out.contains("| clicks     | kafka:eu/clicks/5Jc9 | 3         | 100 "),
        "{out}"
    );

    let at = ["set", "--table", "clicks", "--topic", "clicks", "--partition", "3", "--offset"];
    let set = |offset: &str, more: &[&str]| offsets(&home, &[&at, &[offset][..], more].concat());
    let forward = set("120", &[]);
    assert!(forward.status.success(), "{}", text(&forward.stderr));
    assert_eq!(text(&forward.stdout), "table 'clicks', kafka:eu/clicks/5Jc9/3: moved from 100 to 120\n");
    // Whoever began at the old position does not commit any more.
    let stale = consume(&table, 3, 110, 130, 0).await.unwrap_err();
    assert_eq!(stale.kind(), Kind::Conflict, "{stale}");

    let back = set("90", &[]);
    assert_eq!(back.status.code(), Some(1));
    assert!(
        text(&back.stderr).contains("30 offsets from 90 on would be consumed again"),
        "{}",
        text(&back.stderr)
    );
    let position = async || table.update().await.unwrap();
    let partition = Partition { source: SOURCE.into(), number: 3 };
    let stands = async || position().await.position(&partition.consumed_app(&table.snapshot().metadata.id));
    assert_eq!(stands().await, Some(120));
    assert!(set("90", &["--yes"]).status.success());
    assert_eq!(stands().await, Some(90));
    assert!(text(&set("90", &[]).stdout).contains("stands at 90 already"));
    let ledger = "SELECT operation, from_position, to_position, consumed FROM toplake.ledger WHERE operation = 'OFFSETS'";
    assert_eq!(desk.rows(ledger).await, ["OFFSETS,100,120,0", "OFFSETS,120,90,0"]);
    consume(&table, 3, 95, 130, 0).await.unwrap();

    let unknown = offsets(
        &home,
        &["set", "--table", "clicks", "--topic", "sales", "--partition", "0", "--offset", "1"],
    );
    assert!(
        text(&unknown.stderr).contains("nothing was consumed from topic 'sales'"),
        "{}",
        text(&unknown.stderr)
    );
    let fresh =
        ["set", "--table", "clicks", "--source", "kafka:eu/sales/9", "--partition", "0", "--offset", "17"];
    let begun = offsets(&home, &fresh);
    assert!(text(&begun.stdout).contains("moved from its beginning to 17"), "{}", text(&begun.stderr));
    assert_eq!(
        offsets(&home, &["set", "--table", "clicks", "--partition", "0", "--offset", "1"]).status.code(),
        Some(2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_moved_since_it_was_looked_at_stays() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table: Arc<Table> = desk.table("clicks").await;
    consume(&table, 0, 10, 30, 0).await.unwrap();
    let found = Offset::of(desk.engine.warehouse(), "clicks", Stream::Topic("clicks"), 0).await.unwrap();
    assert_eq!(found.stands, Some(10));
    consume(&table, 0, 20, 30, 0).await.unwrap();
    let lost = found.move_to(25).await.unwrap_err();
    assert_eq!(lost.kind(), Kind::Conflict, "{lost}");
    assert!(lost.hint().unwrap().contains("stop the pipeline"), "{lost}");
    consume(&table, 0, 30, 30, 0).await.unwrap();
    // Another topic of the same name: which one has to be said.
    let other = Partition { source: "kafka:us/clicks/1".into(), number: 0 };
    let on = table.snapshot();
    let mut change = Change::new(CommitKind::Append, "INGEST", &on);
    change.positions = vec![Position { app: other.consumed_app(&on.metadata.id), from: None, to: 1 }];
    table.commit(&change).await.unwrap();
    let two = Offset::of(desk.engine.warehouse(), "clicks", Stream::Topic("clicks"), 0).await.unwrap_err();
    assert!(two.message().contains("there are 2 topics 'clicks'"), "{two}");
    assert!(two.hint().unwrap().contains(SOURCE), "{two}");
    let one = Offset::of(desk.engine.warehouse(), "clicks", Stream::Source(SOURCE), 0).await.unwrap();
    one.move_to(40).await.unwrap();
    assert!(one.move_to(-1).await.is_err());
}
