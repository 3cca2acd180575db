//! Shows each witness the newest checkpoint, with the proof that it follows from the one that the witness cosigned last,
//! and keeps the cosignature. Nothing waits for it: a witness that is away is only behind.

mod client;

use std::time::{Duration, Instant};

use countersign_core::tlog::witness::Request;
use countersign_service::causes::told;
use countersign_store::{Store, StoreError, Witnessed, within};
use futures::future::join_all;

use self::client::{Answer, Client, Failed};
use crate::metrics::Submitted;
use crate::reconciler::context::Context;
use crate::settings;
use countersign_service::clock;

/// How often to look whether there is a newer checkpoint.
const EVERY: Duration = Duration::from_secs(1);
/// How long to leave a witness alone that failed, the first time and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Runs while this process leads.
pub async fn run(context: &Context, witnesses: &[settings::Witness]) {
    let all = witnesses.iter().enumerate().map(|(place, witness)| follow(context, place, witness));
    join_all(all).await;
    // Where there is none, there is nothing to do for ever.
    std::future::pending().await
}

async fn follow(context: &Context, place: usize, witness: &settings::Witness) {
    let client = Client::new(witness);
    let mut ticks = super::every(EVERY);
    let (mut failures, mut again, mut complaint) = (0, Instant::now(), String::new());
    loop {
        ticks.tick().await;
        let standing = match within(super::TURN, context.store.witnessed(&witness.key)).await {
            Ok(Some(standing)) => standing,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(witness = %witness.key, error = told(&error), "what it cosigned was not read; trying again");
                continue;
            }
        };
        let Witnessed { newest, note: _, cosigned, waits_since } = &standing;
        let waits = waits_since.map_or(0, |since| clock::now().as_second() - since.as_second());
        context.metrics.witness_lag(place, newest - cosigned, waits);
        if newest == cosigned || Instant::now() < again {
            continue;
        }
        let ended = match submit(&context.store, super::TURN, &client, witness, &standing).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(witness = %witness.key, error = told(&error), "its cosignature was not kept; trying again");
                continue;
            }
        };
        let (outcome, said) = match ended {
            Ok(()) => (Submitted::Cosigned, String::new()),
            Err(Failed { outcome, why }) => (outcome, why),
        };
        context.metrics.submitted(place, outcome);
        failures = if outcome == Submitted::Cosigned { 0 } else { failures + 1 };
        again = Instant::now() + pause(failures);
        if said != complaint {
            match outcome {
                Submitted::Cosigned => tracing::info!(witness = %witness.key, "cosigns again"),
                Submitted::SplitView | Submitted::Ahead => {
                    tracing::error!(witness = %witness.key, why = said, "a witness has seen another history of the log");
                }
                Submitted::Refused | Submitted::Forged | Submitted::Unreachable | Submitted::Timeout => {
                    tracing::warn!(witness = %witness.key, why = said, "a checkpoint was not cosigned; trying again");
                }
            }
            complaint = said;
        }
    }
}

fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        more => PAUSE.saturating_mul(1 << (more - 1).min(16)).min(LONGEST),
    }
}

/// Submits the newest checkpoint, and again where the witness says that it cosigned another one last. PostgreSQL is
/// waited for so long, each time.
async fn submit(
    store: &Store,
    patience: Duration,
    client: &Client,
    witness: &settings::Witness,
    standing: &Witnessed,
) -> Result<Result<(), Failed>, StoreError> {
    let Witnessed { newest, note, cosigned, waits_since: _ } = standing;
    let mut old = *cosigned;
    loop {
        let proof = within(patience, store.consistency_proof(old, *newest)).await?;
        let answer = client.add(&Request { old, proof, checkpoint: note.clone() }).await;
        let told = match answer {
            Err(failed) => return Ok(Err(failed)),
            Ok(Answer::Lines(lines)) => {
                let cosignature = match witness.key.find_among(&lines, note) {
                    Ok(cosignature) => cosignature,
                    Err(error) => return Ok(Err(Failed { outcome: Submitted::Forged, why: error.to_string() })),
                };
                let kept = store.keep_cosignature(&witness.key, *newest, &cosignature.line, clock::now());
                within(patience, kept).await?;
                return Ok(Ok(()));
            }
            Ok(Answer::Cosigned { size }) => size,
        };
        if let Err(failed) = goes_on(old, told, *newest, *cosigned) {
            return Ok(Err(failed));
        }
        old = told;
    }
}

/// Whether it is worth it to begin with the size that the witness tells. It is, once.
fn goes_on(old: u64, told: u64, newest: u64, began: u64) -> Result<(), Failed> {
    if told > newest {
        let why = format!(
            "it cosigned {told} entries, and the log has {newest}: was PostgreSQL put back from a backup, or does another operator sign with this key?"
        );
        return Err(Failed { outcome: Submitted::Ahead, why });
    }
    if told == old && told == newest {
        let why = format!("it cosigned another root of {newest} entries");
        return Err(Failed { outcome: Submitted::SplitView, why });
    }
    if told == old || old != began {
        let why = format!("it tells that it cosigned {told} entries after it was given the proof from {old}");
        return Err(Failed { outcome: Submitted::Refused, why });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
