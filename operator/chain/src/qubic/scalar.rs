//! Numbers modulo the order N of FourQ's generator, which has 246 bits. No branch and no index depends on a value, but
//! where it is said.

use subtle::{Choice, ConditionallySelectable};

/// The lower and the upper 128 bits of N.
const N: Scalar =
    Scalar { low: 0xDFBD_004D_FE0F_7999_2FB2_540E_C776_8CE7, high: 0x0029_CBC1_4E5E_0A72_F053_9782_9CBC_14E5 };

/// Below N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    low: u128,
    high: u128,
}

impl Scalar {
    const ZERO: Scalar = Scalar { low: 0, high: 0 };
    const ONE: Scalar = Scalar { low: 1, high: 0 };

    /// What 32 bytes hold, the lowest first, modulo N.
    pub(super) fn reduce(bytes: &[u8; 32]) -> Scalar {
        bits(bytes).fold(Scalar::ZERO, |sum, bit| sum.plus(sum).plus(Scalar::ONE.if_set(bit)))
    }

    /// What 32 bytes hold; `None` where it is N or more. Takes a time that depends on it.
    pub(super) fn decode(bytes: &[u8; 32]) -> Option<Scalar> {
        let scalar = Scalar::reduce(bytes);
        (scalar.encode() == *bytes).then_some(scalar)
    }

    pub(super) fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.low.to_le_bytes());
        bytes[16..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    pub(super) fn plus(self, other: Scalar) -> Scalar {
        let (low, carry) = self.low.overflowing_add(other.low);
        // Neither has more than 118 bits there.
        let sum = Scalar { low, high: self.high + other.high + u128::from(carry) };
        let (less, borrow) = sum.less(N);
        Scalar::select(&less, &sum, borrow)
    }

    pub(super) fn minus(self, other: Scalar) -> Scalar {
        let (less, borrow) = self.less(other);
        let (low, carry) = less.low.overflowing_add(N.low);
        let wrapped = Scalar { low, high: less.high.wrapping_add(N.high).wrapping_add(u128::from(carry)) };
        Scalar::select(&less, &wrapped, borrow)
    }

    pub(super) fn times(self, other: Scalar) -> Scalar {
        bits(&self.encode()).fold(Scalar::ZERO, |product, bit| product.plus(product).plus(other.if_set(bit)))
    }

    fn less(self, other: Scalar) -> (Scalar, Choice) {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        let (high, first) = self.high.overflowing_sub(other.high);
        let (high, second) = high.overflowing_sub(u128::from(borrow));
        (Scalar { low, high }, Choice::from(u8::from(first | second)))
    }

    fn if_set(self, bit: Choice) -> Scalar {
        Scalar::select(&Scalar::ZERO, &self, bit)
    }

    fn select(a: &Scalar, b: &Scalar, choice: Choice) -> Scalar {
        Scalar {
            low: u128::conditional_select(&a.low, &b.low, choice),
            high: u128::conditional_select(&a.high, &b.high, choice),
        }
    }
}

/// The order of the generator, as 32 bytes.
pub(super) fn order() -> [u8; 32] {
    N.encode()
}

/// The bits of a number, the highest first.
pub(super) fn bits(bytes: &[u8; 32]) -> impl Iterator<Item = Choice> {
    bytes.iter().rev().flat_map(|byte| (0..8).rev().map(move |bit| Choice::from((byte >> bit) & 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u128) -> Scalar {
        Scalar { low: value, high: 0 }
    }

    #[test]
    fn numbers_wrap_at_the_order() {
        let last = Scalar::ZERO.minus(Scalar::ONE);
        assert_eq!(last.plus(Scalar::ONE), Scalar::ZERO);
        assert_eq!(last.plus(last), Scalar::ZERO.minus(number(2)));
        assert_eq!(last.times(last), Scalar::ONE);
        assert_eq!(Scalar::reduce(&order()), Scalar::ZERO);
        assert_eq!(number(u128::MAX).times(number(u128::MAX)), {
            // (2¹²⁸ − 1)² = 2²⁵⁶ − 2¹²⁹ + 1, and all ones are 2²⁵⁶ − 1.
            let all = Scalar::reduce(&[0xff; 32]);
            all.plus(number(2)).minus(Scalar { low: 0, high: 2 })
        });
    }

    #[test]
    fn only_what_is_below_the_order_is_decoded() {
        let mut order = order();
        assert_eq!(Scalar::decode(&order), None);
        order[0] -= 1;
        assert_eq!(Scalar::decode(&order), Some(Scalar::ZERO.minus(Scalar::ONE)));
        assert_eq!(Scalar::decode(&[0xff; 32]), None);
        assert_eq!(Scalar::decode(&[0; 32]), Some(Scalar::ZERO));
    }
}
