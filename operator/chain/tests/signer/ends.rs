//! What is given up, what is refused, and what is lost with the record.

use std::time::Duration;

use alloy_primitives::U256;
use countersign_chain::evm::{Key, SecretKey};
use countersign_core::payment::{Payment, PaymentNetwork};
use countersign_crds::PaymentState;
use countersign_store::{Limit, Store};
use jiff::Timestamp;
use serde_json::json;

use crate::anvil::{Anvil, CHAIN, KEY};
use crate::bed::{Bed, NETWORK, Terms, payment, payments};
use crate::knife::Knife;
use crate::node::Lie;

async fn rounds(bed: &Bed, rounds: usize) {
    let signer = bed.signer(&Knife::none()).await;
    for _ in 0..rounds {
        assert!(signer.round(bed).await);
    }
}

#[tokio::test]
async fn what_is_given_up_did_not_move_and_is_paid_once_when_it_is_revived() {
    let bed = Bed::new(payments(3), Terms { tries: 5, anchors: true, ..Terms::default() }).await;
    bed.ask(0).await;
    bed.ask(1).await;
    bed.checkpoint().await;
    bed.node.choose(|_| Lie::Failing);
    rounds(&bed, 5).await;
    let standing = bed.truth().await;
    assert_eq!((standing.unpaid, standing.unanchored, standing.paid), (2, 1, 0));
    let (state, why) = bed.standing(0).await;
    assert!(state == "Dead" && why.contains("answered with status 500"), "{state}: {why}");
    assert_eq!(bed.anvil.nonce().await, 0);
    assert_eq!(bed.scalar("select count(*) from nonces").await, 0);
    bed.node.honest();
    bed.revive(0).await;
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.unpaid, standing.unanchored, standing.paid), (1, 1, 1));
    // What may have left is not given up, for as long as the node is away.
    bed.ask(2).await;
    bed.node.choose(|method| if method == "eth_sendRawTransaction" { Lie::Lost } else { Lie::None });
    rounds(&bed, 1).await;
    bed.node.choose(|_| Lie::Failing);
    rounds(&bed, 30).await;
    assert_eq!(bed.standing(2).await.0, "Submitted");
    bed.revive(1).await;
    bed.checkpoint().await;
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.unpaid, standing.unanchored, standing.paid, standing.anchored), (0, 1, 3, 1));
}

#[tokio::test]
async fn a_recipient_that_refuses_is_not_paid_and_it_says_why() {
    let bed = Bed::new(payments(3), Terms { tries: 4, ..Terms::default() }).await;
    for n in [0, 1] {
        bed.ask(n).await;
    }
    // The first refuses from the beginning; the second once it was signed for.
    bed.anvil.refusing(bed.payments[0].to, true).await;
    let signer = bed.signer(&Knife::none()).await;
    assert!(signer.step(&bed).await);
    bed.anvil.refusing(bed.payments[1].to, true).await;
    rounds(&bed, 6).await;
    assert!(bed.is_over().await, "{}", bed.left().await);
    for (n, state, words) in [(0, "Dead", "would refuse it"), (1, "Refused", "nothing was done")] {
        let (found, why) = bed.standing(n).await;
        assert!(found == state && why.contains(words) && why.contains("does not take the coin"), "{found}: {why}");
    }
    let standing = bed.truth().await;
    assert_eq!((standing.unpaid, standing.paid, standing.reverted), (2, 0, 1));
    for n in [0, 1] {
        bed.anvil.refusing(bed.payments[n].to, false).await;
        bed.revive(n).await;
    }
    bed.ask(2).await;
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.unpaid, standing.paid, standing.reverted), (0, 3, 1));
}

#[tokio::test]
async fn the_signers_own_limits_hold() {
    let limit = |payment, daily| Some(Limit { decimals: 18, payment: U256::from(payment), daily: U256::from(daily) });
    let cases = [
        (None, 0, "no limits for ETH"),
        (limit(1_000_000, u64::MAX), 1, "more than the signer's limit of 1000000 for one payment"),
        (limit(1_000_009, 3_000_100), 3, "more than the signer's limit of 3000100 a day"),
    ];
    for (limit, paid, words) in cases {
        let mut bed = Bed::new(payments(5), Terms { limit, ..Terms::default() }).await;
        bed.ask_all().await;
        bed.calm().await;
        let standing = bed.truth().await;
        assert_eq!((standing.paid, standing.unpaid), (paid, 5 - paid), "{words}");
        let (state, why) = bed.standing(4).await;
        assert!(state == "Dead" && why.contains(words), "{state}: {why}");
        bed.terms.limit = Terms::default().limit;
        bed.revive(4).await;
        bed.calm().await;
        assert_eq!(bed.truth().await.paid, paid + 1);
    }
}

#[tokio::test]
async fn what_was_signed_for_as_being_elsewhere_is_not_paid_here() {
    let anvil = Anvil::start(&["--no-mining"]).await;
    let account = SecretKey::parse(KEY).unwrap().address();
    let here = PaymentNetwork { chain_id: CHAIN, router: anvil.router, account };
    let elsewhere = [
        (PaymentNetwork { chain_id: CHAIN + 1, ..here }, "chainId was signed for as"),
        (PaymentNetwork { router: account, ..here }, "router was signed for as"),
        (PaymentNetwork { account: anvil.router, ..here }, "account was signed for as"),
    ];
    let mut all: Vec<Payment> =
        elsewhere.iter().enumerate().map(|(n, (on, _))| Payment { on: Some(*on), ..payment(n) }).collect();
    all.push(Payment { decimals: 6, ..payment(3) });
    all.push(Payment { on: Some(here), ..payment(4) });
    let bed = Bed::on(anvil, all, Terms::default()).await;
    bed.ask_all().await;
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid), (1, 4));
    let words = elsewhere.iter().map(|(_, words)| *words).chain(["6 decimals"]);
    for (n, words) in words.enumerate() {
        let (state, why) = bed.standing(n).await;
        assert!(state == "Dead" && why.contains(words) && why.contains("signer.networks."), "{state}: {why}");
    }
}

/// As a record that was put back from a backup has it: nothing of the payment is there.
async fn forget(bed: &Bed) {
    const TABLES: [&str; 5] = ["submissions", "nonces", "outbox", "payments", "calls"];
    for table in TABLES {
        bed.execute(&format!("alter table {table} disable trigger user")).await;
    }
    for table in TABLES {
        bed.execute(&format!("delete from {table}")).await;
    }
    bed.execute("update sessions set calls = 0, cost = 0").await;
    for table in TABLES {
        bed.execute(&format!("alter table {table} enable trigger user")).await;
    }
    // The log tells of its ends again.
    for kind in ["log_pending", "log_payloads"] {
        bed.execute(&format!("alter table {kind} disable trigger user")).await;
        bed.execute(&format!("delete from {kind}")).await;
        bed.execute(&format!("alter table {kind} enable trigger user")).await;
    }
}

#[tokio::test]
async fn a_record_from_an_older_backup_does_not_pay_again() {
    let bed = Bed::new(payments(4), Terms { confirmations: 5, ..Terms::default() }).await;
    bed.ask(0).await;
    bed.ask(1).await;
    bed.calm().await;
    let one = bed.signed(0).await;
    // One is final, one is in a block and not final yet, and one waits for a block.
    bed.ask(2).await;
    rounds(&bed, 2).await;
    bed.ask(3).await;
    let signer = bed.signer(&Knife::none()).await;
    bed.due().await;
    assert!(signer.step(&bed).await);
    assert_eq!((bed.standing(2).await.0, bed.standing(3).await.0), ("Submitted".into(), "Submitted".into()));
    assert_eq!(bed.anvil.rpc("txpool_status", json!([])).await["pending"], "0x1");
    forget(&bed).await;
    // In another order, so that nonces are others' now.
    for n in [3, 2, 1, 0] {
        bed.ask(n).await;
    }
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid), (4, 0));
    assert_eq!(bed.signed(0).await, [], "what was paid is found, and not signed again");
    let kept: String = sqlx::query_scalar("select transaction from outbox where payment = $1")
        .bind(bed.payments[0].id.to_string())
        .fetch_one(bed.owner.pool())
        .await
        .unwrap();
    assert_eq!(kept, one[0].1);
}

/// Who was away for longer than its hold comes back with what it saw, and others have signed meanwhile.
#[tokio::test]
async fn a_verdict_on_less_than_was_signed_ends_nothing() {
    let bed = Bed::new(vec![payment(0)], Terms::default()).await;
    bed.ask(0).await;
    let signer = bed.signer(&Knife::none()).await;
    assert!(signer.step(&bed).await);
    let record: Store = bed.record();
    bed.due().await;
    let stale = record.take_outbox(NETWORK, Duration::from_secs(60), 1).await.unwrap().remove(0);
    // The other has found it displaced, and signs again.
    bed.execute("insert into nonces (account, nonce, outbox, at) select account, 7, outbox, now() from nonces").await;
    let again = "insert into submissions (outbox, round, account, nonce, body, transaction, at)
                 select outbox, round, account, 7, body, '0xother', at from submissions";
    bed.execute(again).await;
    record.fail_outbox(&stale, PaymentState::Refused, "reverted", Timestamp::now()).await.unwrap();
    assert_eq!(bed.standing(0).await.0, "Submitted", "the other one may still come through");
}
