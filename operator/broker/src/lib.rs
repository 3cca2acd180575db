//! The broker: the only way out of a sandbox. It knows an attempt by a token that is taken once, lets its Skill go where
//! its egress says and no further, shows credentials that no sandbox sees, counts what calls cost, and writes down each
//! of them before its first byte leaves. Alerts of budgets leave through it too.

pub mod alerts;
pub mod broker;
mod call;
pub mod judge;
mod limits;
pub mod metrics;
mod payment;
pub mod presence;
pub mod record;
pub mod refusal;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod upstream;
