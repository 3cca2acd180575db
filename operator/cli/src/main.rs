//! `kubectl countersign`: what waits for a signature, what it is for, and why a Task is where it is. It does nothing
//! that kubectl could not do; it shows more before it does it.

mod api;
mod cluster;
mod explain;
mod log;
mod outbox;
mod output;
mod pending;
mod sign;
mod simulate;
mod text;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::cluster::Cluster;

#[derive(Parser)]
#[command(name = "kubectl countersign", version, about = "Approve, reject, understand and verify work on Countersign")]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
pub struct Connection {
    /// The namespace; the context's own where left out
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// Act as this user, where you may
    #[arg(long = "as", global = true, value_name = "USER")]
    as_user: Option<String>,
    /// Act as a member of this group, where you may; can be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "as_user")]
    as_groups: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// What waits for a signature, and whether it could be yours
    Pending {
        /// In all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Show what exactly will run, and sign for it
    Approve(Signature),
    /// Show what would run, and say no, which is final
    Reject(Signature),
    /// Why a Task, or an Approval, is where it is
    Explain {
        /// The name of a Task or of an Approval
        name: String,
    },
    /// What would become of a Task, without creating it; or what changed Policies would have changed
    Simulate(simulate::Simulate),
    /// What was recorded of a Task, in order
    Audit(log::Audit),
    /// Write entries of the log with all that it takes to verify them offline
    Export(log::Export),
    /// What waits for a network outside: payments and anchors
    Outbox(outbox::Outbox),
    /// Erase what a finished Task was given and gave back, for a reason that is logged
    Erase(log::Erase),
    /// Have another key sign the log from now on
    RotateKey(log::Rotate),
    /// Verify an export, without cluster or database
    Verify(log::Verify),
    /// Verify that a log is still the one of a checkpoint that was kept
    Consistency(log::Consistency),
}

#[derive(Args)]
struct Signature {
    /// The Approval's name
    name: String,
    /// Why; goes into the record
    #[arg(short, long)]
    reason: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        output::note(&format!("Error: {error:?}"));
        ExitCode::FAILURE
    })
}

async fn run() -> anyhow::Result<ExitCode> {
    let Cli { connection, command } = Cli::parse();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let cluster = || Cluster::connect(&connection);
    match command {
        Command::Pending { all_namespaces } => pending::run(&cluster().await?, all_namespaces).await,
        Command::Approve(Signature { name, reason, yes }) => {
            sign::run(&cluster().await?, &name, true, reason, yes).await
        }
        Command::Reject(Signature { name, reason, yes }) => {
            sign::run(&cluster().await?, &name, false, reason, yes).await
        }
        Command::Explain { name } => explain::run(&cluster().await?, &name).await,
        Command::Simulate(arguments) => return simulate::run(arguments, &connection).await,
        Command::Audit(arguments) => log::audit(arguments, &connection).await,
        Command::Export(arguments) => log::export(arguments, &connection).await,
        Command::Outbox(arguments) => outbox::run(arguments, &connection).await,
        Command::Erase(arguments) => log::erase(arguments, &connection).await,
        Command::RotateKey(arguments) => log::rotate(arguments, &cluster().await?).await,
        Command::Verify(arguments) => log::verify(&arguments).await,
        Command::Consistency(arguments) => log::consistency(&arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}
