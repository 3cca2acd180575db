//! Alerts of budgets, delivered to the webhook that the chart names. They wait in the record's outbox, which every replica
//! empties: each alert is sent at least once, and always under the same id.

mod body;
mod pace;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use countersign_service::causes::told;
use countersign_store::{Alert, Store, StoreError};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use self::webhook::{Failed, Outcome, Webhook};
use crate::broker::Broker;

/// How many are sent at once.
const BATCH: i64 = 8;
/// For all of a delivery, the name's resolution included.
const MOST: Duration = Duration::from_secs(20);
/// Longer than a delivery and its record take, so that nobody sends what is being sent.
const LEASE: Duration = Duration::from_secs(60);
/// While alerts wait, and while none do.
const BUSY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);

/// Delivers what is due until told to end; what is in hand then is finished.
pub async fn run(broker: Arc<Broker<Store>>, webhook: Webhook, ending: CancellationToken) {
    loop {
        let pause = match round(&broker, &webhook).await {
            Ok(0) => IDLE,
            Ok(_) => BUSY,
            Err(error) => {
                tracing::warn!(error = told(&error), "the outbox of alerts cannot be read; trying again");
                IDLE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ending.cancelled() => return,
        }
    }
}

/// Sends a batch of what is due. How many alerts wait after it.
pub async fn round(broker: &Broker<Store>, webhook: &Webhook) -> Result<i64, StoreError> {
    let alerts = broker.record.take_alerts(LEASE, BATCH).await?;
    let delivered = join_all(alerts.iter().map(|alert| deliver(broker, webhook, alert))).await;
    delivered.into_iter().collect::<Result<(), StoreError>>()?;
    let outbox = broker.record.outbox().await?;
    broker.metrics.outbox(outbox);
    Ok(outbox.due)
}

async fn deliver(broker: &Broker<Store>, webhook: &Webhook, alert: &Alert) -> Result<(), StoreError> {
    if alert.attempt > pace::TRIES {
        let why = "how the last try ended is not known: its broker went away";
        return broker.record.alert_failed(alert, why, None).await;
    }
    let sent = tokio::time::timeout(MOST, webhook.send(broker, alert)).await;
    let sent = sent.unwrap_or_else(|_| {
        let why = format!("{} did not answer within {} s", webhook.authority(), MOST.as_secs());
        Err(Failed { outcome: Outcome::Timeout, why })
    });
    let (id, attempt) = (alert.id, alert.attempt);
    match sent {
        Ok(()) => {
            broker.metrics.alert(Outcome::Delivered);
            tracing::info!(alert = id, attempt, "an alert was delivered");
            broker.record.alert_delivered(alert).await
        }
        Err(Failed { outcome, why }) => {
            broker.metrics.alert(outcome);
            let again = pace::again(id, attempt);
            match again {
                Some(again) => tracing::warn!(alert = id, attempt, why, ?again, "an alert was not delivered"),
                None => tracing::error!(alert = id, attempt, why, "an alert was not delivered, and is given up"),
            }
            broker.record.alert_failed(alert, &why, again).await
        }
    }
}
