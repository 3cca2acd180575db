//! Member paths that can be read off an expression without evaluating it.

use crate::json::path::is_identifier;
use std::fmt;

/// A root variable and the members selected from it by name, shown as `steps.check.output` or
/// `steps["a-b"].output`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<String>);

impl Path {
    pub(super) fn new(segments: Vec<String>) -> Self {
        debug_assert!(!segments.is_empty(), "a path has a root");
        Self(segments)
    }

    /// The root variable.
    pub fn root(&self) -> &str {
        &self.0[0]
    }

    /// The root variable and the members, outermost first.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The segments as `&str`, for matching: `["steps", name, "output", ..]`.
    pub fn as_strs(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// Whether `self` is `prefix` or lies below it.
    pub fn starts_with<S: AsRef<str>>(&self, prefix: &[S]) -> bool {
        self.0.len() >= prefix.len() && self.0.iter().zip(prefix).all(|(a, b)| a == b.as_ref())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[0])?;
        for member in &self.0[1..] {
            if is_identifier(member) {
                write!(f, ".{member}")?;
            } else {
                write!(f, "[{member:?}]")?;
            }
        }
        Ok(())
    }
}
