//! The corpus of SQL on three workers: what is said there holds wherever a query runs.

use std::sync::Arc;

use toplake::statement::Session;

use super::Fleet;
use crate::harness::Home;
use crate::slt::{FILES, InProcess, run_file};

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_means_the_same_on_workers() {
    let mut spread = 0;
    for name in FILES {
        let (home, out) = (Home::new(), tempfile::tempdir().unwrap());
        let fleet = Fleet::of(3, &home).await;
        let desk = &fleet.desk;
        run_file(name, out.path(), || async {
            let session = Session::new(desk.engine.context(), Arc::clone(desk.engine.warehouse()));
            Ok(InProcess { session, name: "workers" })
        })
        .await;
        spread += fleet.cluster.runs();
    }
    assert!(spread > 100, "of all statements only {spread} ran on workers");
}
