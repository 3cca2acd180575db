//! Scratch databases, one a test; the same name is dropped first, so that runs leave no heap of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign_store::{Store, StoreOptions, Timeouts};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

pub struct Database;

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Database {
    pub async fn empty(&self) -> String {
        let base = std::env::var("COUNTERSIGN_TEST_DATABASE_URL")
            .expect("run `make test`, or set COUNTERSIGN_TEST_DATABASE_URL to a PostgreSQL for tests");
        let name = format!("countersign_signer_{}_{}", std::process::id() % 8, COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&base).await.unwrap();
        for statement in [
            format!("drop database if exists {name} with (force)"),
            format!("create database {name}"),
            // PostgreSQL itself goes on, so nothing is lost by not waiting for the disk.
            format!("alter database {name} set synchronous_commit = off"),
        ] {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        let (server, _) = base.rsplit_once('/').unwrap();
        format!("{server}/{name}?sslmode=disable")
    }

    pub async fn execute(&self, store: &Store, statement: &str) -> Result<(), sqlx::Error> {
        store.pool().execute(AssertSqlSafe(statement.to_owned())).await.map(drop)
    }

    pub async fn scalar(&self, store: &Store, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(store.pool()).await.unwrap()
    }
}

pub fn open(url: String, max_connections: u32) -> Store {
    Store::open(&StoreOptions {
        url,
        max_connections,
        acquire_timeout: Duration::from_secs(20),
        timeouts: Timeouts::default(),
    })
    .unwrap()
}
