//! Anchors and payments of a real export: `make demo-transfer` left it, with an anchor on its chain, a time stamp, and a
//! payment. What holds is said, and nothing that was altered is believed.

use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_core::tlog::Anchor;

use super::anchors::prove;
use super::bundle::{Bundle, read};
use super::means::Means;
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
    assert_eq!(chain.open, ["whether chain 31337 has the blocks that are named (give --rpc 31337=URL)"]);
    assert_eq!(stamp.to_string(), format!("{named}, as CN=Stamps has signed."));
    let payee = "2 ETH to 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC on ethereum was paid at";
    assert!(paid.said.starts_with(payee), "{paid}");
    let payer = ", once, out of 0x6c20dE60D6FF7888b3e7b426e7df45cB10fa5D1e: transaction 0x2e1b3bad";
    assert!(paid.said.contains(payer), "{paid}");
    assert_eq!(paid.open, chain.open, "its block, too");
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
