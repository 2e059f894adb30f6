//! psql itself.

use std::process::{Command, Output};

use super::Server;

/// Runs psql; none where there is no psql, which is a failure on the build server.
fn run(server: &Server, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("psql");
    command.args(["-X", "-h", "127.0.0.1", "-U", "tester", "-d", "toplake", "-p", &server.port.to_string()]);
    command.args(arguments).env("PGCONNECT_TIMEOUT", "10").env("LC_ALL", "C.UTF-8");
    match command.output() {
        Ok(output) => Some(output),
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "psql is needed: {e}");
            eprintln!("psql is not installed: not tested");
            None
        }
    }
}

/// What psql prints for some commands; any error is a failure.
fn shown(server: &Server, commands: &[&str]) -> Option<String> {
    let arguments: Vec<&str> = commands.iter().flat_map(|c| ["-c", c]).collect();
    let output = run(server, &[&["-v", "ON_ERROR_STOP=1"], arguments.as_slice()].concat())?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("$ {commands:?}\n{out}{err}");
    assert!(output.status.success() && !err.contains("ERROR"), "{commands:?}:\n{out}{err}");
    Some(out.into_owned())
}

async fn server() -> Server {
    let server = Server::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR,
                                 unit_price DECIMAL(18, 4), tags TEXT[]);
             INSERT INTO sales VALUES (1, '2024-01-01', 'a', 1.5, NULL), (2, '2024-01-02', NULL, 2, NULL);
             CREATE VIEW big AS SELECT * FROM sales WHERE unit_price > 1;
             CREATE TABLE hidden.secret (a INT)",
        )
        .await
        .unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lists_what_there_is() {
    let server = server().await;
    let Some(out) = shown(&server, &["\\d"]) else { return };
    for line in [
        "public | big   | view              | tester",
        "public | sales | table             | tester",
        "public | top   | materialized view | tester",
        "(3 rows)",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let commands = [
        ("\\dt", vec!["sales", "(1 row)"]),
        ("\\dv", vec!["big", "(1 row)"]),
        ("\\dm", vec!["top", "(1 row)"]),
        ("\\dt hidden.*", vec!["secret", "(1 row)"]),
        ("\\dn", vec!["public", "hidden", "(2 rows)"]),
        ("\\l", vec!["toplake", "tester", "UTF8"]),
        ("\\df approx_distinct", vec!["approx_distinct", "agg", "expression"]),
        ("\\du", vec!["tester"]),
        ("\\dT", vec![]),
        ("\\di", vec![]),
        ("\\dx", vec![]),
        ("\\dp", vec!["sales"]),
        ("\\d+", vec!["sales"]),
        ("\\dt+", vec!["sales"]),
        ("\\dn+", vec!["public"]),
        ("\\l+", vec!["toplake"]),
        ("\\conninfo", vec!["tester"]),
    ];
    for (command, words) in commands {
        let out = shown(&server, &[command]).unwrap();
        for word in words {
            assert!(out.contains(word), "{command}: {word} is missing in\n{out}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_describes_a_table() {
    let server = server().await;
    let Some(out) = shown(&server, &["\\d sales"]) else { return };
    for line in [
        "Table \"public.sales\"",
        "event_id   | bigint                      |           |          |",
        "event_time | timestamp without time zone |           | not null |",
        "product_id | text                        |",
        "unit_price | numeric(18,4)               |",
        "tags       | text[]                      |",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(shown(&server, &["\\d big"]).unwrap().contains("View \"public.big\""));
    assert!(shown(&server, &["\\d top"]).unwrap().contains("Materialized view \"public.top\""));
    let out = shown(&server, &["\\d+ top"]).unwrap();
    assert!(out.contains("View definition:\n SELECT 1 AS rank;"), "{out}");
    assert!(shown(&server, &["\\d+ sales"]).unwrap().contains("unit_price"));
    assert!(shown(&server, &["\\sv big"]).unwrap().contains("SELECT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_statements() {
    let server = server().await;
    let Some(out) = shown(&server, &["\\timing on", "SELECT product_id, unit_price FROM sales ORDER BY 2"])
    else {
        return;
    };
    assert!(out.contains(" a          |     1.5000\n            |     2.0000\n(2 rows)"), "{out}");
    assert!(out.contains("Time: "), "{out}");
    let out = shown(
        &server,
        &["SELECT 1 AS one; SELECT 2 AS two; CREATE TABLE x (a INT); INSERT INTO x VALUES (1)"],
    );
    let out = out.unwrap();
    for line in ["one", "two", "CREATE TABLE\n", "INSERT 0 1\n"] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(shown(&server, &["EXPLAIN SELECT * FROM sales"]).unwrap().contains("TableScan"));

    let output = run(&server, &["-c", "SELECT * FORM sales"]).unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("LINE 1: SELECT * FORM sales\n") && err.contains('^'), "{err}");
    let output = run(&server, &["-v", "VERBOSITY=verbose", "-c", "SELECT * FROM nowhere"]).unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("ERROR:  42P01: table"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_files() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.sql");
    let sql = "\\set day '2024-01-02'\nBEGIN;\nSELECT count(*) AS n FROM sales WHERE event_time >= :'day';\nCOMMIT;\n";
    std::fs::write(&file, sql).unwrap();
    let Some(output) = run(&server, &["-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap()]) else { return };
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("BEGIN\n n \n---\n 1\n(1 row)\n\nCOMMIT\n"), "{out}");
    // The first error ends it, and names its line.
    std::fs::write(&file, "SELEC 1;\nSELECT 2 AS two;\n").unwrap();
    let output = run(&server, &["-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap()]).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("job.sql:1: ERROR:"));
}
