//! Errors of the interpreter, as its user should read them.

use super::evaluator::EvalError;
use super::path::Path;
use super::values::Variables;
use cel::ExecutionError;
use serde_json::Value;
use std::collections::BTreeSet;

/// A result that JSON cannot carry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unrepresentable {
    #[error("the result {0} is beyond 2^53-1, where readers of JSON round; make it a string")]
    UnsafeInteger(String),
    #[error("the result is not a finite number")]
    NotFinite,
    #[error("the result has a key of type {0}; keys are strings")]
    Key(String),
    #[error("the result is of type {0}, which JSON does not have")]
    Type(String),
}

/// Says what went wrong without repeating values, which may be long or not for everyone.
pub(super) fn explain(error: &ExecutionError, references: &BTreeSet<Path>, variables: &Variables) -> EvalError {
    if let ExecutionError::UndeclaredReference(root) = error {
        return EvalError::Failed(format!("the variable {root} is not set here"));
    }
    if let ExecutionError::NoSuchKey(key) = error
        && let Some(missing) = missing_key(key, references, variables)
    {
        return missing;
    }
    EvalError::Failed(describe(error))
}

/// Finds which of the references ends at the key that is not there.
fn missing_key(key: &str, references: &BTreeSet<Path>, variables: &Variables) -> Option<EvalError> {
    references.iter().find_map(|path| {
        let segments = path.segments();
        let mut value = variables.get(path.root())?;
        for (above, segment) in segments.iter().enumerate().skip(1) {
            let Value::Object(members) = value else {
                return None;
            };
            match members.get(segment) {
                Some(member) => value = member,
                None if segment == key => {
                    return Some(EvalError::MissingKey {
                        at: Path::new(segments[..above].to_vec()),
                        key: key.to_owned(),
                        known: members.keys().cloned().collect(),
                    });
                }
                None => return None,
            }
        }
        None
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the errors of the crate are open; one that is not known here is shown as it is"
)]
fn describe(error: &ExecutionError) -> String {
    const LONGEST: usize = 300;
    match error {
        ExecutionError::NoSuchKey(key) => format!("no key {key:?}"),
        ExecutionError::NoSuchOverload(overload) => no_overload(overload.function(), overload.argument_types()),
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            no_overload(operator, &[type_name(left), type_name(right)])
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            let (left, right) = (type_name(left), type_name(right));
            format!("cannot compare {left} with {right}")
        }
        ExecutionError::UnexpectedType { got, want } => format!("expected {want}, got {got}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(..) => "a number grew beyond its range".to_owned(),
        ExecutionError::IndexOutOfBounds(cel::Value::Int(index)) => {
            format!("the list has no element {index}")
        }
        ExecutionError::UnsupportedIndex(index, value) => {
            format!("cannot index {} with {}", type_name(value), type_name(index))
        }
        ExecutionError::UnsupportedKeyType(value) => {
            format!("a {} cannot be a key", type_name(value))
        }
        ExecutionError::UnsupportedTargetType { target } => {
            format!("a {} cannot be used here", type_name(target))
        }
        ExecutionError::DuplicateKey(_) => "a key occurs twice in a map".to_owned(),
        ExecutionError::FunctionError { function, message } => {
            let words: Vec<_> = message.split_whitespace().collect();
            let message: String = words.join(" ").chars().take(LONGEST).collect();
            format!("{function}: {message}")
        }
        other => other.to_string().chars().take(LONGEST).collect(),
    }
}

fn no_overload(function: &str, types: &[String]) -> String {
    let operator = match function {
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        "@in" => "in",
        other => other.trim_matches('_'),
    };
    match (operator, types) {
        (".", [value, ..]) => format!("{value} has no fields"),
        ("[", [value, index]) | ("[_]", [value, index]) => format!("cannot index {value} with {index}"),
        (_, [left, right]) if left != right && is_number(left) && is_number(right) => {
            format!("cannot apply {operator} to {left} and {right}; convert one with int() or double()")
        }
        _ => format!("cannot apply {operator} to {}", types.join(" and ")),
    }
}

/// The name that the language has for the type; the crate calls a double a float.
fn type_name(value: &cel::Value) -> String {
    if matches!(value, cel::Value::Float(_)) { "double".to_owned() } else { value.type_of().to_string() }
}

fn is_number(name: &str) -> bool {
    matches!(name, "int" | "uint" | "double")
}
