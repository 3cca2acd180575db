//! Skills that the runner itself does, as a process of their own: input on stdin, output on stdout. SKILLS.md has the
//! contract of each.

mod check_balance;
mod email_send;
mod fs_read;
mod fs_write;
mod generic_action;
mod http;
mod http_call;
mod json_transform;
mod llm_invoke;
mod mcp_call;
mod pay;
mod webhook_send;
mod workspace;

use std::io::Read;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use http::Client;

pub fn run(name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).context("cannot read the input")?;
    let output = match (name, arguments) {
        ("json_transform", [program]) => json_transform::run(program, &input)?,
        ("json_transform", _) => bail!("json_transform needs exactly one program"),
        ("generic_action", []) => generic_action::run(&input)?,
        ("check_balance", []) => through_egress(&input, check_balance::run)?,
        ("email_send", []) => through_egress(&input, email_send::run)?,
        ("fs_read", []) => locally(&input, fs_read::run)?,
        ("fs_write", []) => locally(&input, fs_write::run)?,
        ("http_call", []) => through_egress(&input, http_call::run)?,
        ("llm_invoke", []) => through_egress(&input, llm_invoke::run)?,
        ("mcp_call", []) => through_egress(&input, mcp_call::run)?,
        // They differ in how the input is read, which is done where the step is judged.
        ("onchain_action" | "pay", []) => through_egress(&input, pay::run)?,
        ("webhook_send", []) => through_egress(&input, webhook_send::run)?,
        _ => bail!("there is no built-in {name:?} with these arguments; SKILLS.md lists them"),
    };
    println!("{output}");
    Ok(())
}

/// A skill that goes out, over the one way there is.
fn through_egress<I, O>(input: &[u8], skill: impl AsyncFnOnce(Client, I) -> anyhow::Result<O>) -> anyhow::Result<String>
where
    I: DeserializeOwned,
    O: Serialize,
{
    let input = read(input)?;
    let client = Client::from_env()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    Ok(serde_json::to_string(&runtime.block_on(skill(client, input))?)?)
}

fn locally<I, O>(input: &[u8], skill: impl FnOnce(I) -> anyhow::Result<O>) -> anyhow::Result<String>
where
    I: DeserializeOwned,
    O: Serialize,
{
    Ok(serde_json::to_string(&skill(read(input)?)?)?)
}

/// The input, with errors that name the field.
fn read<I: DeserializeOwned>(input: &[u8]) -> anyhow::Result<I> {
    let value: Value = serde_json::from_slice(input).context("input: it is not JSON")?;
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string().as_str() {
        "." => anyhow!("input: {}", error.inner()),
        path => anyhow!("input.{}: {}", path.escape_debug(), error.inner()),
    })
}
