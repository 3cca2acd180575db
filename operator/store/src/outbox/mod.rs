//! The outbox: payments and anchors on their way to a network outside. Whoever takes an item has it for a while, by
//! PostgreSQL's clock: no row is locked meanwhile, and what was taken by a signer that went away is taken again.

mod anchors;
mod drive;
mod payments;
mod read;

pub use drive::{Claim, Item, Limit, Work};
pub use payments::{PaymentProblem, RequestedPayment};
pub use read::{OutboxItem, OutboxStanding};
