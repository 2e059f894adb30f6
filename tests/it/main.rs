//! The one integration binary: every test binary links the whole engine.

mod formula;
mod online_retail;
mod pg;
mod protocol;
mod sales_pack;
