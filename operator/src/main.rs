//! The operator. Every replica watches, serves admission and answers probes; the one that holds the lease
//! also acts.

#[cfg(test)]
#[allow(dead_code, reason = "shared with the tests of the store, which use all of it")]
#[path = "../store/tests/store/database.rs"]
mod database;
#[cfg(test)]
#[path = "../store/tests/store/silence.rs"]
mod silence;

mod broker;
mod keys;
mod lead;
mod metrics;
mod migrate;
mod reconciler;
mod rights;
mod serve;
mod settings;
mod telemetry;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::Config;
use countersign_core::judge::PolicyJudge;
use countersign_store::{Store, StoreOptions};
use jiff::SignedDuration;
use kube::runtime::events::{Recorder, Reporter};
use tokio::signal::unix::{SignalKind, signal};

use crate::metrics::Metrics;
use crate::reconciler::action::JobSettings;
use crate::reconciler::context::Context;
use crate::reconciler::guard::Expected;
use crate::serve::http::Readiness;
use crate::settings::Settings;
use crate::watch::caches::Caches;
use crate::watch::trigger::Trigger;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::start();
    match std::env::args().nth(1).as_deref() {
        None => operate().await,
        Some("migrate") => migrate::run().await,
        Some(other) => anyhow::bail!("{other:?} is not known; use no argument, or migrate"),
    }
}

/// How long everything is still answered after the signal to end, so that the Service's clients have heard that this
/// replica is not ready. With what follows it is less than the pod's grace period.
const DRAIN: Duration = Duration::from_secs(5);
/// For answers under way after that.
const ANSWERS: Duration = Duration::from_secs(10);
/// How long the API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For how long it may be silent while it is asked for something.
const SILENCE: Duration = Duration::from_secs(20);

/// One client that asks, and gives up where the API server is silent; and one that watches, which is silent for as long
/// as nothing happens and has an end of its own in kube's watcher.
async fn clients() -> anyhow::Result<(kube::Client, kube::Client)> {
    let mut config = kube::Config::infer().await.context("the API server cannot be found")?;
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(SILENCE);
    let watching = kube::Client::try_from(config.clone())?;
    config.read_timeout = Some(SILENCE);
    // The silence of a connection that waits for its next request does not count.
    config.reset_reader_on_write = true;
    Ok((kube::Client::try_from(config)?, watching))
}

async fn operate() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");

    let (client, watching) = clients().await?;
    let metrics = Metrics::new()?;
    let readiness = Readiness::default();
    let store = Store::open(&StoreOptions {
        url: settings.database_url.0.clone(),
        max_connections: 16,
        acquire_timeout: Duration::from_secs(5),
        timeouts: settings.timeouts,
    })?;
    let trigger = Arc::new(Trigger::default());
    let caches = Caches::start(&watching, &settings.namespace, &trigger);
    let seal = keys::Shared::default();
    let log_keys = keys::Shared::default();
    let broker = keys::Shared::default();
    let context = Arc::new(Context {
        client: client.clone(),
        watching,
        store: store.clone(),
        caches: Arc::clone(&caches),
        config: Config {
            runner_image: settings.runner_image.clone(),
            broker: settings.broker.is_some(),
            networks: settings.networks.clone(),
            require_network_policy: settings.require_network_policy,
            start_deadline: SignedDuration::from_secs(settings.start_deadline_seconds),
            planning_deadline: SignedDuration::from_secs(settings.planning_deadline_seconds),
        },
        judge: PolicyJudge::new(CelEvaluator::new()),
        jobs: JobSettings {
            runner_image: settings.runner_image.clone(),
            ttl_seconds: settings.job_ttl_seconds,
            user_namespaces: settings.user_namespaces,
        },
        operator_namespace: settings.namespace.clone(),
        metrics: metrics.clone(),
        seal: seal.clone(),
        log_keys: log_keys.clone(),
        broker: broker.clone(),
        networks: reconciler::networks::Networks::default(),
        guard: Expected::new(&settings.service_account, &settings.webhook.service, &settings.namespace)?,
        recorder: Recorder::new(
            client.clone(),
            Reporter { controller: "countersign".to_owned(), instance: Some(settings.pod_name.clone()) },
        ),
        recent: reconciler::context::Recent::default(),
        remembered: reconciler::context::Remembered::default(),
        failures: reconciler::context::Failures::default(),
    });

    let tls = RustlsConfig::from_config(Arc::new(serve::probe::no_certificate_yet()?));
    tokio::spawn(serve::probe::watch_postgres(store.clone(), readiness.clone(), metrics.clone()));
    tokio::spawn(serve::probe::watch_caches(Arc::clone(&caches), readiness.clone()));
    tokio::spawn(keys::keep(client.clone(), settings.namespace.clone(), seal.clone(), readiness.clone()));
    tokio::spawn(keys::keep(client.clone(), settings.namespace.clone(), log_keys, readiness.clone()));
    if let Some(service) = settings.broker.clone() {
        tokio::spawn(watch::fingerprints::watch(store.clone(), Arc::clone(&context.caches), Arc::clone(&trigger)));
        tokio::spawn(broker::keep(client.clone(), settings.namespace.clone(), service, broker, readiness.clone()));
    }
    let door = serve::admission::way::Door::default();
    let keeper = serve::certs::Keeper::new(client.clone(), &settings, door.clone());
    tokio::spawn(serve::probe::keep_certificates(keeper, tls.clone(), readiness.clone()));

    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let simulator = Arc::new(serve::api::Simulator::new(Arc::clone(&context)));
    let leading = lead::lead_when_elected(context, trigger, &settings);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut leading = tokio::spawn(leading(stopped));
    let probes = serve::http::serve(serve::http::router(readiness.clone(), metrics.clone()));
    let readers = Store::open(&StoreOptions {
        url: settings.database_url.0.clone(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(5),
        timeouts: settings.timeouts,
    })?;
    // What anybody may send waits for readers at most, and no reconciliation waits for it.
    let asked = readers.clone();
    let reading = serve::api::Shared::new(client.clone(), readers, settings.api_requests_per_second, metrics.clone());
    let routes = serve::api::router(reading).layer(axum::Extension(simulator));
    let handle = Handle::new();
    let api = serve::api::serve(routes, tls.clone(), handle.clone());
    let shared = serve::admission::Shared {
        client,
        service_account: settings.service_account.clone(),
        seal,
        bound: serve::admission::bound_by(caches),
        runs: serve::admission::mark::runs_of(asked),
        metrics,
        door,
    };
    let bounds = serve::admission::bounds::Bounds::new(serve::admission::bounds::PATIENCE);
    let webhook = serve::admission::router(shared, bounds.clone());
    let webhook = serve::admission::serve(webhook, bounds, tls, handle.clone());
    let mut probes = std::pin::pin!(probes);
    let mut webhook = std::pin::pin!(webhook);
    let mut api = std::pin::pin!(api);
    tokio::select! {
        result = &mut leading => {
            store.close().await;
            return result?;
        }
        result = &mut probes => return result,
        result = &mut webhook => return result,
        result = &mut api => return result,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("told to end: finishing what is in hand");
    readiness.drain();
    // The reconciliation in hand is finished and the lease handed over, while whoever has not heard yet that this
    // replica is not ready is still answered.
    drop(stop);
    let ended = async {
        let (led, ()) = tokio::join!(leading, tokio::time::sleep(DRAIN));
        handle.graceful_shutdown(Some(ANSWERS));
        led
    };
    let mut ended = std::pin::pin!(ended);
    let led = tokio::select! {
        led = &mut ended => led,
        result = &mut probes => return result,
        result = &mut webhook => return result,
        result = &mut api => return result,
    };
    let answered = async { tokio::join!(webhook, api) };
    tokio::select! {
        (webhook, api) = answered => webhook.and(api)?,
        result = &mut probes => return result,
    }
    store.close().await;
    led?
}
