//! What simulations say, with the real judge: table tests of each part of the answer.
#![allow(clippy::unwrap_used, reason = "a test")]

mod approvals;
mod bed;
mod budgets;
mod changes;
mod duration;
mod obstacles;
mod open;
mod schema;
