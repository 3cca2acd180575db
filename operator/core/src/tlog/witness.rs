//! What is asked of a witness, and when it may cosign (<https://c2sp.org/tlog-witness>, `add-checkpoint`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::hash::{Hash, empty_root};
use super::note::VerifyingKey;
use super::proof::{ProofError, verify_consistency};
use crate::digest::Digest;

/// No tree takes more hashes to prove that it follows from a smaller one.
const MOST_HASHES: usize = 63;

/// A checkpoint, and the proof that it follows from what the witness cosigned last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The size that the proof begins with.
    pub old: u64,
    /// The hashes of the proof of consistency (RFC 6962, section 2.1.2); none where `old` is 0 or the new size.
    pub proof: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
}

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is not as `add-checkpoint` has it (C2SP tlog-witness); why not.
    #[error("it is no request to add a checkpoint: {0}")]
    Malformed(&'static str),
    /// What it holds below its proof is no checkpoint.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No key that is known of the log of this name has signed it; empty where no key is known.
    #[error("the checkpoint is not signed by a key that is known of {0}")]
    Unsigned(String),
    /// The proof begins with more entries than the checkpoint has.
    #[error("old {old} is more than the {size} entries of the checkpoint")]
    Beyond {
        /// The size that the proof begins with.
        old: u64,
        /// How many entries the checkpoint is of.
        size: u64,
    },
    /// The proof does not begin with what was cosigned last.
    #[error("what was cosigned last has {size} entries, not {old}")]
    Stale {
        /// The size that the proof begins with.
        old: u64,
        /// How many entries were cosigned last; 0 where nothing was.
        size: u64,
    },
    /// As many entries were cosigned with another root: the log shows two histories.
    #[error("split view: {size} entries were cosigned with another root")]
    SplitView {
        /// How many entries both are of.
        size: u64,
    },
    /// The proof does not hold.
    #[error("the checkpoint does not follow from what was cosigned last: {0}")]
    Proof(#[from] ProofError),
}

impl Request {
    /// The body of the request, as `add-checkpoint` takes it (C2SP tlog-witness).
    pub fn encode(&self) -> String {
        let Request { old, proof, checkpoint } = self;
        let proof: String = proof.iter().map(|hash| STANDARD.encode(hash.as_bytes()) + "\n").collect();
        format!("old {old}\n{proof}\n{checkpoint}")
    }

    /// The request, and what its checkpoint says, which is not believed yet.
    pub fn parse(text: &str) -> Result<(Request, Checkpoint), RequestError> {
        let malformed = RequestError::Malformed;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let decimal = lines.next().and_then(|line| line.strip_prefix("old "));
        let decimal = decimal.ok_or(malformed("the first line is not old SIZE"))?;
        let old: u64 = decimal.parse().map_err(|_| malformed("the old size is no number"))?;
        if old.to_string() != decimal {
            return Err(malformed("the old size is not written as decimals are"));
        }
        let proof: Option<Vec<Hash>> = lines.map(hash).collect();
        let proof = proof.ok_or(malformed("a line of the proof is not the base64 of a hash"))?;
        if proof.len() > MOST_HASHES {
            return Err(malformed("the proof has more than 63 hashes"));
        }
        let claimed = Checkpoint::claimed(checkpoint)?;
        Ok((Request { old, proof, checkpoint: checkpoint.to_owned() }, claimed))
    }
}

fn hash(line: &str) -> Option<Hash> {
    let bytes = STANDARD.decode(line).ok()?;
    Some(Digest::from_raw(bytes.try_into().ok()?))
}

/// The checkpoint of a request, if it is to be cosigned: one of the log's `keys` has signed it, and it follows from the
/// one that was cosigned last. Whoever cosigns must keep it before anybody learns so, and judge nothing meanwhile.
pub fn judge(request: &Request, keys: &[VerifyingKey], last: Option<&Checkpoint>) -> Result<Checkpoint, Refusal> {
    let Request { old, proof, checkpoint } = request;
    let signed = keys.iter().find_map(|key| Checkpoint::open(checkpoint, key).ok());
    let new = signed.ok_or_else(|| Refusal::Unsigned(keys.first().map_or("", VerifyingKey::name).to_owned()))?;
    if *old > new.size {
        return Err(Refusal::Beyond { old: *old, size: new.size });
    }
    let (size, root) = last.map_or((0, empty_root()), |last| (last.size, last.root));
    // Two roots of one size show a fork whatever the request begins with.
    if new.size == size && new.root != root {
        return Err(Refusal::SplitView { size });
    }
    if *old != size {
        return Err(Refusal::Stale { old: *old, size });
    }
    verify_consistency(size, new.size, proof, &root, &new.root)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{CompactRange, SigningKey, Tiles, consistency, leaf};

    const ORIGIN: &str = "log.example";

    /// The request that the specification shows.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    fn key(secret: u8) -> SigningKey {
        SigningKey::new(ORIGIN, [secret; 32]).unwrap()
    }

    /// A log whose entries from `fork` on are others than those of the log that never forks.
    fn tree(size: u64, fork: u64) -> (Checkpoint, Tiles) {
        let (mut tree, mut tiles) = (CompactRange::default(), Tiles::new());
        for n in 0..size {
            let entry = if n < fork { format!("{n}") } else { format!("other {n}") };
            tree.append(leaf(entry.as_bytes()), |new| tiles.entry(new.tile()).or_default().push(new.hash));
        }
        (Checkpoint { origin: ORIGIN.into(), size, root: tree.root() }, tiles)
    }

    fn request(old: u64, size: u64, fork: u64) -> Request {
        let (checkpoint, mut tiles) = tree(size, fork);
        let proof = if old <= size { consistency(&mut tiles, old, size).unwrap() } else { Vec::new() };
        Request { old, proof, checkpoint: checkpoint.sign(&key(7)) }
    }

    #[test]
    fn the_specifications_request_is_read_and_written_the_same() {
        let (request, claimed) = Request::parse(EXAMPLE).unwrap();
        assert_eq!((request.old, request.proof.len(), claimed.size), (20_852_014, 4, 20_852_163));
        assert_eq!(claimed.origin, "example.com/behind-the-sofa");
        assert_eq!(request.encode(), EXAMPLE);
        let first = self::request(0, 3, 9);
        assert_eq!(Request::parse(&first.encode()).unwrap(), (first, tree(3, 9).0));
    }

    #[test]
    fn what_is_no_request_is_refused_and_says_why() {
        let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        for (text, why) in [
            (String::new(), "no empty line"),
            (EXAMPLE.replace("\n\n", "\n"), "no empty line"),
            (EXAMPLE.replace("old 2", "new 2"), "not old SIZE"),
            (EXAMPLE.replace("old 2", "old  2"), "no number"),
            (EXAMPLE.replace("old 2", "old 02"), "as decimals are"),
            (EXAMPLE.replace("old 2", "old +2"), "as decimals are"),
            (EXAMPLE.replace("old 20852014", "old 18446744073709551616"), "no number"),
            (EXAMPLE.replace("old 20852014", "old 20852014\r"), "no number"),
            (EXAMPLE.replacen("PlRN", "PlR", 1), "base64 of a hash"),
            (EXAMPLE.replacen(hash, "AAAA\n", 1), "base64 of a hash"),
            (EXAMPLE.replacen(hash, &hash.repeat(61), 1), "more than 63"),
            (EXAMPLE.replace("20852163", "zero"), "the size is no number"),
            (EXAMPLE.trim_end().to_owned(), "does not end with a newline"),
            (EXAMPLE.split("\u{2014}").next().unwrap().to_owned(), "not a signed note"),
        ] {
            let error = Request::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(Request::parse(&EXAMPLE.replacen(hash, &hash.repeat(60), 1)).is_ok(), "63 are allowed");
    }

    #[test]
    fn only_what_follows_from_the_last_is_cosigned() {
        let keys = [key(1).verifying_key(), key(7).verifying_key()];
        let last = tree(5, 99).0;
        for (what, last, request, expected) in [
            ("the first", None, request(0, 5, 99), Ok(5)),
            ("the first, empty", None, request(0, 0, 99), Ok(0)),
            ("more", Some(&last), request(5, 9, 99), Ok(9)),
            ("the same again", Some(&last), request(5, 5, 99), Ok(5)),
            ("from before", Some(&last), request(3, 9, 99), Err(Refusal::Stale { old: 3, size: 5 })),
            ("from nothing", Some(&last), request(0, 9, 99), Err(Refusal::Stale { old: 0, size: 5 })),
            ("from what is not there yet", Some(&last), request(7, 9, 99), Err(Refusal::Stale { old: 7, size: 5 })),
            ("rolled back", Some(&last), request(5, 4, 99), Err(Refusal::Beyond { old: 5, size: 4 })),
            ("rolled back, honestly", Some(&last), request(4, 4, 99), Err(Refusal::Stale { old: 4, size: 5 })),
            ("a fork of that size", Some(&last), request(5, 5, 4), Err(Refusal::SplitView { size: 5 })),
            ("such a fork from nothing", Some(&last), request(0, 5, 4), Err(Refusal::SplitView { size: 5 })),
            ("a fork that is larger", Some(&last), request(5, 9, 4), Err(ProofError::Root.into())),
        ] {
            assert_eq!(judge(&request, &keys, last).map(|new| new.size), expected, "{what}");
        }
    }

    #[test]
    fn a_bent_proof_or_an_unknown_key_is_refused() {
        let keys = [key(7).verifying_key()];
        let last = tree(5, 99).0;
        let good = request(5, 9, 99);
        for (bent, why) in [
            (Request { proof: Vec::new(), ..good.clone() }, ProofError::Length),
            (Request { proof: good.proof[1..].to_vec(), ..good.clone() }, ProofError::Length),
            (Request { proof: vec![last.root; good.proof.len()], ..good.clone() }, ProofError::Root),
        ] {
            assert_eq!(judge(&bent, &keys, Some(&last)), Err(Refusal::Proof(why)));
        }
        let proof = vec![last.root];
        let first = Request { proof, ..request(0, 5, 99) };
        assert_eq!(judge(&first, &keys, None), Err(Refusal::Proof(ProofError::Length)), "from nothing it is empty");
        let unknown = Err(Refusal::Unsigned(ORIGIN.into()));
        assert_eq!(judge(&good, &[key(8).verifying_key()], Some(&last)), unknown);
        let bent = Request { checkpoint: good.checkpoint.replace("\n9\n", "\n8\n"), ..good };
        assert_eq!(judge(&bent, &keys, Some(&last)), unknown);
        // A tree of nothing has one root.
        let empty = Checkpoint { origin: ORIGIN.into(), size: 0, root: last.root }.sign(&key(7));
        let empty = Request { old: 0, proof: Vec::new(), checkpoint: empty };
        assert_eq!(judge(&empty, &keys, None), Err(Refusal::SplitView { size: 0 }));
    }

    /// Every pair of sizes, with the fork anywhere between them: the judgement is what the trees say.
    #[test]
    fn no_fork_of_any_shape_is_cosigned() {
        let keys = [key(7).verifying_key()];
        let (mut forks, mut cosigned) = (0, 0);
        for size in 1..=20 {
            for last_size in 0..=size {
                let last = tree(last_size, 99).0;
                for fork in 0..=size {
                    let judged = judge(&request(last_size, size, fork), &keys, Some(&last));
                    assert_eq!(judged.is_ok(), fork >= last_size, "{last_size} to {size}, fork at {fork}: {judged:?}");
                    if judged.is_ok() { cosigned += 1 } else { forks += 1 }
                }
            }
        }
        assert!(forks > 1000 && cosigned > 1000, "{forks} forks, {cosigned} cosigned");
    }
}
