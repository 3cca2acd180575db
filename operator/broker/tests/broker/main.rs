//! The broker over real sockets, with TLS, against upstreams on loopback addresses of their own. The record is a double,
//! at the edge, but for the outbox of alerts, which is in PostgreSQL. Where something must not be reached there is a decoy
//! that would tell.
#![allow(clippy::unwrap_used, reason = "a test")]

mod addresses;
mod alerts;
mod client;
mod credentials;
#[allow(dead_code, reason = "shared with the tests of the store")]
#[path = "../../../store/tests/store/database.rs"]
mod database;
mod files;
mod limits;
mod mail;

mod money;
mod passing;
mod payments;
mod record;
mod sessions;
mod upstream;
mod world;
