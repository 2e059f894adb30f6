//! Where workers may be: a list, a file that is read again, or a name that is looked up again.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::error::{Error, Result};

/// `host:port,…`, `file:PATH` or `dns:name:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// These.
    List(Vec<String>),
    /// One on each line of a file; what follows a `#` is a remark.
    File(PathBuf),
    /// Each address that a name has, at this port.
    Dns(String, u16),
}

impl FromStr for Addresses {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Addresses::File(PathBuf::from(path)));
        }
        if let Some(name) = text.strip_prefix("dns:") {
            let (host, port) = host_and_port(name)?;
            return Ok(Addresses::Dns(host.to_owned(), port));
        }
        let list = text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned);
        let list: Vec<String> = list.collect();
        for one in &list {
            host_and_port(one)?;
        }
        match list.is_empty() {
            true => Err(Error::invalid_input("workers: there is no address").with_hint(FORMS)),
            false => Ok(Addresses::List(list)),
        }
    }
}

const FORMS: &str = "give host:port,host:port or file:PATH or dns:name:port";

fn host_and_port(text: &str) -> Result<(&str, u16)> {
    let wrong = || Error::invalid_input(format!("workers: '{text}' is no host:port")).with_hint(FORMS);
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok((host, port)),
        _ => Err(wrong()),
    }
}

impl Addresses {
    /// Where they are now, each once, in order.
    pub(super) async fn now(&self, scheme: &str) -> Result<Vec<Url>> {
        let mut found: Vec<String> = match self {
            Addresses::List(list) => list.clone(),
            Addresses::File(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|e| Error::storage(format!("workers: cannot read '{}': {e}", path.display())))?;
                let lines =
                    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
                lines.filter(|line| !line.is_empty()).collect()
            }
            Addresses::Dns(host, port) => tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(|e| Error::storage(format!("workers: cannot look up '{host}': {e}")))?
                .map(|address| address.to_string())
                .collect(),
        };
        found.sort();
        found.dedup();
        found.iter().map(|one| url(scheme, one)).collect()
    }
}

fn url(scheme: &str, address: &str) -> Result<Url> {
    host_and_port(address)?;
    Url::parse(&format!("{scheme}://{address}"))
        .map_err(|e| Error::invalid_input(format!("workers: '{address}': {e}")).with_hint(FORMS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_a_file_and_a_name_are_read() {
        let list: Addresses = "b:1, a:2,,a:2".parse().unwrap();
        let urls = list.now("http").await.unwrap();
        assert_eq!(urls.iter().map(Url::as_str).collect::<Vec<_>>(), ["http://a:2/", "http://b:1/"]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workers");
        std::fs::write(&path, "# ours\nh:7433 # the first\n\n[::1]:7433\n").unwrap();
        let file: Addresses = format!("file:{}", path.display()).parse().unwrap();
        let urls = file.now("https").await.unwrap();
        assert_eq!(
            urls.iter().map(Url::as_str).collect::<Vec<_>>(),
            ["https://[::1]:7433/", "https://h:7433/"]
        );
        std::fs::write(&path, "h\n").unwrap();
        let e = file.now("https").await.unwrap_err();
        assert_eq!(e.message(), "workers: 'h' is no host:port");
        let name: Addresses = "dns:localhost:7433".parse().unwrap();
        let urls = name.now("http").await.unwrap();
        assert!(urls.iter().any(|url| url.port() == Some(7433)), "{urls:?}");
        for wrong in ["", "h", ":1", "h:x", "dns:h", "h:99999"] {
            assert!(wrong.parse::<Addresses>().is_err(), "{wrong}");
        }
    }
}
