//! The procedures that CALL knows.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use futures::FutureExt;

use super::access::Right;
use super::call::{Parameter, Procedure, Takes};
use crate::catalog::privileges::Privilege;

const THROUGH: Parameter = Parameter { name: "through", takes: Takes::Instant };
const ROLLUP: Parameter = Parameter { name: "rollup", takes: Takes::Text };
const TABLE: Parameter = Parameter { name: "table", takes: Takes::Text };
const RETENTION: Parameter = Parameter { name: "retention", takes: Takes::Text };
const JOB: Parameter = Parameter { name: "job", takes: Takes::Text };
const PIPELINE: Parameter = Parameter { name: "pipeline", takes: Takes::Text };
const FROM: Parameter = Parameter { name: "from", takes: Takes::Instant };
const ORIGIN: Parameter = Parameter { name: "origin", takes: Takes::Text };
const TO: Parameter = Parameter { name: "to", takes: Takes::Instant };
const REASON: Parameter = Parameter { name: "reason", takes: Takes::Text };
const FORMAT: Parameter = Parameter { name: "format", takes: Takes::Text };
const HEADER: Parameter = Parameter { name: "header", takes: Takes::Text };
const DELIMITER: Parameter = Parameter { name: "delimiter", takes: Takes::Text };
const TRANSFORM: Parameter = Parameter { name: "transform", takes: Takes::Text };

/// All of them, by name.
pub(super) static PROCEDURES: &[Procedure] = &[
    Procedure {
        name: "accept_late",
        right: Right::On(Privilege::Insert),
        parameters: &[TABLE, FROM, TO],
        optional: 2,
        result: &[("table", DataType::Utf8View), ("rows", DataType::Int64)],
        run: |session, arguments| session.accept_late(arguments).boxed(),
    },
    Procedure {
        name: "compact",
        right: Right::On(Privilege::Insert),
        parameters: &[TABLE],
        optional: 0,
        result: &[
            ("table", DataType::Utf8View),
            ("files_removed", DataType::Int64),
            ("files_added", DataType::Int64),
            ("bytes_written", DataType::Int64),
            ("commits", DataType::Int64),
        ],
        run: |session, arguments| session.compact(arguments).boxed(),
    },
    Procedure {
        name: "expire",
        right: Right::On(Privilege::Delete),
        parameters: &[TABLE, RETENTION],
        optional: 1,
        result: &[
            ("table", DataType::Utf8View),
            ("expired_through", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("rows", DataType::Int64),
            ("archived", DataType::Int64),
        ],
        run: |session, arguments| session.expire(arguments).boxed(),
    },
    Procedure {
        name: "pause_job",
        right: Right::Admin,
        parameters: &[JOB],
        optional: 0,
        result: &[("job", DataType::Utf8View)],
        run: |session, arguments| session.pause_job(arguments).boxed(),
    },
    Procedure {
        name: "recompute",
        right: Right::On(Privilege::Insert),
        parameters: &[ROLLUP, FROM, TO, ORIGIN],
        optional: 1,
        result: &[
            ("rollup", DataType::Utf8View),
            ("ranges", DataType::Int64),
            ("units", DataType::Int64),
            ("rows", DataType::Int64),
        ],
        run: |session, arguments| session.recompute(arguments).boxed(),
    },
    Procedure {
        name: "repair",
        right: Right::On(Privilege::Insert),
        parameters: &[ROLLUP, FROM, TO],
        optional: 0,
        result: &[
            ("rollup", DataType::Utf8View),
            ("ranges", DataType::Int64),
            ("units", DataType::Int64),
            ("rows", DataType::Int64),
        ],
        run: |session, arguments| session.repair(arguments).boxed(),
    },
    Procedure {
        name: "replay_dead_letters",
        right: Right::On(Privilege::Insert),
        parameters: &[TABLE, FROM, TO, REASON, FORMAT, HEADER, DELIMITER, TRANSFORM],
        optional: 7,
        result: &[
            ("table", DataType::Utf8View),
            ("replayed", DataType::Int64),
            ("filtered", DataType::Int64),
            ("still_bad", DataType::Int64),
        ],
        run: |session, arguments| session.replay_dead_letters(arguments).boxed(),
    },
    Procedure {
        name: "require_complete",
        right: Right::On(Privilege::Select),
        parameters: &[ROLLUP, THROUGH],
        optional: 0,
        result: &[
            ("rollup", DataType::Utf8View),
            ("complete_through", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ],
        run: |session, arguments| session.require_complete(arguments).boxed(),
    },
    Procedure {
        name: "resume",
        right: Right::Writer,
        parameters: &[PIPELINE],
        optional: 0,
        result: &[("pipeline", DataType::Utf8View), ("table", DataType::Utf8View)],
        run: |session, arguments| session.resume(arguments).boxed(),
    },
    Procedure {
        name: "resume_job",
        right: Right::Admin,
        parameters: &[JOB],
        optional: 0,
        result: &[("job", DataType::Utf8View)],
        run: |session, arguments| session.resume_job(arguments).boxed(),
    },
    Procedure {
        name: "run_job",
        right: Right::Admin,
        parameters: &[JOB],
        optional: 0,
        result: &[("job", DataType::Utf8View)],
        run: |session, arguments| session.run_job(arguments).boxed(),
    },
];
