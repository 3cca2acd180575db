//! A driver that is killed anywhere, on a chain that loses blocks, with a node that lies: whatever happens, it pays once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use countersign_chain::network::{Network, Receipt, Work};
use serde_json::json;

use crate::anvil::Anvil;
use crate::driver::{Kept, Life, STALL, Stop, at, network, network_within, payment, round, settings, times};
use crate::proxy::{Lie, Proxy};

/// Blocks that go are fewer.
const CONFIRMATIONS: u64 = 4;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// Says its seed where it is dropped by a panic.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: run it again with COUNTERSIGN_TEST_SEED={0}", self.0);
        }
    }
}

fn lie(dice: &mut Dice, asked: &str, liar: bool) -> Lie {
    if !liar || dice.below(4) > 0 {
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

/// That the chain has it where the receipt says, and deep enough.
async fn is_deep(anvil: &Anvil, work: &Work, receipt: &Receipt, confirmations: u64) {
    assert_eq!(times(anvil, work).await, 1, "claimed: {receipt:?}");
    let found = anvil.rpc("eth_getTransactionReceipt", json!([receipt.transaction])).await;
    assert_eq!(found["status"], "0x1", "{found}");
    let place = u64::from_str_radix(found["blockNumber"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(receipt.place, Some(place));
    assert!(anvil.height().await - place + 1 >= confirmations);
}

async fn run(anvil: &Anvil, n: u8, seed: u64) -> (usize, usize) {
    let _seed = Seed(seed);
    let mut dice = Dice(seed);
    let state = Arc::new(Mutex::new((Dice(dice.roll()), false)));
    let proxy = {
        let state = Arc::clone(&state);
        Proxy::start(anvil, move |asked| {
            let (dice, liar) = &mut *state.lock().unwrap();
            lie(dice, asked, *liar)
        })
        .await
    };
    let network = network_within(settings(anvil, &proxy.url, CONFIRMATIONS), Duration::from_secs(5));
    let amount = 1_000 + u64::from(n);
    let work = payment(n, None, amount);
    let to = Address::repeat_byte(0xc0);
    let before = anvil.balance(to).await;
    let (mut kept, mut backup, mut second, mut kills) = (Kept::default(), Kept::default(), 0, 0);
    for turn in 0.. {
        assert!(turn < 150, "it never ends: {kept:?}");
        let wild = turn < 40;
        state.lock().unwrap().1 = wild;
        // Each life is a process: it knows what was kept, and nothing else.
        let life = Life::of(if wild { dice.below(9) } else { u64::MAX });
        match round(&network, &work, &mut kept, at(second), &life).await {
            Ok(_) | Err(Stop::Trouble(_)) => {}
            Err(Stop::Killed) => kills += 1,
        }
        match &kept.end {
            Some(Ok(receipt)) => {
                is_deep(anvil, &work, receipt, CONFIRMATIONS).await;
                if !wild {
                    break;
                }
                // The record is lost, and the work comes again.
                kept = Kept::default();
            }
            Some(Err(why)) => panic!("refused: {why}"),
            None => {}
        }
        second += dice.below(STALL as u64) as i64;
        if wild {
            match dice.below(12) {
                0..=3 => anvil.mine(1 + dice.below(CONFIRMATIONS)).await,
                4 => {
                    anvil.mine(CONFIRMATIONS).await;
                    anvil.reorg(1 + dice.below(CONFIRMATIONS - 1)).await;
                }
                // Somebody else uses the same key.
                5 => {
                    let request = json!([{ "from": anvil.deployer, "to": Address::repeat_byte(0xdd), "value": "0x1", "gas": "0x5208" }]);
                    let _ = anvil.ask("eth_sendTransaction", request).await;
                }
                6 => anvil.base_fee(1_000_000_000 * u128::from(1 + dice.below(120))).await,
                7 => {
                    anvil.rpc("anvil_dropAllTransactions", json!([])).await;
                }
                // A record that is put back from a backup.
                8 => kept = backup.clone(),
                9 => backup = kept.clone(),
                _ => {}
            }
        } else {
            anvil.base_fee(1_000_000_000).await;
            anvil.mine(CONFIRMATIONS).await;
        }
    }
    assert_eq!(times(anvil, &work).await, 1);
    assert_eq!(anvil.balance(to).await - before, U256::from(amount));
    assert_eq!(network.done(&work).await.unwrap(), kept.end.unwrap().ok());
    (proxy.lies(), kills)
}

#[tokio::test]
async fn whatever_happens_it_is_paid_once() {
    let one = std::env::var("COUNTERSIGN_TEST_SEED").ok().map(|seed| vec![seed.parse().unwrap()]);
    let seeds = one.clone().unwrap_or_else(|| (1..=12).collect::<Vec<u64>>());
    let (mut lies, mut kills) = (0, 0);
    for (n, seed) in seeds.iter().enumerate() {
        let anvil = Anvil::start().await;
        let (lied, killed) = run(&anvil, n as u8 + 1, *seed).await;
        lies += lied;
        kills += killed;
    }
    println!("{} runs, {lies} lies, {kills} kills", seeds.len());
    // One alone may be spared.
    assert!(one.is_some() || (lies > seeds.len() && kills > seeds.len()));
}

/// An honest node, and one death at each place where it can die, before and after each call.
#[tokio::test]
async fn killed_at_any_place_it_is_paid_once() {
    let anvil = Anvil::start().await;
    let network = network(settings(&anvil, &anvil.url, 2));
    let mut places = 0;
    for place in 0.. {
        let work = payment(place, None, 5);
        let (mut kept, first) = (Kept::default(), Life::of(u64::from(place)));
        let mut killed = false;
        while !killed && kept.end.is_none() {
            match round(&network, &work, &mut kept, at(0), &first).await {
                Ok(_) => anvil.mine(1).await,
                Err(Stop::Killed) => killed = true,
                Err(Stop::Trouble(trouble)) => panic!("{place}: {trouble}"),
            }
        }
        if !killed {
            break;
        }
        places += 1;
        let forever = Life::of(u64::MAX);
        while kept.end.is_none() {
            round(&network, &work, &mut kept, at(0), &forever).await.unwrap();
            anvil.mine(1).await;
        }
        is_deep(&anvil, &work, kept.end.unwrap().as_ref().unwrap(), 2).await;
        assert_eq!(kept.submissions.len(), 1, "{place}");
    }
    println!("killed at {places} places");
    assert!(places >= 10);
}
