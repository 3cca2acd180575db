//! A node, asked over JSON-RPC (<https://ethereum.github.io/execution-apis/>). Nothing that it says is believed yet.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_consensus::Header;
use alloy_eips::BlockNumberOrTag;
use alloy_json_rpc::{ErrorPayload, Id, Response, ResponsePayload};
use alloy_primitives::{Address, B256, Bytes, U64, U256, hex};
use alloy_rpc_types_eth::{Block, FeeHistory, Filter, Log, TransactionReceipt, TransactionRequest};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use thiserror::Error;

use super::abi::plain;
use crate::network::Trouble;

/// In bytes.
const MOST: usize = 256 * 1024;
/// Of a block with all that it holds, which is bounded by the block's gas.
const MOST_OF_BLOCK: usize = 16 * 1024 * 1024;

pub struct Node {
    /// Of the network, for those who read what went wrong.
    name: String,
    client: Client,
    /// May hold a secret, and is not shown.
    url: Url,
    asked: AtomicU64,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error("{0}")]
    Silent(String),
    /// It has answered with an error.
    #[error("the node of {name} says {:?}", plain(&said.message))]
    Said { name: String, said: ErrorPayload },
}

impl From<NodeError> for Trouble {
    fn from(error: NodeError) -> Trouble {
        Trouble::Unavailable(error.to_string())
    }
}

/// A block's header, which has the hash that the node gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub number: u64,
    pub hash: B256,
}

impl Node {
    /// `client` must have timeouts, and bring its own TLS.
    pub fn new(name: &str, client: Client, url: Url) -> Node {
        Node { name: name.to_owned(), client, url, asked: AtomicU64::new(0) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the node's chain has this block at this height.
    pub async fn confirm_block(&self, chain_id: u64, number: u64, hash: B256) -> Result<bool, Trouble> {
        self.check_chain(chain_id).await?;
        Ok(self.at(BlockNumberOrTag::Number(number)).await?.is_some_and(|at| at.hash == hash))
    }

    pub(super) async fn check_chain(&self, expected: u64) -> Result<(), Trouble> {
        let found: U64 = self.ask("eth_chainId", json!([]), MOST).await?;
        if found == U64::from(expected) {
            return Ok(());
        }
        let Node { name, .. } = self;
        Err(Trouble::WrongNetwork(format!(
            "the node of {name} is of chain {found}, and {name} is chain {expected}: correct its url or its chainId"
        )))
    }

    pub(super) async fn head(&self) -> Result<At, Trouble> {
        self.at(BlockNumberOrTag::Latest).await?.ok_or_else(|| self.nonsense("that there is no newest block"))
    }

    pub(super) async fn at(&self, block: BlockNumberOrTag) -> Result<Option<At>, Trouble> {
        let found: Option<Block<IgnoredAny>> = self.ask("eth_getBlockByNumber", json!([block, false]), MOST).await?;
        let Some(found) = found else { return Ok(None) };
        let (given, header): (B256, Header) = (found.header.hash, found.header.inner);
        let hash = header.hash_slow();
        let another = block.as_number().is_some_and(|number| number != header.number);
        if another || hash != given {
            return Err(self.nonsense(&format!("a header that is not of the block {given}")));
        }
        Ok(Some(At { number: header.number, hash }))
    }

    /// The block of this hash, with its transactions, and their receipts.
    pub(super) async fn contents(&self, hash: B256) -> Result<(Block, Vec<TransactionReceipt>), Trouble> {
        let gone = || Trouble::Unavailable(format!("the node of {} no longer has the block {hash}", self.name));
        let block: Option<Block> = self.ask("eth_getBlockByHash", json!([hash, true]), MOST_OF_BLOCK).await?;
        let receipts: Option<Vec<TransactionReceipt>> =
            self.ask("eth_getBlockReceipts", json!([hash]), MOST_OF_BLOCK).await?;
        Ok((block.ok_or_else(gone)?, receipts.ok_or_else(gone)?))
    }

    pub(super) async fn nonce(&self, account: Address, block: BlockNumberOrTag) -> Result<u64, Trouble> {
        let nonce: U64 = self.ask("eth_getTransactionCount", json!([account, block]), MOST).await?;
        Ok(nonce.to())
    }

    pub(super) async fn balance(&self, account: Address) -> Result<U256, Trouble> {
        Ok(self.ask("eth_getBalance", json!([account, "latest"]), MOST).await?)
    }

    pub(super) async fn has_code(&self, contract: Address) -> Result<bool, Trouble> {
        let code: Bytes = self.ask("eth_getCode", json!([contract, "latest"]), MOST).await?;
        Ok(!code.is_empty())
    }

    pub(super) async fn receipt(&self, transaction: B256) -> Result<Option<TransactionReceipt>, Trouble> {
        let receipt: Option<TransactionReceipt> =
            self.ask("eth_getTransactionReceipt", json!([transaction]), MOST).await?;
        match receipt {
            Some(receipt) if receipt.transaction_hash != transaction => {
                Err(self.nonsense("the receipt of another transaction"))
            }
            receipt => Ok(receipt),
        }
    }

    /// Whether it has the transaction, in a block or waiting for one.
    pub(super) async fn knows(&self, transaction: B256) -> Result<bool, Trouble> {
        let found: Option<Value> = self.ask("eth_getTransactionByHash", json!([transaction]), MOST).await?;
        Ok(found.is_some())
    }

    /// What the newest blocks took: base fees, with the next block's, and the median tip of each.
    pub(super) async fn fees(&self) -> Result<FeeHistory, Trouble> {
        Ok(self.ask("eth_feeHistory", json!(["0xa", "latest", [50.0]]), MOST).await?)
    }

    pub(super) async fn estimate(&self, call: &TransactionRequest) -> Result<u64, NodeError> {
        let gas: U64 = self.ask("eth_estimateGas", json!([call, "latest"]), MOST).await?;
        Ok(gas.to())
    }

    pub(super) async fn call(&self, call: &TransactionRequest, block: BlockNumberOrTag) -> Result<Bytes, NodeError> {
        self.ask("eth_call", json!([call, block]), MOST).await
    }

    pub(super) async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, Trouble> {
        Ok(self.ask("eth_getLogs", json!([filter]), MOST).await?)
    }

    pub(super) async fn send(&self, body: &[u8]) -> Result<B256, NodeError> {
        self.ask("eth_sendRawTransaction", json!([hex::encode_prefixed(body)]), MOST).await
    }

    pub(super) fn nonsense(&self, what: &str) -> Trouble {
        Trouble::Unavailable(format!("the node of {} tells nonsense: {what}", self.name))
    }

    async fn ask<R: DeserializeOwned>(&self, method: &str, params: Value, most: usize) -> Result<R, NodeError> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let body = self.post(request.to_string(), most).await.map_err(|why| self.silent(method, &why))?;
        let answer: Response =
            serde_json::from_slice(&body).map_err(|_| self.silent(method, "it did not answer in JSON-RPC"))?;
        match answer.payload {
            ResponsePayload::Failure(said) => Err(NodeError::Said { name: self.name.clone(), said }),
            ResponsePayload::Success(_) if answer.id != Id::Number(id) => {
                Err(self.silent(method, "it answered something else"))
            }
            ResponsePayload::Success(result) => {
                serde_json::from_str(result.get()).map_err(|error| self.silent(method, &plain(&error.to_string())))
            }
        }
    }

    fn silent(&self, method: &str, why: &str) -> NodeError {
        NodeError::Silent(format!("the node of {}, asked for {method}: {why}", self.name))
    }

    /// Nodes may give an error's words with a status of their own, so what is JSON is taken whatever the status.
    async fn post(&self, request: String, most: usize) -> Result<Vec<u8>, String> {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(request);
        let mut answer = request.send().await.map_err(unsent)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(unsent)? {
            if body.len() + piece.len() > most {
                return Err(format!("it answered with more than {most} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        let readable = status.is_success() || serde_json::from_slice::<Response>(&body).is_ok();
        if readable { Ok(body) } else { Err(format!("it answered with status {status}")) }
    }
}

/// Says what is known without the address, which may hold a secret.
fn unsent(error: reqwest::Error) -> String {
    if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else if error.is_connect() {
        "it cannot be reached".to_owned()
    } else {
        plain(&error.without_url().to_string())
    }
}
