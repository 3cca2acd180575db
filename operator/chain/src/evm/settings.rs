//! What is known of a network beforehand.

use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::Address;
use reqwest::Url;

/// Not to be shown, as its address may hold a secret.
#[derive(Clone)]
pub struct Settings {
    /// For those who read what went wrong.
    pub name: String,
    /// The node's.
    pub url: Url,
    pub chain_id: u64,
    /// The contract of contracts/Router.sol.
    pub router: Address,
    /// The block of the router's deployment, before which there is no log of it.
    pub deployed_at: u64,
    /// How many blocks the node is asked for logs of at once.
    pub log_range: NonZeroU64,
    /// How many blocks make it final, its own among them.
    pub confirmations: NonZeroU64,
    /// Wei for a unit of gas, the tip among it.
    pub max_fee_per_gas: u128,
    /// Units of gas for one transaction: a recipient's contract can use as much as it is given.
    pub max_gas: u64,
    /// After this, what is not in a block is replaced by a better offer.
    pub stall: Duration,
}
