//! What witnesses have cosigned of the log, and what there is for each to cosign.

use countersign_core::tlog::WitnessKey;
use jiff::Timestamp;

use super::read::unsigned;
use super::sequence::number;
use crate::Store;
use crate::error::StoreError;
use crate::values::{micros, timestamp};

/// Where a witness stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The size of the newest checkpoint, and its note as the log signed it.
    pub newest: u64,
    /// That checkpoint as a signed note (C2SP tlog-checkpoint), without cosignatures.
    pub note: String,
    /// The size of the newest one that this witness has cosigned; 0 where there is none.
    pub cosigned: u64,
    /// When the oldest one was signed that it has yet to cosign, or to cosign past.
    pub waits_since: Option<Timestamp>,
}

impl Store {
    /// `None` of a log without checkpoints.
    pub async fn witnessed(&self, witness: &WitnessKey) -> Result<Option<Witnessed>, StoreError> {
        let row = sqlx::query!(
            r#"select n.size, n.note, c.size as "cosigned!",
                 (select (extract(epoch from w.at) * 1000000)::bigint from log_checkpoints w
                  where w.size > c.size order by w.size limit 1) as waits_since
               from (select size, note from log_checkpoints order by size desc limit 1) as n,
                 (select coalesce(max(size), 0) as size from log_cosignatures where witness = $1) as c"#,
            witness.to_string()
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(Witnessed {
            newest: unsigned(row.size)?,
            note: row.note,
            cosigned: unsigned(row.cosigned)?,
            waits_since: row.waits_since.map(timestamp).transpose()?,
        }))
    }

    /// Keeps a cosignature that was found to hold. One that is there already stays.
    pub async fn keep_cosignature(
        &self,
        witness: &WitnessKey,
        size: u64,
        line: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into log_cosignatures (witness, size, line, at)
             values ($1, $2, $3, to_timestamp($4::bigint / 1000000.0)) on conflict do nothing",
            witness.to_string(),
            number(size)?,
            line,
            micros(now)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The newest checkpoint that so many witnesses have cosigned, with all its cosignatures: size and note.
    pub async fn cosigned_checkpoint(&self, witnesses: u32) -> Result<Option<(u64, String)>, StoreError> {
        let row = sqlx::query!(
            r#"select c.size, c.note || coalesce(string_agg(s.line, '' order by s.witness), '') as "note!"
               from log_checkpoints c left join log_cosignatures s on s.size = c.size
               where c.size = case when $1::bigint = 0 then (select max(size) from log_checkpoints)
                 else (select size from log_cosignatures group by size having count(*) >= $1 order by size desc limit 1)
               end
               group by c.size, c.note"#,
            i64::from(witnesses)
        );
        let row = row.fetch_optional(&self.pool).await?;
        row.map(|row| Ok((unsigned(row.size)?, row.note))).transpose()
    }
}
