//! `check_balance` against a real node: balances that real transactions made, and a real ERC-20.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::counterpart::{Server, anvil, compiled};
use crate::proxy::{Place, Proxy, fixed};
use crate::skill::{Ran, through};

const CHAIN: u64 = 31_338;
const RICH: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const OTHER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

struct Chain {
    _server: Server,
    address: SocketAddr,
    proxy: Proxy,
}

impl Chain {
    fn start() -> Chain {
        let (server, address) = anvil(CHAIN);
        let proxy = Proxy::new(&[("https://rpc.example.com", Place::Tcp(address))]);
        Chain { _server: server, address, proxy }
    }

    /// Asks the node itself, past the proxy.
    fn ask(&self, method: &str, params: &Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    /// A transaction that the node has put into a block, and its receipt.
    fn transact(&self, transaction: &Value) -> Value {
        let hash = self.ask("eth_sendTransaction", &json!([transaction]));
        let started = Instant::now();
        let receipt = loop {
            match self.ask("eth_getTransactionReceipt", &json!([hash])) {
                Value::Null => assert!(started.elapsed() < Duration::from_secs(10), "it was not mined"),
                receipt => break receipt,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        receipt
    }

    fn pay(&self, to: &str, wei: u128) {
        self.transact(&json!({"from": RICH, "to": to, "value": format!("{wei:#x}")}));
    }

    fn check(&self, input: Value) -> Ran {
        let mut whole = json!({"url": "https://rpc.example.com/"});
        whole.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        through(&self.proxy, "check_balance", &whole)
    }
}

#[test]
fn a_native_balance_is_that_of_one_block() {
    let chain = Chain::start();
    chain.pay(OTHER, 1_500_000_000_000_000_000);
    chain.pay(OTHER, 1);
    let latest = chain.check(json!({"account": OTHER.to_lowercase(), "chainId": CHAIN})).output();
    let expected = json!({
        "chainId": CHAIN, "block": 2, "account": OTHER,
        "raw": "1500000000000000001", "decimals": 18, "amount": "1.500000000000000001",
    });
    assert_eq!(latest, expected);
    let methods: Vec<Value> = chain.proxy.seen().iter().map(|seen| seen.json()["method"].clone()).collect();
    assert_eq!(methods, ["eth_chainId", "eth_blockNumber", "eth_getBalance"]);
    assert_eq!(chain.proxy.seen()[2].json()["params"], json!([OTHER.to_lowercase(), "0x2"]));
    assert_eq!(chain.proxy.lines()[0], "POST https://rpc.example.com/");

    let earlier = chain.check(json!({"account": OTHER, "block": 1})).output();
    assert_eq!((&earlier["block"], &earlier["amount"]), (&json!(1), &json!("1.5")));
    let before = chain.check(json!({"account": OTHER, "block": 0})).output();
    assert_eq!((&before["raw"], &before["amount"]), (&json!("0"), &json!("0")));
    let final_ = chain.check(json!({"account": OTHER, "block": "finalized"})).output();
    assert!(final_["block"].as_u64().unwrap() <= 2, "{final_}");
}

#[test]
fn a_token_has_its_own_decimals() {
    let chain = Chain::start();
    let supply = format!("{:064x}", 1_234_567_890_123_u64);
    let receipt = chain.transact(&json!({"from": RICH, "data": format!("{}{supply}", compiled("Token.sol"))}));
    let token = receipt["contractAddress"].as_str().unwrap();
    let of = |account: &str| chain.check(json!({"account": account, "token": token})).output();
    let whole = of(RICH);
    assert_eq!(whole["raw"], "1234567890123");
    assert_eq!(whole["amount"], "1234567.890123");
    assert_eq!((&whole["decimals"], &whole["symbol"]), (&json!(6), &json!("TST")));
    assert_eq!(whole["token"].as_str().unwrap().to_lowercase(), token);
    assert_eq!(of(OTHER)["amount"], "0");

    // transfer(address,uint256)
    let call = format!("0xa9059cbb{:0>64}{:064x}", &OTHER[2..].to_lowercase(), 2_500_000);
    chain.transact(&json!({"from": RICH, "to": token, "data": call}));
    assert_eq!(of(OTHER)["amount"], "2.5");
    assert_eq!(of(RICH)["amount"], "1234565.390123");

    let none = chain.check(json!({"account": RICH, "token": OTHER}));
    none.fails_with(&format!("input.token: {OTHER} does not answer balanceOf(address) as an ERC-20 token does"));
}

#[test]
fn another_chain_and_a_block_to_come_are_errors() {
    let chain = Chain::start();
    let other = chain.check(json!({"account": RICH, "chainId": 1}));
    other.fails("input.chainId: the node is of chain 31338, not 1; correct url or chainId");
    assert_eq!(chain.proxy.seen().len(), 1, "nothing is read of a chain that was not meant");
    chain.check(json!({"account": RICH, "block": 99})).fails_with("eth_getBalance: the node says -32");
}

#[test]
fn integers_that_readers_lose_are_strings() {
    // 2^53, as a chain id.
    let proxy = Proxy::new(&[(
        "https://rpc.example.com",
        fixed(200, &[("content-type", "application/json")], r#"{"jsonrpc":"2.0","id":1,"result":"0x20000000000000"}"#),
    )]);
    let output = through(&proxy, "check_balance", &json!({"url": "https://rpc.example.com", "account": RICH})).output();
    assert_eq!(output["chainId"], "9007199254740992");
    assert_eq!(output["amount"], "0.009007199254740992");
}

#[test]
fn what_the_node_may_answer_instead() {
    let json = [("content-type", "application/json")];
    let table = [
        (
            fixed(200, &json, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit exceeded"}}"#),
            "eth_chainId: the node says -32005: limit exceeded",
        ),
        (
            fixed(429, &json, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"slow down"}}"#),
            "eth_chainId: the node says -32005: slow down",
        ),
        (
            fixed(503, &[("content-type", "text/html")], "<p>down</p>"),
            "eth_chainId: POST https://rpc.example.com/: answered 503 Service Unavailable: <p>down</p>",
        ),
        (
            fixed(200, &json, r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            "eth_chainId: the node answers nothing: no result and no error",
        ),
        (
            fixed(200, &json, r#"{"jsonrpc":"2.0","id":1,"result":"0xzz"}"#),
            r#"eth_chainId: the result "0xzz" is not what was expected"#,
        ),
        (fixed(200, &json, "{"), "POST https://rpc.example.com/: the answer (200 OK) is not what was expected: EOF"),
        (fixed(200, &json, vec![b' '; 5 << 20]), "the answer has more than 4194304 bytes"),
    ];
    for (place, message) in table {
        let proxy = Proxy::new(&[("https://rpc.example.com", place)]);
        let input = json!({"url": "https://rpc.example.com", "account": RICH});
        through(&proxy, "check_balance", &input).fails_with(message);
    }
}

#[test]
fn wrong_inputs_name_the_field() {
    let table = [
        (json!({"account": RICH}), "input: missing field `url`"),
        (
            json!({"url": "https://a", "acount": RICH}),
            "input.acount: unknown field `acount`, expected one of `url`, `account`, `token`, `block`, `chainId`",
        ),
        (json!({"url": "ftp://a", "account": RICH}), r#"input.url: "ftp://a" is not an http or https URL"#),
        (json!({"url": "a", "account": RICH}), r#"input.url: "a" is not a URL: relative URL without a base"#),
        (
            json!({"url": "https://me:secret@a", "account": RICH}),
            "input.url: it carries a user or a password; the broker shows credentials, so name the Secret in the Skill's spec.egress[].credential and leave them out here",
        ),
        (
            json!({"url": "https://a", "account": "0x12"}),
            r#"input.account: "0x12" is not an address; write 0x and 40 hexadecimal digits"#,
        ),
        (
            json!({"url": "https://a", "account": &RICH[2..]}),
            r#"input.account: "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266" is not an address; write 0x and 40 hexadecimal digits"#,
        ),
        (
            json!({"url": "https://a", "account": RICH.replace("f39F", "f39f")}),
            r#"input.account: "0xf39fd6e51aad88F6F4ce6aB8827279cffFb92266" fails its checksum (EIP-55): a digit is wrong; take it from its source again"#,
        ),
        (
            json!({"url": "https://a", "account": RICH, "token": "USDC"}),
            r#"input.token: "USDC" is not an address; write 0x and 40 hexadecimal digits"#,
        ),
        (
            json!({"url": "https://a", "account": RICH, "block": "pending"}),
            r#"input.block: "pending" is not a block; write latest, safe, finalized or a number"#,
        ),
        (
            json!({"url": "https://a", "account": RICH, "chainId": -1}),
            "input.chainId: invalid value: integer `-1`, expected u64",
        ),
        (
            json!({"url": "https://a", "account": RICH}),
            "POST https://a/: the broker refused it (egress-denied): the Skill lists no egress to a; add it to spec.egress",
        ),
    ];
    let proxy = Proxy::new(&[]);
    for (input, message) in table {
        through(&proxy, "check_balance", &input).fails(message);
    }
    assert_eq!(proxy.seen().len(), 1, "only the last was sent");
}

#[test]
fn without_egress_it_says_what_to_add() {
    let input = json!({"url": "https://a", "account": RICH}).to_string();
    crate::skill::run::<&str>("check_balance", &input, &[])
        .fails("there is no way out of the sandbox (COUNTERSIGN_EGRESS_SOCKET); list spec.egress in the Skill");
    crate::skill::run::<&str>("check_balance", "nonsense", &[]).fails_with("input: it is not JSON: expected ident");
    let gone = crate::skill::run("check_balance", &input, &[("COUNTERSIGN_EGRESS_SOCKET", "/tmp/no-such-socket")]);
    gone.fails(
        "POST https://a/: cannot connect to the runner at /tmp/no-such-socket: No such file or directory (os error 2)",
    );
}
