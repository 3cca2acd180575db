//! Logs: one JSON object a line, with the Task's ids on every line that is about a Task.

use tracing::Span;
use tracing_subscriber::EnvFilter;

/// Writes logs to stdout from here on; RUST_LOG says how much.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=warn"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
}

/// Everything within is about this Task. The trace id is the Task's uid in the form of W3C Trace Context,
/// so that all that ever happened to a Task is one trace.
pub fn task_span(namespace: &str, name: &str, uid: &str) -> Span {
    tracing::info_span!("task", trace_id = %uid.replace('-', ""), namespace, task = name, task_uid = uid)
}
