//! Reads a Task's record back, in four queries whatever the size of its Plan.

use std::collections::BTreeMap;

use countersign_core::record::{
    ApprovalRecord, ApprovalState, AttemptRecord, AttemptState, Deferral, Ending, Finished, OutputReference,
    RecordedPlan, Request, Reservation, StepRecord, TaskRecord,
};
use serde_json::Value;
use sqlx::PgConnection;

use crate::Store;
use crate::error::StoreError;
use crate::ledger::money;
use crate::values::{count, digest, from_json, from_name, timestamp};

impl Store {
    /// The whole record of a Task, as of one moment; `None` where there is none. What finished attempts
    /// ran is left out.
    pub async fn load(&self, uid: &str) -> Result<Option<TaskRecord>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *transaction).await?;
        let record = load(&mut transaction, uid).await?;
        transaction.commit().await?;
        Ok(record)
    }
}

async fn load(connection: &mut PgConnection, uid: &str) -> Result<Option<TaskRecord>, StoreError> {
    let row = sqlx::query!(
        r#"select t.namespace, t.name, t.version, t.requester, t.on_behalf_of, t.ending_cause, t.outcome, t.reason, t.message,
            (extract(epoch from t.adopted_at) * 1000000)::bigint as "adopted_at!",
            (extract(epoch from t.ending_at) * 1000000)::bigint as ending_at,
            (extract(epoch from t.finished_at) * 1000000)::bigint as finished_at,
            p.name as "plan?", p.digest as "digest?", p.source as "source?", p.parallelism as "parallelism?",
            p.steps as "steps?", p.parameters as "parameters?"
           from tasks t left join plans p on p.task_uid = t.uid where t.uid = $1"#,
        uid
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let plan = match (row.plan, row.digest, row.source, row.parallelism, row.steps, row.parameters) {
        (Some(name), Some(plan_digest), Some(source), Some(parallelism), Some(steps), Some(parameters)) => {
            Some(RecordedPlan {
                name,
                digest: digest(&plan_digest)?,
                source,
                parallelism: count(parallelism)?,
                steps: from_json(steps)?,
                parameters: from_json(parameters)?,
            })
        }
        _ => None,
    };
    let ending = match (row.ending_cause, row.ending_at) {
        (Some(cause), Some(at)) => Some(Ending { cause: from_name(&cause)?, at: timestamp(at)? }),
        _ => None,
    };
    let finished = match (row.outcome, row.reason, row.message, row.finished_at) {
        (Some(outcome), Some(reason), Some(message), Some(at)) => {
            Some(Finished { outcome: from_name(&outcome)?, reason, message, at: timestamp(at)? })
        }
        _ => None,
    };
    let request = Request { requester: row.requester.map(from_json).transpose()?, on_behalf_of: row.on_behalf_of };
    let steps = steps(connection, uid).await?;
    let approvals = approvals(connection, uid, &steps).await?;
    Ok(Some(TaskRecord {
        uid: uid.to_owned(),
        namespace: row.namespace,
        name: row.name,
        version: row.version,
        adopted_at: timestamp(row.adopted_at)?,
        request,
        plan,
        steps,
        approvals,
        ending,
        finished,
    }))
}

async fn steps(connection: &mut PgConnection, uid: &str) -> Result<BTreeMap<String, StepRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"select name, outcome, reason, message, output_digest, output_bytes, workspace, deferral,
            (extract(epoch from deferred_until) * 1000000)::bigint as deferred_until,
            (extract(epoch from not_before) * 1000000)::bigint as not_before,
            (extract(epoch from finished_at) * 1000000)::bigint as finished_at
           from steps where task_uid = $1"#,
        uid
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut steps = BTreeMap::new();
    for row in rows {
        let output = match (row.output_digest, row.output_bytes) {
            (Some(text), Some(bytes)) => Some(OutputReference { digest: digest(&text)?, bytes: count(bytes)? }),
            _ => None,
        };
        let step = StepRecord {
            state: from_name(&row.outcome)?,
            reason: row.reason,
            message: row.message,
            attempts: Vec::new(),
            not_before: row.not_before.map(timestamp).transpose()?,
            deferral: match row.deferral {
                Some(message) => Some(Deferral { until: row.deferred_until.map(timestamp).transpose()?, message }),
                None => None,
            },
            output,
            workspace: row.workspace.as_deref().map(digest).transpose()?,
            finished_at: row.finished_at.map(timestamp).transpose()?,
        };
        steps.insert(row.name, step);
    }
    attempts(connection, uid, &mut steps).await?;
    Ok(steps)
}

async fn attempts(
    connection: &mut PgConnection,
    uid: &str,
    steps: &mut BTreeMap<String, StepRecord>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"select a.key, a.step, a.number, a.digest, a.input_digest, a.approval, a.pod_uid, a.outcome, a.message,
            a.launch ->> 'skill' as "skill!", r.amount as "amount?", r.verdict as "verdict?",
            case when a.outcome is null then a.launch end as launch,
            (extract(epoch from a.intended_at) * 1000000)::bigint as "intended_at!",
            (extract(epoch from a.admitted_at) * 1000000)::bigint as admitted_at,
            (extract(epoch from a.finished_at) * 1000000)::bigint as finished_at
           from attempts a left join reservations r on r.attempt = a.key
           where a.task_uid = $1 order by a.step, a.number"#,
        uid
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let state = match (row.outcome, row.finished_at, row.pod_uid, row.admitted_at) {
            (Some(outcome), Some(at), pod_uid, _) => AttemptState::Finished {
                outcome: from_name(&outcome)?,
                message: row.message,
                pod_uid,
                at: timestamp(at)?,
            },
            (_, _, Some(pod_uid), Some(at)) => AttemptState::Admitted { pod_uid, at: timestamp(at)? },
            _ => AttemptState::Intended,
        };
        let attempt = AttemptRecord {
            number: count(row.number)?,
            key: row.key,
            digest: digest(&row.digest)?,
            input_digest: digest(&row.input_digest)?,
            skill: row.skill,
            reservation: match (row.amount, row.verdict) {
                (Some(amount), Some(verdict)) => {
                    Some(Reservation { amount: money(amount)?, verdict: from_name(&verdict)? })
                }
                _ => None,
            },
            approval: row.approval,
            intended_at: timestamp(row.intended_at)?,
            state,
            launch: row.launch.map(from_json).transpose()?,
        };
        let step = steps.get_mut(&row.step);
        step.ok_or_else(|| StoreError::Corrupt(format!("attempt of no step {:?}", row.step).into()))?
            .attempts
            .push(attempt);
    }
    Ok(())
}

async fn approvals(
    connection: &mut PgConnection,
    uid: &str,
    steps: &BTreeMap<String, StepRecord>,
) -> Result<BTreeMap<String, ApprovalRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"select a.name, a.step, a.digest, a.covers, a.requester, a.on_behalf_of, a.required, a.scope, a.risk,
            a.state, a.changed,
            (extract(epoch from a.requested_at) * 1000000)::bigint as "requested_at!",
            (extract(epoch from a.expires_at) * 1000000)::bigint as "expires_at!",
            (select jsonb_agg(s.decision order by s.position) from signatures s
             where s.task_uid = a.task_uid and s.approval = a.name) as decisions
           from approvals a where a.task_uid = $1"#,
        uid
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut approvals = BTreeMap::new();
    for row in rows {
        let began = |a: &AttemptRecord| a.launched() && a.approval.as_ref() == Some(&row.name);
        let under_it = |step: &&StepRecord| step.attempts.iter().any(began);
        let used = steps.iter().filter(|(_, step)| under_it(step)).map(|(name, _)| name.clone()).collect();
        let approval = ApprovalRecord {
            name: row.name.clone(),
            step: row.step,
            digest: digest(&row.digest)?,
            covers: from_json(row.covers)?,
            requester: from_json(row.requester)?,
            on_behalf_of: row.on_behalf_of,
            required: from_json(row.required)?,
            scope: from_name(&row.scope)?,
            risk: from_name(&row.risk)?,
            requested_at: timestamp(row.requested_at)?,
            expires_at: timestamp(row.expires_at)?,
            decisions: row.decisions.map(from_json).transpose()?.unwrap_or_default(),
            used,
            state: approval_state(&row.state, row.changed)?,
        };
        approvals.insert(row.name, approval);
    }
    Ok(approvals)
}

fn approval_state(state: &str, changed: Option<Value>) -> Result<ApprovalState, StoreError> {
    match state {
        "Requested" => Ok(ApprovalState::Requested),
        "Approved" => Ok(ApprovalState::Approved),
        "Rejected" => Ok(ApprovalState::Rejected),
        "Consumed" => Ok(ApprovalState::Consumed),
        "Expired" => Ok(ApprovalState::Expired),
        "Superseded" => Ok(ApprovalState::Superseded { changed: from_json(changed.unwrap_or_default())? }),
        "Withdrawn" => Ok(ApprovalState::Withdrawn),
        other => Err(StoreError::Corrupt(format!("approval state {other:?}").into())),
    }
}
