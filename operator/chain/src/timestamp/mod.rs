//! Time stamps (RFC 3161, RFC 5816): an authority signs that it has seen a digest, and when. A token proves that by
//! itself, offline, to whoever trusts one of the authority's roots.
//!
//! What a token proves is as old as its time: certificates have to be valid then, not now. Revocation is not looked
//! up; of an authority whose key is lost, take the root away.

mod algorithm;
mod answer;
mod authority;
mod chain;
mod ess;
mod token;
mod verify;
mod wire;

pub use authority::{Authority, Settings};
pub use chain::{Roots, RootsError};
pub use der::asn1::ObjectIdentifier;
pub use verify::{Stamp, StampError, claimed, verify};
