//! Anchors on Qubic (<https://docs.qubic.org>). A transaction is valid in one tick only: once that has passed without
//! it, it can never be included any more, and another one for a later tick cannot double it. There are no nonces and no
//! fees.
//!
//! The source must have held QU at some time, or the network does not know it and drops what it sends. It keeps one
//! transaction of each source at a time, the one with the highest tick: a second anchor that is sent while a first one
//! waits takes its place, and the first one is shown as displaced.

mod curve;
mod evidence;
mod field;
mod hash;
mod identity;
mod key;
mod node;
mod scalar;
mod transaction;
#[cfg(test)]
mod vectors;

use std::num::NonZeroU32;

use jiff::Timestamp;
use reqwest::{Client, Url};
use thiserror::Error;

pub use evidence::{EvidenceError, Proved, verify};
pub use identity::{Identity, IdentityError};
pub use key::{Key, SeedError};
pub use transaction::{Amount, AmountError, TAG, Transaction, TransactionError};

use crate::network::{Network, Polled, Receipt, Submission, Trouble, Work};
use node::{Included, Node};

/// Ticks between the current and the last archived one, some hours, above which one of them is taken for wrong: nothing
/// could be anchored until a tick that is years away.
const FAR: u32 = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Below it are `live/v1` and `query/v1`, as below `https://rpc.qubic.org`.
    pub url: Url,
    /// To whom anchors are sent; `None` is the source itself, so that the amount is not lost, everybody finds them
    /// below one identity, and no input is ever taken for one of the network's own, as at the zero address.
    pub destination: Option<Identity>,
    /// In ticks from the current one on; Qubic advises 15 to 20.
    pub tick_offset: NonZeroU32,
    /// Of no meaning to the network where the destination is no contract.
    pub input_type: u16,
    pub amount: Amount,
    /// How many ticks must be archived above the transaction's until what is told of it is believed for good.
    pub final_ticks: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    #[error("the destination {0} is a contract or the zero address, where an anchor would be taken for a call")]
    Contract(Identity),
}

/// The network, with one key. Its `Debug` shows the key's identity only.
#[derive(Debug)]
pub struct Qubic {
    client: Client,
    settings: Settings,
    destination: Identity,
    key: Key,
}

/// What a node says of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inclusion {
    /// It was included, in a tick of this time, and enough ticks have followed.
    Included(Timestamp),
    /// Not enough ticks are archived to tell.
    Unknown,
    /// It was not included, and never will be.
    Absent,
}

/// Asks a node whether a transaction that was proved is in its tick. `final_ticks` is as in [`Settings`].
pub async fn confirm(client: &Client, url: &Url, final_ticks: u32, proved: &Proved) -> Result<Inclusion, Trouble> {
    let node = Node { client, url };
    let Proved { transaction, tick, source: _ } = proved;
    if !is_final(*tick, final_ticks, node.archived().await?) {
        return Ok(Inclusion::Unknown);
    }
    let found = node.find(transaction, *tick).await?;
    Ok(found.map_or(Inclusion::Absent, |Included { at, money_flew: _ }| Inclusion::Included(at)))
}

impl Qubic {
    pub fn new(client: Client, settings: Settings, key: Key) -> Result<Qubic, SettingsError> {
        let destination = settings.destination.unwrap_or(key.identity());
        if destination.is_contract() {
            return Err(SettingsError::Contract(destination));
        }
        Ok(Qubic { client, settings, destination, key })
    }

    /// Who signs.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    fn node(&self) -> Node<'_> {
        Node { client: &self.client, url: &self.settings.url }
    }

    fn is_final(&self, tick: u32, archived: u32) -> bool {
        is_final(tick, self.settings.final_ticks, archived)
    }
}

fn is_final(tick: u32, final_ticks: u32, archived: u32) -> bool {
    u64::from(archived) >= u64::from(tick) + u64::from(final_ticks)
}

impl Network for Qubic {
    fn account(&self) -> Option<String> {
        None
    }

    async fn next_nonce(&self) -> Result<u64, Trouble> {
        Err(Trouble::Permanent("Qubic counts no nonces".to_owned()))
    }

    /// Never for an anchor: its id depends on the tick, so nobody could know which to ask for; and one too many harms
    /// nobody.
    async fn done(&self, work: &Work) -> Result<Option<Receipt>, Trouble> {
        anchored(work).map(|_| None)
    }

    async fn prepare(
        &self,
        work: &Work,
        _nonce: Option<u64>,
        before: &[Submission],
        now: Timestamp,
    ) -> Result<Submission, Trouble> {
        let digest = anchored(work)?;
        let last = before
            .iter()
            .map(|submission| read(submission, digest))
            .try_fold(0, |last, transaction| transaction.map(|transaction| transaction.tick().max(last)))?;
        let archived = self.node().archived().await?;
        if !before.is_empty() && !self.is_final(last, archived) {
            return Err(Trouble::NotNow(format!("the transaction for tick {last} can still be found included")));
        }
        let current = self.node().tick().await?;
        if current.abs_diff(archived) > FAR {
            return Err(Trouble::Unavailable(format!(
                "the node says that the network is in tick {current}, and has archived tick {archived}"
            )));
        }
        let tick = current.checked_add(self.settings.tick_offset.get()).filter(|tick| *tick > last);
        let tick = tick.ok_or_else(|| {
            Trouble::Unavailable(format!("no transaction can be meant for a tick that soon after {current}"))
        })?;
        let Settings { url: _, destination: _, tick_offset: _, input_type, amount, final_ticks: _ } = self.settings;
        let transaction = Transaction::sign(&self.key, self.destination, amount, tick, input_type, *digest);
        Ok(Submission {
            body: transaction.to_bytes(),
            transaction: transaction.id(),
            nonce: None,
            max_fee: None,
            tip: None,
            place: Some(tick.into()),
            at: now,
        })
    }

    /// Sends nothing where the tick has passed, as `poll` then says what became of it.
    async fn submit(&self, submission: &Submission) -> Result<Option<Receipt>, Trouble> {
        let transaction = kept(submission)?;
        if self.node().tick().await? < transaction.tick() {
            self.node().broadcast(&transaction).await?;
        }
        Ok(None)
    }

    /// Before its tick no node tells whether it knows a transaction: until then it is `Missing`, and sending it again
    /// does no harm.
    async fn poll(&self, work: &Work, submissions: &[Submission], _now: Timestamp) -> Result<Polled, Trouble> {
        let digest = anchored(work)?;
        // Asked first, so that what is not found below is not there.
        let archived = self.node().archived().await?;
        let mut last = 0;
        for submission in submissions.iter().rev() {
            let transaction = read(submission, digest)?;
            let tick = transaction.tick();
            last = tick.max(last);
            if tick > archived {
                continue;
            }
            if let Some(included) = self.node().find(&submission.transaction, tick).await? {
                return Ok(match self.is_final(tick, archived) {
                    true => outcome(&transaction, included),
                    false => Polled::Waiting,
                });
            }
        }
        if self.is_final(last, archived) {
            return Ok(Polled::Displaced);
        }
        match self.node().tick().await? < last {
            true => Ok(Polled::Missing),
            false => Ok(Polled::Waiting),
        }
    }
}

/// What became of a transaction that was included for good.
fn outcome(transaction: &Transaction, included: Included) -> Polled {
    let Included { at, money_flew } = included;
    match (transaction.amount(), money_flew) {
        (Amount::One, false) => Polled::Refused(format!(
            "the transaction is in tick {} and moved nothing: {} must hold 1 QU, or the amount be set to 0",
            transaction.tick(),
            transaction.source()
        )),
        (Amount::One, true) | (Amount::Nothing, true | false) => Polled::Confirmed(Receipt {
            transaction: transaction.id(),
            place: Some(transaction.tick().into()),
            at,
            fee: None,
            evidence: evidence::write(transaction),
        }),
    }
}

fn anchored(work: &Work) -> Result<&[u8; 32], Trouble> {
    match work {
        Work::Anchor(digest) => Ok(digest),
        Work::Pay(_) => Err(Trouble::Permanent("payments are not made on Qubic".to_owned())),
    }
}

/// The transaction of a submission that was kept for this digest.
fn read(submission: &Submission, digest: &[u8; 32]) -> Result<Transaction, Trouble> {
    let transaction = kept(submission)?;
    match transaction.digest() == digest {
        true => Ok(transaction),
        false => {
            Err(Trouble::Permanent(format!("the kept transaction {} anchors another digest", submission.transaction)))
        }
    }
}

fn kept(submission: &Submission) -> Result<Transaction, Trouble> {
    let bad = |why: String| Trouble::Permanent(format!("the kept transaction {}: {why}", submission.transaction));
    let transaction = Transaction::parse(&submission.body).map_err(|error| bad(error.to_string()))?;
    match transaction.id() == submission.transaction {
        true => Ok(transaction),
        false => Err(bad("its bytes have another id".to_owned())),
    }
}
