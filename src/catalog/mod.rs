//! What the warehouse holds, as catalogs of the engine.
//!
//! | file | what |
//! | --- | --- |
//! | [`warehouse`] | finding, making and dropping objects |
//! | [`queries`] | what the queries of views and rollups say |
//! | `folder_names` | which folder an object has |
//! | [`schemas`] | `toplake.public` and `toplake.toplake` for the engine |
//! | [`events`] | tables with rows of their own |
//! | [`leaderboard`] | snapshot views |
//! | [`row_index`] | which rows of them have these values |
//! | [`external`] | tables elsewhere |
//! | [`outbox`] | what one table's commits have for another |
//! | [`side_table`] | tables of our own that this ends up in |
//! | [`dead_letters`] | the system table of bad input |
//! | [`ledger`] | the system table of what became of all input |
//! | `replayed` | dead letters that are sent again, into their table |
//! | [`recent_keys`] | the side table of what guards of streams remember |
//! | [`late`] | rows that come after the watermark, and where they go |
//! | [`audit`](mod@audit) | the table function of that name |
//! | [`pipelines`] | the system table of how those are that bring events in |
//! | [`workers`] | the system table of the machines that queries are spread over |
//! | [`offsets`] | where streams stand, and moving that by hand |
//! | [`jobs`] | the system table of long work |
//! | [`schedule`] | jobs as all servers know them: what they are, their last runs, who wants what |
//! | [`cron`] | when a job is due |
//! | [`job_runs`] | the system table of what jobs have done |
//! | [`rollups`] | the system table of materialized views |
//! | [`sources`] | the system table of where rows come from |
//! | [`interrupt`] | until when a statement may be stopped |
//! | [`transaction`] | what a session has written and not committed |
//! | [`watermark`] | the function of that name |
//! | [`access`] | whose session it is, and what that one may do |
//! | [`locations`] | where a server may read and write outside of its warehouse |
//! | [`options`] | `WITH (…)` |
//! | [`privileges`] | roles, and who may do what with a table |
//! | [`comments`] | what COMMENT ON says of a table |

pub mod access;
pub mod audit;
pub mod comments;
pub mod cron;
pub mod dead_letters;
pub mod events;
pub mod external;
mod folder_names;
pub mod interrupt;
pub mod job_runs;
pub mod jobs;
pub mod late;
pub mod leaderboard;
pub mod ledger;
mod live_table;
pub mod locations;
pub mod offsets;
pub mod options;
pub mod outbox;
pub mod pipelines;
pub mod privileges;
pub mod queries;
pub mod recent_keys;
mod replayed;
pub mod rollups;
pub mod row_index;
pub mod schedule;
pub mod schemas;
pub mod side_table;
pub mod sources;
pub mod transaction;
pub mod warehouse;
pub mod watermark;
pub mod workers;

use crate::error::Result;

/// Names of the tables that a query mentions, each once.
pub fn names_in(sql: &str) -> Result<Vec<String>> {
    use datafusion::sql::parser::DFParserBuilder;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    let mut statements =
        DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build()?.parse_statements()?;
    let Some(statement) = statements.pop_front() else { return Ok(vec![]) };
    let (relations, _) = datafusion::sql::resolve::resolve_table_references(&statement, true)?;
    let mut names: Vec<String> = relations.iter().map(|r| r.table().to_owned()).collect();
    names.dedup();
    Ok(names)
}
