//! Drivers for Go: pgx and lib/pq, both in one program.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{CHECKS, Matrix, installed, run, source};

const FILES: [&str; 8] =
    ["go.mod", "go.sum", "catalog.go", "main.go", "pgx.go", "pgx_pool.go", "pgx_types.go", "pq.go"];

/// The program.
fn program() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let files = FILES.map(|name| source("go").join(name));
    let folder = FOLDER.get_or_init(|| {
        installed("clients-go", &files, |folder| {
            let mut go = Command::new("go");
            run(go.args(["build", "-o"]).arg(folder.join("client")).arg(".").current_dir(source("go")))
                .map(drop)
        })
    });
    folder.as_ref().map(|folder| folder.join("client"))
}

async fn check(driver: &str, checks: &[&str]) {
    let Some(program) = program() else { return };
    let mut client = Command::new(program);
    client.arg(driver);
    Matrix::start().await.run(client, &[&CHECKS, checks].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgx() {
    check("pgx", &["parameters", "cursor", "context", "copy from", "isolation", "stdlib"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lib_pq() {
    check("pq", &["types, binary parameters", "cursor", "database/sql"]).await;
}
