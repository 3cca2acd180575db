//! Arithmetic on numbers of JSON.
//!
//! JSON has one kind of number, and what a step gave back may be 2.5 today and 3 tomorrow. So every number that comes
//! from JSON is a `double`, and where one meets an `int` or a `uint` of the expression itself the result is a `double`
//! too: `task.parameters.amount / 2` is 1.5 for 3. Two integers of the expression stay integers: `7 / 2` is 3.

use super::meter::{self, weight};
use cel::ExecutionError;
use cel::common::types::{CelDouble, CelInt, CelUInt};
use cel::common::value::{CowVal, Val};

type Result2<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// `x + y`, which also joins strings and lists and costs what is joined.
pub(super) fn add<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result2<'b, 'v> {
    apply(
        args,
        "_+_",
        |a, b| Some(a + b),
        |left, right| {
            if as_double(left).is_none() {
                meter::charge(weight(left).saturating_add(weight(right)))?;
            }
            owned(left.as_adder().map(|adder| adder.add(right)))
        },
    )
}

/// `x - y`.
pub(super) fn subtract<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result2<'b, 'v> {
    apply(args, "_-_", |a, b| Some(a - b), |left, right| owned(left.as_subtractor().map(|left| left.sub(right))))
}

/// `x * y`.
pub(super) fn multiply<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result2<'b, 'v> {
    apply(args, "_*_", |a, b| Some(a * b), |left, right| owned(left.as_multiplier().map(|left| left.mul(right))))
}

/// `x / y`; nothing is divided by zero, whatever its type.
pub(super) fn divide<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result2<'b, 'v> {
    apply(
        args,
        "_/_",
        |a, b| (b != 0.0).then(|| a / b),
        |left, right| owned(left.as_divider().map(|left| left.div(right))),
    )
}

/// `x % y`, with the sign of `x`, as between integers.
pub(super) fn modulo<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result2<'b, 'v> {
    apply(
        args,
        "_%_",
        |a, b| (b != 0.0).then(|| a % b),
        |left, right| owned(left.as_modder().map(|left| left.modulo(right))),
    )
}

/// With `doubles` where one of the two is a double and the other any number, and CEL's own rule elsewhere.
fn apply<'b, 'v>(
    mut args: Vec<CowVal<'b, 'v>>,
    operator: &str,
    doubles: impl FnOnce(f64, f64) -> Option<f64>,
    own: impl FnOnce(&(dyn Val + 'v), &(dyn Val + 'v)) -> Result<Option<Box<dyn Val + 'v>>, ExecutionError>,
) -> Result2<'b, 'v> {
    let (Some(right), Some(left)) = (args.pop(), args.pop()) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let (left, right) = (left.as_ref(), right.as_ref());
    let mixed = left.downcast_ref::<CelDouble>().is_some() || right.downcast_ref::<CelDouble>().is_some();
    if let (true, Some(a), Some(b)) = (mixed, as_double(left), as_double(right)) {
        let result = doubles(a, b).ok_or(ExecutionError::DivisionByZero(cel::Value::Float(a)))?;
        return Ok(CowVal::owned(CelDouble::from(result)));
    }
    match own(left, right)? {
        Some(result) => Ok(CowVal::Owned(result)),
        None => {
            let types = [left, right].map(|value| value.get_type().name().to_owned());
            Err(ExecutionError::no_such_overload(operator, types.to_vec()))
        }
    }
}

fn owned<'b, 'v>(result: Option<Result2<'b, 'v>>) -> Result<Option<Box<dyn Val + 'v>>, ExecutionError> {
    result.map(|result| result.map(CowVal::into_owned)).transpose()
}

fn as_double(value: &dyn Val) -> Option<f64> {
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        Some(*double.inner())
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        Some(*int.inner() as f64)
    } else {
        value.downcast_ref::<CelUInt>().map(|uint| *uint.inner() as f64)
    }
}
