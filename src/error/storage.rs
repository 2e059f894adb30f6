//! What an object store says, and what to do about it.

use super::{Error, Kind};

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        of_store(&e).with_source(e)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let said = e.to_string();
        let error = Error::storage(super::engine::first_line(&said)).with_source(e);
        match advice(&said) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Without the cause, where the error belongs to somebody else.
pub(super) fn of_store(e: &object_store::Error) -> Error {
    use object_store::Error as E;
    let said = e.to_string();
    let kind = match e {
        E::NotSupported { .. } | E::NotImplemented { .. } => Kind::NotSupported,
        _ => Kind::Storage,
    };
    let error = Error::new(kind, format!("object store: {}", super::engine::first_line(&said)));
    let hint = match e {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Some(
            "look at the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), and at what they may do with the bucket",
        ),
        _ => advice(&said),
    };
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What to do where a store, or a disk, says this.
fn advice(said: &str) -> Option<&'static str> {
    let lower = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["nosuchbucket"]) {
        Some("there is no such bucket: look at the URL, AWS_REGION and AWS_ENDPOINT")
    } else if has(&["slowdown", "slow down", "too many requests", "503", "429", "throttl"]) {
        Some("the store is asked too often: try again later, or with fewer at a time")
    } else if has(&["timed out", "timeout", "deadline"]) {
        Some("the store did not answer in time: try again, and look at the network")
    } else if has(&["error sending request", "dns", "connection refused", "connect error"]) {
        Some("the store cannot be reached: look at AWS_ENDPOINT, AWS_REGION and the network")
    } else if has(&["credential", "access key", "signaturedoesnotmatch", "expiredtoken"]) {
        Some("look at the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)")
    } else if has(&["no space left", "no storage space", "storage full", "quota"]) {
        Some("there is no room left: make some, and try again")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_its_advice() {
        let generic =
            |said: &str| object_store::Error::Generic { store: "S3", source: said.to_owned().into() };
        let denied = object_store::Error::PermissionDenied { path: "a/b".into(), source: "403".into() };
        for (e, hint) in [
            (denied, "credentials"),
            (generic("<Code>NoSuchBucket</Code>"), "no such bucket"),
            (generic("503 SlowDown: please reduce your request rate"), "too often"),
            (generic("operation timed out\nafter 30 s"), "in time"),
            (generic("error sending request for url (http://x)"), "cannot be reached"),
        ] {
            let e = Error::from(e);
            assert_eq!(e.kind(), Kind::Storage);
            assert!(e.hint().is_some_and(|h| h.contains(hint)), "{e:?}");
            assert!(!e.message().contains('\n'));
        }
        assert_eq!(Error::from(generic("whatever")).hint(), None);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(Error::from(full).hint().is_some_and(|h| h.contains("room")));
    }
}
