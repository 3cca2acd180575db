//! FourQ: −x² + y² = 1 + d·x²·y² over GF(p²) (Costello and Longa, section 2). Neither its endomorphisms nor tables are
//! used: an anchor now and then can wait for a fraction of a millisecond, and what is simple is easier to believe.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::field::{Fp, Fp2};
use super::scalar::{bits, order};

const D: Fp2 = Fp2::new(0xE4_0000_0000_0000_0142, 0x5E47_2F84_6657_E0FC_B382_1488_F1FC_0C8D);
const GENERATOR_X: Fp2 = Fp2::new(0x1A34_7223_7C2F_B305_2865_92AD_7B38_33AA, 0x1E1F_553F_2878_AA9C_9686_9FB3_60AC_77F6);
const GENERATOR_Y: Fp2 = Fp2::new(0x0E3F_EE9B_A120_785A_B924_A246_2BCB_B287, 0x6E1C_4AF8_630E_0242_49A7_C344_844C_8B5C);

/// A point in extended coordinates: x = X/Z, y = Y/Z, and X·Y = Z·T.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    x: Fp2,
    y: Fp2,
    z: Fp2,
    t: Fp2,
}

impl Point {
    const NEUTRAL: Point = Point { x: Fp2::ZERO, y: Fp2::ONE, z: Fp2::ONE, t: Fp2::ZERO };

    fn affine(x: Fp2, y: Fp2) -> Point {
        Point { x, y, z: Fp2::ONE, t: x * y }
    }

    pub(super) fn generator() -> Point {
        Point::affine(GENERATOR_X, GENERATOR_Y)
    }

    /// By the unified law of Hisil, Wong, Carter and Dawson (2008, section 3.1), which has no exception here, as −1 is
    /// a square and d is none.
    pub(super) fn plus(self, other: Point) -> Point {
        let a = (self.y - self.x) * (other.y - other.x);
        let b = (self.y + self.x) * (other.y + other.x);
        let c = self.t * (D + D) * other.t;
        let d = (self.z + self.z) * other.z;
        let (e, f, g, h) = (b - a, d - c, d + c, b + a);
        Point { x: e * f, y: g * h, z: f * g, t: e * h }
    }

    /// Of any number of 256 bits, the lowest byte first. Takes the same time for each.
    pub(super) fn times(self, scalar: &[u8; 32]) -> Point {
        bits(scalar).fold(Point::NEUTRAL, |sum, bit| {
            let double = sum.plus(sum);
            Point::select(&double, &double.plus(self), bit)
        })
    }

    /// Whether it is a multiple of the generator other than the neutral point. Takes a time that depends on it.
    pub(super) fn is_of_the_group(self) -> bool {
        !self.is_neutral() && self.times(&order()).is_neutral()
    }

    fn is_neutral(self) -> bool {
        bool::from(self.x.is_zero() & self.y.ct_eq(&self.z))
    }

    /// As 32 bytes: y, and in the highest bit the sign of x.
    pub(super) fn encode(self) -> [u8; 32] {
        let inverse = self.z.invert();
        let y = self.y * inverse;
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&y.real.encode());
        bytes[16..].copy_from_slice(&y.imaginary.encode());
        bytes[31] |= sign(self.x * inverse) << 7;
        bytes
    }

    /// The point that 32 bytes stand for, if they are just what `encode` makes of one. Takes a time that depends on
    /// it.
    pub(super) fn decode(bytes: &[u8; 32]) -> Option<Point> {
        let (real, imaginary) = bytes.split_at(16);
        let mut imaginary: [u8; 16] = imaginary.try_into().ok()?;
        imaginary[15] &= 0x7f;
        let y = Fp2 { real: Fp::decode(real.try_into().ok()?)?, imaginary: Fp::decode(imaginary)? };
        let square = y * y;
        // d·y² is never −1, as d is no square and −1 is one.
        let x = ((square - Fp2::ONE) * (D * square + Fp2::ONE).invert()).root()?;
        [x, -x].into_iter().map(|x| Point::affine(x, y)).find(|point| point.encode() == *bytes)
    }

    fn select(a: &Point, b: &Point, choice: Choice) -> Point {
        Point {
            x: Fp2::conditional_select(&a.x, &b.x, choice),
            y: Fp2::conditional_select(&a.y, &b.y, choice),
            z: Fp2::conditional_select(&a.z, &b.z, choice),
            t: Fp2::conditional_select(&a.t, &b.t, choice),
        }
    }
}

/// What tells x from −x.
fn sign(x: Fp2) -> u8 {
    Fp::conditional_select(&x.real, &x.imaginary, x.real.is_zero()).sign()
}
