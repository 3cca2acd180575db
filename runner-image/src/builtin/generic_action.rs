//! Acknowledges an action and its parameters. It has no effect, and says so.

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    action: String,
    #[serde(default)]
    parameters: Value,
}

pub fn run(input: &[u8]) -> anyhow::Result<String> {
    let Input { action, parameters } = serde_json::from_slice(input).context("input")?;
    Ok(json!({"action": action, "parameters": parameters, "effect": "none"}).to_string())
}
