//! Who may sign, and what signatures amount to: by table, and in every order.
#![allow(clippy::unwrap_used, reason = "a test")]

use countersign_core::approval::{Answer, Ask, Missing, Refused, Signer, Tally, Terms, is_new, may_sign, tally};
use countersign_crds::{ApprovalScope, Identity, RbacSubject, Required, Signature, SubjectKind};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

const DIGEST: &str = "sha256:00";
const ROBOT: &str = "system:serviceaccount:flux-system:applier";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn requester() -> Identity {
    Identity { user: "dave".into(), uid: None, groups: vec!["finance".into()] }
}

fn required(count: u32, groups: &[&str], accounts: &[&str]) -> Required {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Required { count, groups: owned(groups), service_accounts: owned(accounts), excluded: Vec::new() }
}

fn decision(user: &str, groups: &[&str], approved: bool) -> Signature {
    Signature {
        user: user.into(),
        uid: None,
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        approved,
        reason: None,
        at: Time(at("2026-01-01T12:00:00Z")),
        digest: DIGEST.into(),
        seal: String::new(),
    }
}

fn with_terms<T>(required: &Required, then: impl FnOnce(&Terms<'_>) -> T) -> T {
    let requester = requester();
    let expires_at = at("2026-01-02T00:00:00Z");
    then(&Terms { digest: DIGEST, requester: &requester, required, expires_at })
}

#[test]
fn what_counts() {
    let yes = |user: &str| decision(user, &[], true);
    let late = Signature { at: Time(at("2026-01-02T00:00:00Z")), ..yes("alice") };
    let other = Signature { digest: "sha256:01".into(), ..yes("alice") };
    let waiting = |more, groups: &[&str]| format!("Waiting(Missing {{ people: {more}, groups: {groups:?} }})");
    for (name, required, decisions, expected) in [
        ("nobody", required(1, &[], &[]), vec![], waiting(1, &[])),
        ("one of one", required(1, &[], &[]), vec![yes("alice")], "Reached".into()),
        ("one of two", required(2, &[], &[]), vec![yes("alice")], waiting(1, &[])),
        ("a person counts once", required(2, &[], &[]), vec![yes("alice"), yes("alice")], waiting(1, &[])),
        ("the requester never", required(1, &[], &[]), vec![yes("dave")], waiting(1, &[])),
        ("too late", required(1, &[], &[]), vec![late], waiting(1, &[])),
        ("of something else", required(1, &[], &[]), vec![other], waiting(1, &[])),
        ("an account that is not listed", required(1, &[], &[]), vec![yes(ROBOT)], waiting(1, &[])),
        ("an account that is", required(1, &[], &["flux-system/applier"]), vec![yes(ROBOT)], "Reached".into()),
        ("another of that name", required(1, &[], &["other/applier"]), vec![yes(ROBOT)], waiting(1, &[])),
        ("a group is missing", required(1, &["security"], &[]), vec![yes("alice")], waiting(0, &["security"])),
        (
            "one person for two groups is one person",
            required(2, &["security", "finance"], &[]),
            vec![decision("alice", &["security", "finance"], true)],
            waiting(1, &[]),
        ),
        (
            "each group and enough people",
            required(2, &["security", "finance"], &[]),
            vec![decision("alice", &["security"], true), decision("bob", &["finance"], true)],
            "Reached".into(),
        ),
    ] {
        let found = with_terms(&required, |terms| format!("{:?}", tally(terms, &decisions)));
        assert_eq!(found, expected, "{name}");
    }
}

/// Each says it again, later, as somebody of these groups.
#[test]
fn whoever_signs_again_counts_as_who_they_are_then() {
    let said = |user: &str, groups: &[&str], second: i8| {
        let time = Time(at("2026-01-01T12:00:00Z") + jiff::SignedDuration::from_secs(second.into()));
        Signature { at: time, ..decision(user, groups, true) }
    };
    let waiting = |people, groups: &[&str]| {
        Tally::Waiting(Missing { people, groups: groups.iter().map(|&group| group.to_owned()).collect() })
    };
    let needs = required(2, &["treasury"], &[]);
    let alice = || said("alice", &["finance"], 0);
    let bob = || said("bob", &["finance"], 0);
    for (name, decisions, expected) in [
        ("as before", vec![alice(), bob()], waiting(0, &["treasury"])),
        ("joined", vec![alice(), bob(), said("alice", &["treasury"], 1)], Tally::Reached),
        (
            "joined and left",
            vec![alice(), bob(), said("bob", &["treasury"], 1), said("bob", &["finance"], 2)],
            waiting(0, &["treasury"]),
        ),
        ("still one person", vec![alice(), said("alice", &["treasury"], 1)], waiting(1, &[])),
        ("the order means nothing", vec![said("alice", &["treasury"], 1), bob(), alice()], Tally::Reached),
    ] {
        with_terms(&needs, |terms| assert_eq!(tally(terms, &decisions), expected, "{name}"));
    }
}

#[test]
fn what_is_said_again_changes_something_only_as_somebody_of_other_groups() {
    let needs = required(2, &["treasury"], &[]);
    let said = [decision("alice", &["finance"], true)];
    let answer = |groups: &[&str], closed: Option<&str>, now: &str, more: &[Signature]| {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let signer = Signer { user: "alice", groups: &groups };
        let said = [&said, more].concat();
        with_terms(&needs, |terms| may_sign(at(now), terms, closed, &said, signer, true))
    };
    let (noon, one, midnight) = ("2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z", "2026-01-02T00:00:00Z");
    let treasurer = [decision("bob", &["treasury"], true)];
    let no = [decision("bob", &[], false)];
    for (name, groups, closed, now, more, expected) in [
        ("the same", &["finance"][..], None, one, &[][..], Answer::AlreadySaid),
        ("of a group that nobody asks for", &["finance", "people"], None, noon, &[], Answer::AlreadySaid),
        ("of one that is asked for", &["finance", "treasury"], None, noon, &[], Answer::Append),
        ("when there are enough", &["treasury"], None, noon, &treasurer, Answer::AlreadySaid),
        ("after a no", &["treasury"], None, noon, &no, Answer::AlreadySaid),
        ("too late", &["treasury"], None, midnight, &[], Answer::AlreadySaid),
        ("when it is over", &["treasury"], Some("Consumed"), noon, &[], Answer::AlreadySaid),
    ] {
        assert_eq!(answer(groups, closed, now, more), Ok(expected), "{name}");
    }
}

#[test]
fn what_is_recorded_is_what_was_not_said_before() {
    let needs = required(1, &["treasury"], &[]);
    let later = |groups: &[&str]| Signature { at: Time(at("2026-01-01T13:00:00Z")), ..decision("alice", groups, true) };
    let first = decision("alice", &["finance"], true);
    let known = [first.clone(), later(&["treasury"])];
    assert!(is_new(&needs, &[], &first));
    assert!(is_new(&needs, &known[..1], &known[1]));
    assert!(is_new(&needs, &known, &decision("bob", &["treasury"], true)));
    assert!(is_new(&needs, &known, &decision("alice", &["treasury"], false)), "a change of mind");
    for (name, decision) in [("the first again", &known[0]), ("the last again", &known[1])] {
        assert!(!is_new(&needs, &known, decision), "{name}: an object is read as often as one likes");
    }
    let anew = Signature { at: Time(at("2026-01-01T14:00:00Z")), ..known[1].clone() };
    assert!(!is_new(&needs, &known, &anew), "the object was made anew, and she said the same again");
}

#[test]
fn messages_say_what_is_missing() {
    for (people, groups, words) in [
        (1, &[][..], "1 more signature"),
        (2, &[], "2 more signatures"),
        (0, &["treasury"], "1 more, from group treasury"),
        (1, &["treasury"], "1 more, from group treasury"),
        (3, &["treasury"], "3 more, one of them from group treasury"),
        (0, &["a", "b"], "at least 1 more, from groups a, b"),
        (2, &["a", "b"], "2 more, from groups a, b"),
        (3, &["a", "b"], "3 more, among them from groups a, b"),
        (0, &["treasury\u{200b}"], "1 more, from group treasury\\u{200b}"),
    ] {
        let missing = Missing { people, groups: groups.iter().map(|&group| group.to_owned()).collect() };
        assert_eq!(missing.to_string(), words);
    }
}

#[test]
fn whoever_stands_behind_the_requester_never_signs() {
    let subject = |kind, name: &str, namespace: Option<&str>| RbacSubject {
        kind,
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
    };
    let excluded = vec![
        RbacSubject::user("olga"),
        subject(SubjectKind::Group, "agent-owners", None),
        subject(SubjectKind::ServiceAccount, "applier", Some("flux-system")),
    ];
    let required = Required { excluded, ..required(1, &[], &["flux-system/applier", "flux-system/other"]) };
    for (user, group, counts) in [
        ("olga", "people", false),
        ("pete", "agent-owners", false),
        (ROBOT, "people", false),
        ("system:serviceaccount:flux-system:other", "people", true),
        ("pete", "people", true),
        ("agent-owners", "people", true),
    ] {
        let (groups, noon) = ([group.to_owned()], at("2026-01-01T12:00:00Z"));
        with_terms(&required, |terms| {
            let answer = may_sign(noon, terms, None, &[], Signer { user, groups: &groups }, true);
            assert_eq!(answer.is_ok(), counts, "{user}: {answer:?}");
            let behind = matches!(&answer, Err(Refused::BehindRequester(_)));
            assert_eq!(behind, !counts, "{answer:?}");
            for (approved, word) in [(true, "Reached"), (false, "Rejected")] {
                let decisions = [decision(user, &[group], approved)];
                let found = format!("{:?}", tally(terms, &decisions));
                assert_eq!(found.starts_with(word), counts, "{user}: {found}");
            }
        });
    }
}

#[test]
fn one_no_is_final_wherever_it_stands() {
    let (yes, no) = (decision("alice", &[], true), decision("bob", &[], false));
    for decisions in [vec![yes.clone(), no.clone()], vec![no, yes]] {
        with_terms(&required(1, &[], &[]), |terms| {
            assert!(matches!(tally(terms, &decisions), Tally::Rejected { by } if by.user == "bob"));
        });
    }
}

#[test]
fn who_may_sign() {
    let yes = |user: &str| decision(user, &[], true);
    let no = |user: &str| decision(user, &[], false);
    let (noon, midnight) = ("2026-01-01T12:00:00Z", "2026-01-02T00:00:00Z");
    let two = || required(2, &[], &[]);
    let security = || required(1, &["security"], &[]);
    type Case<'a> =
        (&'a str, Required, Option<&'a str>, Vec<Signature>, &'a str, &'a str, bool, Result<Answer, &'a str>);
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        ("the first", two(), None, vec![], noon, "alice", true, Ok(Answer::Append)),
        ("the second", two(), None, vec![yes("bob")], noon, "alice", true, Ok(Answer::Append)),
        ("once more", two(), None, vec![yes("alice")], noon, "alice", true, Ok(Answer::AlreadySaid)),
        ("once more when it is over", two(), Some("Consumed"), vec![yes("alice")], midnight, "alice", true, Ok(Answer::AlreadySaid)),
        ("a change of mind", two(), None, vec![yes("alice")], noon, "alice", false, Ok(Answer::Append)),
        ("the requester", two(), None, vec![], noon, "dave", true, Err("dave asked for this work")),
        ("the requester, against", two(), None, vec![], noon, "dave", false, Err("dave asked for this work")),
        ("an account", two(), None, vec![], noon, ROBOT, true, Err("flux-system/applier is not listed")),
        ("after a no", two(), None, vec![no("bob")], noon, "alice", true, Err("bob rejected it already")),
        ("too late", two(), None, vec![], midnight, "alice", true, Err("it expired at 2026-01-02")),
        ("when it is over", two(), Some("Superseded"), vec![], noon, "alice", true, Err("it is Superseded")),
        ("when there are enough", two(), None, vec![yes("bob"), yes("carol")], noon, "alice", true, Err("the signatures that it takes")),
        ("of no group that is missing", security(), None, vec![yes("bob")], noon, "alice", true, Err("each of these groups: security")),
        ("against, of any group", security(), None, vec![yes("bob")], noon, "alice", false, Ok(Answer::Append)),
        ("shown as what it is", two(), None, vec![no("аlice")], noon, "alice", true, Err("\\u{430}lice rejected it already")),
    ];
    for (name, required, closed, decisions, now, user, approved, expected) in cases {
        let signer = Signer { user, groups: &["people".to_owned()] };
        let answer = with_terms(&required, |terms| may_sign(at(now), terms, closed, &decisions, signer, approved));
        match (answer, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected, "{name}"),
            (Err(refused), Err(words)) => assert!(refused.to_string().contains(words), "{name}: {refused}"),
            (answer, expected) => panic!("{name}: {answer:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn several_rules_ask_for_all_of_it() {
    let ask = |count, groups: &[&str], accounts: &[&str], scope, hours: u32| Ask {
        required: required(count, groups, accounts),
        scope,
        expires_after: countersign_core::time::GoDuration::from_secs(hours * 3600),
    };
    let (plan, step) = (ApprovalScope::Plan, ApprovalScope::Step);
    let both = ask(2, &["b", "a"], &["ns/x", "ns/y"], plan, 2).and(&ask(3, &["b", "c"], &["ns/y"], step, 1));
    assert_eq!(both, ask(3, &["a", "b", "c"], &["ns/y"], step, 1));
    assert_eq!(ask(1, &[], &[], plan, 1).and(&ask(1, &[], &[], plan, 1)).scope, plan);
}

#[test]
fn who_asks_for_nothing_in_particular_asks_for_one_signature_within_a_day() {
    let Ask { required: asked, scope, expires_after } = Ask::default();
    assert_eq!((asked, scope), (required(1, &[], &[]), ApprovalScope::Step));
    assert_eq!(expires_after.get().as_secs(), 24 * 60 * 60);
}

fn any_decision() -> impl Strategy<Value = Signature> {
    let user = prop::sample::select(vec!["alice", "bob", "carol", "dave", ROBOT]);
    let group = prop::sample::select(vec!["security", "finance", "people"]);
    (user, group, prop::bool::weighted(0.9)).prop_map(|(user, group, approved)| decision(user, &[group], approved))
}

proptest! {
    /// The order of the entries means nothing, so nothing is won by changing it.
    #[test]
    fn the_order_means_nothing(mut decisions in prop::collection::vec(any_decision(), 0..8), seed in any::<u64>()) {
        let required = required(2, &["security"], &[]);
        let kind = |decisions: &[Signature]| with_terms(&required, |terms| match tally(terms, decisions) {
            Tally::Rejected { .. } => "rejected".to_owned(),
            other => format!("{other:?}"),
        });
        let before = kind(&decisions);
        let mut state = seed;
        for i in (1..decisions.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            decisions.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
        }
        prop_assert_eq!(before, kind(&decisions));
    }

    /// Whoever signs in whatever order: the entries stay few, and everyone who is let sign brings it nearer its end.
    #[test]
    fn a_race_of_signers_ends(users in prop::collection::vec((0..50u32, any::<bool>()), 1..200)) {
        let required = required(3, &["security"], &[]);
        let mut decisions = Vec::new();
        for (user, security) in users {
            let groups = [if security { "security".to_owned() } else { "people".to_owned() }];
            let name = format!("user{user}");
            let signer = Signer { user: &name, groups: &groups };
            let answer = with_terms(&required, |terms| {
                may_sign(at("2026-01-01T12:00:00Z"), terms, None, &decisions, signer, true)
            });
            if answer == Ok(Answer::Append) {
                decisions.push(decision(&name, &[groups[0].as_str()], true));
            }
        }
        // Two who sign again as somebody of the group, and the third.
        prop_assert!(decisions.len() <= 5, "{}", decisions.len());
        let reached = with_terms(&required, |terms| tally(terms, &decisions) == Tally::Reached);
        let end = with_terms(&required, |terms| {
            let groups = ["security".to_owned()];
            may_sign(at("2026-01-01T12:00:00Z"), terms, None, &decisions, Signer { user: "last", groups: &groups }, true)
        });
        prop_assert_eq!(reached, matches!(end, Err(Refused::Enough(_))));
    }
}
