//! When something is tried again.

use std::time::Duration;

use countersign_service::backoff;

/// How fast, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at an empty outbox.
    pub idle: Duration,
    /// Between two looks at what was sent and is not final.
    pub poll: Duration,
    /// After the first failed try; each pause is twice the one before it.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
    /// After so many, what nothing was signed for is given up.
    pub tries: u32,
    /// For how long PostgreSQL is waited for, each time; longer than a statement may take there.
    pub patience: Duration,
}

impl Default for Pace {
    /// Given up after some 40 minutes.
    fn default() -> Pace {
        Pace {
            idle: Duration::from_millis(500),
            poll: Duration::from_secs(2),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            tries: 16,
            patience: Duration::from_secs(40),
        }
    }
}

impl Pace {
    /// Up to half as much again, drawn from the item's id, so that what failed together does not come back together.
    pub fn again(&self, id: i64, tries: u32) -> Duration {
        let pause = self.first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(self.longest);
        backoff::spread(pause, id, tries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_longest_and_differ_between_items() {
        let pace = Pace::default();
        let all: Duration = (1..pace.tries).map(|tries| pace.again(7, tries)).sum();
        assert!((30.0..70.0).contains(&(all.as_secs_f64() / 60.0)), "{all:?}");
        assert!((1..20).all(|tries| pace.again(1, tries) >= pace.again(1, 1)));
        assert!(pace.again(1, u32::MAX) <= pace.longest * 3 / 2);
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|id| pace.again(id, 9)).collect();
        assert!(drawn.len() > 60);
    }
}
