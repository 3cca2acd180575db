//! Logs: one JSON object a line, with the attempt on every line that is about one.

use countersign_core::tlog::entry::TaskName;
use tracing::Span;
use tracing_subscriber::EnvFilter;

use crate::record::Admitted;

/// Writes logs to stdout from here on; RUST_LOG says how much.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
}

/// Everything within is for this attempt; the trace id is its Task's, as in the operator's log.
pub fn attempt_span(of: &Admitted) -> Span {
    let TaskName { namespace, name, uid } = &of.task;
    let trace_id = uid.replace('-', "");
    tracing::info_span!("attempt", trace_id, namespace, task = name, attempt = of.attempt, skill = of.launch.skill)
}
