//! Nodes that are late, stutter, lie or forget, chains that change their mind, and clocks that are wrong.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::anvil::GWEI;
use crate::bed::{Bed, End, STALL, Terms, payments};
use crate::dice::Dice;
use crate::knife::Knife;
use crate::node::Lie;
use crate::truth::Standing;

/// The first request of each method.
fn first(lie: Lie) -> impl FnMut(&str) -> Lie + Send + 'static {
    let mut seen = BTreeSet::new();
    move |method| if seen.insert(method.to_owned()) { lie.clone() } else { Lie::None }
}

/// Its end, and that all of it was made.
async fn all_is_made(bed: &Bed) -> Standing {
    bed.calm().await;
    let standing = bed.truth().await;
    assert_eq!((standing.paid, standing.unpaid), (bed.payments.len(), 0));
    standing
}

/// Rounds in which nothing gets into a block.
async fn still(bed: &Bed, rounds: usize) {
    let signer = bed.signer(&Knife::none()).await;
    for _ in 0..rounds {
        bed.due().await;
        assert!(signer.step(bed).await);
    }
}

fn final_after(confirmations: u64) -> Terms {
    Terms { confirmations, anchors: true, ..Terms::default() }
}

#[tokio::test]
async fn a_node_that_answers_too_late() {
    let timeout = Duration::from_millis(250);
    let bed = Bed::new(payments(4), Terms { timeout, ..final_after(2) }).await;
    for n in 0..4 {
        bed.ask(n).await;
        bed.checkpoint().await;
        bed.node.choose(first(Lie::Late));
        assert_eq!(bed.signer(&Knife::none()).await.work(&bed).await, End::Over);
    }
    assert!(bed.node.lies() >= 40, "{}", bed.node.lies());
    let standing = all_is_made(&bed).await;
    assert_eq!((standing.anchored, standing.reverted), (4, 0));
}

#[tokio::test]
async fn a_node_that_gets_everything_twice() {
    let bed = Bed::new(payments(5), final_after(2)).await;
    bed.ask_all().await;
    bed.checkpoint().await;
    bed.node.choose(|_| Lie::Twice);
    assert_eq!(bed.signer(&Knife::none()).await.work(&bed).await, End::Over);
    let standing = all_is_made(&bed).await;
    assert_eq!((standing.anchored, standing.reverted), (1, 0));
}

#[tokio::test]
async fn a_node_that_answers_wrongly_or_not_at_all() {
    let lies = [
        Lie::Answer(json!(null)),
        Lie::Answer(json!("0x")),
        Lie::Digit(1),
        Lie::Digit(17),
        Lie::Digit(400),
        Lie::Html,
        Lie::Failing,
        Lie::WrongId,
        Lie::Lost,
        Lie::Error("internal error"),
    ];
    let bed = Bed::new(payments(lies.len()), final_after(3)).await;
    for (n, lie) in lies.iter().enumerate() {
        bed.ask(n).await;
        bed.checkpoint().await;
        let mut tell = first(lie.clone());
        // Too little gas would be an honest refusal.
        bed.node.choose(move |method| if method == "eth_estimateGas" { Lie::None } else { tell(method) });
        assert_eq!(bed.signer(&Knife::none()).await.work(&bed).await, End::Over, "{lie:?}");
    }
    assert!(bed.node.lies() >= 100, "{}", bed.node.lies());
    assert_eq!(all_is_made(&bed).await.anchored, lies.len());
}

#[tokio::test]
async fn a_node_of_another_chain_is_sent_nothing() {
    let bed = Bed::new(payments(2), final_after(1)).await;
    bed.ask(0).await;
    bed.node.choose(|method| if method == "eth_chainId" { Lie::Answer(json!("0x1")) } else { Lie::None });
    still(&bed, 4).await;
    let (state, why) = bed.standing(0).await;
    assert!(state == "Waiting" && why.contains("is of chain 1"), "{state}: {why}");
    assert_eq!(bed.scalar("select (select count(*) from submissions) + (select count(*) from nonces)").await, 0);
    // Nor is what was signed before.
    bed.node.choose(|method| if method == "eth_sendRawTransaction" { Lie::Failing } else { Lie::None });
    still(&bed, 1).await;
    assert_eq!(bed.signed(0).await.len(), 1);
    bed.node.choose(|method| if method == "eth_chainId" { Lie::Answer(json!("0x1")) } else { Lie::None });
    still(&bed, 4).await;
    assert_eq!(bed.anvil.rpc("txpool_status", json!([])).await["pending"], "0x0");
    bed.ask(1).await;
    all_is_made(&bed).await;
}

#[tokio::test]
async fn base_fees_above_the_cap_and_back() {
    let bed = Bed::new(payments(4), final_after(2)).await;
    bed.ask(0).await;
    bed.ask(1).await;
    still(&bed, 1).await;
    let signed = bed.signed(0).await;
    assert_eq!(signed.len(), 1);
    // What waits for a block now offers too little, and what comes now is not even signed.
    bed.anvil.base_fee(1_000 * GWEI).await;
    bed.anvil.mine(1).await;
    bed.ask(2).await;
    let signer = bed.signer(&Knife::none()).await;
    for _ in 0..6 {
        assert!(signer.round(&bed).await);
        bed.ahead.fetch_add(i64::try_from(STALL).unwrap(), Ordering::SeqCst);
    }
    assert_eq!(bed.signed(0).await, signed);
    assert_eq!(bed.signed(2).await, []);
    let (state, why) = bed.standing(2).await;
    assert!(state == "Waiting" && why.contains("maxFeePerGas allows"), "{state}: {why}");
    bed.anvil.base_fee(GWEI).await;
    bed.ask(3).await;
    bed.checkpoint().await;
    assert_eq!(all_is_made(&bed).await.reverted, 0);
}

#[tokio::test]
async fn blocks_that_go_away_after_what_was_sent_and_after_what_was_in_them() {
    for depth in [1, 10] {
        let bed = Bed::new(payments(3), final_after(12)).await;
        bed.anvil.mine(30).await;
        bed.ask(0).await;
        bed.ask(1).await;
        bed.checkpoint().await;
        still(&bed, 1).await;
        bed.anvil.reorg(depth).await;
        still(&bed, 2).await;
        for again in 0..2 {
            bed.anvil.mine(1).await;
            still(&bed, 2).await;
            bed.anvil.mine(depth - 1).await;
            assert_eq!(bed.anvil.nonce().await, 3, "in a block, {again}");
            still(&bed, 1).await;
            bed.anvil.reorg(depth).await;
            assert_eq!(bed.anvil.nonce().await, 0);
            still(&bed, 2).await;
        }
        bed.ask(2).await;
        let standing = all_is_made(&bed).await;
        assert_eq!((standing.anchored, standing.reverted), (1, 0));
        assert_eq!(bed.signed(0).await.len(), 1, "what was signed is sent again, just as it is");
    }
}

/// The whole state goes back, as where a node is put back from a backup: even the height is lower.
#[tokio::test]
async fn a_chain_that_goes_back() {
    let bed = Bed::new(payments(4), final_after(6)).await;
    bed.anvil.mine(5).await;
    bed.ask(0).await;
    bed.ask(1).await;
    let before = bed.anvil.rpc("evm_snapshot", json!([])).await;
    let signer = bed.signer(&Knife::none()).await;
    for _ in 0..4 {
        assert!(signer.round(&bed).await);
    }
    bed.anvil.rpc("evm_revert", json!([before])).await;
    assert_eq!(bed.anvil.nonce().await, 0);
    bed.ask(2).await;
    for _ in 0..4 {
        assert!(signer.round(&bed).await);
    }
    bed.ask(3).await;
    bed.checkpoint().await;
    all_is_made(&bed).await;
}

#[tokio::test]
async fn somebody_else_uses_the_same_key() {
    let bed = Bed::new(payments(6), final_after(4)).await;
    // Before any is claimed.
    bed.anvil.taken(0).await;
    bed.anvil.mine(1).await;
    bed.ask(0).await;
    bed.ask(1).await;
    still(&bed, 1).await;
    assert_eq!(bed.signed(0).await[0].0, 1);
    // In place of what waits for a block: the node takes the better offer.
    bed.anvil.taken(1).await;
    bed.anvil.mine(1).await;
    still(&bed, 2).await;
    // Between what is claimed and what is sent.
    bed.ask(2).await;
    bed.ask(3).await;
    bed.node.choose(|method| if method == "eth_sendRawTransaction" { Lie::Failing } else { Lie::None });
    still(&bed, 1).await;
    let next = bed.anvil.nonce().await;
    bed.anvil.taken(next).await;
    bed.anvil.mine(1).await;
    bed.node.honest();
    still(&bed, 1).await;
    // Beyond all that is claimed.
    bed.anvil.taken(40).await;
    bed.ask(4).await;
    bed.ask(5).await;
    bed.checkpoint().await;
    let standing = all_is_made(&bed).await;
    assert_eq!((standing.anchored, standing.strange, standing.reverted), (1, 3, 0));
}

#[tokio::test]
async fn a_node_that_forgets_what_waits() {
    let bed = Bed::new(payments(5), final_after(2)).await;
    bed.ask_all().await;
    bed.checkpoint().await;
    still(&bed, 1).await;
    for _ in 0..3 {
        bed.anvil.rpc("anvil_dropAllTransactions", json!([])).await;
        assert_eq!(bed.anvil.rpc("txpool_status", json!([])).await["pending"], "0x0");
        still(&bed, 1).await;
    }
    // One in the middle alone: those after it wait for its nonce.
    let (_, middle) = bed.signed(2).await.remove(0);
    bed.anvil.rpc("anvil_dropTransaction", json!([middle])).await;
    bed.anvil.mine(1).await;
    assert_eq!(bed.anvil.nonce().await, 2);
    let standing = all_is_made(&bed).await;
    assert_eq!((standing.anchored, standing.reverted), (1, 0));
    assert_eq!(bed.scalar("select count(*) from submissions").await, 6, "nothing is signed again");
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_between_rounds() {
    let bed = Bed::new(payments(12), Terms { anchors: true, ..Terms::default() }).await;
    let mut dice = Dice(7);
    bed.checkpoint().await;
    for n in 0..12 {
        bed.ask(n).await;
        let hours = i64::try_from(dice.below(3)).unwrap() - 1;
        bed.ahead.store(hours * 3600, Ordering::SeqCst);
        assert!(bed.signer(&Knife::none()).await.round(&bed).await);
        if n % 4 == 0 {
            // Nothing gets into a block meanwhile, and what waits seems to have waited for an hour.
            still(&bed, 1).await;
            bed.ahead.fetch_add(3600, Ordering::SeqCst);
            still(&bed, 1).await;
        }
    }
    bed.ahead.store(0, Ordering::SeqCst);
    assert_eq!(all_is_made(&bed).await.reverted, 0);
}
