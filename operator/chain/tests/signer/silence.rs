//! A PostgreSQL that answers nothing any more, with its connections open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use countersign_chain::driver::{NetworkWorker, Pace};
use countersign_chain::metrics::Metrics;
use countersign_chain::network::{Network, Polled, Receipt, Submission, Trouble, Work};
use countersign_store::StoreError;
use jiff::Timestamp;

use crate::database::{Database, open};
use crate::way::Silence;

const PATIENCE: Duration = Duration::from_secs(1);

/// A network that nobody comes to ask anything.
struct Unasked;

impl Network for Unasked {
    fn account(&self) -> Option<String> {
        None
    }

    async fn next_nonce(&self) -> Result<u64, Trouble> {
        Ok(0)
    }

    async fn done(&self, _: &Work) -> Result<Option<Receipt>, Trouble> {
        Ok(None)
    }

    async fn prepare(&self, _: &Work, _: Option<u64>, _: &[Submission], _: Timestamp) -> Result<Submission, Trouble> {
        Err(Trouble::Unavailable("nothing is signed here".to_owned()))
    }

    async fn submit(&self, _: &Submission) -> Result<Option<Receipt>, Trouble> {
        Ok(None)
    }

    async fn poll(&self, _: &Work, _: &[Submission], _: Timestamp) -> Result<Polled, Trouble> {
        Ok(Polled::Waiting)
    }
}

fn worker(url: String) -> NetworkWorker<Unasked> {
    NetworkWorker {
        name: "quiet".to_owned(),
        network: Unasked,
        limits: BTreeMap::new(),
        anchors: Some(Duration::ZERO),
        store: open(url, 2),
        pace: Pace { patience: PATIENCE, ..Pace::default() },
        metrics: Metrics::new().unwrap(),
    }
}

#[tokio::test]
async fn a_round_gives_a_silent_server_up_and_others_go_on_when_it_answers() {
    let url = Database.empty().await;
    open(url.clone(), 1).migrate().await.unwrap();
    let way = Silence::before(&url).await;
    let worker = worker(way.url.clone());
    let clock = || "2026-11-21T00:00:00Z".parse().unwrap();
    assert_eq!(worker.round(&clock).await.ok(), Some(false));
    way.falls();
    let start = Instant::now();
    let error = worker.round(&clock).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(start.elapsed() < 10 * PATIENCE, "{:?}", start.elapsed());
    way.speaks();
    // What was lost is given up after some seconds.
    let recovers = async { while worker.round(&clock).await.is_err() {} };
    assert!(tokio::time::timeout(20 * PATIENCE, recovers).await.is_ok());
}
