//! The settings of the session.

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::rows;
use crate::pg::catalog::relations::Seen;

pub(super) fn pg_settings(seen: &Seen) -> Result<RecordBatch> {
    let all = seen.client.settings.shown();
    let source = |setting: &str, boot: &str| if setting == boot { "default" } else { "session" };
    rows("pg_settings", all.len())?
        .text("name", all.iter().map(|s| s.name))
        .text("setting", all.iter().map(|s| &s.setting))
        .maybe_text("unit", all.iter().map(|s| s.unit))
        .text("category", all.iter().map(|s| category(s.name)))
        .all(&["short_desc"], "")?
        .text("context", all.iter().map(|s| s.context))
        .text("vartype", all.iter().map(|s| s.vartype))
        .text("source", all.iter().map(|s| source(&s.setting, &s.boot)))
        .maybe_text("min_val", all.iter().map(|s| s.range.map(|r| r.0.to_string())))
        .maybe_text("max_val", all.iter().map(|s| s.range.map(|r| r.1.to_string())))
        .texts("enumvals", all.iter().map(|s| s.words.map(|w| w.iter().map(|w| (*w).to_owned()).collect())))
        .text("boot_val", all.iter().map(|s| &s.boot))
        .text("reset_val", all.iter().map(|s| &s.reset))
        .all(&["pending_restart"], false)?
        .batch()
}

/// Where PostgreSQL's documentation has a setting.
fn category(name: &str) -> &'static str {
    match name {
        "application_name" => "Reporting and Logging / What to Log",
        "escape_string_warning"
        | "quote_all_identifiers"
        | "standard_conforming_strings"
        | "synchronize_seqscans" => "Version and Platform Compatibility / Previous PostgreSQL Versions",
        "geqo" => "Query Tuning / Genetic Query Optimizer",
        "jit" => "Query Tuning / Other Planner Options",
        "ssl" => "Connections and Authentication / SSL",
        "synchronous_commit" => "Write-Ahead Log / Settings",
        "block_size"
        | "in_hot_standby"
        | "integer_datetimes"
        | "lc_collate"
        | "lc_ctype"
        | "max_identifier_length"
        | "max_index_keys"
        | "server_encoding"
        | "server_version"
        | "server_version_num" => "Preset Options",
        "client_encoding" | "DateStyle" | "extra_float_digits" | "IntervalStyle" | "TimeZone" => {
            "Client Connection Defaults / Locale and Formatting"
        }
        name if name.starts_with("lc_") => "Client Connection Defaults / Locale and Formatting",
        "is_superuser" | "role" | "session_authorization" => "Ungrouped",
        _ => "Client Connection Defaults / Statement Behavior",
    }
}
