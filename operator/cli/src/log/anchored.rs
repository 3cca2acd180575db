//! Anchors and payments of a real export: `make demo-transfer` left it, with an anchor on its chain, a time stamp, and a
//! payment. What holds is said, and nothing that was altered is believed.

use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_core::tlog::Anchor;
use serde_json::Value;

use super::anchors::prove;
use super::bundle::{Bundle, read};
use super::means::{Means, Rpc};
use super::report::{Finding, Report};
use super::verify::{Proved, verify};

const ROUTER: &str = "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512";

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn export() -> (Bundle, Proved) {
    let bundle = read(&tests().join("transfer")).unwrap();
    let proved = verify(&bundle, &bundle.key.parse().unwrap()).unwrap();
    (bundle, proved)
}

fn means(router: &str) -> Means {
    Means::of(Some(tests().join("transfer-roots.pem")), 31337, router.parse::<Address>().unwrap())
}

async fn said(bundle: &Bundle, proved: &Proved, means: &Means) -> Result<Vec<Finding>, String> {
    prove(bundle, proved, means).await.map_err(|error| format!("{error:#}"))
}

/// The export with one of its anchors altered.
fn altered(bundle: &Bundle, line: usize, alter: impl FnOnce(&mut Anchor)) -> Bundle {
    let mut bundle = bundle.clone();
    alter(&mut bundle.anchors[line]);
    bundle
}

#[tokio::test]
async fn what_was_paid_and_anchored_is_proved_offline() {
    let (bundle, proved) = export();
    let found = said(&bundle, &proved, &means(ROUTER)).await.unwrap();
    let [chain, stamp, paid] = &found[..] else { panic!("{found:?}") };
    let named = "All 58 entries were there at 2026-11-21T22:25:33Z";
    assert!(chain.said.starts_with(&format!("{named}: transaction 0x9831a72b")), "{chain}");
    let open: Vec<&str> = chain.open.iter().map(|open| open.what.as_str()).collect();
    assert_eq!(open, ["whether chain 31337 has the blocks that are named (give --rpc 31337=URL)"]);
    assert_eq!(stamp.to_string(), format!("{named}, as CN=Stamps has signed."));
    let payee = "2 ETH to 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC on ethereum was paid at";
    assert!(paid.said.starts_with(payee), "{paid}");
    let payer = ", once, out of 0x6c20dE60D6FF7888b3e7b426e7df45cB10fa5D1e: transaction 0x2e1b3bad";
    assert!(paid.said.contains(payer), "{paid}");
    assert_eq!(paid.open[0].what, chain.open[0].what, "its block, too");
    assert_eq!((paid.open.len(), paid.open[0].asked, chain.open[0].asked), (1, Some("--router"), None));
}

/// What `verify` says, and why it refuses.
async fn report(means: &Means) -> (String, Value, Option<String>) {
    let (bundle, proved) = export();
    let mut report = Report::default();
    for finding in said(&bundle, &proved, means).await.unwrap() {
        report.finds(&finding);
    }
    (report.to_string(), report.json(), report.refusal())
}

#[tokio::test]
async fn what_a_reader_asks_to_be_proved_is_refused_where_it_is_only_claimed() {
    let (text, json, refusal) = report(&Means::default()).await;
    assert!(text.starts_with("Not checked: ") && refusal.is_none(), "{text}");
    assert_eq!(json["verdict"], "partly");
    assert!(json["notChecked"].as_array().is_some_and(|open| open.len() == 3), "{json}");
    let elsewhere = Rpc { chain: 1, url: "http://localhost:1".parse().unwrap() };
    let required = Means { require_anchors: true, ..Means::default() };
    for (means, option, what) in [
        (means(ROUTER), "--router", "whether chain 31337 has the blocks"),
        (Means { rpc: vec![elsewhere], ..Means::default() }, "--rpc", "whether chain 31337 has the blocks"),
        (Means { require_anchors: true, ..means(ROUTER) }, "--require-anchors", "whether chain 31337 has the blocks"),
        (required, "--require-anchors", "who signed time stamps"),
    ] {
        let (text, json, refusal) = report(&means).await;
        let refusal = refusal.unwrap_or_else(|| panic!("{option}: {text}"));
        assert!(refusal.contains(what) && refusal.contains(&format!("which {option} asks for")), "{refusal}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("Not proved: ") && first.contains(what), "{first}");
        assert_eq!(json["verdict"], "refused", "{option}");
        assert!(json["notProved"][0].as_str().is_some_and(|owed| owed.contains("which --")), "{json}");
    }
    let (bundle, proved) = export();
    let none = Bundle { anchors: Vec::new(), ..bundle };
    let required = Means { require_anchors: true, ..Means::default() };
    let error = said(&none, &proved, &required).await.unwrap_err();
    assert!(error.starts_with("anchors.jsonl: holds no anchor"), "{error}");
    let mut nothing_open = Report::default();
    nothing_open.says("The checkpoint is signed.");
    assert_eq!(nothing_open.to_string().lines().next(), Some("All of it was checked."));
    assert_eq!((nothing_open.json()["verdict"].as_str(), nothing_open.refusal()), (Some("proved"), None));
}

#[tokio::test]
async fn what_can_be_checked_without_asking_anybody_holds_or_is_refused() {
    let (bundle, proved) = export();
    let second = jiff::SignedDuration::from_secs(1);
    let stamp = STANDARD.decode(&bundle.anchors[1].evidence).unwrap();
    for (line, what, forged) in [
        (1, "place: is 462, and the evidence's is 461", altered(&bundle, 0, |anchor| anchor.place = Some(462))),
        (1, "place: is none", altered(&bundle, 0, |anchor| anchor.place = None)),
        (1, "at: is 2026-11-21T22:25:32Z", altered(&bundle, 0, |anchor| anchor.at -= second)),
        (2, "place: is 1", altered(&bundle, 1, |anchor| anchor.place = Some(1))),
        (2, "at: is 2026-11-21T22:25:32Z", altered(&bundle, 1, |anchor| anchor.at -= second)),
        (2, "transaction: is 0a", altered(&bundle, 1, |anchor| anchor.transaction = "0a".into())),
    ] {
        // With no means at all.
        let error = said(&forged, &proved, &Means::default()).await.unwrap_err();
        assert!(error.starts_with(&format!("anchors.jsonl: line {line}, of")) && error.contains(what), "{error}");
    }
    let mut refused = 0;
    for at in (0..stamp.len()).step_by(7) {
        let mut bytes = stamp.clone();
        bytes[at] ^= 1;
        let forged = altered(&bundle, 1, |anchor| anchor.evidence = STANDARD.encode(&bytes));
        refused += usize::from(said(&forged, &proved, &Means::default()).await.is_err());
    }
    assert!(refused * 4 > stamp.len() / 7, "a stamp that nobody signed is refused without roots: {refused}");
}

/// A block that somebody made up is a claim like any other, and is told as one before anything else is.
#[tokio::test]
async fn what_nobody_checked_is_said_to_be_claimed_in_the_first_line() {
    let (bundle, proved) = export();
    let mut report = Report::default();
    report.says(&proved);
    for finding in said(&bundle, &proved, &Means::default()).await.unwrap() {
        assert!(finding.to_string().starts_with("Claimed, not checked: "), "{finding}");
        report.finds(&finding);
    }
    let text = report.to_string();
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("Not checked: "), "{first}");
    for what in ["--rpc 31337=URL", "--tsa-roots FILE", "--router 31337:ADDRESS"] {
        assert_eq!(first.matches(what).count(), 1, "{what}, once: {first}");
    }
    assert!(first.contains("whether 0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512 is the router"), "{first}");
    assert!(text.lines().nth(1).unwrap().contains("is signed"), "and then what holds: {text}");
}

#[tokio::test]
async fn nothing_that_was_altered_is_believed() {
    let (bundle, proved) = export();
    let other = bundle.anchors[1].clone();
    let hash = STANDARD.encode([7; 32]);
    for (line, what, forged) in [
        (1, "size", altered(&bundle, 0, |anchor| anchor.size -= 1)),
        (1, "its checkpoint is not the beginning", altered(&bundle, 0, |anchor| anchor.proof.push(hash))),
        (1, "proof: is not hashes", altered(&bundle, 0, |anchor| anchor.proof.push("AAAA".into()))),
        (
            1,
            "checkpoint",
            altered(&bundle, 0, |anchor| anchor.checkpoint = anchor.checkpoint.replacen("\n58\n", "\n57\n", 1)),
        ),
        (1, "transaction: is 0x07", altered(&bundle, 0, |anchor| anchor.transaction = "0x07".into())),
        (1, "transaction: is", altered(&bundle, 0, |anchor| anchor.evidence = other.evidence.clone())),
        (2, "transaction: is 0a", altered(&bundle, 1, |anchor| anchor.transaction = "0a".into())),
        (1, "evidence: is not base64", altered(&bundle, 0, |anchor| anchor.evidence.push('!'))),
        (1, "evidence: is of no kind", altered(&bundle, 0, |anchor| anchor.evidence = STANDARD.encode("{}"))),
        (1, "evidence: is of no kind", altered(&bundle, 0, |anchor| anchor.evidence.clear())),
    ] {
        let error = said(&forged, &proved, &means(ROUTER)).await.unwrap_err();
        assert!(
            error.starts_with(&format!("anchors.jsonl: line {line}, of")) && error.contains(what),
            "{what}: {error}"
        );
    }
}

#[tokio::test]
async fn no_byte_of_the_evidence_can_be_another() {
    let (bundle, proved) = export();
    let mut flips = 0;
    for line in [0, 1] {
        let evidence = STANDARD.decode(&bundle.anchors[line].evidence).unwrap();
        // Each seventh, so that it takes seconds; all of them are flipped where evidence is verified itself.
        for at in (0..evidence.len()).step_by(7) {
            let mut bytes = evidence.clone();
            bytes[at] ^= 1;
            let forged = altered(&bundle, line, |anchor| anchor.evidence = STANDARD.encode(&bytes));
            match said(&forged, &proved, &means(ROUTER)).await {
                Err(_) => flips += 1,
                // The root that came with a stamp is not needed where one is trusted, and says nothing.
                Ok(lines) => assert_eq!((line, &lines), (1, &said(&bundle, &proved, &means(ROUTER)).await.unwrap())),
            }
        }
    }
    assert!(flips > 500, "{flips}");
}

#[tokio::test]
async fn what_the_reader_knows_better_is_not_overruled() {
    let (bundle, proved) = export();
    let error = said(&bundle, &proved, &means("0x00000000000000000000000000000000000000aa")).await.unwrap_err();
    assert!(error.starts_with("entry 53: the payment 0x483e3d8f") && error.contains("router"), "{error}");
    // A root of somebody else's: the export's own checkpoint of trust is not asked.
    let folder = tempfile::tempdir().unwrap();
    let stranger = folder.path().join("root.pem");
    std::fs::write(&stranger, "no certificate").unwrap();
    let means = Means::of(Some(stranger.clone()), 31337, ROUTER.parse().unwrap());
    let error = said(&bundle, &proved, &means).await.unwrap_err();
    assert!(error.contains("root.pem"), "{error}");
}
