//! What canaries found out about the network of each namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use countersign_core::observed::Network;

use crate::watch::caches::lock;

/// How long a finding stands, and when to try again after none could be had.
const STANDS: Duration = Duration::from_secs(3600);
const AGAIN: Duration = Duration::from_secs(60);

/// What was found, by namespace.
#[derive(Default)]
pub struct Networks {
    found: Mutex<BTreeMap<String, (Instant, Network)>>,
}

impl Networks {
    pub fn of(&self, namespace: &str) -> Network {
        lock(&self.found).get(namespace).map(|(_, network)| network.clone()).unwrap_or_default()
    }

    /// Whether a canary is owed.
    pub fn due(&self, namespace: &str) -> bool {
        lock(&self.found).get(namespace).is_none_or(|(at, network)| {
            let stands = if *network == Network::NotTried { AGAIN } else { STANDS };
            at.elapsed() >= stands
        })
    }

    pub fn set(&self, namespace: &str, network: Network) {
        lock(&self.found).insert(namespace.to_owned(), (Instant::now(), network));
    }

    /// Drops what is of namespaces in which nothing runs.
    pub fn keep(&self, namespaces: &BTreeSet<String>) {
        lock(&self.found).retain(|namespace, _| namespaces.contains(namespace));
    }
}
