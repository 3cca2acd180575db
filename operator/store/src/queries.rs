//! Questions that people and programs ask of the record. Pages are by key and not by offset, so that a cursor stays
//! where it was whatever is added meanwhile.

use jiff::Timestamp;

use crate::Store;
use crate::error::StoreError;
use crate::values::{micros, timestamp};

/// Which Tasks; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub namespace: Option<String>,
    /// `Planning`, `Executing`, `WaitingApproval`, `Ending`, or an outcome.
    pub state: Option<String>,
    pub kind: Option<String>,
    pub agent: Option<String>,
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
    pub namespace: Option<String>,
    /// `Open`, or an outcome.
    pub state: Option<String>,
    pub name: Option<String>,
    pub agent: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// A digest of an attempt, an input or an output.
    pub hash: Option<String>,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub adopted_at: Timestamp,
    pub uid: String,
    /// Of the step, in a page of steps.
    pub position: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub kind: Option<String>,
    pub agent: Option<String>,
    pub requester: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub adopted_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    pub task_uid: String,
    pub namespace: String,
    pub task: String,
    pub name: String,
    pub position: i32,
    pub state: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub attempts: i32,
    pub input_digest: Option<String>,
    pub output_digest: Option<String>,
    pub adopted_at: Timestamp,
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
