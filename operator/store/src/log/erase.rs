//! Erasure: what a finished Task was given and gave back goes; that it happened, when, and under which hashes, stays.

use countersign_core::event::Event;
use countersign_core::tlog::entry::TaskName;
use jiff::Timestamp;

use super::read::unsigned;
use super::write::{LogEvent, append};
use crate::Store;
use crate::error::StoreError;
use crate::roles::identity;

/// What became of a request to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erased {
    /// The places of the entries whose payloads are gone.
    Done(Vec<u64>),
    /// The Task is still at work, or its entries are not in the tree yet.
    TooEarly(&'static str),
}

impl Store {
    /// Erases the payloads of a Task's entries, and what of them stands in the tables beside the log; logs who did it
    /// and why. It takes a role that may, which the operator's is not.
    pub async fn erase(&self, task: &TaskName, reason: &str, at: Timestamp) -> Result<Erased, StoreError> {
        let uid = task.uid.as_str();
        let mut transaction = self.pool.begin().await?;
        let finished = sqlx::query_scalar!(
            r#"select outcome is not null as "finished!" from tasks where uid = $1 for update"#,
            uid
        );
        if finished.fetch_optional(&mut *transaction).await? != Some(true) {
            return Ok(Erased::TooEarly("the Task is not finished"));
        }
        let entries = sqlx::query!(
            r#"select e.id, l.index as "index?" from log_entries e join log_payloads p on p.entry = e.id
               left join log_leaves l on l.entry = e.id
               where e.task_uid = $1 and e.kind not in ('export', 'erase') order by e.id"#,
            uid
        );
        let entries = entries.fetch_all(&mut *transaction).await?;
        let places: Option<Vec<i64>> = entries.iter().map(|entry| entry.index).collect();
        let Some(places) = places else { return Ok(Erased::TooEarly("some of its entries are not in the tree yet")) };
        let places = places.into_iter().map(unsigned).collect::<Result<Vec<u64>, _>>()?;
        let ids: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
        sqlx::query!("delete from log_payloads where entry = any($1)", &ids).execute(&mut *transaction).await?;
        sqlx::query!(
            "delete from outputs o where o.digest in (select output_digest from steps where task_uid = $1)
             and not exists (select from steps s where s.output_digest = o.digest and s.task_uid <> $1)",
            uid
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("update tasks set spec = spec - 'goal' - 'parameters' - 'plan' where uid = $1", uid)
            .execute(&mut *transaction)
            .await?;
        sqlx::query!(
            "update plans set parameters = '{}', steps = (select jsonb_agg(s - 'input') from jsonb_array_elements(steps) s)
             where task_uid = $1",
            uid
        )
        .execute(&mut *transaction)
        .await?;
        // What voided an attempt or an Approval is named with the values that differ; only the names stay.
        sqlx::query!(
            "update attempts set launch = 'null', message = case outcome when 'Voided' then null else message end
             where task_uid = $1",
            uid
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "update approvals set covers = (
                 select jsonb_object_agg(c.key, c.value || '{\"binding\": null, \"rules\": []}') from jsonb_each(covers) c),
                 changed = case when changed is not null then coalesce(
                     (select jsonb_agg(split_part(c, ':', 1)) from jsonb_array_elements_text(changed) c), '[]') end
             where task_uid = $1",
            uid
        )
        .execute(&mut *transaction)
        .await?;
        let by = identity(&mut *transaction).await?;
        let event = Event::Erase { by, reason: reason.to_owned(), entries: places.clone(), at };
        append(&mut transaction, Some(task), &[LogEvent::event(&event)?]).await?;
        transaction.commit().await?;
        Ok(Erased::Done(places))
    }
}
