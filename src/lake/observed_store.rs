//! An object store that counts what it is asked, and what came of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::metrics;

/// The store of a warehouse, counted.
#[derive(Debug)]
pub(super) struct ObservedStore(pub(super) Arc<dyn ObjectStore>);

impl fmt::Display for ObservedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts a call that has ended.
fn note<T>(operation: &'static str, begun: Instant, result: Result<T>) -> Result<T> {
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Error::NotFound { .. }) => "not_found",
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => {
            "conflict"
        }
        Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => "denied",
        Err(_) => "error",
    };
    metrics::store_called(operation, outcome, begun.elapsed());
    result
}

#[async_trait]
impl ObjectStore for ObservedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (begun, bytes) = (Instant::now(), payload.content_length());
        let put = note("put", begun, self.0.put_opts(location, payload, opts).await)?;
        metrics::store_moved("written", bytes as u64);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begun = Instant::now();
        let upload = note("put", begun, self.0.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(ObservedUpload(upload)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (begun, head) = (Instant::now(), options.head);
        let operation = if head { "head" } else { "get" };
        let mut got = note(operation, begun, self.0.get_opts(location, options).await)?;
        // Of a file, the caller reads as much as it likes, and says so by ranges mostly.
        if let (false, GetResultPayload::Stream(_)) = (head, &got.payload) {
            let rest = std::mem::replace(
                &mut got.payload,
                GetResultPayload::Stream(futures::stream::empty().boxed()),
            );
            if let GetResultPayload::Stream(stream) = rest {
                let counted = stream.inspect(|bytes| {
                    if let Ok(bytes) = bytes {
                        metrics::store_moved("read", bytes.len() as u64);
                    }
                });
                got.payload = GetResultPayload::Stream(counted.boxed());
            }
        } else if !head {
            metrics::store_moved("read", got.range.end - got.range.start);
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let begun = Instant::now();
        let got = note("get", begun, self.0.get_ranges(location, ranges).await)?;
        metrics::store_moved("read", got.iter().map(|bytes| bytes.len() as u64).sum());
        Ok(got)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let mut begun = Instant::now();
        let deleted = self.0.delete_stream(locations);
        deleted.map(move |done| note("delete", std::mem::replace(&mut begun, Instant::now()), done)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        observed(self.0.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        observed(self.0.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let begun = Instant::now();
        note("list", begun, self.0.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let begun = Instant::now();
        note("copy", begun, self.0.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let begun = Instant::now();
        note("copy", begun, self.0.rename_opts(from, to, options).await)
    }
}

/// A listing is one call, however many objects it has: it is counted by its first object, or the lack of one.
fn observed(listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let begun = Instant::now();
    // Fused: a stream of S3 must not be polled again after its end.
    let first = listed.fuse().into_future().map(move |(first, rest)| {
        let first = match first {
            Some(first) => Some(note("list", begun, first)),
            None => {
                let _ = note("list", begun, Ok(()));
                None
            }
        };
        futures::stream::iter(first).chain(rest)
    });
    first.flatten_stream().boxed()
}

/// A large file on its way.
#[derive(Debug)]
struct ObservedUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for ObservedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (begun, bytes) = (Instant::now(), data.content_length() as u64);
        let part = self.0.put_part(data);
        Box::pin(async move {
            note("put", begun, part.await)?;
            metrics::store_moved("written", bytes);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let begun = Instant::now();
        note("put", begun, self.0.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.0.abort().await
    }
}
