//! How one binding differs from another, in words that a person reads.

use std::collections::BTreeSet;
use std::fmt;

use countersign_crds::Difference;
use serde_json::Value;

use crate::escape::{excerpt, shown};

/// How many differences are listed.
const DIFFERENCES: usize = 32;
/// How many characters of a value are shown in a line of its own.
const LINE_CHARS: usize = 64;
/// How many of a member's path.
const FIELD_CHARS: usize = 250;
/// The members that another run has others of, or may have: they say nothing about what is done.
const OF_ONE_RUN: [&str; 5] = ["version", "task", "run", "workspace", "rules"];

/// Member by member.
pub(super) fn all(before: &Value, now: &Value) -> Vec<Difference> {
    differing(before, now, &[])
}

/// Member by member, without those that every run has its own of.
pub(super) fn between_runs(before: &Value, now: &Value) -> Vec<Difference> {
    let mut found = differing(before, now, &OF_ONE_RUN);
    found.retain(|difference| difference.field != "payment.id");
    found
}

fn differing(before: &Value, now: &Value, but: &[&str]) -> Vec<Difference> {
    let (Value::Object(before), Value::Object(now)) = (before, now) else { return Vec::new() };
    let mut found = Vec::new();
    let members: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for member in members.into_iter().filter(|member| !but.contains(&member.as_str())) {
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
    // Whole and as it is: whoever shows it escapes it, and cuts it then.
    let text = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(Value::to_string);
    found.push(Difference { field: field.to_owned(), before: text(before), now: text(now) });
}

/// A difference in one line: `ask.required: 1 -> 2`.
pub struct Changed<'a>(pub &'a Difference);

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { field, before, now } = self.0;
        let line = |text: &str| excerpt(&shown(text), LINE_CHARS);
        let text = |value: &Option<String>| value.as_deref().map_or("none".into(), line);
        write!(f, "{}: {} -> {}", excerpt(&shown(field), FIELD_CHARS), text(before), text(now))
    }
}

/// Each difference in one line.
pub fn difference_texts(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(|difference| Changed(difference).to_string()).collect()
}
