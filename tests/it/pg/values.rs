//! Values of every type, there and back, in both formats.

use std::error::Error;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::{Server, texts};

/// The bytes of a value, whatever its type.
#[derive(Debug, Clone, PartialEq)]
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

const CASES: &[(&str, Type, &str)] = &[
    ("true", Type::BOOL, "t"),
    ("CAST(-7 AS SMALLINT)", Type::INT2, "-7"),
    ("CAST(-70000 AS INT)", Type::INT4, "-70000"),
    ("CAST(9223372036854775807 AS BIGINT)", Type::INT8, "9223372036854775807"),
    ("CAST(1.5 AS REAL)", Type::FLOAT4, "1.5"),
    ("CAST(1e300 AS DOUBLE PRECISION)", Type::FLOAT8, "1e+300"),
    ("CAST(-12345.6789 AS DECIMAL(18, 4))", Type::NUMERIC, "-12345.6789"),
    (
        "CAST('12345678901234567890123456789012.123456' AS DECIMAL(38, 6))",
        Type::NUMERIC,
        "12345678901234567890123456789012.123456",
    ),
    ("CAST(0 AS DECIMAL(18, 4))", Type::NUMERIC, "0.0000"),
    ("'q\"u\\o,t{é}'", Type::TEXT, "q\"u\\o,t{é}"),
    ("''", Type::TEXT, ""),
    ("CAST('ab' AS BYTEA)", Type::BYTEA, "\\x6162"),
    ("DATE '2024-02-29'", Type::DATE, "2024-02-29"),
    ("TIMESTAMP '2024-02-29 12:34:56.789'", Type::TIMESTAMP, "2024-02-29 12:34:56.789"),
    ("TIMESTAMPTZ '2024-02-29 12:34:56Z'", Type::TIMESTAMPTZ, "2024-02-29 12:34:56+00"),
    ("TIME '12:34:56.5'", Type::TIME, "12:34:56.5"),
    ("INTERVAL '1 month 2 days 3 hours'", Type::INTERVAL, "1 mon 2 days 03:00:00"),
    ("[true, NULL]", Type::BOOL_ARRAY, "{t,NULL}"),
    ("CAST([1, 2] AS SMALLINT[])", Type::INT2_ARRAY, "{1,2}"),
    ("CAST([1, NULL] AS INT[])", Type::INT4_ARRAY, "{1,NULL}"),
    ("CAST([1, 2, 3] AS BIGINT[])", Type::INT8_ARRAY, "{1,2,3}"),
    ("CAST([1.5] AS REAL[])", Type::FLOAT4_ARRAY, "{1.5}"),
    ("CAST([1.5, 2] AS DOUBLE PRECISION[])", Type::FLOAT8_ARRAY, "{1.5,2}"),
    ("['a', 'b c', NULL, '', 'null']", Type::TEXT_ARRAY, "{a,\"b c\",NULL,\"\",\"null\"}"),
    ("[CAST(1.25 AS DECIMAL(9, 2)), NULL]", Type::NUMERIC_ARRAY, "{1.25,NULL}"),
    ("[CAST('ab' AS BYTEA)]", Type::BYTEA_ARRAY, "{\"\\\\x6162\"}"),
    ("[DATE '2024-02-29']", Type::DATE_ARRAY, "{2024-02-29}"),
    ("[TIMESTAMP '2024-02-29 00:00:00', NULL]", Type::TIMESTAMP_ARRAY, "{\"2024-02-29 00:00:00\",NULL}"),
    ("[TIMESTAMPTZ '2024-02-29 00:00:00Z']", Type::TIMESTAMPTZ_ARRAY, "{\"2024-02-29 00:00:00+00\"}"),
    ("[INTERVAL '1 month', NULL]", Type::INTERVAL_ARRAY, "{\"1 mon\",NULL}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_there_and_back() {
    let server = Server::start().await;
    let client = server.connect().await;
    for (sql, ty, shown) in CASES {
        // Text, as the simple protocol has it.
        let select = format!("SELECT {sql} AS v");
        assert_eq!(texts(&client, &select).await, [vec![Some((*shown).to_owned())]], "{sql}");

        // Binary: what comes out of a column goes into a parameter of its type, and gives the same again.
        let row = client.query_one(&select, &[]).await.unwrap();
        assert_eq!(row.columns()[0].type_(), ty, "{sql}");
        let raw: Raw = row.get(0);
        let echo = client.prepare_typed("SELECT $1 AS v", std::slice::from_ref(ty)).await.unwrap();
        let back = client.query_one(&echo, &[&raw]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        match *ty {
            // The declared type has no scale, the value has.
            Type::NUMERIC | Type::NUMERIC_ARRAY => {}
            _ => assert_eq!(back.get::<_, Raw>(0), raw, "{sql}"),
        }
        // Both say the same value.
        let compare = format!("SELECT $1 = {sql}");
        if !shown.contains("NULL") {
            let compare = client.prepare_typed(&compare, std::slice::from_ref(ty)).await.unwrap();
            let same = client.query_one(&compare, &[&raw]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
            assert_eq!(same.get::<_, Option<bool>>(0), Some(true), "{sql}");
        }

        // NULL of it.
        let null = client.query_one(&echo, &[&None::<Raw>]).await.unwrap();
        assert_eq!(null.get::<_, Option<Raw>>(0), None, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_values_through_a_driver() {
    let server = Server::start().await;
    let client = server.connect().await;
    let sql =
        "SELECT $1::boolean, $2::smallint, $3::int, $4::bigint, $5::real, $6::double precision, $7::text,
                      $8::bytea, $9::text[], $10::bigint[]";
    let statement = client.prepare(sql).await.unwrap();
    let bytes: &[u8] = &[0, 255];
    let (words, numbers) = (vec![Some("a"), None, Some("")], vec![1i64, -1]);
    let row = client
        .query_one(
            &statement,
            &[&true, &-1i16, &1i32, &i64::MIN, &0.1f32, &f64::MAX, &"é", &bytes, &words, &numbers],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, i16>(1), -1);
    assert_eq!(row.get::<_, i32>(2), 1);
    assert_eq!(row.get::<_, i64>(3), i64::MIN);
    assert_eq!(row.get::<_, f32>(4), 0.1);
    assert_eq!(row.get::<_, f64>(5), f64::MAX);
    assert_eq!(row.get::<_, &str>(6), "é");
    assert_eq!(row.get::<_, &[u8]>(7), bytes);
    assert_eq!(row.get::<_, Vec<Option<&str>>>(8), words);
    assert_eq!(row.get::<_, Vec<i64>>(9), numbers);
}
