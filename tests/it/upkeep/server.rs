//! A server does the upkeep by itself: it compacts, applies retention, also of the side tables, and vacuums.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use toplake::lake::action::{CommitKind, LedgerEntry};
use toplake::lake::committer::Change;

use super::{SCHEMA, active_files, assert_equals, files_in, insert_into, write_letters};
use crate::harness::{Desk, Home, soon};

/// A server process, dead at the end of the test.
struct Server(Child);

impl Server {
    fn start(home: &Home) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
        command.args(["serve", "--warehouse", &home.location(), "--listen", "127.0.0.1:0", "--http", "off"]);
        command.args(["--refresh-every", "0.1", "--upkeep-every", "0.1", "--retention-every", "0.2"]);
        Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a query gives this.
async fn until(desk: &Desk, sql: &str, wanted: &str) {
    soon(async {
        while desk.value(sql).await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// The commits of a table's log are as if they had been made this long ago.
fn age(home: &Home, table: &str, days: i64) {
    for entry in std::fs::read_dir(home.path(&format!("{table}/_delta_log"))).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let aged = text.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(at) = action.pointer_mut("/commitInfo/timestamp") {
                *at = (at.as_i64().unwrap() - days * 86_400_000).into();
            }
            format!("{action}\n")
        });
        std::fs::write(&path, aged.collect::<String>()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_compacts_expires_and_vacuums() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("CREATE TABLE kept (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)")
        .await;
    for n in 0..12 {
        for table in ["sales", "kept"] {
            desk.run(&insert_into(table, n * 50, n * 50 + 50)).await;
        }
    }
    // Files that left days ago.
    desk.run("CALL compact('sales')").await;
    age(&home, "sales", 3);
    let before = files_in(&home.path("sales"));
    assert!(before > active_files(&desk, "sales").await);
    for n in 12..16 {
        desk.run(&insert_into("sales", n * 50, n * 50 + 50)).await;
        desk.run(&insert_into("kept", n * 50, n * 50 + 50)).await;
    }
    write_letters(&desk, &[0, 80, 100]).await;

    let _server = Server::start(&home);
    // The watermark is on the eighth day, the retention two days, and all is folded.
    until(&desk, "SELECT min(event_time) >= '2026-03-05' FROM sales", "true").await;
    until(
        &desk,
        "SELECT max(source_version - folded_version) < 32 AND max(lag_commits) = 0 FROM toplake.rollups",
        "true",
    )
    .await;
    soon(async {
        // Those that left days ago and that the rollups have read are gone.
        while files_in(&home.path("sales")) > before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // What became of input moves out of the log.
    let mut change = Change::new(CommitKind::Append, "INGEST", &desk.table("kept").await.snapshot());
    change.ledger =
        vec![LedgerEntry { source: "file:///a".into(), to: 5, consumed: 5, stored: 5, ..Default::default() }];
    desk.table("kept").await.commit(&change).await.unwrap();
    let ledger = desk.engine.warehouse().ledger().table().await.unwrap();
    soon(async {
        while ledger.update().await.unwrap().rows() != Some(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(desk.value("SELECT sum(stored) FROM toplake.ledger").await, "5");
    // Letters stay for 90 days, or as long as is said.
    until(&desk, "SELECT count(*) FROM toplake.dead_letters", "2").await;
    desk.run("ALTER TABLE toplake.dead_letters SET (retention = '60 days')").await;
    until(&desk, "SELECT count(*) FROM toplake.dead_letters", "1").await;
    assert_equals(&desk, "kept", "after the upkeep of a server").await;
    assert_eq!(desk.value("SELECT count(*) FROM audit('hourly', '2026-03-07', 'infinity')").await, "0");
}
