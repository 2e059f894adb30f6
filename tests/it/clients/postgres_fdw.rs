//! A PostgreSQL server that has our tables as foreign tables: postgres_fdw.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Matrix, run};

/// A PostgreSQL server in a folder of its own, which listens in that folder only.
struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Postgres {
    /// None where PostgreSQL is not installed, which is a failure where CI runs the tests.
    fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "the server of PostgreSQL is needed");
            eprintln!("the server of PostgreSQL is not installed: postgres_fdw is not tested");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // It refuses to be run by root.
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let owner = is_root.then(|| account("postgres"));
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let postgres = Postgres { folder, programs, owner };
        let data = postgres.data();
        postgres.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8"]);
        let path = postgres.folder.path().display();
        let options = format!("-c listen_addresses='' -c unix_socket_directories={path} -c fsync=off");
        postgres.run("pg_ctl", &["-D", &data, "-w", "-l", &format!("{path}/log"), "-o", &options, "start"]);
        Some(postgres)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(program));
        // libpq looks for certificates in the home folder, and fails where it may not read.
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        run(&mut command).unwrap_or_else(|output| panic!("{program}:\n{output}"));
    }

    /// What psql prints of these statements, or the errors.
    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]);
        run(psql.arg("-h").arg(self.folder.path()).arg("-c").arg(sql))
    }

    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|output| panic!("{sql}:\n{output}")).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

/// Where the programs of the server are: Debian does not put them where commands are looked for.
fn programs() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    places.extend(versions.into_iter().rev());
    places.into_iter().find(|folder| ["postgres", "initdb", "pg_ctl"].iter().all(|p| folder.join(p).exists()))
}

/// The numbers of a user and its group.
fn account(name: &str) -> (u32, u32) {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts.lines().find(|line| line.starts_with(&format!("{name}:")));
    let fields: Vec<&str> = line.expect("PostgreSQL has a user of its own").split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// Makes our tables foreign tables.
fn import(postgres: &Postgres, matrix: &Matrix) {
    let authority = postgres.folder.path().join("authority.pem");
    fs::copy(&matrix.paper.authority, &authority).unwrap();
    readable(&authority);
    postgres.sql("CREATE EXTENSION postgres_fdw");
    postgres.sql(&format!(
        "CREATE SERVER lake FOREIGN DATA WRAPPER postgres_fdw
           OPTIONS (host 'localhost', port '{}', dbname 'toplake', sslmode 'verify-full', sslrootcert '{}')",
        matrix.server.port,
        authority.display()
    ));
    postgres.sql("CREATE USER MAPPING FOR postgres SERVER lake OPTIONS (user 'ann', password 'ann!')");
    postgres.sql("IMPORT FOREIGN SCHEMA public FROM SERVER lake INTO public");
}

fn readable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_fdw() {
    let Some(postgres) = Postgres::start() else { return };
    let matrix = Matrix::start().await;
    import(&postgres, &matrix);

    // What the foreign tables are made of.
    let columns = |table: &str| {
        postgres.sql(&format!(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
        ))
    };
    let notes = "id|bigint|t\nnote|text|f\nprice|numeric(10,2)|f\nat|timestamp with time zone|f";
    assert_eq!(columns("notes"), notes);
    let types = columns("types");
    assert!(
        types.contains("\ni2|smallint|f\n") && types.ends_with("i4s|integer[]|f\nts_list|text[]|f"),
        "{types}"
    );
    for view in ["french_sales", "sales_hourly", "top_products"] {
        assert_eq!(postgres.sql(&format!("SELECT relkind FROM pg_class WHERE relname = '{view}'")), "f");
    }

    // Rows of every type, more of them than one FETCH brings, and less work for us than all of it.
    assert_eq!(
        postgres.sql("SET timezone = 'UTC'; SELECT * FROM types ORDER BY id"),
        "1|t|32767|2147483647|9223372036854775807|1.5|0.1|12345678901234.5678|Zoë's \"tea\"|\\x00ff10|\
         2026-01-31|2026-01-31 23:59:59.123456|2026-01-31 23:59:59.123456+00|{1,2,3}|{a,\"b c\"}\n\
         2|f|-32768|-2147483648|-9223372036854775808|-1.5|-0.1|-0.0001||\\x|1969-07-20|1969-07-20 20:17:40|\
         1969-07-20 20:17:40+00|{-1}|{\"\"}\n3||||||||||||||"
    );
    assert_eq!(
        postgres.sql("SELECT count(*), sum(n) FROM (SELECT event_id AS n FROM sales OFFSET 0) AS s"),
        "2880|4148640"
    );
    let query = "SELECT event_id FROM sales WHERE country = 'France' AND event_time >= '2026-01-30'
                 ORDER BY 1 LIMIT 3";
    assert_eq!(postgres.sql(query), "3\n6\n9");
    let remote = postgres.sql(&format!("EXPLAIN (VERBOSE) {query}"));
    assert!(
        remote.contains("(country = 'France')") && remote.contains("event_time >= '2026-01-30 00:00:00'"),
        "{remote}"
    );
    let totals = "SELECT country, sum(quantity), count(*) FROM sales GROUP BY 1 ORDER BY 1";
    assert_eq!(postgres.sql(totals), "France|960|960\nKenya|1920|1920");
    let remote = postgres.sql(&format!("EXPLAIN (VERBOSE) {totals}"));
    assert!(
        remote.contains("SELECT country, sum(quantity), count(*) FROM public.sales GROUP BY 1"),
        "{remote}"
    );

    // Joins, with what PostgreSQL has itself and among ours.
    postgres.sql(
        "CREATE TABLE names (product_id text, name text); INSERT INTO names VALUES ('product-1', 'one')",
    );
    let joined = "SELECT name, sum(quantity) FROM names JOIN sales_hourly USING (product_id) GROUP BY 1";
    assert_eq!(postgres.sql(joined), "one|412");
    assert_eq!(postgres.sql("SELECT count(*) FROM sales AS a JOIN sales AS b USING (event_id)"), "2880");
    assert_eq!(
        postgres.sql("PREPARE p (bigint) AS SELECT t FROM types WHERE id = $1; EXECUTE p (1)"),
        "Zoë's \"tea\""
    );

    // Writing, one row a statement or many, each transaction of PostgreSQL being one here.
    postgres.sql(
        "INSERT INTO notes VALUES (1, 'from afar', 1.5, '2026-01-31 12:00:00+00'), (2, NULL, NULL, NULL)",
    );
    let kept = postgres.sql("BEGIN; INSERT INTO notes (id) VALUES (3); SELECT count(*) FROM notes; ROLLBACK");
    assert_eq!(kept, "3");
    postgres.sql(
        "BEGIN; SAVEPOINT a; INSERT INTO notes (id) VALUES (4); ROLLBACK TO a;
         INSERT INTO notes (id) VALUES (5); COMMIT",
    );
    postgres.sql("ALTER SERVER lake OPTIONS (ADD batch_size '100')");
    postgres
        .sql("INSERT INTO notes (id, note) SELECT n, 'note ' || n FROM generate_series(100, 349) AS g(n)");
    assert_eq!(matrix.server.desk.rows("SELECT id FROM notes WHERE id < 100").await, ["1", "2", "5"]);
    assert_eq!(postgres.sql("SELECT count(*), count(DISTINCT note) FROM notes WHERE id >= 100"), "250|250");

    // What cannot be done says so, and the connection goes on.
    let refused = postgres.try_sql("DELETE FROM notes WHERE id = 1").unwrap_err();
    assert!(refused.contains("DELETE cannot run in a transaction"), "{refused}");
    let failed =
        postgres.try_sql("SELECT 1 / (quantity - quantity) FROM sales WHERE 1 / (quantity - quantity) > 0");
    assert!(failed.unwrap_err().contains("divi"), "a division by zero");
    postgres.sql("ANALYZE sales; ANALYZE types");
    assert_eq!(postgres.sql("SELECT count(*) FROM top_products"), "5");
}
