//! The life of one Approval as a state machine, explored to its end: every order of signatures, forgeries, edits,
//! expiry, looks and dispatches. The rules are the product's own; for each invariant a variant with one rule broken
//! shows that the explorer would find it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeSet, HashSet, VecDeque};

use countersign_core::approval::{Answer, Signer, Tally, Terms, may_sign, tally};
use countersign_crds::{Decision, Identity, Required};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const REQUESTER: &str = "dave";
const ROBOT: &str = "system:serviceaccount:ns:robot";
/// Everybody who may try, with a group.
const PEOPLE: [(&str, &str); 5] =
    [("alice", "people"), ("bob", "security"), ("carol", "people"), (REQUESTER, "security"), (ROBOT, "security")];
const BOB: usize = 1;
/// The requester, and a service account that is not listed.
const NEVER: [usize; 2] = [3, 4];
const SEALED: &str = "sealed";

fn instant(late: bool) -> Timestamp {
    if late { "2026-01-03T00:00:00Z" } else { "2026-01-01T00:00:00Z" }.parse().unwrap()
}

/// Two people, somebody of security among them, before the second of January.
struct Bound {
    requester: Identity,
    required: Required,
}

impl Bound {
    fn terms<'a>(&'a self, digest: &'a str) -> Terms<'a> {
        let expires_at = "2026-01-02T00:00:00Z".parse().unwrap();
        Terms { digest, requester: &self.requester, required: &self.required, expires_at }
    }
}

/// The product's rules. A broken variant overrides one of them.
trait Rules {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: bool,
        seen: &[Decision],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        may_sign(now, terms, closed.then_some("over"), seen, who, yes) == Ok(Answer::Append)
    }
    fn appended(&self, mut entries: Vec<Decision>, new: Decision) -> Vec<Decision> {
        entries.push(new);
        entries
    }
    fn holds(&self, decision: &Decision) -> bool {
        decision.seal == SEALED
    }
    fn settled(&self, terms: &Terms<'_>, decisions: &[Decision]) -> Option<bool> {
        match tally(terms, decisions) {
            Tally::Reached => Some(true),
            Tally::Rejected { .. } => Some(false),
            Tally::Waiting { .. } => None,
        }
    }
    fn may_look(&self, state: Stage) -> bool {
        state == Stage::Requested
    }
    fn may_dispatch(&self, state: Stage, signed: u8, runs: u8, guarded: bool) -> bool {
        state == Stage::Approved && signed == runs && guarded
    }
}

struct Product;
impl Rules for Product {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Requested,
    Approved,
    Rejected,
    Expired,
    Superseded,
    Consumed,
}

#[derive(Clone, Debug, PartialEq)]
struct State {
    late: bool,
    guarded: bool,
    /// What would run now; signatures are for 0.
    runs: u8,
    /// `spec.decisions`.
    entries: Vec<Decision>,
    /// What the operator has recorded.
    stage: Stage,
    recorded: Vec<Decision>,
    /// What the object's status says.
    closed: bool,
    launches: u8,
    /// What people really said through the webhook: who, what, when.
    truth: Vec<(usize, bool, bool)>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Sign(usize, bool),
    /// Somebody writes an entry in the name of another, past the webhook.
    Forge(usize),
    Look,
    Report,
    Dispatch,
    Edit,
    Late,
    BreakGuard,
}

fn events() -> Vec<Event> {
    let people = 0..PEOPLE.len();
    let sign = people.clone().flat_map(|who| [Event::Sign(who, true), Event::Sign(who, false)]);
    let rest = [Event::Look, Event::Report, Event::Dispatch, Event::Edit, Event::Late, Event::BreakGuard];
    sign.chain(people.take(2).map(Event::Forge)).chain(rest).collect()
}

fn entry(who: usize, approved: bool, late: bool, seal: &str) -> Decision {
    let (user, group) = PEOPLE[who];
    Decision {
        user: user.into(),
        uid: None,
        groups: vec![group.into()],
        approved,
        reason: None,
        at: Time(instant(late)),
        digest: "0".into(),
        seal: seal.into(),
    }
}

fn happen(rules: &dyn Rules, bound: &Bound, state: &State, event: Event) -> Option<State> {
    let mut next = state.clone();
    let terms = bound.terms("0");
    match event {
        Event::Sign(who, approved) => {
            let (user, group) = PEOPLE[who];
            let groups = [group.to_owned()];
            let seen: Vec<Decision> = state.entries.iter().filter(|entry| rules.holds(entry)).cloned().collect();
            // Three signatures are enough to see what follows from them.
            let signer = Signer { user, groups: &groups };
            let full = state.truth.len() >= 3;
            if full || !rules.may_sign(instant(state.late), &terms, state.closed, &seen, signer, approved) {
                return None;
            }
            next.entries = rules.appended(next.entries, entry(who, approved, state.late, SEALED));
            next.truth.push((who, approved, state.late));
        }
        Event::Forge(who) => {
            // Only where the guard is gone can it be written at all; the guard may come back afterwards.
            let forged = state.entries.iter().filter(|entry| entry.seal != SEALED);
            if forged.clone().count() >= 2 || forged.clone().any(|entry| entry.user == PEOPLE[who].0) {
                return None;
            }
            next.entries.push(entry(who, true, false, ""));
        }
        Event::Look => {
            if !rules.may_look(state.stage) {
                return None;
            }
            let new = state.entries.iter().filter(|e| rules.holds(e) && !state.recorded.contains(e));
            next.recorded.extend(new.cloned());
            match rules.settled(&terms, &next.recorded) {
                Some(true) => next.stage = Stage::Approved,
                Some(false) => next.stage = Stage::Rejected,
                None if state.late => next.stage = Stage::Expired,
                None => {}
            }
        }
        Event::Report => next.closed = state.stage != Stage::Requested,
        Event::Dispatch => {
            if rules.may_dispatch(state.stage, 0, state.runs, state.guarded) {
                next.launches += 1;
                next.stage = Stage::Consumed;
            } else if state.runs != 0 && matches!(state.stage, Stage::Requested | Stage::Approved) {
                next.stage = Stage::Superseded;
            } else {
                return None;
            }
        }
        Event::Edit => next.runs = 1 - state.runs,
        Event::Late => next.late = true,
        Event::BreakGuard => next.guarded = !state.guarded,
    }
    (next != *state).then_some(next)
}

/// What must hold of every step from one state to the next.
fn check(before: &State, after: &State) -> Result<(), &'static str> {
    let launched = after.launches > before.launches;
    let said = |approved: bool| {
        let recorded = |who: usize| after.recorded.iter().any(|entry| entry.user == PEOPLE[who].0);
        let in_time = before.truth.iter().filter(move |(who, yes, late)| *yes == approved && !late && recorded(*who));
        in_time.map(|(who, ..)| *who).collect::<BTreeSet<usize>>()
    };
    let eligible: BTreeSet<usize> = said(true).into_iter().filter(|who| !NEVER.contains(who)).collect();
    let no_from_others = said(false).iter().any(|who| !NEVER.contains(who));
    if launched && eligible.len() < 2 {
        return Err("ran with the signatures of fewer people than it takes");
    }
    if launched && !eligible.contains(&BOB) {
        return Err("ran although a group was not represented");
    }
    if launched && no_from_others {
        return Err("ran although somebody said no");
    }
    if launched && before.runs != 0 {
        return Err("ran something else than was signed for");
    }
    if launched && !before.guarded {
        return Err("ran while the guard was broken");
    }
    if after.launches > 1 {
        return Err("ran twice");
    }
    if !before.entries.iter().all(|entry| after.entries.contains(entry)) {
        return Err("an entry was lost");
    }
    let over = |stage| matches!(stage, Stage::Rejected | Stage::Expired | Stage::Superseded | Stage::Consumed);
    if over(before.stage) && after.stage != before.stage && !launched {
        return Err("what was over went on");
    }
    let signed = after.truth.len() > before.truth.len();
    if signed && (before.late || before.closed) {
        return Err("a signature was taken too late");
    }
    if signed && NEVER.contains(&after.truth[after.truth.len() - 1].0) {
        return Err("a signature was taken of somebody who may not sign");
    }
    Ok(())
}

fn explore(rules: &dyn Rules) -> Result<usize, &'static str> {
    let bound = Bound {
        requester: Identity { user: REQUESTER.into(), uid: None, groups: Vec::new() },
        required: Required { count: 2, groups: vec!["security".into()], service_accounts: Vec::new() },
    };
    let start = State {
        late: false,
        guarded: true,
        runs: 0,
        entries: Vec::new(),
        stage: Stage::Requested,
        recorded: Vec::new(),
        closed: false,
        launches: 0,
        truth: Vec::new(),
    };
    let key = |state: &State| {
        let said = |entries: &[Decision]| {
            entries.iter().map(|e| format!("{}{}{}{}", e.user, e.approved, e.at.0, e.seal)).collect::<String>()
        };
        let State { late, guarded, runs, entries, stage, recorded, closed, launches, truth } = state;
        format!("{late}{guarded}{runs}{stage:?}{closed}{launches}{truth:?}{}|{}", said(entries), said(recorded))
    };
    let mut seen = HashSet::from([key(&start)]);
    let mut queue = VecDeque::from([start]);
    let events = events();
    while let Some(state) = queue.pop_front() {
        for &event in &events {
            let Some(next) = happen(rules, &bound, &state, event) else { continue };
            check(&state, &next)?;
            if seen.insert(key(&next)) {
                queue.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn every_state_of_an_approval() {
    let states = explore(&Product).unwrap();
    println!("{states} states, all of them");
    assert!(states > 1_000, "{states}");
}

/// A rule that was overridden, and what the explorer must say of it.
macro_rules! broken {
    ($name:ident, $expected:expr, { $($rule:item)* }) => {
        #[test]
        fn $name() {
            struct Broken;
            impl Rules for Broken { $($rule)* }
            assert_eq!(explore(&Broken).expect_err("the explorer did not notice"), $expected);
        }
    };
}

broken!(broken_the_requester_signs, "a signature was taken of somebody who may not sign", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: bool,
        seen: &[Decision],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let nobody = Identity { user: "nobody".into(), uid: None, groups: Vec::new() };
        let terms = Terms { requester: &nobody, ..*terms };
        may_sign(now, &terms, closed.then_some("over"), seen, who, yes) == Ok(Answer::Append)
    }
});
broken!(broken_any_account_signs, "a signature was taken of somebody who may not sign", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: bool,
        seen: &[Decision],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let required = Required { service_accounts: vec!["ns/robot".into()], ..terms.required.clone() };
        let terms = Terms { required: &required, ..*terms };
        may_sign(now, &terms, closed.then_some("over"), seen, who, yes) == Ok(Answer::Append)
    }
});
broken!(broken_one_is_enough, "ran with the signatures of fewer people than it takes", {
    fn settled(&self, terms: &Terms<'_>, decisions: &[Decision]) -> Option<bool> {
        let required = Required { count: 1, ..terms.required.clone() };
        Product.settled(&Terms { required: &required, ..*terms }, decisions)
    }
});
broken!(broken_a_person_counts_twice, "ran with the signatures of fewer people than it takes", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: bool,
        seen: &[Decision],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let others: Vec<Decision> = seen.iter().filter(|entry| entry.user != who.user).cloned().collect();
        may_sign(now, terms, closed.then_some("over"), &others, who, yes) == Ok(Answer::Append)
    }
    // Told apart by their place in the list, as if each entry were a person.
    fn settled(&self, terms: &Terms<'_>, decisions: &[Decision]) -> Option<bool> {
        let apart = decisions.iter().enumerate().map(|(n, d)| Decision { user: format!("{}{n}", d.user), ..d.clone() });
        Product.settled(terms, &apart.collect::<Vec<_>>())
    }
    fn appended(&self, mut entries: Vec<Decision>, new: Decision) -> Vec<Decision> {
        let nonce = format!("{}", entries.len());
        entries.push(Decision { reason: Some(nonce), ..new });
        entries
    }
});
broken!(broken_groups_are_forgotten, "ran although a group was not represented", {
    fn settled(&self, terms: &Terms<'_>, decisions: &[Decision]) -> Option<bool> {
        let required = Required { groups: Vec::new(), ..terms.required.clone() };
        Product.settled(&Terms { required: &required, ..*terms }, decisions)
    }
});
// Two layers refuse it; both must be gone before it can be seen.
broken!(broken_a_no_is_outvoted, "ran although somebody said no", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: bool,
        seen: &[Decision],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let yeses: Vec<Decision> = seen.iter().filter(|decision| decision.approved).cloned().collect();
        Product.may_sign(now, terms, closed, &yeses, who, yes)
    }
    fn settled(&self, terms: &Terms<'_>, decisions: &[Decision]) -> Option<bool> {
        let yeses: Vec<Decision> = decisions.iter().filter(|decision| decision.approved).cloned().collect();
        Product.settled(terms, &yeses)
    }
});
broken!(broken_signed_too_late, "a signature was taken too late", {
    fn may_sign(
        &self,
        _: Timestamp,
        terms: &Terms<'_>,
        _: bool,
        seen: &[Decision],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        Product.may_sign(instant(false), terms, false, seen, who, yes)
    }
});
broken!(broken_forgeries_are_believed, "ran with the signatures of fewer people than it takes", {
    fn holds(&self, _: &Decision) -> bool {
        true
    }
});
broken!(broken_what_runs_is_not_compared, "ran something else than was signed for", {
    fn may_dispatch(&self, state: Stage, _: u8, _: u8, guarded: bool) -> bool {
        state == Stage::Approved && guarded
    }
});
broken!(broken_used_twice, "ran twice", {
    fn may_dispatch(&self, state: Stage, signed: u8, runs: u8, guarded: bool) -> bool {
        matches!(state, Stage::Approved | Stage::Consumed) && signed == runs && guarded
    }
});
broken!(broken_the_guard_is_not_asked, "ran while the guard was broken", {
    fn may_dispatch(&self, state: Stage, signed: u8, runs: u8, _: bool) -> bool {
        state == Stage::Approved && signed == runs
    }
});
broken!(broken_entries_are_replaced, "an entry was lost", {
    fn appended(&self, _: Vec<Decision>, new: Decision) -> Vec<Decision> {
        vec![new]
    }
});
broken!(broken_what_is_over_is_looked_at_again, "what was over went on", {
    fn may_look(&self, _: Stage) -> bool {
        true
    }
});
