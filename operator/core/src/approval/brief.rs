//! What a careful person is shown beside the input: how it differs from what was approved before.

use std::collections::BTreeSet;

use countersign_crds::Difference;
use serde_json::Value;

/// How many differences are listed.
const DIFFERENCES: usize = 32;

/// The members that an approval is of and that a reader can compare: everything but what differs in every run.
const COMPARED: [&str; 6] = ["step", "input", "skill", "image", "runner", "requester"];

/// How what would run differs from what ran, member by member.
pub fn differences(before: &Value, now: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    for member in COMPARED {
        compare(member, before.get(member), now.get(member), &mut found);
    }
    found.truncate(DIFFERENCES);
    found
}

fn compare(field: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<Difference>) {
    if before == now || found.len() >= DIFFERENCES {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(now))) = (before, now) {
        let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for name in names {
            compare(&format!("{field}.{name}"), before.get(name), now.get(name), found);
        }
        return;
    }
    let text = |value: Option<&Value>| value.map(Value::to_string);
    found.push(Difference { field: field.to_owned(), before: text(before), now: text(now) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_innermost_member() {
        let before = json!({"attempt": 1, "policies": "a", "input": {"to": "x", "amount": 5, "old": true}});
        let now = json!({"attempt": 2, "policies": "b", "input": {"to": "x", "amount": 7, "new": [1]}});
        let found = differences(&before, &now);
        let lines: Vec<_> = found.iter().map(|d| (d.field.as_str(), d.before.as_deref(), d.now.as_deref())).collect();
        assert_eq!(
            lines,
            [
                ("input.amount", Some("5"), Some("7")),
                ("input.new", None, Some("[1]")),
                ("input.old", Some("true"), None)
            ]
        );
        assert_eq!(differences(&before, &before), []);
    }

    #[test]
    fn what_is_much_is_bounded() {
        let many = |n: u32| json!({"input": (0..100).map(|i| (format!("k{i}"), json!(i + n))).collect::<serde_json::Map<_, _>>()});
        assert_eq!(differences(&many(0), &many(1)).len(), DIFFERENCES);
    }
}
