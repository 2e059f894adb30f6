//! A reader tries to get out: what is forbidden, by every way that anybody could think of.

use std::collections::BTreeMap;
use std::path::Path;

use toplake::app::Bounds;
use toplake::catalog::locations::Locations;
use toplake::catalog::privileges::Role;
use toplake::pg::Options;

use super::{Files, Server, Setup, told, users};

/// What nobody but an admin may see.
const TREASURE: &str = "4711";

/// A server whose table `secret`, and what hangs on it, is the admins' own, and a folder beside it.
struct Vault {
    server: Server,
    outside: Files,
}

impl Vault {
    async fn new() -> Self {
        let outside = Files::new();
        outside.write("treasure.csv", &format!("v\n{TREASURE}\n"));
        std::fs::create_dir(outside.0.path().join("inbox")).unwrap();
        outside.write("inbox/new.csv", "v\n1\n");
        let inbox = outside.0.path().join("inbox");
        let locations = Locations::only([inbox.to_str().unwrap()]).unwrap();
        let users = users(&[("ann", Role::Admin), ("will", Role::Writer), ("rita", Role::Reader)]);
        let server = Server::start_with(Setup {
            options: Options { users, ..Default::default() },
            bounds: Bounds { locations, ..Bounds::default() },
            ..Setup::default()
        })
        .await;
        server
            .desk
            .run(&format!(
                "CREATE TABLE commons (v BIGINT, name VARCHAR);
                 INSERT INTO commons VALUES (1, 'secret');
                 CREATE VIEW shown AS SELECT v FROM commons;
                 CREATE TABLE secret (event_time TIMESTAMP NOT NULL, v BIGINT)
                   WITH (time_column = 'event_time', late = 'divert');
                 INSERT INTO secret VALUES ('2026-07-05 10:00:00', {TREASURE});
                 CREATE MATERIALIZED VIEW secret_hourly AS
                   SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(v) AS v FROM secret GROUP BY 1;
                 CREATE MATERIALIZED VIEW secret_top AS SELECT v FROM secret ORDER BY v LIMIT 1;
                 REVOKE ALL ON secret, secret_hourly, secret_top FROM reader, writer"
            ))
            .await;
        Vault { server, outside }
    }

    /// All that an attempt could have changed.
    async fn state(&self) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
        let mut rows = vec![];
        for table in ["commons", "shown", "secret", "secret_late", "secret_hourly", "secret_top"] {
            rows.extend(self.server.desk.rows(&format!("SELECT '{table}', * FROM {table}")).await);
            let table = self.server.desk.table(table).await;
            rows.push(format!("{} {:?}", table.name(), table.snapshot().metadata));
        }
        rows.extend(self.server.desk.engine.warehouse().list().await.unwrap());
        let mut files = BTreeMap::new();
        collect(self.outside.0.path(), &mut files);
        (rows, files)
    }

    /// Runs attempts, each in a session of its own; gives those that did not end as they should.
    async fn attempts(&self, user: &str, attempts: &[(&str, &[&str])]) -> Vec<String> {
        let mut wrong = vec![];
        for (states, sqls) in attempts {
            for sql in *sqls {
                let sql = sql.replace("$OUT", self.outside.0.path().to_str().unwrap());
                let client = self.server.try_connect(user, &format!("{user}!")).await.unwrap();
                match client.simple_query(&sql).await {
                    Ok(messages) => wrong.push(format!("{sql}: it was let through: {messages:?}")),
                    Err(e) => {
                        let (state, message) = told(&e);
                        if !states.split(' ').any(|s| s == state) || message.contains(TREASURE) {
                            wrong.push(format!("{sql}: {state} {message}"));
                        }
                    }
                }
                // To be told what it would give is refused as well, but where it is known by values only.
                let by_value = ["CALL", "watermark(", "last_event_time(", "complete_through(", "audit("];
                let planned =
                    *states == "42501" && !sql.contains(';') && !by_value.iter().any(|v| sql.contains(v));
                if planned && client.prepare(&sql).await.is_ok() {
                    wrong.push(format!("{sql}: it was planned"));
                }
            }
        }
        wrong
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false => drop(files.insert(path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
}

/// By SQLSTATE.
const OF_A_READER: &[(&str, &[&str])] = &[
    (
        "42501",
        &[
            "SELECT watermark(name) FROM commons",
            // Reading, in all the places where a table may stand.
            "SELECT * FROM secret",
            "SELECT v FROM public.secret",
            "SELECT v FROM toplake.public.secret",
            "SELECT v FROM \"secret\"",
            "SELECT v FROM SECRET",
            "select/**/v/**/from/**/secret -- nothing",
            "SELECT s.v FROM secret AS s",
            "SELECT count(*) FROM secret",
            "SELECT 1 FROM secret LIMIT 0",
            "SELECT * FROM (SELECT * FROM (SELECT v FROM secret) a) b",
            "WITH s AS (SELECT v FROM secret) SELECT * FROM s",
            "WITH secret AS (SELECT v FROM secret) SELECT v FROM secret",
            "WITH a AS (SELECT 1), b AS (SELECT v FROM secret) SELECT * FROM a",
            "WITH RECURSIVE r AS (SELECT v FROM secret UNION ALL SELECT v + 1 FROM r WHERE v < 0) SELECT * FROM r",
            "SELECT * FROM (WITH secret AS (SELECT 1 AS v) SELECT v FROM secret) a, secret b",
            "SELECT (SELECT max(v) FROM secret)",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM secret)",
            "SELECT 1 WHERE 4711 IN (SELECT v FROM secret)",
            "SELECT v FROM commons ORDER BY (SELECT max(v) FROM secret)",
            "SELECT v FROM commons GROUP BY v HAVING v < (SELECT max(v) FROM secret)",
            "SELECT c.v FROM commons c JOIN secret s ON c.v < s.v",
            "SELECT c.v FROM commons c LEFT JOIN LATERAL (SELECT v FROM secret) s ON true",
            "SELECT v FROM commons UNION ALL SELECT v FROM secret",
            "SELECT v FROM commons EXCEPT SELECT v FROM secret",
            "VALUES ((SELECT max(v) FROM secret))",
            "SELECT CASE WHEN (SELECT max(v) FROM secret) > 0 THEN 1 ELSE 0 END",
            "SELECT sum(v) FILTER (WHERE v < (SELECT max(v) FROM secret)) FROM commons",
            "SELECT v FROM secret_late",
            "SELECT v FROM secret_hourly",
            "SELECT v FROM secret_top",
            "SELECT * FROM toplake.dead_letters",
            "SELECT * FROM toplake.toplake.dead_letters",
            "SET search_path = toplake; SELECT * FROM toplake.dead_letters",
            "SET search_path = secret; SELECT * FROM secret",
            "SET toplake.rewrite = on; SELECT sum(v) FROM secret",
            "BEGIN; SELECT v FROM secret",
            "SELECT 1; SELECT v FROM secret",
            "EXPLAIN SELECT v FROM secret",
            "EXPLAIN ANALYZE SELECT v FROM secret",
            "EXPLAIN VERBOSE SELECT (SELECT max(v) FROM secret)",
            "DESCRIBE secret",
            // Functions and procedures that take a name.
            "SELECT watermark('secret')",
            "SELECT watermark('sec' || 'ret')",
            "SELECT last_event_time('secret')",
            "SELECT complete_through('secret_hourly')",
            "SELECT v FROM commons WHERE watermark('secret') > '2000-01-01'",
            "SELECT * FROM audit('secret_hourly', '-infinity', 'infinity')",
            "SELECT * FROM audit('secret' || '_hourly', '-infinity', 'infinity')",
            "CALL require_complete('secret_hourly', '2026-07-05')",
            "CALL compact('commons')",
            "CALL compact('public.commons')",
            "CALL compact('toplake.dead_letters')",
            "CALL compact((SELECT name FROM commons))",
            "CALL require_complete((SELECT max(v)::text FROM secret), '2026-07-05')",
            "CALL expire('secret', '1 second')",
            "CALL expire(\"table\" => 'commons', retention => '1 second')",
            "CALL recompute('secret_hourly', '-infinity', 'infinity')",
            "CALL repair('secret_hourly', '-infinity', 'infinity')",
            "CALL accept_late('secret')",
            "CALL replay_dead_letters('commons', transform => 'SELECT (SELECT max(v) FROM secret) AS v FROM input')",
            "CALL resume('secret')",
            // Writing.
            "INSERT INTO commons VALUES (2, 'x')",
            "INSERT INTO secret VALUES ('2026-07-05 10:00:00', 1)",
            "INSERT INTO commons SELECT v, 'x' FROM secret",
            "WITH s AS (SELECT v FROM secret) INSERT INTO commons SELECT v, 'x' FROM s",
            "WITH s AS (SELECT 2 AS v, 'x' AS name) INSERT INTO commons SELECT * FROM s",
            "DELETE FROM commons",
            "DELETE FROM secret WHERE v = 4711",
            "DELETE FROM toplake.dead_letters",
            "DELETE FROM commons WHERE v = (SELECT max(v) FROM secret)",
            "UPDATE commons SET v = 2",
            "EXPLAIN ANALYZE INSERT INTO commons VALUES (2, 'x')",
            "EXPLAIN ANALYZE DELETE FROM commons",
            "REFRESH MATERIALIZED VIEW secret_top",
            "TRUNCATE commons",
            // What is there, and whose it is.
            "CREATE TABLE mine (a BIGINT)",
            "CREATE TABLE mine AS SELECT v FROM secret",
            "CREATE TEMPORARY TABLE mine AS SELECT v FROM secret",
            "CREATE VIEW mine AS SELECT v FROM secret",
            "CREATE OR REPLACE VIEW shown AS SELECT v FROM secret",
            "CREATE MATERIALIZED VIEW mine AS SELECT v FROM secret",
            "CREATE SCHEMA mine",
            "CREATE DATABASE mine",
            "CREATE INDEX i ON commons (v)",
            "CREATE ROLE rita2",
            "ALTER ROLE rita WITH SUPERUSER",
            "DROP TABLE commons",
            "DROP TABLE IF EXISTS secret CASCADE",
            "DROP VIEW shown",
            "ALTER TABLE secret SET (retention = '1 day')",
            "ALTER TABLE commons SET (archive = '$OUT/archive')",
            "VACUUM",
            "VACUUM FULL secret",
            "GRANT SELECT ON secret TO rita",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC",
            "REVOKE ALL ON commons FROM writer",
            // Files and addresses.
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '$OUT/treasure.csv'",
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION 'file://$OUT/inbox/../treasure.csv'",
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION 's3://elsewhere/x.csv'",
            "CREATE UNBOUNDED EXTERNAL TABLE mine STORED AS CSV LOCATION '/dev/stdin'",
            "COPY commons TO '$OUT/mine.csv'",
            "COPY (SELECT v FROM commons) TO '$OUT/inbox/mine.csv'",
            "COPY (SELECT v FROM secret) TO 's3://elsewhere/mine.parquet' STORED AS PARQUET",
            "EXPLAIN ANALYZE COPY commons TO '$OUT/mine.csv'",
            // Settings that raise limits, or say where files go.
            "SET datafusion.runtime.memory_limit = '100G'",
            "SET \"datafusion.runtime.temp_directory\" = '$OUT'",
            "SET datafusion.runtime.max_temp_directory_size = '100G'",
            "SET datafusion.execution.target_partitions = 100000",
            "SET datafusion.sql_parser.recursion_limit = 1000000",
            "SET datafusion.catalog.default_schema = 'toplake'",
            "RESET datafusion.runtime.memory_limit",
        ],
    ),
    (
        // There is nothing of that name: a file is no table, and there are no functions that read one.
        "42P01 42883 42601 22023 0A000",
        &[
            "SELECT * FROM '$OUT/treasure.csv'",
            "SELECT * FROM \"$OUT/treasure.csv\"",
            "SELECT * FROM \"file://$OUT/treasure.csv\"",
            "SELECT * FROM \"../secret\"",
            "SELECT * FROM \"secret/_delta_log/00000000000000000000.json\"",
            "SELECT * FROM \"public.secret\"",
            "SELECT * FROM \"secret=\"",
            "SET search_path = toplake; SELECT * FROM dead_letters",
            "SELECT * FROM elsewhere.public.secret",
            "SELECT * FROM read_csv('$OUT/treasure.csv')",
            "SELECT * FROM read_parquet('$OUT/treasure.csv')",
            "SELECT * FROM parquet_metadata('$OUT/treasure.csv')",
            "SELECT * FROM pg_ls_dir('$OUT')",
            "SELECT pg_read_file('$OUT/treasure.csv')",
            "SELECT lo_import('$OUT/treasure.csv')",
            "SELECT dblink('host=127.0.0.1', 'SELECT v FROM secret')",
            "SELECT query_to_xml('SELECT v FROM secret', true, true, '')",
            "DO $$ BEGIN PERFORM v FROM secret; END $$",
            "CALL read_file('$OUT/treasure.csv')",
            "CALL compact('nothing')",
        ],
    ),
    (
        // Nobody becomes somebody else.
        "22023 42704 55P02 42601",
        &[
            "SET ROLE admin",
            "SET ROLE ann",
            "SET SESSION AUTHORIZATION ann",
            "SET SESSION AUTHORIZATION 'ann'",
            "SET session_authorization = ann",
            "SET is_superuser = on",
            "SET LOCAL role = 'admin'",
        ],
    ),
    (
        // What may or may not be possible at all is not for what a reader may not read.
        "42501 0A000 42601 25P01 26000",
        &[
            "TABLE secret",
            "PREPARE p AS SELECT v FROM secret",
            "PREPARE p AS SELECT v FROM commons; EXECUTE p; PREPARE q AS SELECT v FROM secret",
            "GRANT admin TO rita",
            "WITH gone AS (DELETE FROM commons RETURNING v) SELECT * FROM gone",
            "DECLARE c CURSOR FOR SELECT v FROM secret",
            "BEGIN; DECLARE c CURSOR FOR SELECT v FROM secret; FETCH ALL FROM c",
            "COPY secret TO STDOUT",
            "COPY (SELECT v FROM secret) TO STDOUT",
            "COPY (WITH s AS (SELECT v FROM secret) SELECT * FROM s) TO STDOUT WITH (FORMAT csv)",
            "COPY commons FROM STDIN",
            "COPY commons FROM '$OUT/treasure.csv'",
            "COPY commons FROM PROGRAM 'cat $OUT/treasure.csv'",
            "COPY commons TO PROGRAM 'touch $OUT/mine'",
            "CREATE FUNCTION f() RETURNS BIGINT RETURN (SELECT max(v) FROM secret)",
            "CREATE FUNCTION f() RETURNS BIGINT LANGUAGE c AS '$OUT/f.so'",
            "LOAD '$OUT/f.so'",
            "MERGE INTO commons USING secret ON false WHEN NOT MATCHED THEN INSERT VALUES (secret.v, 'x')",
            "SELECT v INTO mine FROM secret",
            "LOCK TABLE secret",
            "ANALYZE secret",
            "COMMENT ON TABLE secret IS 'mine'",
        ],
    ),
];

/// What is beyond an admin, too.
const OF_AN_ADMIN: &[(&str, &[&str])] = &[
    (
        "42501",
        &[
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '$OUT/treasure.csv'",
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '$OUT/inbox/../treasure.csv'",
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '$OUT/inbox/%2e%2e/treasure.csv'",
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '$OUT/inbox2'",
            "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION 'file:$OUT/treasure.csv'",
            "CREATE EXTERNAL TABLE mine STORED AS DELTA LOCATION 's3://elsewhere/x'",
            "COPY secret TO '$OUT/mine.csv'",
            "COPY (SELECT 1) TO 'mine.csv'",
            "EXPLAIN ANALYZE COPY (SELECT 1) TO '$OUT/mine.csv'",
            "CREATE TABLE mine (t TIMESTAMP) WITH (time_column = 't', archive = '$OUT/archive')",
            "ALTER TABLE secret SET (archive = '$OUT/archive')",
        ],
    ),
    ("42601", &["GRANT admin TO rita"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_get_out() {
    let vault = Vault::new().await;
    let before = vault.state().await;
    let wrong = vault.attempts("rita", OF_A_READER).await;
    assert!(wrong.is_empty(), "{} attempts:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(vault.state().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_stays_where_it_is_allowed() {
    let vault = Vault::new().await;
    let before = vault.state().await;
    let wrong = vault.attempts("ann", OF_AN_ADMIN).await;
    assert!(wrong.is_empty(), "{} attempts:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(vault.state().await, before);
    let ann = vault.server.try_connect("ann", "ann!").await.unwrap();
    let inbox = format!("{}/inbox", vault.outside.0.path().display());
    for sql in [
        format!(
            "CREATE EXTERNAL TABLE incoming STORED AS CSV LOCATION '{inbox}/' OPTIONS ('has_header' 'true')"
        ),
        format!("COPY (SELECT v FROM incoming) TO '{inbox}/out.parquet' STORED AS PARQUET"),
    ] {
        ann.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    assert!(Path::new(&inbox).join("out.parquet").exists());
    // What an admin has made out of it is there for readers.
    let rita = vault.server.try_connect("rita", "rita!").await.unwrap();
    assert_eq!(rita.query_one("SELECT count(*) FROM shown", &[]).await.unwrap().get::<_, i64>(0), 1);
}
