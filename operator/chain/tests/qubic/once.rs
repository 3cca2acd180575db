//! An anchor is made once, whoever is killed, and whatever the network does with it.

use alloy_primitives::hex;
use countersign_chain::network::{Network, Polled, Receipt, Submission, Work};
use countersign_chain::qubic::{Qubic, TAG, verify};
use serde_json::json;

use crate::counterpart::{FINAL, OFFSET, Server, now, qubic};

/// More steps than any of the runs needs.
const MANY: usize = 80;
/// After so many it has been sent once.
const SENT: usize = 6;

/// What was anchored, and what was kept of it.
struct Run {
    digest: [u8; 32],
    kept: Vec<Submission>,
}

impl Run {
    fn of(number: usize) -> Run {
        Run { digest: [number as u8; 32], kept: Vec::new() }
    }

    fn work(&self) -> Work {
        Work::Anchor(self.digest)
    }
}

/// A driver in small: it keeps what is prepared before it is sent, and ends after so many steps as if it were killed.
/// With each turn one tick passes.
async fn drive(qubic: &Qubic, server: &Server, run: &mut Run, mut steps: usize) -> Option<Receipt> {
    let mut step = move || {
        steps = steps.checked_sub(1)?;
        Some(())
    };
    loop {
        step()?;
        let polled = match run.kept.is_empty() {
            true => Polled::Displaced,
            false => qubic.poll(&run.work(), &run.kept, now()).await.unwrap(),
        };
        match polled {
            Polled::Displaced => {
                let submission = qubic.prepare(&run.work(), None, &run.kept, now()).await.unwrap();
                step()?;
                run.kept.push(submission);
            }
            Polled::Missing => {
                step()?;
                let newest = run.kept.last().unwrap();
                // What goes wrong here shows in the next poll.
                let _ = qubic.submit(newest).await;
            }
            Polled::Waiting => {}
            Polled::Confirmed(receipt) => return Some(receipt),
            Polled::Underpriced | Polled::Refused(_) => panic!("{polled:?}"),
        }
        step()?;
        server.tell(json!({ "ticks": 1 })).await;
    }
}

async fn assert_once(server: &Server, run: &Run, receipt: &Receipt) {
    let state = server.tell(json!({ "ticks": 100 })).await;
    let input = hex::encode([TAG.as_slice(), &run.digest].concat());
    let included: Vec<_> = state["included"].as_array().unwrap().iter().filter(|one| one["input"] == input).collect();
    assert_eq!(included.len(), 1, "{state}");
    assert_eq!(included[0]["id"], receipt.transaction);
    assert_eq!(included[0]["tick"].as_u64(), receipt.place);
    let proved = verify(&receipt.evidence, &run.digest, None).unwrap();
    assert_eq!(proved.transaction, receipt.transaction);
}

#[tokio::test]
async fn it_is_anchored_once_wherever_it_is_killed() {
    let server = Server::start();
    let qubic = qubic(&server);
    let mut runs = 0;
    for away in [0, 1, OFFSET, OFFSET + FINAL + 2] {
        for steps in 0..MANY {
            runs += 1;
            let mut run = Run::of(runs);
            let done = drive(&qubic, &server, &mut run, steps).await;
            server.tell(json!({ "ticks": away })).await;
            let receipt = drive(&qubic, &server, &mut run, MANY).await.unwrap();
            assert_once(&server, &run, &receipt).await;
            if done.is_some() {
                break;
            }
        }
    }
    assert!((80..256).contains(&runs), "{runs}");
}

#[tokio::test]
async fn what_the_network_forgets_is_anchored_once_in_a_later_tick() {
    let server = Server::start();
    let (qubic, mut run) = (qubic(&server), Run::of(1));
    assert_eq!(drive(&qubic, &server, &mut run, SENT).await, None);
    let state = server.tell(json!({ "forget": true, "ticks": OFFSET })).await;
    assert_eq!((&state["broadcasts"], &state["included"]), (&json!(1), &json!([])));
    let receipt = drive(&qubic, &server, &mut run, MANY).await.unwrap();
    assert_eq!(run.kept.len(), 2);
    assert_eq!(receipt.transaction, run.kept[1].transaction);
    assert_once(&server, &run, &receipt).await;
}

#[tokio::test]
async fn what_is_forgotten_in_time_is_sent_again_just_as_it_is() {
    let server = Server::start();
    let (qubic, mut run) = (qubic(&server), Run::of(1));
    assert_eq!(drive(&qubic, &server, &mut run, SENT).await, None);
    let state = server.tell(json!({ "forget": true })).await;
    assert_eq!((&state["broadcasts"], &state["pending"]), (&json!(1), &json!([])));
    let receipt = drive(&qubic, &server, &mut run, MANY).await.unwrap();
    assert_eq!((run.kept.len(), &receipt.transaction), (1, &run.kept[0].transaction));
    assert_once(&server, &run, &receipt).await;
}

#[tokio::test]
async fn one_that_pushes_another_out_leads_to_both_being_anchored_once() {
    let server = Server::start();
    let (qubic, mut run, mut other) = (qubic(&server), Run::of(1), Run::of(2));
    assert_eq!(drive(&qubic, &server, &mut run, SENT).await, None);
    // The same source sends another one, for a later tick.
    assert_eq!(drive(&qubic, &server, &mut other, SENT).await, None);
    server.tell(json!({ "ticks": 2 * OFFSET })).await;
    let receipt = drive(&qubic, &server, &mut run, MANY).await.unwrap();
    assert_eq!(run.kept.len(), 2);
    assert_once(&server, &run, &receipt).await;
    let receipt = drive(&qubic, &server, &mut other, MANY).await.unwrap();
    assert_eq!(other.kept.len(), 1);
    assert_once(&server, &other, &receipt).await;
}
