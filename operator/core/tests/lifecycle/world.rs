//! Who is there, what can happen, and what tells one state from another.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use countersign_core::approval::Ask;
use countersign_core::binding::{Binding, Ruling, Work};
use countersign_core::digest::Digest;
use countersign_core::judge::{Case, Judge, Judgement, Prepared};
use countersign_core::observed::ReportedApproval;
use countersign_core::record::{ApprovalRecord, StepRecord, TaskRecord};
use countersign_crds::{ApprovalScope, Required, SkillSpec};
use jiff::Timestamp;
use serde_json::{Map, json};

pub const REQUESTER: &str = "dave";
pub const ROBOT: &str = "system:serviceaccount:ns:robot";
/// Everybody who may try, with a group; in a smaller world only the first of them.
pub const PEOPLE: [(&str, &str); 5] =
    [("alice", "people"), ("bob", "security"), (REQUESTER, "security"), ("carol", "people"), (ROBOT, "security")];
pub const ALICE: usize = 0;
pub const BOB: usize = 1;
/// The requester, and a service account that is not listed.
pub const NEVER: [usize; 2] = [2, 4];
/// The step that somebody edits; in a Plan there is another beside it, which stays as it is.
pub const EDITED: &str = "edited";
pub const OTHER: &str = "other";
pub const UID: &str = "the uid of the Approval";

/// A part of what can happen. Each world leaves out what another has, so that all of it can be seen.
#[derive(Clone, Copy)]
pub struct World {
    pub scope: ApprovalScope,
    /// How many people try, and how many of their signatures show what follows from them.
    pub people: usize,
    pub signatures: usize,
    pub forgeries: usize,
    pub edits: u8,
    /// What the rules come to ask for, one after the other.
    pub asks: &'static [Asks],
    pub guard_breaks: bool,
    pub cancelled: bool,
}

/// What the rules ask for of the step that is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    Two,
    Three,
    Nobody,
}

/// Who signs, in whosever name.
pub const SIGNERS: World = World {
    scope: ApprovalScope::Step,
    people: 5,
    signatures: 3,
    forgeries: 2,
    edits: 0,
    asks: &[],
    guard_breaks: false,
    cancelled: false,
};
/// What changes meanwhile.
pub const STEP: World =
    World { people: 2, signatures: 2, forgeries: 1, edits: 2, guard_breaks: true, cancelled: true, ..SIGNERS };
pub const PLAN: World = World { scope: ApprovalScope::Plan, forgeries: 0, ..STEP };

/// What is asked for changes, with the Job and the pod a while apart from what was intended.
pub const ASKED: World = World { edits: 0, forgeries: 0, asks: &[Asks::Nobody, Asks::Three, Asks::Two], ..STEP };
pub const ASKED_OF_A_PLAN: World = World { scope: ApprovalScope::Plan, asks: &[Asks::Three, Asks::Two], ..ASKED };

pub fn instant(late: bool) -> Timestamp {
    if late { "2026-01-03T00:00:00Z" } else { "2026-01-01T00:00:00Z" }.parse().unwrap()
}

#[derive(Clone)]
pub struct State {
    pub late: bool,
    pub guarded: bool,
    pub cancelled: bool,
    /// After two edits all is as it was, and as it was signed for.
    pub edits: u8,
    /// How many of the world's asks have come.
    pub asked: usize,
    /// The keys of the Jobs that were made.
    pub jobs: BTreeSet<String>,
    /// `spec.decisions`.
    pub entries: Vec<usize>,
    /// What the object's status says.
    pub reported: Option<ReportedApproval>,
    pub record: Rc<TaskRecord>,
    /// The steps whose pod was let in, each time that one was, and whether that was under this Approval.
    pub ran: Vec<(String, bool)>,
    /// What people really said through the webhook: who, what, when.
    pub truth: Vec<(usize, bool, bool)>,
}

impl State {
    /// What would run now.
    pub fn runs(&self) -> u8 {
        u8::from(self.edits == 1)
    }

    /// What the rules ask for now.
    pub fn asks(&self, world: World) -> Asks {
        let came = self.asked.checked_sub(1).and_then(|last| world.asks.get(last));
        came.copied().unwrap_or(Asks::Two)
    }

    /// What tells states apart. The order of signatures does not: `signatures.rs` shows that it means nothing.
    pub fn key(&self, name: &str) -> u64 {
        let State { late, guarded, cancelled, edits, asked, jobs, entries, reported, record, ran, truth } = self;
        let approval = |approval: &ApprovalRecord| {
            let said: BTreeSet<_> = approval.decisions.iter().map(|d| (&d.user, d.approved, d.at.0)).collect();
            let state = (approval.state.clone(), approval.used.clone(), approval.expires_at);
            format!("{} {said:?} {state:?}", approval.name == name)
        };
        let step = |step: &StepRecord| {
            let attempts: Vec<_> = step.attempts.iter().map(|a| (a.launched(), a.is_finished(), &a.approval)).collect();
            format!("{:?} {attempts:?}", step.state)
        };
        let approvals: Vec<String> = record.approvals.values().map(approval).collect();
        let steps: Vec<String> = record.steps.values().map(step).collect();
        let mut hasher = DefaultHasher::new();
        let (mut entries, mut truth) = (entries.clone(), truth.clone());
        entries.sort_unstable();
        truth.sort_unstable();
        // When it was reported means nothing.
        let reported = reported.as_ref().map(|it| (&it.condition.reason, &it.condition.message, &it.signed));
        (late, guarded, cancelled, edits, asked, jobs, entries, reported, ran, truth).hash(&mut hasher);
        (approvals, steps, format!("{:?} {:?}", record.ending, record.finished)).hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    Sign(usize, bool),
    /// Somebody writes an entry in the name of another, past the webhook.
    Forge(usize),
    Reconcile,
    Report,
    Edit,
    /// The rules come to ask for something else.
    Ask,
    /// The Jobs that are owed are made.
    Make,
    Late,
    BreakGuard,
    Cancel,
}

pub fn events(world: World) -> Vec<Event> {
    let sign = (0..world.people).flat_map(|who| [Event::Sign(who, true), Event::Sign(who, false)]);
    let mut events: Vec<Event> = sign.chain([Event::Reconcile, Event::Report, Event::Late]).collect();
    events.extend([ALICE, BOB].map(Event::Forge).into_iter().take(world.forgeries));
    events.extend((world.edits > 0).then_some(Event::Edit));
    if !world.asks.is_empty() {
        events.extend([Event::Ask, Event::Make]);
    }
    events.extend(world.guard_breaks.then_some(Event::BreakGuard));
    events.extend(world.cancelled.then_some(Event::Cancel));
    events
}

/// Asks for two people, somebody of security among them, within a day; or for more of them, or for nobody.
pub struct Table<'a> {
    pub scope: ApprovalScope,
    pub runs: u8,
    pub asks: Asks,
    pub skill: &'a SkillSpec,
}

impl Judge for Table<'_> {
    fn judge(&self, case: &Case<'_>) -> Judgement {
        let edited = case.step.name == EDITED;
        let runs = if edited { self.runs } else { 0 };
        let work = Work {
            skill: case.step.skill.clone(),
            contract: self.skill.clone(),
            input: Map::from_iter([("runs".to_owned(), json!(runs))]),
            image: "image".into(),
            timeout_seconds: 60,
            secrets: BTreeMap::new(),
            workspace: Vec::new(),
            payment: None,
        };
        let count = match self.asks {
            Asks::Nobody if edited => None,
            Asks::Three if edited => Some(3),
            Asks::Two | Asks::Three | Asks::Nobody => Some(2),
        };
        let required = |count| Required {
            count,
            groups: vec!["security".into()],
            service_accounts: Vec::new(),
            excluded: Vec::new(),
        };
        let ask = count.map(|count| Ask { required: required(count), scope: self.scope, ..Ask::default() });
        let binding = Binding::of(case, work, Ruling { ask, ..Ruling::default() });
        let digest = binding.digest().unwrap();
        let input_digest = Digest::of_bytes("{}");
        Judgement::Ready(Box::new(Prepared {
            input_digest,
            binding,
            digest,
            limits: Vec::new(),
            rules: Vec::new(),
            budget: None,
        }))
    }
}
