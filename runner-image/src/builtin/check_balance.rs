//! The balance of an account on an Ethereum chain, native or ERC-20, by JSON-RPC: all of it read at one block.

use alloy_primitives::utils::format_units;
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{Client, HttpUrl, JSON_BYTES, json_headers};

sol! {
    function balanceOf(address owner) external view returns (uint256);
    function decimals() external view returns (uint8);
    function symbol() external view returns (string);
}

/// What every chain that is made like Ethereum counts its own coin with.
const NATIVE_DECIMALS: u8 = 18;
/// The greatest integer that every JSON reader keeps (RFC 7493).
const GREATEST_INTEGER: u64 = (1 << 53) - 1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    url: HttpUrl,
    account: Account,
    token: Option<Account>,
    #[serde(default)]
    block: Block,
    chain_id: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    chain_id: Value,
    block: Value,
    account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    raw: String,
    decimals: u8,
    amount: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
}

/// An address whose capitals, if it has both kinds of letters, are its checksum (EIP-55).
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Account(Address);

impl TryFrom<String> for Account {
    type Error = String;

    fn try_from(text: String) -> Result<Account, String> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
        let address = digits.and_then(|digits| digits.parse::<Address>().ok());
        let (Some(digits), Some(address)) = (digits, address) else {
            return Err(format!("{text:?} is not an address; write 0x and 40 hexadecimal digits"));
        };
        let has = |kind: fn(&u8) -> bool| digits.bytes().any(|byte| kind(&byte));
        if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && address.to_checksum(None) != text {
            return Err(format!(
                "{text:?} fails its checksum (EIP-55): a digit is wrong; take it from its source again"
            ));
        }
        Ok(Account(address))
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(try_from = "Value")]
enum Block {
    #[default]
    Latest,
    Safe,
    Finalized,
    Number(u64),
}

impl TryFrom<Value> for Block {
    type Error = String;

    fn try_from(value: Value) -> Result<Block, String> {
        match (value.as_str(), value.as_u64()) {
            (Some("latest"), _) => Ok(Block::Latest),
            (Some("safe"), _) => Ok(Block::Safe),
            (Some("finalized"), _) => Ok(Block::Finalized),
            (_, Some(number)) => Ok(Block::Number(number)),
            (_, None) => Err(format!("{value} is not a block; write latest, safe, finalized or a number")),
        }
    }
}

pub async fn run(client: Client, input: Input) -> anyhow::Result<Output> {
    let Input { url, account: Account(account), token, block, chain_id: expected } = input;
    let node = Node { client, url };
    let chain_id: U256 = node.call("eth_chainId", json!([])).await?;
    if let Some(expected) = expected
        && chain_id != U256::from(expected)
    {
        bail!("input.chainId: the node is of chain {chain_id}, not {expected}; correct url or chainId");
    }
    let block = node.block(block).await?;
    let at = format!("{block:#x}");
    let (raw, decimals, symbol) = match token {
        None => (node.call("eth_getBalance", json!([account, at])).await?, NATIVE_DECIMALS, None),
        Some(Account(token)) => {
            let token = Token { node: &node, token, at };
            (
                token.read(balanceOfCall { owner: account }).await?,
                token.read(decimalsCall {}).await?,
                token.symbol().await?,
            )
        }
    };
    let amount = format_units(raw, decimals)
        .with_context(|| format!("input.token: {decimals} decimals are more than can be written"))?;
    Ok(Output {
        chain_id: integer(chain_id),
        block: integer(block),
        account: account.to_checksum(None),
        token: token.map(|Account(token)| token.to_checksum(None)),
        raw: raw.to_string(),
        decimals,
        amount: shortest(&amount).to_owned(),
        symbol,
    })
}

/// A number where every reader keeps it, else its decimal string.
fn integer(value: U256) -> Value {
    match u64::try_from(value) {
        Ok(small) if small <= GREATEST_INTEGER => small.into(),
        Ok(_) | Err(_) => value.to_string().into(),
    }
}

/// Without zeros that say nothing.
fn shortest(amount: &str) -> &str {
    if amount.contains('.') { amount.trim_end_matches('0').trim_end_matches('.') } else { amount }
}

struct Node {
    client: Client,
    url: HttpUrl,
}

#[derive(Deserialize)]
struct Reply {
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

impl Node {
    /// The result, or what the node says is wrong.
    async fn ask(&self, method: &str, params: Value) -> anyhow::Result<Result<Value, RpcError>> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.client.send(hyper::Method::POST, &self.url.0, json_headers(), body.to_string()).await?;
        // Nodes say what is wrong under any status.
        if !answer.status().is_success() && !answer.is_json() {
            return Err(answer.failure().await.context(method.to_owned()));
        }
        let reply: Reply = answer.json(JSON_BYTES).await.with_context(|| method.to_owned())?;
        match reply {
            Reply { error: Some(error), result: _ } => Ok(Err(error)),
            Reply { error: None, result: Some(result) } => Ok(Ok(result)),
            Reply { error: None, result: None } => bail!("{method}: the node answers nothing: no result and no error"),
        }
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> anyhow::Result<T> {
        match self.ask(method, params).await? {
            Ok(result) => serde_json::from_value(result.clone())
                .with_context(|| format!("{method}: the result {result} is not what was expected")),
            Err(RpcError { code, message }) => bail!("{method}: the node says {code}: {message}"),
        }
    }

    /// Its number, so that everything after is read at the same one.
    async fn block(&self, block: Block) -> anyhow::Result<U256> {
        #[derive(Deserialize)]
        struct Header {
            number: U256,
        }
        let tagged = |tag: &'static str| async move {
            let header: Header = self.call("eth_getBlockByNumber", json!([tag, false])).await?;
            Ok(header.number)
        };
        match block {
            Block::Latest => self.call("eth_blockNumber", json!([])).await,
            Block::Safe => tagged("safe").await,
            Block::Finalized => tagged("finalized").await,
            Block::Number(number) => Ok(U256::from(number)),
        }
    }
}

struct Token<'a> {
    node: &'a Node,
    token: Address,
    at: String,
}

impl Token<'_> {
    async fn read<C: SolCall>(&self, call: C) -> anyhow::Result<C::Return> {
        let bytes: Bytes = self.node.call("eth_call", self.params(call)).await.with_context(|| self.is_none::<C>())?;
        C::abi_decode_returns(&bytes).map_err(|error| anyhow!("{}: {error}", self.is_none::<C>()))
    }

    /// The standard leaves it open whether there is one, and of what type.
    async fn symbol(&self) -> anyhow::Result<Option<String>> {
        let result = self.node.ask("eth_call", self.params(symbolCall {})).await?.ok();
        let bytes = result.and_then(|result| serde_json::from_value::<Bytes>(result).ok());
        Ok(bytes.and_then(|bytes| symbolCall::abi_decode_returns(&bytes).ok()))
    }

    fn params(&self, call: impl SolCall) -> Value {
        json!([{"to": self.token, "data": Bytes::from(call.abi_encode())}, self.at])
    }

    fn is_none<C: SolCall>(&self) -> String {
        format!("input.token: {} does not answer {} as an ERC-20 token does", self.token, C::SIGNATURE)
    }
}
