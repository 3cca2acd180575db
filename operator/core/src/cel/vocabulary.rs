//! Which variables an expression may use, and of which type they are.

use super::types::Type;
use super::values::Variables;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The root variables that an expression may refer to, each with its type; shown as `task, step`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    roots: BTreeMap<String, Type>,
    /// Tells vocabularies apart where an expression is kept.
    id: u64,
}

impl Vocabulary {
    /// The vocabulary of these roots, which may hold anything.
    pub fn new<N: Into<String>>(roots: impl IntoIterator<Item = N>) -> Self {
        Self::typed(roots.into_iter().map(|root| (root, Type::Any)))
    }

    /// The vocabulary of these roots, which hold what is said of them.
    pub fn typed<N: Into<String>>(roots: impl IntoIterator<Item = (N, Type)>) -> Self {
        let roots: BTreeMap<String, Type> = roots.into_iter().map(|(root, holds)| (root.into(), holds)).collect();
        let mut hasher = DefaultHasher::new();
        format!("{roots:?}").hash(&mut hasher);
        Self { roots, id: hasher.finish() }
    }

    /// Whether `name` is one of the roots.
    pub fn contains(&self, name: &str) -> bool {
        self.roots.contains_key(name)
    }

    /// What a root holds; `None` where there is no such root.
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.roots.get(name)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The roots that are not set, or not to what they are said to hold.
    pub(crate) fn misfits<'v>(&'v self, variables: &Variables) -> Vec<&'v str> {
        let fits = |(root, holds): &(&String, &Type)| variables.get(root).is_some_and(|value| holds.holds(value));
        self.roots.iter().filter(|root| !fits(root)).map(|(root, _)| root.as_str()).collect()
    }
}

impl fmt::Display for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, root) in self.roots.keys().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{root}")?;
        }
        Ok(())
    }
}
