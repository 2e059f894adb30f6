//! Which workers take part: those that answer, and are the same program. All are asked again and again, so one that comes or goes is
//! noticed without a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use datafusion::common::DataFusionError;
use datafusion_distributed::{GetWorkerInfoRequest, WorkerResolver};
use futures::future::join_all;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use url::Url;

use super::addresses::Addresses;
use super::channels::{Channels, LOST};
use crate::catalog::warehouse::Warehouse;
use crate::catalog::workers::{WorkerState, WorkerStatus};
use crate::error::Result;

/// How often they are asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Who takes longer to answer is away.
const ANSWER: Duration = Duration::from_secs(3);

/// The workers of a server.
#[derive(Debug)]
pub(super) struct Members {
    addresses: Addresses,
    channels: Channels,
    version: String,
    seen: RwLock<Vec<WorkerStatus>>,
    /// Whether the list could be read when they were asked last.
    readable: AtomicBool,
    /// Counts how often all have been asked.
    rounds: watch::Sender<u64>,
    /// Asks for the next round at once.
    hurry: Notify,
}

impl Members {
    pub(super) fn new(addresses: Addresses, channels: Channels, version: String) -> Self {
        Members {
            addresses,
            channels,
            version,
            seen: RwLock::default(),
            readable: AtomicBool::new(true),
            rounds: watch::Sender::new(0),
            hurry: Notify::new(),
        }
    }

    /// Those that take part.
    pub(super) fn live(&self) -> Vec<Url> {
        let seen = self.seen.read();
        let live = seen.iter().filter(|w| w.state == WorkerState::Live);
        live.filter_map(|w| Url::parse(&w.url).ok()).collect()
    }

    /// Asks all of them until it is told to stop.
    pub(super) async fn watch_over(&self, warehouse: &Warehouse, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            self.round(warehouse).await;
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.hurry.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Waits until all have been asked anew.
    pub(super) async fn look_again(&self) {
        let mut rounds = self.rounds.subscribe();
        // The round that runs may have asked before.
        let wanted = *rounds.borrow_and_update() + 2;
        let again = async {
            while *rounds.borrow_and_update() < wanted {
                self.hurry.notify_one();
                if rounds.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(2 * (ANSWER + PAUSE), again).await;
    }

    pub(super) async fn have_been_asked(&self) {
        // The sender is ours, so this ends with the first round.
        drop(self.rounds.subscribe().wait_for(|rounds| *rounds > 0).await);
    }

    pub(super) async fn wait_for(&self, workers: usize, most: Duration) -> bool {
        let mut rounds = self.rounds.subscribe();
        let enough = async {
            while self.live().len() < workers {
                if rounds.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout(most, enough).await.is_ok()
    }

    async fn round(&self, warehouse: &Warehouse) {
        let listed = self.addresses.now(self.channels.scheme()).await;
        let was_readable = self.readable.swap(listed.is_ok(), Ordering::Relaxed);
        let urls = listed.unwrap_or_else(|e| {
            if was_readable {
                let hint = e.hint().unwrap_or_default();
                tracing::warn!(error = %e, hint, "the list of workers cannot be read; those that were in it are asked on");
            }
            self.seen.read().iter().filter_map(|w| Url::parse(&w.url).ok()).collect()
        });
        let answers = join_all(urls.iter().map(|url| self.ask(url))).await;
        self.take(urls.into_iter().zip(answers).collect());
        warehouse.set_workers(self.seen.read().clone());
        self.rounds.send_modify(|n| *n += 1);
    }

    /// The version that a worker says it is, or why it does not.
    async fn ask(&self, url: &Url) -> Result<String, String> {
        let mut client = self.channels.client(url).map_err(|e| e.to_string())?;
        match timeout(ANSWER, client.get_worker_info(GetWorkerInfoRequest {})).await {
            Ok(Ok(info)) => Ok(info.version),
            Ok(Err(e)) => Err(words(&e)),
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }

    fn take(&self, answers: Vec<(Url, Result<String, String>)>) {
        // Until all is known the planner goes by what was.
        let before = self.seen.read().clone();
        let now = Utc::now().timestamp_micros();
        let mut seen = Vec::with_capacity(answers.len());
        for (url, answer) in answers {
            let (state, version, reason) = match answer {
                Ok(version) if version == self.version => (WorkerState::Live, Some(version), None),
                Ok(version) => {
                    let why = format!("it runs {version}, the server {}", self.version);
                    (WorkerState::OtherBuild, Some(version), Some(why))
                }
                Err(why) => (WorkerState::Away, None, Some(why)),
            };
            let known = before.iter().find(|w| w.url == url.as_str());
            let same = known.filter(|w| w.state == state);
            if same.is_none() {
                match (state, &reason) {
                    (WorkerState::Live, _) => tracing::info!(worker = url.as_str(), "takes part"),
                    (_, reason) => {
                        let reason = reason.as_deref().unwrap_or_default();
                        tracing::warn!(worker = url.as_str(), reason, hint = state.hint(), "takes no part");
                    }
                }
            }
            let since = same.map_or(now, |w| w.since);
            seen.push(WorkerStatus { url: url.into(), state, version, reason, since, asked: now });
        }
        for gone in before.iter().filter(|w| !seen.iter().any(|now| now.url == w.url)) {
            tracing::info!(worker = gone.url, "is no longer listed");
            if let Ok(url) = Url::parse(&gone.url) {
                self.channels.forget(&url);
            }
        }
        *self.seen.write() = seen;
    }
}

/// What a worker's refusal, or the lack of one, comes down to.
fn words(e: &DataFusionError) -> String {
    let text = match e {
        DataFusionError::External(inner) => match inner.downcast_ref::<tonic::Status>() {
            Some(status) => status.message().to_owned(),
            None => inner.to_string(),
        },
        other => other.to_string(),
    };
    match text.split_once(LOST) {
        Some((_, why)) => why.trim_start_matches(": ").to_owned(),
        None => text,
    }
}

/// What the planner asks for those that take part.
pub(super) struct Live(pub(super) Arc<Members>);

impl WorkerResolver for Live {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.live())
    }
}
