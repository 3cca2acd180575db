//! Keeps `/readyz` true: PostgreSQL, the caches, the webhook's certificate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum_server::tls_rustls::RustlsConfig;
use countersign_service::causes::told;
use countersign_store::{Rights, Store, within};

use crate::metrics::Metrics;
use crate::serve::certs::{self, Keeper};
use crate::serve::http::Readiness;
use crate::watch::caches::Caches;

const EVERY: Duration = Duration::from_secs(2);
/// How long PostgreSQL may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits for a schema of this version, then keeps asking whether PostgreSQL is still there.
pub async fn watch_postgres(store: Store, readiness: Readiness, metrics: Metrics) {
    const NAME: &str = "postgresql";
    readiness.set(NAME, Err("not reached yet".to_owned()));
    let mut migrated = false;
    loop {
        let result = if migrated {
            within(LIMIT, store.ping()).await.map_err(|error| told(&error))
        } else {
            schema(&store).await
        };
        if result.is_ok() && !migrated {
            migrated = true;
            match within(LIMIT, store.rights()).await {
                Ok(rights) => metrics.protected(rights == Rights::AddOnly),
                Err(error) => tracing::warn!(error = told(&error), "the rights of the operator's role are not known"),
            }
        }
        readiness.set(NAME, result);
        tokio::time::sleep(EVERY).await;
    }
}

async fn schema(store: &Store) -> Result<(), String> {
    match within(LIMIT, store.is_migrated()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("its schema is of an older version; `countersign migrate` brings it up to date".to_owned()),
        Err(error) => Err(told(&error)),
    }
}

pub async fn watch_caches(caches: Arc<Caches>, readiness: Readiness) {
    const NAME: &str = "caches";
    readiness.set(NAME, Err(format!("not listed yet: {}", caches.missing().join(", "))));
    caches.wait_until_synced().await;
    readiness.set(NAME, Ok(()));
}

/// Keeps the webhook's path and certificate for as long as the process lives.
pub async fn keep_certificates(mut keeper: Keeper, tls: RustlsConfig, readiness: Readiness) {
    const NAME: &str = "certificates";
    readiness.set(NAME, Err("none is loaded yet".to_owned()));
    let mut looked: Option<Instant> = None;
    loop {
        match keeper.refresh(&tls).await {
            Ok(()) => {
                looked = Some(Instant::now());
                readiness.set(NAME, Ok(()));
            }
            // What is loaded goes on serving while the next cannot be had, until it may be of yesterday.
            Err(error) if looked.is_some_and(|at| at.elapsed() < certs::PATIENCE) => {
                tracing::warn!(error = %format!("{error:#}"), "path and certificate were not refreshed");
            }
            Err(error) => {
                looked = None;
                readiness.set(NAME, Err(format!("{error:#}")));
            }
        }
        tokio::time::sleep(if looked.is_some() { certs::EVERY } else { Duration::from_secs(1) }).await;
    }
}

/// A TLS server needs a configuration before it has a certificate; until then every handshake fails.
pub fn no_certificate_yet() -> anyhow::Result<rustls::ServerConfig> {
    #[derive(Debug)]
    struct None;
    impl rustls::server::ResolvesServerCert for None {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Option::None
        }
    }
    Ok(rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(None)))
}
