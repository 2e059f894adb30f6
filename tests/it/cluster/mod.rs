//! Queries on many machines: the workers are tasks of the test's process, or processes that can be killed.

mod answers;
mod corpus;
mod deployment;
mod failures;
pub(crate) mod machines;
mod membership;
mod partitions;
mod script;
mod stores;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use toplake::catalog::warehouse::Warehouse;
use toplake::cluster::{Cluster, Fallback, Options, Trust, Worker, WorkerOptions};
use toplake::lake::store::Store;
use toplake::session::Engine;
use toplake::statement::Session;
use toplake::workload::Resources;

use crate::harness::{Desk, Home, soon};

/// Memory of a worker, and of the server before them.
const MEMORY: usize = 256 << 20;

/// A worker that is a task, gone at the end of the test.
pub(crate) struct Task {
    pub(crate) address: SocketAddr,
    pub(crate) worker: Worker,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Task {
    pub(crate) async fn start(memory: usize, trust: Trust) -> Self {
        Self::computing_on(Handle::current(), memory, trust).await
    }

    /// One that computes on these threads.
    pub(crate) async fn computing_on(compute: Handle, memory: usize, trust: Trust) -> Self {
        let resources = Resources::with_memory(memory);
        let drain = Duration::from_secs(20);
        let worker = Worker::new(WorkerOptions { resources, trust, drain, compute }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = worker.clone();
        let task = tokio::spawn(async move { serving.serve(listener, stopping).await.unwrap() });
        Task { address, worker, stop, task }
    }

    /// Tells it to stop, as SIGTERM does.
    pub(crate) fn terminate(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) async fn ended(mut self) {
        soon(&mut self.task).await.unwrap();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An engine with workers.
pub(crate) struct Fleet {
    pub(crate) desk: Desk,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) workers: Vec<Task>,
    _watching: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Fleet {
    /// So many workers that are tasks, and all that reads files is spread over them.
    pub(crate) async fn of(workers: usize, home: &Home) -> Self {
        Self::with(workers, home, MEMORY, Fallback::Refuse).await
    }

    pub(crate) async fn with(workers: usize, home: &Home, memory: usize, fallback: Fallback) -> Self {
        let mut tasks = vec![];
        for _ in 0..workers {
            tasks.push(Task::start(memory, Trust::default()).await);
        }
        let addresses: Vec<String> = tasks.iter().map(|task| task.address.to_string()).collect();
        let mut fleet = Self::at(&addresses.join(","), home, Trust::default(), fallback).await;
        fleet.workers = tasks;
        assert!(fleet.cluster.wait_for(workers, Duration::from_secs(60)).await, "the workers take no part");
        fleet
    }

    /// An engine whose workers are elsewhere.
    pub(crate) async fn at(addresses: &str, home: &Home, trust: Trust, fallback: Fallback) -> Self {
        let options = Options { workers: addresses.parse().unwrap(), trust, fallback, bytes_per_task: 1 };
        let cluster = Cluster::new(options).unwrap();
        let warehouse = Warehouse::on(Store::open(&home.location()).unwrap()).await.unwrap();
        let resources = Resources::with_memory(MEMORY);
        let engine = Engine::extended(warehouse, &resources, |builder| cluster.plug(builder)).unwrap();
        let session = Session::new(engine.context(), Arc::clone(engine.warehouse()));
        let (stop, stopping) = watch::channel(false);
        let watching =
            tokio::spawn(Arc::clone(&cluster).watch_over(Arc::clone(engine.warehouse()), stopping));
        Fleet { desk: Desk { engine, session }, cluster, workers: vec![], _watching: watching, _stop: stop }
    }
}

/// Sales of ten days in so many files of 5,000 rows, and rollups over them of which the last file is not folded.
pub(crate) async fn fill(desk: &Desk, files: usize) {
    desk.run(
        "CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT,
                             unit_price DECIMAL(18, 4), customer_id VARCHAR, country VARCHAR)
           WITH (time_column = 'event_time');
         CREATE MATERIALIZED VIEW sales_hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country,
                  sum(quantity) AS quantity, count(*) AS events, sum(quantity * unit_price) AS revenue
           FROM sales GROUP BY 1, 2, 3;
         CREATE MATERIALIZED VIEW sales_daily AS
           SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, sum(quantity) AS quantity
           FROM sales_hourly GROUP BY 1, 2;",
    )
    .await;
    for file in 0..files {
        if file + 1 == files {
            desk.run("REFRESH MATERIALIZED VIEW sales_hourly; REFRESH MATERIALIZED VIEW sales_daily").await;
        }
        let (first, last) = (file * 5_000, file * 5_000 + 4_999);
        desk.run(&format!(
            "INSERT INTO sales
             SELECT n, CAST(to_timestamp(1767225600 + n * 43) AS TIMESTAMP), 'p' || CAST(n * n % 997 AS VARCHAR), n % 7 - 1,
                    CAST(n % 100 AS DECIMAL(18, 4)) / 4, 'c' || CAST(n % 1013 AS VARCHAR),
                    CASE WHEN n % 3 = 0 THEN 'France' WHEN n % 3 = 1 THEN 'Kenya' END
             FROM generate_series({first}, {last}) AS g(n)"
        ))
        .await;
    }
}
