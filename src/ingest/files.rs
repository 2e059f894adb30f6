//! Which files: paths, globs, folders and addresses, and how each is to be read.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

use crate::error::{Error, Result};
use crate::lake::store::Store;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header line, then records.
    Csv {
        /// What separates fields: one byte of ASCII.
        delimiter: u8,
    },
    /// An object a line.
    Ndjson,
    /// Parquet.
    Parquet,
}

/// How a text file is compressed; its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

/// A file to be ingested.
#[derive(Debug, Clone)]
pub struct InputFile {
    /// Its absolute address: what it is known by.
    pub url: String,
    /// Bytes, as it is stored.
    pub size: u64,
    /// How its rows are written.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
}

impl InputFile {
    /// A file that changes while it is read has no lines that could be counted.
    pub(super) fn check_size(&self, now: u64) -> Result<()> {
        if now == self.size {
            return Ok(());
        }
        Err(Error::invalid_input(format!("it had {} bytes a moment ago and has {now} now", self.size))
            .with_hint("ingest a file once it is complete: write it under another name, then rename it"))
    }
}

/// Finds the files that `patterns` name, in their order and within a pattern by name, each once.
///
/// A pattern is a path, a glob, a folder (every file below it whose name does not begin with `.` or `_`) or an address
/// (`file:///…`, `s3://bucket/…`, with the same possibilities). `format` overrides what the files' names say. Fails if a
/// pattern finds nothing, or the format of a file is not known.
pub async fn find(
    patterns: &[String],
    format: Option<Format>,
    delimiter: Option<u8>,
) -> Result<Vec<InputFile>> {
    let mut finder =
        Finder { format, delimiter, stores: HashMap::new(), seen: HashSet::new(), found: vec![] };
    for pattern in patterns {
        finder.find(pattern).await.map_err(|e| e.context(format!("'{pattern}'")))?;
    }
    Ok(finder.found)
}

struct Finder {
    format: Option<Format>,
    delimiter: Option<u8>,
    /// By address of the store.
    stores: HashMap<String, Store>,
    seen: HashSet<String>,
    found: Vec<InputFile>,
}

impl Finder {
    async fn find(&mut self, pattern: &str) -> Result<()> {
        match Url::parse(pattern) {
            Ok(url) if pattern.contains("://") && url.scheme() != "file" => self.remote(pattern, &url).await,
            Ok(url) if pattern.contains("://") => {
                let path = url
                    .to_file_path()
                    .map_err(|()| Error::invalid_input("not the address of a local file"))?;
                self.local(path)
            }
            _ => self.local(PathBuf::from(pattern)),
        }
    }

    fn local(&mut self, pattern: PathBuf) -> Result<()> {
        let none = || Error::invalid_input("there is no such file");
        let mut paths = vec![];
        if pattern.is_dir() {
            walk(&pattern, &mut paths)?;
        } else if pattern.exists() {
            paths.push(pattern);
        } else {
            let text = pattern.to_str().ok_or_else(|| Error::invalid_input("the path is not valid UTF-8"))?;
            let bad = |e: &dyn std::fmt::Display| Error::invalid_input(format!("not a pattern: {e}"));
            for path in glob::glob(text).map_err(|e| bad(&e))? {
                let path = path.map_err(|e| Error::storage(e.to_string()))?;
                if path.is_file() {
                    paths.push(path);
                }
            }
        }
        if paths.is_empty() {
            return Err(none());
        }
        paths.sort();
        for path in paths {
            // Without `..` and links, so that a file is known by one address.
            let path = path.canonicalize()?;
            let url = Url::from_file_path(&path).map_err(|()| Error::invalid_input("not a local file"))?;
            let size = path.metadata()?.len();
            let location = Path::from_absolute_path(&path).map_err(object_store::Error::from)?;
            let store = Arc::new(object_store::local::LocalFileSystem::new());
            self.add(url.to_string(), size, store, location)?;
        }
        Ok(())
    }

    /// Keys are taken as they stand: a blank is a blank, `*`, `?` and `[…]` are a glob.
    async fn remote(&mut self, pattern: &str, url: &Url) -> Result<()> {
        let root = url[..url::Position::BeforePath].to_owned();
        let store = match self.stores.get(&root) {
            Some(store) => store.clone(),
            None => {
                let store = Store::open(&root)?;
                self.stores.insert(root.clone(), store.clone());
                store
            }
        };
        let store = Arc::clone(store.object_store());
        let key = pattern.get(root.len()..).unwrap_or_default();
        for meta in matching(&*store, key).await? {
            let url = format!("{root}/{}", meta.location);
            self.add(url, meta.size, Arc::clone(&store), meta.location)?;
        }
        Ok(())
    }

    fn add(&mut self, url: String, size: u64, store: Arc<dyn ObjectStore>, path: Path) -> Result<()> {
        if !self.seen.insert(url.clone()) {
            return Ok(());
        }
        let (named, compression) = of_name(path.filename().unwrap_or_default());
        let format = self.format.or(named).ok_or_else(|| {
            Error::invalid_input(format!("the name of '{url}' does not say what it is"))
                .with_hint("say --format csv, ndjson or parquet")
        })?;
        let format = match (format, self.delimiter) {
            (Format::Csv { .. }, Some(delimiter)) => Format::Csv { delimiter },
            (format, _) => format,
        };
        self.found.push(InputFile { url, size, format, compression, store, path });
        Ok(())
    }
}

/// Every visible file below a folder.
fn walk(folder: &std::path::Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_hidden(path.file_name().and_then(|n| n.to_str()).unwrap_or("_")) {
            continue;
        }
        if path.is_dir() { walk(&path, paths)? } else { paths.push(path) }
    }
    Ok(())
}

/// The objects that a key, a folder (which ends with a slash) or a glob names.
async fn matching(store: &dyn ObjectStore, key: &str) -> Result<Vec<ObjectMeta>> {
    let text = key.trim_matches('/');
    let bad = |e: object_store::path::Error| Error::invalid_input(format!("not an address: {e}"));
    if !key.ends_with('/') && !text.is_empty() {
        match store.head(&Path::parse(text).map_err(bad)?).await {
            Ok(meta) => return Ok(vec![meta]),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let special = text.find(['*', '?', '[']);
    let folder = special.map_or(text, |at| text[..at].rsplit_once('/').map_or("", |(folder, _)| folder));
    let folder = Path::parse(folder).map_err(bad)?;
    let listed: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await?;
    let pattern = match special {
        Some(_) => Some(Pattern::new(text).map_err(|e| Error::invalid_input(format!("not a pattern: {e}")))?),
        None => None,
    };
    let options = MatchOptions { require_literal_separator: true, ..Default::default() };
    let wanted = |meta: &ObjectMeta| match &pattern {
        Some(pattern) => pattern.matches_with(meta.location.as_ref(), options),
        None => {
            let below = meta.location.prefix_match(&folder);
            below.is_some_and(|mut parts| parts.all(|part| !is_hidden(part.as_ref())))
        }
    };
    let mut found: Vec<ObjectMeta> = listed.into_iter().filter(wanted).collect();
    if found.is_empty() {
        return Err(Error::invalid_input("there is no such file"));
    }
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// What a file's name says of it.
fn of_name(name: &str) -> (Option<Format>, Compression) {
    let name = name.to_lowercase();
    let endings = [(".gz", Compression::Gzip), (".zst", Compression::Zstd), (".zstd", Compression::Zstd)];
    let packed = endings.iter().find_map(|(ending, c)| Some((name.strip_suffix(ending)?, *c)));
    let (name, compression) = packed.unwrap_or((name.as_str(), Compression::None));
    let format = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("csv") => Some(Format::Csv { delimiter: b',' }),
        Some("tsv") => Some(Format::Csv { delimiter: b'\t' }),
        Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
        Some("parquet") => Some(Format::Parquet),
        _ => None,
    };
    (format, compression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_files_are() {
        assert_eq!(of_name("a.CSV.gz"), (Some(Format::Csv { delimiter: b',' }), Compression::Gzip));
        assert_eq!(of_name("a.jsonl.zst"), (Some(Format::Ndjson), Compression::Zstd));
        assert_eq!(of_name("a.parquet"), (Some(Format::Parquet), Compression::None));
        assert_eq!(of_name("a.txt"), (None, Compression::None));
    }

    #[tokio::test]
    async fn a_file_is_found_once_however_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "c.ndjson", ".hidden.csv", "_made.csv"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let names = [
            at("*.csv"),
            at("a.csv"),
            format!("file://{}", at("a.csv")),
            at("../").clone() + "/x/../nothing*",
        ];
        let found = find(&names[..3], None, Some(b';')).await.unwrap();
        let names_of = |found: &[InputFile]| {
            found.iter().map(|f| f.url.rsplit_once('/').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert!(names_of(&found).iter().any(|n| n == "a.csv"));
        assert_eq!(found.iter().filter(|f| f.url.ends_with("/a.csv")).count(), 1);
        assert_eq!(found[0].format, Format::Csv { delimiter: b';' });
        assert_eq!(names_of(&find(&[at("")], None, None).await.unwrap()), ["a.csv", "b.csv", "c.ndjson"]);
        assert!(find(&names[3..], None, None).await.unwrap_err().message().contains("no such file"));
    }

    #[tokio::test]
    async fn globs_and_folders_in_a_store() {
        let store = object_store::memory::InMemory::new();
        for key in ["in/a.csv", "in/b.csv", "in/deep/c.csv", "in/_x/d.csv", "other.csv"] {
            store.put(&Path::from(key), "x".into()).await.unwrap();
        }
        let names = async |key: &str| {
            let found = matching(&store, key).await.unwrap();
            found.into_iter().map(|m| m.location.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("/in/a.csv").await, ["in/a.csv"]);
        assert_eq!(names("/in/").await, ["in/a.csv", "in/b.csv", "in/deep/c.csv"]);
        assert_eq!(names("/in/*.csv").await, ["in/a.csv", "in/b.csv"]);
        assert_eq!(names("/*/**/?.csv").await.len(), 4);
    }
}
