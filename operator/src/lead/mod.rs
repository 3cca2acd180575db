//! What only the leader does: look at Tasks, end the records of those that are gone, and keep the log in order.

mod budgets;
mod canary;
mod configuration;
mod leader;
mod outside;
mod sequencer;
mod summary;
mod sweep;
mod witness;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use countersign_service::causes::told;
use futures::{FutureExt, StreamExt};
use kube::runtime::Controller;
use kube::runtime::controller;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use self::leader::Election;
use self::sweep::sweep;
use crate::reconciler::context::Context;
use crate::reconciler::error::Error;
use crate::reconciler::reconcile::{on_error, reconcile};
use crate::settings::{self, Settings};
use crate::watch::trigger::Trigger;

/// The name of the Lease.
const LEASE: &str = "countersign";

/// For how long one turn of what the leader does again and again may take.
const TURN: Duration = Duration::from_secs(60);

type Leading = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Ticks at once and then so often; where one is late, the next ones are too, rather than all at once.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Does all of it, one after the other; what went wrong with one says nothing of the others.
async fn each(what: &'static str, deeds: impl Iterator<Item = impl Future<Output = Result<(), Error>>>) {
    for deed in deeds {
        if let Err(error) = deed.await {
            tracing::warn!(error = told(&error), "{what} failed for one; the others go on, and it is repeated");
        }
    }
}

/// Waits for the lease and then works until told to stop, or until the lease is lost: then it fails, and a
/// new process begins as a follower.
pub fn lead_when_elected(
    context: Arc<Context>,
    trigger: Arc<Trigger>,
    settings: &Settings,
) -> impl FnOnce(oneshot::Receiver<()>) -> Leading + use<> {
    let election = Election::new(context.client.clone(), &settings.namespace, LEASE, &settings.pod_name);
    let (concurrency, replica) = (settings.concurrency, settings.pod_name.clone());
    let witnesses = settings.witnesses.clone();
    move |stopped| Box::pin(lead(context, trigger, election, concurrency, replica, witnesses, stopped))
}

async fn lead(
    context: Arc<Context>,
    trigger: Arc<Trigger>,
    election: Election,
    concurrency: u16,
    replica: String,
    witnesses: Vec<settings::Witness>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    // The sender is dropped, never used; either way it means stop.
    let stopped = stopped.map(drop).shared();
    context.caches.wait_until_synced().await;
    tokio::select! {
        () = stopped.clone() => return Ok(()),
        () = election.acquire() => {}
    }
    tracing::info!("elected: this replica leads");
    context.metrics.leading(true);

    let triggers = trigger.listen();
    trigger.all(&context.caches);
    let controller = Controller::for_stream(futures::stream::pending(), context.caches.tasks.clone())
        .reconcile_on(triggers)
        .with_config(controller::Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stopped.clone())
        .run(reconcile, on_error, Arc::clone(&context))
        .for_each(|_| futures::future::ready(()));
    let ended = tokio::select! {
        () = controller => Ok(()),
        () = election.hold() => bail!("the lease was lost; ending at once, so that only its new holder acts"),
        () = sweep(&context, &trigger) => Ok(()),
        () = sequencer::run(&context) => Ok(()),
        () = witness::run(&context, &witnesses) => Ok(()),
        () = canary::run(&context, &trigger) => Ok(()),
        () = budgets::run(&context) => Ok(()),
        () = summary::run(&context) => Ok(()),
        () = outside::run(&context, &trigger) => Ok(()),
        () = configuration::run(&context, &replica) => Ok(()),
    };
    context.metrics.leading(false);
    if let Err(error) = election.release().await {
        tracing::warn!(error = told(&error), "the lease was not handed over; it expires by itself");
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn what_fails_for_one_is_done_for_the_others() {
        let done = RefCell::new(Vec::new());
        let deed = async |number| match number {
            2 => Err(Error::NoBroker),
            number => {
                done.borrow_mut().push(number);
                Ok(())
            }
        };
        each("the sweep", [1, 2, 3].into_iter().map(deed)).await;
        assert_eq!(done.into_inner(), [1, 3]);
    }
}
