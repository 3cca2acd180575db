//! Tasks and steps: which there are, and of one all that is known, with the causes of how it came out.

use axum::Json;
use axum::extract::{Extension, Path, State};
use countersign_core::causes::{Cause, causes};
use countersign_core::record::{ApprovalState, AttemptRecord, AttemptState, TaskRecord};
use countersign_store::{Cursor, StepFilter, StepRow, TaskFilter, TaskRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::Caller;
use super::page::{self, Page, Query};
use super::problem::Problem;
use super::{Served, entries};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    state: Option<String>,
    r#type: Option<String>,
    /// Of a step.
    name: Option<String>,
    agent: Option<String>,
    requester: Option<String>,
    since: Option<String>,
    until: Option<String>,
    hash: Option<String>,
    limit: Option<u32>,
    r#continue: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    namespace: String,
    name: String,
    uid: String,
    r#type: Option<String>,
    agent: Option<String>,
    requester: Option<String>,
    state: String,
    reason: Option<String>,
    message: Option<String>,
    adopted_at: Timestamp,
    finished_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    namespace: String,
    task: String,
    task_uid: String,
    name: String,
    state: String,
    reason: Option<String>,
    message: Option<String>,
    attempts: i32,
    input_digest: Option<String>,
    output_digest: Option<String>,
    finished_at: Option<Timestamp>,
}

/// What is asked of Tasks and of steps alike.
struct Window {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    hash: Option<String>,
    after: Option<Cursor>,
    limit: u32,
}

impl Asked {
    fn window(&self) -> Result<Window, Problem> {
        Ok(Window {
            since: page::instant("since", self.since.as_deref())?,
            until: page::instant("until", self.until.as_deref())?,
            hash: self.hash.as_deref().map(with_prefix),
            after: self.r#continue.as_deref().map(page::decode).transpose()?,
            limit: page::limit(self.limit)?,
        })
    }
}

/// In all namespaces where the path names none.
#[derive(Deserialize)]
pub struct Place {
    pub namespace: Option<String>,
}

pub async fn list(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(Place { namespace }): Path<Place>,
    Query(asked): Query<Asked>,
) -> Result<Json<Page<Task>>, Problem> {
    caller.may_read(namespace.as_deref()).await?;
    let Window { since, until, hash, after, limit } = asked.window()?;
    let Asked { state, r#type, name, agent, requester, .. } = asked;
    if name.is_some() {
        return Err(Problem::bad_request("name: is of steps; a Task's own is part of the path"));
    }
    let filter = TaskFilter { namespace, state, kind: r#type, agent, requester, since, until, hash };
    let mut rows = shared.store.tasks(&filter, after.as_ref(), page::with_next(limit)).await?;
    let next = page::cut(&mut rows, limit, |last| {
        page::encode(&Cursor { adopted_at: last.adopted_at, uid: last.uid.clone(), position: 0 })
    });
    let items = rows.into_iter().map(|row| {
        let TaskRow { uid, namespace, name, kind, agent, requester, state, reason, message, adopted_at, finished_at } =
            row;
        Task { namespace, name, uid, r#type: kind, agent, requester, state, reason, message, adopted_at, finished_at }
    });
    Ok(Json(Page { items: items.collect(), next }))
}

pub async fn steps(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(Place { namespace }): Path<Place>,
    Query(asked): Query<Asked>,
) -> Result<Json<Page<Step>>, Problem> {
    caller.may_read(namespace.as_deref()).await?;
    let Window { since, until, hash, after, limit } = asked.window()?;
    let Asked { state, r#type, name, agent, requester, .. } = asked;
    if r#type.is_some() || requester.is_some() {
        return Err(Problem::bad_request("type and requester are of Tasks; ask for tasks"));
    }
    let filter = StepFilter { namespace, state, name, agent, since, until, hash };
    let mut rows = shared.store.steps(&filter, after.as_ref(), page::with_next(limit)).await?;
    let next = page::cut(&mut rows, limit, |last| {
        page::encode(&Cursor { adopted_at: last.adopted_at, uid: last.task_uid.clone(), position: last.position })
    });
    let items = rows.into_iter().map(|row| {
        let StepRow {
            task_uid,
            namespace,
            task,
            name,
            position: _,
            state,
            reason,
            message,
            attempts,
            input_digest,
            output_digest,
            adopted_at: _,
            finished_at,
        } = row;
        Step {
            namespace,
            task,
            task_uid,
            name,
            state,
            reason,
            message,
            attempts,
            input_digest,
            output_digest,
            finished_at,
        }
    });
    Ok(Json(Page { items: items.collect(), next }))
}

/// A digest is written with its algorithm everywhere; people paste it without.
fn with_prefix(hash: &str) -> String {
    if hash.contains(':') { hash.to_owned() } else { format!("sha256:{hash}") }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    namespace: String,
    name: String,
    uid: String,
    requester: Option<String>,
    on_behalf_of: Option<String>,
    adopted_at: Timestamp,
    /// `Completed`, `Failed`, `Rejected` or `Cancelled`; absent while it goes on.
    outcome: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    finished_at: Option<Timestamp>,
    plan: Option<Value>,
    steps: Vec<Value>,
    approvals: Vec<Value>,
    /// Why it came out like this: each is explained by the next.
    causes: Vec<Cause>,
}

pub async fn one(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path((namespace, task)): Path<(String, String)>,
) -> Result<Json<Outcome>, Problem> {
    let task = entries::named(&shared, &caller, &namespace, &task).await?;
    let record = shared.store.load(&task.uid).await?;
    record.map(|record| Json(outcome(record))).ok_or_else(|| Problem::not_found("its record is gone"))
}

fn outcome(record: TaskRecord) -> Outcome {
    let causes = causes(&record);
    let TaskRecord {
        uid,
        namespace,
        name,
        version: _,
        adopted_at,
        request,
        plan,
        steps,
        approvals,
        ending: _,
        finished,
    } = record;
    let order: Vec<String> = plan.iter().flat_map(|plan| plan.steps.iter().map(|step| step.name.clone())).collect();
    let of = |name: &String| {
        let step = steps.get(name)?;
        Some(json!({
            "name": name,
            "state": step.state,
            "reason": step.reason,
            "message": step.message,
            "output": step.output,
            "finishedAt": step.finished_at,
            "attempts": step.attempts.iter().map(attempt).collect::<Vec<_>>(),
        }))
    };
    let approvals = approvals.values().map(|approval| {
        let state = match &approval.state {
            ApprovalState::Superseded { changed } => json!({"superseded": changed}),
            state => json!(format!("{state:?}")),
        };
        let decisions = approval.decisions.iter().map(|decision| {
            json!({"user": decision.user, "groups": decision.groups, "approved": decision.approved,
                   "reason": decision.reason, "at": decision.at})
        });
        json!({
            "name": approval.name,
            "digest": approval.digest,
            "state": state,
            "steps": approval.covers.keys().collect::<Vec<_>>(),
            "required": approval.required,
            "decisions": decisions.collect::<Vec<_>>(),
            "requestedAt": approval.requested_at,
            "expiresAt": approval.expires_at,
        })
    });
    Outcome {
        namespace,
        name,
        uid,
        requester: request.requester.map(|requester| requester.user),
        on_behalf_of: request.on_behalf_of,
        adopted_at,
        outcome: finished.as_ref().map(|finished| format!("{:?}", finished.outcome)),
        reason: finished.as_ref().map(|finished| finished.reason.clone()),
        message: finished.as_ref().map(|finished| finished.message.clone()),
        finished_at: finished.as_ref().map(|finished| finished.at),
        steps: order.iter().filter_map(of).collect(),
        plan: plan.map(|plan| json!({"name": plan.name, "digest": plan.digest, "source": plan.source})),
        approvals: approvals.collect(),
        causes,
    }
}

fn attempt(attempt: &AttemptRecord) -> Value {
    let AttemptRecord {
        number,
        key,
        digest,
        input_digest,
        skill,
        reservation,
        approval,
        intended_at,
        state,
        launch: _,
    } = attempt;
    let (state, message, pod, at) = match state {
        AttemptState::Intended => (json!("Intended"), None, None, *intended_at),
        AttemptState::Admitted { pod_uid, at } => (json!("Admitted"), None, Some(pod_uid), *at),
        AttemptState::Finished { outcome, message, pod_uid, at } => {
            (json!(outcome), message.as_ref(), pod_uid.as_ref(), *at)
        }
    };
    json!({
        "number": number,
        "key": key,
        "digest": digest,
        "inputDigest": input_digest,
        "skill": skill,
        "reserved": reservation.as_ref().map(|reservation| reservation.amount),
        "budget": reservation.as_ref().map(|reservation| reservation.verdict),
        "approval": approval,
        "intendedAt": intended_at,
        "state": state,
        "message": message,
        "podUid": pod,
        "at": at,
    })
}
