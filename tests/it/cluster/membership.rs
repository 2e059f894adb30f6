//! Workers come and go without a restart; who is another program, or too few, is not used.

use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use toplake::cluster::{Fallback, Trust};
use toplake::error::Kind;

use super::{Fleet, MEMORY, Task, fill};
use crate::harness::Home;
use crate::http::until;

/// Of a multiple of seven rows it is twice their number.
const SUM: &str = "SELECT sum(quantity) FROM sales WHERE event_id < 14000";

fn states(fleet: &Fleet) -> Vec<(&'static str, Option<String>)> {
    let seen = fleet.desk.engine.warehouse().workers();
    seen.into_iter().map(|w| (w.state.name(), w.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_join_and_leave() {
    let (home, lists) = (Home::new(), tempfile::tempdir().unwrap());
    let list = lists.path().join("workers");
    let (a, b, c) = tokio::join!(
        Task::start(MEMORY, Trust::default()),
        Task::start(MEMORY, Trust::default()),
        Task::start(MEMORY, Trust::default())
    );
    std::fs::write(&list, format!("{}\n", a.address)).unwrap();
    let fleet =
        Fleet::at(&format!("file:{}", list.display()), &home, Trust::default(), Fallback::Local).await;
    let alone = home.desk().await;
    fill(&alone, 3).await;
    let live = |n: usize| fleet.cluster.wait_for(n, Duration::from_secs(60));
    assert!(live(1).await);
    // One is not more than the server itself.
    assert_eq!((fleet.desk.value(SUM).await.as_str(), fleet.cluster.runs()), ("28000", 0));
    std::fs::write(&list, format!("{}\n{}\n{} # new\n", a.address, b.address, c.address)).unwrap();
    assert!(live(3).await);
    assert_eq!((fleet.desk.value(SUM).await.as_str(), fleet.cluster.runs()), ("28000", 1));
    // One that is told to stop is left out, and ends when nobody needs it.
    c.terminate();
    until("the third is away", async || states(&fleet).iter().any(|(state, _)| *state == "away")).await;
    c.ended().await;
    assert_eq!((fleet.desk.value(SUM).await.as_str(), fleet.cluster.runs()), ("28000", 2));
    // A list that cannot be read says nothing of those that are there.
    std::fs::remove_file(&list).unwrap();
    let removed = chrono::Utc::now().timestamp_micros();
    let workers = || fleet.desk.engine.warehouse().workers();
    until("all have been asked since", async || workers().iter().all(|w| w.asked > removed)).await;
    assert_eq!(states(&fleet).iter().filter(|(state, _)| *state == "live").count(), 2);
    std::fs::write(&list, format!("{}\n", b.address)).unwrap();
    until("one is listed", async || states(&fleet).len() == 1).await;
    assert_eq!((fleet.desk.value(SUM).await.as_str(), fleet.cluster.runs()), ("28000", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_build_is_kept_out() {
    let home = Home::new();
    let ours = Task::start(MEMORY, Trust::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = listener.local_addr().unwrap();
    let other = datafusion_distributed::Worker::default().with_version("0.0.1+other").into_worker_server();
    let serving =
        tokio::spawn(Server::builder().add_service(other).serve_with_incoming(TcpIncoming::from(listener)));
    let addresses = format!("{},{theirs}", ours.address);
    let fleet = Fleet::at(&addresses, &home, Trust::default(), Fallback::Refuse).await;
    until("both have answered", async || {
        let mut states: Vec<&str> = states(&fleet).iter().map(|(state, _)| *state).collect();
        states.sort_unstable();
        states == ["live", "other build"]
    })
    .await;
    let reasons: Vec<String> = states(&fleet).into_iter().filter_map(|(_, reason)| reason).collect();
    assert!(reasons[0].contains("it runs 0.0.1+other, the server"), "{reasons:?}");
    fill(&home.desk().await, 2).await;
    let e = fleet.desk.try_run(SUM).await.unwrap_err();
    assert_eq!((e.kind(), e.kind().sqlstate()), (Kind::WorkersLost, "08006"), "{e}");
    serving.abort();
}
