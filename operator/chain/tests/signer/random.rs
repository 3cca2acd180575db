//! Everything that can go wrong, one or two at a time, drawn at random; then it is calm, and all ends well.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::anvil::GWEI;
use crate::bed::{Bed, Signer, Terms, payments};
use crate::dice::{Dice, Seed};
use crate::knife::{Cut, Knife, Moment};
use crate::node::Lie;

const PAYMENTS: usize = 20;
const ROUNDS: usize = 400;
/// For the wild part; whatever it has not come to by then it leaves.
const MOST: Duration = Duration::from_secs(30);
/// Blocks that go are fewer.
const CONFIRMATIONS: u64 = 4;

fn lie(dice: &mut Dice, asked: &str) -> Lie {
    if dice.below(5) > 0 {
        return Lie::None;
    }
    // Too little gas would be an honest refusal.
    let changeable = asked != "eth_estimateGas";
    match dice.below(8) {
        0 => Lie::Lost,
        1 => Lie::Twice,
        2 => Lie::Html,
        3 => Lie::Failing,
        4 => Lie::Error("internal error"),
        5 if changeable => Lie::Answer(json!(null)),
        6 | 7 if changeable => Lie::Digit(dice.roll() as usize),
        _ => Lie::WrongId,
    }
}

fn knife(dice: &mut Dice) -> Arc<Knife> {
    let moment = if dice.below(2) == 0 { Moment::Before } else { Moment::After };
    let cut = if dice.below(3) == 0 { Cut::Line } else { Cut::Life };
    Knife::new(1 + u32::try_from(dice.below(40)).unwrap(), moment, cut)
}

/// One thing that goes wrong, outside of the drivers.
async fn fault(bed: &Bed, dice: &mut Dice) {
    match dice.below(10) {
        0 => bed.anvil.reorg(1 + dice.below(CONFIRMATIONS - 1)).await,
        1 => drop(bed.anvil.rpc("anvil_dropAllTransactions", json!([])).await),
        2 => {
            let next = bed.anvil.nonce().await + dice.below(3);
            let request = json!([{ "from": crate::anvil::PAYER, "to": format!("0x{}", "dd".repeat(20)), "value": "0x1",
                "gas": "0x5208", "nonce": format!("{next:#x}") }]);
            // It may offer too little, or come too late.
            let _ = bed.anvil.ask("eth_sendTransaction", request).await;
        }
        3 => bed.anvil.base_fee(GWEI * u128::from(1 + dice.below(150))).await,
        4 => {
            let hours = i64::try_from(dice.below(3)).unwrap() - 1;
            bed.ahead.store(hours * 3600, Ordering::SeqCst);
        }
        5 => bed.ahead.store(120, Ordering::SeqCst),
        6 | 7 => {
            let mut seed = Dice(dice.roll());
            bed.node.choose(move |asked| lie(&mut seed, asked));
        }
        8 => bed.node.honest(),
        _ => bed.anvil.mine(CONFIRMATIONS).await,
    }
}

#[tokio::test]
async fn whatever_goes_wrong_all_ends_well() {
    let drawn = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let seed = std::env::var("COUNTERSIGN_SEED").map_or_else(|_| drawn(), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let _seed = Seed(seed);
    let mut dice = Dice(seed);
    let terms = Terms { confirmations: CONFIRMATIONS, anchors: true, ..Terms::default() };
    let bed = Bed::new(payments(PAYMENTS), terms).await;
    bed.anvil.mine(10).await;
    let mut signers: Vec<Signer> = Vec::new();
    let (mut asked, mut kills, mut faults) = (0, 0, 0);
    let begun = Instant::now();
    for round in 0..ROUNDS {
        if begun.elapsed() > MOST {
            println!("{round} of {ROUNDS} rounds");
            break;
        }
        if asked < PAYMENTS && dice.below(12) == 0 {
            bed.ask(asked).await;
            asked += 1;
        }
        if dice.below(8) == 0 {
            bed.checkpoint().await;
        }
        if dice.below(3) == 0 {
            for _ in 0..=dice.below(2) {
                fault(&bed, &mut dice).await;
                faults += 1;
            }
        }
        if dice.below(8) == 0 {
            signers.clear();
        }
        while signers.len() < 2 {
            let knife = if dice.below(3) > 0 { knife(&mut dice) } else { Knife::none() };
            signers.push(bed.signer(&knife).await);
        }
        // Mostly one; else both at once, and each takes what the other has in hand.
        let both = dice.below(4) == 0;
        let [one, other] = &signers[..] else { panic!() };
        let lives = if both { tokio::join!(one.round(&bed), other.round(&bed)) } else { (one.round(&bed).await, true) };
        kills += usize::from(!lives.0) + usize::from(!lives.1);
        let mut keep = [lives.0, lives.1].into_iter();
        signers.retain(|_| keep.next().unwrap());
    }
    drop(signers);
    for n in asked..PAYMENTS {
        bed.ask(n).await;
    }
    // Beyond all that was signed ahead of the time: what waits is replaced by its age.
    bed.ahead.store(2 * 3600, Ordering::SeqCst);
    bed.anvil.base_fee(GWEI).await;
    bed.calm().await;
    let standing = bed.truth().await;
    println!("{faults} faults, {kills} kills, {} lies, in {:?}: {standing:?}", bed.node.lies(), begun.elapsed());
    assert_eq!((standing.paid, standing.unpaid), (PAYMENTS, 0));
    assert!(faults >= 10 && kills >= 5, "{faults} {kills}");
}
