//! The signer's side: what is due, whose a nonce is, what was signed, and what came of it.

use std::time::Duration;

use alloy_primitives::U256;
use countersign_core::event::{Event, PaymentReceipt};
use countersign_core::outbox::{Receipt, Submission};
use countersign_core::payment::{Payment, PaymentId};
use countersign_core::tlog::entry::TaskName;
use countersign_crds::PaymentState;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::Store;
use crate::error::StoreError;
use crate::log::{LogEvent, append, unsigned};
use crate::values::{from_json, kept_error, micros, timestamp};

/// Something that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The id of the row in `outbox`.
    pub id: i64,
    /// What is to be done on the network.
    pub work: Work,
    /// Whether something was signed for it since it was begun, or begun again, last.
    pub submitted: bool,
    /// Which try this is.
    pub tries: u32,
    /// A nonce that is its own and with which nothing was signed yet.
    pub claimed: Option<u64>,
    /// What was signed so far, the newest last.
    pub submissions: Vec<Submission>,
}

/// What an item of the outbox is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// The SHA-256 of what is signed in the checkpoint of so many entries.
    Anchor {
        /// That SHA-256, which the network is to keep.
        digest: [u8; 32],
        /// How many entries the checkpoint is of.
        size: u64,
    },
    /// A payment that a step's attempt asked for.
    Pay {
        /// What is paid, to whom and where, as it was judged and signed for.
        payment: Box<Payment>,
        /// The Task whose step pays.
        task: TaskName,
        /// Why it must not be signed, where it must not: it is not what an attempt was let in for that still runs.
        unauthorised: Option<String>,
    },
}

/// The most that may be signed for of an asset, in the smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many places a whole unit has.
    pub decimals: u8,
    /// In one payment.
    pub payment: U256,
    /// In any 24 hours.
    pub daily: U256,
}

/// Whether there is a nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The item's own nonce on the account.
    Nonce(u64),
    /// It would be more than the signer may sign for.
    OverLimit(String),
}

impl Store {
    /// Takes items of a network that are due, the one that has waited longest first. Nobody else takes them for as long
    /// as `lease`.
    pub async fn take_outbox(&self, network: &str, lease: Duration, most: i64) -> Result<Vec<Item>, StoreError> {
        let rows = sqlx::query!(
            r#"with due as (
                   select id from outbox
                   where network = $1 and state in ('Waiting', 'Submitted') and next_try <= now()
                   order by next_try, id limit $2 for update skip locked
               ), taken as (
                   update outbox o set next_try = now() + make_interval(secs => $3), tries = tries + 1
                   from due where o.id = due.id returning o.*
               )
               select o.id, o.state, o.tries, a.digest as "digest?", a.size as "size?", p.terms as "terms?",
                   t.namespace as "namespace?", t.name as "name?", t.uid as "uid?",
                   m.launch -> 'payment' as launched, m.pod_uid is not null as "admitted?",
                   m.outcome is not null or t.ending_cause in ('Cancelled', 'DeadlineExceeded', 'Deleted') as "over?",
                   o.revived,
                   (select min(n.nonce) from nonces n where n.outbox = o.id and not exists (
                        select from submissions s where s.account = n.account and s.nonce = n.nonce)) as claimed
               from taken o
               left join anchors a on a.id = o.anchor
               left join payments p on p.id = o.payment
               left join tasks t on t.uid = p.task_uid
               left join attempts m on m.key = o.attempt
               order by o.id"#,
            network,
            most,
            lease.as_secs_f64()
        );
        let mut items = Vec::new();
        for row in rows.fetch_all(&self.pool).await? {
            let work = match (row.digest, row.size, row.terms) {
                (Some(digest), Some(size), _) => Work::Anchor {
                    digest: digest.try_into().map_err(|_| StoreError::Corrupt("an anchor's digest".into()))?,
                    size: unsigned(size)?,
                },
                (_, _, Some(terms)) => {
                    let task = (row.namespace, row.name, row.uid);
                    let (Some(namespace), Some(name), Some(uid)) = task else {
                        return Err(StoreError::Corrupt(format!("outbox {}: its payment has no Task", row.id).into()));
                    };
                    let unauthorised = match (&row.launched, row.admitted, row.over) {
                        (Some(launched), Some(true), _) if *launched != terms => {
                            Some("it is not what the attempt was let in for: somebody changed it on its way".to_owned())
                        }
                        (Some(_), Some(true), over) if over.unwrap_or_default() && !row.revived => {
                            Some("the attempt that asked for it has ended, and nothing was signed for it".to_owned())
                        }
                        (Some(_), Some(true), _) => None,
                        _ => Some("no attempt was let in for it".to_owned()),
                    };
                    let payment = Box::new(from_json(terms)?);
                    Work::Pay { payment, task: TaskName { namespace, name, uid }, unauthorised }
                }
                (_, _, None) => {
                    return Err(StoreError::Corrupt(format!("outbox {}: it is for nothing", row.id).into()));
                }
            };
            items.push(Item {
                id: row.id,
                work,
                submitted: row.state == "Submitted",
                tries: u32::try_from(row.tries).unwrap_or(u32::MAX),
                claimed: row.claimed.map(unsigned).transpose()?,
                submissions: Vec::new(),
            });
        }
        self.load_submissions(&mut items).await?;
        Ok(items)
    }

    async fn load_submissions(&self, items: &mut [Item]) -> Result<(), StoreError> {
        let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
        let rows = sqlx::query_as!(
            SubmissionRow,
            r#"select s.outbox, s.nonce, s.body, s.transaction, s.max_fee::text, s.tip::text, s.place,
                 (extract(epoch from s.at) * 1000000)::bigint as "at!"
               from submissions s join outbox o on o.id = s.outbox and o.round = s.round
               where s.outbox = any($1) order by s.id"#,
            &ids
        );
        for row in rows.fetch_all(&self.pool).await? {
            let outbox = row.outbox;
            let submission = row.read()?;
            if let Some(item) = items.iter_mut().find(|item| item.id == outbox) {
                item.submissions.push(submission);
            }
        }
        Ok(())
    }

    /// A nonce for an item: the lowest one that is nobody's, and none that the chain has used already.
    pub async fn claim_nonce(
        &self,
        item: &Item,
        account: &str,
        floor: u64,
        limit: Option<Limit>,
        now: Timestamp,
    ) -> Result<Claim, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // What is left of a limit, and which nonce is next, is for one at a time.
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended('nonces:' || $1, 0))", account)
            .execute(&mut *transaction)
            .await?;
        if let Work::Pay { payment, .. } = &item.work
            && let Some(over) = over_limit(&mut transaction, item.id, account, payment, limit, now).await?
        {
            return Ok(Claim::OverLimit(over));
        }
        let floor = i64::try_from(floor).map_err(|error| StoreError::Corrupt(error.into()))?;
        // The lowest that is free: whatever waits with a higher one waits for it. So is what was claimed for something
        // that ended before anything was signed with it.
        let nonce = sqlx::query_scalar!(
            r#"insert into nonces as n (account, nonce, outbox, at)
               select $1, min(c.nonce), $3, to_timestamp($4::bigint / 1000000.0) from (
                   select $2::bigint as nonce
                   union select nonce + 1 from nonces where account = $1 and nonce >= $2) as c
               where not exists (
                   select from nonces t join outbox o on o.id = t.outbox
                   where t.account = $1 and t.nonce = c.nonce and (o.ended_at is null or exists (
                       select from submissions s where s.account = t.account and s.nonce = t.nonce)))
               on conflict (account, nonce) do update set outbox = excluded.outbox, at = excluded.at
               returning n.nonce"#,
            account,
            floor,
            item.id,
            micros(now)
        );
        let nonce = nonce.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Claim::Nonce(unsigned(nonce)?))
    }

    /// What was signed with an account's nonces from `floor` on and before `end`: of each
    /// the newest, in their order, sixteen at most.
    pub async fn signed_between(&self, account: &str, floor: u64, end: u64) -> Result<Vec<Submission>, StoreError> {
        let place = |nonce: u64| i64::try_from(nonce).map_err(|error| StoreError::Corrupt(error.into()));
        let rows = sqlx::query_as!(
            SubmissionRow,
            r#"select distinct on (nonce) outbox, nonce, body, transaction, max_fee::text, tip::text, place,
                 (extract(epoch from at) * 1000000)::bigint as "at!"
               from submissions where account = $1 and nonce >= $2 and nonce < $3
               order by nonce, id desc limit 16"#,
            account,
            place(floor)?,
            place(end)?
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(SubmissionRow::read).collect()
    }

    /// Gives back a nonce with which nothing was signed.
    pub async fn give_back_nonce(&self, item: i64) -> Result<(), StoreError> {
        sqlx::query!(
            "update nonces n set outbox = null where outbox = $1 and not exists (
                 select from submissions s where s.account = n.account and s.nonce = n.nonce)",
            item
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps what was signed, before it leaves. `false` where the item is over, or the nonce is no longer its own: then
    /// it must not leave.
    pub async fn keep_submission(
        &self,
        item: &Item,
        account: Option<&str>,
        submission: &Submission,
    ) -> Result<bool, StoreError> {
        let Submission { body, transaction: hash, nonce, max_fee, tip, place, at } = submission;
        let mut transaction = self.pool.begin().await?;
        let nonce_kept = nonce.map(i64::try_from).transpose();
        let nonce_kept = nonce_kept.map_err(|error| StoreError::Corrupt(error.into()))?;
        let open = sqlx::query!(
            "update outbox o set state = 'Submitted', last_error = null
             where id = $1 and state in ('Waiting', 'Submitted')
               and ($3::bigint is null or exists (
                   select from nonces n where n.account = $2 and n.nonce = $3 and n.outbox = o.id))",
            item.id,
            account,
            nonce_kept
        );
        if open.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let kept = sqlx::query!(
            "insert into submissions (outbox, round, account, nonce, body, transaction, max_fee, tip, place, at)
             select id, round, case when $3::bigint is not null then $2 end, $3, $4, $5, $6::text::numeric,
                 $7::text::numeric, $8, to_timestamp($9::bigint / 1000000.0) from outbox where id = $1
             on conflict (outbox, transaction) do nothing",
            item.id,
            account,
            nonce_kept,
            body,
            hash,
            max_fee.map(|fee| fee.to_string()),
            tip.map(|tip| tip.to_string()),
            place.and_then(|place| i64::try_from(place).ok()),
            micros(*at)
        );
        let fresh = kept.execute(&mut *transaction).await?.rows_affected() == 1;
        if let (Work::Pay { payment, task, unauthorised: _ }, true) = (&item.work, fresh) {
            let event = Event::SignPayment {
                payment: payment.id,
                account: account.unwrap_or("mock").to_owned(),
                nonce: *nonce,
                transaction: hash.clone(),
                at: *at,
            };
            append(&mut transaction, Some(task), &[LogEvent::event(&event)?]).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// It is done. What was known already stays.
    pub async fn confirm_outbox(&self, item: &Item, receipt: &Receipt, now: Timestamp) -> Result<(), StoreError> {
        let Receipt { transaction: hash, place, at, fee, evidence } = receipt;
        let mut transaction = self.pool.begin().await?;
        let confirmed = sqlx::query!(
            "update outbox set state = 'Confirmed', transaction = $2, place = $3,
                 confirmed_at = to_timestamp($4::bigint / 1000000.0), fee = $5::text::numeric, evidence = $6,
                 ended_at = to_timestamp($7::bigint / 1000000.0), last_error = null
             where id = $1 and state <> 'Confirmed'",
            item.id,
            hash,
            place.and_then(|place| i64::try_from(place).ok()),
            micros(*at),
            fee.map(|fee| fee.to_string()),
            evidence,
            micros(now)
        );
        if confirmed.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(());
        }
        let receipt = PaymentReceipt {
            transaction: hash.clone(),
            block: *place,
            confirmed_at: *at,
            fee: fee.map(|fee| fee.to_string()),
            evidence: String::from_utf8(evidence.clone()).ok().filter(|text| !text.is_empty()),
        };
        let ended = (PaymentState::Confirmed, Some(Box::new(receipt)), None);
        tell_end(&mut transaction, item, ended, now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// It never will be: by the network where something was signed for it, by the signer where nothing was.
    pub async fn fail_outbox(
        &self,
        item: &Item,
        state: PaymentState,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let why = kept_error(why);
        let seen = i64::try_from(item.submissions.len()).unwrap_or(i64::MAX);
        let mut transaction = self.pool.begin().await?;
        // Whoever signs for it meanwhile comes before this or after it.
        sqlx::query!("select id from outbox where id = $1 for update", item.id).fetch_one(&mut *transaction).await?;
        let failed = sqlx::query!(
            "update outbox o set state = $2, last_error = $3, ended_at = to_timestamp($4::bigint / 1000000.0)
             where id = $1 and state in ('Waiting', 'Submitted')
               and ($2 <> 'Dead' or not exists (select from submissions s where s.outbox = o.id)
                    or o.state = 'Waiting')
               and ($2 <> 'Refused' or $5 = (
                    select count(*) from submissions s where s.outbox = o.id and s.round = o.round))",
            item.id,
            state.as_str(),
            why,
            micros(now),
            seen
        );
        if failed.execute(&mut *transaction).await?.rows_affected() == 1 {
            tell_end(&mut transaction, item, (state, None, Some(why)), now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// It is tried again after a while. A pause without a reason is no failed try.
    pub async fn postpone_outbox(&self, item: &Item, why: Option<&str>, again: Duration) -> Result<(), StoreError> {
        sqlx::query!(
            "update outbox set last_error = $2, next_try = now() + make_interval(secs => $3),
                 tries = case when $2::text is null then 0 else tries end
             where id = $1 and state in ('Waiting', 'Submitted')",
            item.id,
            why.map(kept_error),
            again.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

struct SubmissionRow {
    outbox: i64,
    nonce: Option<i64>,
    body: Vec<u8>,
    transaction: String,
    max_fee: Option<String>,
    tip: Option<String>,
    place: Option<i64>,
    at: i64,
}

impl SubmissionRow {
    fn read(self) -> Result<Submission, StoreError> {
        let SubmissionRow { outbox: _, nonce, body, transaction, max_fee, tip, place, at } = self;
        let number = |text: Option<String>| {
            let read = |text: String| text.parse().map_err(|_| StoreError::Corrupt(format!("{text} is no fee").into()));
            text.map(read).transpose()
        };
        Ok(Submission {
            body,
            transaction,
            nonce: nonce.map(unsigned).transpose()?,
            max_fee: number(max_fee)?,
            tip: number(tip)?,
            place: place.map(unsigned).transpose()?,
            at: timestamp(at)?,
        })
    }
}

/// Why an account must not pay so much, where it must not.
async fn over_limit(
    connection: &mut PgConnection,
    item: i64,
    account: &str,
    payment: &Payment,
    limit: Option<Limit>,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let Some(Limit { decimals: _, payment: each, daily }) = limit else {
        return Ok(Some(format!("the signer has no limits for {}; set limits for this asset", payment.asset)));
    };
    let wanted = payment.amount.0;
    if wanted > each {
        return Ok(Some(format!("{wanted} is more than the signer's limit of {each} for one payment")));
    }
    let signed = sqlx::query_scalar!(
        r#"select coalesce(sum(p.amount), 0)::text as "sum!" from outbox o join payments p on p.id = o.payment
           where o.id <> $1 and p.token is not distinct from $3 and o.state <> 'Refused' and exists (
               select from nonces n where n.outbox = o.id and n.account = $2
                 and n.at > to_timestamp($4::bigint / 1000000.0) - interval '24 hours')"#,
        item,
        account,
        payment.token.map(|token| token.to_checksum(None)),
        micros(now)
    );
    let signed = signed.fetch_one(connection).await?;
    let signed = U256::from_str_radix(&signed, 10).map_err(|error| StoreError::Corrupt(error.into()))?;
    let over = signed.checked_add(wanted).is_none_or(|sum| sum > daily);
    Ok(over.then(|| {
        format!("{wanted} with the {signed} of the last 24 hours is more than the signer's limit of {daily} a day")
    }))
}

/// What ended, where it is a payment.
async fn tell_end(
    connection: &mut PgConnection,
    item: &Item,
    (state, receipt, message): (PaymentState, Option<Box<PaymentReceipt>>, Option<String>),
    at: Timestamp,
) -> Result<(), StoreError> {
    let Work::Pay { payment, task, unauthorised: _ } = &item.work else { return Ok(()) };
    let id: PaymentId = payment.id;
    let event = Event::EndPayment { payment: id, state, receipt, message, at };
    append(connection, Some(task), &[LogEvent::event(&event)?]).await
}
