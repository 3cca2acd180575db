//! A chain of its own for each test, which makes a block only when it is told to.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U256, address, hex};
use alloy_sol_types::{SolCall, sol};
use reqwest::{Client, Url};
use serde_json::{Value, json};

sol! {
    function approve(address spender, uint256 amount);
    function transfer(address to, uint256 amount);
    function balanceOf(address account) returns (uint256);
}

/// The first account of every Anvil, which deploys and pays, and the second.
pub const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
pub const OTHER: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");
pub const CHAIN: u64 = 31_337;
pub const GAS: u64 = 2_000_000;

pub fn packages() -> PathBuf {
    let folder = std::env::var_os("COUNTERSIGN_TEST_NODE");
    let folder = PathBuf::from(folder.expect("COUNTERSIGN_TEST_NODE must name the folder that install.sh prints"));
    assert!(folder.join("node_modules").is_dir(), "{} has no node_modules; run install.sh", folder.display());
    folder
}

/// What compiling the sources again gives: creation codes by the contracts' names.
pub fn compiled() -> &'static Value {
    static COMPILED: OnceLock<Value> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let compiler = concat!(env!("CARGO_MANIFEST_DIR"), "/contracts/compile.mjs");
        let mut command = Command::new("node");
        command.arg(compiler).arg(packages()).args(["Router.sol", "test/Counterparts.sol"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
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
    pub deployer: Address,
    pub router: Address,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Anvil {
    /// With the router of contracts/Router.bin.
    pub async fn start() -> Anvil {
        Anvil::start_as(CHAIN).await
    }

    pub async fn start_as(chain: u64) -> Anvil {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let program = packages().join(format!("node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"));
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", "0", "--no-mining", "--chain-id", &chain.to_string()]);
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
        let client = client(Duration::from_secs(30));
        let mut anvil = Anvil { process, url, client, deployer: Address::ZERO, router: Address::ZERO };
        anvil.deployer = serde_json::from_value(anvil.rpc("eth_accounts", json!([])).await[0].clone()).unwrap();
        anvil.router = anvil.deploy(include_str!("../../contracts/Router.bin").trim(), &[]).await;
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

    /// The next block's; it must hold for as long as nothing is mined.
    pub async fn base_fee(&self, wei: u128) {
        self.rpc("anvil_setNextBlockBaseFeePerGas", json!([U256::from(wei)])).await;
    }

    pub async fn deploy(&self, code: &str, arguments: &[u8]) -> Address {
        let data = format!("0x{code}{}", hex::encode(arguments));
        let hash = self
            .rpc("eth_sendTransaction", json!([{ "from": self.deployer, "data": data, "gas": U64::from(5_000_000) }]));
        let hash = hash.await;
        self.mine(1).await;
        let receipt = self.rpc("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        serde_json::from_value(receipt["contractAddress"].clone()).unwrap()
    }

    pub async fn deploy_named(&self, name: &str, arguments: &[u8]) -> Address {
        self.deploy(compiled()[name].as_str().unwrap(), arguments).await
    }

    /// Sends a call by an account of Anvil's own, whether it succeeds or not.
    pub async fn send(&self, from: Address, to: Address, value: u128, data: Vec<u8>) -> B256 {
        let request = json!([{ "from": from, "to": to, "value": U256::from(value), "data": Bytes::from(data), "gas": U64::from(GAS) }]);
        serde_json::from_value(self.rpc("eth_sendTransaction", request).await).unwrap()
    }

    /// That it was mined at once, and its receipt.
    pub async fn sent(&self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Value {
        let hash = self.send(from, to, value, data).await;
        self.mine(1).await;
        self.rpc("eth_getTransactionReceipt", json!([hash])).await
    }

    /// What a call gives, or the data with which it is reverted.
    pub async fn call(&self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Result<Bytes, Bytes> {
        let request =
            json!([{ "from": from, "to": to, "value": U256::from(value), "data": Bytes::from(data) }, "latest"]);
        let bytes = |value: &Value| serde_json::from_value(value.clone()).unwrap_or_default();
        self.ask("eth_call", request).await.map(|data| bytes(&data)).map_err(|error| bytes(&error["data"]))
    }

    pub async fn balance(&self, of: Address) -> U256 {
        serde_json::from_value(self.rpc("eth_getBalance", json!([of, "latest"])).await).unwrap()
    }

    pub async fn tokens(&self, token: Address, of: Address) -> U256 {
        let answer = self.call(of, token, 0, balanceOfCall { account: of }.abi_encode()).await.unwrap();
        U256::from_be_slice(&answer)
    }

    /// Everything that the router has logged.
    pub async fn logged(&self) -> Vec<Value> {
        let filter = json!([{ "address": self.router, "fromBlock": "0x0", "toBlock": "latest" }]);
        self.rpc("eth_getLogs", filter).await.as_array().unwrap().clone()
    }
}
