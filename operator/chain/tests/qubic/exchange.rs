//! What is exchanged with a node, and every way in which a node can be wrong.

use std::time::Duration;

use alloy_primitives::{B256, U256, hex};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_chain::network::{Network, Payment, Polled, Submission, Trouble, Work};
use countersign_chain::qubic::{Amount, Identity, Qubic, Settings, SettingsError, TAG};
use serde_json::json;

use crate::counterpart::{DIGEST, FINAL, OFFSET, Server, client, key, now, patient, qubic, settings, work};

const TICK: &str = "live/v1/tick-info";
const BROADCAST: &str = "live/v1/broadcast-transaction";
const ARCHIVED: &str = "query/v1/getLastProcessedTick";
const BY_HASH: &str = "query/v1/getTransactionByHash";

async fn prepared(qubic: &Qubic) -> Submission {
    qubic.prepare(&work(), None, &[], now()).await.unwrap()
}

#[tokio::test]
async fn an_anchor_is_a_tag_and_a_digest_from_the_source_to_itself() {
    let server = Server::start();
    let qubic = qubic(&server);
    let submission = prepared(&qubic).await;
    assert_eq!((submission.nonce, submission.max_fee, submission.tip), (None, None, None));
    assert_eq!(submission.at, now());
    assert_eq!(qubic.submit(&submission).await, Ok(None));
    let state = server.tell(json!({})).await;
    let expected = json!([{
        "id": submission.transaction,
        "tick": submission.place.unwrap(),
        "source": key().identity().to_string(),
        "destination": key().identity().to_string(),
        "amount": 0,
        "type": 7,
        "input": hex::encode([TAG.as_slice(), &DIGEST].concat()),
    }]);
    assert_eq!(state["pending"], expected);
    assert_eq!(submission.place.unwrap(), state["tick"].as_u64().unwrap() + u64::from(OFFSET));
}

#[tokio::test]
async fn settings_say_to_whom_with_how_much_and_of_which_type() {
    let server = Server::start();
    let somebody: Identity = "AFZPUAIYVPNUYGJRQVLUKOPPVLHAZQTGLYAAUUNBXFTVTAMSBKQBLEIEPCVJ".parse().unwrap();
    let settings = Settings {
        destination: Some(somebody),
        amount: Amount::One,
        input_type: 65_535,
        tick_offset: 20.try_into().unwrap(),
        ..settings(&server.url)
    };
    let qubic = Qubic::new(client(), settings, key()).unwrap();
    let submission = prepared(&qubic).await;
    qubic.submit(&submission).await.unwrap();
    let state = server.tell(json!({})).await;
    let pending = &state["pending"][0];
    assert_eq!(pending["destination"], somebody.to_string());
    assert_eq!((&pending["amount"], &pending["type"]), (&json!(1), &json!(65_535)));
    assert_eq!(pending["tick"].as_u64().unwrap(), state["tick"].as_u64().unwrap() + 20);
}

#[test]
fn contracts_and_the_zero_address_are_no_destinations() {
    for low in [0_u64, 1, 4, u64::MAX] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        let contract = Identity::from_bytes(bytes);
        let url = "http://127.0.0.1:1".parse().unwrap();
        let settings = Settings { destination: Some(contract), ..settings(&url) };
        assert_eq!(Qubic::new(client(), settings, key()).err(), Some(SettingsError::Contract(contract)));
    }
}

#[tokio::test]
async fn payments_are_refused_and_nonces_are_not_counted() {
    let qubic = Qubic::new(client(), settings(&"http://127.0.0.1:1".parse().unwrap()), key()).unwrap();
    let payment = Payment { id: B256::ZERO, token: None, to: Default::default(), amount: U256::ONE };
    let pay = Work::Pay(payment);
    assert!(matches!(qubic.done(&pay).await, Err(Trouble::Permanent(_))));
    assert!(matches!(qubic.prepare(&pay, None, &[], now()).await, Err(Trouble::Permanent(_))));
    assert!(matches!(qubic.poll(&pay, &[], now()).await, Err(Trouble::Permanent(_))));
    assert_eq!(qubic.account(), None);
    assert!(matches!(qubic.next_nonce().await, Err(Trouble::Permanent(_))));
    assert_eq!(qubic.done(&work()).await, Ok(None));
}

#[tokio::test]
async fn no_flipped_bit_passes_the_network() {
    let server = Server::start();
    let body = prepared(&qubic(&server)).await.body;
    for place in 0..body.len() {
        let mut bent = body.clone();
        bent[place] ^= 1 << (place % 8);
        let request = json!({ "encodedTransaction": STANDARD.encode(&bent) });
        let status = server.post(BROADCAST, &request).await.status();
        assert_eq!(status, 400, "byte {place}");
    }
    let state = server.tell(json!({})).await;
    assert_eq!((&state["pending"], &state["broadcasts"]), (&json!([]), &json!(0)));
    let request = json!({ "encodedTransaction": STANDARD.encode(&body) });
    assert_eq!(server.post(BROADCAST, &request).await.status(), 200);
}

#[tokio::test]
async fn it_is_missing_then_waiting_then_confirmed() {
    let server = Server::start();
    let qubic = qubic(&server);
    let kept = vec![prepared(&qubic).await];
    qubic.submit(&kept[0]).await.unwrap();
    let poll = async |ticks: u32| {
        server.tell(json!({ "ticks": ticks })).await;
        qubic.poll(&work(), &kept, now()).await.unwrap()
    };
    assert_eq!(poll(0).await, Polled::Missing);
    assert_eq!(poll(OFFSET - 1).await, Polled::Missing);
    // In its tick, which is not archived yet.
    assert_eq!(poll(1).await, Polled::Waiting);
    assert_eq!(poll(1).await, Polled::Waiting);
    assert_eq!(poll(FINAL - 1).await, Polled::Waiting);
    let Polled::Confirmed(receipt) = poll(1).await else { panic!() };
    assert_eq!((&receipt.transaction, receipt.place), (&kept[0].transaction, kept[0].place));
    assert_eq!((receipt.fee, receipt.at.as_second()), (None, 1_700_000_000 + i64::from(OFFSET)));
    // It says the same for ever.
    assert_eq!(poll(1000).await, Polled::Confirmed(receipt));
}

#[tokio::test]
async fn it_is_displaced_only_when_its_tick_is_archived_for_good() {
    let server = Server::start();
    let qubic = qubic(&server);
    let mut kept = vec![prepared(&qubic).await];
    qubic.submit(&kept[0]).await.unwrap();
    let prepare = async |kept: &[Submission]| qubic.prepare(&work(), None, kept, now()).await;
    server.tell(json!({ "forget": true, "ticks": OFFSET })).await;
    for _ in 0..=FINAL {
        assert_eq!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Waiting));
        // It could still be found in its tick, so a second one must not be made.
        assert!(matches!(prepare(&kept).await, Err(Trouble::NotNow(_))));
        server.tell(json!({ "ticks": 1 })).await;
    }
    assert_eq!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Displaced));
    let next = prepare(&kept).await.unwrap();
    assert!(next.place > kept[0].place);
    assert_ne!(next.transaction, kept[0].transaction);
    kept.push(next);
    assert_eq!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Missing));
    assert!(matches!(prepare(&kept).await, Err(Trouble::NotNow(_))));
}

#[tokio::test]
async fn a_tick_is_never_meant_twice() {
    let server = Server::start();
    let qubic = qubic(&server);
    let kept = vec![prepared(&qubic).await];
    server.tell(json!({ "ticks": OFFSET + FINAL + 1 })).await;
    assert_eq!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Displaced));
    // A node that is behind.
    server.bend(TICK, "stale").await;
    let result = qubic.prepare(&work(), None, &kept, now()).await;
    assert!(matches!(result, Err(Trouble::Unavailable(_))), "{result:?}");
    assert!(qubic.prepare(&work(), None, &kept, now()).await.unwrap().place > kept[0].place);
}

#[tokio::test]
async fn nothing_needs_to_follow_where_settings_say_so() {
    let server = Server::start();
    let qubic = Qubic::new(client(), Settings { final_ticks: 0, ..settings(&server.url) }, key()).unwrap();
    let kept = vec![prepared(&qubic).await];
    qubic.submit(&kept[0]).await.unwrap();
    let poll = async |ticks: u32| {
        server.tell(json!({ "ticks": ticks })).await;
        qubic.poll(&work(), &kept, now()).await.unwrap()
    };
    assert_eq!(poll(OFFSET).await, Polled::Waiting);
    assert!(matches!(poll(1).await, Polled::Confirmed(_)));
}

#[tokio::test]
async fn an_archive_that_stands_still_lets_nothing_be_given_up() {
    let server = Server::start();
    let qubic = qubic(&server);
    let kept = vec![prepared(&qubic).await];
    qubic.submit(&kept[0]).await.unwrap();
    // As while an epoch ends.
    let state = server.tell(json!({ "ticks": 500, "lag": 500 })).await;
    assert_eq!(state["included"].as_array().unwrap().len(), 1);
    assert_eq!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Waiting));
    server.tell(json!({ "lag": 1 })).await;
    assert!(matches!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Confirmed(_))));
}

#[tokio::test]
async fn one_that_was_sent_before_is_found_too() {
    let server = Server::start();
    let qubic = qubic(&server);
    let first = prepared(&qubic).await;
    qubic.submit(&first).await.unwrap();
    server.tell(json!({ "ticks": 100 })).await;
    let second = prepared(&qubic).await;
    let polled = qubic.poll(&work(), &[first.clone(), second], now()).await.unwrap();
    let Polled::Confirmed(receipt) = polled else { panic!("{polled:?}") };
    assert_eq!(receipt.transaction, first.transaction);
}

#[tokio::test]
async fn money_that_does_not_move_is_told() {
    let server = Server::start();
    for (amount, funded, confirmed) in
        [(Amount::One, true, true), (Amount::One, false, false), (Amount::Nothing, false, true)]
    {
        let qubic = Qubic::new(client(), Settings { amount, ..settings(&server.url) }, key()).unwrap();
        let kept = vec![prepared(&qubic).await];
        qubic.submit(&kept[0]).await.unwrap();
        server.tell(json!({ "funded": funded, "ticks": 100 })).await;
        match qubic.poll(&work(), &kept, now()).await.unwrap() {
            Polled::Confirmed(_) => assert!(confirmed),
            Polled::Refused(why) => {
                assert!(!confirmed);
                assert!(why.contains(&key().identity().to_string()), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_comes_too_late_is_not_sent() {
    let server = Server::start();
    let qubic = qubic(&server);
    let submission = prepared(&qubic).await;
    server.tell(json!({ "ticks": OFFSET })).await;
    assert_eq!(qubic.submit(&submission).await, Ok(None));
    assert_eq!(server.tell(json!({})).await["broadcasts"], 0);
}

#[tokio::test]
async fn what_the_node_refuses_is_no_success() {
    let server = Server::start();
    let qubic = qubic(&server);
    let submission = prepared(&qubic).await;
    server.tell(json!({ "ticks": OFFSET })).await;
    // The tick ends between two requests.
    server.bend(TICK, "stale").await;
    let trouble = qubic.submit(&submission).await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotNow(_)), "{trouble}");
    assert!(trouble.to_string().contains("should be greater than max tick"), "{trouble}");
    assert_eq!(server.tell(json!({})).await["broadcasts"], 0);
}

#[tokio::test]
async fn what_was_kept_badly_is_never_sent() {
    let server = Server::start();
    let qubic = qubic(&server);
    let good = prepared(&qubic).await;
    let mut flipped = good.clone();
    flipped.body[100] ^= 1;
    let cut = Submission { body: good.body[1..].to_vec(), ..good.clone() };
    let renamed = Submission { transaction: "a".repeat(60), ..good.clone() };
    for bad in [flipped, cut, renamed] {
        assert!(matches!(qubic.submit(&bad).await, Err(Trouble::Permanent(_))));
        assert!(matches!(qubic.poll(&work(), std::slice::from_ref(&bad), now()).await, Err(Trouble::Permanent(_))));
        assert!(matches!(qubic.prepare(&work(), None, &[bad], now()).await, Err(Trouble::Permanent(_))));
    }
    // It is of another checkpoint.
    let other = Work::Anchor([0; 32]);
    assert!(matches!(qubic.poll(&other, &[good], now()).await, Err(Trouble::Permanent(_))));
    assert_eq!(server.tell(json!({})).await["broadcasts"], 0);
}

/// After each the next try does it.
#[tokio::test]
async fn wrong_answers_to_prepare_and_submit_are_no_success() {
    let server = Server::start();
    let qubic = qubic(&server);
    for how in ["twice", "html", "lost", "error", "many", "giant", "empty", "cut", "zero", "beyond", "far"] {
        server.bend(TICK, how).await;
        let result = qubic.prepare(&work(), None, &[], now()).await;
        assert!(matches!(result, Err(Trouble::Unavailable(_))), "{how}: {result:?}");
        assert_eq!(server.tell(json!({})).await["bends"], 0);
        prepared(&qubic).await;
    }
    for how in ["twice", "html", "lost", "error", "many", "giant", "empty", "cut", "id", "alone"] {
        let submission = prepared(&qubic).await;
        server.bend(BROADCAST, how).await;
        let result = qubic.submit(&submission).await;
        assert!(matches!(result, Err(Trouble::Unavailable(_))), "{how}: {result:?}");
        assert_eq!(qubic.submit(&submission).await, Ok(None), "{how}");
        assert_eq!(server.tell(json!({})).await["bends"], 0);
    }
}

/// None of them must make an anchor be taken for displaced or confirmed.
#[tokio::test]
async fn wrong_answers_to_poll_prove_nothing() {
    let server = Server::start();
    let qubic = qubic(&server);
    let kept = vec![prepared(&qubic).await];
    qubic.submit(&kept[0]).await.unwrap();
    server.tell(json!({ "ticks": 100 })).await;
    let common = ["twice", "html", "lost", "wrong", "error", "many", "giant", "empty", "cut"];
    let cases = common.iter().map(|how| (ARCHIVED, *how)).chain(common.iter().map(|how| (BY_HASH, *how)));
    let more = [(ARCHIVED, "zero"), (ARCHIVED, "beyond"), (BY_HASH, "id"), (BY_HASH, "tick"), (BY_HASH, "time")];
    for (path, how) in cases.chain(more) {
        server.bend(path, how).await;
        let result = qubic.poll(&work(), &kept, now()).await;
        assert!(matches!(result, Err(Trouble::Unavailable(_))), "{path} {how}: {result:?}");
        assert_eq!(server.tell(json!({})).await["bends"], 0);
        assert!(matches!(qubic.poll(&work(), &kept, now()).await, Ok(Polled::Confirmed(_))));
    }
}

#[tokio::test]
async fn a_node_that_is_late_is_not_waited_for() {
    let server = Server::start();
    let submission = prepared(&qubic(&server)).await;
    let qubic = Qubic::new(patient(Duration::from_millis(500)), settings(&server.url), key()).unwrap();
    server.bend(BROADCAST, "never").await;
    let trouble = qubic.submit(&submission).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Unavailable(_)), "{trouble}");
    // It had done it all the same, and a second time does no harm.
    assert_eq!(server.tell(json!({})).await["pending"][0]["id"], submission.transaction);
    assert_eq!(self::qubic(&server).submit(&submission).await, Ok(None));
    let state = server.tell(json!({ "ticks": 100 })).await;
    assert_eq!(state["included"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn passwords_in_an_address_are_not_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let url = format!("http://user:hunter2@127.0.0.1:{port}/hunter3").parse().unwrap();
    let qubic = Qubic::new(client(), settings(&url), key()).unwrap();
    let trouble = qubic.prepare(&work(), None, &[], now()).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Unavailable(_)), "{trouble}");
    assert!(!trouble.to_string().contains("hunter"), "{trouble}");
}
