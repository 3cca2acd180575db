//! What is configured, as the log has told it last: a change is an entry, and an object that did not change is none.

use std::collections::BTreeSet;

use countersign_core::event::{Event, ObjectName};
use jiff::Timestamp;

use super::write::{LogEvent, append};
use crate::Store;
use crate::error::StoreError;

impl Store {
    /// Logs a [`Event::Configure`] or [`Event::Remove`] unless the log has told of it before; says whether it did.
    pub async fn configure(&self, event: &Event) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let changed = match event {
            Event::Configure { object, uid, generation: _, digest, spec: _, at: _ } => {
                sqlx::query!(
                    "insert into configurations as c (kind, namespace, name, uid, digest) values ($1, $2, $3, $4, $5)
                     on conflict (kind, namespace, name) do update set uid = excluded.uid, digest = excluded.digest
                     where c.uid <> excluded.uid or c.digest is distinct from excluded.digest",
                    object.kind,
                    object.namespace,
                    object.name,
                    uid,
                    digest.map(|digest| digest.to_string())
                )
                .execute(&mut *transaction)
                .await?
            }
            Event::Remove { object, at: _ } => {
                sqlx::query!(
                    "delete from configurations where kind = $1 and namespace = $2 and name = $3",
                    object.kind,
                    object.namespace,
                    object.name
                )
                .execute(&mut *transaction)
                .await?
            }
            Event::Lead { .. }
            | Event::RotateKey { .. }
            | Event::Export { .. }
            | Event::OpenSession { .. }
            | Event::BeginCall { .. }
            | Event::EndCall { .. }
            | Event::RequestPayment { .. }
            | Event::SignPayment { .. }
            | Event::EndPayment { .. }
            | Event::RevivePayment { .. }
            | Event::Settle { .. }
            | Event::Erase { .. } => {
                return Err(StoreError::Corrupt(format!("{} is no configuration", event.kind()).into()));
            }
        };
        if changed.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        append(&mut transaction, None, &[LogEvent::event(event)?]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Logs that every object of this kind that is not among these is gone.
    pub async fn remove_others(
        &self,
        kind: &str,
        there: &BTreeSet<ObjectName>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let known =
            sqlx::query_as!(ObjectName, "select kind, namespace, name from configurations where kind = $1", kind);
        for object in known.fetch_all(&self.pool).await? {
            if !there.contains(&object) {
                self.configure(&Event::Remove { object, at }).await?;
            }
        }
        Ok(())
    }
}
