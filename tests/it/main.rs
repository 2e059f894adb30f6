//! The one integration binary: every test binary links the whole engine.

mod formula;
mod pg;
mod protocol;
