//! What stands before every call of a worker: who does not show the token is sent away, and one that is to stop takes nothing new.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Body as HttpBody, Bytes, Service};
use tonic::server::NamedService;

use super::channels::LOST;
use super::trust::Trust;

/// How a worker is.
#[derive(Debug, Default)]
pub(super) struct Duty {
    /// Whether it is to take nothing new.
    draining: AtomicBool,
    /// Parts of queries that it runs.
    tasks: AtomicUsize,
}

impl Duty {
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }
}

/// Calls go through it to the service.
#[derive(Debug, Clone)]
pub(super) struct Guard<S> {
    pub(super) inner: S,
    pub(super) trust: Trust,
    pub(super) duty: Arc<Duty>,
    /// The threads that queries are computed on; those of the sockets go on meanwhile.
    pub(super) compute: Handle,
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

/// The call that brings a part of a query; it is open for as long as the query runs.
const TASK: &str = "/CoordinatorChannel";
/// The call by which members are found.
const INFO: &str = "/GetWorkerInfo";

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.trust.admits(request.headers()) {
            let refused = Status::unauthenticated("the token is missing, or another one");
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        let path = request.uri().path();
        let (brings, asks) = (path.ends_with(TASK), path.ends_with(INFO));
        if self.duty.is_draining() && (brings || asks) {
            // Whoever hears that tries again elsewhere.
            let refused = Status::unavailable(format!("{LOST}: it is about to stop"));
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        let task = brings.then(|| Task::begin(&self.duty));
        let mut call = JoinSet::new();
        let future = self.inner.call(request);
        // Whether it is there it says at once, however busy it is.
        match asks {
            true => call.spawn(future),
            false => call.spawn_on(future, &self.compute),
        };
        Box::pin(async move {
            let response = match call.join_next().await {
                Some(Ok(response)) => response?,
                _ => Status::internal("the call ended without an answer").into_http(),
            };
            Ok(match task {
                Some(task) => response.map(|inner| Body::new(Counted { inner, _task: task })),
                None => response,
            })
        })
    }
}

/// One part of a query that runs.
struct Task(Arc<Duty>);

impl Task {
    fn begin(duty: &Arc<Duty>) -> Self {
        duty.tasks.fetch_add(1, Ordering::Relaxed);
        Task(Arc::clone(duty))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that counts until it has ended.
struct Counted {
    inner: Body,
    _task: Task,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
