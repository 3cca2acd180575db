//! The way to a destination: its name is resolved once, every address is judged, and the connection goes to one that was.

pub mod connect;
pub mod mail;
pub mod outgoing;
pub mod resolve;
pub mod trust;
pub mod web;
