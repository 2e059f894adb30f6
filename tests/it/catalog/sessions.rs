//! `pg_stat_activity`, and reaching other sessions.

use std::time::Duration;

use super::{Server, refused, rows};
use crate::harness::soon;

/// Asks until the answer is this.
async fn until(client: &tokio_postgres::Client, sql: &str, answer: &[&str]) {
    soon(async {
        while rows(client, sql).await != answer {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

const LONG: &str = "SELECT count(*) FROM generate_series(1, 100000000000) g(x) WHERE x % 7 = 3";

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_who_is_there_and_admins_what_they_do() {
    let server = Server::with_users().await;
    let admin = server.connect("ann").await;
    let rita = server.connect_as("rita", "dashboard").await;
    rita.batch_execute("SELECT 'what rita asks'").await.unwrap();
    let about_rita =
        "SELECT usename, application_name, datname, state, query, client_port > 0, xact_start IS NULL,
                             query_start >= backend_start, backend_type
                      FROM pg_stat_activity WHERE usename = 'rita'";
    let seen = "rita|dashboard|toplake|idle|SELECT 'what rita asks'|t|t|t|client backend";
    assert_eq!(rows(&admin, about_rita).await, [seen]);
    let mine = "SELECT state, query LIKE 'SELECT state%' FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(rows(&admin, mine).await, ["active|t"]);
    let of_ann = "SELECT usename, state, query, backend_start FROM pg_stat_activity WHERE usename = 'ann'";
    assert_eq!(rows(&rita, of_ann).await, ["ann|NULL|<insufficient privilege>|NULL"]);
    rita.batch_execute("BEGIN").await.unwrap();
    let state = "SELECT state, xact_start IS NULL FROM pg_stat_activity WHERE usename = 'rita'";
    assert_eq!(rows(&admin, state).await, ["idle in transaction|f"]);
    assert_eq!(refused(&rita, "SELECT nothing FROM sales").await.0, "42703");
    assert_eq!(rows(&admin, state).await, ["idle in transaction (aborted)|f"]);
    rita.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(rows(&admin, state).await, ["idle|t"]);
    assert_eq!(
        rows(&admin, "SELECT numbackends FROM pg_stat_database WHERE datname = 'toplake'").await,
        ["2"]
    );
    drop(rita);
    until(&admin, "SELECT count(*) FROM pg_stat_activity", &["1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_cancelled_and_ended_by_whoever_may() {
    let server = Server::with_users().await;
    let (admin, rita, other) =
        (server.connect("ann").await, server.connect("rita").await, server.connect("will").await);
    let pid: i32 = rows(&rita, "SELECT pg_backend_pid()").await[0].parse().unwrap();
    let cancel = format!("SELECT pg_cancel_backend({pid})");
    assert_eq!(refused(&other, &cancel).await.0, "42501");
    assert_eq!(rows(&admin, "SELECT pg_cancel_backend(0)").await, ["f"]);
    let running = tokio::spawn(async move {
        let refused = refused(&rita, LONG).await;
        (rita, refused)
    });
    let active = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
    until(&admin, &active, &["active"]).await;
    assert_eq!(rows(&admin, &cancel).await, ["t"]);
    let (rita, (state, message)) = soon(running).await.unwrap();
    assert_eq!((state.as_str(), message.as_str()), ("57014", "canceling statement due to user request"));
    assert_eq!(rows(&rita, "SELECT 1").await, ["1"]);

    let end = format!("SELECT pg_terminate_backend({pid})");
    assert_eq!(refused(&other, &end).await.0, "42501");
    assert_eq!(rows(&admin, &end).await, ["t"]);
    until(&admin, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"), &["0"]).await;
    assert!(rita.simple_query("SELECT 1").await.is_err());
    assert_eq!(rows(&admin, &end).await, ["f"]);
}
