//! Scratch databases, one a test, dropped when it ends well.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign_store::{Store, StoreOptions, Timeouts};
use sqlx::{Connection, Executor, PgConnection};

pub struct Database {
    base: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Database {
    pub async fn new() -> Database {
        let base = std::env::var("COUNTERSIGN_TEST_DATABASE_URL")
            .expect("run `make test`, or set COUNTERSIGN_TEST_DATABASE_URL to a PostgreSQL for tests");
        Database { base }
    }

    /// An empty database; the same name is dropped first, so that runs leave no heap of them.
    pub async fn empty(&self) -> String {
        let name = format!("countersign_test_{}_{}", std::process::id() % 16, COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.base).await.unwrap();
        for statement in [format!("drop database if exists {name} with (force)"), format!("create database {name}")] {
            connection.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        }
        let (server, _) = self.base.rsplit_once('/').unwrap();
        format!("{server}/{name}")
    }

    pub async fn fresh_store(&self) -> Store {
        let store = open(self.empty().await);
        store.migrate().await.unwrap();
        store
    }

    pub async fn scalar(&self, store: &Store, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(store.pool()).await.unwrap()
    }

    /// Entries that are of no Task, to be sequenced.
    pub async fn fill(&self, store: &Store, entries: usize) {
        let statement = format!(
            "with e as (insert into log_entries (kind, at, body) select 'filler', now(), convert_to(n::text, 'UTF8')
             from generate_series(1, {entries}) n returning id) insert into log_pending select id from e"
        );
        self.execute(store, &statement).await.unwrap();
    }

    pub async fn execute(&self, store: &Store, statement: &str) -> Result<(), sqlx::Error> {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(store.pool()).await.map(drop)
    }
}

pub fn open(url: String) -> Store {
    let options = StoreOptions {
        url,
        max_connections: 4,
        acquire_timeout: Duration::from_secs(5),
        timeouts: Timeouts::default(),
    };
    Store::open(&options).unwrap()
}
