//! How to reach PostgreSQL.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::error::StoreError;

#[derive(Clone)]
pub struct StoreOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...`
    pub url: String,
    pub max_connections: u32,
    /// How long to wait for a connection before PostgreSQL counts as away.
    pub acquire_timeout: Duration,
}

impl StoreOptions {
    pub(crate) fn pool(&self) -> Result<PgPool, StoreError> {
        let options: PgConnectOptions = self.url.parse()?;
        // A statement that hangs on a dead server must not hold a Task up for ever.
        let options = options.application_name("countersign").options([("statement_timeout", "30s")]);
        Ok(PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            .connect_lazy_with(options))
    }
}

/// The password stays out of logs.
impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StoreOptions { url: _, max_connections, acquire_timeout } = self;
        f.debug_struct("StoreOptions")
            .field("max_connections", max_connections)
            .field("acquire_timeout", acquire_timeout)
            .finish_non_exhaustive()
    }
}
