//! Where a server may read and write outside of its warehouse.

use std::path::{Path, absolute};

use url::Url;

use crate::error::{Error, Kind, Result};

/// Folders and prefixes; everything below them is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Locations(Option<Vec<String>>);

impl Locations {
    /// Wherever the process may.
    pub fn anywhere() -> Self {
        Locations(None)
    }

    /// These and nothing else.
    pub fn only<'a>(locations: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let normal = locations.into_iter().map(|location| {
            normal(location).ok_or_else(|| {
                Error::invalid_input(format!("'{location}' is not a location that can be allowed"))
                    .with_hint("write a folder, file:///folder or s3://bucket/prefix, without .. and %")
            })
        });
        Ok(Locations(Some(normal.collect::<Result<_>>()?)))
    }

    /// Nowhere outside of the warehouse.
    pub fn nowhere() -> Self {
        Locations(Some(vec![]))
    }

    /// Refuses a location that is none of these.
    pub fn check(&self, location: &str) -> Result<()> {
        let Some(allowed) = &self.0 else { return Ok(()) };
        let inside = |location: &str| {
            allowed.iter().any(|a| {
                location.strip_prefix(a.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
            })
        };
        if normal(location).is_some_and(|location| inside(&location)) {
            return Ok(());
        }
        Err(Error::new(Kind::InsufficientPrivilege, format!("the location '{location}' is not allowed"))
            .with_hint("allowed_locations in the server's configuration says which are"))
    }
}

/// A location in one spelling, without a slash at its end; none for one that could be read in two ways.
fn normal(location: &str) -> Option<String> {
    let segments = || location.split(['/', '\\']);
    if location.is_empty() || location.contains(['%', '\0']) || segments().any(|segment| segment == "..") {
        return None;
    }
    let url = match Url::parse(location) {
        Ok(url) => url,
        Err(_) => Url::from_file_path(absolute(Path::new(location)).ok()?).ok()?,
    };
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return None;
    }
    let place = url.as_str().trim_end_matches('/');
    // `file:etc` and `data:…` are addresses too, and none of ours.
    place.contains("://").then(|| place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_is_meant_and_nothing_beside() {
        let only = Locations::only(["/data/in/", "s3://bucket/shared", "relative"]).unwrap();
        let here = absolute("relative/x.csv").unwrap();
        for inside in [
            "/data/in",
            "/data/in/a.csv",
            "/data/in/*.csv",
            "/data//in/./a b.csv",
            "file:///data/in/a.csv",
            "file:/data/in/a.csv",
            "s3://bucket/shared/x/",
            "relative/x.csv",
            here.to_str().unwrap(),
        ] {
            assert!(only.check(inside).is_ok(), "{inside}");
        }
        for outside in [
            "",
            "/data/inside.csv",
            "/data/in/../secret",
            "/data/in/%2e%2e/secret",
            "/data",
            "/",
            "file:///etc/passwd",
            "file:/etc/passwd",
            "file:etc/passwd",
            "s3://bucket/shared2",
            "s3://bucket",
            "s3://other/shared/x",
            "s3://bucket@evil/shared/x",
            "S3A://bucket/shared/x",
            "http://bucket/shared/x",
            "s3://bucket/shared?x=/",
            "../relative/x.csv",
            "data:text/plain,x",
        ] {
            let refused = only.check(outside).unwrap_err();
            assert_eq!(refused.kind(), Kind::InsufficientPrivilege, "{outside}");
        }
        assert!(Locations::anywhere().check("/etc/passwd").is_ok());
        assert!(Locations::only([]).unwrap().check("/data").is_err());
        assert!(Locations::only(["/a/../b"]).is_err() && Locations::only([""]).is_err());
    }
}
