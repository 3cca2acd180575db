//! Single looks at a Task, with the real judge.
#![allow(clippy::unwrap_used, reason = "a test")]

mod bed;
mod binding;
mod blocked;
mod budgets;
mod downgrades;
mod outcomes;
mod outputs;
mod runs;
mod slow;
mod steps;
