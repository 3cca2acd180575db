//! What to make of what was seen.

use std::time::Duration;

use crate::network::{Polled, Receipt};

/// What was seen of one work's submissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Those of them that are in a block of the chain.
    pub mined: Vec<Mined>,
    /// Whether the router has it by something that is none of them.
    pub elsewhere: Elsewhere,
    /// The nonces of all of them, the newest last.
    pub nonces: Vec<u64>,
    /// The account's nonce at the newest block that is final.
    pub settled: u64,
    /// Where none is in a block.
    pub pool: Pool,
    /// How long ago the newest was prepared.
    pub age: Duration,
    pub stall: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mined {
    /// Not final yet.
    Shallow,
    Done(Receipt),
    /// Final, and nothing was done. Why, as far as it is known.
    Reverted(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Or it was not asked for.
    No,
    /// By so many confirmations, of so many that are needed.
    Shallow(u64, u64),
    Done(Receipt),
    /// Its id was used for something else.
    Other(String),
}

/// What waits for a block, of the account and of the newest submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// The account's nonce at the newest block.
    pub latest: u64,
    /// Its nonce after all that waits.
    pub pending: u64,
    /// Whether the node knows the newest submission.
    pub known: bool,
    /// Whether more can be offered than the newest submission does.
    pub room: bool,
}

impl Seen {
    pub fn decide(self) -> Polled {
        let Seen { mined, elsewhere, nonces, settled, pool, age, stall } = self;
        let (mut shallow, mut reverted) = (false, None);
        for mined in mined {
            match mined {
                Mined::Done(receipt) => return Polled::Confirmed(receipt),
                Mined::Shallow => shallow = true,
                Mined::Reverted(why) => reverted = Some(why),
            }
        }
        match elsewhere {
            Elsewhere::Done(receipt) => return Polled::Confirmed(receipt),
            Elsewhere::Shallow(..) => return Polled::Waiting,
            Elsewhere::Other(why) => return Polled::Refused(why),
            Elsewhere::No => {}
        }
        if shallow {
            return Polled::Waiting;
        }
        if let Some(why) = reverted {
            // While another submission could still come through, it is not refused for good.
            let spent = nonces.iter().all(|nonce| *nonce < settled);
            return if spent { Polled::Refused(why) } else { Polled::Displaced };
        }
        let Some(nonce) = nonces.last().copied().filter(|nonce| *nonce >= settled) else { return Polled::Displaced };
        let Pool { latest, pending, known, room } = pool;
        let stalled = age >= stall;
        if nonce < latest {
            // Its place is taken, and not yet for good.
            Polled::Waiting
        } else if nonce > pending && stalled {
            Polled::Displaced
        } else if stalled && (known || room) {
            // A node that does not know it for so long may have found it too cheap.
            Polled::Underpriced
        } else if known {
            Polled::Waiting
        } else {
            Polled::Missing
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    fn receipt(transaction: &str) -> Receipt {
        let (transaction, at) = (transaction.to_owned(), Timestamp::UNIX_EPOCH);
        Receipt { transaction, place: Some(1), at, fee: None, evidence: Vec::new() }
    }

    /// One submission with the nonce 5 that the node knows, at an account whose nonce is 5.
    fn seen() -> Seen {
        Seen {
            mined: Vec::new(),
            elsewhere: Elsewhere::No,
            nonces: vec![5],
            settled: 5,
            pool: Pool { latest: 5, pending: 6, known: true, room: true },
            age: Duration::ZERO,
            stall: STALL,
        }
    }

    #[test]
    fn what_is_in_a_block_decides_first() {
        let done = |name| Mined::Done(receipt(name));
        let reverted = || Mined::Reverted("why".to_owned());
        let confirmed = |name| Polled::Confirmed(receipt(name));
        let refused = || Polled::Refused("why".to_owned());
        let other = || Elsewhere::Other("other".to_owned());
        // What is mined, what the router has otherwise, the account's final nonce; with submissions of nonces 5 and 7.
        let cases = [
            (vec![done("a")], Elsewhere::No, 6, confirmed("a")),
            (vec![Mined::Shallow, done("a")], Elsewhere::No, 6, confirmed("a")),
            (vec![reverted(), done("a")], Elsewhere::No, 8, confirmed("a")),
            (vec![done("a")], Elsewhere::Done(receipt("b")), 8, confirmed("a")),
            (vec![Mined::Shallow], Elsewhere::No, 5, Polled::Waiting),
            (vec![Mined::Shallow], Elsewhere::No, 8, Polled::Waiting),
            (vec![reverted(), Mined::Shallow], Elsewhere::No, 8, Polled::Waiting),
            (vec![reverted()], Elsewhere::No, 8, refused()),
            (vec![reverted(), reverted()], Elsewhere::No, 8, refused()),
            // The one with 7 could still come through.
            (vec![reverted()], Elsewhere::No, 7, Polled::Displaced),
            (vec![reverted()], Elsewhere::No, 6, Polled::Displaced),
            (vec![reverted()], Elsewhere::Done(receipt("b")), 8, confirmed("b")),
            (vec![reverted()], Elsewhere::Shallow(1, 3), 8, Polled::Waiting),
            (vec![reverted()], other(), 8, Polled::Refused("other".to_owned())),
            (vec![], Elsewhere::Done(receipt("b")), 8, confirmed("b")),
            (vec![], Elsewhere::Shallow(0, 3), 8, Polled::Waiting),
            (vec![], other(), 8, Polled::Refused("other".to_owned())),
            (vec![], Elsewhere::No, 8, Polled::Displaced),
        ];
        for (mined, elsewhere, settled, expected) in cases {
            let seen = Seen { mined, elsewhere, settled, nonces: vec![5, 7], ..seen() };
            assert_eq!(seen.clone().decide(), expected, "{seen:?}");
        }
    }

    /// Nonces; the account's nonce at the final, at the newest block, and with what waits; whether it is known and
    /// can be outbid; its age.
    type Case = (&'static [u64], [u64; 3], bool, bool, Duration, Polled);

    #[test]
    fn what_is_in_no_block_waits_or_goes_again() {
        use Polled::{Displaced, Missing, Underpriced, Waiting};
        let [new, nearly, old] = [Duration::ZERO, STALL - Duration::from_secs(1), STALL];
        let (yes, no) = (true, false);
        let cases: [Case; 29] = [
            (&[5], [5, 5, 6], yes, yes, new, Waiting),
            (&[5], [5, 5, 6], yes, yes, nearly, Waiting),
            (&[5], [5, 5, 6], yes, yes, old, Underpriced),
            (&[5], [5, 5, 6], yes, no, new, Waiting),
            (&[5], [5, 5, 6], yes, no, old, Underpriced),
            (&[5], [5, 5, 5], no, yes, new, Missing),
            (&[5], [5, 5, 5], no, yes, nearly, Missing),
            (&[5], [5, 5, 5], no, yes, old, Underpriced),
            (&[5], [5, 5, 5], no, no, old, Missing),
            // Something else waits in its place.
            (&[5], [5, 5, 6], no, yes, new, Missing),
            (&[5], [5, 5, 6], no, yes, old, Underpriced),
            // Others come before it.
            (&[5], [3, 4, 6], yes, yes, new, Waiting),
            (&[5], [3, 4, 5], no, yes, old, Underpriced),
            // Nobody fills the gap before it.
            (&[5], [3, 3, 4], yes, yes, new, Waiting),
            (&[5], [3, 3, 4], yes, yes, nearly, Waiting),
            (&[5], [3, 3, 4], yes, yes, old, Displaced),
            (&[5], [3, 3, 4], no, yes, new, Missing),
            (&[5], [3, 3, 4], no, no, old, Displaced),
            // Its place is taken, and then for good.
            (&[5], [5, 6, 6], no, yes, new, Waiting),
            (&[5], [5, 6, 6], no, no, old, Waiting),
            (&[5], [5, 6, 6], yes, yes, old, Waiting),
            (&[5], [6, 6, 6], no, yes, new, Displaced),
            (&[5], [9, 9, 9], yes, yes, old, Displaced),
            // Replaced, which is of one place.
            (&[5, 5], [5, 5, 6], yes, yes, new, Waiting),
            (&[5, 5], [6, 6, 6], no, yes, new, Displaced),
            // The newest counts, whatever could become of one before it.
            (&[4, 6], [5, 5, 7], yes, yes, new, Waiting),
            (&[7, 5], [6, 6, 6], no, yes, new, Displaced),
            (&[7, 5], [5, 5, 6], yes, yes, new, Waiting),
            (&[], [0, 0, 0], no, no, new, Displaced),
        ];
        for (nonces, [settled, latest, pending], known, room, age, expected) in cases {
            let pool = Pool { latest, pending, known, room };
            let seen = Seen { nonces: nonces.to_vec(), settled, pool, age, ..seen() };
            assert_eq!(seen.clone().decide(), expected, "{seen:?}");
        }
    }
}
