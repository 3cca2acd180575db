//! Stamps of `openssl ts` are accepted, and what asks for them goes on after a crash.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, U256, hex};
use countersign_chain::network::{Network, Payment, Polled, Submission, Trouble, Work};
use countersign_chain::timestamp::{Stamp, verify};
use jiff::Timestamp;

use crate::pki::{CA, Kind, Pki, REPLY, Reply, TSA, Wanted, answers, reply, verifies};
use crate::server::{Answer, authority, serve};
use crate::{DIGEST, sha1};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority by `openssl`, and its answers so far.
async fn openssl(pki: Arc<Pki>, how: Reply<'static>) -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let answered: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&answered);
    let url = serve(move |query| {
        let answer = reply(&pki, how, &query);
        kept.lock().unwrap().push(answer.clone());
        Some(Answer::reply(answer))
    })
    .await;
    (url, answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_stamps_are_accepted_by_openssl_and_here() {
    let chain = &["issuer", "root"];
    let table = [
        (Kind::Rsa, REPLY, None),
        (Kind::Rsa, Reply { digest: "sha384", ess: "sha1", ..REPLY }, None),
        (Kind::Rsa, Reply { digest: "sha512", ess_chain: true, chain, ..REPLY }, None),
        (Kind::P256, REPLY, Some("1.2.3.4.5")),
        (Kind::P256, Reply { ess: "sha512", fraction: 6, ..REPLY }, None),
        (Kind::P256, Reply { ess: "sha1", ess_chain: true, fraction: 3, ..REPLY }, Some("1.2.3.4.1")),
        (Kind::P384, Reply { digest: "sha384", chain, ..REPLY }, None),
    ];
    let (rsa, p256, p384) = tokio::task::spawn_blocking(|| {
        (Arc::new(Pki::usual(Kind::Rsa)), Arc::new(Pki::usual(Kind::P256)), Arc::new(Pki::usual(Kind::P384)))
    })
    .await
    .unwrap();
    for (kind, how, policy) in table {
        let pki = match kind {
            Kind::Rsa => &rsa,
            Kind::P256 => &p256,
            Kind::P384 => &p384,
            Kind::RsaShort | Kind::Ed25519 => unreachable!(),
        };
        let (url, answered) = openssl(Arc::clone(pki), how).await;
        let roots = pki.roots(&["root"]);
        let network = authority(&url, policy, roots.clone(), PATIENCE);
        let work = Work::Anchor(DIGEST);
        let now = Timestamp::now();
        let submission = network.prepare(&work, None, &[], now).await.unwrap();
        assert_eq!(submission.at, now);
        assert_eq!((submission.nonce, submission.max_fee, submission.tip, submission.place), (None, None, None, None));
        let receipt = network.submit(&submission).await.unwrap().unwrap();
        assert_eq!((receipt.place, receipt.fee), (None, None));
        // The clocks are the same, but openssl's is cut off at the second.
        assert!(receipt.at.duration_since(now).abs() < jiff::SignedDuration::from_secs(60), "{receipt:?}");

        let Stamp { time, serial, policy: found, tsa, accuracy } = verify(&receipt.evidence, &DIGEST, &roots).unwrap();
        assert_eq!((time, serial), (receipt.at, receipt.transaction.clone()), "{how:?}");
        assert_eq!(found.to_string(), policy.unwrap_or("1.2.3.4.1"));
        assert_eq!((tsa.as_str(), accuracy), ("CN=tsa", Some(Duration::from_micros(1_500_100))));

        let answer = answered.lock().unwrap().pop().unwrap();
        assert!(answers(pki, &submission.body, &answer), "{kind:?} {how:?}");
        assert!(verifies(pki, &receipt.evidence, &DIGEST, "root", &["issuer"]), "{kind:?} {how:?}");
        let file = pki.keep("tsr", &answer);
        let text = pki.openssl(&["ts", "-reply", "-in", file.to_str().unwrap(), "-text"]);
        assert!(text.contains(&format!("Serial number: 0x{}", receipt.transaction.to_uppercase())), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_kept_is_asked_again() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    let (url, _) = openssl(Arc::clone(&pki), REPLY).await;
    let network = authority(&url, None, pki.roots(&["root"]), PATIENCE);
    let (work, now) = (Work::Anchor(DIGEST), Timestamp::now());
    assert_eq!(network.account(), None);
    assert_eq!(network.done(&work).await, Ok(None));

    let kept = network.prepare(&work, None, &[], now).await.unwrap();
    let file = pki.keep("tsq", &kept.body);
    let text = pki.openssl(&["ts", "-query", "-in", file.to_str().unwrap(), "-text"]);
    for line in ["Version: 1", "Hash Algorithm: sha256", "Policy OID: unspecified", "Certificate required: yes"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("Nonce: unspecified") && text.contains("Extensions:\n"), "{text}");
    let sum = pki.openssl(&["dgst", "-sha256", "-r", file.to_str().unwrap()]);
    assert!(sum.starts_with(&kept.transaction) && kept.transaction.len() == 64, "{sum}");

    // Whoever was killed before it kept the receipt does not know whether it was answered.
    let first = network.submit(&kept).await.unwrap().unwrap();
    let again = authority(&url, None, pki.roots(&["root"]), PATIENCE);
    assert_eq!(again.poll(&work, std::slice::from_ref(&kept), now).await, Ok(Polled::Missing));
    let second = again.submit(&kept).await.unwrap().unwrap();
    assert_ne!(first.transaction, second.transaction);
    for receipt in [&first, &second] {
        verify(&receipt.evidence, &DIGEST, &pki.roots(&["root"])).unwrap();
    }

    // Prepared anew, it is another request.
    let other = network.prepare(&work, None, std::slice::from_ref(&kept), now).await.unwrap();
    assert_ne!((&other.body, &other.transaction), (&kept.body, &kept.transaction));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_paid() {
    let pki = Pki::usual(Kind::P256);
    let url = serve(|_| panic!("nothing may leave")).await;
    let network = authority(&url, None, pki.roots(&["root"]), PATIENCE);
    let payment = Payment { id: B256::ZERO, token: None, to: Address::ZERO, amount: U256::ONE };
    let (work, now) = (Work::Pay(payment), Timestamp::now());
    let permanent = |trouble: Trouble| matches!(trouble, Trouble::Permanent(_));
    assert!(permanent(network.done(&work).await.unwrap_err()));
    assert!(permanent(network.prepare(&work, None, &[], now).await.unwrap_err()));
    assert!(permanent(network.next_nonce().await.unwrap_err()));
    let kept = Submission {
        body: b"no request".to_vec(),
        transaction: String::new(),
        nonce: None,
        max_fee: None,
        tip: None,
        place: None,
        at: now,
    };
    assert!(permanent(network.poll(&work, std::slice::from_ref(&kept), now).await.unwrap_err()));
    assert!(permanent(network.submit(&kept).await.unwrap_err()));
}

/// The certificate of `openssl`'s token has the SHA-1 that its attribute names, which is checked here too.
#[test]
fn the_older_attribute_is_of_sha1() {
    let pki = Pki::usual(Kind::P256);
    let query = pki.path("query");
    pki.openssl(&["ts", "-query", "-digest", &hex::encode(DIGEST), "-sha256", "-cert", "-out", "query"]);
    let answer = reply(&pki, Reply { ess: "sha1", ..REPLY }, &std::fs::read(query).unwrap());
    let hash = sha1(&pki.der("tsa"));
    assert!(answer.windows(hash.len()).any(|window| window == hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_may_be_below_the_root_or_far_below_it() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    pki.certificate(Wanted::new("second", Some("issuer"), CA));
    pki.certificate(Wanted::new("far", Some("second"), TSA));
    pki.certificate(Wanted::new("near", Some("root"), TSA));
    for (signer, chain) in [("near", &[][..]), ("far", &["second", "issuer"]), ("far", &["issuer", "second", "root"])] {
        let (url, _) = openssl(Arc::clone(&pki), Reply { signer, chain, ..REPLY }).await;
        let network = authority(&url, None, pki.roots(&["root"]), PATIENCE);
        let submission = network.prepare(&Work::Anchor(DIGEST), None, &[], Timestamp::now()).await.unwrap();
        assert!(network.submit(&submission).await.unwrap().is_some(), "{signer} {chain:?}");
    }
}
