//! Incremental views. Knows no catalog: it is handed its sources.
//!
//! | file | what |
//! | --- | --- |
//! | [`definition`] | what a rollup may be |
//! | [`view`] | the formula |
//! | [`fold`] | the formula, committed: fold, build |
//! | [`recompute`] | what is to be computed anew, and in which units |
//! | [`slices`] | which files are aggregated apart from others |
//! | [`evolution`] | another definition in the place of a rollup's own |
//! | [`audit`] | where a rollup differs from its definition |
//! | [`table`] | the formula, queried |
//! | [`over_events`] | a rollup in terms of the raw events |

pub mod audit;
pub mod definition;
pub mod evolution;
pub mod fold;
pub mod over_events;
pub mod recompute;
pub mod slices;
pub mod table;
pub mod view;
