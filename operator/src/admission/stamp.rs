//! Turns `spec.approved` and `spec.reason` into a decision that carries the identity of whoever sent them.

use countersign_crds::{Approval, ApprovalSpec, Decision};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::review::Refusal;

/// How many groups of a signer are kept; a decision must stay readable.
const GROUPS: usize = 64;

/// A new Approval: only the operator makes them, and none is made with a decision in it.
pub fn check_new(user: &UserInfo, service_account: &str, new: &ApprovalSpec) -> Result<(), Refusal> {
    if user.username.as_deref() != Some(service_account) {
        return Err(Refusal::forbidden("only the operator creates Approvals; create a Task instead"));
    }
    if new.approved.is_some() || new.reason.is_some() || !new.decisions.is_empty() {
        return Err(Refusal::forbidden("spec: an Approval begins without approved, reason and decisions"));
    }
    Ok(())
}

/// The spec to store in place of `new`. Whatever the client put into `decisions` is replaced by what was
/// there, plus at most one entry, its own.
pub fn stamp(now: Timestamp, user: &UserInfo, old: &Approval, new: &ApprovalSpec) -> Result<ApprovalSpec, Refusal> {
    let ApprovalSpec {
        task_ref: _,
        step: _,
        attempt: _,
        digest,
        subject,
        expires_at,
        approved: _,
        reason: _,
        decisions,
    } = &old.spec;
    if new.subject != *subject {
        return Err(Refusal::invalid("spec.subject: is immutable; it is what the signature is for"));
    }
    let mut stamped = new.clone();
    stamped.decisions.clone_from(decisions);
    stamped.approved = None;
    stamped.reason = None;
    let Some(approved) = new.approved else {
        return match &new.reason {
            None => Ok(stamped),
            Some(_) => Err(Refusal::invalid("spec.reason: goes with spec.approved; set both in one patch")),
        };
    };
    if let Some(first) = decisions.first() {
        let verb = if first.approved { "approved" } else { "rejected" };
        let user = &first.user;
        return Err(Refusal::invalid(&format!("spec.approved: {user} {verb} it already, and that is final")));
    }
    if now >= expires_at.0 {
        return Err(Refusal::invalid(&format!(
            "spec.approved: it expired at {}; nothing can be signed any more",
            expires_at.0
        )));
    }
    if let Some(reason) = closed(old) {
        return Err(Refusal::invalid(&format!("spec.approved: it is {reason}; nothing can be signed any more")));
    }
    let Some(username) = user.username.clone().filter(|name| !name.is_empty()) else {
        return Err(Refusal::forbidden("the request has no user"));
    };
    stamped.decisions.push(Decision {
        user: username,
        uid: user.uid.clone().filter(|uid| !uid.is_empty()),
        groups: user.groups.iter().flatten().take(GROUPS).cloned().collect(),
        approved,
        reason: new.reason.clone(),
        at: Time(now),
        digest: digest.clone(),
    });
    Ok(stamped)
}

/// The state of an Approval that takes no signature any more.
fn closed(approval: &Approval) -> Option<&str> {
    let status = approval.status.as_ref()?;
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Approved")?;
    (condition.reason != "Pending").then_some(condition.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_crds::{ApprovalStatus, EffectClass, OwnedReference, RiskClass, Subject};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn old() -> Approval {
        let spec = ApprovalSpec {
            task_ref: OwnedReference { name: "t".into(), uid: "u".into() },
            step: "s".into(),
            attempt: 1,
            digest: format!("sha256:{}", "a".repeat(64)),
            subject: Subject {
                skill: "k".into(),
                effect: EffectClass::Read,
                risk: RiskClass::Low,
                input: serde_json::Map::new(),
                image: "i".into(),
                rules: Vec::new(),
            },
            expires_at: Time(at("2026-01-02T00:00:00Z")),
            approved: None,
            reason: None,
            decisions: Vec::new(),
        };
        Approval::new("a", spec)
    }

    fn user(name: &str) -> UserInfo {
        let groups = Some(vec!["approvers".to_owned(), "system:authenticated".to_owned()]);
        UserInfo { username: Some(name.to_owned()), groups, ..UserInfo::default() }
    }

    fn signed(approved: bool) -> ApprovalSpec {
        ApprovalSpec { approved: Some(approved), reason: Some("because".into()), ..old().spec }
    }

    fn forged() -> Decision {
        Decision {
            user: "boss".into(),
            uid: None,
            groups: Vec::new(),
            approved: true,
            reason: None,
            at: Time(at("2026-01-01T00:00:00Z")),
            digest: old().spec.digest,
        }
    }

    const NOW: &str = "2026-01-01T12:00:00Z";

    #[test]
    fn a_signature_carries_the_identity_of_the_request() {
        for (name, approved) in [("alice", true), ("bob", false), ("аlice — Кирилл", true)] {
            let spec = stamp(at(NOW), &user(name), &old(), &signed(approved)).unwrap();
            let [decision] = spec.decisions.as_slice() else { panic!("{:?}", spec.decisions) };
            assert_eq!((decision.user.as_str(), decision.approved), (name, approved));
            assert_eq!(decision.digest, old().spec.digest);
            assert_eq!((spec.approved, spec.reason), (None, None));
        }
    }

    #[test]
    fn what_the_client_puts_into_decisions_counts_for_nothing() {
        let unsigned = ApprovalSpec { decisions: vec![forged()], ..old().spec };
        assert_eq!(stamp(at(NOW), &user("mallory"), &old(), &unsigned).unwrap().decisions, Vec::new());
        let both = ApprovalSpec { decisions: vec![forged(), forged()], ..signed(true) };
        let decisions = stamp(at(NOW), &user("mallory"), &old(), &both).unwrap().decisions;
        assert_eq!(decisions.iter().map(|d| d.user.as_str()).collect::<Vec<_>>(), ["mallory"]);
    }

    #[test]
    fn a_decision_can_be_neither_edited_nor_dropped_nor_followed() {
        let mut decided = old();
        decided.spec.decisions = vec![forged()];
        let mut edited = decided.spec.clone();
        edited.decisions[0].approved = false;
        assert_eq!(stamp(at(NOW), &user("m"), &decided, &edited).unwrap().decisions, [forged()]);
        let dropped = ApprovalSpec { decisions: Vec::new(), ..decided.spec.clone() };
        assert_eq!(stamp(at(NOW), &user("m"), &decided, &dropped).unwrap().decisions, [forged()]);
        let refusal = stamp(at(NOW), &user("m"), &decided, &signed(false)).unwrap_err();
        assert!(refusal.message.contains("boss approved it already"), "{}", refusal.message);
    }

    #[test]
    fn nothing_is_signed_too_late_or_when_it_is_over() {
        let refusal = stamp(at("2026-01-02T00:00:00Z"), &user("a"), &old(), &signed(true)).unwrap_err();
        assert!(refusal.message.contains("expired at 2026-01-02"), "{}", refusal.message);
        for reason in ["Rejected", "Expired", "Superseded", "Consumed", "Withdrawn", "Approved"] {
            let mut over = old();
            let condition = Condition {
                type_: "Approved".into(),
                status: "False".into(),
                reason: reason.into(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: Time(at(NOW)),
            };
            over.status = Some(ApprovalStatus { observed_generation: None, conditions: vec![condition] });
            let refusal = stamp(at(NOW), &user("a"), &over, &signed(true)).unwrap_err();
            assert!(refusal.message.contains(reason), "{}", refusal.message);
        }
    }

    #[test]
    fn the_subject_is_immutable_and_a_reason_alone_is_refused() {
        let mut other = signed(true);
        other.subject.image = "evil".into();
        assert!(stamp(at(NOW), &user("a"), &old(), &other).is_err());
        let reason = ApprovalSpec { reason: Some("why".into()), ..old().spec };
        assert!(stamp(at(NOW), &user("a"), &old(), &reason).is_err());
    }

    #[test]
    fn only_the_operator_makes_approvals_and_only_undecided_ones() {
        assert!(check_new(&user("op"), "op", &old().spec).is_ok());
        assert!(check_new(&user("alice"), "op", &old().spec).is_err());
        assert!(check_new(&user("op"), "op", &signed(true)).is_err());
        let ready_made = ApprovalSpec { decisions: vec![forged()], ..old().spec };
        assert!(check_new(&user("op"), "op", &ready_made).is_err());
    }
}
