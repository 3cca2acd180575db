//! Logs: one JSON object a line, with the attempt on every line that is about one.

use countersign_core::tlog::entry::TaskName;
use tracing::Span;

use crate::record::Admitted;

pub fn start() {
    countersign_service::logs::start("info");
}

/// Everything within is for this attempt; the trace id is its Task's, as in the operator's log.
pub fn attempt_span(of: &Admitted) -> Span {
    let TaskName { namespace, name, uid } = &of.task;
    let trace_id = uid.replace('-', "");
    tracing::info_span!("attempt", trace_id, namespace, task = name, attempt = of.attempt, skill = of.launch.skill)
}
