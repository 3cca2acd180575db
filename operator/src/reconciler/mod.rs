//! One reconciliation of a Task: observe, decide, record, act, report.

pub mod action;
pub mod context;
pub mod error;
mod events;
pub mod guard;
mod logs;
pub mod networks;
pub mod observe;
pub mod reconcile;
mod report;
