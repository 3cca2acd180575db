//! What can go wrong with the record, and whose fault it is.

use thiserror::Error;

/// Why the record was not read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// PostgreSQL is away or ends: nothing was concluded, and it is worth another try.
    #[error("PostgreSQL is not available")]
    Unavailable(#[source] sqlx::Error),
    /// PostgreSQL answered with something that only a defect or a foreign hand explains.
    #[error("PostgreSQL did not do as it was asked")]
    Database(#[source] sqlx::Error),
    /// A migration failed, or those that were run are not those of this version.
    #[error("the schema cannot be brought up to date")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// A role that is to work with the record is not there, and was not made.
    #[error("the role {role} cannot be given its rights: {why}")]
    Role {
        /// Its name in PostgreSQL.
        role: String,
        /// What is missing, and what to do about it.
        why: String,
    },
    /// A row holds what this version cannot read.
    #[error("the record cannot be read")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a transaction left no trace. When the connection is lost during the commit itself its outcome is
/// unknown; the next reconciliation reads the version and goes on from whatever is there.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Somebody else changed this Task's record since it was read.
    #[error("the record changed since it was read; look again")]
    Conflict,
    /// Others took what was left of a budget since it was weighed.
    #[error("a budget was used by others since it was weighed; look again")]
    OverBudget,
    /// A constraint says that the change cannot be: a key used twice, an Approval consumed twice.
    #[error("the change cannot be")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// PostgreSQL does not answer, or the record cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    /// Whether the role may not do this (42501).
    pub fn is_forbidden(&self) -> bool {
        match self {
            StoreError::Database(sqlx::Error::Database(error)) => error.code().as_deref() == Some("42501"),
            StoreError::Database(_)
            | StoreError::Unavailable(_)
            | StoreError::Migration(_)
            | StoreError::Role { .. }
            | StoreError::Corrupt(_) => false,
        }
    }

    /// Whether another try, later, may succeed.
    pub fn is_unavailable(&self) -> bool {
        match self {
            StoreError::Unavailable(_) => true,
            StoreError::Migration(error) => {
                matches!(error, sqlx::migrate::MigrateError::Execute(error) if is_unavailable(error))
            }
            StoreError::Database(_) | StoreError::Role { .. } | StoreError::Corrupt(_) => false,
        }
    }
}

/// Connection lost, shutdown (57P01 to 57P03), too many connections (53300), disk full (53100), a statement that took
/// too long (57014), waited too long for a lock (55P03) or came after its session was ended (25P03), a standby (25006).
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08")
                || ["57P01", "57P02", "57P03", "57014", "55P03", "25P03", "53300", "53100", "25006"]
                    .contains(&code.as_ref())
        }),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) { StoreError::Unavailable(error) } else { StoreError::Database(error) }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        StoreError::Migration(error)
    }
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            // Class 23: integrity constraint violation.
            Some(code) if code.starts_with("23") => CommitError::Refused(error.into()),
            // A deadlock: PostgreSQL let the other one go on.
            Some("40P01") => CommitError::Conflict,
            _ => CommitError::Store(error.into()),
        }
    }
}
