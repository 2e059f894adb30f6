//! Drivers for Python, in a virtual environment.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{CHECKS, Matrix, installed, run, source};

/// A Python that has the packages.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let requirements = source("python/requirements.txt");
    let environment = PYTHON.get_or_init(|| {
        installed("clients-python", std::slice::from_ref(&requirements), |folder| {
            run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
            let mut pip = Command::new(folder.join("bin/python"));
            run(pip.args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements)).map(drop)
        })
    });
    environment.as_ref().map(|folder| folder.join("bin/python"))
}

async fn check(program: &str, checks: &[&str]) {
    let Some(python) = python() else { return };
    let mut client = Command::new(python);
    // No compiled files beside the sources.
    client.arg("-B").arg(source("python").join(program));
    Matrix::start().await.run(client, &[&CHECKS, checks].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg() {
    check(
        "psycopg_client.py",
        &["server_cursor", "pipeline", "prepare_threshold", "prepared_statements", "read_only"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncpg() {
    check("asyncpg_client.py", &["timeout", "read_only", "isolation"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy() {
    check("sqlalchemy_client.py", &["reflection", "isolation", "create"]).await;
}
