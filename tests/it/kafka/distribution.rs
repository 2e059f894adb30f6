//! Apache Kafka for the tests: `tests/kafka/pom.xml` names the version, Maven fetches it into its own repository.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/pom.xml");

/// The class path of a broker; none where Java or Maven is missing, which is a failure on the build server.
pub(crate) fn class_path() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(|| if runs("java") && runs("mvn") { Some(fetched()) } else { None }).as_deref()
}

fn runs(program: &str) -> bool {
    match Command::new(program).arg("-version").output() {
        Ok(_) => true,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "{program} is needed: {e}");
            eprintln!("{program} is not installed: not tested against Kafka");
            false
        }
    }
}

/// Asks Maven where the jars are, and to fetch those that are not there; once for each state of the pom.
fn fetched() -> String {
    let pom = std::fs::read_to_string(POM).unwrap();
    let mut hasher = DefaultHasher::new();
    pom.hash(&mut hasher);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let answer = folder.join(format!("kafka-{:016x}.classpath", hasher.finish()));
    // Benches and other runs of the tests may ask at the same time.
    let lock = File::create(folder.join("kafka.lock")).unwrap();
    lock.lock().unwrap();
    if let Some(class_path) = std::fs::read_to_string(&answer).ok().filter(|jars| are_there(jars)) {
        return class_path;
    }
    let part = answer.with_extension("part");
    let maven = Command::new("mvn")
        .args(["-B", "-ntp", "-q", "-f", POM, "dependency:build-classpath", "-Dmdep.pathSeparator=:"])
        .arg(format!("-Dmdep.outputFile={}", part.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&maven.stdout);
    assert!(maven.status.success(), "Maven does not find Kafka:\n{said}");
    std::fs::rename(&part, &answer).unwrap();
    std::fs::read_to_string(&answer).unwrap()
}

/// Whether nobody has emptied Maven's repository since.
fn are_there(class_path: &str) -> bool {
    class_path.trim().split(':').all(|jar| Path::new(jar).exists())
}
