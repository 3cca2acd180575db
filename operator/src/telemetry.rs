//! Logs: one JSON object a line, with the Task's ids on every line that is about a Task.

use tracing::Span;

pub fn start() {
    countersign_service::logs::start("info,kube_client=warn");
}

/// Everything within is about this Task. The trace id is the Task's uid in the form of W3C Trace Context,
/// so that all that ever happened to a Task is one trace.
pub fn task_span(namespace: &str, name: &str, uid: &str) -> Span {
    tracing::info_span!("task", trace_id = %uid.replace('-', ""), namespace, task = name, task_uid = uid)
}
