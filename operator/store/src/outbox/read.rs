//! The outbox for those who watch it: what a Task's status shows, what people list, and what is counted.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use countersign_core::event::Event;
use countersign_core::observed::{ExternalState, PaymentView};
use countersign_core::payment::PaymentId;
use countersign_core::tlog::entry::TaskName;
use countersign_crds::{Identity, PaymentState};
use jiff::Timestamp;
use serde::Serialize;

use crate::Store;
use crate::error::StoreError;
use crate::log::{LogEvent, append, unsigned};
use crate::values::{from_name, timestamp};

/// An item as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxItem {
    /// The id of the row in `outbox`, by which people have it tried again.
    pub id: i64,
    /// The network that it leaves for, by its name in the chart.
    pub network: String,
    /// `Payment` or `Anchor`.
    pub kind: &'static str,
    /// The payment's id, `0x` and 64 hexadecimal digits; `None` of an anchor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
    /// Of an anchor: how many entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Of a payment: the namespace of the Task that pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of a payment: the name of the Task that pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Of a payment: the step that pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How far it has come.
    pub state: PaymentState,
    /// How often it was tried since something last went well with it.
    pub tries: i32,
    /// What the network knows it by: what is final, else what was signed last; `None` where nothing was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// What went wrong last; `None` where the last try went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the payment was asked for, or the checkpoint was chosen to be anchored.
    pub since: Timestamp,
}

/// How many items of a network are where.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxStanding {
    /// The network, by its name in the chart.
    pub network: String,
    /// `Payment` or `Anchor`.
    pub kind: &'static str,
    /// How far these items have come.
    pub state: PaymentState,
    /// How many items are of this network, kind and state.
    pub count: i64,
    /// Of those that are not over, how long the oldest has waited.
    pub oldest_seconds: f64,
}

impl Store {
    /// What a Task has outside, by step.
    pub async fn external(&self, uid: &str) -> Result<ExternalState, StoreError> {
        let rows = sqlx::query!(
            r#"select p.id, p.step, p.terms ->> 'mode' as "mode!", o.state, o.last_error, coalesce(o.transaction,
                 (select s.transaction from submissions s where s.outbox = o.id order by s.id desc limit 1)) as transaction
               from payments p join outbox o on o.payment = p.id where p.task_uid = $1 order by p.at"#,
            uid
        );
        let mut payments = BTreeMap::new();
        for row in rows.fetch_all(&self.pool).await? {
            let id: B256 =
                row.id.parse().map_err(|_| StoreError::Corrupt(format!("{} is no payment's id", row.id).into()))?;
            let view = PaymentView {
                id: PaymentId(id),
                mode: from_name(&row.mode)?,
                state: from_name(&row.state)?,
                transaction: row.transaction,
                message: row.last_error,
            };
            payments.insert(row.step, view);
        }
        // The earliest confirmation counts, so that what is shown stays.
        let rows = sqlx::query!(
            r#"select convert_from(p.body, 'UTF8')::jsonb #>> '{event,step}' as "step!", t.transaction as "transaction!"
               from log_entries e join log_leaves l on l.entry = e.id join log_payloads p on p.entry = e.id
               cross join lateral (
                   select o.network || ':' || o.transaction as transaction from anchors a join outbox o on o.anchor = a.id
                   where o.state = 'Confirmed' and a.size > l.index order by o.ended_at, o.id limit 1) t
               where e.task_uid = $1 and e.kind = 'finishStep'"#,
            uid
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(ExternalState { payments, anchors: rows.into_iter().map(|row| (row.step, row.transaction)).collect() })
    }

    /// Items that ended in the last ten minutes and are none of these, each with the Tasks that it is of.
    pub async fn ended_outbox(&self, known: &[i64]) -> Result<Vec<(i64, Vec<String>)>, StoreError> {
        let rows = sqlx::query!(
            r#"select o.id, coalesce(array_agg(distinct coalesce(p.task_uid, e.task_uid))
                   filter (where coalesce(p.task_uid, e.task_uid) is not null), '{}') as "uids!"
               from outbox o
               left join payments p on p.id = o.payment
               left join anchors a on a.id = o.anchor and o.state = 'Confirmed'
               left join log_leaves l on l.index < a.size and l.index >= coalesce(
                   (select max(b.size) from anchors b join outbox q on q.anchor = b.id
                    where b.network = a.network and b.size < a.size and q.state = 'Confirmed'), 0)
               left join log_entries e on e.id = l.entry
               where o.ended_at > now() - interval '10 minutes' and o.id <> all($1)
               group by o.id order by o.id"#,
            known
        );
        Ok(rows.fetch_all(&self.pool).await?.into_iter().map(|row| (row.id, row.uids)).collect())
    }

    /// What is in the outbox, the newest first: what is not over, or what ended for nothing, or all.
    pub async fn list_outbox(
        &self,
        states: &[PaymentState],
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<OutboxItem>, StoreError> {
        let states: Vec<String> = states.iter().map(|state| state.as_str().to_owned()).collect();
        let rows = sqlx::query!(
            r#"select o.id, o.network, o.payment, a.size as "size?", t.namespace as "namespace?", t.name as "name?",
                 p.step as "step?", o.state, o.tries, o.last_error, coalesce(o.transaction,
                     (select s.transaction from submissions s where s.outbox = o.id order by s.id desc limit 1))
                     as transaction,
                 (extract(epoch from coalesce(p.at, a.at)) * 1000000)::bigint as "since!"
               from outbox o left join anchors a on a.id = o.anchor left join payments p on p.id = o.payment
               left join tasks t on t.uid = p.task_uid
               where o.state = any($1) and ($2::bigint is null or o.id < $2) order by o.id desc limit $3"#,
            &states,
            before,
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(OutboxItem {
                id: row.id,
                network: row.network,
                kind: if row.payment.is_some() { "Payment" } else { "Anchor" },
                payment: row.payment,
                entries: row.size.map(unsigned).transpose()?,
                namespace: row.namespace,
                task: row.name,
                step: row.step,
                state: from_name(&row.state)?,
                tries: row.tries,
                transaction: row.transaction,
                message: row.last_error,
                since: timestamp(row.since)?,
            })
        });
        rows.collect()
    }

    /// Has what ended for nothing tried again. `false` where there is no such item.
    pub async fn revive_outbox(&self, id: i64, by: &Identity, now: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let revived = sqlx::query!(
            r#"update outbox o set state = 'Waiting', revived = true, round = round + 1, tries = 0, next_try = now(), ended_at = null
               where o.id = $1 and o.state in ('Refused', 'Dead') returning payment"#,
            id
        );
        let Some(revived) = revived.fetch_optional(&mut *transaction).await? else { return Ok(false) };
        if let Some(payment) = revived.payment {
            let task = sqlx::query_as!(
                TaskRow,
                "select t.namespace, t.name, t.uid from payments p join tasks t on t.uid = p.task_uid where p.id = $1",
                payment
            );
            let TaskRow { namespace, name, uid } = task.fetch_one(&mut *transaction).await?;
            let id: B256 =
                payment.parse().map_err(|_| StoreError::Corrupt(format!("{payment} is no payment's id").into()))?;
            let event = Event::RevivePayment { payment: PaymentId(id), by: by.clone(), at: now };
            append(&mut transaction, Some(&TaskName { namespace, name, uid }), &[LogEvent::event(&event)?]).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// How many items are where, for metrics.
    pub async fn outbox_standing(&self) -> Result<Vec<OutboxStanding>, StoreError> {
        let rows = sqlx::query!(
            r#"select o.network, o.payment is not null as "pays!", o.state, count(*) as "count!",
                 coalesce(extract(epoch from now() - min(coalesce(p.at, a.at))
                     filter (where o.state in ('Waiting', 'Submitted'))), 0)::float8 as "oldest!"
               from outbox o left join anchors a on a.id = o.anchor left join payments p on p.id = o.payment
               group by 1, 2, 3"#
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(OutboxStanding {
                network: row.network,
                kind: if row.pays { "Payment" } else { "Anchor" },
                state: from_name(&row.state)?,
                count: row.count,
                oldest_seconds: row.oldest,
            })
        });
        rows.collect()
    }
}

struct TaskRow {
    namespace: String,
    name: String,
    uid: String,
}
