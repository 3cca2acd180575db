//! The log, for those who answer for what was done: the story of a Task, exports, and their verification offline.

mod audit;
mod bundle;
mod consistency;
mod export;
mod find;
#[cfg(test)]
mod tamper;
mod verify;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use countersign_store::{Store, StoreOptions};

#[derive(Args)]
pub struct Audit {
    /// The name of a Task, or its uid
    task: String,
    #[command(flatten)]
    database: Database,
    /// `json` for one JSON document a line
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Args)]
pub struct Export {
    /// Only the entries of this Task, by name or uid, each with its proof
    #[arg(long, conflicts_with = "all", required_unless_present = "all")]
    task: Option<String>,
    /// The whole log
    #[arg(long)]
    all: bool,
    /// The folder to write; it must not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    database: Database,
}

#[derive(Args)]
pub struct Verify {
    /// What `export` wrote
    folder: PathBuf,
    /// A file with the log's public key, from where you trust it; the export's own where left out
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Say where this SHA-256 stands in the log: that of an input, an output, a Plan, a payload or an entry
    #[arg(long, value_name = "HEX")]
    hash: Option<String>,
}

#[derive(Args)]
pub struct Consistency {
    /// A checkpoint that was kept, or an export
    old: PathBuf,
    /// An export of the whole log, made later
    new: PathBuf,
    /// A file with the log's public key, from where you trust it; the new export's own where left out
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Args)]
struct Database {
    /// Where the record is: postgres://USER:PASSWORD@HOST:PORT/DATABASE; a role that can only read is enough
    #[arg(long = "database", env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    url: String,
}

impl Database {
    fn open(&self) -> anyhow::Result<Store> {
        let options = StoreOptions {
            url: self.url.clone(),
            max_connections: 2,
            acquire_timeout: std::time::Duration::from_secs(10),
        };
        Store::open(&options).context("--database")
    }
}

pub async fn audit(arguments: Audit, namespace: &str) -> anyhow::Result<()> {
    let Audit { task, database, output } = arguments;
    let store = database.open()?;
    let uid = find::task(&store, namespace, &task).await?;
    audit::print(&store, &uid, output == "json").await
}

pub async fn export(arguments: Export, namespace: &str) -> anyhow::Result<()> {
    let Export { task, all: _, output, database } = arguments;
    let store = database.open()?;
    let uid = match task {
        Some(task) => Some(find::task(&store, namespace, &task).await?),
        None => None,
    };
    export::write(&store, uid, &output).await
}

pub fn verify(arguments: &Verify) -> anyhow::Result<()> {
    let Verify { folder, key, hash } = arguments;
    let bundle = bundle::read(folder)?;
    let (key, trusted) = bundle.key(key.as_deref())?;
    let proved = verify::verify(&bundle, &key).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    println!("{proved}");
    if !trusted {
        println!(
            "The key came with the export itself; to know whose log it is, give the key that you trust with --key."
        );
    }
    match hash {
        Some(hash) => find::hash(&bundle, hash),
        None => Ok(()),
    }
}

pub fn consistency(arguments: &Consistency) -> anyhow::Result<()> {
    let Consistency { old, new, key } = arguments;
    let bundle = bundle::read(new)?;
    let (key, _) = bundle.key(key.as_deref())?;
    let said = consistency::check(&consistency::checkpoint(old)?, &bundle, &key);
    println!("{}", said.map_err(|failure| anyhow::anyhow!("{failure}"))?);
    Ok(())
}
