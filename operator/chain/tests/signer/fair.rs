//! What can never be made holds nobody up.

use std::time::Duration;

use alloy_primitives::{Address, U256};
use countersign_chain::network::{self, Network, Work};
use countersign_core::payment::{Amount, Payment};
use countersign_store::Claim;

use crate::anvil::{CHAIN, PAYER};
use crate::bed::{Bed, NETWORK, Terms, payment, payments};
use crate::knife::Knife;

#[tokio::test]
async fn what_can_never_be_made_holds_nobody_up() {
    let mut all = payments(12);
    // More than there is, a recipient that refuses, and a token that is none.
    all[0].amount = Amount(U256::from(10).pow(U256::from(23)));
    all[4] = Payment { token: Some(Address::repeat_byte(9)), ..payment(4) };
    let bed = Bed::new(all, Terms::default()).await;
    bed.anvil.refusing(bed.payments[7].to, true).await;
    bed.ask_all().await;
    let signer = bed.signer(&Knife::none()).await;
    for _ in 0..4 {
        assert!(signer.round(&bed).await);
    }
    let never = [(0, "has too little of the coin"), (7, "does not take the coin")];
    for (n, words) in never {
        let (state, why) = bed.standing(n).await;
        assert!(state == "Waiting" && why.contains(words), "{n}: {state}: {why}");
    }
    let (state, why) = bed.standing(4).await;
    assert!(state == "Dead" && why.contains("no limits"), "{state}: {why}");
    for n in (0..12).filter(|n| ![0, 4, 7].contains(n)) {
        assert_eq!(bed.standing(n).await.0, "Confirmed", "{n}");
    }
    // Each nonce that they had was given back, and taken by the next.
    assert_eq!(bed.anvil.nonce().await, 9);
    let held = "select count(*) from nonces n where outbox is not null and not exists
                (select from submissions s where s.account = n.account and s.nonce = n.nonce)";
    assert_eq!(bed.scalar(held).await, 0);
    for (n, _) in never {
        let record = bed.record();
        let id: i64 = sqlx::query_scalar("select id from outbox where payment = $1")
            .bind(bed.payments[n].id.to_string())
            .fetch_one(bed.owner.pool())
            .await
            .unwrap();
        bed.due().await;
        let items = record.take_outbox(NETWORK, Duration::from_secs(60), 99).await.unwrap();
        let item = items.iter().find(|item| item.id == id).unwrap();
        let dead = countersign_crds::PaymentState::Dead;
        record.fail_outbox(item, dead, "enough", bed.now()).await.unwrap();
    }
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid, standing.reverted), (9, 3, 0));
}

/// A driver that died had claimed a nonce and signed nothing, and then its payment ended for nothing.
#[tokio::test]
async fn a_nonce_that_was_claimed_for_what_ended_is_used_by_another() {
    let bed = Bed::new(payments(5), Terms::default()).await;
    bed.ask(0).await;
    let record = bed.record();
    let item = record.take_outbox(NETWORK, Duration::from_secs(60), 1).await.unwrap().remove(0);
    let claim = record.claim_nonce(&item, &account(), 0, bed.terms.limit, bed.now()).await.unwrap();
    assert_eq!(claim, Claim::Nonce(0));
    bed.execute("update attempts set outcome = 'Cancelled', finished_at = now() where key = 'key-pay-0-1'").await;
    for n in 1..5 {
        bed.ask(n).await;
    }
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid), (4, 1));
    assert!(bed.standing(0).await.1.contains("has ended"));
}

/// Two had it in hand, each claimed a nonce for it, and both died.
#[tokio::test]
async fn two_nonces_that_were_claimed_for_one_payment_hold_nobody_up() {
    let bed = Bed::new(payments(4), Terms::default()).await;
    bed.ask(0).await;
    let record = bed.record();
    let item = record.take_outbox(NETWORK, Duration::from_secs(60), 1).await.unwrap().remove(0);
    for nonce in 0..2 {
        let claim = record.claim_nonce(&item, &account(), 0, bed.terms.limit, bed.now()).await.unwrap();
        assert_eq!(claim, Claim::Nonce(nonce));
    }
    for n in 1..4 {
        bed.ask(n).await;
    }
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid), (4, 0));
}

/// It was signed for twice, and paid by the first; the second never left, and what comes later waits for its nonce.
#[tokio::test]
async fn what_was_signed_and_never_left_holds_nobody_up() {
    let bed = Bed::new(payments(3), Terms::default()).await;
    bed.ask(0).await;
    let signer = bed.signer(&Knife::none()).await;
    assert!(signer.step(&bed).await);
    bed.due().await;
    let record = bed.record();
    let item = record.take_outbox(NETWORK, Duration::from_secs(60), 1).await.unwrap().remove(0);
    let claim = record.claim_nonce(&item, &account(), 0, bed.terms.limit, bed.now()).await.unwrap();
    assert_eq!(claim, Claim::Nonce(1));
    let Payment { id, token, to, amount, .. } = bed.payments[0].clone();
    let work = Work::Pay(network::Payment { id: id.0, token, to, amount: amount.0 });
    let second = signer.worker.network.prepare(&work, Some(1), &item.submissions, bed.now()).await.unwrap();
    assert!(record.keep_submission(&item, Some(&account()), &second).await.unwrap());
    bed.calm().await;
    for n in 1..3 {
        bed.ask(n).await;
    }
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid), (3, 0));
    assert_eq!(standing.reverted, 1, "the second, which the router refused");
}

fn account() -> String {
    format!("eip155:{CHAIN}:{PAYER}")
}
