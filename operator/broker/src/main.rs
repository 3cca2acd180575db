//! The broker's process: settings, the record, two servers, and an end that leaves no call without one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use countersign_broker::alerts;
use countersign_broker::broker::{Broker, Parts};
use countersign_broker::judge::address::Guard;
use countersign_broker::metrics::Metrics;
use countersign_broker::presence;
use countersign_broker::secrets::Secrets;
use countersign_broker::serve::certificate::{self, Certificate};
use countersign_broker::serve::probes::{self, Readiness};
use countersign_broker::serve::router;
use countersign_broker::settings::Settings;
use countersign_broker::telemetry;
use countersign_broker::upstream::resolve::System;
use countersign_broker::upstream::trust::Trust;
use countersign_core::fingerprint::FingerprintKey;
use countersign_core::token::TokenKey;
use countersign_store::{Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const PORT: u16 = 8443;
const PROBES: u16 = 8080;
/// How long new calls are still taken after the signal to end, until the Service sends no more. With what follows it is
/// less than the pod's grace period.
const SPREAD: Duration = Duration::from_secs(5);
/// How long calls under way have after that.
const DRAIN: Duration = Duration::from_secs(45);
/// For their ends to be recorded after that.
const ENDS: Duration = Duration::from_secs(6);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::start();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");
    let Settings {
        database_url,
        timeouts,
        tls_dir,
        key_file,
        secrets_dir,
        fingerprint_key_file,
        trusted_ca_file,
        refused,
        limits,
        webhook,
    } = settings;

    let key = std::fs::read(&key_file).with_context(|| format!("{}: the key of the tokens", key_file.display()))?;
    let key: [u8; 32] = key.try_into().map_err(|_| anyhow::anyhow!("{} must have 32 bytes", key_file.display()))?;
    let fingerprints = std::fs::read(&fingerprint_key_file)
        .with_context(|| format!("{}: the key of the fingerprints", fingerprint_key_file.display()))?;
    let fingerprints = FingerprintKey::new(&fingerprints)
        .with_context(|| format!("{} must have 32 bytes or more", fingerprint_key_file.display()))?;
    let secrets = Secrets::new(secrets_dir);
    let certificate = Certificate::load(&tls_dir)?;
    let record = Store::open(&StoreOptions {
        url: database_url.0,
        max_connections: 16,
        acquire_timeout: Duration::from_secs(5),
        timeouts,
    })?;
    let metrics = Metrics::new()?;
    let broker = Arc::new(Broker::new(Parts {
        record: record.clone(),
        tokens: TokenKey::new(key),
        secrets: secrets.clone(),
        fingerprints: fingerprints.clone(),
        resolver: Arc::new(System::new()?),
        guard: Guard::new(refused),
        trust: Trust::read(trusted_ca_file.as_deref())?,
        limits,
        metrics: metrics.clone(),
    }));

    let readiness = Readiness::default();
    let watching = tokio::spawn(probes::watch(record.clone(), readiness.clone()));
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let mut probes = tokio::spawn(probes::serve(probes::router(readiness.clone(), metrics), any(PROBES)));
    let handle = Handle::new();
    let tls = certificate.tls.clone();
    tokio::spawn(certificate.follow());
    let serving = certificate::serve(router(Arc::clone(&broker)), any(PORT), tls, handle.clone());
    let mut serving = tokio::spawn(serving);

    let ending = CancellationToken::new();
    let presence = tokio::spawn(presence::run(record.clone(), secrets, fingerprints, ending.clone()));
    let alerts = webhook.map(|webhook| tokio::spawn(alerts::run(Arc::clone(&broker), webhook, ending.clone())));

    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = &mut serving => return result?,
        result = &mut probes => return result?,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("told to end: finishing what is in hand");
    watching.abort();
    ending.cancel();
    readiness.set(Err("told to end".to_owned()));
    tokio::time::sleep(SPREAD).await;
    handle.graceful_shutdown(Some(DRAIN + ENDS));
    broker.calls.close();
    if tokio::time::timeout(DRAIN, broker.calls.wait()).await.is_err() {
        tracing::warn!(calls = broker.calls.len(), "calls that take too long are cut off");
        broker.cut.cancel();
    }
    if tokio::time::timeout(ENDS, broker.calls.wait()).await.is_err() {
        tracing::error!(calls = broker.calls.len(), "calls ended without a record of it");
    }
    if let Some(alerts) = alerts
        && tokio::time::timeout(ENDS, alerts).await.is_err()
    {
        tracing::warn!("alerts that were being delivered may be delivered again");
    }
    if tokio::time::timeout(ENDS, presence).await.is_err() {
        tracing::warn!("that this broker ends could not be told in time");
    }
    record.close().await;
    Ok(())
}
