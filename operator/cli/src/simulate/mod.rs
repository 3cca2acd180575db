//! What would become of a Task, and what changed Policies would have changed: asked of the operator's API, which does
//! nothing but answer.

mod files;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use countersign_core::escape::escaped_json;
use countersign_core::simulate::{Replay, Simulation};
use http::Method;
use serde_json::{Value, json};

use crate::api::{self, Server};
use crate::output::{say, say_json};
use crate::{Connection, cluster};

/// Where a Task is not feasible.
const NOT_FEASIBLE: u8 = 3;

#[derive(Args)]
#[command(after_help = "\
Exit code: 0 where the Task is feasible, 3 where it is not, 1 where it cannot be told. With --last: 0 where it can be told.

Examples:
  kubectl countersign simulate -f task.yaml --server https://localhost:8443
  kubectl countersign simulate -f task.yaml --policy stricter.yaml -o json
  kubectl countersign simulate --policy stricter.yaml --last 100")]
pub struct Simulate {
    /// A file with the Task; - for standard input
    #[arg(short, long, value_name = "FILE", required_unless_present = "last", conflicts_with = "last")]
    file: Option<PathBuf>,
    /// A file with Policies to try, each in the place of the one of its name or beside the others; can be repeated
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
    /// Try the Policies on the last so many Tasks on record, 200 at most, instead of a new one
    #[arg(long, value_name = "N", requires = "policies")]
    last: Option<u32>,
    #[arg(short, long, value_parser = ["table", "json", "yaml"], default_value = "table")]
    output: String,
    #[command(flatten)]
    server: Server,
}

pub async fn run(arguments: Simulate, connection: &Connection) -> anyhow::Result<ExitCode> {
    let Simulate { file, policies, last, output, server } = arguments;
    let task = file.as_deref().map(files::task).transpose()?;
    let policies = files::policies(&policies)?;
    let namespace = match (&connection.namespace, task.as_ref().and_then(namespace_of)) {
        (None, Some(namespace)) => namespace.to_owned(),
        _ => cluster::namespace(connection).await,
    };
    let Some(client) = server.open(connection).await? else {
        bail!("say where the operator's API is: --server URL");
    };
    let path = format!("/api/v1/namespaces/{namespace}/simulations");
    let (path, asked) = match task {
        Some(task) => (path, json!({"task": task, "policies": policies})),
        None => (format!("{path}/replays"), json!({"policies": policies, "last": last})),
    };
    let answer = api::ask(&client, Method::POST, &path, asked.to_string().as_bytes()).await?;
    let answer: Value = serde_json::from_slice(&answer).with_context(|| format!("the API's answer to {path}"))?;
    let feasible = answer.get("feasible").is_none_or(|feasible| *feasible == json!(true));
    let told = shown(answer, &output, last.is_some())?;
    if output == "json" {
        say_json(&told)
    } else {
        say(&told)
    }
    Ok(if feasible { ExitCode::SUCCESS } else { ExitCode::from(NOT_FEASIBLE) })
}

fn namespace_of(task: &Value) -> Option<&str> {
    task.pointer("/metadata/namespace")?.as_str()
}

fn shown(answer: Value, output: &str, past: bool) -> anyhow::Result<String> {
    Ok(match (output, past) {
        ("json", _) => serde_json::to_string_pretty(&answer)?,
        ("yaml", _) => serde_saphyr::to_string(&escaped_json(answer))?.trim_end().to_owned(),
        (_, false) => text::simulation(&serde_json::from_value::<Simulation>(answer)?),
        (_, true) => text::replay(&serde_json::from_value::<Replay>(answer)?),
    })
}
