//! Dead letters that are sent again: each becomes a row once, whoever sends it beside whom and whatever dies; what is bad again
//! stays.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use toplake::catalog::dead_letters;
use toplake::catalog::outbox::Route;
use toplake::error::Kind;
use toplake::ingest::files::find;
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, ingest};
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::store::Store;
use toplake::lake::table::{NewTable, Table};
use toplake::lake::writer::FileWriter;
use toplake::maintain::compact::compact;
use toplake::maintain::target::{Rows, Target};
use toplake::maintain::vacuum::{Horizon, vacuum};

use crate::harness::{Desk, Fault, Gate, Home, soon};

const SCHEMA: &str = "
    CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '10 minutes');
    CREATE TABLE other (event_id BIGINT, event_time TIMESTAMP NOT NULL) WITH (time_column = 'event_time');";

/// A transform that knows what 'many' is.
const MANY: &str = "transform => 'SELECT event_id, event_time, product_id,
    CASE quantity WHEN ''many'' THEN 100 ELSE CAST(quantity AS BIGINT) END AS quantity FROM input'";

/// Has a table ingest lines, most of them bad; nobody follows.
async fn ingest_lines(home: &Home, desk: &Desk, table: &str, name: &str, text: &str) -> u64 {
    let path = home.path(name);
    std::fs::write(&path, text).unwrap();
    let files = find(&[path.to_str().unwrap().to_owned()], None, None).await.unwrap();
    let options = Options { follow: false, max_errors: "100%".parse().unwrap(), ..Options::default() };
    ingest(&desk.engine, table, &files, &options, &mut Progress::hidden()).await.unwrap().dead
}

/// Lines whose quantity is 'many', by number.
fn many(from: i64, to: i64) -> String {
    let line = |i: i64| {
        format!(
            "{{\"event_id\":{i},\"event_time\":\"2026-03-01 10:{:02}:00\",\"product_id\":\"p\",\"quantity\":\"many\"}}\n",
            i % 60
        )
    };
    (from..to).map(line).collect()
}

const LETTERS: &str = "SELECT table_name, position, reason FROM toplake.dead_letters";
const IDS: &str = "SELECT count(*), count(DISTINCT event_id) FROM sales";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mended_is_stored_and_what_is_bad_again_stays_with_the_new_reason() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let lines = r#"{"event_id":1,"event_time":"2026-03-01 10:00:00","product_id":"p","quantity":"many"}
{"event_id":2,"event_time":"2026-03-01 11:00:00","quantity":"few"}
nonsense
{"event_id":4,"event_time":"2026-03-01 12:00:00","quantity":4.5}
{"event_id":5,"event_time":"2026-03-01 12:00:00","quantity":"many"}
"#;
    assert_eq!(ingest_lines(&home, &desk, "sales", "a.ndjson", lines).await, 5);
    assert_eq!(ingest_lines(&home, &desk, "other", "b.ndjson", "{\"event_id\":1}\n").await, 1);
    let before = desk.rows(LETTERS).await;
    // Nothing has changed: nothing is written.
    let letters = desk.engine.warehouse().dead_letters().table().await.unwrap();
    assert_eq!(desk.rows("CALL replay_dead_letters('sales')").await, ["sales,0,0,5"]);
    let version = letters.update().await.unwrap().version;
    assert_eq!(desk.rows("CALL replay_dead_letters('sales')").await, ["sales,0,0,5"]);
    assert_eq!((letters.update().await.unwrap().version, desk.rows(LETTERS).await), (version, before));

    let call = format!("CALL replay_dead_letters('sales', reason => '%does not fit BIGINT%', {MANY})");
    assert_eq!(desk.rows(&call).await, ["sales,2,0,2"]);
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.rows("SELECT event_id, quantity FROM sales").await, ["1,100", "5,100"]);
        let left = desk.rows(LETTERS).await;
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(left[0].starts_with("other,1,"), "{left:?}");
        assert!(left[1].starts_with("sales,2,transform: ") && left[1].contains("few"), "{left:?}");
        assert!(left[2].starts_with("sales,3,") && !left[2].contains("transform"), "{left:?}");
        assert!(left[3].starts_with("sales,4,transform: ") && left[3].contains("4.5"), "{left:?}");
    }
    // The WHERE of a transform leaves out; the line and the file are known to it.
    let call = "CALL replay_dead_letters('sales', '2020-01-01', reason => 'transform%', transform => '
        SELECT event_id, event_time, input_file AS product_id, input_line AS quantity FROM input WHERE event_id > 2')";
    assert_eq!(desk.rows(call).await, ["sales,1,1,0"]);
    let row =
        desk.value("SELECT product_id LIKE 'file://%a.ndjson', quantity FROM sales WHERE event_id = 4").await;
    assert_eq!(row, "true,4");
    let none = "CALL replay_dead_letters('sales', '2020-01-01', '2020-01-02')";
    assert_eq!(desk.rows(none).await, ["sales,0,0,0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_csv_need_their_header_and_unknown_keys_are_bad_by_themselves() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let text = "event_id;event_time;quantity\n1;2026-03-01 10:00:00;many\n2;2026-03-01 11:00:00;7;8\n";
    std::fs::write(home.path("a.csv"), text).unwrap();
    let files = find(&[home.path("a.csv").to_str().unwrap().to_owned()], None, Some(b';')).await.unwrap();
    let options = Options { max_errors: "100%".parse().unwrap(), ..Options::default() };
    ingest(&desk.engine, "sales", &files, &options, &mut Progress::hidden()).await.unwrap();
    let call = format!(
        "CALL replay_dead_letters('sales', format => 'csv', header => 'event_id;event_time;quantity;product_id',
                                  delimiter => ';', {MANY})"
    );
    // The second has four fields, as the other header says.
    assert_eq!(desk.rows(&call).await, ["sales,1,0,1"]);
    assert_eq!(desk.rows("SELECT event_id, quantity, product_id FROM sales").await, ["2,7,8"]);

    desk.run("DELETE FROM toplake.dead_letters WHERE payload NOT LIKE '{%'").await;
    let letters = [
        r#"{"Event_Id":4,"event_time":"2026-03-01 12:00:00","quantity":1}"#,
        r#"{"Event_Id":5,"event_time":"2026-03-01 12:00:00","colour":1}"#,
        r#"{"Event_Id":6,"event_time":"2999-03-01 12:00:00"}"#,
        " ",
    ];
    for (position, payload) in letters.iter().enumerate() {
        write_letter(&desk, "sales", position as i64, &format!("'{payload}'")).await;
    }
    write_letter(&desk, "sales", 9, "NULL").await;
    assert_eq!(desk.rows("CALL replay_dead_letters('sales')").await, ["sales,1,0,4"]);
    assert_eq!(desk.value("SELECT quantity FROM sales WHERE event_id = 4").await, "1");
    let reasons = desk.rows("SELECT reason FROM toplake.dead_letters").await.join("\n");
    for reason in ["colour", "max_future", "payload is empty", "payload was not kept"] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
}

/// A letter with the columns of today, as a stream writes it.
async fn write_letter(desk: &Desk, table: &str, position: i64, payload: &str) {
    let letters = Rows::of_side(desk.engine.warehouse().dead_letters()).await.unwrap().table;
    let sql = format!(
        "SELECT now(), '{table}', 'kafka:c/sales/id', {position}, 'why', {payload}, 'sales' AS topic, 3 AS partition"
    );
    let mut writer = FileWriter::new(letters.store(), Arc::clone(&dead_letters::SCHEMA), None);
    for batch in desk.try_run(&sql).await.unwrap() {
        writer.write(&batch).await.unwrap();
    }
    let mut change = Change::new(CommitKind::Append, "OUTBOX", &letters.update().await.unwrap());
    change.adds = writer.finish().await.unwrap();
    letters.commit(&change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("ALTER TABLE sales SET (late = 'divert'); CREATE VIEW v AS SELECT 1").await;
    ingest_lines(&home, &desk, "sales", "a.ndjson", &many(0, 3)).await;
    for (call, kind, words) in [
        ("'nothing'", Kind::UndefinedTable, "nothing"),
        ("'v'", Kind::WrongObjectType, "view"),
        ("'sales_late'", Kind::WrongObjectType, "late rows of 'sales'"),
        ("'sales', format => 'xml'", Kind::InvalidInput, "'xml'"),
        ("'sales', format => 'csv'", Kind::InvalidInput, "header"),
        ("'sales', header => 'a,b'", Kind::InvalidInput, "format 'csv'"),
        ("'sales', format => 'csv', header => 'a,b', delimiter => '<>'", Kind::InvalidInput, "delimiter"),
        ("'sales', format => 'csv', header => 'a,b'", Kind::UndefinedColumn, "'a'"),
        ("'sales', transform => 'SELECT price FROM input'", Kind::UndefinedColumn, "price"),
        ("'sales', nonsense => 'x'", Kind::InvalidInput, "no parameter 'nonsense'"),
        ("'sales', format => 'json', 'x'", Kind::InvalidInput, "follows one that has a name"),
        ("reason => 'x'", Kind::InvalidInput, "it needs 'table'"),
        ("'sales', reason => 'x', reason => 'y'", Kind::InvalidInput, "'reason' twice"),
    ] {
        let e = desk.try_run(&format!("CALL replay_dead_letters({call})")).await.unwrap_err();
        assert!(e.kind() == kind && e.message().contains(words), "{call}: {:?} {e}", e.kind());
    }
    assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "3");
    assert_eq!(desk.value(IDS).await, "0,0");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_ones_go_where_the_table_has_them_go() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    // From 10:00 to 10:29.
    ingest_lines(&home, &desk, "sales", "a.ndjson", &many(0, 30)).await;
    desk.run("ALTER TABLE sales SET (late = 'divert')").await;
    desk.run("INSERT INTO sales VALUES (1000, '2026-03-01 10:20:00', 'p', 1)").await;

    // The rows are on their way when the watermark rises from 10:10 to 10:20: it is the follower who decides.
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let replaying = tokio::spawn({
        let call = format!("CALL replay_dead_letters('sales', {MANY})");
        async move { slow.rows(&call).await }
    });
    gate.arrived().await;
    desk.run("INSERT INTO sales VALUES (1001, '2026-03-01 10:30:00', 'p', 1)").await;
    gate.release();
    assert_eq!(soon(replaying).await.unwrap(), ["sales,30,0,0"]);
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.value("SELECT count(*), min(event_id) FROM sales").await, "12,20");
        assert_eq!(desk.value("SELECT count(*), max(event_id) FROM sales_late").await, "20,19");
        assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_between_the_commits_and_whatever_answer_is_lost_each_counts_once() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let call = format!("CALL replay_dead_letters('sales', {MANY})");
    let places = ["_toplake/dead_letters/_delta_log", "sales/_delta_log"];
    let mut sent = 0;
    for (round, place) in places.into_iter().enumerate() {
        ingest_lines(&home, &desk, "sales", &format!("{round}.ndjson"), &many(sent, sent + 10)).await;
        desk.engine.warehouse().follow(&*desk.table("sales").await).await.unwrap();
        sent += 10;
        let (dying, faults) = home.faulty_desk().await;
        let gate = Gate::new();
        faults.on_put(place, [Fault::Pause(Arc::clone(&gate))]);
        let call = call.clone();
        let replaying = tokio::spawn(async move { dying.rows(&call).await });
        gate.arrived().await;
        replaying.abort();
        assert!(soon(replaying).await.unwrap_err().is_cancelled());
        // Letters, or on their way: a vacuum leaves them alone, and the next one sends them.
        for name in ["sales", "toplake.dead_letters"] {
            let target = Target::find(desk.engine.warehouse(), name).await.unwrap();
            let now = Some(Horizon(std::time::Duration::ZERO));
            vacuum(desk.engine.warehouse(), &target, true, now).await.unwrap();
        }
        desk.run(&format!("CALL replay_dead_letters('sales', {MANY})")).await;
        assert_eq!(desk.value(IDS).await, format!("{sent},{sent}"), "{place}");
        assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "0");
    }
    for place in places {
        for faults in [vec![Fault::LoseAnswer], vec![Fault::Refuse, Fault::LoseAnswer], vec![Fault::Repeat]] {
            let name = format!("{sent}.ndjson");
            ingest_lines(&home, &desk, "sales", &name, &many(sent, sent + 10)).await;
            desk.engine.warehouse().follow(&*desk.table("sales").await).await.unwrap();
            sent += 10;
            let (unlucky, store) = home.faulty_desk().await;
            store.on_put(place, faults);
            assert_eq!(unlucky.rows(&call).await, ["sales,10,0,0"]);
            assert!(store.is_spent());
            assert_eq!(desk.value(IDS).await, format!("{sent},{sent}"), "{place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_send_again_while_letters_come_in() {
    const SENDERS: usize = 3;
    const ROUNDS: i64 = 8;
    let home = Arc::new(Home::new());
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let coming = tokio::spawn({
        let (home, desk) = (Arc::clone(&home), home.desk().await);
        async move {
            for round in 0..ROUNDS {
                let name = format!("{round}.ndjson");
                ingest_lines(&home, &desk, "sales", &name, &many(round * 10, round * 10 + 10)).await;
                ingest_lines(&home, &desk, "other", &format!("other {name}"), "nonsense\n").await;
                let target = Target::find(desk.engine.warehouse(), "toplake.dead_letters").await.unwrap();
                compact(&target, &desk.engine.state()).await.unwrap();
            }
        }
    });
    let sending = (0..SENDERS).map(|_| {
        let home = Arc::clone(&home);
        tokio::spawn(async move {
            let desk = home.desk().await;
            let mut sent = 0;
            for _ in 0..ROUNDS {
                // Somebody else may win every time.
                match desk.try_run(&format!("CALL replay_dead_letters('sales', {MANY})")).await {
                    Ok(done) => {
                        let done = crate::harness::rows(&done)[0].clone();
                        sent += done.split(',').nth(1).unwrap().parse::<i64>().unwrap();
                    }
                    Err(e) => assert_eq!(e.kind(), Kind::Conflict, "{e}"),
                }
            }
            sent
        })
    });
    let sending: Vec<_> = sending.collect();
    soon(coming).await.unwrap();
    let mut sent = 0;
    for sender in sending {
        sent += soon(sender).await.unwrap();
    }
    let last = desk.rows(&format!("CALL replay_dead_letters('sales', {MANY})")).await[0].clone();
    sent += last.split(',').nth(1).unwrap().parse::<i64>().unwrap();
    assert_eq!(sent, ROUNDS * 10);
    assert_eq!(desk.value(IDS).await, format!("{sent},{sent}"));
    let left = desk.rows("SELECT table_name, count(*) FROM toplake.dead_letters GROUP BY 1").await;
    assert_eq!(left, [format!("other,{ROUNDS}")]);
}

/// Rows that are on their way into a table go with it when it is dropped, and do not turn up in the next one of its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_again_has_nothing_of_the_one_before() {
    let home = Home::new();
    let desk = home.desk().await;
    for round in 0..2 {
        desk.run(SCHEMA).await;
        ingest_lines(&home, &desk, "sales", &format!("{round}.ndjson"), &many(0, 10)).await;
        let (dying, faults) = home.faulty_desk().await;
        let gate = Gate::new();
        faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
        let call = format!("CALL replay_dead_letters('sales', {MANY})");
        let replaying = tokio::spawn(async move { dying.rows(&call).await });
        gate.arrived().await;
        replaying.abort();
        let letters = desk.engine.warehouse().dead_letters().table().await.unwrap();
        let into = desk.table("sales").await;
        let route = Route::replayed(&into.snapshot()).unwrap();
        let on_way =
            route.pending(&into.snapshot(), letters, &letters.update().await.unwrap()).await.unwrap();
        assert_eq!(on_way.len(), 1);
        desk.run("DROP TABLE sales; DROP TABLE other").await;
    }
    desk.run(SCHEMA).await;
    desk.run("CALL replay_dead_letters('sales')").await;
    assert_eq!(desk.value(IDS).await, "0,0");
}

/// A warehouse of before has dead letters without topic and partition, also some on their way.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_before_are_read_kept_and_sent() {
    let home = Home::new();
    let new = home.desk().await;
    new.run(SCHEMA).await;
    let before: Vec<Field> =
        dead_letters::SCHEMA.fields().iter().take(6).map(|field| field.as_ref().clone()).collect();
    let before = Arc::new(Schema::new(before));
    let store = Store::open(&home.location()).unwrap().child("_toplake").child("dead_letters");
    let table = NewTable { schema: before.as_ref().clone(), configuration: vec![], description: None };
    let old = Table::create("_toplake/dead_letters", store.clone(), &table).await.unwrap().unwrap();
    let file = async |id: i64| {
        let payload = many(id, id + 1);
        let sql = format!("SELECT now(), 'sales', 'file:///x', {id}, 'why', '{}'", payload.trim());
        let mut writer = FileWriter::new(&store, Arc::clone(&before), None);
        for batch in new.try_run(&sql).await.unwrap() {
            writer.write(&batch).await.unwrap();
        }
        writer.finish().await.unwrap()
    };
    let mut change = Change::new(CommitKind::Append, "OUTBOX", &old.snapshot());
    change.adds = file(1).await;
    old.commit(&change).await.unwrap();
    let sales = new.table("sales").await;
    let mut change = Change::new(CommitKind::Append, "INGEST", &sales.snapshot());
    Route::DeadLetters.name_in(&mut change, &file(2).await);
    sales.commit(&change).await.unwrap();

    let shown = "SELECT position, topic, partition, reason FROM toplake.dead_letters";
    assert_eq!(new.rows(shown).await, ["1,NULL,NULL,why", "2,NULL,NULL,why"]);
    write_letter(&new, "sales", 7, "'nonsense'").await;
    assert_eq!(new.rows("SELECT position FROM toplake.dead_letters WHERE topic = 'sales'").await, ["7"]);
    // The one who made it goes on with it, and what came since is not lost by compaction.
    let mut change = Change::new(CommitKind::Append, "OUTBOX", &old.update().await.unwrap());
    change.adds = file(3).await;
    old.commit(&change).await.unwrap();
    new.engine.warehouse().follow(&sales).await.unwrap();
    let target = Target::find(new.engine.warehouse(), "toplake.dead_letters").await.unwrap();
    assert_eq!(compact(&target, &new.engine.state()).await.unwrap().files_removed, 4);
    let all = ["1,NULL,NULL,why", "2,NULL,NULL,why", "3,NULL,NULL,why", "7,sales,3,why"];
    for desk in [&new, &home.desk().await] {
        assert_eq!(desk.rows(shown).await, all);
    }
    assert_eq!(new.rows(&format!("CALL replay_dead_letters('sales', {MANY})")).await, ["sales,3,0,1"]);
    assert!(new.value(shown).await.starts_with("7,sales,3,"), "{:?}", new.rows(shown).await);
    assert_eq!(new.value(IDS).await, "3,3");
}
