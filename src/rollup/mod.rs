//! Incremental views. Knows no catalog: it is handed its sources.
//!
//! | file | what |
//! | --- | --- |
//! | [`definition`] | what a rollup may be |
//! | [`view`] | the formula |
//! | [`fold`] | the formula, committed: fold, recompute, build |
//! | [`table`] | the formula, queried |

pub mod definition;
pub mod fold;
pub mod table;
pub mod view;
