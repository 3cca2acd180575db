//! What payments and anchors ask of a network outside, whatever it is. Effects are made in one order: a nonce is claimed
//! and kept, a submission is prepared and kept, and only then does anything leave; so whoever is killed in between goes
//! on with what is kept.

use std::future::Future;

use alloy_primitives::{Address, B256, U256};
pub use countersign_core::outbox::{Receipt, Submission};
use countersign_core::payment::PaymentNetwork;
use jiff::Timestamp;
use thiserror::Error;

/// What is to be done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The SHA-256 of a checkpoint is to be seen by everybody.
    Anchor([u8; 32]),
    Pay(Payment),
}

/// Money that is to be sent, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// By which the router refuses a second one.
    pub id: B256,
    /// The ERC-20 token's contract; `None` of the network's own coin.
    pub token: Option<Address>,
    pub to: Address,
    /// In the smallest unit.
    pub amount: U256,
}

impl From<&countersign_core::payment::Payment> for Payment {
    fn from(payment: &countersign_core::payment::Payment) -> Payment {
        let countersign_core::payment::Payment { id, token, to, amount, .. } = payment;
        Payment { id: id.0, token: *token, to: *to, amount: amount.0 }
    }
}

/// How something that left stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It is there, and not final yet.
    Waiting,
    /// The network does not know it: the newest submission must be sent again, just as it is.
    Missing,
    /// It has waited too long for what it offers: prepare again with the same nonce.
    Underpriced,
    /// It can never happen any more, as its place was taken: prepare again with a nonce (or tick) of its own.
    Displaced,
    Confirmed(Receipt),
    /// The network has refused it for good, and nothing was done. Says why, and what to do.
    Refused(String),
}

/// Nothing is known to have been done by this call, and it can be tried again unless it is `Permanent`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// It did not answer, or not as it should.
    #[error("{0}")]
    Unavailable(String),
    /// It is another network than the one of the settings: nothing must be signed for it.
    #[error("{0}")]
    WrongNetwork(String),
    /// What is asked for cannot be done as things are: no balance, no allowance, fees above what the settings allow.
    #[error("{0}")]
    NotNow(String),
    /// It never can: a bad recipient, a contract that is none.
    #[error("{0}")]
    Permanent(String),
}

/// One network with one account. No method changes anything here; only `submit` changes something there.
pub trait Network: Send + Sync {
    /// Whose nonces must be claimed first; `None` where it counts none.
    fn account(&self) -> Option<String>;

    /// What its name stands for where it pays; `None` where it pays nothing.
    fn stands_for(&self) -> Option<PaymentNetwork> {
        None
    }

    /// The nonce that the account would use next, as the chain has it now (latest block).
    fn next_nonce(&self) -> impl Future<Output = Result<u64, Trouble>> + Send;

    /// Whether it was done before by anybody, under the same id; asked before anything is signed, so that a record that
    /// was put back from a backup does not pay again. `None` where it was not, or nobody could know.
    fn done(&self, work: &Work) -> impl Future<Output = Result<Option<Receipt>, Trouble>> + Send;

    /// Signs. `before` are the submissions of this work so far, the newest last; one with the same nonce is replaced.
    fn prepare(
        &self,
        work: &Work,
        nonce: Option<u64>,
        before: &[Submission],
        now: Timestamp,
    ) -> impl Future<Output = Result<Submission, Trouble>> + Send;

    /// Sends what was kept. What the network knows already is no error. `Some` where the answer is final by itself.
    fn submit(&self, submission: &Submission) -> impl Future<Output = Result<Option<Receipt>, Trouble>> + Send;

    /// How it stands, by all of its submissions, the newest last; never empty.
    fn poll(
        &self,
        work: &Work,
        submissions: &[Submission],
        now: Timestamp,
    ) -> impl Future<Output = Result<Polled, Trouble>> + Send;
}
