//! Anchors: which checkpoint is next, and which are seen outside.

use countersign_core::tlog::{Anchor, Checkpoint};
use jiff::Timestamp;
use std::time::Duration;

use crate::Store;
use crate::error::StoreError;
use crate::log::unsigned;
use crate::values::{micros, timestamp};

impl Store {
    /// Puts the newest checkpoint into the outbox of a network, where the one before is over, so much time has gone by
    /// since it was put there, and the log has grown. Whether it did.
    pub async fn propose_anchor(&self, network: &str, interval: Duration, now: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Signers come one after the other.
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended('anchor:' || $1, 0))", network)
            .execute(&mut *transaction)
            .await?;
        let newest = sqlx::query!(
            r#"select c.size, c.note from (select size, note from log_checkpoints order by size desc limit 1) c
               where c.size > 0 and not exists (
                   select from anchors a join outbox o on o.anchor = a.id
                   where a.network = $1
                     and (a.size >= c.size or o.state in ('Waiting', 'Submitted')
                          or a.at > to_timestamp($2::bigint / 1000000.0) - make_interval(secs => $3)))"#,
            network,
            micros(now),
            interval.as_secs_f64()
        );
        let Some(newest) = newest.fetch_optional(&mut *transaction).await? else { return Ok(false) };
        let digest = Checkpoint::anchored(&newest.note)
            .map_err(|error| StoreError::Corrupt(format!("a checkpoint: {error}").into()))?;
        sqlx::query!(
            "with made as (
                 insert into anchors (network, size, digest, at)
                 values ($1, $2, $3, to_timestamp($4::bigint / 1000000.0)) returning id, network)
             insert into outbox (network, anchor) select network, id from made",
            network,
            newest.size,
            &digest,
            micros(now)
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Of each network, among the anchors of checkpoints with at most `within` entries, the first that covers so many;
    /// where none does, the newest. Each with the proof that it is the beginning of the one of `within`.
    pub async fn anchors_of(&self, entries: u64, within: u64) -> Result<Vec<Anchor>, StoreError> {
        let rows = sqlx::query!(
            r#"select distinct on (a.network) a.network, a.size, c.note, o.transaction as "transaction!", o.place,
                 (extract(epoch from o.confirmed_at) * 1000000)::bigint as "at!", o.evidence as "evidence!"
               from anchors a join outbox o on o.anchor = a.id join log_checkpoints c on c.size = a.size
               where o.state = 'Confirmed' and a.size <= $2
               order by a.network, (a.size >= $1) desc, case when a.size >= $1 then a.size else -a.size end"#,
            i64::try_from(entries).unwrap_or(i64::MAX),
            i64::try_from(within).unwrap_or(i64::MAX)
        );
        let mut anchors = Vec::new();
        for row in rows.fetch_all(&self.pool).await? {
            let size = unsigned(row.size)?;
            anchors.push(Anchor {
                network: row.network,
                size,
                checkpoint: row.note,
                transaction: row.transaction,
                place: row.place.map(unsigned).transpose()?,
                at: timestamp(row.at)?,
                evidence: Anchor::encode_evidence(&row.evidence),
                proof: Anchor::encode_proof(&self.consistency_proof(size, within).await?),
            });
        }
        Ok(anchors)
    }
}
