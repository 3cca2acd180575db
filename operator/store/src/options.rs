//! How to reach PostgreSQL, and for how long a session may keep something there.

use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

use crate::error::StoreError;

/// What a pool of connections is opened with.
#[derive(Clone)]
pub struct StoreOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...`
    pub url: String,
    /// The most connections at once.
    pub max_connections: u32,
    /// How long to wait for a connection before PostgreSQL counts as away.
    pub acquire_timeout: Duration,
    /// For how long a session may keep something from others.
    pub timeouts: Timeouts,
}

/// For how long PostgreSQL lets a session of ours keep something, so that one whose client vanished holds nobody for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One statement, from start to end (`statement_timeout`).
    pub statement: Duration,
    /// Waiting for one lock (`lock_timeout`): then this transaction is undone and tried again later.
    pub lock: Duration,
    /// Between two statements of a transaction (`idle_in_transaction_session_timeout`): then the session ends, and what it
    /// held is free.
    pub idle_in_transaction: Duration,
    /// Until PostgreSQL notices that a client's machine is gone (`tcp_user_timeout`, with keepalives to match).
    pub vanished: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts { statement: seconds(30), lock: seconds(5), idle_in_transaction: seconds(10), vanished: seconds(15) }
    }
}

impl Timeouts {
    /// From settings in whole seconds, read by `number`: a variable's value, or the default, within a range.
    ///
    /// # Errors
    /// Those of `number`.
    pub fn read<E>(number: impl Fn(&str, u64, RangeInclusive<u64>) -> Result<u64, E>) -> Result<Timeouts, E> {
        let default = Timeouts::default();
        let read = |variable: &str, default: Duration, range| {
            number(&format!("COUNTERSIGN_DATABASE_{variable}_SECONDS"), default.as_secs(), range)
                .map(Duration::from_secs)
        };
        Ok(Timeouts {
            statement: read("STATEMENT", default.statement, 1..=3600)?,
            lock: read("LOCK", default.lock, 1..=600)?,
            idle_in_transaction: read("IDLE_IN_TRANSACTION", default.idle_in_transaction, 1..=600)?,
            vanished: read("VANISHED", default.vanished, 3..=600)?,
        })
    }

    /// As parameters of a session.
    fn parameters(&self) -> [(&'static str, String); 7] {
        let Timeouts { statement, lock, idle_in_transaction, vanished } = self;
        let milliseconds = |duration: &Duration| format!("{}ms", duration.as_millis());
        // Three probes, the last of which is due when the time is up.
        let probe = (vanished.as_secs() / 4).max(1).to_string();
        [
            ("statement_timeout", milliseconds(statement)),
            ("lock_timeout", milliseconds(lock)),
            ("idle_in_transaction_session_timeout", milliseconds(idle_in_transaction)),
            ("tcp_user_timeout", milliseconds(vanished)),
            ("tcp_keepalives_idle", probe.clone()),
            ("tcp_keepalives_interval", probe),
            ("tcp_keepalives_count", "3".to_owned()),
        ]
    }
}

/// How long a connection that is given back may take to answer; one that does not is closed.
const RETURNED: Duration = Duration::from_secs(5);

impl StoreOptions {
    pub(crate) fn pool(&self) -> Result<PgPool, StoreError> {
        let options: PgConnectOptions = self.url.parse()?;
        let options = options.application_name("countersign").options(self.timeouts.parameters());
        Ok(PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            // What was given up in the middle of a statement may be of a server that vanished, and would be kept for as
            // long as TCP tries.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let answered = tokio::time::timeout(RETURNED, connection.ping()).await;
                    answered.unwrap_or_else(|_| Err(silent("a connection that was given back")))?;
                    Ok(true)
                })
            })
            .connect_lazy_with(options))
    }
}

/// The outcome of work with the record, which is given up after `limit`: that a server vanished without a word is
/// noticed by nobody else for a quarter of an hour. Whether it was done is then as unknown as after a lost connection.
///
/// # Errors
/// Those of the work, and [`StoreError::Unavailable`] where it takes too long.
pub async fn within<T, E: From<StoreError>>(limit: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::from(silent("the server")).into()),
    }
}

fn silent(what: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not answer in time")))
}

/// The password stays out of logs.
impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StoreOptions { url: _, max_connections, acquire_timeout, timeouts } = self;
        f.debug_struct("StoreOptions")
            .field("max_connections", max_connections)
            .field("acquire_timeout", acquire_timeout)
            .field("timeouts", timeouts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_in_seconds_and_each_is_named() {
        let read = |changed: &str| {
            Timeouts::read(|name, default, range| {
                if name != changed {
                    Ok(default)
                } else if range.contains(&0) {
                    Ok(0)
                } else {
                    Err(name.to_owned())
                }
            })
        };
        assert_eq!(read(""), Ok(Timeouts::default()));
        for name in ["STATEMENT", "LOCK", "IDLE_IN_TRANSACTION", "VANISHED"] {
            let variable = format!("COUNTERSIGN_DATABASE_{name}_SECONDS");
            assert_eq!(read(&variable), Err(variable.clone()), "none, as PostgreSQL means by zero, is refused");
        }
    }
}
