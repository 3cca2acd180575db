//! Money: whole millionths of the budget's currency. A float never touches it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const PLACES: usize = 6;
const MICROS: u64 = 1_000_000;
/// What a price of "per million" is of.
const MILLION: u128 = 1_000_000;

/// An amount, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Money(u64);

/// This text is no amount: digits, and at most six decimal places, up to 2^64-1 millionths.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an amount; write digits and at most six places, such as 0.05")]
pub struct MoneyError(String);

impl Money {
    /// No money.
    pub const ZERO: Money = Money(0);
    /// More than anything costs.
    pub const MAX: Money = Money(u64::MAX);

    /// So many millionths of the currency.
    pub fn from_micros(micros: u64) -> Money {
        Money(micros)
    }

    /// The amount in millionths of the currency.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Both together; `None` beyond 2^64-1 millionths.
    pub fn checked_add(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// What cannot be counted is taken for the most that there is, so that no limit lets it pass.
    pub fn saturating_add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// What is left when `other` is taken away; nothing where that is more.
    pub fn saturating_sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }

    /// What is left when so many hundredths, rounded up, are set aside.
    pub fn less_percent(self, percent: u32) -> Money {
        let aside = (u128::from(self.0) * u128::from(percent.min(100))).div_ceil(100);
        Money(self.0.saturating_sub(u64::try_from(aside).unwrap_or(u64::MAX)))
    }

    /// The price of `count` at `price` a million, rounded up: what costs something is never free.
    pub fn per_million(price: Money, count: u64) -> Money {
        let exact = (u128::from(price.0) * u128::from(count)).div_ceil(MILLION);
        Money(u64::try_from(exact).unwrap_or(u64::MAX))
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Money, MoneyError> {
        let wrong = || MoneyError(text.to_owned());
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(places) || places.len() > PLACES {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let micros: u64 = format!("{places:0<PLACES$}").parse().map_err(|_| wrong())?;
        whole.checked_mul(MICROS).and_then(|whole| whole.checked_add(micros)).map(Money).ok_or_else(wrong)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / MICROS, self.0 % MICROS);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl TryFrom<String> for Money {
    type Error = MoneyError;

    fn try_from(text: String) -> Result<Money, MoneyError> {
        text.parse()
    }
}

impl From<Money> for String {
    fn from(money: Money) -> String {
        money.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_to_the_millionth_and_nothing_else_is() {
        for (text, micros) in
            [("0", 0), ("0.05", 50_000), ("1000", 1_000_000_000), ("00.000001", 1), ("1.10", 1_100_000)]
        {
            assert_eq!(text.parse(), Ok(Money(micros)), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1,5", " 1", "18446744073710", "NaN", "१"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_price_by_the_million_is_rounded_up_and_never_overflows() {
        assert_eq!(Money::per_million(Money(3), 1), Money(1));
        assert_eq!(Money::per_million(Money(2_500_000), 1_000_000), Money(2_500_000));
        assert_eq!(Money::per_million(Money::ZERO, u64::MAX), Money::ZERO);
        assert_eq!(Money::per_million(Money::MAX, u64::MAX), Money::MAX);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_is_read(micros: u64) {
            prop_assert_eq!(Money(micros).to_string().parse(), Ok(Money(micros)));
        }
    }
}
