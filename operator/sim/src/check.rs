//! What must never be, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::effect::ClusterAction;
use countersign_core::observed::TaskView;
use countersign_core::record::{
    ApprovalState, AttemptRecord, AttemptState, Change, EndingCause, Finished, StepOutcome, TaskRecord,
};
use countersign_crds::{After, Outcome};
use thiserror::Error;

use crate::again::{Asked, Object};
use crate::money;
use crate::runs::Runs;
use crate::table::{FAULT, people_for};
use crate::world::World;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Violation(String);

impl Violation {
    pub(crate) fn new(what: impl Into<String>) -> Violation {
        Violation(what.into())
    }
}

fn hold(condition: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if condition { Ok(()) } else { Err(Violation(what())) }
}

/// After everything that happens.
pub(crate) fn check(world: &mut World) -> Result<(), Violation> {
    money::check(world)?;
    let Some(record) = &world.record else { return Ok(()) };
    check_finally(record)?;
    let mut used = BTreeSet::new();
    for (name, step) in &record.steps {
        let launched = step.attempts.iter().filter(|attempt| attempt.launched()).count();
        let mut skills = world.api.skills.iter().chain(&world.uninstalled);
        let skill = skill_of(record, name);
        let idempotent = skills.clone().all(|(_, skill)| skill.idempotent)
            || skills.any(|(name, spec)| Some(name.as_str()) == skill && spec.idempotent);
        hold(idempotent || launched <= 1, || format!("{name} is not idempotent and was launched {launched} times"))?;
        // A signature is used up when the step begins: what never began is launched again under the same one.
        for attempt in step.attempts.iter().filter(|attempt| attempt.launched()) {
            let Some(approval) = &attempt.approval else { continue };
            hold(used.insert((approval, name)), || format!("approval {approval} was used twice for {name}"))?;
        }
    }
    if let Some(plan) = &record.plan {
        // What is blocked holds no place, so more may be intended; what was let in is what runs.
        let let_in = |attempt: &&AttemptRecord| attempt.launched();
        let running = record.steps.values().filter_map(|step| step.live_attempt()).filter(let_in).count();
        hold(running <= plan.parallelism as usize, || {
            format!("{running} attempts run, and the Plan allows {} at once", plan.parallelism)
        })?;
    }
    for (key, pods) in &world.ran {
        hold(pods.len() <= 1, || format!("attempt {key} ran in {} pods", pods.len()))?;
    }
    if let Some(last) = &world.last {
        hold(record.version >= last.version, || "the version went back".into())?;
        hold(last.finished.is_none() || record == last, || "a finished record changed".into())?;
        for (name, step) in &last.steps {
            let now = record.steps.get(name);
            hold(step.is_open() || now == Some(step), || format!("step {name} was over and changed"))?;
            let attempts = now.map(|now| now.attempts.len()).unwrap_or_default();
            hold(attempts >= step.attempts.len(), || format!("an attempt of {name} was lost"))?;
        }
        for (name, approval) in &last.approvals {
            let now = record.approvals.get(name).map(|now| &now.state);
            let decided = matches!(approval.state, ApprovalState::Rejected | ApprovalState::Expired);
            hold(!decided || now == Some(&approval.state), || format!("the decision of {name} was lost"))?;
        }
    }
    world.last = Some(record.clone());
    Ok(())
}

fn skill_of<'a>(record: &'a TaskRecord, step: &str) -> Option<&'a str> {
    let plan = record.plan.as_ref()?;
    plan.steps.iter().find(|spec| spec.name == step).map(|spec| spec.skill.as_str())
}

/// Before a change is recorded: what a contract asks signatures for is intended only with those that people
/// really gave, for this very attempt.
pub(crate) fn check_change(world: &World, record: Option<&TaskRecord>, change: &Change) -> Result<(), Violation> {
    let Change::Intend { step, approval, digest, launch, .. } = change else { return Ok(()) };
    if let Some(record) = record {
        check_turn(record, step)?;
    }
    let people = people_for(launch.contract.description.as_deref());
    if people == 0 {
        return Ok(());
    }
    let Some(name) = approval else {
        return Err(Violation::new(format!("{step} was intended without the signatures that it needs")));
    };
    let requester = record.and_then(|record| record.request.requester.as_ref()).map(|who| &who.user);
    let said = |approved: bool| {
        let theirs = world.signatures.iter().filter(move |(to, _, verdict)| to == name && *verdict == approved);
        theirs.filter(|(_, who, _)| Some(who) != requester).count()
    };
    hold(said(true) >= people, || format!("{step} was intended under {name}, which {} signed for", said(true)))?;
    let approval = record.and_then(|record| record.approvals.get(name));
    let state = approval.map(|approval| &approval.state);
    hold(state == Some(&ApprovalState::Approved), || format!("{name} was used in state {state:?}"))?;
    let refused = approval.is_some_and(|approval| approval.decisions.iter().any(|decision| !decision.approved));
    hold(!refused, || format!("{name} was used although somebody said no"))?;
    let covered = approval.and_then(|approval| approval.covers.get(step)).map(|covered| covered.digest);
    hold(covered == Some(*digest), || format!("{name} is for {covered:?}, and {step} runs {digest}"))
}

/// Of all objects that a name has had: a request is launched as one of them at most, and what came with the mark of a
/// run never is.
pub(crate) fn check_runs(objects: &[Object]) -> Result<(), Violation> {
    let mut launched: BTreeMap<&Asked, &str> = BTreeMap::new();
    for Object { uid, asked, restored, .. } in objects.iter().filter(|object| object.world.is_launched()) {
        hold(restored.is_none(), || format!("{uid} was launched, which came with the mark of a run of {restored:?}"))?;
        let before = launched.insert(asked, uid);
        hold(before.is_none(), || format!("{asked:?} was launched as {before:?} and again as {uid}"))?;
    }
    Ok(())
}

/// When all of them are over: what came with the mark of a run shows how that ended, and is of whoever asked for it.
pub(crate) fn check_ends(objects: &[Object], runs: &Runs) -> Result<(), Violation> {
    for Object { uid, restored, world, .. } in objects {
        let (Some(record), Some(run)) = (&world.record, restored.as_ref().and_then(|run| runs.run(run))) else {
            continue;
        };
        let outcome = |finished: Option<&Finished>| finished.map(|finished| finished.outcome);
        let (shown, ended) = (outcome(record.finished.as_ref()), outcome(run.finished.as_ref()));
        hold(shown == ended, || format!("{uid} shows {shown:?}, and the run of {} ended {ended:?}", run.uid))?;
        let requester = record.request.requester.as_ref().map(|who| &who.user);
        hold(requester == Some(&run.key.requester), || format!("{uid} is {requester:?}'s, and not its run's"))?;
    }
    Ok(())
}

/// Of one reconciliation: what was seen to be suspended or deleted begins nothing.
pub(crate) fn check_begins(
    task: Option<&TaskView>,
    changes: &[Change],
    actions: &[ClusterAction],
) -> Result<(), Violation> {
    let let_in = actions.iter().any(|action| matches!(action, ClusterAction::AdmitPod { .. }));
    let begun = changes.iter().any(|change| matches!(change, Change::Intend { .. } | Change::Admit { .. }));
    let made = actions.iter().any(|action| matches!(action, ClusterAction::CreateJob { .. }));
    let suspended = task.is_some_and(|task| task.spec.suspend);
    hold(!suspended || !(let_in || begun), || "something began although the Task is suspended".into())?;
    let deleting = task.is_none_or(|task| task.deleting);
    hold(!deleting || !(let_in || begun || made), || "something began although the Task is being deleted".into())?;
    let invalid =
        |change: &Change| matches!(change, Change::FinishStep { reason: Some(reason), .. } if reason == FAULT);
    hold(!changes.iter().any(invalid), || "a time-out was taken for a fault of the Plan".into())
}

/// A step is intended only when what it needs has ended as it takes, and nothing has called it off.
fn check_turn(record: &TaskRecord, name: &str) -> Result<(), Violation> {
    let steps = || record.plan.iter().flat_map(|plan| &plan.steps);
    let Some(step) = steps().find(|step| step.name == name) else {
        return Err(Violation::new(format!("{name} was intended, which is no step of the Plan")));
    };
    let outcome = |name: &str| record.steps.get(name).and_then(|step| step.state.ended());
    let cause = record.ending.as_ref().map(|ending| ending.cause);
    if step.finally {
        hold(cause != Some(EndingCause::Deleted), || format!("{name} was intended after the Task was deleted"))?;
        let open = steps().find(|other| !other.finally && outcome(&other.name).is_none());
        hold(open.is_none(), || format!("{name} was intended before other work had ended"))?;
    } else {
        hold(cause.is_none(), || format!("{name} was intended after the end had begun ({cause:?})"))?;
    }
    for before in &step.needs {
        hold(outcome(before) == Some(Outcome::Succeeded), || {
            format!("{name} was intended with {before} {:?}", outcome(before))
        })?;
    }
    for After { step: before, outcomes } in &step.after {
        let found = outcome(before);
        hold(found.is_some_and(|found| outcomes.contains(&found)), || {
            format!("{name} was intended with {before} {found:?}")
        })?;
    }
    Ok(())
}

/// Finally steps had their turn before their Task was over, unless it was deleted.
fn check_finally(record: &TaskRecord) -> Result<(), Violation> {
    let deleted = record.ending.as_ref().is_some_and(|ending| ending.cause == EndingCause::Deleted);
    if record.finished.is_none() || deleted {
        return Ok(());
    }
    let steps = record.plan.iter().flat_map(|plan| &plan.steps).filter(|step| step.finally);
    for step in steps {
        let state = record.steps.get(&step.name);
        let reason =
            state.filter(|state| state.state == StepOutcome::Skipped).and_then(|state| state.reason.as_deref());
        hold(matches!(reason, None | Some("NeedNotMet" | "WhenFalse")), || {
            format!("finally step {} was skipped for {reason:?}", step.name)
        })?;
    }
    Ok(())
}

/// Before a Job is made: its attempt is recorded.
pub(crate) fn check_job(world: &World, key: &str) -> Result<(), Violation> {
    let attempts = world.record.iter().flat_map(|record| record.steps.values()).flat_map(|step| &step.attempts);
    let known = attempts.into_iter().any(|attempt| attempt.key == key);
    hold(known, || format!("Job {key} was made before its attempt was recorded"))
}

/// When a pod starts: the record let in exactly this pod, and a signature that it needed was used for it.
pub(crate) fn check_start(world: &mut World, key: &str, uid: &str) -> Result<(), Violation> {
    let attempts = world.record.iter().flat_map(|record| record.steps.values()).flat_map(|step| &step.attempts);
    let Some(attempt) = attempts.into_iter().find(|attempt| attempt.key == key) else {
        return Err(Violation::new(format!("a pod of {key} starts, which is not recorded")));
    };
    let admitted = match &attempt.state {
        AttemptState::Intended => None,
        AttemptState::Admitted { pod_uid, .. } => Some(pod_uid.as_str()),
        AttemptState::Finished { pod_uid, .. } => pod_uid.as_deref(),
    };
    hold(admitted == Some(uid), || format!("pod {uid} of {key} starts, and {admitted:?} was let in"))?;
    if people_for(attempt.launch.as_ref().and_then(|launch| launch.contract.description.as_deref())) > 0 {
        let approvals = world.record.iter().flat_map(|record| record.approvals.values());
        let signed = approvals.into_iter().any(|approval| {
            let covers = approval.covers.values().any(|covered| covered.digest == attempt.digest);
            attempt.approval.as_ref() == Some(&approval.name) && covers && !approval.used.is_empty()
        });
        hold(signed, || format!("{key} starts without the signatures that it needs"))?;
    }
    world.ran.entry(key.to_owned()).or_default().insert(uid.to_owned());
    Ok(())
}
