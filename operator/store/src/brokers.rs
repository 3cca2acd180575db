//! The brokers that live, and what each has of the Secrets that it was given.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_core::fingerprint::{Fingerprints, agreed};

use crate::Store;
use crate::error::StoreError;
use crate::values::{from_json, json};

/// How long a broker lives without telling so.
pub const BROKER_LIVES: Duration = Duration::from_secs(20);

impl Store {
    /// Tells that this broker lives, and the fingerprints of the Secrets that it has now. What others told long ago goes.
    ///
    /// # Errors
    /// PostgreSQL's own.
    pub async fn tell_fingerprints(&self, broker: &str, has: &BTreeMap<String, String>) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into brokers (id, fingerprints, seen_at) values ($1, $2, now())
             on conflict (id) do update set fingerprints = excluded.fingerprints, seen_at = excluded.seen_at",
            broker,
            json(has)?
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!("delete from brokers where seen_at < now() - interval '1 hour'").execute(&self.pool).await?;
        Ok(())
    }

    /// This broker ends, and has no say any more.
    ///
    /// # Errors
    /// PostgreSQL's own.
    pub async fn forget_broker(&self, broker: &str) -> Result<(), StoreError> {
        sqlx::query!("delete from brokers where id = $1", broker).execute(&self.pool).await?;
        Ok(())
    }

    /// What all brokers that live agree on.
    ///
    /// # Errors
    /// PostgreSQL's own, and a row that does not read.
    pub async fn fingerprints(&self) -> Result<Fingerprints, StoreError> {
        let rows = sqlx::query_scalar!(
            "select fingerprints from brokers where seen_at > now() - make_interval(secs => $1)",
            BROKER_LIVES.as_secs_f64()
        );
        let brokers = rows.fetch_all(&self.pool).await?;
        let brokers = brokers.into_iter().map(from_json).collect::<Result<Vec<_>, _>>()?;
        Ok(agreed(&brokers))
    }
}
