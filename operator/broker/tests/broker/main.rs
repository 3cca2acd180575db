//! The broker over real sockets, with TLS, against upstreams on loopback addresses of their own. Only the record is a
//! double, at the edge. Where something must not be reached there is a decoy that would tell.
#![allow(clippy::unwrap_used, reason = "a test")]

mod addresses;
mod client;
mod credentials;
mod files;
mod limits;
mod mail;

mod money;
mod passing;
mod record;
mod sessions;
mod upstream;
mod world;
