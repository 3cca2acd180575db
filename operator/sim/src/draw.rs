//! Chance, from a seed.

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, for ever.
pub(crate) struct Draw(u64);

/// A state that no seed of ours has, and that drawing never leaves.
const NEVER: u64 = u64::MAX;

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    /// Chance that never strikes: `one_in` is false and `below` is one less than it may be.
    pub fn never() -> Draw {
        Draw(NEVER)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        if self.0 == NEVER {
            return n - 1;
        }
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(items.len().max(1) as u64);
        items.get(usize::try_from(index).unwrap_or_default())
    }
}
