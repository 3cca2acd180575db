//! The real driver with the real record, on a real chain. Whatever dies, cheats or goes away: every payment is made just
//! once, or not at all and the outbox says so; every anchor is confirmed and on the chain, or not shown as anchored; and
//! the account has paid just the sums.
#![allow(clippy::unwrap_used, reason = "a test")]

mod anvil;
mod bed;
mod database;
mod dice;
mod ends;
mod fair;
mod kill;
mod knife;
mod node;
mod postgres;
mod random;
mod silence;
#[path = "../../../store/tests/store/story.rs"]
#[allow(dead_code, reason = "not all stories are told here")]
mod story;
mod truth;
#[path = "../../../store/tests/store/silence.rs"]
mod way;
mod weather;
