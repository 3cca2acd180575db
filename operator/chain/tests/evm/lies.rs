//! A node that is late, says things twice, or lies: what is paid is paid once, and nothing is claimed that is not so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use countersign_chain::network::{Network, Polled, Trouble};
use serde_json::json;

use crate::anvil::{Anvil, OTHER, approveCall};
use crate::driver::{Kept, STALL, at, network, network_within, payment, settings, step, times};
use crate::proxy::{Lie, Proxy};

const METHODS: [&str; 14] = [
    "eth_chainId",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBlockReceipts",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_getTransactionByHash",
    "eth_getBalance",
    "eth_getCode",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_call",
    "eth_getLogs",
    "eth_sendRawTransaction",
];

/// Drives one payment with a node that tells one lie about one method until it has told it, and is honest then.
async fn survives(anvil: &Anvil, n: u8, method: &'static str, lie: Lie) -> usize {
    // What is asked for before it begins, and again when it is to be final.
    let last = ["eth_getBlockByHash", "eth_getBlockReceipts"].contains(&method);
    let honest = Arc::new(AtomicBool::new(last));
    let proxy = {
        let (honest, lie) = (Arc::clone(&honest), lie.clone());
        Proxy::start(
            anvil,
            move |asked| {
                if asked == method && !honest.load(Ordering::SeqCst) { lie.clone() } else { Lie::None }
            },
        )
        .await
    };
    let network = network_within(settings(anvil, &proxy.url, 2), Duration::from_millis(500));
    let work = payment(n, None, 5);
    let mut kept = Kept::default();
    for round in 0..16 {
        if round == 1 || round == 5 {
            honest.store(round == 5, Ordering::SeqCst);
        }
        let stepped = step(&network, &work, &mut kept, round).await;
        if let Err(trouble) = &stepped {
            // Nothing that can be tried again is taken for the end of it.
            assert!(!matches!(trouble, Trouble::Permanent(_)), "{method} {lie:?}: {trouble}");
        }
        if let Some(end) = &kept.end {
            let receipt = end.as_ref().unwrap_or_else(|why| panic!("{method} {lie:?}: {why}"));
            assert!(receipt.place.unwrap() < anvil.height().await, "{method} {lie:?}");
            assert_eq!(times(anvil, &work).await, 1, "{method} {lie:?}");
            return proxy.lies();
        }
        if round % 2 == 1 {
            anvil.mine(1).await;
        }
    }
    panic!("{method} {lie:?}: not paid: {kept:?}");
}

#[tokio::test]
async fn what_is_late_lost_or_no_answer_is_asked_again() {
    let anvil = Anvil::start().await;
    let mut n = 0;
    for method in METHODS {
        for lie in [
            Lie::Lost,
            Lie::Twice,
            Lie::Html,
            Lie::Failing,
            Lie::Error("internal error"),
            Lie::Answer(json!(null)),
            Lie::WrongId,
        ] {
            n += 1;
            let lies = survives(&anvil, n, method, lie.clone()).await;
            // Logs are only looked for where a payment was forgotten.
            assert_eq!(lies > 0, method != "eth_getLogs", "{method} {lie:?}");
        }
    }
}

#[tokio::test]
async fn answers_that_never_come_or_never_end_are_given_up() {
    let anvil = Anvil::start().await;
    let mut n = 0;
    for method in ["eth_chainId", "eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_getBlockReceipts"] {
        for lie in [Lie::Late, Lie::Giant] {
            n += 1;
            assert!(survives(&anvil, n, method, lie).await > 0);
        }
    }
    let proxy = Proxy::start(&anvil, |_| Lie::Giant).await;
    let network = network_within(settings(&anvil, &proxy.url, 1), Duration::from_secs(10));
    let Err(Trouble::Unavailable(why)) = network.next_nonce().await else { panic!() };
    assert!(why.contains("more than 262144 bytes"), "{why}");
}

#[tokio::test]
async fn the_answer_to_something_else_is_none() {
    let anvil = Anvil::start().await;
    let proxy = Proxy::start(&anvil, |_| Lie::WrongId).await;
    let Err(Trouble::Unavailable(why)) = network(settings(&anvil, &proxy.url, 1)).next_nonce().await else { panic!() };
    assert!(why.contains("it answered something else"), "{why}");
}

/// All of it is true, but for the chain having gone another way.
#[tokio::test]
async fn a_block_that_went_confirms_nothing() {
    let anvil = Anvil::start().await;
    anvil.mine(5).await;
    let work = payment(1, None, 5);
    let mut kept = Kept::default();
    step(&network(settings(&anvil, &anvil.url, 2)), &work, &mut kept, 0).await.unwrap();
    anvil.mine(1).await;
    let receipt = anvil.rpc("eth_getTransactionReceipt", json!([kept.submissions[0].transaction])).await;
    let block = anvil.rpc("eth_getBlockByHash", json!([receipt["blockHash"], true])).await;
    let receipts = anvil.rpc("eth_getBlockReceipts", json!([receipt["blockHash"]])).await;
    anvil.reorg(1).await;
    anvil.mine(5).await;
    assert_eq!(times(&anvil, &work).await, 0);
    let proxy = Proxy::start(&anvil, move |asked| match asked {
        "eth_getTransactionReceipt" => Lie::Answer(receipt.clone()),
        "eth_getBlockByHash" => Lie::Answer(block.clone()),
        "eth_getBlockReceipts" => Lie::Answer(receipts.clone()),
        _ => Lie::None,
    })
    .await;
    let network = network(settings(&anvil, &proxy.url, 2));
    assert_eq!(network.poll(&work, &kept.submissions, at(1)).await, Ok(Polled::Missing));
}

#[tokio::test]
async fn the_address_of_the_node_is_told_to_nobody() {
    let anvil = Anvil::start().await;
    let proxy = Proxy::start(&anvil, |asked| if asked == "eth_chainId" { Lie::None } else { Lie::Failing }).await;
    let mut urls = vec![proxy.url.clone(), anvil.url.clone()];
    // Where nobody listens, and what is no such server.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    urls.push(format!("http://{closed}").parse().unwrap());
    for mut url in urls {
        url.set_path("/v3/sesame");
        let network = network(settings(&anvil, &url, 1));
        let why = network.next_nonce().await.map(|_| ()).err().map(|trouble| trouble.to_string());
        // Anvil serves every path.
        assert!(why.is_some() || url.port() == anvil.url.port(), "{url}");
        let why = why.unwrap_or_default();
        assert!(!why.contains("sesame") && !why.contains("127.0.0.1"), "{why}");
    }
}

/// Every digit of what a confirmation rests on, one at a time: it is refused, or what it confirms is the same.
#[tokio::test]
async fn no_changed_answer_confirms_anything() {
    let anvil = Anvil::start().await;
    let token = anvil.deploy_named("Token", &[]).await;
    anvil.sent(anvil.deployer, token, 0, approveCall { spender: anvil.router, amount: U256::MAX }.abi_encode()).await;
    let honest = network(settings(&anvil, &anvil.url, 1));
    let work = payment(1, Some(token), 5);
    let mut kept = Kept::default();
    step(&honest, &work, &mut kept, 0).await.unwrap();
    // It is not alone in its block.
    anvil.send(OTHER, Address::repeat_byte(0xdd), 1, vec![7; 900]).await;
    anvil.mine(1).await;
    let Polled::Confirmed(truth) = honest.poll(&work, &kept.submissions, at(1)).await.unwrap() else { panic!() };
    let change = Arc::new(Mutex::new(("", 0)));
    let proxy = {
        let change = Arc::clone(&change);
        Proxy::start(&anvil, move |asked| {
            let (method, digit) = *change.lock().unwrap();
            if asked == method { Lie::Digit(digit) } else { Lie::None }
        })
        .await
    };
    let network = network(settings(&anvil, &proxy.url, 1));
    let (mut refused, mut same, mut other) = (0, 0, 0);
    // Of the larger ones, some all over.
    for (method, digits, stride) in [
        ("eth_getBlockByHash", 4_000, 61),
        ("eth_getBlockReceipts", 3_000, 47),
        ("eth_getTransactionReceipt", 3_000, 47),
        ("eth_getBlockByNumber", 2_500, 47),
        ("eth_chainId", 4, 1),
    ] {
        for digit in (0..digits).step_by(stride) {
            *change.lock().unwrap() = (method, digit);
            match network.poll(&work, &kept.submissions, at(1)).await {
                Err(_) => refused += 1,
                // What nobody relies on.
                Ok(Polled::Confirmed(receipt)) => {
                    assert_eq!(receipt, truth, "{method} {digit}");
                    same += 1;
                }
                Ok(Polled::Waiting | Polled::Missing | Polled::Displaced | Polled::Underpriced) => other += 1,
                Ok(Polled::Refused(why)) => panic!("{method} {digit}: {why}"),
            }
        }
    }
    println!("{refused} refused, {same} confirmed the very same, {other} not confirmed");
    assert!(refused > 100 && same > 0);
}

#[tokio::test]
async fn what_is_claimed_to_be_done_is_not_believed() {
    let anvil = Anvil::start().await;
    let honest = network(settings(&anvil, &anvil.url, 1));
    // One that was paid, whose receipt is shown for one that was not.
    let (paid, unpaid) = (payment(1, None, 5), payment(2, None, 5));
    let mut first = Kept::default();
    step(&honest, &paid, &mut first, 0).await.unwrap();
    anvil.mine(1).await;
    step(&honest, &paid, &mut first, 1).await.unwrap();
    let mut kept = Kept::default();
    step(&honest, &unpaid, &mut kept, 0).await.unwrap();
    let of = |hash: &str| anvil.rpc("eth_getTransactionReceipt", json!([hash]));
    let shown = of(&first.submissions[0].transaction).await;
    let mut renamed = shown.clone();
    renamed["transactionHash"] = json!(kept.submissions[0].transaction);
    // With the event that is wanted in it as well.
    let mut forged = renamed.clone();
    forged["logs"][0]["topics"][2] = json!(B256::repeat_byte(2));
    let cases = [
        ("another's", &shown, "another transaction"),
        ("renamed", &renamed, "did something else"),
        ("forged", &forged, "does not show it there"),
    ];
    for (name, lie, words) in cases {
        let lie = lie.clone();
        let answer =
            move |asked: &str| if asked == "eth_getTransactionReceipt" { Lie::Answer(lie.clone()) } else { Lie::None };
        let proxy = Proxy::start(&anvil, answer).await;
        let network = network(settings(&anvil, &proxy.url, 1));
        let polled = network.poll(&unpaid, &kept.submissions, at(1)).await;
        let Err(Trouble::Unavailable(why)) = polled else { panic!("{name}: {polled:?}") };
        assert!(why.contains("nonsense") && why.contains(words), "{name}: {why}");
    }
    // A router that is said to have paid, and a log that is said to show it.
    let yes = json!(format!("0x{}1", "0".repeat(63)));
    let mut log = anvil.logged().await[0].clone();
    log["topics"][2] = json!(B256::repeat_byte(2));
    for logs in [json!([]), json!([log])] {
        let yes = yes.clone();
        let proxy = Proxy::start(&anvil, move |asked| match asked {
            "eth_call" => Lie::Answer(yes.clone()),
            "eth_getLogs" => Lie::Answer(logs.clone()),
            _ => Lie::None,
        })
        .await;
        let network = network(settings(&anvil, &proxy.url, 1));
        assert!(matches!(network.done(&unpaid).await, Err(Trouble::Unavailable(_))));
    }
    // A hash that is not ours.
    let proxy = Proxy::start(&anvil, |asked| {
        if asked == "eth_sendRawTransaction" { Lie::Answer(json!(B256::ZERO)) } else { Lie::None }
    })
    .await;
    let network = network(settings(&anvil, &proxy.url, 1));
    let Err(Trouble::Unavailable(why)) = network.submit(&kept.submissions[0]).await else { panic!() };
    assert!(why.contains("nonsense"), "{why}");
    assert_eq!(times(&anvil, &unpaid).await, 0);
}

/// The lies that make it sign again are the dangerous ones: the router stands between them and a second payment.
#[tokio::test]
async fn a_node_that_hides_what_was_paid_makes_nobody_pay_twice() {
    let anvil = Anvil::start().await;
    let work = payment(1, None, 5);
    let hiding = Arc::new(AtomicBool::new(true));
    let proxy = {
        let hiding = Arc::clone(&hiding);
        Proxy::start(&anvil, move |asked| {
            if !hiding.load(Ordering::SeqCst) {
                return Lie::None;
            }
            match asked {
                "eth_getTransactionReceipt" | "eth_getTransactionByHash" => Lie::Answer(json!(null)),
                "eth_call" => Lie::Answer(json!(format!("0x{}", "0".repeat(64)))),
                "eth_estimateGas" => Lie::Answer(json!("0x15f90")),
                _ => Lie::None,
            }
        })
        .await
    };
    let network = network(settings(&anvil, &proxy.url, 2));
    let mut kept = Kept::default();
    for round in 0..8 {
        // It errs, or goes on; what it must not do is claim anything.
        let _ = step(&network, &work, &mut kept, round * STALL).await;
        assert_eq!(kept.end, None);
        anvil.mine(2).await;
    }
    assert!(kept.submissions.len() > 2, "{kept:?}");
    hiding.store(false, Ordering::SeqCst);
    step(&network, &work, &mut kept, 9 * STALL).await.unwrap();
    let receipt = kept.end.unwrap().unwrap();
    assert_eq!(receipt.transaction, kept.submissions[0].transaction);
    assert_eq!(times(&anvil, &work).await, 1);
    assert_eq!(anvil.balance(Address::repeat_byte(0xc0)).await, U256::from(5));
}

#[tokio::test]
async fn too_little_gas_by_a_lie_is_refused_and_pays_nothing() {
    let anvil = Anvil::start().await;
    let proxy =
        Proxy::start(&anvil, |asked| if asked == "eth_estimateGas" { Lie::Answer(json!("0x7530")) } else { Lie::None })
            .await;
    let network = network(settings(&anvil, &proxy.url, 1));
    let work = payment(1, None, 5);
    let mut kept = Kept::default();
    step(&network, &work, &mut kept, 0).await.unwrap();
    anvil.mine(1).await;
    let Ok(Some(Polled::Refused(why))) = step(&network, &work, &mut kept, 1).await else { panic!("{kept:?}") };
    assert!(why.contains("out of gas"), "{why}");
    assert_eq!(times(&anvil, &work).await, 0);
}
