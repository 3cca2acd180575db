//! Looks at which Secrets the brokers have. Nothing of what is in them ever comes here.

use std::sync::Arc;
use std::time::Duration;

use countersign_service::causes::told;
use countersign_store::Store;
use tokio::time::MissedTickBehavior;

use super::caches::Caches;
use super::trigger::Trigger;

/// How soon a broker's word counts.
const EVERY: Duration = Duration::from_secs(2);

/// Looks for as long as the process lives. While PostgreSQL is away nothing can be decided, so what was told last stands.
pub async fn watch(store: Store, caches: Arc<Caches>, trigger: Arc<Trigger>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.fingerprints().await {
            Ok(told) => {
                if caches.take_secrets(told) {
                    trigger.unfinished(&caches);
                }
            }
            Err(error) => {
                tracing::warn!(error = told(&error), "what Secrets the brokers have cannot be read; trying again")
            }
        }
    }
}
