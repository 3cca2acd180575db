//! Denies the sandboxes of a namespace every way but the one to the broker, and finds out whether the cluster enforces
//! it: a canary with a sandbox's labels tries to reach what it must not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_core::observed::Network;
use countersign_core::status::is_over;
use countersign_service::causes::told;
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use crate::reconciler::action::{FIELD_MANAGER, canary};
use crate::reconciler::context::Context;
use crate::watch::trigger::Trigger;

const EVERY: Duration = Duration::from_secs(2);
/// How long a canary may take to come back.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many namespaces are tried at once.
const AT_ONCE: usize = 4;
const POLICY: &str = "countersign-sandbox";

/// Runs while this process leads.
pub async fn run(context: &Context, trigger: &Trigger) {
    let mut ticks = super::every(EVERY);
    loop {
        ticks.tick().await;
        let namespaces = at_work(context);
        context.networks.keep(&namespaces);
        let due = namespaces.into_iter().filter(|namespace| context.networks.due(namespace));
        let tried = futures::stream::iter(due).map(|namespace| probe(context, namespace)).buffer_unordered(AT_ONCE);
        if tried.fold(false, |changed, this| async move { changed | this }).await {
            trigger.unfinished(&context.caches);
        }
    }
}

/// The namespaces in which something may run.
fn at_work(context: &Context) -> BTreeSet<String> {
    let tasks = context.caches.tasks.state();
    let unfinished = tasks.iter().filter(|task| task.0.as_ref().is_ok_and(|task| !is_over(task)));
    unfinished.filter_map(|task| task.namespace()).collect()
}

/// Whether something was found out.
async fn probe(context: &Context, namespace: String) -> bool {
    let found = match explore(context, &namespace).await {
        Ok(network) => network,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(%namespace, %error, "no canary came back; it is tried again");
            Network::NotTried
        }
    };
    if let Network::Open { reached } = &found {
        tracing::warn!(%namespace, %reached, "the network lets sandboxes through; only the runner's layers keep them in");
    }
    let changed = found != context.networks.of(&namespace);
    context.networks.set(&namespace, found);
    changed
}

async fn explore(context: &Context, namespace: &str) -> anyhow::Result<Network> {
    let policies: Api<NetworkPolicy> = Api::namespaced(context.client.clone(), namespace);
    let policy = sandbox_policy(&context.operator_namespace);
    policies
        .patch(POLICY, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(policy))
        .await
        .with_context(|| format!("NetworkPolicy {POLICY}"))?;
    let broker = context.broker.get().and_then(|broker| broker.trust.address());
    let mut forbidden = vec![api_server()?];
    // Another port of the same pods.
    forbidden.extend(broker.map(|broker| SocketAddr::new(broker.ip(), 8080)));
    let targets = json!({"mustNotReach": forbidden, "mustReach": broker});
    let report = send(&context.client, namespace, canary::build(&context.jobs, &targets.to_string())).await?;
    if let Some(missed) = report.missed {
        bail!("it could not reach the broker at {missed}, so what else it did not reach says nothing");
    }
    let reached: Vec<String> = report.reached.iter().map(ToString::to_string).collect();
    Ok(if reached.is_empty() { Network::Closed } else { Network::Open { reached: reached.join(", ") } })
}

/// Nothing comes in, and only the broker can be reached.
fn sandbox_policy(operator_namespace: &str) -> serde_json::Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": POLICY, "labels": {"app.kubernetes.io/managed-by": "countersign"}},
        "spec": {
            "podSelector": {"matchExpressions": [{"key": countersign_crds::LABEL_ATTEMPT, "operator": "Exists"}]},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{
                "to": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator_namespace}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "countersign-broker"}},
                }],
                "ports": [{"port": 8443, "protocol": "TCP"}],
            }],
        },
    })
}

fn api_server() -> anyhow::Result<SocketAddr> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    text.parse().with_context(|| format!("the API server's address {text}"))
}

#[derive(Deserialize)]
struct Report {
    reached: Vec<SocketAddr>,
    missed: Option<SocketAddr>,
}

/// Runs the canary and takes it away again, whatever came of it.
async fn send(client: &Client, namespace: &str, job: Job) -> anyhow::Result<Report> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let name = jobs.create(&PostParams::default(), &job).await.context("its Job")?.name_any();
    let report = tokio::time::timeout(PATIENCE, report_of(client, namespace, &name)).await;
    if let Err(error) = jobs.delete(&name, &DeleteParams::background()).await {
        tracing::debug!(%namespace, %name, error = told(&error), "the canary's Job goes when its time to live is up");
    }
    report.with_context(|| format!("its pod did not end within {} s", PATIENCE.as_secs()))?
}

async fn report_of(client: &Client, namespace: &str, job: &str) -> anyhow::Result<Report> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let found = pods.list(&ours).await?;
        let ended = found.items.iter().find_map(|pod| {
            let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
            statuses.first()?.state.as_ref()?.terminated.clone()
        });
        if let Some(ended) = ended {
            let message = ended.message.unwrap_or_default();
            return serde_json::from_str(&message).with_context(|| format!("its report {message:?}"));
        }
    }
}
