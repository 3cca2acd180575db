//! The field GF(p²) with p = 2¹²⁷ − 1 and i² = −1 (Costello and Longa, "FourQ", section 2). No branch and no index
//! depends on a value, but where it is said.

use std::ops::{Add, Mul, Neg, Sub};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

const P: u128 = (1 << 127) - 1;
const LOW: u128 = u64::MAX as u128;

/// An element of GF(p), from 0 to p; zero has two forms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp(u128);

impl Fp {
    pub(super) const ZERO: Fp = Fp(0);
    pub(super) const ONE: Fp = Fp(1);

    /// For constants below p.
    pub(super) const fn new(value: u128) -> Fp {
        Fp(value)
    }

    /// What 16 bytes hold, the lowest first; `None` where it is p or more.
    pub(super) fn decode(bytes: [u8; 16]) -> Option<Fp> {
        let value = u128::from_le_bytes(bytes);
        (value < P).then_some(Fp(value))
    }

    pub(super) fn encode(self) -> [u8; 16] {
        self.canonical().to_le_bytes()
    }

    /// From 0 to p − 1.
    fn canonical(self) -> u128 {
        u128::conditional_select(&self.0, &0, self.0.ct_eq(&P))
    }

    /// Its highest bit, which tells x from −x.
    pub(super) fn sign(self) -> u8 {
        u8::from((self.canonical() >> 126) == 1)
    }

    pub(super) fn is_zero(self) -> Choice {
        self.canonical().ct_eq(&0)
    }

    /// As 2¹²⁷ is 1, what is above it is added below.
    fn fold(sum: u128) -> Fp {
        let once = (sum & P) + (sum >> 127);
        Fp((once & P) + (once >> 127))
    }

    fn square_times(self, times: usize) -> Fp {
        (0..times).fold(self, |power, _| power * power)
    }

    /// Its inverse, that is its power of p − 2 = 2¹²⁷ − 3; of zero, zero.
    pub(super) fn invert(self) -> Fp {
        // The exponent is 125 ones, a zero and a one.
        let ones = (1..125).fold(self, |power, _| power * power * self);
        ones.square_times(2) * self
    }

    /// Its power of (p + 1) / 4 = 2¹²⁵, which is a root of it if it has one.
    fn root(self) -> Fp {
        self.square_times(125)
    }

    /// Half of it: 2¹²⁶ is the inverse of 2.
    fn halve(self) -> Fp {
        self * Fp(1 << 126)
    }
}

impl Add for Fp {
    type Output = Fp;

    fn add(self, other: Fp) -> Fp {
        Fp::fold(self.0 + other.0)
    }
}

impl Neg for Fp {
    type Output = Fp;

    fn neg(self) -> Fp {
        Fp(P - self.0)
    }
}

impl Sub for Fp {
    type Output = Fp;

    fn sub(self, other: Fp) -> Fp {
        self + -other
    }
}

impl Mul for Fp {
    type Output = Fp;

    fn mul(self, other: Fp) -> Fp {
        let (a0, a1) = (self.0 & LOW, self.0 >> 64);
        let (b0, b1) = (other.0 & LOW, other.0 >> 64);
        // Neither of the two has more than 127 bits.
        let middle = a0 * b1 + a1 * b0;
        let (low, carry) = (a0 * b0).overflowing_add(middle << 64);
        let high = a1 * b1 + (middle >> 64) + u128::from(carry);
        Fp::fold((low & P) + ((high << 1) | (low >> 127)))
    }
}

impl ConditionallySelectable for Fp {
    fn conditional_select(a: &Fp, b: &Fp, choice: Choice) -> Fp {
        Fp(u128::conditional_select(&a.0, &b.0, choice))
    }
}

impl ConstantTimeEq for Fp {
    fn ct_eq(&self, other: &Fp) -> Choice {
        self.canonical().ct_eq(&other.canonical())
    }
}

/// An element of GF(p²).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp2 {
    pub(super) real: Fp,
    pub(super) imaginary: Fp,
}

impl Fp2 {
    pub(super) const ZERO: Fp2 = Fp2 { real: Fp::ZERO, imaginary: Fp::ZERO };
    pub(super) const ONE: Fp2 = Fp2 { real: Fp::ONE, imaginary: Fp::ZERO };

    pub(super) const fn new(real: u128, imaginary: u128) -> Fp2 {
        Fp2 { real: Fp::new(real), imaginary: Fp::new(imaginary) }
    }

    pub(super) fn is_zero(self) -> Choice {
        self.real.is_zero() & self.imaginary.is_zero()
    }

    /// Its inverse; of zero, zero.
    pub(super) fn invert(self) -> Fp2 {
        let norm = (self.real * self.real + self.imaginary * self.imaginary).invert();
        Fp2 { real: self.real * norm, imaginary: -self.imaginary * norm }
    }

    /// One of its roots, if it has any. Takes a time that depends on it.
    pub(super) fn root(self) -> Option<Fp2> {
        let length = (self.real * self.real + self.imaginary * self.imaginary).root();
        [self.real + length, self.real - length].into_iter().find_map(|double| {
            let real = double.halve().root();
            let imaginary = match bool::from(real.is_zero()) {
                true => (-self.real).root(),
                false => self.imaginary.halve() * real.invert(),
            };
            let root = Fp2 { real, imaginary };
            bool::from((root * root).ct_eq(&self)).then_some(root)
        })
    }
}

impl Add for Fp2 {
    type Output = Fp2;

    fn add(self, other: Fp2) -> Fp2 {
        Fp2 { real: self.real + other.real, imaginary: self.imaginary + other.imaginary }
    }
}

impl Neg for Fp2 {
    type Output = Fp2;

    fn neg(self) -> Fp2 {
        Fp2 { real: -self.real, imaginary: -self.imaginary }
    }
}

impl Sub for Fp2 {
    type Output = Fp2;

    fn sub(self, other: Fp2) -> Fp2 {
        self + -other
    }
}

impl Mul for Fp2 {
    type Output = Fp2;

    fn mul(self, other: Fp2) -> Fp2 {
        let real = self.real * other.real;
        let imaginary = self.imaginary * other.imaginary;
        let both = (self.real + self.imaginary) * (other.real + other.imaginary);
        Fp2 { real: real - imaginary, imaginary: both - real - imaginary }
    }
}

impl ConditionallySelectable for Fp2 {
    fn conditional_select(a: &Fp2, b: &Fp2, choice: Choice) -> Fp2 {
        Fp2 {
            real: Fp::conditional_select(&a.real, &b.real, choice),
            imaginary: Fp::conditional_select(&a.imaginary, &b.imaginary, choice),
        }
    }
}

impl ConstantTimeEq for Fp2 {
    fn ct_eq(&self, other: &Fp2) -> Choice {
        self.real.ct_eq(&other.real) & self.imaginary.ct_eq(&other.imaginary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [u128; 9] = [0, 1, 2, LOW, LOW + 1, 1 << 126, 0x0123_4567_89AB_CDEF << 60, P - 2, P - 1];

    #[test]
    fn zero_has_one_form_outside() {
        for zero in [Fp(P), Fp::ZERO, Fp(P) + Fp(P), -Fp::ZERO, Fp::new(P - 1) + Fp::ONE, Fp(P) * Fp::new(7)] {
            assert_eq!(zero.encode(), [0; 16]);
            assert!(bool::from(zero.is_zero() & zero.ct_eq(&Fp::ZERO)));
            assert_eq!(zero.sign(), 0);
        }
        for above in [P, P + 1, u128::MAX] {
            assert!(Fp::decode(above.to_le_bytes()).is_none(), "{above}");
        }
        for number in NUMBERS {
            assert_eq!(Fp::decode(number.to_le_bytes()).unwrap().encode(), number.to_le_bytes());
        }
    }

    #[test]
    fn what_is_taken_apart_is_put_together_again() {
        for (a, b) in NUMBERS.iter().flat_map(|a| NUMBERS.map(|b| (*a, b))) {
            let (left, right) = (Fp2::new(a, b), Fp2::new(b, a));
            let same = |one: Fp2, other: Fp2| assert!(bool::from(one.ct_eq(&other)), "{one:?} {other:?}");
            same(left + right - right, left);
            same(left * right - right * left, Fp2::ZERO);
            same(left * (right + Fp2::ONE), left * right + left);
            match a == 0 && b == 0 {
                true => same(left.invert(), Fp2::ZERO),
                false => same(left * left.invert(), Fp2::ONE),
            }
            let root = (left * left).root().unwrap();
            assert!(bool::from(root.ct_eq(&left) | root.ct_eq(&-left)), "{left:?}");
        }
        // Its norm, 5, has no root in GF(p).
        assert!(Fp2::new(2, 1).root().is_none());
    }
}
