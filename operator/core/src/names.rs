//! Deterministic names, so that making a thing twice is seen as a conflict.

use crate::digest::Digest;

/// The key of an attempt and the name of its Job, Secret and pod: at most 63 characters.
pub fn attempt_key(task_uid: &str, task: &str, step: &str, number: u32) -> String {
    let hash = Digest::of_bytes(format!("attempt\n{task_uid}\n{step}\n{number}"));
    format!("{}-{}-{number}-{}", label(task), label(step), &hash.hex()[..10])
}

/// The name of a step's `round`th Approval. The digest alone would not do: what was edited and then edited
/// back has the digest of an Approval that is void.
pub fn approval(task_uid: &str, task: &str, step: &str, round: usize, digest: &Digest) -> String {
    let hash = Digest::of_bytes(format!("approval\n{task_uid}\n{step}\n{round}\n{digest}"));
    format!("{}-{}-{round}-{}", label(task), label(step), &hash.hex()[..10])
}

/// The name of a Task's Plan snapshot.
pub fn plan(task_uid: &str, task: &str) -> String {
    let hash = Digest::of_bytes(format!("plan\n{task_uid}"));
    format!("{}-{}", label(task), &hash.hex()[..10])
}

/// Whether a name can be the value of a label: at most 63 letters, digits, `-`, `_` and `.`, the first and the last of
/// them a letter or digit (Kubernetes' `IsValidLabelValue`, but for the empty one).
pub fn is_label(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let mut inside = name.chars();
    name.len() <= 63
        && ends(name.chars().next())
        && ends(name.chars().next_back())
        && inside.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// As much of a name as fits a DNS label beside the rest.
fn label(name: &str) -> String {
    let short: String =
        name.chars().take(20).map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    short.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_begins_and_ends_with_a_letter_or_digit() {
        for (name, fits) in [
            ("a", true),
            ("sum_2", true),
            ("a-b.c", true),
            ("sum_", false),
            ("_sum", false),
            ("", false),
            ("é", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_label(name), fits, "{name}");
        }
    }

    #[test]
    fn keys_are_dns_labels_and_differ() {
        let long = "a".repeat(200);
        let keys = [
            attempt_key("u1", &long, "check_balance", 1),
            attempt_key("u1", &long, "check_balance", 2),
            attempt_key("u2", &long, "check_balance", 1),
            attempt_key("u1", "wallet.v2", "check_balance_and_more_of_it", 100),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(key.len() <= 63, "{key} is too long");
            assert!(key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{key}");
            assert!(key.starts_with(|c: char| c.is_ascii_lowercase()), "{key}");
            assert!(keys.iter().skip(i + 1).all(|other| other != key), "{key} twice");
        }
    }
}
