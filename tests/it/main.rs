//! The one integration binary: every test binary links the whole engine.

mod online_retail;
mod protocol;
mod sales_pack;
