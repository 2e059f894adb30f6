//! Connections to workers: one for each, with bounds on how long it may be silent.
//!
//! A process that is stopped keeps its connections open, and a machine that is cut off closes none. So each side asks the other for a
//! sign of life while a call is open; without one the call fails. What is lost so says it with [`LOST`] in its words, which stay in an
//! error from worker to worker. Connections are cared for on threads that compute nothing: who is busy is not taken for lost.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{ChannelResolver, WorkerChannel};
use futures::future::BoxFuture;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Body as HttpBody, Bytes, Service};
use tonic::transport::{Channel, Endpoint};
use url::Url;

use super::trust::Trust;
use crate::error::{Error, Result};

/// What an error says where a worker did not answer, or not to the end.
pub(super) const LOST: &str = "toplake worker lost";

/// A worker that takes longer to accept a connection is not there.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a sign of life is asked for while a call is open.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long it may take.
pub(super) const SILENCE: Duration = Duration::from_secs(4);
/// Bytes that may be on the way, of one call and of a connection.
pub(super) const WINDOW: u32 = 8 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 64 << 20;

/// The connections of a process.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    trust: Trust,
    /// The threads that care for connections.
    sockets: Handle,
    open: Arc<Mutex<HashMap<Url, BoxCloneSyncChannel>>>,
}

impl Channels {
    /// Connections that are cared for on the threads that this is called on.
    pub(super) fn new(trust: Trust) -> Self {
        Channels { trust, sockets: Handle::current(), open: Default::default() }
    }

    pub(super) fn scheme(&self) -> &'static str {
        self.trust.scheme()
    }

    /// A connection, which is made when it is first used and again where it broke.
    pub(super) fn client(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(url) {
            return Ok(create_worker_client(channel.clone()));
        }
        let channel = self.connect(url)?;
        open.insert(url.clone(), channel.clone());
        Ok(create_worker_client(channel))
    }

    /// Closes the connection to a worker that is gone.
    pub(super) fn forget(&self, url: &Url) {
        self.open.lock().remove(url);
    }

    fn connect(&self, url: &Url) -> Result<BoxCloneSyncChannel> {
        let wrong = |e: tonic::transport::Error| Error::invalid_input(format!("worker '{url}': {e}"));
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .map_err(wrong)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(SILENCE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true)
            .executor(On(self.sockets.clone()));
        if let Some(tls) = self.trust.client_tls() {
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        let inner = endpoint.connect_lazy();
        Ok(BoxCloneSyncChannel::new(Line { inner, trust: self.trust.clone(), url: url.as_str().into() }))
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        Ok(self.client(url)?)
    }
}

/// Spawns on threads of its own, wherever it is called.
struct On(Handle);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for On {
    fn execute(&self, work: F) {
        self.0.spawn(work);
    }
}

/// A connection that shows the token, and says of what it is told in vain that the worker is lost.
#[derive(Debug, Clone)]
struct Line {
    inner: Channel,
    trust: Trust,
    url: Arc<str>,
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, tonic::transport::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // A connection that cannot be made is an answer to the call, below.
        match self.inner.poll_ready(cx) {
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = self.trust.header() {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let url = Arc::clone(&self.url);
        let call = self.inner.call(request);
        Box::pin(async move {
            match call.await {
                Ok(response) => Ok(response.map(|inner| Body::new(Answer { inner, url }))),
                Err(e) => Ok(lost(&url, &e).into_http()),
            }
        })
    }
}

/// The bytes of an answer.
struct Answer {
    inner: Body,
    url: Arc<str>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let url = Arc::clone(&self.url);
        Pin::new(&mut self.inner).poll_frame(cx).map_err(|e| lost(&url, &e))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

fn lost(url: &str, e: &(dyn std::error::Error + 'static)) -> Status {
    // The innermost cause is what happened; what stands around it says that something did.
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Status::unavailable(format!("{LOST}: {url}: {cause}"))
}

/// Whether an error, wherever it comes from, is that of a worker which did not answer.
pub(super) fn is_lost(e: &DataFusionError) -> bool {
    e.to_string().contains(LOST)
}
