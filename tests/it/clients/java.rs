//! The driver for Java, pgJDBC, and its usual pool.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{CHECKS, Matrix, installed, run, source};

/// The folder that Maven has compiled into, with a file that names the class path.
fn compiled() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let sources =
        fs::read_dir(source("java/src/main/java/toplake")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = sources.chain([source("java/pom.xml")]).collect();
    files.sort();
    let folder = FOLDER.get_or_init(|| {
        installed("clients-java", &files, |folder| {
            let mut maven = Command::new("mvn");
            maven.args(["-B", "-ntp", "-q", "-f"]).arg(source("java/pom.xml"));
            maven.arg(format!("-Dbuild.folder={}", folder.display()));
            maven.args(["compile", "dependency:build-classpath", "-Dmdep.pathSeparator=:"]);
            run(maven.arg(format!("-Dmdep.outputFile={}", folder.join("jars").display()))).map(drop)
        })
    });
    folder.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc() {
    let Some(folder) = compiled() else { return };
    let jars = fs::read_to_string(folder.join("jars")).unwrap();
    let mut client = Command::new("java");
    client
        .arg("-cp")
        .arg(format!("{}:{}", folder.join("classes").display(), jars.trim()))
        .arg("toplake.Main");
    let more = [
        "metadata, answers",
        "result metadata, extended",
        "two portals",
        "query timeout",
        "autosave",
        "calls",
    ];
    Matrix::start().await.run(client, &[&CHECKS, &more[..]].concat()).await;
}
