//! What waits for a signature.

use countersign_core::escape::shown;
use countersign_crds::Approval;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::cluster::Cluster;
use crate::output::say;
use crate::text::{state, table, until};

pub async fn run(cluster: &Cluster, all_namespaces: bool) -> anyhow::Result<()> {
    let api = if all_namespaces { cluster.all_approvals() } else { cluster.approvals() };
    let mut waiting: Vec<Approval> = api.list(&ListParams::default()).await?.items;
    waiting.retain(|approval| state(approval).0 == "Pending");
    waiting.sort_by_key(|approval| approval.spec.expires_at.0);
    if waiting.is_empty() {
        say("Nothing waits for a signature.");
        return Ok(());
    }
    let me = cluster.me().await?.username.unwrap_or_default();
    let now = Timestamp::now();
    let head = ["NAMESPACE", "NAME", "TASK", "STEP", "SKILL", "RISK", "REQUESTER", "SIGNED", "EXPIRES", "YOU"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for approval in &waiting {
        let namespace = approval.namespace().unwrap_or_default();
        let yours = yours(cluster, &me, &namespace, approval).await?;
        let spec = &approval.spec;
        let signed = approval.status.as_ref().and_then(|status| status.signed.clone()).unwrap_or_default();
        let steps = if spec.covers.is_empty() { String::new() } else { format!(" +{}", spec.covers.len()) };
        rows.push(vec![
            namespace,
            approval.name_any(),
            spec.task_ref.name.clone(),
            format!("{}{steps}", spec.step),
            spec.subject.skill.clone(),
            spec.risk.as_str().to_owned(),
            shown(&spec.requester.user),
            signed,
            until(now, spec.expires_at.0),
            yours.to_owned(),
        ]);
    }
    say(&table(&rows));
    Ok(())
}

/// What this user could do about it.
async fn yours(cluster: &Cluster, me: &str, namespace: &str, approval: &Approval) -> anyhow::Result<&'static str> {
    let spec = &approval.spec;
    if spec.requester.user == me {
        return Ok("asked for it");
    }
    if spec.decisions.iter().any(|decision| decision.user == me) {
        return Ok("signed");
    }
    Ok(if cluster.may_approve(namespace, spec.risk).await? { "may sign" } else { "may not sign" })
}
