//! What people write in the editors of such tools, as PostgreSQL's documentation has it.

use super::{Server, check};

#[tokio::test(flavor = "multi_thread")]
async fn functions_give_what_postgres_gives() {
    let server = Server::start().await;
    let client = server.connect().await;
    check(
        &client,
        &[
            (
                "SELECT mod(7, 3), mod(-7, 3), div(9, 4), width_bucket(5.35, 0.024, 10.06, 5), sign(-3),
                ceiling(1.2)",
                &["1|-1|2|3|-1|2"],
            ),
            ("SELECT age(TIMESTAMP '2001-04-10', TIMESTAMP '1957-06-13')", &["43 years 9 mons 27 days"]),
            ("SELECT age(TIMESTAMP '2026-01-31', TIMESTAMP '2025-11-15')", &["2 mons 16 days"]),
            (
                "SELECT justify_hours(INTERVAL '27 hours'), justify_days(INTERVAL '35 days')",
                &["1 day
                03:00:00|1 mon 5 days"],
            ),
            ("SELECT justify_interval(INTERVAL '1 month -1 hour')", &["29 days 23:00:00"]),
            (
                "SELECT INTERVAL '1 day' * 3, 2 * INTERVAL '90 minutes', INTERVAL '1 day' * 1.5, INTERVAL
                '1 hour' / 4",
                &["3 days|03:00:00|1 day 12:00:00|00:15:00"],
            ),
            (
                "SELECT make_interval(0, 0, 0, 10), make_timestamp(2026, 1, 31, 8, 15, 23.5)",
                &["10
                days|2026-01-31 08:15:23.5"],
            ),
            (
                "SELECT TIMESTAMP '2001-02-16 20:38:40' AT TIME ZONE 'America/Denver'",
                &["2001-02-17
                03:38:40+00"],
            ),
            (
                "SELECT TIMESTAMP WITH TIME ZONE '2001-02-16 20:38:40-05' AT TIME ZONE
                'America/Denver'",
                &["2001-02-16 18:38:40"],
            ),
            (
                "SELECT date_trunc('day', TIMESTAMPTZ '2001-02-16 20:38:40+00',
                'Australia/Sydney')",
                &["2001-02-16 13:00:00+00"],
            ),
            (
                "SELECT extract(second from TIMESTAMP '2026-01-31 23:59:59.5'), extract(milliseconds from
                TIME '17:12:28.5')",
                &["59.5|28500"],
            ),
            (
                "SELECT extract(century from DATE '2000-12-16'), extract(decade from DATE '2001-02-16'),
                extract(millennium from DATE '2001-02-16'), extract(julian from DATE '2006-01-01')",
                &["20|200|3|2453737"],
            ),
            (
                "SELECT format('Hello %s, %1$s', 'World'), format('%I = %L', 'Total', 'it''s'),
                format('%%|%5s|%-5s|', 'a', 'b')",
                &["Hello World, World|\"Total\" = 'it''s'|%|    a|b    |"],
            ),
            (
                "SELECT quote_literal('O''Reilly'), quote_nullable(NULL), convert_from(X'61',
                'UTF8')",
                &["'O''Reilly'|NULL|a"],
            ),
            (
                "SELECT substring('Thomas' FROM '...$'), substring('foobar' FROM 'o(.)b'),
                substring('Thomas' FROM 2 FOR 3)",
                &["mas|o|hom"],
            ),
            ("SELECT every(quantity < 9), variance(quantity)::numeric(8, 4) FROM sales", &["t|2.0007"]),
            ("SELECT clock_timestamp() > '2020-01-01', isfinite(DATE '2026-01-31')", &["t|t"]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_char_knows_patterns_of_times() {
    let server = Server::start().await;
    let client = server.connect().await;
    let at = "TIMESTAMP '2026-01-05 09:07:04.012345'";
    let patterns = [
        ("YYYY-MM-DD HH24:MI:SS.US", "2026-01-05 09:07:04.012345"),
        ("YY Y,YYY IYYY-IW", "26 2,026 2026-02"),
        ("FMMonth FMDDth, YYYY", "January 5th, 2026"),
        ("MONTH|Mon|mon|DY|day", "JANUARY  |Jan|jan|MON|monday   "),
        ("HH:MI am HH12 P.M.", "09:07 am 09 A.M."),
        ("Q DDD D ID W WW J", "1 005 2 1 1 01 2461046"),
        ("MS FF2 SSSS RM CC BC", "012 01 32824 I    21 AD"),
        ("FMHH24:FMMI \"of\" \"Q\"Q", "9:7 of Q1"),
        ("%Y/%m/%d", "2026/01/05"),
    ];
    for (pattern, expected) in patterns {
        check(&client, &[(&format!("SELECT to_char({at}, '{pattern}')"), &[expected])]).await;
    }
    check(
        &client,
        &[
            (
                "SELECT to_char(INTERVAL '15h 2m 12s', 'HH24:MI:SS'), to_char(DATE '2026-01-31', 'Dy DD')",
                &["15:02:12|Sat 31"],
            ),
            (
                "SELECT to_timestamp('05 Dec 2000', 'DD Mon YYYY'), to_date('20260131', 'YYYYMMDD')",
                &["2000-12-05 00:00:00+00|2026-01-31"],
            ),
            (
                "SELECT to_timestamp('2026-01-31 05:30 PM', 'YYYY-MM-DD HH12:MI AM')",
                &["2026-01-31 17:30:00+00"],
            ),
            ("SELECT to_timestamp('31/01/2026', '%d/%m/%Y')::date", &["2026-01-31"]),
        ],
    )
    .await;
    let wrong = client.simple_query("SELECT to_date('2026-13-01', 'YYYY-MM-DD')").await.unwrap_err();
    assert!(wrong.as_db_error().unwrap().message().contains("there is no such date"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_char_knows_patterns_of_numbers() {
    let server = Server::start().await;
    let client = server.connect().await;
    let patterns = [
        ("485", "999", " 485"),
        ("-485", "999", "-485"),
        ("485", "09999", " 00485"),
        ("1485", "9,999", " 1,485"),
        ("148.5", "999.999", " 148.500"),
        ("148.5", "FM999.999", "148.5"),
        ("148.5", "FM999.990", "148.500"),
        ("-12.34", "FM999.00", "-12.34"),
        ("1234567.891", "FM999,999,990.00", "1,234,567.89"),
        ("0.1", "0.9", " 0.1"),
        ("0.1", "FM990.00", "0.10"),
        ("12", "S99", "+12"),
        ("485", "999MI", "485 "),
        ("-485", "999MI", "485-"),
        ("482", "999th", " 482nd"),
        ("1234", "999", " ###"),
        ("7", "\"No \"9", "No  7"),
    ];
    for (number, pattern, expected) in patterns {
        check(&client, &[(&format!("SELECT to_char({number}, '{pattern}')"), &[expected])]).await;
    }
    check(
        &client,
        &[
            (
                "SELECT to_char(unit_price, 'FM9990.00'), to_char(quantity, '9') FROM sales WHERE event_id
                = 3",
                &["9.99| 2"],
            ),
            ("SELECT to_number('12,454.8-', '99G999D9S')", &["-12454.8000000000"]),
        ],
    )
    .await;
}
