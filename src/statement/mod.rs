//! Statements: parse, plan, run. What a user types at psql, in `toplake sql` or hands to an embedded session.
//!
//! | file | what |
//! | --- | --- |
//! | [`split`] | a text into statements |
//! | [`variables`] | `:'name'` in a script |
//! | [`parse`](mod@parse) | a statement's text into what it says |
//! | [`access`] | who may run what |
//! | [`ddl`] | CREATE, DROP |
//! | `grant` | GRANT, REVOKE |
//! | `comment` | COMMENT ON |
//! | [`alter`] | ALTER TABLE of options |
//! | [`copy`] | COPY from and to a client; its options: `copy_options` |
//! | `call` | CALL: which procedure, with which values |
//! | `procedures` | what CALL knows |
//! | `completeness` | require_complete |
//! | `resume` | a pipeline goes on |
//! | `jobs` | run_job, pause_job, resume_job |
//! | `recompute` | recompute and repair |
//! | `replay` | replay_dead_letters |
//! | `replace` | CREATE OR REPLACE of a rollup |
//! | `upkeep` | compact, accept_late and expire, VACUUM |
//! | `delete` | DELETE |
//! | `transaction` | BEGIN, COMMIT, ROLLBACK, savepoints |
//! | `at_hand` | statements whose answer is in memory |
//! | `lanes` | where the rows of a query are made |
//! | `plans` | what statements mean, remembered |
//! | `literals` | statements that differ in a value only |
//! | `observed` | what is told of them in numbers and in the log |
//! | `blame` | where in a statement an error is |
//! | [`run`] | everything else, and which is which |

pub mod access;
pub mod alter;
mod at_hand;
mod blame;
mod call;
mod comment;
mod completeness;
pub mod copy;
mod copy_options;
pub mod ddl;
mod delete;
mod describe;
mod grant;
mod jobs;
mod lanes;
mod literals;
mod lookup;
mod observed;
mod output_names;
pub mod parse;
mod plans;
mod procedures;
mod recompute;
mod remarks;
mod replace;
mod replay;
mod resume;
pub mod run;
pub mod split;
mod transaction;
mod upkeep;
pub mod variables;

pub use call::procedures;
pub use describe::describe_plan;
pub use lanes::Lanes;
pub use output_names::name_of;
pub use parse::{Parsed, Statement, parse, parse_one};
pub use plans::Stamp;
pub use remarks::Remarks;
pub use run::{Description, Outcome, Session};
