//! The outbox: what waits for a network outside, and what ended for nothing and may be tried again.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use countersign_core::escape::printable;
use http::Method;
use serde::Deserialize;

use crate::Connection;
use crate::api::{self, Server};
use crate::output::say;

#[derive(Args)]
pub struct Outbox {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What is not confirmed, the newest first
    List {
        /// Only what is Waiting, Submitted, Confirmed, Refused or Dead
        #[arg(long, value_name = "STATE", value_parser = ["Waiting", "Submitted", "Confirmed", "Refused", "Dead"])]
        state: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Have what was refused, or is dead, tried again; of a payment the log says who wanted it
    Retry {
        /// As `list` shows it
        id: i64,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Deserialize)]
struct Listed {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: i64,
    network: String,
    kind: String,
    entries: Option<u64>,
    namespace: Option<String>,
    task: Option<String>,
    step: Option<String>,
    state: String,
    tries: i32,
    transaction: Option<String>,
    message: Option<String>,
}

pub async fn run(arguments: Outbox, connection: &Connection) -> anyhow::Result<()> {
    match arguments.command {
        Command::List { state, server } => list(state, server, connection).await,
        Command::Retry { id, server } => {
            let client = open(server, connection).await?;
            api::ask(&client, Method::POST, &format!("/api/v1/outbox/{id}/retries"), &[]).await?;
            say(&format!("item {id} is tried again"));
            Ok(())
        }
    }
}

async fn open(server: Server, connection: &Connection) -> anyhow::Result<kube::Client> {
    match server.open(connection).await? {
        Some(client) => Ok(client),
        None => bail!("say where the operator's API is: --server URL"),
    }
}

async fn list(state: Option<String>, server: Server, connection: &Connection) -> anyhow::Result<()> {
    let client = open(server, connection).await?;
    let query = state.map(|state| format!("?state={state}")).unwrap_or_default();
    let answer = api::ask(&client, Method::GET, &format!("/api/v1/outbox{query}"), &[]).await?;
    let Listed { items } = serde_json::from_slice(&answer).context("the API's answer")?;
    say(&format!("{:<6} {:<12} {:<40} {:<10} {:<6} TRANSACTION", "ID", "NETWORK", "WHAT", "STATE", "TRIES"));
    for item in items {
        say(&line(&item));
    }
    Ok(())
}

fn line(item: &Item) -> String {
    let Item { id, network, kind, entries, namespace, task, step, state, tries, transaction, message } = item;
    let what = match (entries, namespace, task, step) {
        (Some(entries), ..) => format!("anchor of {entries} entries"),
        (None, Some(namespace), Some(task), Some(step)) => format!("payment of {namespace}/{task}, {step}"),
        (None, ..) => kind.to_lowercase(),
    };
    let transaction = transaction.as_deref().unwrap_or("-");
    let why = message.as_deref().map(|why| format!("\n       {}", printable(why))).unwrap_or_default();
    format!("{id:<6} {network:<12} {what:<40} {state:<10} {tries:<6} {transaction}{why}")
}
