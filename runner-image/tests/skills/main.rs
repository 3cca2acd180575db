//! The built-in skills as the runner starts them, against real counterparts: a chain node, a model server, a tool server.
//! Between them stands a small proxy on a Unix socket, in the place of the runner and the broker.
#![allow(clippy::unwrap_used, reason = "a test")]

mod check_balance;
mod counterpart;
mod email_send;
mod files;
mod http_call;
mod llm_invoke;
mod mcp_call;
mod proxy;
mod skill;
mod webhook_send;
