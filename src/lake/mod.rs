//! Delta tables on an object store.
//!
//! | file | what |
//! | --- | --- |
//! | [`store`] | a prefix in an object store |
//! | [`action`], [`schema`], [`stats`], [`range`] | what stands in the log |
//! | [`log`], [`checkpoint`] | reading it |
//! | [`snapshot`] | a table at one version: the incremental file map |
//! | [`event_times`] | how far event time has come in it |
//! | [`table`] | a table in this process: following the log |
//! | [`watch`] | the same by a task, for tables that are asked for often |
//! | [`committer`] | the next version, exactly once |
//! | [`write_files`] | rows into files as an operator of a plan |
//! | [`writer`], [`scan`] | rows into files, rows out of any selection of files |
//! | [`provider`] | such a selection as a table for the engine |
//! | [`archived`] | rows that have left a table and that its archive has |
//! | [`instant`] | instants as people write and read them |
//! | [`lease`] | of several processes, one at a time does a piece of work |
//! | [`pin`] | one version of each table for a whole statement |

pub mod action;
pub mod archived;
pub mod checkpoint;
pub mod committer;
pub mod event_times;
pub mod instant;
pub mod lease;
pub mod log;
mod observed_store;
pub mod pin;
pub mod provider;
pub mod range;
pub mod scan;
pub mod schema;
pub mod snapshot;
pub mod stats;
pub mod store;
pub mod table;
pub mod watch;
pub mod write_files;
pub mod writer;
