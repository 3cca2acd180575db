//! Everybody but the operator: the Job controller, the kubelet, people, and those who do harm.

use countersign_core::approval::{Answer, Signer, Terms, may_sign};
use countersign_core::observed::{PodEnd, PodState};
use countersign_crds::Signature;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::check::{self, Violation};
use crate::draw::Draw;
use crate::money;
use crate::operator::good_report;
use crate::table::TIMEOUT_SECONDS;
use crate::world::{Pod, REQUESTER, World};

/// Makes a pod for each Job; now and then a second one, as Kubernetes says it may. Pods of a Job that is
/// gone are removed, and so are Jobs of a Task that is gone.
pub(crate) fn job_controller(world: &mut World, draw: &mut Draw) {
    if world.api.task.is_none() {
        world.api.jobs.clear();
    }
    for key in world.api.jobs.clone() {
        let pods = world.api.pods.values().filter(|pod| pod.key == key).count();
        if pods == 0 || (pods == 1 && draw.one_in(12)) {
            world.tally.duplicate_pods += u64::from(pods == 1);
            let uid = world.uid();
            let pod = Pod { uid: uid.clone(), key, state: PodState::Gated, ends_at: None };
            world.api.pods.insert(format!("pod-{uid}"), pod);
        }
    }
    let jobs = world.api.jobs.clone();
    let gone: Vec<String> =
        world.api.pods.iter().filter(|(_, pod)| !jobs.contains(&pod.key)).map(|(name, _)| name.clone()).collect();
    for name in gone {
        // What runs is told to end, and sometimes still says how it did.
        let running = world.api.pods.get(&name).is_some_and(|pod| pod.state == PodState::Running);
        if running && draw.one_in(2) {
            end(world, &name, Some("Cancelled"), "exit code 1");
        } else {
            world.api.pods.remove(&name);
        }
    }
}

/// A second pod for a Job that has one; once.
pub(crate) fn second_pod(world: &mut World) -> bool {
    let pods = |key: &String| world.api.pods.values().filter(|pod| pod.key == *key).count();
    let Some(key) = world.api.jobs.iter().find(|key| pods(key) == 1).cloned() else { return false };
    let uid = world.uid();
    world.api.pods.insert(format!("pod-{uid}"), Pod { uid, key, state: PodState::Gated, ends_at: None });
    true
}

/// The first running pod ends so; false where none runs.
pub(crate) fn end_running(world: &mut World, status: Option<&str>) -> bool {
    let running = world.api.pods.iter().find(|(_, pod)| pod.state == PodState::Running);
    let Some(name) = running.map(|(name, _)| name.clone()) else { return false };
    end(world, &name, status, "as told");
    true
}

/// The first Approval that somebody can sign is signed; false where none can.
pub(crate) fn sign_first(world: &mut World, approved: bool) -> bool {
    let before = world.signatures.len();
    for name in world.api.approvals.keys().cloned().collect::<Vec<_>>() {
        for (user, group) in PEOPLE {
            sign(world, &name, (user, group), approved);
            if world.signatures.len() > before {
                return true;
            }
        }
    }
    false
}

/// Starts what was let in, and ends what has run.
pub(crate) fn kubelet(world: &mut World, draw: &mut Draw) -> Result<(), Violation> {
    for name in world.api.pods.keys().cloned().collect::<Vec<_>>() {
        let Some(pod) = world.api.pods.get(&name).cloned() else { continue };
        match pod.state {
            PodState::Waiting { .. } => {
                if draw.one_in(20) {
                    continue;
                }
                check::check_start(world, &pod.key, &pod.uid)?;
                world.say(|| format!("{name} starts for {}", pod.key));
                let run = i64::try_from(draw.below(u64::from(TIMEOUT_SECONDS))).unwrap_or(1);
                let ends_at = Some(world.now + SignedDuration::from_secs(run));
                world.api.pods.insert(name, Pod { state: PodState::Running, ends_at, ..pod });
            }
            PodState::Running if pod.ends_at.is_some_and(|at| at <= world.now) => match draw.below(8) {
                0 => end(world, &name, Some("Failed"), "exit code 1"),
                1 => end(world, &name, None, "OOMKilled, exit code 137"),
                _ => end(world, &name, Some("Succeeded"), "exit code 0"),
            },
            PodState::Unchecked
            | PodState::Gated
            | PodState::Altered { .. }
            | PodState::Running
            | PodState::Ended(_) => {}
        }
    }
    Ok(())
}

fn end(world: &mut World, name: &str, status: Option<&str>, reason: &str) {
    world.say(|| format!("{name} ends: {status:?} {reason}"));
    let Some(pod) = world.api.pods.get_mut(name) else { return };
    let report = status.map(|status| match status {
        "Succeeded" => good_report(&pod.key, &json!({"ok": true})),
        other => json!({"version": 1, "attempt": pod.key, "status": other, "message": "because"}),
    });
    let report = report.and_then(|report| serde_json::from_value(report).ok());
    pod.state = PodState::Ended(PodEnd { report, reason: reason.to_owned(), output: None });
}

/// The pod ends well, and returns this.
pub(crate) fn end_well(world: &mut World, name: &str, output: &Value) {
    let Some(pod) = world.api.pods.get_mut(name) else { return };
    let report = serde_json::from_value(good_report(&pod.key, output)).ok();
    pod.state = PodState::Ended(PodEnd { report, reason: "exit code 0".to_owned(), output: None });
    pod.ends_at = None;
}

/// Sign, reject, suspend, cancel, edit a Skill, delete the Task.
pub(crate) fn people(world: &mut World, draw: &mut Draw) {
    match draw.below(24) {
        0..=11 => sign_one(world, draw, true),
        12 => sign_one(world, draw, false),
        13 => {
            if let Some(task) = &mut world.api.task {
                task.spec.suspend = !task.spec.suspend;
            }
        }
        14 if draw.one_in(3) => {
            if let Some(task) = &mut world.api.task {
                task.spec.cancel = true;
            }
        }
        15..=17 => {
            let names: Vec<String> = world.api.skills.keys().cloned().collect();
            let version = draw.below(1000);
            let answer = *draw.pick(&["allow", "approve", "both", "both"]).unwrap_or(&"approve");
            if let Some(skill) = draw.pick(&names).and_then(|name| world.api.skills.get_mut(name)) {
                skill.description = Some(format!("{answer}:{version}"));
            }
        }
        18 if draw.one_in(6) => world.api.task = None,
        // Somebody's finalizer keeps the object.
        19 if draw.one_in(6) => {
            if let Some(task) = &mut world.api.task {
                task.deleting = true;
            }
        }
        _ => {}
    }
}

/// Everybody who may be asked to sign, the requester among them, with a group.
const PEOPLE: [(&str, &str); 4] =
    [("alice", "people"), ("bob", "security"), ("carol", "people"), (REQUESTER, "security")];

fn sign_one(world: &mut World, draw: &mut Draw, approved: bool) {
    let names: Vec<String> = world.api.approvals.keys().cloned().collect();
    let who = draw.pick(&PEOPLE).copied();
    let (Some(name), Some(who)) = (draw.pick(&names).cloned(), who) else { return };
    sign(world, &name, who, approved);
}

/// As the webhook does it.
fn sign(world: &mut World, name: &str, (user, group): (&str, &str), approved: bool) {
    let (Some(spec), Some(approval)) = (world.asked.get(name), world.api.approvals.get_mut(name)) else { return };
    let terms = Terms::of(spec);
    let closed =
        approval.reported.as_ref().map(|reported| reported.condition.reason.as_str()).filter(|r| *r != "Pending");
    let groups = [group.to_owned()];
    let signer = Signer { user, groups: &groups };
    if may_sign(world.now, &terms, closed, &approval.decisions, signer, approved) != Ok(Answer::Append) {
        return;
    }
    world.signatures.insert((name.to_owned(), user.to_owned(), approved));
    approval.decisions.push(Signature {
        user: user.to_owned(),
        uid: None,
        groups: groups.to_vec(),
        approved,
        reason: None,
        at: Time(world.now),
        digest: spec.digest.clone(),
        seal: String::new(),
    });
}

/// Deletes a Job, a pod, an Approval, or the Plan snapshot.
pub(crate) fn vandal(world: &mut World, draw: &mut Draw) {
    let api = &mut world.api;
    match draw.below(4) {
        0 => {
            let keys: Vec<String> = api.jobs.iter().cloned().collect();
            if let Some(key) = draw.pick(&keys) {
                api.jobs.remove(key);
            }
        }
        1 => {
            let names: Vec<String> = api.pods.keys().cloned().collect();
            if let Some(name) = draw.pick(&names) {
                api.pods.remove(name);
            }
        }
        2 => {
            let names: Vec<String> = api.approvals.keys().cloned().collect();
            if let Some(name) = draw.pick(&names) {
                api.approvals.remove(name);
            }
        }
        _ => api.plan_snapshot_exists = false,
    }
}

/// A quiet round: everybody does what is theirs to do.
pub(crate) fn all_do_their_part(world: &mut World, draw: &mut Draw) -> Result<(), Violation> {
    job_controller(world, draw);
    kubelet(world, draw)?;
    money::reconcile(world);
    all_sign(world);
    Ok(())
}

/// Everybody signs for whatever they may.
pub(crate) fn all_sign(world: &mut World) {
    for name in world.api.approvals.keys().cloned().collect::<Vec<_>>() {
        PEOPLE.into_iter().for_each(|who| sign(world, &name, who, true));
    }
}
