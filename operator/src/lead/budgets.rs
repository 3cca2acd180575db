//! Keeps people told of budgets: each Agent's status, an Event for each alert; and settles what was left unknown once
//! its pod is known to be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_core::budget::{Budgets, LineKey, Scope, agent_status};
use countersign_crds::{Agent, AgentStatus, LABEL_ATTEMPT, Policy, Task};
use countersign_service::causes::told;
use countersign_store::{UnannouncedAlert, Unsettled, within};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Resource;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use serde_json::json;

use crate::reconciler::action::FIELD_MANAGER;
use crate::reconciler::context::Context;
use crate::reconciler::error::Error;
use countersign_service::clock;

const EVERY: Duration = Duration::from_secs(2);
/// How many alerts are told, and how many attempts are settled, at once.
const BATCH: i64 = 50;

/// Runs while this process leads.
pub async fn run(context: &Context) {
    let mut ticks = super::every(EVERY);
    let mut reported: BTreeMap<(String, String), AgentStatus> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let parts = [
            within(super::TURN, report(context, &mut reported)).await,
            within(super::TURN, tell(context)).await,
            within(super::TURN, reconcile(context)).await,
        ];
        for error in parts.into_iter().filter_map(Result::err) {
            tracing::warn!(error = told(&error), "budgets were not told of; it is tried again");
        }
    }
}

async fn report(context: &Context, reported: &mut BTreeMap<(String, String), AgentStatus>) -> Result<(), Error> {
    let now = clock::now();
    let agents = context.caches.agents();
    reported.retain(|place, _| agents.contains_key(place));
    let budgets: BTreeMap<_, Budgets> = agents
        .iter()
        .map(|(place, agent)| (place.clone(), Budgets::of_agent(now, &place.0, &place.1, &agent.spec)))
        .collect();
    let keys: BTreeSet<LineKey> =
        budgets.values().flat_map(|all| all.lines.iter().map(|line| line.key.clone())).collect();
    let balances = context.store.balances(&Vec::from_iter(keys)).await?;
    for (place, agent) in agents {
        let Some(budgets) = budgets.get(&place) else { continue };
        let last = reported.get(&place).or(agent.status.as_ref());
        let status = agent_status(now, agent.generation, budgets, &balances, last);
        if last == Some(&status) {
            continue;
        }
        let (namespace, name) = &place;
        let patch = json!({
            "apiVersion": Agent::api_version(&()), "kind": Agent::kind(&()), "metadata": {"name": name}, "status": status,
        });
        let api: Api<Agent> = Api::namespaced(context.client.clone(), namespace);
        match api.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch)).await {
            Ok(_) => {
                reported.insert(place, status);
            }
            // Deleted in the meantime.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An Event on whatever the budget stands on.
async fn tell(context: &Context) -> Result<(), Error> {
    for alert in context.store.unannounced_alerts(BATCH).await? {
        let UnannouncedAlert { id, scope, subject, window, percent, limit, spent, held, task: _ } = &alert;
        let exhausted = *percent >= 100;
        let event = Event {
            type_: if *percent >= 80 { EventType::Warning } else { EventType::Normal },
            reason: if exhausted { "BudgetExhausted".to_owned() } else { format!("Budget{percent}Percent") },
            note: Some(format!(
                "{percent} percent of the budget ({} {subject}, {}) are used: {spent} spent and {held} held of {limit}",
                scope.as_str().to_lowercase(),
                window.as_str().to_lowercase()
            )),
            // Events of one action are taken for repetitions of each other.
            action: format!("Budget{}{percent}", window.as_str()),
            secondary: None,
        };
        for reference in about(context, &alert) {
            if let Err(error) = context.recorder.publish(&event, &reference).await {
                tracing::warn!(error = told(&error), "an Event was not written");
            }
        }
        context.store.alert_told(*id).await?;
    }
    Ok(())
}

fn about(context: &Context, alert: &UnannouncedAlert) -> Vec<ObjectReference> {
    let reference =
        |api_version: String, kind: String, namespace: &str, name: &str, uid: Option<String>| ObjectReference {
            api_version: Some(api_version),
            kind: Some(kind),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid,
            ..ObjectReference::default()
        };
    match alert.scope {
        Scope::Agent => {
            let Some((namespace, name)) = alert.subject.split_once('/') else { return Vec::new() };
            let uid = context.caches.agents().remove(&(namespace.to_owned(), name.to_owned())).and_then(|a| a.uid);
            vec![reference(Agent::api_version(&()).into(), Agent::kind(&()).into(), namespace, name, uid)]
        }
        Scope::Task => {
            let Some((namespace, name)) = &alert.task else { return Vec::new() };
            let uid = Some(alert.subject.clone());
            vec![reference(Task::api_version(&()).into(), Task::kind(&()).into(), namespace, name, uid)]
        }
        Scope::Cluster | Scope::Namespace => {
            let of_namespace = alert.scope == Scope::Namespace;
            let says = |namespace: &str, spec: &countersign_crds::PolicySpec| {
                let binds = namespace == context.operator_namespace || namespace == alert.subject;
                let Some(budget) = spec.budget.as_ref().filter(|_| binds) else { return false };
                if of_namespace { budget.namespace.is_some() } else { budget.cluster.is_some() }
            };
            let policies = context.caches.policy_specs();
            let saying = policies.iter().filter(|((namespace, _), spec)| says(namespace, spec));
            let of = |(namespace, name): &(String, String)| {
                reference(Policy::api_version(&()).into(), Policy::kind(&()).into(), namespace, name, None)
            };
            saying.map(|(place, _)| of(place)).collect()
        }
    }
}

/// What nobody knew the end of is settled once nothing of it runs any more.
async fn reconcile(context: &Context) -> Result<(), Error> {
    let unsettled = context.store.unsettled(BATCH).await?;
    super::each("the settling of an attempt", unsettled.into_iter().map(|of| settle(context, of))).await;
    Ok(())
}

async fn settle(context: &Context, of: Unsettled) -> Result<(), Error> {
    if !runs(context, &of).await? && context.store.reconcile(&of, clock::now()).await? {
        tracing::info!(attempt = %of.attempt, "what its end had left unknown is settled");
    }
    Ok(())
}

/// Whether a pod of the attempt may still do something, as the API server says.
async fn runs(context: &Context, of: &Unsettled) -> Result<bool, Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &of.task.namespace);
    let params = ListParams::default().labels(&format!("{LABEL_ATTEMPT}={}", of.attempt));
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(pods.list(&params).await?.iter().any(|pod| !ended(pod)))
}
