//! What drives a network: it keeps before it sends, and goes on with what it kept.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use countersign_chain::evm::{Evm, SecretKey, Settings};
use countersign_chain::network::{Network, Payment, Polled, Receipt, Submission, Trouble, Work};
use jiff::Timestamp;
use reqwest::Url;

use crate::anvil::{Anvil, CHAIN, KEY, client};

pub const STALL: i64 = 60;

pub fn settings(anvil: &Anvil, url: &Url, confirmations: u64) -> Settings {
    Settings {
        name: "the test network".to_owned(),
        url: url.clone(),
        chain_id: CHAIN,
        router: anvil.router,
        deployed_at: 1,
        // Small, so that a search takes several.
        log_range: NonZeroU64::new(3).unwrap(),
        confirmations: NonZeroU64::new(confirmations).unwrap(),
        max_fee_per_gas: 100_000_000_000,
        max_gas: 500_000,
        stall: Duration::from_secs(60),
    }
}

pub fn network(settings: Settings) -> Evm<SecretKey> {
    network_within(settings, Duration::from_secs(10))
}

pub fn network_within(settings: Settings, timeout: Duration) -> Evm<SecretKey> {
    Evm::new(settings, client(timeout), SecretKey::parse(KEY).unwrap())
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub fn payment(n: u8, token: Option<Address>, amount: u64) -> Work {
    let to = Address::repeat_byte(0xc0);
    Work::Pay(Payment { id: B256::repeat_byte(n), token, to, amount: U256::from(amount) })
}

/// What outlasts the driver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    pub nonce: Option<u64>,
    pub submissions: Vec<Submission>,
    pub end: Option<Result<Receipt, String>>,
}

#[derive(Debug, PartialEq)]
pub enum Stop {
    Killed,
    Trouble(Trouble),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

/// How many more calls it lives for.
pub struct Life(Cell<u64>);

impl Life {
    pub fn of(calls: u64) -> Life {
        Life(Cell::new(calls))
    }

    fn tick(&self) -> Result<(), Stop> {
        let left = self.0.get().checked_sub(1).ok_or(Stop::Killed)?;
        self.0.set(left);
        Ok(())
    }
}

/// One round; killed when its life ends, which may be before or after any call and before what it gave is kept.
pub async fn round(
    network: &impl Network,
    work: &Work,
    kept: &mut Kept,
    now: Timestamp,
    life: &Life,
) -> Result<Option<Polled>, Stop> {
    if kept.end.is_some() {
        return Ok(None);
    }
    life.tick()?;
    if kept.submissions.is_empty() {
        if let Some(receipt) = network.done(work).await? {
            life.tick()?;
            kept.end = Some(Ok(receipt));
            return Ok(None);
        }
        life.tick()?;
        if kept.nonce.is_none() {
            let nonce = network.next_nonce().await?;
            life.tick()?;
            kept.nonce = Some(nonce);
        }
        prepare(network, work, kept, now, life).await?;
        return Ok(None);
    }
    let polled = network.poll(work, &kept.submissions, now).await?;
    life.tick()?;
    match polled.clone() {
        Polled::Waiting => {}
        Polled::Missing => submit(network, kept, life).await?,
        Polled::Underpriced => {
            kept.nonce = kept.submissions.last().unwrap().nonce;
            prepare(network, work, kept, now, life).await?;
        }
        Polled::Displaced => {
            kept.nonce = Some(network.next_nonce().await?);
            prepare(network, work, kept, now, life).await?;
        }
        Polled::Confirmed(receipt) => kept.end = Some(Ok(receipt)),
        Polled::Refused(why) => kept.end = Some(Err(why)),
    }
    Ok(Some(polled))
}

async fn prepare(
    network: &impl Network,
    work: &Work,
    kept: &mut Kept,
    now: Timestamp,
    life: &Life,
) -> Result<(), Stop> {
    life.tick()?;
    let submission = network.prepare(work, kept.nonce, &kept.submissions, now).await?;
    life.tick()?;
    kept.submissions.push(submission);
    submit(network, kept, life).await
}

async fn submit(network: &impl Network, kept: &Kept, life: &Life) -> Result<(), Stop> {
    life.tick()?;
    assert_eq!(network.submit(kept.submissions.last().unwrap()).await?, None);
    life.tick()
}

pub async fn step(
    network: &impl Network,
    work: &Work,
    kept: &mut Kept,
    second: i64,
) -> Result<Option<Polled>, Trouble> {
    match round(network, work, kept, at(second), &Life::of(u64::MAX)).await {
        Ok(polled) => Ok(polled),
        Err(Stop::Trouble(trouble)) => Err(trouble),
        Err(Stop::Killed) => unreachable!("it lives forever"),
    }
}

/// How many times the router's log has this payment, or anchor.
pub async fn times(anvil: &Anvil, work: &Work) -> usize {
    let key = match work {
        Work::Anchor(digest) => B256::from(*digest),
        Work::Pay(payment) => payment.id,
    };
    anvil.logged().await.iter().filter(|log| log["topics"][2] == key.to_string()).count()
}
