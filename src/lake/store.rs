//! An object store with a place in it: where a warehouse, or a table elsewhere, lies.

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions, PutPayload};
use url::Url;

use super::observed_store::ObservedStore;
use crate::error::{Error, Result};

/// A prefix in an object store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Url,
    prefix: Path,
}

impl Store {
    /// Opens `./dir`, `/dir`, `file:///dir` or `s3://bucket/prefix`; S3 reads the usual `AWS_*` variables.
    ///
    /// A local directory is made if it is not there. Fails for other schemes and for bad configuration.
    pub fn open(location: &str) -> Result<Self> {
        let url = parse_location(location)?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url)
            .map_err(|e| Error::invalid_input(format!("cannot open '{location}': {e}")))?;
        let bad = |e: object_store::Error| Error::from(e).context(format!("cannot open '{location}'"));
        let inner: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                if let Ok(dir) = url.to_file_path() {
                    std::fs::create_dir_all(&dir)
                        .map_err(|e| Error::storage(format!("cannot create '{}': {e}", dir.display())))?;
                }
                Arc::new(object_store::local::LocalFileSystem::new())
            }
            ObjectStoreScheme::AmazonS3 => Arc::new(
                object_store::aws::AmazonS3Builder::from_env()
                    .with_url(url.as_str())
                    .with_allow_http(allow_http())
                    .build()
                    .map_err(bad)?,
            ),
            ObjectStoreScheme::Memory => Arc::new(object_store::memory::InMemory::new()),
            _ => {
                return Err(Error::not_supported(format!("cannot open '{location}': no such kind of store"))
                    .with_hint("use a local path, file:///… or s3://bucket/prefix"));
            }
        };
        Ok(Store { inner: Arc::new(ObservedStore(inner)), root: root_of(&url)?, prefix })
    }

    /// A store of the caller's own, for tests that make it fail or delay.
    pub fn with_object_store(inner: Arc<dyn ObjectStore>, location: &str) -> Result<Self> {
        let url = parse_location(location)?;
        let prefix = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        Ok(Store { inner: Arc::new(ObservedStore(inner)), root: root_of(&url)?, prefix })
    }

    /// A place in a store that is open: at `prefix` below `root`.
    pub fn of_parts(inner: Arc<dyn ObjectStore>, root: Url, prefix: Path) -> Self {
        Store { inner, root, prefix }
    }

    /// The same store further down.
    pub fn child(&self, name: &str) -> Store {
        Store {
            inner: Arc::clone(&self.inner),
            root: self.root.clone(),
            prefix: self.prefix.clone().join(name),
        }
    }

    /// The whole store, not only the prefix.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// What the engine knows the store by.
    pub fn object_store_url(&self) -> Result<ObjectStoreUrl> {
        Ok(ObjectStoreUrl::parse(&self.root[..url::Position::BeforePath])?)
    }

    /// The store's address, to register it with the engine.
    pub fn root_url(&self) -> &Url {
        &self.root
    }

    /// Where things are: the prefix, from the store's root.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The full path of `relative`, which may have several parts.
    pub fn path(&self, relative: &str) -> Path {
        relative.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |p, part| p.join(part))
    }

    /// Reads an object; `None` if there is none.
    pub async fn get(&self, path: &Path) -> Result<Option<bytes::Bytes>> {
        match self.inner.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether there is an object.
    pub async fn exists(&self, path: &Path) -> Result<bool> {
        match self.inner.head(path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes an object unless there is one; says whether it did. An error may mean that it did or did not.
    pub async fn put_if_absent(&self, path: &Path, body: bytes::Bytes) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.inner.put_opts(path, PutPayload::from(body), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Writes an object over what may be there.
    pub async fn put(&self, path: &Path, body: bytes::Bytes) -> Result<()> {
        self.inner.put(path, PutPayload::from(body)).await?;
        Ok(())
    }

    /// The names directly below the prefix that have something below them, in order.
    pub async fn list_folders(&self) -> Result<Vec<String>> {
        let listed = self.inner.list_with_delimiter(Some(&self.prefix)).await?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Removes these objects; those that are not there any more are no error.
    pub async fn delete_all(&self, paths: Vec<Path>) -> Result<()> {
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.inner.delete_stream(paths);
        loop {
            match deleted.try_next().await {
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

use futures::StreamExt;

/// A path is relative to the working directory; anything with `://` is an address.
fn parse_location(location: &str) -> Result<Url> {
    let bad = |e: String| Error::invalid_input(format!("'{location}' is not a path or an address: {e}"));
    if location.contains("://") {
        return Url::parse(location).map_err(|e| bad(e.to_string()));
    }
    let absolute = std::path::absolute(location).map_err(|e| bad(e.to_string()))?;
    Url::from_directory_path(&absolute).map_err(|()| bad("not a directory path".into()))
}

/// `s3://bucket` of `s3://bucket/prefix`, `file:///` of a local path.
fn root_of(url: &Url) -> Result<Url> {
    let root = if url.scheme() == "file" {
        "file:///".to_owned()
    } else {
        url[..url::Position::BeforePath].to_owned()
    };
    Url::parse(&root).map_err(|e| Error::invalid_input(format!("'{url}' has no root: {e}")))
}

/// An endpoint with `http://` is asked for on purpose.
fn allow_http() -> bool {
    ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|v| v.starts_with("http://")))
}
