//! What is asked of a node's HTTP interface: the live and the query service of Qubic's RPC
//! (<https://docs.qubic.org/apis/live>, <https://docs.qubic.org/apis/query>). They are asked below one address, as they
//! are served at <https://rpc.qubic.org>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::transaction::Transaction;
use crate::network::Trouble;

/// Of an answer's bytes.
const MOST: usize = 256 * 1024;
/// Of what is told of a refusal, in characters.
const TOLD: usize = 200;
/// `NOT_FOUND` among gRPC's codes.
const NOT_FOUND: i32 = 5;

pub(super) struct Node<'a> {
    pub(super) client: &'a Client,
    pub(super) url: &'a Url,
}

/// A transaction that was included.
pub(super) struct Included {
    /// The tick's time.
    pub(super) at: Timestamp,
    /// Whether its amount was moved; never where there was none.
    pub(super) money_flew: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TickInfo {
    tick_info: Tick,
}

#[derive(Deserialize)]
struct Tick {
    tick: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastProcessed {
    tick_number: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Broadcast {
    #[serde(default)]
    peers_broadcasted: i32,
    transaction_id: String,
}

#[derive(Deserialize)]
struct ByHash {
    transaction: Archived,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Archived {
    hash: String,
    tick_number: u32,
    /// Milliseconds since the Epoch, in decimal digits.
    timestamp: String,
    #[serde(default)]
    money_flew: bool,
}

/// How an error is told.
#[derive(Deserialize)]
struct Status {
    code: i32,
    #[serde(default)]
    message: String,
}

impl Node<'_> {
    /// The tick that the network is in.
    pub(super) async fn tick(&self) -> Result<u32, Trouble> {
        let TickInfo { tick_info: Tick { tick } } = self.ask(self.client.get(self.at("live/v1/tick-info"))).await?;
        known(tick)
    }

    /// The last tick of which the node tells all transactions.
    pub(super) async fn archived(&self) -> Result<u32, Trouble> {
        let request = self.client.get(self.at("query/v1/getLastProcessedTick"));
        let LastProcessed { tick_number } = self.ask(request).await?;
        known(tick_number)
    }

    pub(super) async fn broadcast(&self, transaction: &Transaction) -> Result<(), Trouble> {
        let body = json!({ "encodedTransaction": STANDARD.encode(transaction.to_bytes()) });
        let request = self.client.post(self.at("live/v1/broadcast-transaction")).json(&body);
        let Broadcast { peers_broadcasted, transaction_id } = self.ask(request).await?;
        if transaction_id != transaction.id() {
            return Err(unavailable("the node answered a broadcast with the id of another transaction"));
        }
        match peers_broadcasted {
            ..=0 => Err(unavailable("the node found no peer for the transaction")),
            1.. => Ok(()),
        }
    }

    /// Of a transaction in a tick that is archived; `None` where it is not in it.
    pub(super) async fn find(&self, id: &str, tick: u32) -> Result<Option<Included>, Trouble> {
        let request = self.client.post(self.at("query/v1/getTransactionByHash")).json(&json!({ "hash": id }));
        let (status, body) = answer(request).await?;
        // Another 404 may be that of a wrong address, and proves nothing.
        if status == StatusCode::NOT_FOUND && refusal(&body).is_some_and(|refusal| refusal.code == NOT_FOUND) {
            return Ok(None);
        }
        let ByHash { transaction: Archived { hash, tick_number, timestamp, money_flew } } = parse(status, &body)?;
        if hash != id || tick_number != tick {
            return Err(unavailable("the node answered with another transaction than it was asked for"));
        }
        let at = timestamp.parse().ok().and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok());
        let at = at.ok_or_else(|| unavailable("the node told a tick's time that is none"))?;
        Ok(Some(Included { at, money_flew }))
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url.as_str().trim_end_matches('/'))
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Trouble> {
        let (status, body) = answer(request).await?;
        parse(status, &body)
    }
}

/// A node that has just started is in tick 0.
fn known(tick: u32) -> Result<u32, Trouble> {
    match tick {
        0 => Err(unavailable("the node knows no tick yet")),
        1.. => Ok(tick),
    }
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Trouble> {
    // An address may hold a password.
    let failed = |error: reqwest::Error| unavailable(&format!("the node did not answer: {}", error.without_url()));
    let mut response = request.send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MOST {
            return Err(unavailable("the node's answer is larger than 256 KiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

fn parse<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, Trouble> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body)
            .map_err(|error| unavailable(&format!("the node's answer is not as documented: {error}")));
    }
    let told = refusal(body).map(|refusal| refusal.message.chars().take(TOLD).collect::<String>()).unwrap_or_default();
    let text = format!("the node answered {status} {told:?}");
    match status {
        StatusCode::BAD_REQUEST => Err(Trouble::NotNow(text)),
        _ => Err(Trouble::Unavailable(text)),
    }
}

fn refusal(body: &[u8]) -> Option<Status> {
    serde_json::from_slice(body).ok()
}

fn unavailable(text: &str) -> Trouble {
    Trouble::Unavailable(text.to_owned())
}
