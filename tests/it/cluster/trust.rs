//! Who shows another token, or no certificate of the same authority, is neither served nor used.

use std::path::PathBuf;

use toplake::cluster::{Fallback, Trust, TrustFiles};

use super::{Fleet, MEMORY, Task, fill};
use crate::harness::Home;
use crate::http::until;
use crate::security::tls::Paper;

struct Tokens(tempfile::TempDir);

impl Tokens {
    fn file(&self, token: &str) -> PathBuf {
        let path = self.0.path().join(token);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        path
    }
}

fn files(token: Option<PathBuf>, paper: Option<&Paper>) -> Trust {
    let of = |path: fn(&Paper) -> PathBuf| paper.map(path);
    Trust::read(&TrustFiles {
        token,
        authority: of(|paper| paper.authority.clone()),
        certificate: of(|paper| paper.certificate.clone()),
        key: of(|paper| paper.key.clone()),
        name: None,
    })
    .unwrap()
}

async fn seen(trust: Trust, workers: &[&Task]) -> Vec<(String, String)> {
    let home = Home::new();
    let addresses: Vec<String> = workers.iter().map(|w| format!("localhost:{}", w.address.port())).collect();
    let fleet = Fleet::at(&addresses.join(","), &home, trust, Fallback::Local).await;
    let warehouse = fleet.desk.engine.warehouse();
    until("all have been asked", async || warehouse.workers().len() == workers.len()).await;
    let told = |w: toplake::catalog::workers::WorkerStatus| {
        (w.state.name().to_owned(), w.reason.unwrap_or_default())
    };
    warehouse.workers().into_iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_have_to_be_the_same() {
    let tokens = Tokens(tempfile::tempdir().unwrap());
    let (right, wrong) = (tokens.file("0123456789abcdef"), tokens.file("fedcba9876543210"));
    let worker = Task::start(MEMORY, files(Some(right.clone()), None)).await;
    assert_eq!(seen(files(Some(right), None), &[&worker]).await, [("live".to_owned(), String::new())]);
    for trust in [files(Some(wrong), None), Trust::default()] {
        let refused = seen(trust, &[&worker]).await;
        assert_eq!(refused, [("away".to_owned(), "the token is missing, or another one".to_owned())]);
    }
    let short = TrustFiles { token: Some(tokens.file("short")), ..TrustFiles::default() };
    assert!(Trust::read(&short).unwrap_err().message().contains("the token has 5 characters"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_have_to_be_of_one_authority() {
    let (ours, theirs) = (Paper::new(), Paper::new());
    let worker = Task::start(MEMORY, files(None, Some(&ours))).await;
    assert_eq!(seen(files(None, Some(&ours)), &[&worker]).await, [("live".to_owned(), String::new())]);
    for trust in [files(None, Some(&theirs)), Trust::default()] {
        let refused = seen(trust, &[&worker]).await;
        assert_eq!(refused[0].0, "away", "{refused:?}");
    }
    let alone = TrustFiles { certificate: Some(ours.certificate.clone()), ..TrustFiles::default() };
    assert!(Trust::read(&alone).unwrap_err().message().contains("belong together"));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_run_between_workers_that_trust_each_other() {
    let (tokens, paper, home) = (Tokens(tempfile::tempdir().unwrap()), Paper::new(), Home::new());
    let trust = files(Some(tokens.file("0123456789abcdef")), Some(&paper));
    let (a, b) = tokio::join!(Task::start(MEMORY, trust.clone()), Task::start(MEMORY, trust.clone()));
    let addresses = format!("localhost:{},localhost:{}", a.address.port(), b.address.port());
    let fleet = Fleet::at(&addresses, &home, trust, Fallback::Refuse).await;
    assert!(fleet.cluster.wait_for(2, std::time::Duration::from_secs(60)).await);
    fill(&fleet.desk, 3).await;
    let rows = fleet.desk.rows("SELECT country, count(*) FROM sales GROUP BY 1").await;
    assert_eq!(rows, ["France,5000", "Kenya,5000", "NULL,5000"]);
    assert!(fleet.cluster.runs() > 0);
}
