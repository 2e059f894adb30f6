//! The page in a browser: it shows what SQL shows, changes live, filters, and survives the server's restart.
//!
//! `tests/browser/dashboard.mjs` is a person at the page, who is told what to do by lines.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{Process, need};
use crate::harness::{Home, soon};

/// Where screenshots are kept: with the build, so that a build server may pick them up.
fn screenshots() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_toplake")).parent().unwrap().parent().unwrap();
    let folder = target.join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A person at the page.
struct Person {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Person {
    fn at(url: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        let packages = screenshots().parent().unwrap().join("browser");
        std::fs::create_dir_all(&packages).unwrap();
        for file in ["package.json", "package-lock.json", "dashboard.mjs"] {
            std::fs::copy(folder.join(file), packages.join(file)).unwrap();
        }
        if !packages.join("node_modules/playwright-core").is_dir() {
            let installed =
                Command::new("npm").args(["ci", "--silent"]).current_dir(&packages).status().unwrap();
            assert!(installed.success(), "npm ci fails");
        }
        let mut child = Command::new("node")
            .arg("dashboard.mjs")
            .args([url, screenshots().to_str().unwrap()])
            .current_dir(&packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, hear) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut person = Person { child, tell, hear };
        assert_eq!(person.hear(), "ready");
        person
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Does something, which has to work.
    fn does(&mut self, what: &str) {
        writeln!(self.tell, "{what}").unwrap();
        let answer = self.hear();
        assert_eq!(answer, "ok", "{what}");
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, country VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '10 minutes');
    CREATE MATERIALIZED VIEW sales_hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity, count(*) AS events
      FROM sales GROUP BY 1, 2, 3;
    CREATE MATERIALIZED VIEW sales_daily AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, country, sum(quantity) AS quantity, sum(events) AS events
      FROM sales_hourly GROUP BY 1, 2, 3;
    CREATE MATERIALIZED VIEW leaders AS
      SELECT product_id, sum(quantity) AS quantity FROM sales_daily GROUP BY 1 ORDER BY 2 DESC LIMIT 100";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_what_sql_says() {
    if !need("node", "install Node.js")
        || !need("npm", "install npm")
        || !need("chromium", "install chromium")
    {
        return;
    }
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    // Ten thousand products, so that it is not only quick with ten.
    desk.run(
        "INSERT INTO sales SELECT TIMESTAMP '2026-03-01 10:00:00' + INTERVAL '1 second' * (n % 3000), 'P' || n, 'DE', 1
         FROM generate_series(1, 10000) AS g(n);
         INSERT INTO sales VALUES ('2026-03-01 09:10:00', 'alpha', 'DE', 70), ('2026-03-01 10:20:00', 'alpha', 'FR', 50),
           ('2026-03-01 10:30:00', 'beta', 'DE', 90), ('2026-03-01 10:40:00', '<b>gamma</b>', 'FR', 40),
           ('2026-02-28 10:40:00', 'beta', 'FR', 5)",
    )
    .await;
    let location = home.location();
    let arguments = ["serve", "--warehouse", &location, "--refresh-every", "0.2"];
    let mut server = Process::start(&arguments).await;
    let (pg, http) = (server.pg.to_string(), server.http.to_string());
    let url = format!("http://{http}/");
    let mut person = soon(tokio::task::spawn_blocking(move || Person::at(&url))).await.unwrap();
    let rows = async |sql: &str| {
        let rows = desk.try_run(sql).await.unwrap();
        let mut json = vec![];
        let mut writer = datafusion::arrow::json::ArrayWriter::new(&mut json);
        rows.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        serde_json::from_slice::<Value>(&json).unwrap()
    };
    let day = "SELECT product_id AS key, sum(quantity) AS value FROM sales WHERE event_time >= '2026-03-01'";
    let order = "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10";
    tokio::task::block_in_place(|| {
        person.does("key product_id");
        person.does("period day");
    });
    let leaders = rows(&format!("{day} {order}")).await;
    assert_eq!(leaders[0], json!({ "key": "alpha", "value": 120 }));
    tokio::task::block_in_place(|| {
        person.does(&format!("check {leaders}"));
        person.does("trust exact");
        person.does("screenshot day");
        // It changes without a reload.
    });
    desk.run("INSERT INTO sales VALUES ('2026-03-01 10:50:00', 'delta', 'FR', 500), ('2026-03-01 10:51:00', 'alpha', 'FR', -20)").await;
    let changed = rows(&format!("{day} {order}")).await;
    assert_eq!(changed[0], json!({ "key": "delta", "value": 500 }));
    let french = rows(&format!("{day} AND country = 'FR' {order}")).await;
    let hour = rows(&format!("{} {order}", day.replace("'2026-03-01'", "'2026-03-01 10:00:00'"))).await;
    let countries = rows(&format!("{} {order}", day.replace("product_id", "country"))).await;
    tokio::task::block_in_place(|| {
        person.does(&format!("check {changed}"));
        person.does("filter country=FR");
        person.does(&format!("check {french}"));
        person.does("filter country=");
        person.does("period hour");
        person.does(&format!("check {hour}"));
        person.does("period day");
        person.does("select alpha");
        person.does("history 100");
        for look in ["dark", "phone", "light", "desktop"] {
            person.does(look);
            person.does(&format!("screenshot {look}"));
        }
        person.does("key country");
        person.does(&format!("check {countries}"));
        person.does("key product_id");
    });
    // The server goes away, and comes back where it was.
    server.signal("KILL");
    server.wait();
    tokio::task::block_in_place(|| {
        person.does("away");
        person.does("screenshot away");
    });
    desk.run("INSERT INTO sales VALUES ('2026-03-01 10:55:00', 'epsilon', 'FR', 700)").await;
    let after = rows(&format!("{day} {order}")).await;
    let _server = Process::at(&arguments, &pg, &http).await;
    tokio::task::block_in_place(|| {
        person.does("live");
        person.does(&format!("check {after}"));
        person.does("end");
    });
}
