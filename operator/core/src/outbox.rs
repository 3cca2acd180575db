//! What leaves for a network outside, as it is kept before it does, and what is kept once it is final.

use alloy_primitives::U256;
use jiff::Timestamp;

/// Something signed. It is kept before it leaves, so that whoever is killed in between sends the same again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What leaves, byte for byte.
    pub body: Vec<u8>,
    /// What the network will know it by: a transaction's hash or id; of a time stamp the hash of the request.
    pub transaction: String,
    /// `None` where the network counts no nonces.
    pub nonce: Option<u64>,
    /// What was offered for each unit of gas, where that is how it is priced (wei).
    pub max_fee: Option<u128>,
    /// What of it is offered to whoever makes the block, for each unit of gas (wei); `None` where `max_fee` is.
    pub tip: Option<u128>,
    /// The block or tick at which it was prepared or for which it is meant, where that matters.
    pub place: Option<u64>,
    /// When it was prepared (UTC).
    pub at: Timestamp,
}

/// That it is done, and final by the network's measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction's id there; of a time stamp its serial number in hexadecimal digits.
    pub transaction: String,
    /// The block or tick; `None` of a time stamp.
    pub place: Option<u64>,
    /// When, by the network's own clock.
    pub at: Timestamp,
    /// What it cost: gas times its price, in wei.
    pub fee: Option<U256>,
    /// What `verify` needs to prove it offline. Its format is the network's.
    pub evidence: Vec<u8>,
}
