//! The store against a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test")]

mod alerts;
mod brokers;
mod cosignatures;
mod database;
mod edges;
mod history;
mod ledger;
mod log;
mod outbox;
mod queries;
mod record;
mod roles;
mod runs;
mod sessions;
mod statistics;
mod story;
mod timeouts;
