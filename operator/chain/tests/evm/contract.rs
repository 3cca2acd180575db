//! The router itself, on a real chain.

use alloy_primitives::{Address, B256, U256, address};
use alloy_sol_types::{SolCall, SolError, SolEvent, SolValue, sol};
use serde_json::Value;

use crate::anvil::{Anvil, OTHER, approveCall, compiled};

sol! {
    #[derive(Debug, PartialEq)]
    function pay(bytes32 id, address to) payable;
    #[derive(Debug, PartialEq)]
    function payToken(bytes32 id, address token, address to, uint256 amount);
    function paid(address payer, bytes32 id) returns (bool);
    function anchor(bytes32 digest);
    function again() returns (bool);
    function used() returns (bool);
    #[derive(Debug, PartialEq)]
    event Paid(address indexed payer, bytes32 indexed id, address indexed to, address token, uint256 amount);
    #[derive(Debug, PartialEq)]
    event Anchored(address indexed by, bytes32 indexed digest);
    error AlreadyPaid(bytes32 id);
    error ZeroAmount();
    error BadRecipient(address to);
    error NotTaken(address to);
    error WrongAmount(uint256 expected, uint256 received);
    error SafeERC20FailedOperation(address token);
    error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
}

const ID: B256 = B256::repeat_byte(0x1d);
const TO: Address = address!("00000000000000000000000000000000c0ffee01");

fn logs(receipt: &Value) -> Vec<alloy_primitives::Log> {
    let logs: Vec<alloy_rpc_types_eth::Log> = serde_json::from_value(receipt["logs"].clone()).unwrap();
    logs.into_iter().map(|log| log.inner).collect()
}

fn gas(receipt: &Value) -> u64 {
    u64::from_str_radix(receipt["gasUsed"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

async fn is_paid(anvil: &Anvil, payer: Address) -> bool {
    let answer = anvil.call(payer, anvil.router, 0, paidCall { payer, id: ID }.abi_encode()).await.unwrap();
    answer == true.abi_encode()
}

#[test]
fn compiling_again_gives_what_was_committed() {
    let committed = include_str!("../../contracts/Router.bin");
    assert_eq!(format!("{}\n", compiled()["Router"].as_str().unwrap()), committed);
}

#[tokio::test]
async fn coin_is_paid_once_by_each_payer() {
    let anvil = Anvil::start().await;
    let (us, router) = (anvil.deployer, anvil.router);
    let data = pay::pay(ID, TO);
    // Somebody else's payment under the id does not use it up.
    for payer in [OTHER, us] {
        assert!(!is_paid(&anvil, payer).await);
        let before = anvil.balance(TO).await;
        let receipt = anvil.sent(payer, router, 5, data.clone()).await;
        assert_eq!(receipt["status"], "0x1");
        println!("pay: {} gas", gas(&receipt));
        let expected = Paid { payer, id: ID, to: TO, token: Address::ZERO, amount: U256::from(5) };
        let [log] = logs(&receipt).try_into().unwrap();
        assert_eq!((log.address, Paid::decode_log(&log).unwrap().data), (router, expected));
        assert_eq!(anvil.balance(TO).await, before + U256::from(5));
        assert!(is_paid(&anvil, payer).await);
        for (value, to) in [(5, TO), (6, TO), (5, OTHER)] {
            let error = anvil.call(payer, router, value, pay::pay(ID, to)).await.unwrap_err();
            assert_eq!(error, AlreadyPaid { id: ID }.abi_encode(), "{value} {to}");
        }
    }
    let receipt = anvil.sent(us, router, 5, data).await;
    assert_eq!((receipt["status"].as_str().unwrap(), logs(&receipt).len()), ("0x0", 0));
    assert_eq!((anvil.balance(TO).await, anvil.balance(router).await), (U256::from(10), U256::ZERO));
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused() {
    let anvil = Anvil::start().await;
    let (us, router) = (anvil.deployer, anvil.router);
    let token = anvil.deploy_named("Token", &[]).await;
    let fee = anvil.deploy_named("FeeToken", &[]).await;
    let untrue = anvil.deploy_named("FalseToken", &[]).await;
    let lying = anvil.deploy_named("LyingToken", &[]).await;
    let closed = anvil.deploy_named("Closed", &[]).await;
    anvil.sent(us, fee, 0, approveCall { spender: router, amount: U256::MAX }.abi_encode()).await;
    let one = U256::from(1);
    let tokens = |token, to, amount: u64| pay::token(ID, token, to, U256::from(amount));
    let failed = |token| SafeERC20FailedOperation { token }.abi_encode();
    let cases = [
        (5, pay::pay(ID, Address::ZERO), BadRecipient { to: Address::ZERO }.abi_encode()),
        (5, pay::pay(ID, router), BadRecipient { to: router }.abi_encode()),
        (0, pay::pay(ID, TO), ZeroAmount {}.abi_encode()),
        (5, pay::pay(ID, closed), NotTaken { to: closed }.abi_encode()),
        (0, tokens(token, Address::ZERO, 1), BadRecipient { to: Address::ZERO }.abi_encode()),
        (0, tokens(token, router, 1), BadRecipient { to: router }.abi_encode()),
        (0, tokens(token, TO, 0), ZeroAmount {}.abi_encode()),
        (0, tokens(Address::ZERO, TO, 1), failed(Address::ZERO)),
        (0, tokens(untrue, TO, 1), failed(untrue)),
        (0, tokens(lying, TO, 1), WrongAmount { expected: one, received: U256::ZERO }.abi_encode()),
        (0, tokens(fee, TO, 1000), WrongAmount { expected: U256::from(1000), received: U256::from(990) }.abi_encode()),
        // No allowance, and to oneself, where nothing arrives.
        (
            0,
            tokens(token, TO, 1),
            ERC20InsufficientAllowance { spender: router, allowance: U256::ZERO, needed: one }.abi_encode(),
        ),
        (0, tokens(fee, us, 1), WrongAmount { expected: one, received: U256::ZERO }.abi_encode()),
        // No contract at all.
        (0, tokens(OTHER, TO, 1), Vec::new()),
        // Coin that comes with a call for a token would stay in the router.
        (1, tokens(token, TO, 1), Vec::new()),
        (1, anchorCall { digest: ID }.abi_encode(), Vec::new()),
        (1, Vec::new(), Vec::new()),
    ];
    for (n, (value, data, expected)) in cases.into_iter().enumerate() {
        assert_eq!(anvil.call(us, router, value, data.clone()).await.unwrap_err(), expected, "case {n}");
        let receipt = anvil.sent(us, router, value, data).await;
        assert_eq!(receipt["status"], "0x0", "case {n}");
        assert!(!is_paid(&anvil, us).await, "case {n}");
    }
    assert_eq!(anvil.logged().await, Vec::<Value>::new());
    assert_eq!(anvil.balance(router).await, U256::ZERO);
}

#[tokio::test]
async fn tokens_are_paid_once_and_digests_are_seen() {
    let anvil = Anvil::start().await;
    let (us, router) = (anvil.deployer, anvil.router);
    for name in ["Token", "OldToken"] {
        let token = anvil.deploy_named(name, &[]).await;
        anvil.sent(us, token, 0, approveCall { spender: router, amount: U256::MAX }.abi_encode()).await;
        let id = B256::from(token.into_word());
        let receipt = anvil.sent(us, router, 0, pay::token(id, token, TO, U256::from(7))).await;
        assert_eq!(receipt["status"], "0x1", "{name}");
        println!("payToken ({name}): {} gas", gas(&receipt));
        let ours: Vec<_> = logs(&receipt).into_iter().filter(|log| log.address == router).collect();
        let expected = Paid { payer: us, id, to: TO, token, amount: U256::from(7) };
        assert_eq!(ours.iter().map(|log| Paid::decode_log(log).unwrap().data).collect::<Vec<_>>(), [expected]);
        let error = anvil.call(us, router, 0, pay::token(id, token, TO, U256::from(7))).await.unwrap_err();
        assert_eq!(error, AlreadyPaid { id }.abi_encode());
        assert_eq!(anvil.call(us, router, 7, pay::pay(id, TO)).await.unwrap_err(), AlreadyPaid { id }.abi_encode());
        assert_eq!((anvil.tokens(token, TO).await, anvil.tokens(token, router).await), (U256::from(7), U256::ZERO));
    }
    for _ in 0..2 {
        let receipt = anvil.sent(us, router, 0, anchorCall { digest: ID }.abi_encode()).await;
        println!("anchor: {} gas", gas(&receipt));
        let [log] = logs(&receipt).try_into().unwrap();
        assert_eq!(Anchored::decode_log(&log).unwrap().data, Anchored { by: us, digest: ID });
    }
}

#[tokio::test]
async fn a_recipient_that_calls_back_gets_nothing_more() {
    let anvil = Anvil::start().await;
    let (us, router) = (anvil.deployer, anvil.router);
    let to = anvil.deploy_named("Reentrant", &(router, ID).abi_encode()).await;
    let receipt = anvil.sent(us, router, 9, pay::pay(ID, to)).await;
    assert_eq!(receipt["status"], "0x1");
    // It was called back, found the id used, and could only pay what was its own, as itself.
    let yes = |data: Vec<u8>| async { anvil.call(us, to, 0, data).await.unwrap() == true.abi_encode() };
    assert!(yes(againCall {}.abi_encode()).await && yes(usedCall {}.abi_encode()).await);
    let payers: Vec<_> = logs(&receipt).iter().map(|log| Paid::decode_log(log).unwrap().data.payer).collect();
    assert_eq!(payers, [us, to]);
    assert_eq!((anvil.balance(to).await, anvil.balance(router).await), (U256::from(9), U256::ZERO));
}

mod pay {
    use super::*;

    pub fn pay(id: B256, to: Address) -> Vec<u8> {
        payCall { id, to }.abi_encode()
    }

    pub fn token(id: B256, token: Address, to: Address, amount: U256) -> Vec<u8> {
        payTokenCall { id, token, to, amount }.abi_encode()
    }
}
