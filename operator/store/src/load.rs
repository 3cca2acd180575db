//! Reads a Task's record back, in four queries whatever the size of its Plan.

use std::collections::BTreeMap;

use countersign_core::record::{
    ApprovalRecord, ApprovalState, AttemptRecord, AttemptState, Ending, Finished, OutputReference, RecordedPlan,
    StepRecord, TaskRecord,
};
use serde_json::Value;
use sqlx::PgConnection;

use crate::Store;
use crate::error::StoreError;
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
        r#"select t.namespace, t.name, t.version, t.ending_cause, t.outcome, t.reason, t.message,
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
    Ok(Some(TaskRecord {
        uid: uid.to_owned(),
        namespace: row.namespace,
        name: row.name,
        version: row.version,
        adopted_at: timestamp(row.adopted_at)?,
        plan,
        steps: steps(connection, uid).await?,
        approvals: approvals(connection, uid).await?,
        ending,
        finished,
    }))
}

async fn steps(connection: &mut PgConnection, uid: &str) -> Result<BTreeMap<String, StepRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"select name, outcome, reason, message, output_digest, output_bytes,
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
            output,
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
        r#"select key, step, number, digest, input_digest, approval, pod_uid, outcome, message,
            case when outcome is null then launch end as launch,
            (extract(epoch from intended_at) * 1000000)::bigint as "intended_at!",
            (extract(epoch from admitted_at) * 1000000)::bigint as admitted_at,
            (extract(epoch from finished_at) * 1000000)::bigint as finished_at
           from attempts where task_uid = $1 order by step, number"#,
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
            approval: row.approval,
            intended_at: timestamp(row.intended_at)?,
            state,
            launch: row.launch.map(from_json).transpose()?,
        };
        let step = steps.get_mut(&row.step);
        step.ok_or_else(|| StoreError::Corrupt(format!("attempt of no step {:?}", row.step)))?.attempts.push(attempt);
    }
    Ok(())
}

async fn approvals(connection: &mut PgConnection, uid: &str) -> Result<BTreeMap<String, ApprovalRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"select name, step, attempt, digest, binding, risk, rules, state, decision, changed,
            (extract(epoch from requested_at) * 1000000)::bigint as "requested_at!",
            (extract(epoch from expires_at) * 1000000)::bigint as "expires_at!"
           from approvals where task_uid = $1"#,
        uid
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut approvals = BTreeMap::new();
    for row in rows {
        let approval = ApprovalRecord {
            name: row.name.clone(),
            step: row.step,
            attempt: count(row.attempt)?,
            digest: digest(&row.digest)?,
            binding: row.binding,
            risk: from_name(&row.risk)?,
            rules: from_json(row.rules)?,
            requested_at: timestamp(row.requested_at)?,
            expires_at: timestamp(row.expires_at)?,
            state: approval_state(&row.state, row.decision, row.changed)?,
        };
        approvals.insert(row.name, approval);
    }
    Ok(approvals)
}

fn approval_state(state: &str, decision: Option<Value>, changed: Option<Value>) -> Result<ApprovalState, StoreError> {
    let decision = || from_json(decision.clone().unwrap_or_default());
    match state {
        "Requested" => Ok(ApprovalState::Requested),
        "Approved" => Ok(ApprovalState::Approved { decision: decision()? }),
        "Rejected" => Ok(ApprovalState::Rejected { decision: decision()? }),
        "Consumed" => Ok(ApprovalState::Consumed { decision: decision()? }),
        "Expired" => Ok(ApprovalState::Expired),
        "Superseded" => Ok(ApprovalState::Superseded { changed: from_json(changed.unwrap_or_default())? }),
        "Withdrawn" => Ok(ApprovalState::Withdrawn),
        other => Err(StoreError::Corrupt(format!("approval state {other:?}"))),
    }
}
