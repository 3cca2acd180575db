//! The ledger as a value: what PostgreSQL keeps, for simulations and as the measure of the store.

use std::collections::BTreeMap;

use thiserror::Error;

use super::line::LineKey;
use super::weigh::{Balance, BudgetDecision};
use crate::money::Money;

/// Balances of rows, reservations, and the accounts that money moves between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// What each row holds; a row that is not here is empty.
    pub balances: BTreeMap<LineKey, Balance>,
    reservations: BTreeMap<String, Reservation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Reservation {
    amount: Money,
    lines: Vec<LineKey>,
    /// `None` while it is held.
    cost: Option<Money>,
}

/// What becomes of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Nothing of it ran.
    Release,
    /// It ended, and cost this.
    Settle(Money),
    /// Whatever it cost is not known, so all of it stays counted.
    Unknown,
}

/// Why a reservation cannot be made or closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// This attempt, by its key, has a reservation already, open or closed.
    #[error("attempt {0} has a reservation already")]
    Twice(String),
    /// This attempt, by its key, has no reservation that is open.
    #[error("attempt {0} has no reservation, or it is closed")]
    NotHeld(String),
    /// With the amount, this row would be filled beyond its cap.
    #[error("{0:?} would be filled beyond what this work may use")]
    Over(LineKey),
}

impl Ledger {
    /// All or nothing.
    pub fn reserve(&mut self, attempt: &str, decision: &BudgetDecision) -> Result<(), LedgerError> {
        if self.reservations.contains_key(attempt) {
            return Err(LedgerError::Twice(attempt.to_owned()));
        }
        for line in &decision.lines {
            let Balance { spent, held } = self.balances.get(&line.key()).copied().unwrap_or_default();
            let filled = spent.checked_add(held).and_then(|sum| sum.checked_add(decision.amount));
            if line.cap.is_some_and(|cap| filled.is_none_or(|filled| filled > cap)) {
                return Err(LedgerError::Over(line.key()));
            }
        }
        let lines: Vec<LineKey> = decision.lines.iter().map(|line| line.key()).collect();
        for key in &lines {
            let balance = self.balances.entry(key.clone()).or_default();
            balance.held = balance.held.saturating_add(decision.amount);
        }
        let reservation = Reservation { amount: decision.amount, lines, cost: None };
        self.reservations.insert(attempt.to_owned(), reservation);
        Ok(())
    }

    /// Moves what is held to what is spent, once.
    pub fn close(&mut self, attempt: &str, closing: Closing) -> Result<(), LedgerError> {
        let held = self.reservations.get_mut(attempt).filter(|reservation| reservation.cost.is_none());
        let Some(reservation) = held else { return Err(LedgerError::NotHeld(attempt.to_owned())) };
        let cost = match closing {
            Closing::Release => Money::ZERO,
            Closing::Settle(cost) => cost,
            Closing::Unknown => return Ok(()),
        };
        reservation.cost = Some(cost);
        for key in &reservation.lines {
            let balance = self.balances.entry(key.clone()).or_default();
            balance.held = balance.held.saturating_sub(reservation.amount);
            balance.spent = balance.spent.saturating_add(cost);
        }
        Ok(())
    }

    /// Whether something is reserved for the attempt that is not closed.
    pub fn holds(&self, attempt: &str) -> bool {
        self.reservations.get(attempt).is_some_and(|reservation| reservation.cost.is_none())
    }

    /// What is reserved and not closed, all together.
    pub fn held(&self) -> Money {
        let open = self.reservations.values().filter(|reservation| reservation.cost.is_none());
        open.fold(Money::ZERO, |sum, reservation| sum.saturating_add(reservation.amount))
    }

    /// What was paid, all together.
    pub fn spent(&self) -> Money {
        self.reservations.values().filter_map(|reservation| reservation.cost).fold(Money::ZERO, Money::saturating_add)
    }
}
