//! Turns `spec.approved` and `spec.reason` into a decision that carries the identity of whoever sent them.

use countersign_core::approval::{Answer, Refused, Seal, Signer, Terms, may_sign};
use countersign_core::escape::escaped;
use countersign_crds::{Approval, ApprovalSpec, Signature};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::requester;
use super::review::Refusal;

/// As many as the schema holds.
const REASON_CHARS: usize = 1024;
/// How many decisions the schema holds.
const DECISIONS: usize = 32;

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

/// An Approval as it is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    pub spec: ApprovalSpec,
    /// Whether a decision was added; whoever gave it must be allowed to.
    pub signed: bool,
}

/// What to store in place of `new`. Whatever the client put into `decisions` is replaced by what was there, plus
/// at most one entry, its own.
pub fn stamp(
    now: Timestamp,
    user: &UserInfo,
    old: &Approval,
    new: &ApprovalSpec,
    seal: &Seal,
) -> Result<Stamped, Refusal> {
    // Free JSON, which the API server's own rules cannot see into.
    if new.subject != old.spec.subject || new.covers != old.spec.covers {
        return Err(Refusal::invalid("spec.subject, spec.covers: are immutable; they are what the signature is for"));
    }
    let mut spec = new.clone();
    spec.decisions.clone_from(&old.spec.decisions);
    spec.approved = None;
    spec.reason = None;
    let Some(approved) = new.approved else {
        return match &new.reason {
            None => Ok(Stamped { spec, signed: false }),
            Some(_) => Err(Refusal::invalid("spec.reason: goes with spec.approved; set both in one patch")),
        };
    };
    let now = in_seconds(now);
    let reason = checked(new.reason.as_deref())?;
    let Some(username) = user.username.as_deref().filter(|name| !name.is_empty()) else {
        return Err(Refusal::forbidden("the request has no user"));
    };
    requester::readable(user)?;
    let uid = old.uid().unwrap_or_default();
    let seen = seal.sealed(&uid, &old.spec.decisions);
    let groups = user.groups.clone().unwrap_or_default();
    let signer = Signer { user: username, groups: &groups };
    match may_sign(now, &Terms::of(&old.spec), closed(old), &seen, signer, approved) {
        Ok(Answer::AlreadySaid) => return Ok(Stamped { spec, signed: false }),
        Ok(Answer::Append) if approved && old.spec.decisions.len() + 1 >= DECISIONS => {
            let message = format!(
                "spec.decisions: holds {} entries and keeps its last place for a no; delete this Approval, and the operator makes it anew with what was recorded",
                DECISIONS - 1
            );
            return Err(Refusal::invalid(&message));
        }
        Ok(Answer::Append) => {}
        Err(refused) => return Err(refusal(&refused)),
    }
    let decision = Signature {
        user: username.to_owned(),
        uid: user.uid.clone().filter(|uid| !uid.is_empty()),
        // Those that count: the others say nothing of this Approval, and may be very many.
        groups: old.spec.required.groups.iter().filter(|group| groups.contains(group)).cloned().collect(),
        approved,
        reason,
        at: Time(now),
        digest: old.spec.digest.clone(),
        seal: String::new(),
    };
    let sealed = seal.seal(&uid, decision).map_err(|error| Refusal::invalid(&format!("spec.reason: {error}")))?;
    spec.decisions.push(sealed);
    Ok(Stamped { spec, signed: true })
}

fn refusal(refused: &Refused) -> Refusal {
    let message = format!("spec.approved: {refused}");
    match refused {
        Refused::Requester(_) | Refused::BehindRequester(_) | Refused::ServiceAccount(_) | Refused::OtherGroups(_) => {
            Refusal::forbidden(&message)
        }
        Refused::Expired(_) | Refused::Closed(_) | Refused::Rejected(_) | Refused::Enough(_) => {
            Refusal::invalid(&message)
        }
    }
}

fn checked(reason: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(reason) = reason else { return Ok(None) };
    // Others read it before they sign.
    let reason = escaped(reason);
    let chars = reason.chars().count();
    if chars > REASON_CHARS {
        let message = format!(
            "spec.reason: {chars} characters, with what hides spelt out; at most {REASON_CHARS}, so say it in fewer words"
        );
        return Err(Refusal::invalid(&message));
    }
    Ok(Some(reason))
}

/// As the API server keeps times, so that the seal is of what is read back.
fn in_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
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
    use countersign_crds::{
        ApprovalScope, ApprovalStatus, EffectClass, Identity, OwnedReference, Required, RiskClass, Subject,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn seal() -> Seal {
        Seal::from_secret(&[7; 32]).unwrap()
    }

    fn old() -> Approval {
        let spec = ApprovalSpec {
            task_ref: OwnedReference { name: "t".into(), uid: "u".into() },
            step: "s".into(),
            attempt: 1,
            digest: format!("sha256:{}", "a".repeat(64)),
            requester: Identity { user: "dave".into(), uid: None, groups: Vec::new() },
            on_behalf_of: None,
            risk: RiskClass::Low,
            scope: ApprovalScope::Step,
            subject: Subject {
                skill: "k".into(),
                effect: EffectClass::Read,
                input: serde_json::Map::new(),
                image: "i".into(),
                command: None,
                program: None,
                egress: Vec::new(),
                payment: None,
                cost_ceiling: None,
                rules: Vec::new(),
                earlier: Vec::new(),
                since_last_approved: None,
            },
            covers: Vec::new(),
            required: Required { count: 2, groups: Vec::new(), service_accounts: Vec::new(), excluded: Vec::new() },
            expires_at: Time(at("2026-01-02T00:00:00Z")),
            approved: None,
            reason: None,
            decisions: Vec::new(),
        };
        let mut approval = Approval::new("a", spec);
        approval.metadata.uid = Some("approval-uid".into());
        approval
    }

    fn user(name: &str) -> UserInfo {
        let groups = Some(vec!["approvers".to_owned(), "system:authenticated".to_owned()]);
        UserInfo { username: Some(name.to_owned()), groups, ..UserInfo::default() }
    }

    fn signed(approved: bool) -> ApprovalSpec {
        ApprovalSpec { approved: Some(approved), reason: Some("because".into()), ..old().spec }
    }

    /// Written by hand, without a seal that holds.
    fn forged() -> Signature {
        Signature {
            user: "boss".into(),
            uid: None,
            groups: Vec::new(),
            approved: true,
            reason: None,
            at: Time(at("2026-01-01T00:00:00Z")),
            digest: old().spec.digest,
            seal: "AAAA".into(),
        }
    }

    #[test]
    fn a_signature_keeps_the_groups_that_count_however_many_there_are() {
        let mut of_treasury = old();
        of_treasury.spec.required.groups = vec!["treasury".into()];
        let mut alice = user("alice");
        alice.groups = Some((0..1000).map(|n| format!("g{n}")).chain(["treasury".to_owned()]).collect());
        let new = ApprovalSpec { approved: Some(true), ..of_treasury.spec.clone() };
        let spec = stamp(at(NOW), &alice, &of_treasury, &new, &seal()).unwrap().spec;
        assert_eq!(spec.decisions[0].groups, ["treasury"]);
    }

    const NOW: &str = "2026-01-01T12:00:00.123456Z";

    fn sign(name: &str, old: &Approval, new: &ApprovalSpec) -> Result<Stamped, Refusal> {
        stamp(at(NOW), &user(name), old, new, &seal())
    }

    #[test]
    fn a_signature_carries_the_identity_of_the_request_and_a_seal() {
        for (name, approved) in [("alice", true), ("bob", false), ("аlice — Кирилл", true)] {
            let Stamped { spec, signed } = sign(name, &old(), &signed(approved)).unwrap();
            let [decision] = spec.decisions.as_slice() else { panic!("{:?}", spec.decisions) };
            assert!(signed);
            assert_eq!((decision.user.as_str(), decision.approved), (name, approved));
            assert_eq!(decision.digest, old().spec.digest);
            assert_eq!((spec.approved, spec.reason), (None, None));
            let read_back: Signature = serde_json::from_value(serde_json::to_value(decision).unwrap()).unwrap();
            assert!(seal().holds("approval-uid", &read_back), "as the API server gives it back");
        }
    }

    #[test]
    fn what_the_client_puts_into_decisions_counts_for_nothing() {
        let unsigned = ApprovalSpec { decisions: vec![forged()], ..old().spec };
        assert_eq!(sign("mallory", &old(), &unsigned).unwrap().spec.decisions, Vec::new());
        let both = ApprovalSpec { decisions: vec![forged(), forged()], ..signed(true) };
        let decisions = sign("mallory", &old(), &both).unwrap().spec.decisions;
        assert_eq!(decisions.iter().map(|d| d.user.as_str()).collect::<Vec<_>>(), ["mallory"]);
    }

    #[test]
    fn an_entry_without_a_seal_stays_and_counts_for_nothing() {
        let mut decided = old();
        decided.spec.decisions = vec![forged(), Signature { approved: false, ..forged() }];
        let after = sign("alice", &decided, &signed(true)).unwrap();
        assert_eq!(after.spec.decisions.len(), 3, "a forged rejection rejects nothing");
        let again = sign("boss", &decided, &signed(true)).unwrap();
        assert!(again.signed, "a forged approval does not stand in for the real one");
    }

    #[test]
    fn a_decision_can_be_neither_edited_nor_dropped() {
        let mut decided = old();
        decided.spec = sign("alice", &decided, &signed(true)).unwrap().spec;
        let mut edited = decided.spec.clone();
        edited.decisions[0].approved = false;
        assert_eq!(sign("m", &decided, &edited).unwrap().spec.decisions, decided.spec.decisions);
        let dropped = ApprovalSpec { decisions: Vec::new(), ..decided.spec.clone() };
        assert_eq!(sign("m", &decided, &dropped).unwrap().spec.decisions, decided.spec.decisions);
        let same = sign("alice", &decided, &signed(true)).unwrap();
        assert!(!same.signed && same.spec.decisions.len() == 1, "said again, it changes nothing");
    }

    #[test]
    fn whoever_is_of_another_group_since_signs_anew_beside_what_they_said() {
        let mut decided = old();
        decided.spec.required.groups = vec!["treasury".into()];
        let of = |group: &str| UserInfo { groups: Some(vec![group.to_owned()]), ..user("alice") };
        let sign = |decided: &Approval, group: &str, now: &str| {
            let yes = ApprovalSpec { approved: Some(true), ..decided.spec.clone() };
            stamp(at(now), &of(group), decided, &yes, &seal()).unwrap()
        };
        decided.spec = sign(&decided, "people", NOW).spec;
        let later = "2026-01-01T13:00:00Z";
        assert!(!sign(&decided, "finance", later).signed, "neither is asked for");
        let again = sign(&decided, "treasury", later);
        assert!(again.signed);
        assert_eq!(again.spec.decisions[0], decided.spec.decisions[0], "what was said stays");
        assert_eq!(again.spec.decisions[1].groups, ["treasury"]);
        decided.spec = again.spec;
        assert!(!sign(&decided, "treasury", "2026-01-01T14:00:00Z").signed, "applied for ever");
    }

    #[test]
    fn the_last_place_is_kept_for_a_no() {
        let mut full = old();
        full.spec.decisions = vec![forged(); DECISIONS - 1];
        let refused = sign("alice", &full, &signed(true)).unwrap_err();
        assert!(refused.message.contains("delete this Approval"), "{}", refused.message);
        assert_eq!(sign("alice", &full, &signed(false)).unwrap().spec.decisions.len(), DECISIONS);
    }

    #[test]
    fn a_reason_hides_nothing_from_whoever_signs_next() {
        let reason = |text: &str| ApprovalSpec { reason: Some(text.to_owned()), ..signed(true) };
        let stamped = sign("alice", &old(), &reason("ok\u{202e}\u{e0041}\0")).unwrap().spec;
        assert_eq!(stamped.decisions[0].reason.as_deref(), Some("ok\\u{202e}\\u{e0041}\\u{0}"));
        assert!(sign("alice", &old(), &reason(&"\u{202e}".repeat(1000))).unwrap_err().message.contains("spelt out"));
    }

    #[test]
    fn nobody_signs_under_a_name_that_hides_characters() {
        for name in ["al\u{200b}ice", "alice\u{202e}", "alice\u{e0041}", "alice\u{3164}"] {
            for approved in [true, false] {
                let refused = sign(name, &old(), &signed(approved)).unwrap_err();
                assert!(refused.code == 403 && refused.message.contains("al"), "{}", refused.message);
                assert!(refused.message.contains("\\u{") && !refused.message.contains(name), "{}", refused.message);
            }
        }
        let mut of_hidden = user("alice");
        of_hidden.groups = Some(vec!["approvers\u{200b}".to_owned()]);
        let refused = stamp(at(NOW), &of_hidden, &old(), &signed(true), &seal()).unwrap_err();
        assert!(refused.message.contains("approvers\\u{200b}"), "{}", refused.message);
    }

    #[test]
    fn the_requester_and_whoever_comes_too_late_are_refused() {
        let refused = sign("dave", &old(), &signed(true)).unwrap_err();
        assert_eq!((refused.code, refused.message.contains("never signs")), (403, true), "{}", refused.message);
        let late = stamp(at("2026-01-02T00:00:00Z"), &user("a"), &old(), &signed(true), &seal()).unwrap_err();
        assert!(late.message.contains("expired at 2026-01-02"), "{}", late.message);
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
            over.status = Some(ApprovalStatus { conditions: vec![condition], ..ApprovalStatus::default() });
            let refusal = sign("a", &over, &signed(true)).unwrap_err();
            assert!(refusal.message.contains(reason), "{}", refusal.message);
        }
    }

    #[test]
    fn the_subject_is_immutable_a_reason_alone_is_refused_and_so_is_a_long_one() {
        let mut other = signed(true);
        other.subject.image = "evil".into();
        assert!(sign("a", &old(), &other).is_err());
        let reason = ApprovalSpec { reason: Some("why".into()), ..old().spec };
        assert!(sign("a", &old(), &reason).is_err());
        let long = ApprovalSpec { reason: Some("é".repeat(1_000_000)), ..signed(true) };
        assert!(sign("a", &old(), &long).unwrap_err().message.contains("at most 1024"));
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
