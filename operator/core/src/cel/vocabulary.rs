//! Which variables an expression may use.

use std::collections::BTreeSet;
use std::fmt;

/// The root variables that an expression may refer to; shown as `task, step`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary(BTreeSet<String>);

impl Vocabulary {
    /// The vocabulary of these roots.
    pub fn new<N: Into<String>>(roots: impl IntoIterator<Item = N>) -> Self {
        Self(roots.into_iter().map(Into::into).collect())
    }

    /// Whether `name` is one of the roots.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

impl fmt::Display for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, root) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{root}")?;
        }
        Ok(())
    }
}
