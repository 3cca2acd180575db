//! A request runs once. What makes two Tasks the same request, and what is known of the run that there was.

use countersign_crds::{ANNOTATION_RUN, TaskSpec};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::digest::{self, Digest};
use crate::observed::TaskView;
use crate::record::{ApprovalState, Finished, TaskOutcome, TaskRecord};

/// What makes two Tasks the same request: the place by the namespace's uid, the name, who asks, and what for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunKey {
    /// The `metadata.uid` of the Task's namespace.
    pub namespace_uid: String,
    /// The Task's name.
    pub name: String,
    /// The user's name; empty where nobody knows who asked.
    pub requester: String,
    /// SHA-256 over RFC 8785 JSON of the Task's spec, without what may change later, who asked, and for which Agent.
    pub content: Digest,
}

impl RunKey {
    /// Of a Task in the namespace of that uid.
    pub fn of(namespace_uid: &str, task: &TaskView) -> RunKey {
        RunKey {
            namespace_uid: namespace_uid.to_owned(),
            name: task.name.clone(),
            requester: task.spec.requester.as_ref().map(|who| who.user.clone()).unwrap_or_default(),
            content: content(&task.spec),
        }
    }
}

fn content(spec: &TaskSpec) -> Digest {
    let TaskSpec {
        goal,
        task_type,
        parameters,
        plan_ref,
        plan,
        // Stamped or not as accounts are bound, which must run nothing again.
        agent_ref: _,
        priority,
        budget,
        run_id,
        requester: _,
        suspend: _,
        cancel: _,
        deadline: _,
        ttl_seconds_after_finished: _,
    } = spec;
    let content = json!({
        "version": 1, "goal": goal, "type": task_type, "parameters": parameters, "planRef": plan_ref, "plan": plan,
        "priority": priority, "budget": budget, "runId": run_id,
    });
    // What has no canonical form is refused when it is planned; until then it is itself.
    digest::of_json(&content).unwrap_or_else(|_| Digest::of_bytes(content.to_string()))
}

/// What a Task's record is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Run {
    /// It is the run of its request.
    Own(RunKey),
    /// Its request ran before, as the Task of this uid: nothing of it runs.
    Repeats(String),
}

/// A run that there was, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorRun {
    /// Of the Task that it ran as.
    pub uid: String,
    /// Of which request it is.
    pub key: RunKey,
    /// `None` while it goes on.
    pub finished: Option<Finished>,
}

impl PriorRun {
    /// What a Task comes to whose request ran before: the same, and how to ask for another run.
    pub fn again(&self, finished: &Finished, at: Timestamp) -> Finished {
        let Finished { outcome, reason, message, at: then } = finished;
        let message = format!(
            "this request ran before, until {then}, as the Task with uid {}: {message}; to run it again, delete this Task and create it with another spec.runId",
            self.uid
        );
        Finished { outcome: *outcome, reason: reason.clone(), message, at }
    }

    /// What a Task comes to that carries the mark of a run, whatever it asks for: the same.
    pub fn marked(&self, finished: &Finished, task: &TaskView, at: Timestamp) -> Finished {
        let Finished { outcome, reason, message, at: then } = finished;
        let another = if content(&task.spec) == self.key.content { "" } else { ", of another content than this one" };
        let message = format!(
            "metadata.annotations[{ANNOTATION_RUN}] is the mark of a run{another}, which ran until {then} as the Task with uid {}: {message}; for a run of your own, create it without the annotation and with another spec.runId",
            self.uid
        );
        Finished { outcome: *outcome, reason: reason.clone(), message, at }
    }
}

/// Whether a Task that is over used its request up: something of it was launched, it came to a good end without that, or
/// a person said no. What a rule or a budget refused, failed or was called off before anything began may be asked for again
/// as it is.
pub fn ran(record: &TaskRecord, outcome: TaskOutcome) -> bool {
    let launched = record.steps.values().flat_map(|step| &step.attempts).any(|attempt| attempt.launched());
    let refused = record.approvals.values().any(|approval| approval.state == ApprovalState::Rejected);
    launched
        || match outcome {
            TaskOutcome::Completed => true,
            // A Policy, a budget or an Approval that expired may say otherwise the next time.
            TaskOutcome::Rejected => refused,
            TaskOutcome::Failed | TaskOutcome::Cancelled => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn task(more: Value) -> TaskView {
        let mut spec = json!({"type": "t", "parameters": {"b": 1, "a": 2}, "requester": {"user": "dave"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        TaskView {
            uid: "u".into(),
            namespace: "team".into(),
            name: "pay".into(),
            generation: None,
            spec: serde_json::from_value(spec).unwrap(),
            on_behalf_of: None,
            mark: None,
            deleting: false,
            conditions: Vec::new(),
        }
    }

    #[test]
    fn what_makes_another_request_and_what_does_not() {
        let of = |more: Value| RunKey::of("place", &task(more));
        let same = of(json!({}));
        for (more, is_same) in [
            (json!({"parameters": {"a": 2, "b": 1}}), true),
            (json!({"suspend": true}), true),
            (json!({"cancel": true}), true),
            (json!({"deadline": "2030-01-01T00:00:00Z"}), true),
            (json!({"ttlSecondsAfterFinished": 5}), true),
            (json!({"agentRef": {"name": "a"}}), true),
            (json!({"requester": {"user": "dave", "groups": ["x"], "uid": "7"}}), true),
            (json!({"requester": {"user": "eve"}}), false),
            (json!({"parameters": {"a": 2, "b": 2}}), false),
            (json!({"runId": "2"}), false),
            (json!({"goal": "more"}), false),
            (json!({"priority": "Low"}), false),
            (json!({"budget": "1"}), false),
            (json!({"type": "u"}), false),
        ] {
            assert_eq!(of(more.clone()) == same, is_same, "{more}");
        }
        assert_ne!(RunKey::of("another place", &task(json!({}))), same);
        assert_ne!(RunKey::of("place", &TaskView { name: "other".into(), ..task(json!({})) }), same);
    }

    #[test]
    fn a_number_without_canonical_form_is_still_itself() {
        let of = |n: i64| RunKey::of("place", &task(json!({"parameters": {"n": n}})));
        assert_eq!(of(9_007_199_254_740_993), of(9_007_199_254_740_993));
        assert_ne!(of(9_007_199_254_740_993), of(9_007_199_254_740_994));
    }
}
