//! What evidence proves offline, and what it must not be bent to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_chain::network::{Network, Polled};
use countersign_chain::qubic::{
    Amount, EvidenceError, Inclusion, Key, Proved, Transaction, TransactionError, confirm, verify,
};
use serde_json::{Value, json};

use crate::counterpart::{DIGEST, FINAL, OFFSET, Server, client, key, now, qubic, work};

fn transaction() -> Transaction {
    Transaction::sign(&key(), key().identity(), Amount::One, 25_000_000, 7, DIGEST)
}

fn evidence() -> String {
    written(&transaction().to_bytes(), 25_000_000, &transaction().id())
}

fn written(bytes: &[u8], tick: u32, id: &str) -> String {
    format!(r#"{{"version":1,"transaction":"{}","tick":{tick},"id":"{id}"}}"#, STANDARD.encode(bytes))
}

#[test]
fn good_evidence_proves_who_signed_what_for_which_tick() {
    let proved = Proved { transaction: transaction().id(), tick: 25_000_000, source: key().identity() };
    assert_eq!(verify(evidence().as_bytes(), &DIGEST, None), Ok(proved.clone()));
    assert_eq!(verify(evidence().as_bytes(), &DIGEST, Some(&key().identity())), Ok(proved));
}

#[test]
fn no_byte_of_it_can_be_another() {
    let evidence = evidence().into_bytes();
    for place in 0..evidence.len() {
        for bend in [0x01, 0x02, 0x20, 0x80] {
            let mut bent = evidence.clone();
            bent[place] ^= bend;
            let result = verify(&bent, &DIGEST, None);
            assert!(result.is_err(), "{}", String::from_utf8_lossy(&bent));
        }
        assert!(verify(&evidence[..place], &DIGEST, None).is_err(), "cut at {place}");
    }
}

#[test]
fn bent_evidence_is_refused_for_the_right_reason() {
    let (transaction, good, other) = (transaction(), evidence(), Key::from_seed(&[b'x'; 55]).unwrap().identity());
    let (bytes, id) = (transaction.to_bytes(), transaction.id());
    let malformed = |text: &str| match verify(text.as_bytes(), &DIGEST, None) {
        Err(EvidenceError::Malformed(why)) => why,
        result => panic!("{text}: {result:?}"),
    };
    for text in [
        "",
        "null",
        "[]",
        "{}",
        &format!("{good} "),
        &format!("{good}{good}"),
        &good.replace(",", ", "),
        &good.replace("}", r#","more":1}"#),
        &good.replace("}", r#","tick":25000000}"#),
        &good.replace("25000000", "025000000"),
        &good.replace("25000000", "25000000.0"),
        &good.replace("25000000", "4320000000"),
        &good.replace("25000000", "-1"),
        &good.replace(r#""version":1"#, r#""version":"1""#),
        &good.replace(&id, &id.replacen(&id[..1], &format!("\\u{:04x}", id.as_bytes()[0]), 1)),
        &format!(r#"{{"tick":25000000,"version":1,"transaction":"{}","id":"{id}"}}"#, STANDARD.encode(&bytes)),
        &good.replace(&STANDARD.encode(&bytes), STANDARD.encode(&bytes).trim_end_matches('=')),
        &good.replace(&STANDARD.encode(&bytes), "no base64!"),
    ] {
        assert!(!malformed(text).is_empty());
    }
    let check = |text: &str| verify(text.as_bytes(), &DIGEST, None);
    assert_eq!(check(&good.replace(r#""version":1"#, r#""version":2"#)), Err(EvidenceError::Version(2)));
    let (said, signed) = (25_000_001, 25_000_000);
    assert_eq!(check(&written(&bytes, said, &id)), Err(EvidenceError::Tick { said, signed }));
    assert_eq!(check(&written(&bytes, signed, &id.to_uppercase())), Err(EvidenceError::Id));
    assert_eq!(check(&written(&bytes, signed, "")), Err(EvidenceError::Id));
    assert_eq!(verify(good.as_bytes(), &[0; 32], None), Err(EvidenceError::Digest));
    let (found, expected) = (key().identity(), other);
    assert_eq!(verify(good.as_bytes(), &DIGEST, Some(&other)), Err(EvidenceError::Source { found, expected }));
}

#[test]
fn what_is_no_anchor_is_no_transaction() {
    let good = transaction().to_bytes();
    let bent = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    let amount = |value: i64| [&good[..64], &value.to_le_bytes(), &good[72..]].concat();
    for (bytes, why) in [
        (vec![], TransactionError::Short),
        (good[..183].to_vec(), TransactionError::Short),
        ([good.as_slice(), &[0]].concat(), TransactionError::Long),
        (bent(78, 41), TransactionError::Input(41)),
        (bent(79, 1), TransactionError::Input(296)),
        (bent(80, b'X'), TransactionError::Tag),
        // The version.
        (bent(87, 2), TransactionError::Tag),
        (amount(2), Amount::try_from(2).unwrap_err().into()),
        (amount(-1), Amount::try_from(-1).unwrap_err().into()),
        (amount(i64::MIN), Amount::try_from(i64::MIN).unwrap_err().into()),
        (amount(0), TransactionError::Signature),
        (bent(76, 8), TransactionError::Signature),
        (bent(183, 0xff), TransactionError::Signature),
    ] {
        assert_eq!(Transaction::parse(&bytes), Err(why));
    }
}

#[tokio::test]
async fn a_node_confirms_what_was_proved() {
    let server = Server::start();
    let qubic = qubic(&server);
    let kept = vec![qubic.prepare(&work(), None, &[], now()).await.unwrap()];
    qubic.submit(&kept[0]).await.unwrap();
    server.tell(json!({ "ticks": OFFSET + FINAL + 1 })).await;
    let polled = qubic.poll(&work(), &kept, now()).await.unwrap();
    let Polled::Confirmed(receipt) = polled else { panic!("{polled:?}") };

    let proved = verify(&receipt.evidence, &DIGEST, Some(&qubic.identity())).unwrap();
    assert_eq!((&proved.transaction, Some(u64::from(proved.tick))), (&receipt.transaction, receipt.place));
    assert_eq!(confirm(&client(), &server.url, FINAL, &proved).await, Ok(Inclusion::Included(receipt.at)));
    assert_eq!(confirm(&client(), &server.url, FINAL + 1, &proved).await, Ok(Inclusion::Unknown));

    // It was signed well, and never included.
    let absent = Proved { transaction: transaction().id(), tick: proved.tick, source: proved.source };
    assert_eq!(confirm(&client(), &server.url, FINAL, &absent).await, Ok(Inclusion::Absent));
    // It was included, in another tick than is claimed.
    let moved = Proved { tick: proved.tick - 1, ..proved };
    let trouble = confirm(&client(), &server.url, FINAL, &moved).await.unwrap_err().to_string();
    assert!(trouble.contains("another transaction"), "{trouble}");
}

#[tokio::test]
async fn evidence_is_written_as_it_is_read() {
    let server = Server::start();
    let qubic = qubic(&server);
    let kept = vec![qubic.prepare(&work(), None, &[], now()).await.unwrap()];
    qubic.submit(&kept[0]).await.unwrap();
    server.tell(json!({ "ticks": OFFSET + FINAL + 1 })).await;
    let polled = qubic.poll(&work(), &kept, now()).await.unwrap();
    let Polled::Confirmed(receipt) = polled else { panic!("{polled:?}") };
    let parsed: Value = serde_json::from_slice(&receipt.evidence).unwrap();
    let expected = json!({
        "version": 1,
        "transaction": STANDARD.encode(&kept[0].body),
        "tick": kept[0].place.unwrap(),
        "id": kept[0].transaction,
    });
    assert_eq!(parsed, expected);
}
