//! The procedures that CALL knows.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use futures::FutureExt;

use super::call::{Parameter, Procedure, Takes};

const THROUGH: Parameter = Parameter { name: "through", takes: Takes::Instant };
const ROLLUP: Parameter = Parameter { name: "rollup", takes: Takes::Text };
const FROM: Parameter = Parameter { name: "from", takes: Takes::Instant };
const TO: Parameter = Parameter { name: "to", takes: Takes::Instant };

/// All of them, by name.
pub(super) static PROCEDURES: &[Procedure] = &[
    Procedure {
        name: "recompute",
        parameters: &[ROLLUP, FROM, TO],
        optional: 0,
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
