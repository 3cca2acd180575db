//! A payment, made by the signer outside of the sandbox as the step's input says that was judged and signed for. What is
//! done here is to ask for it, however often that takes, and to hand on what came of it.

use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::http::{Client, JSON_BYTES, json_headers};

/// Where the broker takes the request; it looks at nothing in it.
const ASK: &str = "https://payment.countersign.internal/";
/// The broker, or its record, may be away for a moment, and asking again asks for the same payment.
const FAILURES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Standing {
    payment: String,
    mode: String,
    state: State,
    transaction: Option<String>,
    block: Option<u64>,
    message: Option<String>,
}

#[derive(Deserialize)]
enum State {
    Waiting,
    Submitted,
    Confirmed,
    Refused,
    Dead,
}

#[derive(Serialize)]
pub struct Output {
    payment: String,
    mode: String,
    transaction: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<u64>,
}

/// The input was read when the step was judged.
pub async fn run(client: Client, _: Map<String, Value>) -> anyhow::Result<Output> {
    let url = Url::parse(ASK)?;
    let mut failures = 0;
    loop {
        let standing = match ask(&client, &url).await {
            Ok(standing) => standing,
            Err(error) if failures + 1 >= FAILURES => return Err(error),
            Err(error) => {
                failures += 1;
                eprintln!("asking again: {error:#}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        failures = 0;
        let Standing { payment, mode, state, transaction, block, message } = standing;
        let why = message.unwrap_or_else(|| "the signer does not say why".to_owned());
        match state {
            // The broker has waited already.
            State::Waiting | State::Submitted => {}
            State::Confirmed => {
                let transaction = transaction.context("it is confirmed, and no transaction is named")?;
                return Ok(Output { payment, mode, transaction, block });
            }
            State::Refused => bail!("nothing was paid: the network refused {payment}: {why}"),
            State::Dead => bail!(
                "nothing was paid: the signer gave {payment} up: {why}; mend that, and then: kubectl countersign outbox"
            ),
        }
    }
}

async fn ask(client: &Client, url: &Url) -> anyhow::Result<Standing> {
    let answer = client.send(Method::POST, url, json_headers(), "{}").await?;
    if !answer.status().is_success() {
        return Err(answer.failure().await);
    }
    answer.json(JSON_BYTES).await
}
