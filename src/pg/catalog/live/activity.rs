//! Connections, and what they do.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::rows;
use crate::pg::activity::{Activity, Now};
use crate::pg::catalog::relations::Seen;

/// What stands for the statement of somebody else.
const HIDDEN: &str = "<insufficient privilege>";

/// A connection, what it does, and whether whoever asks may know.
fn connections(seen: &Seen) -> Vec<(Arc<Activity>, Now, bool)> {
    let me = &seen.client;
    let all = me.sessions.activities().into_iter().map(|activity| {
        let open = me.role == crate::catalog::privileges::Role::Admin || activity.user == me.user;
        let now = activity.now();
        (activity, now, open)
    });
    all.collect()
}

pub(super) fn pg_stat_activity(seen: &Seen) -> Result<RecordBatch> {
    let all = connections(seen);
    let open = || all.iter().map(|(activity, now, open)| (activity, open.then_some(now)));
    let address = |activity: &Activity| activity.address.ip().to_canonical().to_string();
    rows("pg_stat_activity", all.len())?
        .all(&["datid"], seen.database_oid())?
        .all(&["datname"], seen.database.as_str())?
        .int4("pid", open().map(|(a, _)| a.pid))
        .maybe_int4("usesysid", open().map(|(a, _)| seen.roles.named(&a.user).map(|m| m.oid)))
        .text("usename", open().map(|(a, _)| &a.user))
        .text("application_name", open().map(|(a, _)| a.settings.get("application_name").unwrap_or_default()))
        .maybe_text("client_addr", open().map(|(a, now)| now.map(|_| address(a))))
        .maybe_int4("client_port", open().map(|(a, now)| now.map(|_| i32::from(a.address.port()))))
        .instants("backend_start", open().map(|(a, now)| now.map(|_| a.since)))
        .instants("xact_start", open().map(|(_, now)| now.and_then(|n| n.transaction_start)))
        .instants("query_start", open().map(|(_, now)| now.and_then(|n| n.query_start)))
        .instants("state_change", open().map(|(_, now)| now.map(|n| n.changed)))
        .maybe_text(
            "wait_event_type",
            open().map(|(_, now)| now.and_then(|n| (!n.active).then_some("Client"))),
        )
        .maybe_text(
            "wait_event",
            open().map(|(_, now)| now.and_then(|n| (!n.active).then_some("ClientRead"))),
        )
        .maybe_text("state", open().map(|(_, now)| now.map(Now::state)))
        .text("query", open().map(|(_, now)| now.map_or(HIDDEN.to_owned(), |n| n.query.clone())))
        .maybe_text("backend_type", open().map(|(_, now)| now.map(|_| "client backend")))
        .batch()
}

pub(super) fn pg_prepared_statements(seen: &Seen) -> Result<RecordBatch> {
    let all = seen.client.prepared.all();
    rows("pg_prepared_statements", all.len())?
        .text("name", all.iter().map(|(name, _)| name))
        .text("statement", all.iter().map(|(_, text)| &text.sql))
        .instants("prepare_time", all.iter().map(|(_, text)| Some(text.at.timestamp_micros())))
        .bool("from_sql", all.iter().map(|(_, text)| text.from_sql))
        .batch()
}

pub(super) fn pg_stat_database(seen: &Seen) -> Result<RecordBatch> {
    let zeros = [
        "blks_read",
        "blks_hit",
        "tup_returned",
        "tup_fetched",
        "tup_inserted",
        "tup_updated",
        "tup_deleted",
        "conflicts",
        "temp_files",
        "temp_bytes",
        "deadlocks",
        "sessions_abandoned",
        "sessions_fatal",
        "sessions_killed",
    ];
    let all = seen.client.sessions.activities().len();
    let (committed, rolled_back) = seen.client.sessions.transactions();
    rows("pg_stat_database", 1)?
        .int4("datid", [seen.database_oid()])
        .text("datname", [&seen.database])
        .int4("numbackends", [all as i32])
        .maybe_int8("xact_commit", [Some(committed as i64)])
        .maybe_int8("xact_rollback", [Some(rolled_back as i64)])
        .maybe_int8("sessions", [Some(seen.client.sessions.ever())])
        .all(&zeros, 0i64)?
        .all(
            &["blk_read_time", "blk_write_time", "session_time", "active_time", "idle_in_transaction_time"],
            0f64,
        )?
        .batch()
}

pub(super) fn pg_stat_ssl(seen: &Seen) -> Result<RecordBatch> {
    let all = connections(seen);
    let encrypted = |a: &Activity| a.settings.get("ssl").as_deref() == Some("on");
    rows("pg_stat_ssl", all.len())?
        .int4("pid", all.iter().map(|(a, ..)| a.pid))
        .bool("ssl", all.iter().map(|(a, ..)| encrypted(a)))
        .batch()
}

pub(super) fn pg_stat_gssapi(seen: &Seen) -> Result<RecordBatch> {
    let all = connections(seen);
    rows("pg_stat_gssapi", all.len())?
        .int4("pid", all.iter().map(|(a, ..)| a.pid))
        .all(&["gss_authenticated", "encrypted"], false)?
        .batch()
}
