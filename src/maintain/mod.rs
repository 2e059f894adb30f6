//! The upkeep of tables. But for DELETE none of it changes what a rollup gives.
//!
//! | file | what |
//! | --- | --- |
//! | [`target`] | what can be maintained, by name |
//! | [`layout`] | which files are worth merging |
//! | [`compact`] | merging them |
//! | [`accept`] | late rows into the table that they were meant for |
//! | [`delete`] | rows that are to leave |
//! | [`expire`], [`archive`] | rows that are past their retention, and where they go |
//! | [`forget`] | what guards of streams remember for no reason |
//! | [`needed`] | what of a table's past others still read |
//! | [`vacuum`] | removing what nobody reads |

pub mod accept;
pub mod archive;
pub mod compact;
pub mod delete;
pub mod expire;
pub mod forget;
pub mod layout;
pub mod needed;
pub mod target;
pub mod vacuum;
