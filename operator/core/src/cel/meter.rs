//! The work that one evaluation may do, counted.
//!
//! The count depends on the expression and the variables alone, so that a judgement that was made
//! once comes out the same when it is made again on a slower machine.

use super::{arithmetic, pattern};
use cel::common::types::{CelBytes, CelList, CelMap, CelString, CelUInt, DYN_TYPE, UINT_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};
use std::cell::RefCell;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// The most that one evaluation may cost: some 100,000 steps of a comprehension. A byte copied costs
/// 1, a byte searched or compared a quarter of it, a node evaluated for an element of a list 64; so this is also
/// about the memory that it can take. It is reached in less than [`super::DEFAULT_LIMIT`] on a
/// machine that is not overloaded.
pub const COST_LIMIT: u64 = 32 << 20;

/// About the time of evaluating one node, in the time of copying bytes.
const NODE_COST: u64 = 64;

pub(super) const ADD: &str = "@add";
pub(super) const DIVIDE: &str = "@divide";
pub(super) const MATCHES: &str = "@matches";
pub(super) const MODULO: &str = "@modulo";
pub(super) const MULTIPLY: &str = "@multiply";
pub(super) const RANGE: &str = "@range";
pub(super) const SCAN: &str = "@scan";
pub(super) const SUBTRACT: &str = "@subtract";
pub(super) const TICK: &str = "@tick";
pub(super) const WEIGH: &str = "@weigh";

/// Why an evaluation was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Cost,
    Time,
}

struct Meter {
    left: u64,
    deadline: Option<Instant>,
    stop: Option<Stop>,
}

thread_local! {
    static METER: RefCell<Meter> = const {
        RefCell::new(Meter { left: 0, deadline: None, stop: None })
    };
}

/// Starts the count of this thread anew.
pub(super) fn start(cost_limit: u64, deadline: Instant) {
    METER.set(Meter { left: cost_limit, deadline: Some(deadline), stop: None });
}

/// Why the evaluation was stopped, if it was. CEL lets `||` forget an error, so that this is to be
/// asked even when there is a result.
pub(super) fn stopped() -> Option<Stop> {
    METER.with_borrow(|meter| meter.stop)
}

/// Takes `cost` from what is left.
pub(super) fn charge(cost: u64) -> Result<(), ExecutionError> {
    METER.with_borrow_mut(|meter| {
        if meter.stop.is_none() {
            match meter.left.checked_sub(cost) {
                None => meter.stop = Some(Stop::Cost),
                Some(left) => meter.left = left,
            }
            if meter.deadline.is_some_and(|at| Instant::now() > at) {
                meter.stop.get_or_insert(Stop::Time);
            }
        }
        match meter.stop {
            None => Ok(()),
            Some(_) => Err(ExecutionError::function_error("@meter", "stopped")),
        }
    })
}

/// The standard environment and the functions that [`super::instrument`] puts into expressions.
pub(super) fn environment() -> Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::stdlib().with_optional_support(false);
        for (name, arguments, function) in [
            (TICK, vec![UINT_TYPE, DYN_TYPE], tick as cel::common::functions::Function),
            (WEIGH, vec![DYN_TYPE], weigh),
            (SCAN, vec![DYN_TYPE], scan),
            (RANGE, vec![DYN_TYPE], range),
            (ADD, vec![DYN_TYPE, DYN_TYPE], arithmetic::add),
            (SUBTRACT, vec![DYN_TYPE, DYN_TYPE], arithmetic::subtract),
            (MULTIPLY, vec![DYN_TYPE, DYN_TYPE], arithmetic::multiply),
            (DIVIDE, vec![DYN_TYPE, DYN_TYPE], arithmetic::divide),
            (MODULO, vec![DYN_TYPE, DYN_TYPE], arithmetic::modulo),
            (MATCHES, vec![DYN_TYPE, DYN_TYPE], pattern::matches),
        ] {
            if let Err(conflict) = env.add_overload(name, name, arguments, function) {
                unreachable!("no identifier of CEL starts with @: {conflict}");
            }
        }
        Arc::new(env)
    });
    Arc::clone(&ENVIRONMENT)
}

/// `@tick(nodes, x)` is `x`, and costs what evaluating that many nodes does.
fn tick<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = args.pop().ok_or_else(missing)?;
    let nodes =
        args.pop().and_then(|nodes| nodes.downcast_ref::<CelUInt>().map(|nodes| *nodes.inner())).ok_or_else(missing)?;
    charge(nodes.saturating_mul(NODE_COST))?;
    Ok(value)
}

/// `@weigh(x)` is `x`, and costs its size: it is about to be copied.
fn weigh<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = args.pop().ok_or_else(missing)?;
    charge(weight(value.as_ref()))?;
    Ok(value)
}

/// `@scan(x)` is `x`, and costs what reading through it does: it is about to be searched or compared.
fn scan<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = args.pop().ok_or_else(missing)?;
    charge(weight(value.as_ref()) / 4)?;
    Ok(value)
}

/// `@range(x)` is `x`, or the keys of the map `x` in order, where CEL leaves the order open: a list
/// made from them must come out the same every time, for it is hashed.
fn range<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = weigh(args)?;
    let Some(map) = value.downcast_ref::<CelMap>() else {
        return Ok(value);
    };
    let mut keys: Vec<_> = map.inner().keys().collect();
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}

fn missing() -> ExecutionError {
    ExecutionError::missing_argument_or_target()
}

/// About the bytes that a value takes.
pub(super) fn weight(value: &dyn Val) -> u64 {
    const CELL: u64 = 48;
    if let Some(text) = value.downcast_ref::<CelString>() {
        CELL + text.inner().len() as u64
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        CELL + bytes.inner().len() as u64
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        CELL + list.inner().iter().map(|item| weight(item.as_ref())).sum::<u64>()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        CELL + map.inner().iter().map(|(key, value)| weight(key.inner()) + weight(value.as_ref())).sum::<u64>()
    } else if let Some(items) = value.as_iterable() {
        let mut items = items.iter();
        let mut total = CELL;
        while let Some(item) = items.next() {
            total += weight(item);
        }
        total
    } else {
        CELL
    }
}
