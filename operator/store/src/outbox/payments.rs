//! The broker's side of a payment: it hands over what the attempt's launch says, and nothing that a sandbox says.

use countersign_core::event::Event;
use countersign_core::money::Money;
use countersign_core::payment::Payment;
use countersign_crds::PaymentState;
use jiff::Timestamp;
use sqlx::PgConnection;
use thiserror::Error;

use crate::Store;
use crate::error::StoreError;
use crate::ledger::money;
use crate::log::{LogEvent, append};
use crate::sessions::{Admitted, Call, enter};
use crate::values::{count, from_name, json, micros};

/// How a payment stands that an attempt asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedPayment {
    /// How far it has come.
    pub state: PaymentState,
    /// The newest one that was signed; once it is confirmed, the one that paid.
    pub transaction: Option<String>,
    /// The block or tick in which it is final, once it is and where there is one.
    pub place: Option<u64>,
    /// What went wrong last; `None` where the last try went well.
    pub last_error: Option<String>,
    /// The call that it counts as.
    pub call: u32,
    /// What it costs this attempt where it is paid.
    pub cost: Money,
    /// Whether the call has no end yet.
    pub open: bool,
}

/// Why a payment is not handed over.
#[derive(Debug, Error)]
pub enum PaymentProblem {
    /// The attempt, or its session with the broker, ended before it asked.
    #[error("the attempt has ended")]
    Over,
    /// With the payment's price the attempt would cost more than its ceiling; holds what it cost so far.
    #[error("with it the attempt would cost more than it may; it has cost {0} so far")]
    CeilingReached(Money),
    /// Another payment is kept under the same id, with other terms.
    #[error("another payment was asked for under the same id; use another key in the step's input")]
    Differs,
    /// The record was not read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PaymentProblem {
    fn from(error: sqlx::Error) -> Self {
        PaymentProblem::Store(error.into())
    }
}

/// As which a payment is listed among an attempt's calls.
const METHOD: &str = "PAY";

impl Store {
    /// Hands the attempt's payment to the signer, once; says how it stands.
    pub async fn request_payment(
        &self,
        of: &Admitted,
        payment: &Payment,
        ceiling: Option<Money>,
        at: Timestamp,
    ) -> Result<RequestedPayment, PaymentProblem> {
        let mut transaction = self.pool.begin().await?;
        // The row is locked, so that one attempt asks once.
        let session = sqlx::query!(
            r#"select s.calls, s.cost, s.closed or a.outcome is not null as "over!"
               from sessions s join attempts a on a.key = s.attempt where s.attempt = $1 for update of s"#,
            of.attempt
        );
        let session = session.fetch_one(&mut *transaction).await?;
        // By a statement of its own, as the one that waited for the row sees what there was before it waited.
        let call =
            sqlx::query_scalar!("select number from calls where attempt = $1 and method = $2", of.attempt, METHOD);
        if call.fetch_optional(&mut *transaction).await?.is_some() {
            return Ok(standing(&mut transaction, of, payment).await?);
        }
        if session.over {
            return Err(PaymentProblem::Over);
        }
        let owed = hand_over(&mut transaction, of, payment, at).await?;
        let cost = money(session.cost)?;
        if ceiling.is_some_and(|ceiling| cost.checked_add(owed).is_none_or(|sum| sum > ceiling)) {
            return Err(PaymentProblem::CeilingReached(cost));
        }
        let url = format!("payment:{}/{}", payment.network, payment.id);
        let call = Call { method: METHOD, url: &url, reserved: owed, ceiling };
        let begun = enter(&mut transaction, of, session.calls + 1, &call, at).await?;
        let request = Event::RequestPayment { attempt: of.attempt.clone(), payment: Box::new(payment.clone()), at };
        append(&mut transaction, Some(&of.task), &[begun, LogEvent::event(&request)?]).await?;
        let standing = standing(&mut transaction, of, payment).await?;
        transaction.commit().await?;
        Ok(standing)
    }
}

/// Puts it into the outbox; where an attempt before this one did, that stays, and what had ended for nothing is tried
/// again. What it will have cost this attempt.
async fn hand_over(
    connection: &mut PgConnection,
    of: &Admitted,
    payment: &Payment,
    at: Timestamp,
) -> Result<Money, PaymentProblem> {
    let id = payment.id.to_string();
    let terms = json(payment)?;
    let step = sqlx::query_scalar!("select step from attempts where key = $1", of.attempt);
    let step = step.fetch_one(&mut *connection).await?;
    let made = sqlx::query!(
        "insert into payments (id, task_uid, step, network, token, amount, terms, at)
         values ($1, $2, $3, $4, $5, $6::text::numeric, $7, to_timestamp($8::bigint / 1000000.0))
         on conflict (id) do nothing",
        id,
        of.task.uid,
        step,
        payment.network,
        payment.token.map(|token| token.to_checksum(None)),
        payment.amount.to_string(),
        terms,
        micros(at)
    );
    if made.execute(&mut *connection).await?.rows_affected() == 1 {
        sqlx::query!(
            "insert into outbox (network, payment, attempt) values ($1, $2, $3)",
            payment.network,
            id,
            of.attempt
        )
        .execute(&mut *connection)
        .await?;
        return Ok(payment.price);
    }
    let kept = sqlx::query_scalar!("select terms from payments where id = $1", id);
    if kept.fetch_one(&mut *connection).await? != terms {
        return Err(PaymentProblem::Differs);
    }
    // Nothing moved so far, and nothing that was signed can move any more than once.
    let again = sqlx::query!(
        "update outbox set state = 'Waiting', attempt = $2, revived = false, round = round + 1, tries = 0,
             next_try = now(), ended_at = null
         where payment = $1 and state in ('Refused', 'Dead')",
        id,
        of.attempt
    );
    if again.execute(&mut *connection).await?.rows_affected() == 1 {
        return Ok(payment.price);
    }
    sqlx::query!("update outbox set attempt = $2 where payment = $1 and state = 'Waiting'", id, of.attempt)
        .execute(&mut *connection)
        .await?;
    // It counts with the attempt that asked first.
    Ok(Money::ZERO)
}

async fn standing(
    connection: &mut PgConnection,
    of: &Admitted,
    payment: &Payment,
) -> Result<RequestedPayment, StoreError> {
    let row = sqlx::query!(
        r#"select o.state, o.place, o.last_error, c.number, c.reserved, c.outcome is null as "open!",
             coalesce(o.transaction,
                 (select s.transaction from submissions s where s.outbox = o.id order by s.id desc limit 1)) as transaction
           from outbox o join calls c on c.attempt = $2 and c.method = $3 where o.payment = $1"#,
        payment.id.to_string(),
        of.attempt,
        METHOD
    );
    let row = row.fetch_one(connection).await?;
    Ok(RequestedPayment {
        state: from_name(&row.state)?,
        transaction: row.transaction,
        place: row.place.and_then(|place| u64::try_from(place).ok()),
        last_error: row.last_error,
        call: count(row.number)?,
        cost: money(row.reserved)?,
        open: row.open,
    })
}
