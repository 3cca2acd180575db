//! Questions that people and programs ask of the record. Pages are by key and not by offset, so that a cursor stays
//! where it was whatever is added meanwhile.

use jiff::Timestamp;

use crate::Store;
use crate::error::StoreError;
use crate::values::{micros, timestamp};

/// Which Tasks; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// The Task's namespace.
    pub namespace: Option<String>,
    /// `Planning`, `Executing`, `WaitingApproval`, `Ending`, or an outcome.
    pub state: Option<String>,
    /// The Task's `spec.type`.
    pub kind: Option<String>,
    /// The name in the Task's `spec.agentRef`, whatever the Agent's namespace.
    pub agent: Option<String>,
    /// The requester's user name, as the API server authenticated it.
    pub requester: Option<String>,
    /// Adopted at this instant or later.
    pub since: Option<Timestamp>,
    /// Adopted before this instant.
    pub until: Option<Timestamp>,
    /// A digest of a Plan, an attempt, an input or an output.
    pub hash: Option<String>,
}

/// Which steps; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepFilter {
    /// The Task's namespace.
    pub namespace: Option<String>,
    /// `Open`, or an outcome.
    pub state: Option<String>,
    /// The step's name in its Plan.
    pub name: Option<String>,
    /// The name in the Task's `spec.agentRef`, whatever the Agent's namespace.
    pub agent: Option<String>,
    /// Of Tasks that were adopted at this instant or later.
    pub since: Option<Timestamp>,
    /// Of Tasks that were adopted before this instant.
    pub until: Option<Timestamp>,
    /// A digest of an attempt, an input or an output.
    pub hash: Option<String>,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the Task of the page's last row was adopted.
    pub adopted_at: Timestamp,
    /// The uid of that Task.
    pub uid: String,
    /// Of the step, in a page of steps.
    pub position: i32,
}

/// A Task on record, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// The Task object's `metadata.uid`.
    pub uid: String,
    /// The Task's namespace.
    pub namespace: String,
    /// The Task's name in that namespace, which several on record may have.
    pub name: String,
    /// Its `spec.type`; `None` where it names or carries a Plan.
    pub kind: Option<String>,
    /// The name in its `spec.agentRef`; `None` where it has no Agent.
    pub agent: Option<String>,
    /// The requester's user name, as the API server authenticated it.
    pub requester: Option<String>,
    /// `Planning`, `Executing`, `WaitingApproval`, `Ending`, or its outcome.
    pub state: String,
    /// Why it ended, in one CamelCase word; `None` until it has.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// When it was first recorded.
    pub adopted_at: Timestamp,
    /// When it ended; `None` until it has.
    pub finished_at: Option<Timestamp>,
}

/// A step on record, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    /// The `metadata.uid` of the Task object.
    pub task_uid: String,
    /// The Task's namespace.
    pub namespace: String,
    /// The Task's name in that namespace.
    pub task: String,
    /// The step's name in the Plan.
    pub name: String,
    /// The step's place in the Plan's order.
    pub position: i32,
    /// `Open`, or its outcome.
    pub state: String,
    /// Why it did not succeed, in one CamelCase word; `None` while it is open or where it did.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// How many attempts at it are on record.
    pub attempts: i32,
    /// The digest of the newest attempt's input, as `sha256:HEX`; `None` without an attempt.
    pub input_digest: Option<String>,
    /// The digest of its output, as `sha256:HEX`; `None` where it has none.
    pub output_digest: Option<String>,
    /// When the Task was first recorded.
    pub adopted_at: Timestamp,
    /// When the step ended; `None` while it is open.
    pub finished_at: Option<Timestamp>,
}

impl Store {
    /// Tasks, the newest first.
    pub async fn tasks(
        &self,
        filter: &TaskFilter,
        after: Option<&Cursor>,
        limit: i64,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let TaskFilter { namespace, state, kind, agent, requester, since, until, hash } = filter;
        let rows = sqlx::query!(
            r#"select t.uid as "uid!", t.namespace as "namespace!", t.name as "name!", t.type, t.agent, t.requester,
                t.state as "state!", t.reason, t.message,
                (extract(epoch from t.adopted_at) * 1000000)::bigint as "adopted_at!",
                (extract(epoch from t.finished_at) * 1000000)::bigint as finished_at
               from task_overview t
               where ($1::text is null or t.namespace = $1) and ($2::text is null or t.state = $2)
                 and ($3::text is null or t.type = $3) and ($4::text is null or t.agent = $4)
                 and ($5::text is null or t.requester = $5)
                 and ($6::bigint is null or t.adopted_at >= to_timestamp($6 / 1000000.0))
                 and ($7::bigint is null or t.adopted_at < to_timestamp($7 / 1000000.0))
                 and ($8::text is null or t.uid in (
                      select task_uid from plans where digest = $8
                      union select task_uid from attempts where digest = $8 or input_digest = $8
                      union select task_uid from steps where output_digest = $8))
                 and ($9::bigint is null or (t.adopted_at, t.uid) < (to_timestamp($9 / 1000000.0), $10))
               order by t.adopted_at desc, t.uid desc limit $11"#,
            namespace.as_deref(),
            state.as_deref(),
            kind.as_deref(),
            agent.as_deref(),
            requester.as_deref(),
            since.map(micros),
            until.map(micros),
            hash.as_deref(),
            after.map(|cursor| micros(cursor.adopted_at)),
            after.map(|cursor| cursor.uid.as_str()),
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(TaskRow {
                uid: row.uid,
                namespace: row.namespace,
                name: row.name,
                kind: row.r#type,
                agent: row.agent,
                requester: row.requester,
                state: row.state,
                reason: row.reason,
                message: row.message,
                adopted_at: timestamp(row.adopted_at)?,
                finished_at: row.finished_at.map(timestamp).transpose()?,
            })
        });
        rows.collect()
    }

    /// Steps: those of the newest Task first, in the order of its Plan.
    pub async fn steps(
        &self,
        filter: &StepFilter,
        after: Option<&Cursor>,
        limit: i64,
    ) -> Result<Vec<StepRow>, StoreError> {
        let StepFilter { namespace, state, name, agent, since, until, hash } = filter;
        let rows = sqlx::query!(
            r#"select t.uid, t.namespace, t.name as task, s.name, s.position, s.outcome, s.reason, s.message,
                s.output_digest, a.attempts as "attempts!", a.input_digest,
                (extract(epoch from t.adopted_at) * 1000000)::bigint as "adopted_at!",
                (extract(epoch from s.finished_at) * 1000000)::bigint as finished_at
               from steps s join tasks t on t.uid = s.task_uid
               cross join lateral (
                   select count(*)::integer as attempts,
                          (array_agg(a.input_digest order by a.number desc))[1] as input_digest
                   from attempts a where a.task_uid = s.task_uid and a.step = s.name) a
               where ($1::text is null or t.namespace = $1) and ($2::text is null or s.outcome = $2)
                 and ($3::text is null or s.name = $3)
                 and ($4::text is null or t.spec -> 'agentRef' ->> 'name' = $4)
                 and ($5::bigint is null or t.adopted_at >= to_timestamp($5 / 1000000.0))
                 and ($6::bigint is null or t.adopted_at < to_timestamp($6 / 1000000.0))
                 and ($7::text is null or s.output_digest = $7 or (s.task_uid, s.name) in (
                      select task_uid, step from attempts where digest = $7 or input_digest = $7))
                 and ($8::bigint is null
                      or (t.adopted_at, t.uid, -s.position) < (to_timestamp($8 / 1000000.0), $9, -$10::integer))
               order by t.adopted_at desc, t.uid desc, s.position limit $11"#,
            namespace.as_deref(),
            state.as_deref(),
            name.as_deref(),
            agent.as_deref(),
            since.map(micros),
            until.map(micros),
            hash.as_deref(),
            after.map(|cursor| micros(cursor.adopted_at)),
            after.map(|cursor| cursor.uid.as_str()),
            after.map(|cursor| cursor.position),
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(StepRow {
                task_uid: row.uid,
                namespace: row.namespace,
                task: row.task,
                name: row.name,
                position: row.position,
                state: row.outcome,
                reason: row.reason,
                message: row.message,
                attempts: row.attempts,
                input_digest: row.input_digest,
                output_digest: row.output_digest,
                adopted_at: timestamp(row.adopted_at)?,
                finished_at: row.finished_at.map(timestamp).transpose()?,
            })
        });
        rows.collect()
    }
}
