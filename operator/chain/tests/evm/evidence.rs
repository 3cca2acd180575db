//! Evidence, without a network.

use alloy_primitives::{Address, B256, hex};
use countersign_chain::evm::{EvidenceError, Expected, verify};
use countersign_chain::network::{Network, Polled, Receipt, Work};
use serde_json::{Value, json};

use crate::anvil::Anvil;
use crate::driver::{at, network, payment, settings};

/// Of an anchor and of a payment that share a block with others, on both sides of them.
async fn confirmed(anvil: &Anvil) -> Vec<(Work, Receipt)> {
    let network = network(settings(anvil, &anvil.url, 1));
    let works = [Work::Anchor([3; 32]), payment(2, None, 5)];
    let mut kept = Vec::new();
    let next_nonce = network.next_nonce().await.unwrap();
    for (n, work) in works.iter().enumerate() {
        let kept_one = network.prepare(work, Some(next_nonce + n as u64), &[], at(0)).await.unwrap();
        network.submit(&kept_one).await.unwrap();
        kept.push(kept_one);
    }
    let accounts = anvil.rpc("eth_accounts", json!([])).await;
    for (n, from) in accounts.as_array().unwrap().iter().skip(1).enumerate() {
        let from: Address = serde_json::from_value(from.clone()).unwrap();
        // Of every kind that a node makes, and some that fail.
        let kind =
            [json!({ "gasPrice": "0x77359400" }), json!({ "accessList": [], "gasPrice": "0x77359400" }), json!({})];
        let mut call = json!({ "from": from, "to": anvil.router, "value": "0x1", "gas": "0x30000" });
        call.as_object_mut().unwrap().extend(kind[n % 3].as_object().unwrap().clone());
        anvil.rpc("eth_sendTransaction", json!([call])).await;
    }
    anvil.mine(1).await;
    let mut found = Vec::new();
    for (work, kept) in works.into_iter().zip(kept) {
        let Ok(Polled::Confirmed(receipt)) = network.poll(&work, &[kept], at(1)).await else { panic!("{work:?}") };
        found.push((work, receipt));
    }
    found
}

fn any(work: &Work) -> Expected<'_> {
    Expected { work, chain_id: None, router: None, account: None }
}

#[tokio::test]
async fn every_flipped_byte_is_refused() {
    let anvil = Anvil::start().await;
    for (work, receipt) in confirmed(&anvil).await {
        let evidence = receipt.evidence;
        let proved = verify(&evidence, &any(&work)).unwrap();
        assert_eq!((proved.account, proved.router, proved.chain_id), (anvil.deployer, anvil.router, 31_337));
        let node = network(settings(&anvil, &anvil.url, 1));
        assert_eq!(node.node().confirm_block(31_337, proved.block_number, proved.block_hash).await, Ok(true));
        for (number, hash) in [
            (proved.block_number + 1, proved.block_hash),
            (proved.block_number - 1, proved.block_hash),
            (proved.block_number, B256::ZERO),
        ] {
            assert_eq!(node.node().confirm_block(31_337, number, hash).await, Ok(false));
        }
        let mut flips = 0;
        for place in 0..evidence.len() {
            // Another letter's case, another digit, and something that is none.
            for flip in [0x01, 0x02, 0x04, 0x20, 0x80] {
                let mut changed = evidence.clone();
                changed[place] ^= flip;
                let found = verify(&changed, &any(&work));
                assert!(found.is_err(), "{place} ^ {flip:#x}: {found:?}");
                flips += 1;
            }
        }
        for length in 0..evidence.len() {
            assert!(verify(&evidence[..length], &any(&work)).is_err(), "{length}");
        }
        println!("{flips} flips and {} cuts of {} bytes, all refused", evidence.len(), evidence.len());
    }
}

#[tokio::test]
async fn it_proves_one_thing_of_one_router_on_one_chain() {
    let anvil = Anvil::start().await;
    let all = confirmed(&anvil).await;
    let [(anchor, anchored), (paid, payment_receipt)] = &all[..] else { panic!() };
    let of = |evidence: &Receipt, work: &Work| verify(&evidence.evidence, &any(work)).map(|proved| proved.account);
    assert_eq!(of(anchored, anchor), Ok(anvil.deployer));
    let Work::Pay(original) = paid else { panic!() };
    let changed = |change: fn(&mut countersign_chain::network::Payment)| {
        let mut payment = original.clone();
        change(&mut payment);
        Work::Pay(payment)
    };
    let others = [
        anchor.clone(),
        changed(|p| p.id = B256::ZERO),
        changed(|p| p.token = Some(Address::ZERO)),
        changed(|p| p.token = Some(Address::repeat_byte(1))),
        changed(|p| p.to = Address::repeat_byte(1)),
        changed(|p| p.amount += alloy_primitives::U256::from(1)),
    ];
    for other in &others {
        assert_eq!(of(payment_receipt, other), Err(EvidenceError::SomethingElse), "{other:?}");
    }
    for other in [paid, &Work::Anchor([4; 32])] {
        assert_eq!(of(anchored, other), Err(EvidenceError::SomethingElse));
    }
    let (router, stranger) = (anvil.router, Address::repeat_byte(9));
    let expected = |chain_id, router, account| Expected {
        work: paid,
        chain_id: Some(chain_id),
        router: Some(router),
        account: Some(account),
    };
    let evidence = &payment_receipt.evidence;
    assert!(verify(evidence, &expected(31_337, router, anvil.deployer)).is_ok());
    let wrong = |expected| verify(evidence, &expected).unwrap_err();
    assert_eq!(wrong(expected(1, router, anvil.deployer)), EvidenceError::OtherChain { found: 31_337, expected: 1 });
    assert_eq!(
        wrong(expected(31_337, stranger, anvil.deployer)),
        EvidenceError::OtherRouter { found: router, expected: stranger }
    );
    assert_eq!(wrong(expected(31_337, router, stranger)), EvidenceError::SomethingElse);

    // Whole fields that were changed to something else that fits.
    let read: Value = serde_json::from_slice(evidence).unwrap();
    let other: Value = serde_json::from_slice(&anchored.evidence).unwrap();
    let rewritten = |field: &str, value: Value| {
        let text = String::from_utf8(evidence.clone()).unwrap();
        let [from, to] = [&read[field], &value].map(|value| format!("\"{field}\":{value}"));
        assert!(text.contains(&from), "{field}");
        verify(text.replace(&from, &to).as_bytes(), &any(paid)).map(|_| ())
    };
    let flip = |field: &str| {
        let mut bytes = hex::decode(read[field].as_str().unwrap()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        json!(hex::encode_prefixed(bytes))
    };
    assert_eq!(rewritten("version", json!(2)), Err(EvidenceError::Version(2)));
    assert_eq!(rewritten("chainId", json!(1)), Err(EvidenceError::Chain { found: Some(31_337), expected: 1 }));
    assert_eq!(rewritten("router", json!(stranger)), Err(EvidenceError::SomethingElse));
    assert!(matches!(rewritten("blockHash", json!(B256::ZERO)), Err(EvidenceError::Header(_))));
    assert!(matches!(rewritten("header", flip("header")), Err(EvidenceError::Header(_))));
    for field in ["transaction", "transactionProof", "index"] {
        assert_eq!(rewritten(field, other[field].clone()), Err(EvidenceError::NotInBlock("transaction")), "{field}");
    }
    for field in ["receipt", "receiptProof"] {
        assert_eq!(rewritten(field, other[field].clone()), Err(EvidenceError::NotInBlock("receipt")), "{field}");
    }
    for field in ["transactionProof", "receiptProof"] {
        let mut more = read[field].clone();
        more.as_array_mut().unwrap().push(json!("0x80"));
        assert!(matches!(rewritten(field, more), Err(EvidenceError::NotInBlock(_))), "{field}");
        assert!(matches!(rewritten(field, json!([])), Err(EvidenceError::NotInBlock(_))), "{field}");
    }
    // The same, written otherwise.
    let pretty = serde_json::to_vec_pretty(&read).unwrap();
    assert_eq!(verify(&pretty, &any(paid)), Err(EvidenceError::NotCanonical));
    let loud = String::from_utf8(evidence.clone())
        .unwrap()
        .replace(&read["router"].as_str().unwrap()[2..], &read["router"].as_str().unwrap()[2..].to_uppercase());
    assert_eq!(verify(loud.as_bytes(), &any(paid)), Err(EvidenceError::NotCanonical));
    let mut unknown = read.clone();
    unknown["more"] = json!(1);
    assert!(matches!(verify(unknown.to_string().as_bytes(), &any(paid)), Err(EvidenceError::Form(_))));
    assert!(matches!(verify(&vec![b' '; 2 << 20], &any(paid)), Err(EvidenceError::TooLarge(_))));
    assert!(matches!(verify(b"", &any(paid)), Err(EvidenceError::Form(_))));
}
