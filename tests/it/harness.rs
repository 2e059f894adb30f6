//! What the tests stand on: a warehouse in a folder of its own, an engine over it as a process would have it, and an
//! object store that fails, delays and waits where a test tells it to.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use toplake::catalog::warehouse::Warehouse;
use toplake::error::Result;
use toplake::lake::store::Store;
use toplake::lake::table::Table;
use toplake::rollup::view::Rollup;
use toplake::session::Engine;
use toplake::statement::Session;

/// Memory for the queries of one engine: plenty for a test, and no more than a small machine has.
const MEMORY: usize = 512 << 20;

/// Waits for what has to happen; a test that would hang fails instead.
pub(crate) async fn soon<F: IntoFuture>(work: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(120), work).await {
        Ok(done) => done,
        Err(_) => panic!("still not done after two minutes"),
    }
}

/// A folder for one warehouse, gone at the end of the test.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    /// A path in the folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    /// The warehouse's address.
    pub(crate) fn location(&self) -> String {
        self.0.path().to_str().unwrap().to_owned()
    }

    /// An engine that shares nothing with others but the folder, as in a process of its own.
    pub(crate) async fn desk(&self) -> Desk {
        Desk::at(Store::open(&self.location()).unwrap()).await
    }

    /// The same over a store that fails where it is told to.
    pub(crate) async fn faulty_desk(&self) -> (Desk, Arc<FaultyStore>) {
        let store = Arc::new(FaultyStore::new(LocalFileSystem::new()));
        let desk =
            Desk::at(Store::with_object_store(Arc::clone(&store) as _, &self.location()).unwrap()).await;
        (desk, store)
    }
}

/// An engine and one session of it.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) engine: Engine,
    pub(crate) session: Session,
}

impl Desk {
    pub(crate) async fn at(store: Store) -> Self {
        let engine = Engine::try_new(Warehouse::on(store).await.unwrap(), MEMORY).unwrap();
        let session = Session::new(engine.context(), Arc::clone(engine.warehouse()));
        Desk { engine, session }
    }

    /// Runs statements that have to succeed.
    pub(crate) async fn run(&self, sql: &str) {
        self.try_run(sql).await.unwrap_or_else(|e| panic!("{e}\n{sql}"));
    }

    /// Runs statements that may fail.
    pub(crate) async fn try_run(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.session.sql(sql).await
    }

    /// The rows of a query, sorted; values are separated by commas.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let batches = self.try_run(sql).await.unwrap_or_else(|e| panic!("{e}\n{sql}"));
        rows(&batches)
    }

    /// The only value of a query.
    pub(crate) async fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        rows[0].clone()
    }

    /// The Delta table of an object.
    pub(crate) async fn table(&self, name: &str) -> Arc<Table> {
        let table = self.engine.warehouse().table(name).await.unwrap().unwrap();
        table.update().await.unwrap();
        table
    }

    pub(crate) async fn rollup(&self, name: &str) -> Arc<Rollup> {
        self.engine.warehouse().rollup(name).await.unwrap()
    }
}

/// Rows as sorted texts.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = vec![];
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for i in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join(","));
        }
    }
    rows.sort();
    rows
}

/// A gate that a request waits at. The test sees it arrive and lets it through.
#[derive(Debug)]
pub(crate) struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) })
    }

    /// Waits until a request stands at the gate.
    pub(crate) async fn arrived(&self) {
        soon(self.arrived.acquire()).await.unwrap().forget();
    }

    /// Lets one request through.
    pub(crate) fn release(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
}

/// What happens to one request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is not carried out, and the client sees an error.
    Refuse,
    /// It is carried out, and the client sees an error.
    LoseAnswer,
    /// It is carried out twice, as by a client that repeats by itself what it got no answer to.
    Repeat,
    /// The client sees an error, and it is carried out later: when the gate opens.
    Late(Arc<Gate>),
    /// It waits at the gate, and is carried out then.
    Pause(Arc<Gate>),
    /// It is carried out after a while.
    Delay(Duration),
}

/// Which requests a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Put,
    Get,
}

#[derive(Debug)]
struct Rule {
    verb: Verb,
    path_contains: String,
    fault: Fault,
}

/// How many requests there were.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) puts: AtomicUsize,
    pub(crate) gets: AtomicUsize,
    pub(crate) lists: AtomicUsize,
}

impl Requests {
    /// Puts, gets and lists so far.
    pub(crate) fn so_far(&self) -> (usize, usize, usize) {
        let read = |n: &AtomicUsize| n.load(Ordering::SeqCst);
        (read(&self.puts), read(&self.gets), read(&self.lists))
    }
}

/// An object store that does to chosen requests what a test wants. Each rule is for one request.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    rules: Mutex<Vec<Rule>>,
    pub(crate) requests: Requests,
}

impl FaultyStore {
    pub(crate) fn new(inner: impl ObjectStore) -> Self {
        FaultyStore { inner: Arc::new(inner), rules: Default::default(), requests: Default::default() }
    }

    /// The next puts of objects whose path contains this text meet these faults, in order.
    pub(crate) fn on_put(&self, path_contains: &str, faults: impl IntoIterator<Item = Fault>) {
        self.add(Verb::Put, path_contains, faults);
    }

    /// The next reads of such objects.
    pub(crate) fn on_get(&self, path_contains: &str, faults: impl IntoIterator<Item = Fault>) {
        self.add(Verb::Get, path_contains, faults);
    }

    /// Whether every fault has happened.
    pub(crate) fn is_spent(&self) -> bool {
        self.rules.lock().is_empty()
    }

    fn add(&self, verb: Verb, path_contains: &str, faults: impl IntoIterator<Item = Fault>) {
        let rules =
            faults.into_iter().map(|fault| Rule { verb, path_contains: path_contains.to_owned(), fault });
        self.rules.lock().extend(rules);
    }

    fn take(&self, verb: Verb, path: &Path) -> Option<Fault> {
        let mut rules = self.rules.lock();
        let found = rules.iter().position(|r| r.verb == verb && path.as_ref().contains(&r.path_contains))?;
        Some(rules.remove(found).fault)
    }
}

fn broken(what: &str) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: what.into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.requests.puts.fetch_add(1, Ordering::SeqCst);
        match self.take(Verb::Put, location) {
            None => {}
            Some(Fault::Refuse) => return Err(broken("refused")),
            Some(Fault::LoseAnswer) => {
                self.inner.put_opts(location, payload, opts).await?;
                return Err(broken("the answer is lost"));
            }
            Some(Fault::Repeat) => {
                self.inner.put_opts(location, payload.clone(), opts.clone()).await?;
            }
            Some(Fault::Late(gate)) => {
                let (inner, location) = (Arc::clone(&self.inner), location.clone());
                tokio::spawn(async move {
                    gate.pass().await;
                    // Whether it still finds a free place is for the test to see.
                    let _ = inner.put_opts(&location, payload, opts).await;
                    gate.arrived.add_permits(1);
                });
                return Err(broken("timed out"));
            }
            Some(Fault::Pause(gate)) => gate.pass().await,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.requests.gets.fetch_add(1, Ordering::SeqCst);
        match self.take(Verb::Get, location) {
            None | Some(Fault::Repeat) => {}
            Some(Fault::Refuse | Fault::LoseAnswer | Fault::Late(_)) => {
                return Err(broken("cannot be reached"));
            }
            Some(Fault::Pause(gate)) => gate.pass().await,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.requests.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.requests.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.requests.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
