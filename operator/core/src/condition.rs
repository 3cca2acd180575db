//! Conditions of a status, as Kubernetes has them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::escape::excerpt;
use crate::status::time;

/// How many characters a condition's message may have.
const MESSAGE_CHARS: usize = 1024;

/// A condition of an object of this generation. It has been so since the last of its type, among `last`, got its status:
/// another reason or message is no transition.
pub(crate) fn condition(
    now: Timestamp,
    generation: Option<i64>,
    last: &[Condition],
    (kind, status, reason): (&str, &str, &str),
    message: &str,
) -> Condition {
    let same = last.iter().find(|last| last.type_ == kind && last.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: excerpt(message, MESSAGE_CHARS),
        observed_generation: generation,
        last_transition_time: same.map_or(time(now), |same| same.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_status_is_a_transition() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let first = condition(at("2026-01-01T00:00:00.5Z"), Some(1), &[], ("Approved", "Unknown", "Pending"), "0 of 2");
        let before = [condition(at("2025-01-01T00:00:00Z"), Some(1), &[], ("Planned", "Unknown", "x"), ""), first];
        let now = at("2026-01-02T00:00:00Z");
        for (said, since) in [
            (("Approved", "Unknown", "Pending"), "2026-01-01T00:00:00Z"),
            (("Approved", "Unknown", "Other"), "2026-01-01T00:00:00Z"),
            (("Approved", "True", "Approved"), "2026-01-02T00:00:00Z"),
            (("Succeeded", "Unknown", "Pending"), "2026-01-02T00:00:00Z"),
        ] {
            let next = condition(now, Some(2), &before, said, "1 of 2");
            assert_eq!(next.last_transition_time.0, at(since), "{said:?}");
            assert_eq!((next.message.as_str(), next.observed_generation), ("1 of 2", Some(2)));
        }
    }
}
