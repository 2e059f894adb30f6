//! Drivers for JavaScript, in a folder with their packages.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{CHECKS, Matrix, installed, run, source};

/// A folder with the packages and the programs, which look for packages beside themselves.
fn packages() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let manifest = ["package.json", "package-lock.json"];
    let files = manifest.map(|name| source("javascript").join(name));
    let folder = FOLDER.get_or_init(|| {
        let folder = installed("clients-javascript", &files, |folder| {
            for (file, name) in files.iter().zip(manifest) {
                fs::copy(file, folder.join(name)).map_err(|e| e.to_string())?;
            }
            let mut npm = Command::new("npm");
            run(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder)).map(drop)
        })?;
        for file in fs::read_dir(source("javascript")).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "mjs") {
                fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
        Some(folder)
    });
    folder.clone()
}

async fn check(program: &str, checks: &[&str]) {
    let Some(folder) = packages() else { return };
    let mut client = Command::new("node");
    client.arg(folder.join(program));
    Matrix::start().await.run(client, &[&CHECKS, checks].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres() {
    let more = ["cursor", "stream", "named_statement", "prepared_statements", "pipeline"];
    check("node_postgres.mjs", &more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_js() {
    check("postgres_js.mjs", &[]).await;
}
