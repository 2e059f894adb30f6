//! What COPY gives, COPY takes: any table, in any format.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::{Server, copy_in, copy_out};

/// A column of every type that a table has.
const COLUMNS: &str = "a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f REAL, g DOUBLE, h DECIMAL(18, 4), i DECIMAL(38, 10),
    j VARCHAR, k BYTEA, l DATE, m TIMESTAMP, n TIMESTAMPTZ, o BIGINT[], p VARCHAR[]";

/// Values of a column as SQL writes them.
fn value(column: usize) -> BoxedStrategy<String> {
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    let text = "[a-c\\\\\"',;|\t\r\n{}()\u{8}\u{b}\u{c} é☃N.x0]{0,8}";
    let time = "(19[789][0-9]|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\.[0-9]{6}";
    match column {
        0 => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        1 => any::<i8>().prop_map(|n| format!("CAST('{n}' AS TINYINT)")).boxed(),
        2 => any::<i16>().prop_map(|n| format!("CAST('{n}' AS SMALLINT)")).boxed(),
        3 => any::<i32>().prop_map(|n| format!("CAST('{n}' AS INT)")).boxed(),
        4 => any::<i64>().prop_map(|n| format!("CAST('{n}' AS BIGINT)")).boxed(),
        5 => any::<f32>().prop_map(|x| format!("CAST('{x:e}' AS REAL)")).boxed(),
        6 => any::<f64>().prop_map(|x| format!("CAST('{x:e}' AS DOUBLE)")).boxed(),
        7 => "-?[0-9]{1,14}\\.[0-9]{4}".prop_map(|n| format!("CAST('{n}' AS DECIMAL(18, 4))")).boxed(),
        8 => "-?[0-9]{1,28}\\.[0-9]{10}".prop_map(|n| format!("CAST('{n}' AS DECIMAL(38, 10))")).boxed(),
        9 => prop_oneof![text.prop_map(quoted), Just("'\\.'".to_owned()), Just("'\\N'".to_owned())].boxed(),
        10 => "([0-9a-f]{2}){0,6}".prop_map(|hex| format!("decode('{hex}', 'hex')")).boxed(),
        11 => "(000[1-9]|1[0-9]{3}|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
            .prop_map(|d| format!("DATE '{d}'"))
            .boxed(),
        12 => time.prop_map(|t| format!("TIMESTAMP '{t}'")).boxed(),
        13 => time.prop_map(|t| format!("CAST('{t}+00' AS TIMESTAMPTZ)")).boxed(),
        14 => prop::collection::vec(prop::option::of(any::<i64>()), 1..4)
            .prop_map(|items| {
                let items =
                    items.iter().map(|i| i.map_or("NULL".to_owned(), |i| format!("CAST('{i}' AS BIGINT)")));
                format!("CAST(make_array({}) AS BIGINT[])", items.collect::<Vec<_>>().join(", "))
            })
            .boxed(),
        _ => prop::collection::vec(prop::option::of(text), 1..4)
            .prop_map(move |items| {
                let items = items.into_iter().map(|i| i.map_or("NULL".to_owned(), quoted));
                format!("CAST(make_array({}) AS VARCHAR[])", items.collect::<Vec<_>>().join(", "))
            })
            .boxed(),
    }
}

fn row() -> impl Strategy<Value = String> {
    let values: Vec<_> = (0..16).map(|i| prop_oneof![1 => Just("NULL".to_owned()), 4 => value(i)]).collect();
    values.prop_map(|values| format!("({})", values.join(", ")))
}

/// Options under which nothing can be mistaken for something else.
fn options() -> impl Strategy<Value = String> {
    let text = (prop::sample::select(vec!["E'\\t'", "'|'", "';'", "' '", "'\"'"]), any::<bool>())
        .prop_map(|(delimiter, header)| format!("DELIMITER {delimiter}, HEADER {header}"));
    let csv = (
        prop::sample::select(vec!["','", "E'\\t'", "'|'", "'a'"]),
        prop::sample::select(vec!["'\"'", "''''", "'N'"]),
        prop::sample::select(vec!["", "ESCAPE '\\',", "ESCAPE '.',"]),
        prop::sample::select(vec!["''", "'nil'", "'\\N'", "'x'"]),
        any::<bool>(),
    )
        .prop_filter("a quote within NULL", |(_, quote, _, null, _)| *quote != "'N'" || *null != "'\\N'")
        .prop_map(|(delimiter, quote, escape, null, header)| {
            format!("FORMAT csv, DELIMITER {delimiter}, QUOTE {quote}, {escape} NULL {null}, HEADER {header}")
        });
    prop_oneof![text, csv, Just("FORMAT binary".to_owned())]
}

#[test]
fn what_comes_out_goes_in_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let (client, case) = (runtime.block_on(server.connect()), std::cell::Cell::new(0));
    let config =
        Config { cases: 32, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
    let strategy = (
        prop::collection::vec(row(), 1..12),
        options(),
        prop::sample::select(vec!["UTC", "Asia/Kolkata", "America/New_York"]),
        prop_oneof![1usize..9, Just(100_000)],
    );
    TestRunner::new(config)
        .run(&strategy, |(rows, options, zone, piece)| {
            let case = case.replace(case.get() + 1);
            runtime.block_on(async {
                let (from, to) = (format!("from_{case}"), format!("to_{case}"));
                let sql = format!(
                    "SET TIME ZONE '{zone}'; CREATE TABLE {from} ({COLUMNS}); CREATE TABLE {to} ({COLUMNS});
                     INSERT INTO {from} VALUES {}",
                    rows.join(", ")
                );
                client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
                let bytes = copy_out(&client, &format!("COPY {from} TO STDOUT ({options})")).await;
                let told =
                    copy_in(&client, &format!("COPY {to} FROM STDIN ({options})"), &bytes, piece).await;
                let shown = String::from_utf8_lossy(&bytes);
                let told = told.unwrap_or_else(|e| panic!("{e:?}\n{options}\n{shown}"));
                prop_assert_eq!(told, rows.len() as u64);
                let all = |table: &str| format!("SELECT * FROM {table}");
                let (before, after) =
                    (server.desk.rows(&all(&from)).await, server.desk.rows(&all(&to)).await);
                prop_assert_eq!(before, after, "{}\n{}", options, shown);
                Ok(())
            })
        })
        .unwrap();
    drop(client);
    runtime.block_on(server.stop());
}
