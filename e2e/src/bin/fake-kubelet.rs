//! A node that runs nothing: it says at once that each pod of an attempt succeeded. For benchmarks of the
//! operator and the control plane, as kwok would do it; never for a test of what a pod does.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;

const NODE: &str = "fake";
const ATTEMPT: &str = "countersign.dev/attempt";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let client = Client::try_default().await?;
    join(&client).await.context("the node cannot join")?;
    let pods =
        watcher(Api::<Pod>::all(client.clone()), watcher::Config::default().fields(&format!("spec.nodeName={NODE}")));
    let run = pods.default_backoff().applied_objects().try_for_each_concurrent(32, |pod| {
        let client = client.clone();
        async move {
            if let Err(error) = answer(&client, &pod).await {
                eprintln!("{}: {error}", pod.name_any());
            }
            Ok(())
        }
    });
    tokio::select! {
        result = run => result.context("the watch of pods ended"),
        result = stay(&client) => result,
        _ = tokio::signal::ctrl_c() => leave(&client).await,
    }
}

async fn join(client: &Client) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}});
    nodes.patch(NODE, &PatchParams::apply("fake-kubelet").force(), &Patch::Apply(node)).await?;
    beat(client).await
}

/// Without a heartbeat the node would be taken for dead within a minute.
async fn stay(client: &Client) -> anyhow::Result<()> {
    futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        Some(((), ()))
    })
    .map(Ok)
    .try_for_each(|()| beat(client))
    .await
}

async fn beat(client: &Client) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let ready = json!({"type": "Ready", "status": "True", "reason": "Fake", "message": "it runs nothing",
        "lastHeartbeatTime": now, "lastTransitionTime": now});
    let size = json!({"cpu": "100k", "memory": "100Ti", "pods": "100k", "ephemeral-storage": "100Ti"});
    let status = json!({"status": {"conditions": [ready], "capacity": size, "allocatable": size}});
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": format!("{now:.6}")}});
    leases.patch(NODE, &PatchParams::apply("fake-kubelet").force(), &Patch::Apply(lease)).await?;
    Ok(())
}

async fn leave(client: &Client) -> anyhow::Result<()> {
    Api::<Node>::all(client.clone()).delete(NODE, &DeleteParams::default()).await?;
    Ok(())
}

async fn answer(client: &Client, pod: &Pod) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().context("a pod without namespace")?);
    if pod.metadata.deletion_timestamp.is_some() {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        return Ok(());
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let (Some("Pending"), Some(attempt)) = (phase, pod.labels().get(ATTEMPT)) else { return Ok(()) };
    let now = Timestamp::now();
    let output = json!({"sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "size": 2, "inline": "{}"});
    let report = json!({"version": 1, "attempt": attempt, "status": "Succeeded", "exitCode": 0, "message": "",
        "output": output, "startedAt": now, "finishedAt": now});
    let ended = json!({"exitCode": 0, "reason": "Completed", "message": report.to_string(), "startedAt": now, "finishedAt": now});
    let status = json!({"status": {"phase": "Succeeded", "startTime": now, "containerStatuses": [
        {"name": "skill", "image": "fake", "imageID": "fake", "ready": false, "restartCount": 0, "state": {"terminated": ended}}]}});
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}
