//! Gathers everything that bears on one Task: from the caches, from PostgreSQL, and, where an old view
//! could mislead, from the API server itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_core::agent::Acting;
use countersign_core::budget::{Budgets, LineKey};
use countersign_core::mark::Mark;
use countersign_core::observed::{
    ApprovalView, ExternalState, Guard, Observed, PodState, PodView, TaskView, TemplateLookup,
};
use countersign_core::plan::wanted_outputs;
use countersign_core::record::{AttemptRecord, AttemptState, TaskRecord};
use countersign_core::run::{PriorRun, RunKey};
use countersign_crds::{ANNOTATION_RUN, LABEL_ATTEMPT, LABEL_TYPE, Plan, PlanTemplate, SkillSpec, Step};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::reconciler::action::{self, Owner};
use crate::reconciler::context::Context;
use crate::reconciler::error::Error;
use crate::reconciler::logs;
use crate::watch::caches::{Caches, lock};
use crate::watch::views;
use countersign_service::clock;

/// One reconciliation of a Task. `task` is `None` when its object is gone; then `uid` and `namespace` say which.
/// `needed` are steps whose outputs a reconciliation before this one lacked.
pub async fn observe(
    context: &Context,
    uid: &str,
    namespace: &str,
    task: Option<TaskView>,
    record: Option<TaskRecord>,
    needed: &BTreeSet<String>,
) -> Result<Observed, Error> {
    let caches = &context.caches;
    let pods = pods(context, uid, namespace, record.as_ref()).await?;
    let template = match (&task, &record) {
        (Some(task), None) => template(&context.client, &context.operator_namespace, task).await?,
        (Some(task), Some(record)) if record.plan.is_none() && record.finished.is_none() => {
            template(&context.client, &context.operator_namespace, task).await?
        }
        _ => TemplateLookup::NotNeeded,
    };
    let outputs = match &record {
        Some(record) if record.finished.is_none() => outputs(context, record, needed).await?,
        _ => BTreeMap::new(),
    };
    let plans = lock(&caches.plans).of(uid);
    let mut made = context.recent.of(uid);
    let plan_name = record.as_ref().and_then(|record| record.plan.as_ref()).map(|plan| plan.name.as_str());
    let (agent, skills, policies) = (agent(caches, task.as_ref(), record.as_ref()), caches.skills(), caches.policies());
    let balances = match &task {
        Some(task) if may_cost(record.as_ref(), &skills) => {
            let budgets = Budgets::of(clock::now(), task, agent.agent(), &policies);
            let keys: Vec<LineKey> = budgets.lines.into_iter().map(|line| line.key).collect();
            context.store.balances(&keys).await?
        }
        Some(_) | None => BTreeMap::new(),
    };
    let external = match &record {
        Some(record) if may_be_external(record, &skills) => context.store.external(uid).await?,
        Some(_) | None => ExternalState::default(),
    };
    let (namespace_uid, prior) = match &task {
        Some(task) if record.is_none() || !is_marked(task, &made) => earlier(context, task).await?,
        Some(_) | None => (String::new(), None),
    };
    Ok(Observed {
        namespace_uid,
        prior,
        plan_snapshot_exists: plan_name.is_some_and(|name| plans.contains_key(name) || made.contains(name)),
        agent,
        task,
        template,
        skills,
        policies,
        secrets: caches.secrets(),
        network: context.networks.of(namespace),
        approvals: approvals(context, uid),
        guard: guard(context, record.as_ref()).await?,
        pods,
        jobs: {
            made.extend(lock(&caches.jobs).of(uid).into_keys());
            made
        },
        balances,
        outputs,
        external,
        lasts: context.remembered.get(uid).lasts,
        record,
    })
}

/// Whether nothing is to be written on the Task: it says which run it is, as seen or as just written, or it goes.
fn is_marked(task: &TaskView, made: &BTreeSet<String>) -> bool {
    task.mark.is_some() || task.deleting || made.contains(ANNOTATION_RUN)
}

/// The uid of the Task's namespace, as a namespace that is made anew is another place; and the run whose mark it
/// carries, or else what ran of the same request.
async fn earlier(context: &Context, task: &TaskView) -> Result<(String, Option<PriorRun>), Error> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let uid = namespaces.get_metadata(&task.namespace).await?.metadata.uid.unwrap_or_default();
    let prior = match task.mark.as_deref().map(str::parse::<Mark>) {
        None => context.store.prior(&RunKey::of(&uid, task)).await?,
        Some(Ok(mark)) => context.store.run(&mark.task_uid).await?,
        // Refused by itself.
        Some(Err(_)) => None,
    };
    Ok((uid, prior))
}

/// Whether anything of the Task has a price, or may come to have one in this reconciliation.
fn may_cost(record: Option<&TaskRecord>, skills: &BTreeMap<String, SkillSpec>) -> bool {
    let priced = |skill: &SkillSpec| skill.cost.is_some() || skill.downgrade_to.is_some();
    let Some((record, plan)) = record.and_then(|record| Some((record, record.plan.as_ref()?))) else {
        // Whatever it turns out to run may start at once.
        return skills.values().any(priced);
    };
    let open = |step: &&Step| record.steps.get(&step.name).is_some_and(|state| state.is_open());
    let mut attempts = record.steps.values().flat_map(|step| &step.attempts);
    attempts.any(|attempt| attempt.reservation.is_some())
        || plan.steps.iter().filter(open).filter_map(|step| skills.get(&step.skill)).any(priced)
}

/// Whether anything of the Task can be known on a network beyond the cluster: what it pays, and, once it is over, its anchors.
fn may_be_external(record: &TaskRecord, skills: &BTreeMap<String, SkillSpec>) -> bool {
    let pays = |attempt: &AttemptRecord| skills.get(&attempt.skill).is_some_and(|skill| skill.payment.is_some());
    record.finished.is_some() || record.steps.values().flat_map(|step| &step.attempts).any(pays)
}

/// The Task's Approvals with those decisions whose seal holds; without the seal's key, none does.
fn approvals(context: &Context, uid: &str) -> BTreeMap<String, ApprovalView> {
    let mut approvals = lock(&context.caches.approvals).of(uid);
    let seal = context.seal.get();
    for approval in approvals.values_mut() {
        let sealed = seal.as_ref().map(|seal| seal.sealed(&approval.uid, &approval.decisions));
        approval.decisions = sealed.unwrap_or_default();
    }
    approvals
}

/// Looked at only where something could be dispatched that rests on a signature.
async fn guard(context: &Context, record: Option<&TaskRecord>) -> Result<Guard, Error> {
    let Some(record) = record.filter(|record| record.finished.is_none()) else { return Ok(Guard::NotNeeded) };
    let waiting = |attempt: &AttemptRecord| attempt.approval.is_some() && attempt.state == AttemptState::Intended;
    let rests = record.approvals.values().any(|approval| approval.is_open())
        || record.steps.values().filter_map(|step| step.live_attempt()).any(waiting);
    if !rests {
        return Ok(Guard::NotNeeded);
    }
    Ok(context.guard.observe(&context.client).await?)
}

/// Decided by who asked, as the record has it, whatever the Task says of itself.
fn agent(caches: &Caches, task: Option<&TaskView>, record: Option<&TaskRecord>) -> Acting {
    let Some(task) = task else { return Acting::Alone };
    let requester = record.map_or(&task.spec.requester, |record| &record.request.requester);
    caches.acting(&task.namespace, task.spec.agent_ref.as_ref(), requester.as_ref())
}

/// The Task's pods; those that an attempt was admitted for are looked for until the API server itself
/// says that they are gone, and outputs are read where the report does not hold them.
async fn pods(
    context: &Context,
    uid: &str,
    namespace: &str,
    record: Option<&TaskRecord>,
) -> Result<Vec<PodView>, Error> {
    let mut pods: Vec<PodView> = lock(&context.caches.pods).of(uid).into_values().collect();
    let Some(record) = record.filter(|record| record.finished.is_none()) else { return Ok(pods) };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let owner = Owner {
        namespace: namespace.to_owned(),
        name: record.name.clone(),
        uid: uid.to_owned(),
        // The label is not part of what is compared.
        task_type: None,
    };
    for attempt in record.steps.values().filter_map(|step| step.live_attempt()) {
        check_gated(context, &owner, attempt, &api, &mut pods).await?;
        let AttemptState::Admitted { pod_uid, .. } = &attempt.state else { continue };
        if !pods.iter().any(|pod| pod.uid == *pod_uid) {
            let params = ListParams::default().labels(&format!("{LABEL_ATTEMPT}={}", attempt.key));
            let listed = api.list(&params).await?;
            pods.retain(|pod| pod.key != attempt.key);
            pods.extend(listed.items.iter().filter_map(views::pod).map(|entry| entry.view));
        }
        let admitted = pods.iter_mut().find(|pod| pod.uid == *pod_uid);
        if let Some(PodView { name, state: PodState::Ended(end), .. }) = admitted {
            let output = end.report.as_ref().and_then(|report| report.output.as_ref());
            if output.is_some_and(|output| output.inline.is_none()) {
                end.output = Some(logs::read_output(&api, name).await.map(Arc::from));
            }
        }
    }
    Ok(pods)
}

/// A pod that waits to be let in is read from the API server and held against what was decided.
async fn check_gated(
    context: &Context,
    owner: &Owner,
    attempt: &AttemptRecord,
    api: &Api<Pod>,
    pods: &mut [PodView],
) -> Result<(), Error> {
    let Some(launch) = &attempt.launch else { return Ok(()) };
    let waits = |pod: &&mut PodView| pod.key == attempt.key && pod.state == PodState::Unchecked;
    for pod in pods.iter_mut().filter(waits) {
        let Some(seen) = api.get_opt(&pod.name).await? else { continue };
        pod.state = match action::altered(context, owner, &attempt.key, launch, &seen)? {
            None => PodState::Gated,
            Some(field) => PodState::Altered { field },
        };
    }
    Ok(())
}

/// The template that the Task's `planRef` or `type` leads to: in its own namespace first, then in the
/// operator's.
pub async fn template(client: &Client, operator_namespace: &str, task: &TaskView) -> Result<TemplateLookup, Error> {
    if task.spec.plan.is_some() {
        return Ok(TemplateLookup::NotNeeded);
    }
    let own: Api<Plan> = Api::namespaced(client.clone(), &task.namespace);
    if let Some(reference) = &task.spec.plan_ref {
        return Ok(match own.get_opt(&reference.name).await? {
            None => TemplateLookup::Missing { name: reference.name.clone() },
            Some(plan) if plan.spec.task_ref.is_some() => TemplateLookup::Ambiguous {
                message: format!("spec.planRef: Plan {:?} is a Task's own copy; name a template", reference.name),
            },
            Some(plan) => found(plan),
        });
    }
    let Some(kind) = &task.spec.task_type else { return Ok(TemplateLookup::NotNeeded) };
    let params = ListParams::default().labels(&format!("{LABEL_TYPE}={kind}"));
    let shared: Api<Plan> = Api::namespaced(client.clone(), operator_namespace);
    for api in [own, shared] {
        // A Plan snapshot carries its Task's type too.
        let mut templates: Vec<Plan> =
            api.list(&params).await?.items.into_iter().filter(|plan| plan.spec.task_ref.is_none()).collect();
        if templates.len() > 1 {
            let names: Vec<String> = templates.iter().map(ResourceExt::name_any).collect();
            let message = format!(
                "spec.type: several Plans carry the label {LABEL_TYPE}={kind} ({}); keep one",
                names.join(", ")
            );
            return Ok(TemplateLookup::Ambiguous { message });
        }
        if let Some(plan) = templates.pop() {
            return Ok(found(plan));
        }
    }
    Ok(TemplateLookup::NoneForType)
}

fn found(plan: Plan) -> TemplateLookup {
    let name = format!("{}/{}", plan.namespace().unwrap_or_default(), plan.name_any());
    let template = PlanTemplate { parallelism: plan.spec.parallelism, steps: plan.spec.steps };
    TemplateLookup::Found { name, template }
}

async fn outputs(
    context: &Context,
    record: &TaskRecord,
    needed: &BTreeSet<String>,
) -> Result<BTreeMap<String, Arc<serde_json::Value>>, Error> {
    let wanted: Vec<String> = wanted_outputs(record).union(needed).cloned().collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let outputs = context.store.outputs(&record.uid, &wanted).await?;
    Ok(outputs.into_iter().map(|(step, output)| (step, Arc::new(output))).collect())
}
