//! The broker's side of the record: which attempt a session is of, every call before its first byte leaves, and files.

use std::collections::BTreeSet;

use countersign_core::digest::Digest;
use countersign_core::event::Event;
use countersign_core::money::Money;
use countersign_core::record::Launch;
use countersign_core::tlog::entry::TaskName;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::Store;
use crate::error::StoreError;
use crate::ledger::{amount, money};
use crate::log::{LogEvent, append};
use crate::values::{count, digest, from_json, micros};

/// An attempt whose pod was let in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The attempt's key.
    pub attempt: String,
    /// The Task whose step it is a try at.
    pub task: TaskName,
    /// The `metadata.uid` of the one pod that was let in.
    pub pod_uid: String,
    /// What it runs, where it may go and what it may pay, as it was decided.
    pub launch: Launch,
    /// Whether it ended since; then nothing more is done for it.
    pub over: bool,
}

/// A call that is about to leave.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The HTTP method in upper case; of a payment `PAY`.
    pub method: &'a str,
    /// Without its query.
    pub url: &'a str,
    /// The most that it may cost, and what all calls of the attempt together may.
    pub reserved: Money,
    /// What all calls of the attempt together may cost; `None` where nothing limits it.
    pub ceiling: Option<Money>,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct CallEnd<'a> {
    /// One word of the broker's closed set, such as `answered` or `timeout`; of a payment `paid` or `not-paid`.
    pub outcome: &'a str,
    /// The status of the HTTP answer, or the mail server's reply code; `None` where there was none.
    pub status: Option<u16>,
    /// `IP:PORT` that was connected to; `None` where nothing was.
    pub address: Option<String>,
    /// Bytes of content that left.
    pub sent: u64,
    /// Bytes of content that came back.
    pub received: u64,
    /// What the call came to, in millionths of the currency.
    pub cost: Money,
}

/// Whether a call may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It may, and this is its number among the attempt's calls; the first is 1.
    Number(u32),
    /// With it the attempt would cost more than it may.
    CeilingReached {
        /// What the attempt's calls have cost so far, with what is kept for those under way.
        cost: Money,
    },
    /// The attempt has ended.
    Over,
}

impl Store {
    /// The attempt of this key, once its pod was let in.
    pub async fn admitted(&self, attempt: &str) -> Result<Option<Admitted>, StoreError> {
        let row = sqlx::query!(
            r#"select a.task_uid, t.namespace, t.name, a.pod_uid as "pod_uid!", a.launch,
                a.outcome is not null or t.ending_cause in ('Cancelled', 'DeadlineExceeded', 'Deleted') as "over?"
               from attempts a join tasks t on t.uid = a.task_uid where a.key = $1 and a.pod_uid is not null"#,
            attempt
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(Admitted {
            attempt: attempt.to_owned(),
            task: TaskName { namespace: row.namespace, name: row.name, uid: row.task_uid },
            pod_uid: row.pod_uid,
            launch: from_json(row.launch)?,
            over: row.over.unwrap_or_default(),
        }))
    }

    /// Takes the attempt's token for a session; `false` where it was taken before.
    pub async fn open_session(&self, of: &Admitted, secret: &[u8; 32], at: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let opened = sqlx::query!(
            "insert into sessions (attempt, secret) values ($1, $2) on conflict (attempt) do nothing",
            of.attempt,
            secret
        );
        if opened.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let event = Event::OpenSession { attempt: of.attempt.clone(), at };
        append(&mut transaction, Some(&of.task), &[LogEvent::event(&event)?]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The attempt that a session is of.
    pub async fn session(&self, secret: &[u8; 32]) -> Result<Option<Admitted>, StoreError> {
        let attempt = sqlx::query_scalar!("select attempt from sessions where secret = $1", secret);
        match attempt.fetch_optional(&self.pool).await? {
            Some(attempt) => self.admitted(&attempt).await,
            None => Ok(None),
        }
    }

    /// Records a call before its first byte leaves, and keeps what it may cost at most.
    pub async fn begin_call(&self, of: &Admitted, call: &Call<'_>, at: Timestamp) -> Result<Begun, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // The row is locked, so that calls at once cannot each have what is left.
        let session = sqlx::query!(
            r#"select s.calls, s.cost, s.closed or a.outcome is not null as "over!"
               from sessions s join attempts a on a.key = s.attempt where s.attempt = $1 for update of s"#,
            of.attempt
        );
        let session = session.fetch_one(&mut *transaction).await?;
        if session.over {
            return Ok(Begun::Over);
        }
        let cost = money(session.cost)?;
        let within =
            call.ceiling.is_none_or(|ceiling| cost.checked_add(call.reserved).is_some_and(|sum| sum <= ceiling));
        if !within {
            return Ok(Begun::CeilingReached { cost });
        }
        let number = session.calls + 1;
        let begun = enter(&mut transaction, of, number, call, at).await?;
        append(&mut transaction, Some(&of.task), &[begun]).await?;
        transaction.commit().await?;
        Ok(Begun::Number(count(number)?))
    }

    /// Records what came of a call, and gives back what it did not cost.
    pub async fn end_call(
        &self,
        of: &Admitted,
        number: u32,
        end: CallEnd<'_>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let CallEnd { outcome, status, address, sent, received, cost } = end;
        let ended = sqlx::query!(
            "update calls set outcome = $3, status = $4, address = $5, sent = $6, received = $7, cost = $8,
                 ended_at = to_timestamp($9::bigint / 1000000.0)
             where attempt = $1 and number = $2 and outcome is null returning reserved",
            of.attempt,
            i32::try_from(number).unwrap_or(i32::MAX),
            outcome,
            status.map(i32::from),
            address,
            i64::try_from(sent).unwrap_or(i64::MAX),
            i64::try_from(received).unwrap_or(i64::MAX),
            amount(cost)?,
            micros(at)
        );
        // Where it has an end already, the first one stands.
        let Some(ended) = ended.fetch_optional(&mut *transaction).await? else { return Ok(()) };
        sqlx::query!(
            "update sessions set cost = cost - $2 + $3 where attempt = $1",
            of.attempt,
            ended.reserved,
            amount(cost)?
        )
        .execute(&mut *transaction)
        .await?;
        let event = Event::EndCall {
            attempt: of.attempt.clone(),
            number,
            outcome: outcome.to_owned(),
            status,
            address,
            sent,
            received,
            cost,
            at,
        };
        append(&mut transaction, Some(&of.task), &[LogEvent::event(&event)?]).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Keeps a file or a tree by its content; `None` where the attempt would have kept more than `most` bytes.
    pub async fn keep_file(&self, of: &Admitted, body: &[u8], most: u64) -> Result<Option<Digest>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
        let counted = sqlx::query!(
            "update sessions set bytes = bytes + $2 where attempt = $1 and bytes + $2 <= $3",
            of.attempt,
            bytes,
            i64::try_from(most).unwrap_or(i64::MAX)
        );
        if counted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let digest = Digest::of_bytes(body);
        put_file(&mut transaction, of, digest, body).await?;
        transaction.commit().await?;
        Ok(Some(digest))
    }

    /// What the attempt has left.
    pub async fn kept(&self, of: &Admitted) -> Result<BTreeSet<Digest>, StoreError> {
        let digests = sqlx::query_scalar!("select digest from kept where attempt = $1", of.attempt);
        digests.fetch_all(&self.pool).await?.iter().map(|text| digest(text)).collect()
    }

    /// A file or a tree by its digest.
    pub async fn file(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let body = sqlx::query_scalar!("select body from files where digest = $1", digest.to_string());
        Ok(body.fetch_optional(&self.pool).await?)
    }
}

/// Keeps a call with what it may cost at most, in a session that is locked; what the log is told of it.
pub(crate) async fn enter(
    connection: &mut PgConnection,
    of: &Admitted,
    number: i32,
    call: &Call<'_>,
    at: Timestamp,
) -> Result<LogEvent, StoreError> {
    let Call { method, url, reserved, ceiling: _ } = call;
    sqlx::query!(
        "update sessions set calls = $2, cost = cost + $3 where attempt = $1",
        of.attempt,
        number,
        amount(*reserved)?
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into calls (attempt, number, method, url, begun_at, reserved)
         values ($1, $2, $3, $4, to_timestamp($5::bigint / 1000000.0), $6)",
        of.attempt,
        number,
        method,
        url,
        micros(at),
        amount(*reserved)?
    )
    .execute(connection)
    .await?;
    LogEvent::event(&Event::BeginCall {
        attempt: of.attempt.clone(),
        number: count(number)?,
        method: (*method).to_owned(),
        url: (*url).to_owned(),
        reserved: *reserved,
        at,
    })
}

async fn put_file(connection: &mut PgConnection, of: &Admitted, digest: Digest, body: &[u8]) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into files (digest, body) values ($1, $2) on conflict (digest) do nothing",
        digest.to_string(),
        body
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into kept (attempt, digest) values ($1, $2) on conflict do nothing",
        of.attempt,
        digest.to_string()
    )
    .execute(connection)
    .await?;
    Ok(())
}
