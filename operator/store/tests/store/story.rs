//! Histories of Tasks, as the core could have decided them, that hold every kind of change.

use std::collections::BTreeMap;

use countersign_core::binding::Binding;
use countersign_core::budget::{BudgetDecision, Scope, SeenLine, Window};
use countersign_core::digest::Digest;
use countersign_core::money::Money;
use countersign_core::payment::Payment;
use countersign_core::record::{
    AttemptOutcome, Change, Covered, Ending, EndingCause, Finished, Launch, Output, OutputReference, RecordedPlan,
    Request, RuleDecision, StepOutcome, TaskOutcome,
};
use countersign_core::run::{Run, RunKey};
use countersign_crds::{
    ApprovalScope, BudgetVerdict, Effect, Identity, PolicyMode, Priority, RbacSubject, Required, RiskClass, Signature,
    SkillSpec, Step,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, json};

pub const UID: &str = "7a1c0a52-95d2-4b8e-8b0a-000000000001";

pub struct Story {
    pub name: &'static str,
    pub batches: Vec<Vec<Change>>,
}

pub fn all() -> Vec<Story> {
    vec![signed(), signed_as_a_whole(), rejected(), superseded(), retried(), called_off(), paid()]
}

/// Every change a moment later than the one before, in microseconds that are not whole milliseconds.
struct Clock(Timestamp);

impl Clock {
    fn new() -> Clock {
        Clock("2026-11-21T05:06:07.123457Z".parse().unwrap())
    }

    fn tick(&mut self) -> Timestamp {
        self.0 += SignedDuration::from_micros(1_000_003);
        self.0
    }
}

fn digest(of: &str) -> Digest {
    Digest::of_bytes(of)
}

fn step(name: &str) -> Step {
    serde_json::from_value(
        json!({"name": name, "skill": "k", "input": {"z": 1.5, "a": ["ü", null, 9_007_199_254_740_991_i64]}}),
    )
    .unwrap()
}

fn adopt(clock: &mut Clock, steps: &[&str]) -> Vec<Change> {
    let plan = RecordedPlan {
        name: "plan".into(),
        digest: digest("plan"),
        source: "inline plan".into(),
        parallelism: 3,
        steps: steps.iter().map(|name| step(name)).collect(),
        parameters: Map::from_iter([("b".to_owned(), json!({"n": 0.1})), ("a".to_owned(), json!("x"))]),
    };
    let adopt = Change::Adopt {
        uid: UID.into(),
        namespace: "ns".into(),
        name: "task".into(),
        spec: json!({"type": "t"}),
        request: Request { requester: Some(requester()), on_behalf_of: Some("çarol".into()) },
        run: Some(Run::Own(RunKey {
            namespace_uid: "place".into(),
            name: "task".into(),
            requester: "dave".into(),
            content: digest("content"),
        })),
        at: clock.tick(),
    };
    vec![adopt, Change::SnapshotPlan { plan, at: clock.tick() }]
}

fn rule() -> RuleDecision {
    RuleDecision {
        policy: "ops/starter".into(),
        rule: "r".into(),
        effect: Effect::RequireApproval,
        mode: PolicyMode::Audit,
        risk: RiskClass::High,
        message: Some("because".into()),
        saw: Map::from_iter([("task.type".to_owned(), json!("t"))]),
        policies: digest("policies"),
    }
}

fn requester() -> Identity {
    Identity { user: "dave".into(), uid: None, groups: vec!["agents".into()] }
}

fn request(clock: &mut Clock, name: &str, step: &str) -> Change {
    request_all(clock, name, &[step])
}

fn binding() -> Binding {
    let binding = json!({
        "version": 2,
        "task": {"uid": UID, "namespace": "ns", "name": "task", "type": null, "goal": null, "priority": "Normal",
            "parameters": digest("parameters")},
        "requester": {"user": "dave", "groups": ["agents"]},
        "agent": null,
        "taint": [],
        "step": {"name": "one", "skill": "k"},
        "run": 1,
        "input": {"b": 1, "a": 2},
        "workspace": [],
        "skill": {"name": "k", "spec": {"effect": "Read", "builtin": {"name": "generic_action"}}},
        "image": "i@sha256:0",
        "profile": {"runner": "r@sha256:0", "runtimeClass": null},
        "timeoutSeconds": 60,
        "secrets": {},
        "payment": null,
        "risk": "High",
        "ask": {"required": 1, "groups": [], "serviceAccounts": [], "excluded": [], "scope": "Step", "expiresAfter": "24h0m0s"},
        "rules": [{"policy": "ops/p", "rule": {"name": "r", "match": "true", "effect": "RequireApproval"}, "egress": null}],
    });
    serde_json::from_value(binding).unwrap()
}

fn request_all(clock: &mut Clock, name: &str, steps: &[&str]) -> Change {
    let at = clock.tick();
    let covered = |step: &&str| {
        let binding = Some(Box::new(binding()));
        ((*step).to_owned(), Covered { attempt: 1, digest: digest("what"), binding, rules: vec![rule()] })
    };
    Change::RequestApproval {
        name: name.into(),
        step: steps[0].into(),
        digest: digest(name),
        covers: steps.iter().map(covered).collect(),
        requester: requester(),
        on_behalf_of: Some("çarol".into()),
        required: Required {
            count: 1,
            groups: vec!["g".into()],
            service_accounts: vec!["a/b".into()],
            excluded: vec![RbacSubject::user("olga")],
        },
        scope: if steps.len() == 1 { ApprovalScope::Step } else { ApprovalScope::Plan },
        risk: RiskClass::High,
        expires_at: at + SignedDuration::from_hours(24),
        at,
    }
}

fn sign(clock: &mut Clock, name: &str, user: &str, approved: bool) -> Change {
    let at = clock.tick();
    let decision = Signature {
        user: user.into(),
        uid: Some("1".into()),
        groups: vec!["g".into()],
        approved,
        reason: Some("it's fine".into()),
        at: Time("2026-11-21T05:06:07Z".parse().unwrap()),
        digest: digest(name).to_string(),
        seal: "c2VhbA==".into(),
    };
    Change::SignApproval { name: name.into(), decision, at }
}

fn decide(clock: &mut Clock, name: &str, approved: bool) -> Change {
    Change::DecideApproval { name: name.into(), approved, at: clock.tick() }
}

fn intend(clock: &mut Clock, step: &str, number: u32, approval: Option<&str>) -> Change {
    let contract: SkillSpec =
        serde_json::from_value(json!({"effect": "Read", "builtin": {"name": "generic_action"}})).unwrap();
    let launch = Launch {
        skill: "k".into(),
        contract,
        input: Map::from_iter([("x".to_owned(), json!([1, 2.5]))]),
        image: "i@sha256:0".into(),
        timeout_seconds: 60,
        limits: Vec::new(),
        secrets: BTreeMap::from([("price-api".to_owned(), "17".to_owned())]),
        workspace: vec![digest("tree")],
        payment: None,
    };
    Change::Intend {
        step: step.into(),
        number,
        key: format!("key-{step}-{number}"),
        digest: digest("what"),
        input_digest: digest("input"),
        approval: approval.map(str::to_owned),
        launch: Box::new(launch),
        rules: vec![rule()],
        budget: None,
        at: clock.tick(),
    }
}

/// An attempt with a price.
fn intend_paid(clock: &mut Clock, step: &str, number: u32, verdict: BudgetVerdict) -> Change {
    match intend(clock, step, number, None) {
        Change::Intend { step, number, key, digest, input_digest, approval, launch, rules, budget: _, at } => {
            let budget = Some(Box::new(decision(verdict)));
            Change::Intend { step, number, key, digest, input_digest, approval, launch, rules, budget, at }
        }
        other => other,
    }
}

/// Steps whose attempts are let in, each to pay.
pub fn paying(steps: &[String], payments: &[Payment]) -> Vec<Vec<Change>> {
    let mut clock = Clock::new();
    let names: Vec<&str> = steps.iter().map(String::as_str).collect();
    let mut batches = vec![adopt(&mut clock, &names)];
    for (step, payment) in names.iter().zip(payments) {
        let mut intend = intend(&mut clock, step, 1, None);
        if let Change::Intend { launch, .. } = &mut intend {
            launch.payment = Some(payment.clone());
        }
        batches.push(vec![intend, admit(&mut clock, step, 1)]);
    }
    batches
}

/// The attempt of such a step failed, and another one is let in.
pub fn paying_again(step: &str, payment: &Payment) -> Vec<Vec<Change>> {
    let mut clock = Clock::new();
    let failed = end_attempt(&mut clock, step, 1, AttemptOutcome::Failed, true);
    let mut intend = intend(&mut clock, step, 2, None);
    if let Change::Intend { launch, .. } = &mut intend {
        launch.payment = Some(payment.clone());
    }
    vec![vec![failed], vec![intend, admit(&mut clock, step, 2)]]
}

/// Two units of ten a day, of which the pod alone costs a half.
pub fn decision(verdict: BudgetVerdict) -> BudgetDecision {
    let line = |scope, subject: &str, window, starts: &str, ends: Option<&str>, limit: Option<u64>| SeenLine {
        scope,
        subject: subject.into(),
        window,
        starts_at: starts.parse().unwrap(),
        ends_at: ends.map(|ends| ends.parse().unwrap()),
        limit: limit.map(Money::from_micros),
        cap: limit.map(Money::from_micros),
        spent: Money::ZERO,
        held: Money::ZERO,
    };
    let (today, tomorrow) = ("2026-11-21T00:00:00Z", Some("2026-11-22T00:00:00Z"));
    BudgetDecision {
        verdict,
        skill: "k".into(),
        amount: Money::from_micros(2_000_000),
        per_attempt: Money::from_micros(500_000),
        priority: Priority::Low,
        lines: vec![
            line(Scope::Agent, "ns/bond", Window::Day, today, tomorrow, Some(10_000_000)),
            line(Scope::Task, UID, Window::Total, "1970-01-01T00:00:00Z", None, None),
        ],
        message: Some("because".into()),
    }
}

fn admit(clock: &mut Clock, step: &str, number: u32) -> Change {
    Change::Admit { step: step.into(), number, pod_uid: format!("pod-{step}-{number}"), at: clock.tick() }
}

fn end_attempt(clock: &mut Clock, step: &str, number: u32, outcome: AttemptOutcome, retry: bool) -> Change {
    let at = clock.tick();
    let output = (outcome == AttemptOutcome::Succeeded).then(output);
    let retry_at = retry.then(|| at + SignedDuration::from_micros(1_500_001));
    Change::FinishAttempt {
        step: step.into(),
        number,
        outcome,
        message: Some("m".into()),
        output,
        retry_at,
        evidence: None,
        workspace: (outcome == AttemptOutcome::Succeeded).then(|| digest("tree")),
        at,
    }
}

fn output() -> Output {
    let value = json!({"balance": 450});
    let bytes = value.to_string();
    let reference = OutputReference { digest: Digest::of_bytes(&bytes), bytes: u32::try_from(bytes.len()).unwrap() };
    Output { reference, value }
}

fn end_step(clock: &mut Clock, step: &str, outcome: StepOutcome) -> Change {
    let output = (outcome == StepOutcome::Succeeded).then(|| output().reference);
    Change::FinishStep {
        step: step.into(),
        outcome,
        reason: Some("Reason".into()),
        message: None,
        output,
        rules: vec![rule()],
        budget: None,
        at: clock.tick(),
    }
}

fn finish(clock: &mut Clock, outcome: TaskOutcome) -> Change {
    let finished = Finished { outcome, reason: "R".into(), message: "m".into(), at: clock.tick() };
    Change::FinishTask { finished, ran: true }
}

fn end(clock: &mut Clock, cause: EndingCause) -> Change {
    Change::BeginEnding { ending: Ending { cause, at: clock.tick() } }
}

/// One step, signed for, that succeeds; a second is still open.
pub fn signed() -> Story {
    let c = &mut Clock::new();
    let batches = vec![
        adopt(c, &["one", "two"]),
        vec![request(c, "a", "one")],
        vec![sign(c, "a", "älice", true)],
        vec![decide(c, "a", true)],
        vec![intend(c, "one", 1, Some("a"))],
        vec![admit(c, "one", 1)],
        vec![end_attempt(c, "one", 1, AttemptOutcome::Succeeded, false), end_step(c, "one", StepOutcome::Succeeded)],
    ];
    Story { name: "signed", batches }
}

/// Two steps under one signature, of which one is never tried.
fn signed_as_a_whole() -> Story {
    let c = &mut Clock::new();
    let batches = vec![
        adopt(c, &["one", "two", "three"]),
        vec![request_all(c, "a", &["one", "two", "three"]), sign(c, "a", "bob", true)],
        vec![decide(c, "a", true), intend(c, "one", 1, Some("a"))],
        vec![admit(c, "one", 1)],
        vec![intend(c, "two", 1, Some("a"))],
        vec![end_step(c, "three", StepOutcome::Skipped), Change::WithdrawApproval { name: "a".into(), at: c.tick() }],
    ];
    Story { name: "signed as a whole", batches }
}

fn rejected() -> Story {
    let c = &mut Clock::new();
    let batches = vec![
        adopt(c, &["one", "two"]),
        vec![request(c, "a", "one"), request(c, "b", "two")],
        vec![
            sign(c, "a", "älice", true),
            sign(c, "a", "älice", false),
            decide(c, "a", false),
            end_step(c, "one", StepOutcome::Rejected),
        ],
        vec![Change::ExpireApproval { name: "b".into(), at: c.tick() }, end_step(c, "two", StepOutcome::Rejected)],
        vec![end(c, EndingCause::StepFailed), finish(c, TaskOutcome::Rejected)],
    ];
    Story { name: "rejected", batches }
}

fn superseded() -> Story {
    let c = &mut Clock::new();
    let supersede = |c: &mut Clock, name: &str| Change::SupersedeApproval {
        name: name.into(),
        changed: vec!["input".into(), "policies".into()],
        at: c.tick(),
    };
    let batches = vec![
        adopt(c, &["one"]),
        vec![request(c, "a", "one")],
        vec![supersede(c, "a"), request(c, "b", "one")],
        vec![sign(c, "b", "bob", true), decide(c, "b", true), intend(c, "one", 1, Some("b"))],
        // It never began, so it is launched again under the same signature.
        vec![end_attempt(c, "one", 1, AttemptOutcome::NotStarted, true)],
        vec![intend(c, "one", 2, Some("b"))],
        vec![supersede(c, "b"), end_attempt(c, "one", 2, AttemptOutcome::Voided, false)],
        vec![request(c, "c", "one")],
    ];
    Story { name: "superseded", batches }
}

fn retried() -> Story {
    let c = &mut Clock::new();
    let batches = vec![
        adopt(c, &["one"]),
        vec![intend(c, "one", 1, None), admit(c, "one", 1)],
        vec![end_attempt(c, "one", 1, AttemptOutcome::Failed, true)],
        vec![intend(c, "one", 2, None)],
        vec![admit(c, "one", 2)],
        vec![end_attempt(c, "one", 2, AttemptOutcome::Unknown, false), end_step(c, "one", StepOutcome::Unknown)],
        vec![finish(c, TaskOutcome::Failed)],
    ];
    Story { name: "retried", batches }
}

fn called_off() -> Story {
    let c = &mut Clock::new();
    let batches = vec![
        adopt(c, &["one", "two"]),
        vec![request(c, "a", "one"), intend(c, "two", 1, None), admit(c, "two", 1)],
        vec![end(c, EndingCause::StepFailed), end(c, EndingCause::Cancelled)],
        vec![Change::WithdrawApproval { name: "a".into(), at: c.tick() }, end_step(c, "one", StepOutcome::Skipped)],
        vec![end_attempt(c, "two", 1, AttemptOutcome::Cancelled, false), end_step(c, "two", StepOutcome::Failed)],
        vec![finish(c, TaskOutcome::Cancelled)],
    ];
    Story { name: "called off", batches }
}

/// An attempt that is paid for, another whose end nobody knows, a step that waits and one that is too dear.
pub fn paid() -> Story {
    let c = &mut Clock::new();
    let defer = |c: &mut Clock, until: Option<&str>| Change::Defer {
        step: "two".into(),
        until: until.map(|until| until.parse().unwrap()),
        budget: Box::new(decision(BudgetVerdict::Deferred)),
        at: c.tick(),
    };
    let too_dear = match end_step(c, "three", StepOutcome::Rejected) {
        Change::FinishStep { step, outcome, reason, message, output, rules, budget: _, at } => {
            let budget = Some(Box::new(decision(BudgetVerdict::Rejected)));
            Change::FinishStep { step, outcome, reason, message, output, rules, budget, at }
        }
        other => other,
    };
    let batches = vec![
        adopt(c, &["one", "two", "three", "four"]),
        vec![intend_paid(c, "one", 1, BudgetVerdict::Allowed), defer(c, None)],
        vec![admit(c, "one", 1), defer(c, Some("2026-11-22T00:00:00Z"))],
        vec![end_attempt(c, "one", 1, AttemptOutcome::Succeeded, false), end_step(c, "one", StepOutcome::Succeeded)],
        vec![intend_paid(c, "two", 1, BudgetVerdict::Downgraded), admit(c, "two", 1)],
        vec![end_attempt(c, "two", 1, AttemptOutcome::Unknown, false), too_dear],
        // Never let in, so nothing of it is owed; and decided and over in one reconciliation.
        vec![
            intend_paid(c, "four", 1, BudgetVerdict::Allowed),
            end_attempt(c, "four", 1, AttemptOutcome::NotStarted, false),
        ],
    ];
    Story { name: "paid", batches }
}

pub fn wide(steps: usize) -> Story {
    let c = &mut Clock::new();
    let names: Vec<String> = (0..steps).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut batches = vec![adopt(c, &names)];
    batches.push(names.iter().take(100).flat_map(|name| [intend(c, name, 1, None), admit(c, name, 1)]).collect());
    Story { name: "wide", batches }
}

/// Changes that do not follow from the end of [`signed`].
pub fn misfits() -> Vec<(&'static str, Change)> {
    let c = &mut Clock::new();
    vec![
        ("an Approval consumed twice", intend(c, "two", 1, Some("a"))),
        ("a step that is over", intend(c, "one", 2, None)),
        ("a step that does not exist", intend(c, "three", 1, None)),
        ("a pod for an attempt that is over", admit(c, "one", 1)),
        ("an attempt that was never made", end_attempt(c, "two", 1, AttemptOutcome::Failed, false)),
        ("an Approval decided twice", decide(c, "a", false)),
        ("a signature too late", sign(c, "a", "bob", true)),
        ("an Approval asked for twice", request(c, "a", "one")),
        ("a Plan snapshot taken twice", adopt(c, &["one"]).remove(1)),
        ("a step that ends twice", end_step(c, "one", StepOutcome::Failed)),
    ]
}
