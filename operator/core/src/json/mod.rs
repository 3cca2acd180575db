//! JSON as Countersign accepts it and as it hashes it.

pub mod canonical;
pub mod path;
pub mod strict;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Any JSON that the strict parser accepts, small.
    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9007199254740991_i64..=9007199254740991).prop_map(Value::from),
            (-1e15..1e15_f64).prop_map(|float| if float.fract() == 0.0 { json!(float as i64) } else { json!(float) }),
            "[^\\x00]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[^\\x00]{0,6}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
