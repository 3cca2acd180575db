//! The signer's process: it holds the keys, and takes its work from the outbox alone.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::hex;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use countersign_chain::driver::{NetworkWorker, Pace};
use countersign_chain::evm::{Key, SecretKey};
use countersign_chain::metrics::Metrics;
use countersign_chain::network::Network;
use countersign_chain::serve;
use countersign_chain::settings::{self, Chosen};
use countersign_service::clock;
use countersign_service::settings::{Secret, Source};
use countersign_store::{Store, StoreOptions, Timeouts};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// What is in hand has so long once it is told to end.
const DRAIN: Duration = Duration::from_secs(25);

#[derive(Parser)]
#[command(name = "countersign-signer", version, about = "Makes payments and anchors that wait in the outbox")]
#[command(subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key for an Ethereum network in a new file, and print its account
    NewKey { file: PathBuf },
    /// Print the account of a key that is there
    Account { file: PathBuf },
}

#[derive(Args)]
struct Options {
    /// The networks, in YAML
    #[arg(long, env = "COUNTERSIGN_NETWORKS_FILE", value_name = "FILE", required = true)]
    networks: Option<PathBuf>,
    /// The record: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true, value_name = "URL", required = true)]
    database: Option<String>,
    /// Certificates (PEM) that are trusted beside the public ones
    #[arg(long, env = "COUNTERSIGN_TRUSTED_CA_FILE", value_name = "FILE")]
    trusted_ca: Option<PathBuf>,
    /// Where probes and metrics are served
    #[arg(long, env = "COUNTERSIGN_SIGNER_LISTEN", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { command, options } = Arguments::parse();
    match command {
        Some(Command::NewKey { file }) => new_key(&file),
        Some(Command::Account { file }) => account(&file),
        None => run(options).await,
    }
}

/// Readable by nobody else.
fn new_key(file: &Path) -> anyhow::Result<()> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let mut out = std::fs::OpenOptions::new();
    let mut out =
        out.write(true).create_new(true).mode(0o600).open(file).with_context(|| file.display().to_string())?;
    out.write_all(Zeroizing::new(hex::encode_prefixed(secret.as_slice())).as_bytes())?;
    account(file)
}

fn account(file: &Path) -> anyhow::Result<()> {
    println!("{}", SecretKey::read(file).with_context(|| file.display().to_string())?.address());
    Ok(())
}

async fn run(options: Options) -> anyhow::Result<()> {
    countersign_service::logs::start("info");
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let Options { networks, database, trusted_ca, listen } = options;
    // They are only missing where another command is given.
    let (networks, database) = (networks.context("--networks")?, Secret(database.context("--database")?));
    let chosen = settings::read(&networks, trusted_ca.as_deref())?;
    let environment = |name: &str| std::env::var(name).ok();
    let timeouts = Timeouts::read(|name, default, range| Source(&environment).number(name, default, range))?;
    let store = Store::open(&StoreOptions {
        url: database.0,
        max_connections: 16,
        acquire_timeout: Duration::from_secs(5),
        timeouts,
    })?;
    let metrics = Metrics::new()?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen {listen}"))?;
    let mut serving = tokio::spawn(axum::serve(listener, serve::router(store.clone(), metrics.clone())).into_future());

    let ending = CancellationToken::new();
    let mut workers = JoinSet::new();
    for Chosen { name, network, limits, anchors } in chosen {
        tracing::info!(network = name, account = network.account(), ?anchors, "works");
        let worker = NetworkWorker {
            name,
            network,
            limits,
            anchors,
            store: store.clone(),
            pace: Pace::default(),
            metrics: metrics.clone(),
        };
        let ending = ending.clone();
        workers.spawn(async move { worker.run(clock::now, ending).await });
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = &mut serving => result??,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("told to end: finishing what is in hand");
    ending.cancel();
    if tokio::time::timeout(DRAIN, async { while workers.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("what was in hand is left where it is; the next signer goes on with it");
    }
    store.close().await;
    Ok(())
}
