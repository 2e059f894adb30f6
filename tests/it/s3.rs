//! The same work on a local folder and on S3: an S3 server in the test's own process, path-style addresses, credentials
//! by the usual `AWS_*` variables.
//!
//! The server looks whether an object is there and then writes it, so of two conditional puts at the same moment both
//! could win; a real S3 forbids that. [`Server`] lets one conditional put in at a time, which makes the check and the
//! write one step.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use toplake::lake::store::Store;

use crate::harness::{Desk, Home, soon};

const BUCKET: &str = "lake";
const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
const REGION: &str = "eu-central-1";

/// An S3 server over a folder that is gone at the end of the test.
pub(crate) struct Server {
    address: SocketAddr,
    /// Conditional puts that were refused because the object was there.
    refused: Arc<AtomicUsize>,
    denies: Arc<AtomicBool>,
    _root: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let one_at_a_time = Arc::new(tokio::sync::Mutex::new(()));
        let counter = Arc::clone(&refused);
        let denies = Arc::<AtomicBool>::default();
        let denied = Arc::clone(&denies);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, lock, counter, denied) =
                    (service.clone(), Arc::clone(&one_at_a_time), Arc::clone(&counter), Arc::clone(&denied));
                let serve =
                    hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                        let (service, lock, counter) =
                            (service.clone(), Arc::clone(&lock), Arc::clone(&counter));
                        let denied = denied.load(Ordering::SeqCst);
                        async move {
                            if denied {
                                return Ok(access_denied());
                            }
                            let conditional = request.headers().contains_key("if-none-match");
                            let _one = if conditional { Some(lock.lock_owned().await) } else { None };
                            let answer = service.call(request.map(s3s::Body::from)).await?;
                            if conditional && answer.status() == hyper::StatusCode::PRECONDITION_FAILED {
                                counter.fetch_add(1, Ordering::SeqCst);
                            }
                            Ok::<_, s3s::HttpError>(answer)
                        }
                    });
                tokio::spawn(async move {
                    // A client that goes away is no matter.
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), serve)
                        .await;
                });
            }
        });
        Server { address, refused, denies, _root: root }
    }

    /// Has it refuse everything, as a bucket does whose policy was changed, or nothing any more.
    pub(crate) fn deny(&self, denies: bool) {
        self.denies.store(denies, Ordering::SeqCst);
    }

    /// The address of a warehouse in its bucket.
    pub(crate) fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client with connections of its own, as in another process.
    fn client(&self) -> Arc<dyn ObjectStore> {
        let client = AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_region(REGION)
            .with_bucket_name(BUCKET)
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET)
            .build()
            .unwrap();
        Arc::new(client)
    }

    pub(crate) async fn desk(&self, prefix: &str) -> Desk {
        Desk::at(Store::with_object_store(self.client(), &format!("s3://{BUCKET}/{prefix}")).unwrap()).await
    }

    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_REGION", REGION.into()),
        ]
    }
}

/// What S3 says to those who may not.
fn access_denied() -> hyper::Response<s3s::Body> {
    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let answer = hyper::Response::builder().status(403).header("content-type", "application/xml");
    answer.body(s3s::Body::from(body.to_owned())).unwrap()
}

/// Runs `toplake sql` as a process of its own and gives what it printed, or what it complained of.
async fn toplake_sql(
    warehouse: &str,
    variables: &[(&'static str, String)],
    sql: &str,
) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
    command.args(["sql", "--quiet", "--format", "csv", "--warehouse", warehouse, "-c", sql]);
    command.envs(variables.iter().cloned()).stdin(Stdio::null());
    let done = soon(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

/// From nothing to a leaderboard and away with it again; every statement is a process of its own.
async fn a_whole_life(warehouse: &str, variables: &[(&'static str, String)]) {
    let run = async |sql: &str| {
        toplake_sql(warehouse, variables, sql).await.unwrap_or_else(|e| panic!("{e}\n{sql}\n{warehouse}"))
    };
    run("CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT,
                             unit_price DECIMAL(18, 4)) WITH (time_column = 'event_time')")
    .await;
    run("INSERT INTO sales VALUES (1, '2026-01-01 10:05:00', 'apple', 3, 1.5),
                                  (2, '2026-01-01 10:55:00', 'apple', 2, 1.5),
                                  (3, '2026-01-01 11:00:00', 'pear', 4, 0.25)")
    .await;
    run("CREATE MATERIALIZED VIEW hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity,
                  sum(quantity * unit_price) AS revenue
           FROM sales GROUP BY 1, 2")
    .await;
    run("CREATE MATERIALIZED VIEW daily AS
           SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, sum(quantity) AS quantity
           FROM hourly GROUP BY 1, 2")
    .await;
    run("CREATE MATERIALIZED VIEW top_2 AS
           SELECT rank() OVER (ORDER BY sum(quantity) DESC) AS rank, product_id, sum(quantity) AS quantity
           FROM daily GROUP BY product_id ORDER BY rank, product_id LIMIT 2")
    .await;
    run("INSERT INTO sales VALUES (4, '2026-01-01 11:30:00', 'pear', 3, 0.25),
                                  (5, '2026-01-01 10:30:00', 'apple', -1, 1.5)")
    .await;
    let hourly = "SELECT bucket, product_id, quantity, revenue FROM hourly ORDER BY 1, 2";
    let live = run(hourly).await;
    assert_eq!(
        live,
        "bucket,product_id,quantity,revenue\n\
         2026-01-01T10:00:00,apple,4,6.0000\n\
         2026-01-01T11:00:00,pear,7,1.7500\n"
    );
    let top = "SELECT * FROM top_2 ORDER BY rank";
    assert_eq!(run(top).await, "rank,product_id,quantity\n1,apple,5\n2,pear,4\n");
    run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily; REFRESH MATERIALIZED VIEW top_2")
        .await;
    assert_eq!(run(hourly).await, live);
    assert_eq!(run(top).await, "rank,product_id,quantity\n1,pear,7\n2,apple,4\n");
    assert_eq!(
        run("SELECT name, lag_commits FROM toplake.rollups ORDER BY 1").await,
        "name,lag_commits\ndaily,0\nhourly,0\n"
    );

    let refused = toplake_sql(warehouse, variables, "DROP TABLE sales").await.unwrap_err();
    assert!(refused.contains("hourly"), "{refused}");
    run("DROP TABLE sales CASCADE").await;
    let gone = toplake_sql(warehouse, variables, "SELECT * FROM top_2").await.unwrap_err();
    assert!(gone.contains("top_2") && gone.contains("not found"), "{gone}");
    run("CREATE TABLE sales (id BIGINT)").await;
    assert_eq!(run("SELECT count(*) AS n FROM sales").await, "n\n0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_holds_a_whole_life() {
    let home = Home::new();
    a_whole_life(&home.location(), &[]).await;
    let url = format!("file://{}/by-address", home.location());
    a_whole_life(&url, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_holds_a_whole_life() {
    let server = Server::start().await;
    let variables = server.variables();
    a_whole_life(&format!("s3://{BUCKET}/some/prefix"), &variables).await;
    // The bucket itself, and beside it what the first one left.
    a_whole_life(&format!("s3://{BUCKET}"), &variables).await;

    let mut wrong = variables.clone();
    wrong[2].1 = "another secret".into();
    let refused =
        toplake_sql(&format!("s3://{BUCKET}/some/prefix"), &wrong, "SELECT * FROM sales").await.unwrap_err();
    assert!(refused.contains("object store"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_honours_a_conditional_put() {
    let server = Server::start().await;
    let path = Path::from("x/00000000000000000001.json");
    let mut puts = vec![];
    for writer in 0..16 {
        let (client, path) = (server.client(), path.clone());
        puts.push(tokio::spawn(async move {
            let options = PutOptions { mode: PutMode::Create, ..Default::default() };
            client.put_opts(&path, format!("{writer}").into_bytes().into(), options).await.map(|_| writer)
        }));
    }
    let mut winners = vec![];
    for put in puts {
        winners.extend(soon(put).await.unwrap().ok());
    }
    let there = server.client().get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(winners.len(), 1);
    assert_eq!(there, winners[0].to_string());
    assert_eq!(server.refused.load(Ordering::SeqCst), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_race_on_s3_and_nothing_is_lost() {
    const WRITERS: i64 = 3;
    const EACH: i64 = 6;
    let server = Server::start().await;
    let first = server.desk("race").await;
    first
        .run(
            "CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP, product_id VARCHAR, quantity BIGINT)
                WITH (time_column = 'event_time');
              CREATE MATERIALIZED VIEW hourly AS
                SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) AS quantity,
                       count(*) AS events
                FROM sales GROUP BY 1",
        )
        .await;
    let mut at_work = vec![];
    for writer in 0..WRITERS {
        let desk = server.desk("race").await;
        at_work.push(tokio::spawn(async move {
            for i in 0..EACH {
                let id = writer * EACH + i;
                desk.run(&format!(
                    "INSERT INTO sales VALUES ({id}, '2026-01-01 0{}:00:00', 'p', {id})",
                    id % 10
                ))
                .await;
                desk.run("REFRESH MATERIALIZED VIEW hourly").await;
            }
        }));
    }
    for work in at_work {
        soon(work).await.unwrap();
    }
    let events = WRITERS * EACH;
    let both =
        "SELECT sum(events), sum(quantity) FROM hourly UNION ALL SELECT count(*), sum(quantity) FROM sales";
    let right = format!("{events},{}", events * (events - 1) / 2);
    assert_eq!(first.rows(both).await, [right.clone(), right.clone()]);
    first.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(server.desk("race").await.rows(both).await, [right.clone(), right]);
}
