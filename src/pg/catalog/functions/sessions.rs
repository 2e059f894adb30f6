//! This session and the others: who it is, and `pg_cancel_backend`, `pg_terminate_backend`.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::scalar::ScalarValue;

use super::{Function, as_number, constant, strict, text, volatile};
use crate::catalog::privileges::Role;
use crate::error::{Error, Kind};
use crate::pg::Client;
use crate::pg::catalog::relations::Relations;

pub(super) fn all(relations: &Arc<Relations>, client: &Client) -> Vec<Function> {
    let signal = |name, end: bool, arguments: &[usize]| {
        let (sessions, user, role) = (client.sessions.clone(), client.user.clone(), client.role);
        volatile(strict(name, arguments, DataType::Boolean, move |args| {
            let pid = as_number(&args[0]).and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
            let Some(theirs) = sessions.activity(pid) else { return Ok(ScalarValue::from(false)) };
            may_signal(&user, role, &theirs.user, theirs.role, end)?;
            Ok(ScalarValue::from(sessions.signal(pid, end)))
        }))
    };
    vec![
        signal("pg_cancel_backend", false, &[1]),
        signal("pg_terminate_backend", true, &[1, 2]),
        constant("pg_backend_pid", &[0], ScalarValue::from(client.pid)),
        constant("current_database", &[0], text(relations.database())),
        constant("session_user", &[0], text(&client.user)),
        constant("inet_client_port", &[0], ScalarValue::from(i32::from(client.address.port()))),
        constant("inet_client_addr", &[0], text(client.address.ip().to_canonical().to_string())),
        constant("pg_postmaster_start_time", &[0], instant(started())),
        constant("pg_conf_load_time", &[0], instant(started())),
    ]
}

/// One's own sessions may be stopped, and those of others by admins.
fn may_signal(user: &str, role: Role, theirs: &str, their_role: Role, end: bool) -> Result<()> {
    if role == Role::Admin || user == theirs {
        return Ok(());
    }
    let what = if end { "process" } else { "query" };
    let done = if end { "terminated" } else { "canceled" };
    let why = match their_role {
        Role::Admin => format!("must be a superuser to {} superuser {what}", &done[..done.len() - 2]),
        _ => format!(
            "must be a member of the role whose {what} is being {done} or member of pg_signal_backend"
        ),
    };
    Err(Error::new(Kind::InsufficientPrivilege, why).into())
}

fn instant(at: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()))
}

/// When this process first had a session.
fn started() -> i64 {
    static STARTED: OnceLock<i64> = OnceLock::new();
    *STARTED.get_or_init(|| chrono::Utc::now().timestamp_micros())
}
