//! An object store in bad weather: requests fail, lose their answers and take time at random; or the process that makes
//! them dies at one of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

/// What the weather is.
#[derive(Debug)]
enum Weather {
    /// One request of this many fails, and as many take up to two milliseconds.
    Storm { random: Box<StdRng>, one_of: u32 },
    /// The process dies at the request after this many; that one may be carried out or not.
    Death { after: u32, carried_out: bool },
}

/// What becomes of a request.
enum Fate {
    Done,
    Refused,
    /// Carried out, and the client sees an error.
    AnswerLost,
    /// The process died before it was sent.
    Never,
    /// The process died when it was carried out.
    DoneAndNever,
}

/// An object store that some engine sees through bad weather.
#[derive(Debug, Clone)]
pub(crate) struct WeatheredStore {
    inner: Arc<dyn ObjectStore>,
    weather: Arc<Mutex<Weather>>,
    died: Arc<Semaphore>,
}

impl WeatheredStore {
    /// One request of `one_of` fails.
    pub(crate) fn storm(inner: impl ObjectStore, seed: u64, one_of: u32) -> Arc<Self> {
        Self::new(inner, Weather::Storm { random: Box::new(StdRng::seed_from_u64(seed)), one_of })
    }

    /// The request after so many never returns: [`Self::work`] ends then, as a process does that is killed.
    pub(crate) fn death(inner: impl ObjectStore, after: u32, carried_out: bool) -> Arc<Self> {
        Self::new(inner, Weather::Death { after, carried_out })
    }

    fn new(inner: impl ObjectStore, weather: Weather) -> Arc<Self> {
        Arc::new(WeatheredStore {
            inner: Arc::new(inner),
            weather: Arc::new(Mutex::new(weather)),
            died: Arc::new(Semaphore::new(0)),
        })
    }

    /// What work over this store gives; `None` if the process died of it.
    pub(crate) async fn work<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.died.acquire() => None,
            done = work => Some(done),
        }
    }

    async fn fate(&self) -> Fate {
        let (fate, wait) = match &mut *self.weather.lock() {
            Weather::Storm { random, one_of } => {
                let fate = match random.random_range(0..*one_of * 2) {
                    0 => Fate::Refused,
                    1 => Fate::AnswerLost,
                    _ => Fate::Done,
                };
                (fate, random.random_ratio(1, *one_of).then(|| random.random_range(0..2000)))
            }
            Weather::Death { after: 0, carried_out } => match std::mem::take(carried_out) {
                true => (Fate::DoneAndNever, None),
                false => (Fate::Never, None),
            },
            Weather::Death { after, .. } => {
                *after -= 1;
                (Fate::Done, None)
            }
        };
        if let Some(micros) = wait {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        fate
    }

    async fn meet<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        match self.fate().await {
            Fate::Done => request.await,
            Fate::Refused => Err(broken("refused")),
            Fate::AnswerLost => {
                request.await?;
                Err(broken("the answer is lost"))
            }
            Fate::Never => self.never().await,
            Fate::DoneAndNever => {
                let _ = request.await;
                self.never().await
            }
        }
    }

    async fn never<T>(&self) -> T {
        self.died.add_permits(1);
        std::future::pending().await
    }

    /// The inner stream, or bad luck.
    fn meet_stream<T: Send + 'static>(
        &self,
        inner: BoxStream<'static, object_store::Result<T>>,
    ) -> BoxStream<'static, object_store::Result<T>> {
        let this = self.clone();
        let begun = async move {
            match this.meet(async { Ok(()) }).await {
                Ok(()) => inner,
                Err(e) => stream::once(async { Err(e) }).boxed(),
            }
        };
        stream::once(begun).flatten().boxed()
    }
}

fn broken(what: &str) -> object_store::Error {
    object_store::Error::Generic { store: "weathered", source: what.into() }
}

impl fmt::Display for WeatheredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.weather.lock() {
            Weather::Storm { one_of, .. } => write!(f, "one request of {one_of} fails"),
            Weather::Death { after, carried_out } => {
                write!(f, "dies after {after} requests, the last one carried out: {carried_out}")
            }
        }
    }
}

#[async_trait]
impl ObjectStore for WeatheredStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.meet(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.meet(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.meet(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.meet(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        // Each by itself, so that a process can die between two of them.
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.meet(this.inner.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.meet_stream(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.meet_stream(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.meet(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.meet(self.inner.copy_opts(from, to, options)).await
    }
}
