//! CEL expressions that users write, evaluated within bounds.
//!
//! The language is the standard one of the `cel` crate (<https://cel.dev>) without optionals, messages, durations and
//! timestamps. Its interpreter has no limit of its own: a sum of some thousand terms ends a small stack, and nested
//! `all` takes exponential time. Here
//!
//! - [`Expression::parse`] bounds the text, the nesting of comprehensions and the names it may use,
//! - and refuses what its types show can never be evaluated, and patterns that take much memory,
//! - a meter counts the work of one evaluation, the same on every machine, up to [`COST_LIMIT`],
//! - [`CelEvaluator`] evaluates on threads with a large stack and a time limit, and lets no namespace keep the others waiting.
//!
//! Every JSON number is a `double`, whatever its value, and goes with the integers of the expression itself: see
//! [`arithmetic`]. Going through a map gives its keys in order.

mod analysis;
mod arithmetic;
mod check;
mod evaluator;
mod expression;
mod failure;
mod instrument;
mod meter;
mod path;
mod pattern;
mod turns;
mod types;
mod values;
mod vocabulary;
mod worker;

#[cfg(test)]
mod attacks;

pub use evaluator::{CelEvaluator, DEFAULT_LIMIT, EvalError};
pub use expression::{Expression, MAX_CHARS, MAX_COMPREHENSION_DEPTH, ParseError};
pub use meter::COST_LIMIT;
pub use path::Path;
pub(crate) use pattern::Pattern;
pub use pattern::{MAX_PATTERN_BYTES, MAX_PATTERN_LENGTH};
pub use types::Type;
pub(crate) use types::nearest;
pub use values::Variables;
pub use vocabulary::Vocabulary;
