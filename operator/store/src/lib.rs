//! The record in PostgreSQL.
//!
//! One transaction applies all changes that one look at a Task decided, with an audit row for each, and
//! only if nobody else has changed that Task's record since it was read (compare-and-set on its version).

mod commit;
mod error;
mod load;
mod options;
mod values;

pub use error::{CommitError, StoreError};
pub use options::StoreOptions;

use std::collections::BTreeMap;

use serde_json::Value;
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
    pub uid: String,
    pub namespace: String,
    pub name: String,
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

    /// Brings the schema up to date. sqlx holds an advisory lock meanwhile, so replicas may do it at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        MIGRATOR.run(&self.pool).await?;
        Ok(())
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
