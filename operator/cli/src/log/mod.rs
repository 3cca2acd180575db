//! The log, for those who answer for what was done: the story of a Task, exports, and their verification offline.

#[cfg(test)]
mod anchored;
mod anchors;
mod api;
mod audit;
mod bundle;
mod consistency;
mod erase;
mod erased;
mod export;
mod failure;
mod find;
mod keys;
mod means;
mod page;
mod quorum;
mod read;
mod report;
mod rotate;
mod source;
#[cfg(test)]
mod tamper;
mod verify;
#[cfg(test)]
mod witnessed;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use countersign_store::{Store, StoreOptions, Timeouts};
use jiff::Timestamp;

use self::api::Api;
use self::means::Means;
use self::page::Selected;
use self::quorum::Demands;
use self::report::Report;
use self::source::Source;
use crate::Connection;
use crate::api::Server;
use crate::cluster::Cluster;
use crate::output::{say, say_json};

#[derive(Args)]
pub struct Audit {
    /// The name of a Task, or its uid
    task: String,
    #[command(flatten)]
    place: Place,
    /// `json` for one JSON document a line
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct Export {
    /// Only the entries of this Task, by name or uid, each with its proof
    #[arg(long, group = "what")]
    task: Option<String>,
    /// All entries from this time on, such as 2026-11-21T09:00:00Z, each with its proof
    #[arg(long, group = "what", value_name = "TIME")]
    since: Option<Timestamp>,
    /// The whole log
    #[arg(long, group = "what")]
    all: bool,
    /// As of the newest checkpoint that so many witnesses have cosigned; the newest of all where left out
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    cosignatures: u32,
    /// The folder to write; it must not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub struct Erase {
    /// The name of a finished Task, or its uid
    task: String,
    /// Why; goes into the log
    #[arg(short, long)]
    reason: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// The record, with a role that may delete payloads
    #[arg(long = "database", env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    url: String,
}

#[derive(Args)]
pub struct Rotate {
    /// The namespace of the operator
    #[arg(long, default_value = "countersign-system", value_name = "NAMESPACE")]
    operator_namespace: String,
}

#[derive(Args)]
pub struct Verify {
    /// What `export` wrote
    folder: PathBuf,
    /// A file with the log's public key, from where you trust it: today's rather than one that was retired
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// You know that the key of --key signs today: no other key may follow from it
    #[arg(long, requires = "key")]
    key_is_current: bool,
    /// A file that says which witnesses must have cosigned (https://c2sp.org/tlog-policy), and which logs to trust
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Say where this SHA-256 stands in the log: that of an input, an output, a Plan, a payload or an entry
    #[arg(long, value_name = "HEX")]
    hash: Option<String>,
    #[command(flatten)]
    means: Means,
    /// `json` for one JSON document: the `verdict` is `proved`, `partly` or `refused`
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
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
    /// A file that says which witnesses must have cosigned the new export (https://c2sp.org/tlog-policy)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Where the record is.
#[derive(Args)]
struct Place {
    #[command(flatten)]
    server: Server,
    /// PostgreSQL instead: postgres://USER:PASSWORD@HOST:PORT/DATABASE; a role that can only read is enough
    #[arg(
        long = "database",
        env = "COUNTERSIGN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "server"
    )]
    url: Option<String>,
}

impl Place {
    async fn open(self, connection: &Connection) -> anyhow::Result<Source> {
        let Place { server, url } = self;
        match (server.open(connection).await?, url) {
            (Some(client), _) => Ok(Source::Api(Box::new(Api::new(client)))),
            (None, Some(url)) => Ok(Source::Database(store(url)?)),
            (None, None) => bail!("say where the record is: --server URL, or --database URL"),
        }
    }
}

fn store(url: String) -> anyhow::Result<Store> {
    // Whoever reads or erases much may take longer than what others wait for.
    let timeouts = Timeouts { statement: std::time::Duration::from_secs(600), ..Timeouts::default() };
    let options =
        StoreOptions { url, max_connections: 2, acquire_timeout: std::time::Duration::from_secs(10), timeouts };
    Store::open(&options).context("--database")
}

/// What reads the log needs no cluster to know a namespace.
fn namespace(connection: &Connection) -> &str {
    connection.namespace.as_deref().unwrap_or("default")
}

pub async fn audit(arguments: Audit, connection: &Connection) -> anyhow::Result<()> {
    let Audit { task, place, output } = arguments;
    let source = place.open(connection).await?;
    let task = source.task(namespace(connection), &task).await?;
    audit::print(&source, &Selected::Task(task), output == "json").await
}

pub async fn export(arguments: Export, connection: &Connection) -> anyhow::Result<()> {
    let Export { task, since, all: _, cosignatures, output, place } = arguments;
    let source = place.open(connection).await?;
    let task = match task {
        Some(task) => Some(source.task(namespace(connection), &task).await?),
        None => None,
    };
    let snapshot = source.export(task, since, cosignatures).await?;
    export::write(&source, &snapshot, &output).await
}

pub async fn erase(arguments: Erase, connection: &Connection) -> anyhow::Result<()> {
    let Erase { task, reason, yes, url } = arguments;
    erase::run(&store(url)?, namespace(connection), &task, &reason, yes).await
}

pub async fn rotate(arguments: Rotate, cluster: &Cluster) -> anyhow::Result<()> {
    rotate::run(cluster, &arguments.operator_namespace).await
}

pub async fn verify(arguments: &Verify) -> anyhow::Result<()> {
    let as_json = arguments.output == "json";
    let report = match verified(arguments).await {
        Ok(report) => report,
        Err(error) => {
            if as_json {
                say_json(&report::refused(&format!("{error:#}")).to_string());
            }
            return Err(error);
        }
    };
    if as_json {
        say_json(&report.json().to_string());
    } else {
        say(&report.to_string());
    }
    match report.refusal() {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

/// What holds of an export, and what is open; or the first thing that does not hold.
async fn verified(arguments: &Verify) -> anyhow::Result<Report> {
    let Verify { folder, key, key_is_current, policy, hash, means, output: _ } = arguments;
    let bundle = bundle::read(folder)?;
    let demands = Demands::read(&bundle, key.as_deref(), policy.as_deref())?.current(*key_is_current);
    let proved = demands.by_any_key(|key| verify::verify(&bundle, key))?;
    if *key_is_current && proved.keys.followed() > 0 {
        bail!("--key-is-current: the export tells of a rotation of the key of --key, so another key signs now");
    }
    let mut report = Report::default();
    demands.report(&bundle, &mut report, &proved.to_string(), proved.tells_rotations())?;
    if let Some(open) = proved.open() {
        report.leaves_open(open);
    }
    for finding in anchors::prove(&bundle, &proved, means).await? {
        report.finds(&finding);
    }
    for stranger in &bundle.strangers {
        report.says(format!("Ignored: {stranger}, which is no part of an export."));
    }
    for line in hash.iter().map(|hash| find::hash(&bundle, hash)).collect::<Result<Vec<_>, _>>()?.concat() {
        report.says(line);
    }
    Ok(report)
}

pub fn consistency(arguments: &Consistency) -> anyhow::Result<()> {
    let Consistency { old, new, key, policy } = arguments;
    let bundle = bundle::read(new)?;
    let demands = Demands::read(&bundle, key.as_deref(), policy.as_deref())?;
    let old = consistency::checkpoint(old)?;
    let said = demands.by_any_key(|key| consistency::check(&old, &bundle, key))?;
    let mut report = Report::default();
    // It takes the whole log, which tells of every rotation.
    demands.report(&bundle, &mut report, &said, true)?;
    say(&report.to_string());
    Ok(())
}
