//! What PostgreSQL's own end does to the record: nothing is lost that was acknowledged, nothing is done by halves, and
//! the log goes on as one.
#![allow(clippy::unwrap_used, reason = "a test")]

mod disk;
mod kill;
mod proxy;
mod sample;
mod server;
#[path = "../store/story.rs"]
#[allow(dead_code, reason = "not all stories are told here")]
mod story;
