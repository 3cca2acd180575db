//! Answers that are no stamp of what was asked for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_chain::network::{Network, Receipt, Trouble, Work};
use jiff::Timestamp;

use crate::DIGEST;
use crate::forge::{DATA, Forge, octets, response, seq, tlv};
use crate::pki::{CA, Kind, Pki, REPLY, Reply, TSA, Wanted, reply};
use crate::server::{Answer, authority, serve};

const PATIENCE: Duration = Duration::from_secs(30);

/// What is made of an answer, if this is asked for.
async fn ask(
    pki: &Pki,
    policy: Option<&str>,
    answer: impl Fn(Vec<u8>) -> Option<Answer> + Send + Sync + 'static,
) -> Result<Receipt, Trouble> {
    let url = serve(answer).await;
    let network = authority(&url, policy, pki.roots(&["root"]), PATIENCE);
    let submission = network.prepare(&Work::Anchor(DIGEST), None, &[], Timestamp::now()).await.unwrap();
    network.submit(&submission).await.map(|receipt| receipt.expect("an answer is final"))
}

fn unavailable(result: Result<Receipt, Trouble>, expected: &str) {
    match result {
        Err(Trouble::Unavailable(said)) => assert!(said.contains(expected), "{expected}: {said}"),
        other => panic!("{expected}: {other:?}"),
    }
}

fn permanent(result: Result<Receipt, Trouble>, expected: &str) {
    match result {
        Err(Trouble::Permanent(said)) => assert!(said.contains(expected), "{expected}: {said}"),
        other => panic!("{expected}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_asked_again() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    type Change = fn(Answer) -> Answer;
    let table: [(&str, Change); 20] = [
        ("500 Internal Server Error", |answer| Answer { status: 500, ..answer }),
        ("404 Not Found", |answer| Answer { status: 404, ..answer }),
        ("204 No Content", |answer| Answer { status: 204, body: Vec::new(), ..answer }),
        ("\"text/html\"", |_| Answer { status: 200, kind: Some("text/html; charset=utf-8"), body: b"<html>".into() }),
        ("\"\"", |answer| Answer { kind: None, ..answer }),
        ("\"application/timestamp-query\"", |answer| Answer { kind: Some("application/timestamp-query"), ..answer }),
        ("\"application/timestamp-replys\"", |answer| Answer { kind: Some("application/timestamp-replys"), ..answer }),
        ("cannot be read", |_| Answer::reply(b"<!doctype html><title>Sign in</title>".into())),
        ("cannot be read", |_| Answer::reply(Vec::new())),
        ("longer than 65536", |_| Answer::reply(vec![0x30; 64 * 1024 + 1])),
        ("longer than 65536", |_| Answer::reply(vec![0x30; 16 * 1024 * 1024])),
        ("cannot be read", |_| Answer::reply(vec![0x30; 64 * 1024])),
        ("cannot be read", |mut answer| {
            answer.body.pop();
            answer
        }),
        ("cannot be read", |mut answer| {
            answer.body.push(0);
            answer
        }),
        ("cannot be read", |answer| Answer::reply(answer.body[..answer.body.len() / 2].into())),
        // The token without its status, and a status without a token.
        ("cannot be read", |answer| Answer::reply(answer.body[4 + 5..].into())),
        ("but gives none", |_| Answer::reply(response(&[2, 1, 0], b""))),
        ("but gives none", |_| Answer::reply(response(&[2, 1, 1], b""))),
        ("not DER", |_| Answer::reply(response(&[2, 1, 0], &seq(&[])))),
        ("not DER", |_| Answer::reply(response(&[2, 1, 0], &octets(b"a token")))),
    ];
    for (expected, change) in table {
        let of = Arc::clone(&pki);
        let asked = ask(&pki, None, move |query| Some(change(Answer::reply(reply(&of, REPLY, &query))))).await;
        unavailable(asked, expected);
    }
    // A kind may be written in other ways, and modifications that do not matter are granted.
    let of = Arc::clone(&pki);
    let answer = move |query: Vec<u8>| {
        let mut body = reply(&of, REPLY, &query);
        assert_eq!(body[4..9], [0x30, 3, 2, 1, 0]);
        body[8] = 1;
        Some(Answer { status: 200, kind: Some("Application/TimeStamp-Reply ; charset=x"), body })
    };
    ask(&pki, None, answer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_long() {
    let pki = Pki::usual(Kind::P256);
    let late = serve(|_| None).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://user:secret@{}/stamp?key=secret", free.local_addr().unwrap());
    drop(free);
    for url in [late, nobody] {
        let network = authority(&url, None, pki.roots(&["root"]), Duration::from_millis(300));
        let submission = network.prepare(&Work::Anchor(DIGEST), None, &[], Timestamp::now()).await.unwrap();
        let asked = tokio::time::timeout(PATIENCE, network.submit(&submission)).await.expect("it gives up");
        let Err(Trouble::Unavailable(said)) = asked else { panic!("{url}: {asked:?}") };
        assert!(said.contains("cannot be reached") && !said.contains("secret"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_must_be_the_answer_to_the_request() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    // Answered with what was answered first.
    let (of, first) = (Arc::clone(&pki), Arc::new(Mutex::new(None)));
    let replayed = move |query: Vec<u8>| {
        let mut first = first.lock().unwrap();
        Some(Answer::reply(first.get_or_insert_with(|| reply(&of, REPLY, &query)).clone()))
    };
    let url = serve(replayed).await;
    let network = authority(&url, None, pki.roots(&["root"]), PATIENCE);
    let asked = async |digest| {
        let submission = network.prepare(&Work::Anchor(digest), None, &[], Timestamp::now()).await.unwrap();
        network.submit(&submission).await.map(|receipt| receipt.unwrap())
    };
    asked(DIGEST).await.unwrap();
    unavailable(asked(DIGEST).await, "the answer to another request");
    unavailable(asked([0; 32]).await, "of another digest");

    // Without a nonce.
    let token = Forge::new(&pki, &DIGEST).token();
    let answer = response(&[2, 1, 0], &token);
    unavailable(ask(&pki, None, move |_| Some(Answer::reply(answer.clone()))).await, "another request");

    // By another policy than was asked for: with our own nonce.
    let of = Forge::new(&pki, &DIGEST);
    let other_policy = move |query: Vec<u8>| {
        // The nonce stands before the last, which is the flag for certificates.
        let flag = query.len() - 3;
        let from = (2..=9).find_map(|length| {
            let from = flag.checked_sub(length + 2)?;
            (query[from] == 2 && usize::from(query[from + 1]) == length).then_some(from)
        });
        let forge = Forge { rest: vec![query[from.unwrap()..flag].to_vec()], ..of.clone() };
        Some(Answer::reply(response(&[2, 1, 0], &forge.token())))
    };
    ask(&pki, Some("1.2.3.4.1"), other_policy.clone()).await.unwrap();
    unavailable(ask(&pki, Some("1.2.3.4.5"), other_policy).await, "by another policy: 1.2.3.4.1");

    // Of somebody else, who has all the same names.
    let other = Arc::new(Pki::usual(Kind::P256));
    let of_other = move |query: Vec<u8>| Some(Answer::reply(reply(&other, REPLY, &query)));
    unavailable(ask(&pki, None, of_other).await, "leads to none of the roots");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_must_be_a_stamp() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    std::fs::write(pki.path("text"), "I saw it").unwrap();
    let sign =
        ["cms", "-sign", "-nodetach", "-binary", "-cades", "-in", "text", "-signer", "tsa.pem", "-inkey", "tsa.key"];
    for (more, expected) in [
        (&[][..], format!("of the type {DATA}")),
        (&["-econtent_type", "1.2.840.113549.1.9.16.1.4"], "not DER".to_owned()),
    ] {
        let out = ["-certfile", "issuer.pem", "-outform", "DER", "-out", "signed"];
        pki.openssl(&[&sign[..], more, &out].concat());
        let answer = response(&[2, 1, 0], &std::fs::read(pki.path("signed")).unwrap());
        unavailable(ask(&pki, None, move |_| Some(Answer::reply(answer.clone()))).await, &expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_in_words() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    // By openssl.
    let of = Arc::clone(&pki);
    let asked = ask(&pki, Some("1.2.3.4.9"), move |query| Some(Answer::reply(reply(&of, REPLY, &query)))).await;
    permanent(asked, "(status 2): the policy is not offered there; \"Requested policy is not supported.\"");
    let of = Arc::clone(&pki);
    let sha512 = move |query: Vec<u8>| Some(Answer::reply(reply(&of, Reply { takes: "sha512", ..REPLY }, &query)));
    permanent(ask(&pki, None, sha512).await, "the digest's algorithm is not known there");
    let of = Arc::clone(&pki);
    let spoilt = move |_| Some(Answer::reply(reply(&of, REPLY, b"no request")));
    permanent(ask(&pki, None, spoilt).await, "the request has the wrong format");

    let status = |status: u8, rest: &[&[u8]]| [&[2, 1, status], rest.concat().as_slice()].concat();
    // A BIT STRING with one of its bits, as DER wants it.
    let bit = |bit: u8| {
        let mut bytes = vec![0; usize::from(bit / 8) + 1];
        *bytes.last_mut().unwrap() = 0x80 >> (bit % 8);
        tlv(3, &[&[7 - bit % 8], &bytes])
    };
    let text = |text: &str| seq(&[&tlv(0x0c, &[text.as_bytes()])]);
    let long = "x".repeat(5000);
    let token = Forge::new(&pki, &DIGEST).token();
    for (status, token, lasting, expected) in [
        (status(2, &[&bit(0)]), &[][..], true, "(status 2): the digest's algorithm"),
        (status(2, &[&bit(2)]), &[], true, "not permitted"),
        (status(2, &[&bit(5)]), &[], true, "the wrong format"),
        (status(2, &[&bit(14)]), &[], false, "its clock"),
        (status(2, &[&bit(15)]), &[], true, "the policy"),
        (status(2, &[&bit(16)]), &[], true, "an extension"),
        (status(2, &[&bit(17)]), &[], false, "in addition"),
        (status(2, &[&bit(25)]), &[], false, "failed inside"),
        (status(2, &[&bit(24)]), &[], false, "failure 24"),
        (status(2, &[]), &[], false, "(status 2): it does not say why"),
        (status(3, &[&text("come back")]), &[], false, "(status 3): \"come back\""),
        (status(4, &[]), &[], false, "(status 4)"),
        (status(200, &[]), &[], false, "cannot be read"),
        (status(2, &[&text("a\n\u{1b}[31mred")]), &[], false, "\"a\\n\\u{1b}[31mred\""),
        (status(2, &[&text(&long)]), &[], false, &long[..200]),
        (status(2, &[&text("no"), &bit(25)]), &[], false, "failed inside; \"no\""),
        // A token does not make it a grant.
        (status(2, &[]), &token, false, "it does not say why"),
    ] {
        let answer = response(&status, token);
        let asked = ask(&pki, None, move |_| Some(Answer::reply(answer.clone()))).await;
        if lasting { permanent(asked, expected) } else { unavailable(asked, expected) }
    }
    let answer = response(&status(2, &[&text(&long)]), &[]);
    let Err(Trouble::Unavailable(said)) = ask(&pki, None, move |_| Some(Answer::reply(answer.clone()))).await else {
        panic!("a refusal")
    };
    assert!(said.len() < 400, "{said}");
}

/// An answer by openssl whose authority's certificate is not what this one takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_below_no_root_is_refused() {
    let pki = Arc::new(Pki::usual(Kind::P256));
    pki.certificate(Wanted::new("stranger", None, CA));
    pki.certificate(Wanted::new("strange", Some("stranger"), TSA));
    let of = Arc::clone(&pki);
    let how = Reply { signer: "strange", chain: &["stranger"], ..REPLY };
    let asked = ask(&pki, None, move |query| Some(Answer::reply(reply(&of, how, &query)))).await;
    unavailable(asked, "UnknownIssuer");
}
