//! Exports before a policy: what witnesses cosigned counts, and a log that shows two histories gets caught.

use std::fs;
use std::path::PathBuf;

use countersign_core::tlog::witness::{Refusal, Request, judge};
use countersign_core::tlog::{Checkpoint, CosigningKey, VerifyingKey, consistency};
use tempfile::TempDir;

use super::bundle::Bundle;
use super::quorum::Demands;
use super::tamper::{bundle, bundle_of, key, rotated, sealed};
use super::verify::verify;

/// A witness that keeps what it cosigned last.
struct Witness {
    key: CosigningKey,
    last: Option<Checkpoint>,
}

impl Witness {
    fn new(number: u8) -> Witness {
        Witness { key: CosigningKey::new(&format!("witness.example/{number}"), [number; 32]).unwrap(), last: None }
    }

    /// Shows it a whole export, with the proof from what it cosigned last.
    fn add(&mut self, bundle: &Bundle, log: &VerifyingKey) -> Result<String, Refusal> {
        let old = self.last.as_ref().map_or(0, |last| last.size);
        let size = Checkpoint::claimed(&bundle.checkpoint).unwrap().size;
        let proof = consistency(&mut bundle.tiles.clone(), old, size).unwrap();
        let request = Request { old, proof, checkpoint: bundle.checkpoint.clone() };
        self.last = Some(judge(&request, std::slice::from_ref(log), self.last.as_ref())?);
        Ok(self.key.cosign(&bundle.checkpoint, 1_800_000_000).unwrap())
    }
}

struct File {
    _folder: TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy");
    fs::write(&path, text).unwrap();
    File { _folder: folder, path }
}

/// Any two of three.
fn policy(logs: &[VerifyingKey]) -> File {
    let logs: String = logs.iter().map(|log| format!("log {log}\n")).collect();
    let witness = |number| format!("witness w{number} {}\n", Witness::new(number).key.witness_key());
    let witnesses: String = (1..=3).map(witness).collect();
    file(&format!("{logs}{witnesses}group two 2 w1 w2 w3\nquorum two\n"))
}

/// What `verify` says, or why it fails.
fn verified(bundle: &Bundle, policy: &File) -> Result<String, String> {
    let said = || {
        let demands = Demands::read(bundle, None, Some(&policy.path))?;
        demands.by_any_key(|key| verify(bundle, key))?;
        Ok::<_, anyhow::Error>(demands.quorum(bundle)?.map(|cosigned| cosigned.said).unwrap_or_default())
    };
    said().map_err(|error| format!("{error:#}"))
}

fn with(bundle: &Bundle, lines: &[&String]) -> Bundle {
    let lines: String = lines.iter().map(|line| line.as_str()).collect();
    Bundle { checkpoint: bundle.checkpoint.clone() + &lines, ..bundle.clone() }
}

#[test]
fn an_export_counts_with_the_quorums_cosignatures_and_says_who_is_missing_without() {
    let (log, policy) = (key().verifying_key(), policy(&[key().verifying_key()]));
    let mut witnesses = [1, 2, 3].map(Witness::new);
    let mut lines = Vec::new();
    for size in [20, 40] {
        lines = witnesses.iter_mut().map(|witness| witness.add(&bundle(size, None), &log).unwrap()).collect();
    }
    for export in [bundle(40, None), bundle(40, Some(1))] {
        let said = verified(&with(&export, &[&lines[0], &lines[2]]), &policy).unwrap();
        assert!(said.contains("by w1 at 2027-01-15T08:00:00Z, w3 at 2027-01-15T08:00:00Z."), "{said}");
        let said = verified(&with(&export, &[&lines[1]]), &policy).unwrap_err();
        assert!(said.contains("not cosigned by two (1 of 2, without w1, w3)"), "{said}");
        assert!(verified(&export, &policy).unwrap_err().contains("two (0 of 2, without w1, w2, w3)"));
        // The same cosignature twice is one.
        assert!(verified(&with(&export, &[&lines[1], &lines[1]]), &policy).is_err());
        // That of an older checkpoint is none of this one.
        let older = Witness::new(1).add(&bundle(20, None), &log).unwrap();
        let said = verified(&with(&export, &[&older, &lines[1]]), &policy).unwrap_err();
        assert!(said.contains("the cosignature of the witness w1") && said.contains("does not hold"), "{said}");
    }
}

/// Which key is trusted, when a policy lists logs.
#[test]
fn a_policy_lists_the_logs_that_it_trusts_and_their_keys_are_followed() {
    let [first, second] = [7, 8].map(|secret| {
        countersign_core::tlog::SigningKey::new("countersign.dev/log/test", [secret; 32]).unwrap().verifying_key()
    });
    let stranger = countersign_core::tlog::SigningKey::new("other.example", [9; 32]).unwrap().verifying_key();
    let newest = countersign_core::tlog::SigningKey::new("countersign.dev/log/test", [9; 32]).unwrap().verifying_key();
    let rotated = rotated(None);
    let lines = [1, 2].map(|number| Witness::new(number).add(&rotated, &newest).unwrap());
    let export = with(&rotated, &[&lines[0], &lines[1]]);
    for logs in [vec![first.clone()], vec![second], vec![stranger.clone(), first.clone()], Vec::new()] {
        assert!(verified(&export, &policy(&logs)).is_ok(), "{logs:?}");
    }
    let said = verified(&export, &policy(&[stranger])).unwrap_err();
    assert!(said.contains("it lists no key of the log countersign.dev/log/test"), "{said}");
    let unknown = countersign_core::tlog::SigningKey::new("countersign.dev/log/test", [6; 32]).unwrap().verifying_key();
    assert!(verified(&export, &policy(std::slice::from_ref(&unknown))).unwrap_err().contains("is not signed by"));
    // With --key as well, both must say the same.
    let given = file(&first.to_string());
    let demands = |logs: &[VerifyingKey]| Demands::read(&export, Some(&given.path), Some(&policy(logs).path));
    assert!(demands(&[first]).is_ok_and(|demands| demands.trusted));
    assert!(demands(&[unknown]).err().unwrap().to_string().contains("other logs than the one of --key"));
    let nonsense = file("witness w\n");
    let said = verified(&export, &nonsense).unwrap_err();
    assert!(said.contains("policy: line 1: write witness NAME VKEY"), "{said}");
    assert!(verified(&export, &file("quorum none\n")).unwrap().contains("demands no cosignature"));
}

/// The log signs one history for its readers and another for the witnesses.
#[test]
fn a_split_view_passes_without_witnesses_and_is_caught_with_them() {
    let (log, policy) = (key().verifying_key(), policy(&[key().verifying_key()]));
    let mut witnesses = [1, 2, 3].map(Witness::new);
    let honest = bundle(40, None);
    let mut lines = Vec::new();
    for witness in &mut witnesses {
        witness.add(&bundle(30, None), &log).unwrap();
        lines.push(witness.add(&honest, &log).unwrap());
    }
    let forked_entry = |n| sealed(if n < 35 { n } else { n + 1000 });
    for size in [40, 45] {
        let forked = bundle_of(size, None, forked_entry);
        assert!(verify(&forked, &log).is_ok(), "its own proofs and the log's signature all hold");
        for witness in &mut witnesses {
            match (size, witness.add(&forked, &log)) {
                (40, Err(Refusal::SplitView { size: 40 })) | (45, Err(Refusal::Proof(_))) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(verified(&forked, &policy).unwrap_err().contains("not cosigned by two"));
        let said = verified(&with(&forked, &[&lines[0], &lines[1]]), &policy).unwrap_err();
        assert!(said.contains("does not hold"), "moved over from the honest one: {said}");
    }
    assert!(verified(&with(&honest, &[&lines[0], &lines[1]]), &policy).is_ok());
    // And what follows honestly goes on being cosigned.
    assert!(witnesses.iter_mut().all(|witness| witness.add(&bundle(45, None), &log).is_ok()));
}
