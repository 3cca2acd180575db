//! What is offered for gas (EIP-1559), in wei for each unit of it.

use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The most that is paid, with the tip.
    pub max_fee: u128,
    pub tip: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TooDear {
    #[error(
        "the network asks for {asks} wei a unit of gas, and maxFeePerGas allows {cap}: wait, or raise maxFeePerGas"
    )]
    Network { asks: u128, cap: u128 },
    #[error(
        "replacing what waits takes {asks} wei a unit of gas, and maxFeePerGas allows {cap}: wait until it is mined, or raise maxFeePerGas"
    )]
    Replacement { asks: u128, cap: u128 },
}

/// Nodes leave out what offers less than this to whoever makes the block; geth's default.
const LEAST_TIP: u128 = 1_000_000;

impl Fees {
    /// Enough for six full blocks in a row, within the cap. `base` is the next block's base fee, `tip` what others give,
    /// and `before` what was offered under the same nonce, which is outbid by an eighth: nodes ask for a tenth.
    pub fn offer(base: u128, tip: u128, before: Option<Fees>, cap: u128) -> Result<Fees, TooDear> {
        let tip = tip.max(LEAST_TIP);
        let asks = base.saturating_add(tip);
        if asks > cap {
            return Err(TooDear::Network { asks, cap });
        }
        let max_fee = asks.saturating_add(base).min(cap);
        let Some(before) = before else { return Ok(Fees { max_fee, tip }) };
        let least = outbid(before.max_fee);
        if least > cap {
            return Err(TooDear::Replacement { asks: least, cap });
        }
        let max_fee = max_fee.max(least);
        // A tip above the whole is refused by nodes; what was offered before kept to it, so its outbidding does.
        Ok(Fees { max_fee, tip: tip.max(outbid(before.tip)).min(max_fee) })
    }
}

/// What it takes to replace what offers this: an eighth more, rounded up.
pub fn outbid(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    #[test]
    fn offers() {
        let fees = |max_fee, tip| Fees { max_fee, tip };
        let cases = [
            (10 * GWEI, GWEI, None, 100 * GWEI, Ok(fees(21 * GWEI, GWEI))),
            // The cap bounds what is offered, and not what the next block asks for.
            (10 * GWEI, GWEI, None, 11 * GWEI, Ok(fees(11 * GWEI, GWEI))),
            (10 * GWEI, GWEI, None, 11 * GWEI - 1, Err(TooDear::Network { asks: 11 * GWEI, cap: 11 * GWEI - 1 })),
            (0, 0, None, GWEI, Ok(fees(LEAST_TIP, LEAST_TIP))),
            // A replacement gives an eighth more of both, or what the network asks for.
            (GWEI, GWEI, Some(fees(8 * GWEI, 2 * GWEI)), 100 * GWEI, Ok(fees(9 * GWEI, 2_250_000_000))),
            (50 * GWEI, 5 * GWEI, Some(fees(8 * GWEI, 2 * GWEI)), 200 * GWEI, Ok(fees(105 * GWEI, 5 * GWEI))),
            (GWEI, GWEI, Some(fees(9, 1)), 100 * GWEI, Ok(fees(3 * GWEI, GWEI))),
            (
                GWEI,
                GWEI,
                Some(fees(8 * GWEI + 1, GWEI)),
                9 * GWEI,
                Err(TooDear::Replacement { asks: 9 * GWEI + 2, cap: 9 * GWEI }),
            ),
            (GWEI, GWEI, Some(fees(8 * GWEI, 8 * GWEI)), 9 * GWEI, Ok(fees(9 * GWEI, 9 * GWEI))),
            (u128::MAX, u128::MAX, None, GWEI, Err(TooDear::Network { asks: u128::MAX, cap: GWEI })),
            (0, 0, Some(fees(u128::MAX, 0)), GWEI, Err(TooDear::Replacement { asks: u128::MAX, cap: GWEI })),
        ];
        for (base, tip, before, cap, expected) in cases {
            assert_eq!(Fees::offer(base, tip, before, cap), expected, "{base} {tip} {before:?} {cap}");
        }
    }

    #[test]
    fn every_replacement_is_an_eighth_above_rounded_up() {
        for fee in 1..1_000u128 {
            assert!(outbid(fee) * 8 >= fee * 9, "{fee}");
        }
    }
}
