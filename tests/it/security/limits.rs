//! Over a limit a client is told so, and the server lives.

use std::time::Duration;

use futures::FutureExt;
use tokio_postgres::{Client, NoTls};
use toplake::app::Rates;
use toplake::catalog::privileges::Role;
use toplake::pg::Options;
use toplake::workload::{Lane, Lanes, Resources};

use super::{Files, Server, Setup, told, users};
use crate::harness::soon;

/// Would take hours.
const HEAVY: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) t(v) WHERE v % 7 = 3";

async fn setup() -> Setup {
    let users = users(&[("ann", Role::Admin), ("rita", Role::Reader)]);
    Setup { options: Options { users, ..Default::default() }, ..Setup::default() }
}

impl Server {
    async fn user(&self, user: &str) -> Client {
        self.try_connect(user, &format!("{user}!")).await.unwrap()
    }

    /// Waits until so many heavy queries of readers run and wait.
    async fn until(&self, running: usize, waiting: usize) {
        let now = || self.desk.engine.workload().now(Role::Reader);
        let arrived = async {
            while now() != (running, waiting) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(arrived).await;
    }

    async fn refused(&self, user: &str) -> (String, String) {
        told(&self.try_connect(user, &format!("{user}!")).await.err().unwrap())
    }
}

async fn state(client: &Client, sql: &str) -> String {
    client.simple_query(sql).await.err().map_or(String::new(), |e| told(&e).0)
}

/// Starts a query that takes for ever, and gives what cancels it when it is dropped.
fn start(client: Client) -> tokio::task::JoinHandle<Result<(), tokio_postgres::Error>> {
    tokio::spawn(async move { client.batch_execute(HEAVY).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_connections_are_for_admins() {
    let mut setup = setup().await;
    (setup.options.max_connections, setup.options.reserved_connections) = (3, 1);
    let server = Server::start_with(setup).await;
    let (first, _second) = (server.user("rita").await, server.user("rita").await);
    let (state, message) = server.refused("rita").await;
    assert!(state == "53300" && message.contains("reserved"), "{state} {message}");
    let admin = server.user("ann").await;
    assert_eq!(server.refused("ann").await.0, "53300");
    assert_eq!(server.refused("rita").await.0, "53300");
    // Strangers do not get that far, and take no place.
    assert_eq!(told(&server.try_connect("rita", "wrong").await.err().unwrap()).0, "28P01");
    admin.simple_query("SELECT 1").await.unwrap();
    // An admin's session takes one of those that are not kept for admins.
    drop((first, admin));
    soon(async {
        while server.try_connect("rita", "rita!").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_starts_so_many_statements_a_second() {
    let mut setup = setup().await;
    setup.bounds.rates = Rates::new([(Role::Reader, 5.0)]);
    let server = Server::start_with(setup).await;
    let (rita, other, ann) = (server.user("rita").await, server.user("rita").await, server.user("ann").await);
    let mut states = vec![];
    for _ in 0..25 {
        states.push(state(&rita, "SELECT 1").await);
        states.push(state(&other, "SELECT 1").await);
        assert_eq!(state(&ann, "SELECT 1").await, "");
    }
    assert!(states.iter().all(|s| s.is_empty() || s == "53400"), "{states:?}");
    let passed = states.iter().filter(|s| s.is_empty()).count();
    assert!((5..40).contains(&passed), "{passed} of 50 statements passed");
    soon(async {
        while state(&rita, "SELECT 1").await == "53400" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_queries_wait_for_each_other_and_small_ones_for_none() {
    let reader = Lane { queries: 1, queue: 1, wait: Duration::from_secs(120) };
    let mut setup = setup().await;
    setup.resources.lanes = Lanes { reader, ..Default::default() };
    let server = Server::start_with(setup).await;
    let (first, second) = (server.user("rita").await, server.user("rita").await);
    let (cancel_first, cancel_second) = (first.cancel_token(), second.cancel_token());
    let first = start(first);
    server.until(1, 0).await;
    let mut second = start(second);
    server.until(1, 1).await;
    let third = server.user("rita").await;
    assert_eq!(state(&third, HEAVY).await, "53300");
    assert_eq!(state(&third, "SELECT 1").await, "");
    assert_eq!(state(&third, "SELECT count(*) FROM pg_catalog.pg_class").await, "");
    assert!((&mut second).now_or_never().is_none());
    cancel_first.cancel_query(NoTls).await.unwrap();
    assert_eq!(told(&soon(first).await.unwrap().unwrap_err()).0, "57014");
    // The second is let in.
    server.until(1, 0).await;
    let ann = server.user("ann").await;
    assert_eq!(state(&ann, "SELECT count(*) FROM generate_series(1, 100000)").await, "");
    cancel_second.cancel_query(NoTls).await.unwrap();
    assert_eq!(told(&soon(second).await.unwrap().unwrap_err()).0, "57014");
    server.until(0, 0).await;
    assert_eq!(state(&third, "SELECT count(*) FROM generate_series(1, 100000)").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_refused() {
    let reader = Lane { queries: 1, queue: 10, wait: Duration::from_millis(200) };
    let mut setup = setup().await;
    setup.resources.lanes = Lanes { reader, ..Default::default() };
    let server = Server::start_with(setup).await;
    let first = server.user("rita").await;
    let cancel = first.cancel_token();
    let first = start(first);
    server.until(1, 0).await;
    let second = server.user("rita").await;
    let (state, message) = told(&second.simple_query(HEAVY).await.err().unwrap());
    assert!(state == "53300" && message.contains("has waited"), "{state} {message}");
    cancel.cancel_query(NoTls).await.unwrap();
    assert_eq!(told(&soon(first).await.unwrap().unwrap_err()).0, "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_its_share_of_memory_and_spills_into_the_folder() {
    let spill = Files::new();
    let sort = "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY v % 1013, v DESC) AS n \
                FROM generate_series(1, 6000000) t(v)) s";
    let mut setup = setup().await;
    setup.resources = Resources {
        memory_per_query: 64 << 20,
        spill_folder: Some(spill.0.path().to_owned()),
        ..Resources::with_memory(256 << 20)
    };
    let server = Server::start_with(setup).await;
    let rita = server.user("rita").await;
    assert_eq!(state(&rita, sort).await, "");
    let hungry = "SELECT length(string_agg(repeat('x', 100), '')) FROM generate_series(1, 3000000)";
    assert_eq!(state(&rita, hungry).await, "53200");
    assert_eq!(state(&rita, "SELECT 1").await, "");
    // What was spilled is gone with the query.
    soon(async {
        let files = || walk(spill.0.path());
        while files() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(server);

    let mut setup = self::setup().await;
    setup.resources =
        Resources { memory_per_query: 64 << 20, spill: 1 << 10, ..Resources::with_memory(256 << 20) };
    let server = Server::start_with(setup).await;
    let rita = server.user("rita").await;
    let (spilled, why) = told(&rita.simple_query(sort).await.expect_err("the sort did not need to spill"));
    assert_eq!(spilled, "53200", "{why}");
    assert_eq!(state(&rita, "SELECT 1").await, "");
}

/// Files below a folder.
fn walk(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|e| if e.path().is_dir() { walk(&e.path()) } else { 1 }).sum()
}
