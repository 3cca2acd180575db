//! The witness's process.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use clap::{Parser, Subcommand};
use countersign_core::tlog::{CosigningKey, VerifyingKey};
use countersign_witness::metrics::Metrics;
use countersign_witness::serve::{router, serve};
use countersign_witness::witness::Witness;
use tokio::signal::unix::{SignalKind, signal};

/// How long requests under way have once it is told to end.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Parser)]
#[command(name = "countersign-witness", version, about = "Cosigns the checkpoints of transparency logs that only grow")]
#[command(subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Print a new key: the secret one (for --key), and the public one for those who are to trust it
    GenerateKey {
        /// The witness's name, such as witness.example.com/w1: a URL without https://
        name: String,
    },
}

#[derive(clap::Args)]
struct Settings {
    /// The address to serve at
    #[arg(long, env = "COUNTERSIGN_WITNESS_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A file with the secret key
    #[arg(long, env = "COUNTERSIGN_WITNESS_KEY_FILE", value_name = "FILE", required = true)]
    key: Option<PathBuf>,
    /// A folder of its own, on a disk that stays
    #[arg(long, env = "COUNTERSIGN_WITNESS_DATA_DIR", value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// A log's public key, NAME+HEX+BASE64; again for each key of each log
    #[arg(long = "log", env = "COUNTERSIGN_WITNESS_LOGS", value_name = "VKEY", required = true, value_delimiter = ',')]
    logs: Vec<VerifyingKey>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { command, settings } = Arguments::parse();
    match command {
        Some(Command::GenerateKey { name }) => generate_key(&name),
        None => run(settings).await,
    }
}

fn generate_key(name: &str) -> anyhow::Result<()> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let key = CosigningKey::new(name, secret)?;
    println!("{}", key.to_secret());
    println!("{}", key.witness_key());
    Ok(())
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    countersign_service::logs::start("info");
    let Settings { listen, key, data, logs } = settings;
    // They are only missing where another command is given.
    let (key, data) = (key.context("--key")?, data.context("--data")?);
    let secret = std::fs::read_to_string(&key).with_context(|| format!("{}: the secret key", key.display()))?;
    // What `generate-key` printed has the public key on a second line.
    let secret = secret.lines().next().unwrap_or_default();
    let key: CosigningKey = secret.parse().with_context(|| format!("{}: the secret key", key.display()))?;
    let public = key.witness_key();
    let witness = Arc::new(Witness::open(key, &data, logs, Metrics::new()?).context("--data")?);
    let listener = TcpListener::bind(listen).with_context(|| format!("--listen {listen}"))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), address = %listener.local_addr()?, key = %public, "serving");
    let handle = Handle::new();
    let mut serving = tokio::spawn(serve(router(witness), listener, handle.clone()));
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = &mut serving => return result?,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("told to end: finishing what is in hand");
    handle.graceful_shutdown(Some(DRAIN));
    serving.await?
}
