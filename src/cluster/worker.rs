//! A worker: a process that runs what servers send it, and keeps nothing.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    DistributedExt, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerPlanRewriteHandler,
    WorkerQueryContext,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::channels::{CONNECTION_WINDOW, Channels, KEEP_ALIVE, SILENCE, WINDOW};
use super::codec::Codec;
use super::guard::{Duty, Guard};
use super::stores::Stores;
use super::tasks::files_of;
use super::travel::Settings;
use super::trust::Trust;
use super::version;
use crate::error::{Error, Result};
use crate::lake::scan::with_kept_footers;
use crate::session;
use crate::workload::Resources;

/// After so many rows of a partition it is judged whether it pays to add them up before they are sent. Where nothing is sent the engine
/// judges by a fifth of that, which says too little here: of products that sell unequally the first rows nearly all differ.
const PROBE_ROWS: usize = 500_000;

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// What queries may take of it.
    pub resources: Resources,
    /// Who may send it something.
    pub trust: Trust,
    /// How long it goes on with what it has begun once it is to stop.
    pub drain: Duration,
    /// The threads that queries are computed on: others than those that serve, which have to answer meanwhile.
    pub compute: Handle,
}

/// A worker that is ready to serve.
#[derive(Debug, Clone)]
pub struct Worker {
    runtime: Arc<RuntimeEnv>,
    channels: Channels,
    codec: Arc<Codec>,
    trust: Trust,
    duty: Arc<Duty>,
    drain: Duration,
    compute: Handle,
    version: String,
}

impl Worker {
    /// A worker within these options. Fails where the program cannot be read, by which servers know that it is the same.
    pub fn new(options: WorkerOptions) -> Result<Self> {
        let stores = Arc::new(Stores::default());
        let registry: Arc<dyn datafusion::execution::object_store::ObjectStoreRegistry> =
            Arc::clone(&stores) as _;
        let runtime = options.resources.runtime().with_object_store_registry(registry).build_arc()?;
        Ok(Worker {
            runtime,
            channels: Channels::new(options.trust.clone()),
            codec: Arc::new(Codec::new(Some(stores))),
            trust: options.trust,
            duty: Arc::default(),
            drain: options.drain,
            compute: options.compute,
            version: version::own()?,
        })
    }

    /// The release and build that it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it takes new work.
    pub fn is_ready(&self) -> bool {
        !self.duty.is_draining()
    }

    /// Parts of queries that it runs.
    pub fn tasks(&self) -> usize {
        self.duty.tasks()
    }

    /// The memory of all of them.
    pub fn memory(&self) -> &Arc<dyn MemoryPool> {
        &self.runtime.memory_pool
    }

    /// Serves until it is told to stop; then it takes nothing new, and ends with what it has begun or after
    /// [`drain`](WorkerOptions::drain).
    pub async fn serve(self, listener: TcpListener, mut stopping: watch::Receiver<bool>) -> Result<()> {
        let failed = |e: tonic::transport::Error| Error::storage(format!("worker: {e}"));
        let (trust, duty, drain) = (self.trust.clone(), Arc::clone(&self.duty), self.drain);
        let compute = self.compute.clone();
        let (runtime, version) = (Arc::clone(&self.runtime), self.version.clone());
        let build = move |context: WorkerQueryContext| {
            let session = self.session(context);
            async move { session }
        };
        let service = datafusion_distributed::Worker::from_session_builder(build)
            .with_runtime_env(runtime)
            .with_version(version)
            .into_worker_server();
        let guard = Guard { inner: service, trust: trust.clone(), duty: Arc::clone(&duty), compute };
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(SILENCE))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true);
        if let Some(tls) = trust.server_tls() {
            server = server.tls_config(tls).map_err(failed)?;
        }
        let (stopped, mut stop) = watch::channel(false);
        let serving = server
            .add_service(guard)
            .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
                drop(stop.wait_for(|stop| *stop).await)
            });
        let ending = async {
            drop(stopping.wait_for(|stop| *stop).await);
            duty.drain();
            // Until servers have heard of it nobody is sent away from a task that is under way.
            let end = Instant::now() + drain;
            sleep(HEARD.min(drain)).await;
            while duty.tasks() > 0 && Instant::now() < end {
                sleep(Duration::from_millis(50)).await;
            }
            if duty.tasks() > 0 {
                tracing::warn!(tasks = duty.tasks(), "stops with work that has not ended");
            }
            stopped.send_replace(true);
            // Connections that are idle close at once; one that is not has had its time.
            sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            served = serving => served.map_err(failed),
            () = ending => Ok(()),
        }
    }

    /// The session of a part of a query: the server's functions, and the settings that came along.
    fn session(&self, context: WorkerQueryContext) -> Result<SessionState, DataFusionError> {
        let mut builder = session::with_functions(context.builder)
            .with_distributed_option_extension_from_headers::<Settings>(&context.headers)?
            .with_distributed_user_codec_arc(Arc::clone(&self.codec) as _)
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_worker_plan_rewrite_handler(KeepsFooters(Arc::clone(&self.runtime)));
        if let Some(config) = builder.config() {
            config.options_mut().execution.skip_partial_aggregation_probe_rows_threshold = PROBE_ROWS;
            let settings = config.options().extensions.get::<Settings>().cloned().unwrap_or_default();
            settings.apply(config.options_mut())?;
        }
        Ok(builder.build())
    }
}

/// Has scans keep the footers of files that they have read, as a server's do: how a file is read does not travel.
struct KeepsFooters(Arc<RuntimeEnv>);

impl WorkerPlanRewriteHandler for KeepsFooters {
    fn rewrite_worker_plan(
        &self,
        event: WorkerPlanRewriteEvent<'_>,
    ) -> Result<WorkerPlanRewriteEventResponse, DataFusionError> {
        let rewritten = event.plan.transform_up(|node| {
            let Some(scan) = files_of(node.as_ref()) else { return Ok(Transformed::no(node)) };
            let Some(source) = (scan.file_source().as_ref() as &dyn Any).downcast_ref::<ParquetSource>()
            else {
                return Ok(Transformed::no(node));
            };
            let store = self.0.object_store(&scan.object_store_url)?;
            let source = with_kept_footers(source.clone(), store, &self.0);
            let scan = FileScanConfigBuilder::from(scan.clone()).with_source(Arc::new(source)).build();
            Ok(Transformed::yes(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>))
        });
        Ok(WorkerPlanRewriteEventResponse::new(rewritten?.data))
    }
}

/// By then servers know that a worker is about to stop.
const HEARD: Duration = Duration::from_secs(2);
