//! `countersign migrate`: brings the schema up to date as its owner, and lets the operator's role, the broker's and the
//! signer's work with it. It runs before the operator, which never sees the owner's password.

use std::time::Duration;

use anyhow::Context;
use countersign_service::causes::told;
use countersign_store::{Rights, Role, Store, StoreError, StoreOptions, Timeouts};

const AGAIN: Duration = Duration::from_secs(2);
const OWNER: &str = "COUNTERSIGN_DATABASE_OWNER_URL";
const OPERATOR: &str = "COUNTERSIGN_DATABASE_URL";
const BROKER: &str = "COUNTERSIGN_DATABASE_BROKER_URL";
const SIGNER: &str = "COUNTERSIGN_DATABASE_SIGNER_URL";

/// Waits for PostgreSQL, whenever that comes.
pub async fn run() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let operator = variable(OPERATOR).with_context(|| format!("{OPERATOR} is not set"))?;
    let owner = variable(OWNER).unwrap_or_else(|| operator.clone());
    let others = [(Role::Broker, variable(BROKER)), (Role::Signer, variable(SIGNER))];
    let options = StoreOptions {
        url: owner,
        max_connections: 1,
        acquire_timeout: Duration::from_secs(5),
        timeouts: Timeouts::default(),
    };
    let store = Store::open(&options).context(OWNER)?;
    loop {
        match prepare(&store, &operator, &others).await {
            Ok(Rights::AddOnly) => {
                tracing::info!("the schema is up to date; the operator's role can read and add");
                return Ok(());
            }
            Ok(Rights::Everything) => {
                tracing::warn!(
                    "the schema is up to date, but the operator's role owns it and so could change the log; give the Secret an ownerUrl of another role"
                );
                return Ok(());
            }
            Err(error) if error.is_unavailable() => {
                tracing::warn!(error = told(&error), "waiting for PostgreSQL");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn prepare(store: &Store, operator: &str, others: &[(Role, Option<String>)]) -> Result<Rights, StoreError> {
    store.migrate().await?;
    for (role, url) in others {
        if let Some(url) = url {
            store.grant(*role, url).await?;
        }
    }
    store.grant(Role::Operator, operator).await
}
