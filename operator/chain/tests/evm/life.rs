//! The ways of a payment and of an anchor, with a node that is honest.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use countersign_chain::evm::{Expected, Settings, verify};
use countersign_chain::network::{Network, Polled, Receipt, Trouble, Work};
use serde_json::json;

use crate::anvil::{Anvil, approveCall, transferCall};
use crate::driver::{Kept, STALL, at, network, payment, settings, step, times};
use crate::proxy::{Lie, Proxy};

fn proved(anvil: &Anvil, work: &Work, receipt: &Receipt) {
    let account = Some(anvil.deployer);
    let expected = Expected { work, chain_id: Some(31_337), router: Some(anvil.router), account };
    let proved = verify(&receipt.evidence, &expected).unwrap();
    assert_eq!((Some(proved.block_number), proved.block_time), (receipt.place, receipt.at));
    assert_eq!(proved.transaction.to_string(), receipt.transaction);
}

fn not_now(trouble: Result<impl std::fmt::Debug, Trouble>, words: &[&str]) {
    let Err(Trouble::NotNow(why)) = trouble else { panic!("{trouble:?}") };
    assert!(words.iter().all(|words| why.contains(words)), "{why}");
}

#[tokio::test]
async fn coin_tokens_and_digests_are_final_after_two_blocks() {
    let anvil = Anvil::start().await;
    let token = anvil.deploy_named("Token", &[]).await;
    anvil
        .sent(
            anvil.deployer,
            token,
            0,
            approveCall { spender: anvil.router, amount: U256::from(5_000_000) }.abi_encode(),
        )
        .await;
    let network = network(settings(&anvil, &anvil.url, 2));
    assert_eq!(network.account().unwrap(), format!("eip155:31337:{}", anvil.deployer));
    let to = Address::repeat_byte(0xc0);
    let works = [payment(1, None, 12_345), payment(2, Some(token), 1_500_000), Work::Anchor([3; 32])];
    for work in &works {
        let before = anvil.balance(anvil.deployer).await;
        let mut kept = Kept::default();
        assert_eq!(step(&network, work, &mut kept, 0).await, Ok(None));
        assert_eq!(step(&network, work, &mut kept, 1).await, Ok(Some(Polled::Waiting)));
        anvil.mine(1).await;
        assert_eq!(step(&network, work, &mut kept, 2).await, Ok(Some(Polled::Waiting)));
        anvil.mine(1).await;
        let Ok(Some(Polled::Confirmed(receipt))) = step(&network, work, &mut kept, 3).await else { panic!() };
        assert_eq!(
            (receipt.place, &receipt.transaction),
            (Some(anvil.height().await - 1), &kept.submissions[0].transaction)
        );
        proved(&anvil, work, &receipt);
        let spent = before - anvil.balance(anvil.deployer).await;
        let coin = if *work == works[0] { U256::from(12_345) } else { U256::ZERO };
        assert_eq!(spent, coin + receipt.fee.unwrap());
        assert_eq!((kept.submissions.len(), times(&anvil, work).await), (1, 1));
        // Whoever forgot everything finds a payment, and cannot know of an anchor.
        let found = network.done(work).await.unwrap();
        assert_eq!(found, matches!(work, Work::Pay(_)).then_some(receipt));
    }
    assert_eq!((anvil.balance(to).await, anvil.tokens(token, to).await), (U256::from(12_345), U256::from(1_500_000)));
}

#[tokio::test]
async fn the_same_id_is_refused_and_the_first_payment_is_found() {
    let anvil = Anvil::start().await;
    let network = network(settings(&anvil, &anvil.url, 3));
    let work = payment(1, None, 5);
    assert_eq!(network.done(&work).await, Ok(None));
    // Two that know nothing of each other, as where a record was put back: both prepare before either is mined.
    let first = network.prepare(&work, Some(1), &[], at(0)).await.unwrap();
    let second = network.prepare(&work, Some(2), &[], at(0)).await.unwrap();
    network.submit(&first).await.unwrap();
    network.submit(&second).await.unwrap();
    anvil.mine(1).await;
    not_now(network.done(&work).await, &["was paid", "1 of 3", "wait"]);
    not_now(network.prepare(&work, Some(3), &[], at(0)).await, &["was paid already"]);
    assert_eq!(network.poll(&work, std::slice::from_ref(&second), at(0)).await, Ok(Polled::Waiting));
    anvil.mine(2).await;
    let Ok(Polled::Confirmed(receipt)) = network.poll(&work, std::slice::from_ref(&first), at(0)).await else {
        panic!()
    };
    proved(&anvil, &work, &receipt);
    // The second was reverted; what it tells of is the first.
    let revert = anvil.rpc("eth_getTransactionReceipt", json!([second.transaction])).await;
    assert_eq!(revert["status"], "0x0");
    assert_eq!(network.poll(&work, std::slice::from_ref(&second), at(0)).await, Ok(Polled::Confirmed(receipt.clone())));
    anvil.mine(20).await;
    assert_eq!(network.done(&work).await, Ok(Some(receipt)));
    assert_eq!(times(&anvil, &work).await, 1);
    // The same id for something else is nothing that was done.
    let Err(Trouble::Permanent(why)) = network.done(&payment(1, None, 6)).await else { panic!() };
    assert!(why.contains("another payment"), "{why}");
    let Ok(Polled::Refused(why)) = network.poll(&payment(1, None, 6), &[second], at(0)).await else { panic!() };
    assert!(why.contains("another payment"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_now_says_what_to_do() {
    let anvil = Anvil::start().await;
    let (us, router) = (anvil.deployer, anvil.router);
    let token = anvil.deploy_named("Token", &[]).await;
    let old = anvil.deploy_named("OldToken", &[]).await;
    let fee = anvil.deploy_named("FeeToken", &[]).await;
    let untrue = anvil.deploy_named("FalseToken", &[]).await;
    let closed = anvil.deploy_named("Closed", &[]).await;
    let network_of = |change: fn(&mut Settings)| {
        let mut settings = settings(&anvil, &anvil.url, 1);
        change(&mut settings);
        network(settings)
    };
    let plain = network_of(|_| ());
    let try_to = |work: Work| {
        let plain = &plain;
        async move { plain.prepare(&work, Some(9), &[], at(0)).await }
    };
    let nonce = anvil.rpc("eth_getTransactionCount", json!([us, "pending"])).await;
    for (token, words) in [(token, "may move 0"), (old, "may move 0")] {
        not_now(try_to(payment(1, Some(token), 7)).await, &[words, "approve"]);
    }
    for token in [token, old, fee] {
        anvil.sent(us, token, 0, approveCall { spender: router, amount: U256::MAX }.abi_encode()).await;
    }
    let all = anvil.tokens(token, us).await;
    anvil.sent(us, token, 0, transferCall { to: closed, amount: all - U256::from(6) }.abi_encode()).await;
    not_now(try_to(payment(1, Some(token), 7)).await, &["has 6 of the token", "needs 7"]);
    try_to(payment(1, Some(token), 6)).await.unwrap();
    let too_much = payment(1, Some(old), u64::MAX);
    let Work::Pay(mut too_much) = too_much else { panic!() };
    too_much.amount = U256::MAX;
    not_now(try_to(Work::Pay(too_much)).await, &["of the token and needs", "send it the rest"]);
    not_now(try_to(payment(1, Some(fee), 700)).await, &["moved 693 and not 700", "fee"]);
    not_now(try_to(payment(1, Some(untrue), 7)).await, &["did not move"]);
    not_now(try_to(payment(1, Some(closed), 7)).await, &["is no ERC-20 token"]);
    not_now(try_to(payment(1, Some(Address::repeat_byte(9)), 7)).await, &["is no ERC-20 token"]);
    let Work::Pay(mut refusing) = payment(1, None, 7) else { panic!() };
    refusing.to = closed;
    not_now(try_to(Work::Pay(refusing.clone())).await, &["does not take the coin"]);
    let has = anvil.balance(us).await;
    for amount in [has, has - U256::from(1_000), has + U256::from(1)] {
        let Work::Pay(mut rich) = payment(1, None, 0) else { panic!() };
        rich.amount = amount;
        not_now(try_to(Work::Pay(rich)).await, &["send it"]);
    }
    not_now(
        network_of(|s| s.router = Address::repeat_byte(7)).prepare(&payment(1, None, 7), Some(9), &[], at(0)).await,
        &["no router", "deploy"],
    );
    not_now(network_of(|s| s.max_gas = 30_000).prepare(&payment(1, None, 7), Some(9), &[], at(0)).await, &["maxGas"]);
    // What never can be, whatever the network.
    for (to, amount, token) in
        [(Address::ZERO, 7, None), (router, 7, None), (closed, 0, None), (closed, 7, Some(Address::ZERO))]
    {
        let Work::Pay(mut never) = payment(1, token, amount) else { panic!() };
        never.to = to;
        let trouble = try_to(Work::Pay(never)).await;
        assert!(matches!(trouble, Err(Trouble::Permanent(_))), "{trouble:?}");
    }
    assert!(matches!(plain.prepare(&payment(1, None, 7), None, &[], at(0)).await, Err(Trouble::Permanent(_))));
    // Nothing left.
    let waits = anvil.rpc("eth_getTransactionCount", json!([us, "pending"])).await;
    let latest = anvil.rpc("eth_getTransactionCount", json!([us, "latest"])).await;
    assert_eq!(waits, latest);
    assert_ne!(waits, nonce);
    assert_eq!(anvil.logged().await.len(), 0);
}

#[tokio::test]
async fn a_dear_network_is_waited_for_and_a_late_payment_is_outbid() {
    const GWEI: u128 = 1_000_000_000;
    let anvil = Anvil::start().await;
    let network = network(settings(&anvil, &anvil.url, 1));
    let work = payment(1, None, 5);
    anvil.base_fee(10 * GWEI).await;
    anvil.mine(1).await;
    let mut kept = Kept::default();
    step(&network, &work, &mut kept, 0).await.unwrap();
    let first = kept.submissions[0].clone();
    // It rises above what was offered, and above what is allowed.
    anvil.base_fee(150 * GWEI).await;
    anvil.mine(1).await;
    // This node throws out what offers too little, and takes it no more; that is no error.
    assert_eq!(step(&network, &work, &mut kept, STALL - 1).await, Ok(Some(Polled::Missing)));
    not_now(step(&network, &work, &mut kept, STALL).await, &["maxFeePerGas", "100000000000"]);
    assert_eq!((kept.submissions.len(), times(&anvil, &work).await), (1, 0));
    // It falls to what is allowed.
    anvil.base_fee(40 * GWEI).await;
    anvil.mine(1).await;
    assert_eq!(step(&network, &work, &mut kept, STALL).await, Ok(Some(Polled::Underpriced)));
    let second = kept.submissions[1].clone();
    assert_eq!(second.nonce, first.nonce);
    assert!(
        second.max_fee.unwrap() * 8 >= first.max_fee.unwrap() * 9 && second.tip.unwrap() * 8 >= first.tip.unwrap() * 9
    );
    assert!(second.max_fee.unwrap() <= 100 * GWEI);
    assert_eq!(step(&network, &work, &mut kept, STALL + 1).await, Ok(Some(Polled::Waiting)));
    anvil.mine(1).await;
    let Ok(Some(Polled::Confirmed(receipt))) = step(&network, &work, &mut kept, STALL + 2).await else { panic!() };
    assert_eq!(receipt.transaction, second.transaction);
    assert_eq!(times(&anvil, &work).await, 1);
}

#[tokio::test]
async fn a_place_that_somebody_else_took_is_given_up_when_that_is_final() {
    let anvil = Anvil::start().await;
    let network = network(settings(&anvil, &anvil.url, 3));
    let work = payment(1, None, 5);
    let mut kept = Kept { nonce: Some(network.next_nonce().await.unwrap()), ..Kept::default() };
    kept.submissions.push(network.prepare(&work, kept.nonce, &[], at(0)).await.unwrap());
    anvil.sent(anvil.deployer, Address::repeat_byte(0xdd), 1, Vec::new()).await;
    for _ in 1..3 {
        assert_eq!(step(&network, &work, &mut kept, 1).await, Ok(Some(Polled::Waiting)));
        anvil.mine(1).await;
    }
    assert_eq!(step(&network, &work, &mut kept, 1).await, Ok(Some(Polled::Displaced)));
    assert_eq!(kept.submissions[1].nonce, kept.submissions[0].nonce.map(|nonce| nonce + 1));
    anvil.mine(3).await;
    let Ok(Some(Polled::Confirmed(_))) = step(&network, &work, &mut kept, 2).await else { panic!() };
    assert_eq!(times(&anvil, &work).await, 1);
}

#[tokio::test]
async fn a_gap_that_nobody_fills_is_given_up() {
    let anvil = Anvil::start().await;
    let network = network(settings(&anvil, &anvil.url, 1));
    let work = payment(1, None, 5);
    let next_nonce = network.next_nonce().await.unwrap();
    let mut kept = Kept { nonce: Some(next_nonce + 1), ..Kept::default() };
    step(&network, &work, &mut kept, 0).await.unwrap();
    anvil.mine(1).await;
    assert_eq!(step(&network, &work, &mut kept, STALL - 1).await, Ok(Some(Polled::Waiting)));
    assert_eq!(step(&network, &work, &mut kept, STALL).await, Ok(Some(Polled::Displaced)));
    assert_eq!(kept.submissions[1].nonce, Some(next_nonce));
    // It fills the gap itself, so both are mined, and the router refuses one.
    anvil.mine(1).await;
    let Ok(Some(Polled::Confirmed(receipt))) = step(&network, &work, &mut kept, STALL).await else { panic!() };
    assert_eq!(receipt.transaction, kept.submissions[1].transaction);
    assert_eq!(times(&anvil, &work).await, 1);
    assert_eq!(network.next_nonce().await, Ok(next_nonce + 2));
}

#[tokio::test]
async fn what_is_refused_for_good_says_why() {
    let anvil = Anvil::start().await;
    let (us, router) = (anvil.deployer, anvil.router);
    let token = anvil.deploy_named("Token", &[]).await;
    anvil.sent(us, token, 0, approveCall { spender: router, amount: U256::from(7) }.abi_encode()).await;
    let network = network(settings(&anvil, &anvil.url, 2));
    let work = payment(1, Some(token), 7);
    let prepared = network.prepare(&work, Some(network.next_nonce().await.unwrap() + 1), &[], at(0)).await.unwrap();
    // The allowance is taken back before it.
    anvil.sent(us, token, 0, approveCall { spender: router, amount: U256::ZERO }.abi_encode()).await;
    let mut kept = Kept { submissions: vec![prepared], ..Kept::default() };
    assert_eq!(step(&network, &work, &mut kept, 1).await, Ok(Some(Polled::Missing)));
    anvil.mine(1).await;
    let revert = anvil.rpc("eth_getTransactionReceipt", json!([kept.submissions[0].transaction])).await;
    assert_eq!(revert["status"], "0x0");
    assert_eq!(step(&network, &work, &mut kept, 1).await, Ok(Some(Polled::Waiting)));
    anvil.mine(1).await;
    let Ok(Some(Polled::Refused(why))) = step(&network, &work, &mut kept, 1).await else { panic!() };
    assert!(why.contains("nothing was done") && why.contains("may move 0") && why.contains("approve"), "{why}");
    assert_eq!(times(&anvil, &work).await, 0);
}

#[tokio::test]
async fn a_network_that_could_not_be_proved_is_not_begun_with() {
    let anvil = Anvil::start().await;
    let work = payment(1, None, 5);
    let mut deposit = anvil.rpc("eth_getBlockByNumber", json!(["latest", true])).await;
    deposit["transactions"][0]["type"] = json!("0x7e");
    let cases = [
        ("eth_getBlockReceipts", Lie::Error("the method eth_getBlockReceipts does not exist")),
        ("eth_getBlockReceipts", Lie::Answer(json!([]))),
        ("eth_getBlockByHash", Lie::Answer(deposit)),
    ];
    for (method, lie) in cases {
        let said = lie.clone();
        let proxy = Proxy::start(&anvil, move |asked| if asked == method { said.clone() } else { Lie::None }).await;
        let network = network(settings(&anvil, &proxy.url, 1));
        let prepared = network.prepare(&work, Some(1), &[], at(0)).await;
        assert!(matches!(prepared, Err(Trouble::Unavailable(_))), "{method} {lie:?}: {prepared:?}");
    }
}

#[tokio::test]
async fn blocks_that_go_take_back_what_they_held() {
    for (depth, confirmations) in [(1, 2), (10, 12)] {
        let anvil = Anvil::start().await;
        anvil.mine(20).await;
        let network = network(settings(&anvil, &anvil.url, confirmations));
        let work = payment(1, None, 5);
        let mut kept = Kept::default();
        step(&network, &work, &mut kept, 0).await.unwrap();
        anvil.mine(depth).await;
        assert_eq!(step(&network, &work, &mut kept, 1).await, Ok(Some(Polled::Waiting)));
        assert_eq!(times(&anvil, &work).await, 1);
        anvil.reorg(depth).await;
        assert_eq!(times(&anvil, &work).await, 0);
        let polled = step(&network, &work, &mut kept, 2).await;
        // Some nodes put it back themselves.
        assert_eq!(polled, Ok(Some(Polled::Missing)), "depth {depth}");
        assert_eq!(step(&network, &work, &mut kept, 3).await, Ok(Some(Polled::Waiting)));
        anvil.mine(confirmations).await;
        let Ok(Some(Polled::Confirmed(receipt))) = step(&network, &work, &mut kept, 4).await else { panic!() };
        proved(&anvil, &work, &receipt);
        assert_eq!((kept.submissions.len(), times(&anvil, &work).await), (1, 1));
    }
}

#[tokio::test]
async fn another_chain_is_refused_before_anything_is_signed() {
    let anvil = Anvil::start_as(5_555).await;
    let network = network(settings(&anvil, &anvil.url, 1));
    let work = payment(1, None, 5);
    let wrong = |trouble: Trouble| {
        let Trouble::WrongNetwork(why) = trouble else { panic!("{trouble:?}") };
        assert!(why.contains("5555") && why.contains("31337"), "{why}");
    };
    wrong(network.next_nonce().await.unwrap_err());
    wrong(network.done(&work).await.unwrap_err());
    wrong(network.prepare(&work, Some(0), &[], at(0)).await.unwrap_err());
    let hash = alloy_primitives::B256::ZERO;
    wrong(network.node().confirm_block(31_337, 1, hash).await.unwrap_err());
    // What was prepared for the right one.
    let right = Anvil::start().await;
    let kept =
        crate::driver::network(settings(&right, &right.url, 1)).prepare(&work, Some(1), &[], at(0)).await.unwrap();
    wrong(network.submit(&kept).await.unwrap_err());
    wrong(network.poll(&work, &[kept], at(0)).await.unwrap_err());
    assert_eq!(anvil.logged().await.len(), 0);
}

#[tokio::test]
async fn what_was_kept_is_sent_as_it_is_or_not_at_all() {
    let anvil = Anvil::start().await;
    let network = network(settings(&anvil, &anvil.url, 1));
    let work = payment(1, None, 5);
    let good = network.prepare(&work, Some(1), &[], at(0)).await.unwrap();
    let mut cases = [good.clone(), good.clone(), good.clone()];
    cases[0].body[5] ^= 1;
    cases[1].transaction = "0x12".to_owned();
    cases[2].body.clear();
    for bad in cases {
        assert!(matches!(network.submit(&bad).await, Err(Trouble::Permanent(_))), "{bad:?}");
    }
    let mut without = good.clone();
    without.nonce = None;
    assert!(matches!(network.poll(&work, &[without], at(0)).await, Err(Trouble::Permanent(_))));
    // Again, and after it was mined, is no error.
    for _ in 0..2 {
        assert_eq!(network.submit(&good).await, Ok(None));
    }
    anvil.mine(1).await;
    assert_eq!(network.submit(&good).await, Ok(None));
    assert_eq!(times(&anvil, &work).await, 1);
}
