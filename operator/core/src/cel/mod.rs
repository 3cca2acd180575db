//! CEL expressions that users write, fenced.
//!
//! The language is the standard one of the `cel` crate (<https://cel.dev>) without optionals,
//! messages, durations and timestamps. Its interpreter has no limit of its own: a sum of some
//! thousand terms ends a small stack, and nested `all` takes exponential time. Here
//!
//! - [`Expression::parse`] bounds the text, the nesting of comprehensions and the names it may use,
//! - a meter counts the work of one evaluation, the same on every machine, up to [`COST_LIMIT`],
//! - [`Fence`] evaluates on threads with a large stack and a time limit.
//!
//! A JSON integer is an `int`, any other JSON number a `double`, and CEL mixes the two in comparisons
//! but not in arithmetic: write `double(task.parameters.amount) * 1.5`. Going through a map gives its
//! keys in order.

mod analysis;
mod expression;
mod failure;
mod fence;
mod instrument;
mod meter;
mod path;
mod values;
mod vocabulary;
mod worker;

#[cfg(test)]
mod attacks;

pub use expression::{Expression, MAX_CHARS, MAX_COMPREHENSION_DEPTH, ParseError};
pub use fence::{DEFAULT_LIMIT, EvalError, Fence};
pub use meter::COST_LIMIT;
pub use path::Path;
pub use values::Variables;
pub use vocabulary::Vocabulary;
