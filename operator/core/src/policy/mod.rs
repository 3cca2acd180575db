//! Policy: which rules bear on a step, and what they say of it.
//!
//! Deny > RequireApproval > Downgrade > Allow; no match denies, and so does every error.

mod partial;
mod set;
mod verdict;

pub(crate) use partial::{NOT_KNOWN, OpenRule};
pub use set::{PolicySet, compile_rule};
pub use verdict::Verdict;

use crate::cel::Vocabulary;

/// What a rule's expression may use.
pub const VARIABLES: [&str; 7] = ["task", "step", "skill", "agent", "cost", "namespace", "request"];

pub(crate) fn vocabulary() -> Vocabulary {
    Vocabulary::new(VARIABLES)
}
