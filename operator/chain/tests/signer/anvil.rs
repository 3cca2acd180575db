//! A chain of its own for each test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy_primitives::{Address, B256, U64, U256, address};
use reqwest::{Client, Url};
use serde_json::{Value, json};

/// The second account of every Anvil, by which the signer pays. The first one deploys.
pub const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
pub const PAYER: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");
pub const CHAIN: u64 = 31_337;
pub const GWEI: u128 = 1_000_000_000;

pub fn packages() -> PathBuf {
    let folder = std::env::var_os("COUNTERSIGN_TEST_NODE");
    let folder = PathBuf::from(folder.expect("COUNTERSIGN_TEST_NODE must name the folder that install.sh prints"));
    assert!(folder.join("node_modules").is_dir(), "{} has no node_modules; run install.sh", folder.display());
    folder
}

pub fn client(timeout: Duration) -> Client {
    // Only the first in a process takes.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().timeout(timeout).no_proxy().build().unwrap()
}

pub struct Anvil {
    process: Child,
    pub url: Url,
    client: Client,
    pub router: Address,
    /// The payer's balance before anything.
    pub start: U256,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Anvil {
    /// With the router of contracts/Router.bin; `--no-mining` among the options has it wait to be told.
    pub async fn start(options: &[&str]) -> Anvil {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let program = packages().join(format!("node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"));
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", "0", "--chain-id", &CHAIN.to_string()]).args(options);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "anvil ended before it listened");
            if let Some(address) = line.strip_prefix("Listening on ") {
                break address.trim().to_owned();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let url = Url::parse(&format!("http://{address}")).unwrap();
        let client = client(Duration::from_secs(60));
        let mut anvil = Anvil { process, url, client, router: Address::ZERO, start: U256::ZERO };
        let deployer = anvil.rpc("eth_accounts", json!([])).await[0].clone();
        let data = format!("0x{}", include_str!("../../contracts/Router.bin").trim());
        let hash = anvil.rpc("eth_sendTransaction", json!([{ "from": deployer, "data": data, "gas": "0x4c4b40" }]));
        let hash = hash.await;
        anvil.mine(1).await;
        let receipt = anvil.rpc("eth_getTransactionReceipt", json!([hash])).await;
        anvil.router = serde_json::from_value(receipt["contractAddress"].clone()).unwrap();
        anvil.start = anvil.balance(PAYER).await;
        anvil
    }

    pub async fn ask(&self, method: &str, params: Value) -> Result<Value, Value> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.client.post(self.url.clone()).header("content-type", "application/json").body(request);
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].take()) }
    }

    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        self.ask(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([U64::from(blocks)])).await;
    }

    pub async fn height(&self) -> u64 {
        let height: U64 = serde_json::from_value(self.rpc("eth_blockNumber", json!([])).await).unwrap();
        height.to()
    }

    /// Puts other blocks in the place of the newest, without their transactions.
    pub async fn reorg(&self, depth: u64) {
        self.rpc("anvil_reorg", json!([depth, []])).await;
    }

    /// The next block's.
    pub async fn base_fee(&self, wei: u128) {
        self.rpc("anvil_setNextBlockBaseFeePerGas", json!([U256::from(wei)])).await;
    }

    pub async fn balance(&self, of: Address) -> U256 {
        serde_json::from_value(self.rpc("eth_getBalance", json!([of, "latest"])).await).unwrap()
    }

    /// Somebody else has the payer's key, and sends a wei to nobody, with this nonce.
    pub async fn taken(&self, nonce: u64) -> B256 {
        let fee = U256::from(200 * GWEI);
        let request = json!([{ "from": PAYER, "to": Address::repeat_byte(0xdd), "value": "0x1", "gas": "0x5208",
            "nonce": U64::from(nonce), "maxFeePerGas": fee, "maxPriorityFeePerGas": U256::from(50 * GWEI) }]);
        serde_json::from_value(self.rpc("eth_sendTransaction", request).await).unwrap()
    }

    /// The payer's nonce at the newest block.
    pub async fn nonce(&self) -> u64 {
        let nonce = self.rpc("eth_getTransactionCount", json!([PAYER, "latest"])).await;
        serde_json::from_value::<U64>(nonce).unwrap().to()
    }

    /// Has a recipient refuse every coin, or take it again.
    pub async fn refusing(&self, recipient: Address, refuses: bool) {
        // PUSH1 0 PUSH1 0 REVERT
        let code = if refuses { "0x60006000fd" } else { "0x" };
        self.rpc("anvil_setCode", json!([recipient, code])).await;
    }
}
