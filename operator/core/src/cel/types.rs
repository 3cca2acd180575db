//! The types that an expression is checked against before it is admitted.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What is known of a value before it is there. JSON has one kind of number, and so has this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Anything; whether it fits is seen when it is evaluated.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// An integer or a number with a fraction.
    Number,
    /// A string.
    Text,
    /// Bytes, such as `b'abc'`, which JSON has no form for.
    Bytes,
    /// The type of a value, which `type(x)` gives.
    TypeName,
    /// A list of values of one type.
    List(Arc<Type>),
    /// A map whose keys the user chose, to values of one type.
    Map(Arc<Type>),
    /// A map with these members and no other.
    Object(Arc<BTreeMap<String, Type>>),
    /// Null, or a value of this type.
    Nullable(Arc<Type>),
}

impl Type {
    /// A map with these members and no other.
    pub fn object<const N: usize>(members: [(&str, Type); N]) -> Type {
        Type::Object(Arc::new(members.into_iter().map(|(name, holds)| (name.to_owned(), holds)).collect()))
    }

    /// A list of these.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    /// A map to these.
    pub fn map(of: Type) -> Type {
        Type::Map(Arc::new(of))
    }

    /// This, or null.
    #[must_use]
    pub fn or_null(self) -> Type {
        Type::Nullable(Arc::new(self))
    }

    /// Whether a value is of this type, with every member that it has and no other.
    pub(crate) fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Type::Any, _)
            | (Type::Null | Type::Nullable(_), Value::Null)
            | (Type::Bool, Value::Bool(_))
            | (Type::Number, Value::Number(_))
            | (Type::Text, Value::String(_)) => true,
            (Type::Nullable(inner), value) => inner.holds(value),
            (Type::List(of), Value::Array(items)) => items.iter().all(|item| of.holds(item)),
            (Type::Map(of), Value::Object(members)) => members.values().all(|member| of.holds(member)),
            (Type::Object(known), Value::Object(members)) => {
                let right =
                    |(name, holds): (&String, &Type)| members.get(name).is_some_and(|member| holds.holds(member));
                known.len() == members.len() && known.iter().all(right)
            }
            _ => false,
        }
    }

    /// What it is where it is not null.
    pub(super) fn present(&self) -> &Type {
        match self {
            Type::Nullable(inner) => inner.present(),
            Type::Any
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text
            | Type::Bytes
            | Type::TypeName
            | Type::List(_)
            | Type::Map(_)
            | Type::Object(_) => self,
        }
    }

    /// Whether a value of this type can be one of `other`.
    pub(super) fn meets(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Any, _) | (_, Type::Any) => true,
            (Type::Null, Type::Nullable(_)) | (Type::Nullable(_), Type::Null) => true,
            (Type::Nullable(inner), other) | (other, Type::Nullable(inner)) => inner.meets(other),
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.meets(b),
            (Type::Object(_), Type::Map(_)) | (Type::Map(_), Type::Object(_)) => true,
            (a, b) => a == b,
        }
    }

    /// The type of what may be one or the other.
    pub(super) fn or(&self, other: &Type) -> Type {
        match (self, other) {
            (a, b) if a == b => a.clone(),
            (Type::Null, Type::Nullable(_)) => other.clone(),
            (Type::Null, held) | (held, Type::Null) if *held != Type::Any => held.present().clone().or_null(),
            (Type::List(a), Type::List(b)) => Type::list(a.or(b)),
            (Type::Nullable(a), b) | (b, Type::Nullable(a)) if **a == *b => b.clone().or_null(),
            _ => Type::Any,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Any => "anything",
            Type::Null => "null",
            Type::Bool => "true or false",
            Type::Number => "a number",
            Type::Text => "a string",
            Type::Bytes => "bytes",
            Type::TypeName => "a type",
            Type::List(_) => "a list",
            Type::Map(_) | Type::Object(_) => "a map",
            Type::Nullable(inner) => return write!(f, "{inner} or null"),
        })
    }
}

/// The name among `known` that was probably meant: the nearest by edits, at most a third of its letters away.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |candidate: &str| edits(&name.to_lowercase(), &candidate.to_lowercase());
    let far = (name.chars().count() / 3).max(1);
    let nearest = known.into_iter().map(|candidate| (distance(candidate), candidate)).min()?;
    (nearest.0 <= far).then_some(nearest.1)
}

/// How many letters are to be put in, left out, changed, or swapped with the next (Damerau 1964, restricted).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_a_type_with_its_members_and_no_other() {
        use serde_json::json;
        let object = Type::object([("a", Type::Text), ("b", Type::list(Type::Number).or_null())]);
        for (value, held) in [
            (json!({"a": "x", "b": [1, 2.5]}), true),
            (json!({"a": "x", "b": null}), true),
            (json!({"a": "x"}), false),
            (json!({"a": "x", "b": null, "c": 1}), false),
            (json!({"a": "x", "b": ["y"]}), false),
            (json!(null), false),
        ] {
            assert_eq!(object.holds(&value), held, "{value}");
        }
    }

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = ["name", "namespace", "type", "parameters"];
        for (written, meant) in [
            ("namespac", Some("namespace")),
            ("nmae", Some("name")),
            ("Type", Some("type")),
            ("paramters", Some("parameters")),
            ("x", None),
            ("owner", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
        assert_eq!(nearest("a", []), None);
    }
}
