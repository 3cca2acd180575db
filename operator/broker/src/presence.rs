//! Tells that this broker lives, and which Secrets it has: what the operator binds a signature to is what all brokers
//! that live agree on.

use std::time::Duration;

use countersign_core::fingerprint::FingerprintKey;
use countersign_service::causes::told;
use countersign_store::Store;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::secrets::Secrets;

/// How often; a broker that has missed several counts for nothing.
const EVERY: Duration = Duration::from_secs(5);

/// Tells until told to end, and then that it has ended.
pub async fn run(record: Store, secrets: Secrets, key: FingerprintKey, ending: CancellationToken) {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(
            %error,
            "no name could be made for this broker; Secrets wait for one that has one"
        );
        return;
    }
    let name = countersign_core::digest::hex(&bytes);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = ending.cancelled() => break,
        }
        let has = secrets.fingerprints(key.clone()).await;
        if let Err(error) = record.tell_fingerprints(&name, &has).await {
            tracing::warn!(error = told(&error), "which Secrets there are could not be told; trying again");
        }
    }
    if let Err(error) = record.forget_broker(&name).await {
        tracing::warn!(
            error = told(&error),
            "that this broker ends could not be told; it counts for nothing in a while"
        );
    }
}
