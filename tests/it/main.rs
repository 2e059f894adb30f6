//! The one integration binary: every test binary links the whole engine.

mod ingest;
mod protocol;
