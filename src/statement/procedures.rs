//! The procedures that CALL knows.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use futures::FutureExt;

use super::call::{Parameter, Procedure, Takes};

const THROUGH: Parameter = Parameter { name: "through", takes: Takes::Instant };
const ROLLUP: Parameter = Parameter { name: "rollup", takes: Takes::Text };
const TABLE: Parameter = Parameter { name: "table", takes: Takes::Text };
const RETENTION: Parameter = Parameter { name: "retention", takes: Takes::Text };
const FROM: Parameter = Parameter { name: "from", takes: Takes::Instant };
const ORIGIN: Parameter = Parameter { name: "origin", takes: Takes::Text };
const TO: Parameter = Parameter { name: "to", takes: Takes::Instant };

/// All of them, by name.
pub(super) static PROCEDURES: &[Procedure] = &[
    Procedure {
        name: "accept_late",
        parameters: &[TABLE, FROM, TO],
        optional: 2,
        result: &[("table", DataType::Utf8View), ("rows", DataType::Int64)],
        run: |session, arguments| session.accept_late(arguments).boxed(),
    },
    Procedure {
        name: "compact",
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
        name: "recompute",
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
        name: "require_complete",
        parameters: &[ROLLUP, THROUGH],
        optional: 0,
        result: &[
            ("rollup", DataType::Utf8View),
            ("complete_through", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ],
        run: |session, arguments| session.require_complete(arguments).boxed(),
    },
];
