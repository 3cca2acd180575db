//! The record in PostgreSQL.
//!
//! One transaction applies all changes that one reconciliation of a Task decided, with a log entry for each, and
//! only if nobody else has changed that Task's record since it was read (compare-and-set on its version).

#![warn(missing_docs)]

mod alerts;
mod brokers;
mod commit;
mod error;
mod history;
mod ledger;
mod load;
mod log;
mod options;
mod outbox;
mod queries;
mod roles;
mod runs;
mod sessions;
mod statistics;
mod summary;
mod values;

pub use alerts::{Alert, Outbox, UnannouncedAlert};
pub use brokers::BROKER_LIVES;
pub use error::{CommitError, StoreError};
pub use history::Past;
pub use ledger::{Differences, Unsettled};
pub use log::{Erased, LogKeys, Sequenced, Snapshot, Witnessed};
pub use options::{StoreOptions, Timeouts, within};
pub use outbox::{Claim, Item, Limit, OutboxItem, OutboxStanding, PaymentProblem, RequestedPayment, Work};
pub use queries::{Cursor, StepFilter, StepRow, TaskFilter, TaskRow};
pub use roles::{Rights, Role};
pub use sessions::{Admitted, Begun, Call, CallEnd};
pub use statistics::{
    BudgetCursor, BudgetFilter, BudgetRow, Decisions, DecisionsCursor, Period, Reason, ReasonCursor, Spend, SpendBy,
    SpendCursor,
};
pub use summary::{LedgerSummary, OpenWindows, ReservationState};

use std::collections::BTreeMap;

use countersign_core::binding::Binding;
use countersign_core::record::Covered;
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

/// A Task whose record is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedTask {
    /// The Task object's `metadata.uid`.
    pub uid: String,
    /// The Task's namespace.
    pub namespace: String,
    /// The Task's name in that namespace, which a later Task may have too.
    pub name: String,
}

/// A run that people approved.
#[derive(Clone, Debug, PartialEq)]
pub struct LastApproved {
    /// The name of the Approval, in the Task's namespace.
    pub approval: String,
    /// When its attempt was recorded.
    pub at: jiff::Timestamp,
    /// What was signed for; `None` once that was erased.
    pub binding: Option<Box<Binding>>,
}

impl Store {
    /// Opens a pool without connecting: PostgreSQL may be away when the operator starts.
    ///
    /// # Errors
    /// The URL does not parse.
    pub fn open(options: &StoreOptions) -> Result<Store, StoreError> {
        Ok(Store { pool: options.pool()? })
    }

    /// Whether PostgreSQL answers; where it does not, why.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match sqlx::query_scalar!("select 1 as \"one!\"").fetch_one(&self.pool).await {
            Ok(_) => Ok(()),
            // The pool says only that it waited; a connection of its own says what for.
            Err(sqlx::Error::PoolTimedOut) => {
                let connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
                Ok(connection.close().await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the schema is the one that this version works with.
    pub async fn is_migrated(&self) -> Result<bool, StoreError> {
        let there = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "there!""#);
        if !there.fetch_one(&self.pool).await? {
            return Ok(false);
        }
        let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        let done: Option<i64> =
            sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(&self.pool).await?;
        Ok(done >= Some(newest))
    }

    /// Brings the schema up to date. sqlx holds an advisory lock meanwhile, so replicas may do it at once. It takes as
    /// long as it takes, on a connection of its own: no time-out of the others' cuts it off.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let unlimited =
            ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"].map(|name| (name, "0"));
        let unlimited = (*self.pool.connect_options()).clone().options(unlimited);
        let wait = self.pool.options().get_acquire_timeout();
        let one = PgPoolOptions::new().max_connections(1).acquire_timeout(wait).connect_with(unlimited).await?;
        let migrated = MIGRATOR.run(&one).await;
        one.close().await;
        Ok(migrated?)
    }

    /// The version of a Task's record; `None` where there is none.
    pub async fn version(&self, uid: &str) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar!("select version from tasks where uid = $1", uid).fetch_optional(&self.pool).await?)
    }

    /// The outputs of those of the steps that have one.
    pub async fn outputs(&self, uid: &str, steps: &[String]) -> Result<BTreeMap<String, Value>, StoreError> {
        let rows = sqlx::query!(
            "select s.name, o.body from steps s join outputs o on o.digest = s.output_digest
             where s.task_uid = $1 and s.name = any($2)",
            uid,
            steps
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(|row| Ok((row.name, values::from_bytes(&row.body)?))).collect()
    }

    /// The run of this step that was approved and used last, among Tasks of the same namespace whose Plan came
    /// from the same source: what was signed for, under which Approval, and when.
    pub async fn last_approved(&self, uid: &str, step: &str) -> Result<Option<LastApproved>, StoreError> {
        let row = sqlx::query!(
            r#"select a.name, a.covers -> $2::text as "covered!",
                (extract(epoch from t.intended_at) * 1000000)::bigint as "at!"
               from attempts t
               join approvals a on a.task_uid = t.task_uid and a.name = t.approval
               join tasks k on k.uid = t.task_uid
               join plans p on p.task_uid = t.task_uid
               join tasks ours on ours.uid = $1
               join plans our_plan on our_plan.task_uid = $1
               where k.namespace = ours.namespace and p.source = our_plan.source and t.step = $2
                 and t.task_uid <> $1 and t.pod_uid is not null
               order by t.intended_at desc limit 1"#,
            uid,
            step
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let Covered { attempt: _, digest: _, binding, rules: _ } = values::from_json(row.covered)?;
        Ok(Some(LastApproved { approval: row.name, at: values::timestamp(row.at)?, binding }))
    }

    /// Every Task whose record is not finished.
    pub async fn unfinished(&self) -> Result<Vec<UnfinishedTask>, StoreError> {
        let tasks = sqlx::query_as!(UnfinishedTask, "select uid, namespace, name from tasks where outcome is null");
        Ok(tasks.fetch_all(&self.pool).await?)
    }

    /// The connections themselves, for tests that look behind the record.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Waits for what is under way and closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
