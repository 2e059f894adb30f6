//! Statements: parse, plan, run. What a user types at psql, in `toplake sql` or hands to an embedded session.
//!
//! | file | what |
//! | --- | --- |
//! | [`split`] | a text into statements |
//! | [`parse`](mod@parse) | a statement's text into what it says |
//! | [`ddl`] | CREATE, DROP |
//! | [`run`] | everything else, and which is which |

pub mod ddl;
pub mod parse;
pub mod run;
pub mod split;

pub use parse::{Parsed, Statement, parse, parse_one};
pub use run::{Description, Outcome, Session};
