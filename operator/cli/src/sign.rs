//! A signature: what it is for is shown first, and nothing else is signed than what was shown.

use anyhow::{Context, bail};
use countersign_crds::Approval;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::text::{confirm, describe, state};

pub async fn run(
    cluster: &Cluster,
    name: &str,
    approved: bool,
    reason: Option<String>,
    yes: bool,
) -> anyhow::Result<()> {
    let approvals = cluster.approvals();
    let approval = approvals.get(name).await.with_context(|| format!("Approval {name} in {}", cluster.namespace))?;
    println!("{}", describe(Timestamp::now(), &approval));
    let question = if approved { "Sign for exactly this?" } else { "Reject it? That is final." };
    if !yes && !confirm(question)? {
        bail!("nothing was signed");
    }
    // Another object of this name has another uid, and then this fails; in this one the digest never changes.
    let patch = json!({"metadata": {"uid": approval.uid()}, "spec": {"approved": approved, "reason": reason}});
    let patched = approvals.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    let signed: Approval = patched.context("it was not signed")?;
    let verb = if approved { "approved" } else { "rejected" };
    let me = cluster.me().await?.username.unwrap_or_default();
    let stamped = signed.spec.decisions.iter().any(|decision| decision.user == me && decision.approved == approved);
    if !stamped {
        bail!("the API server took it, but no decision of {me} was stamped; is the operator's webhook installed?");
    }
    println!("{name}: {verb} by {me}; {} of {} so far", people(&signed), signed.spec.required.count);
    let (state, _) = state(&signed);
    if state != "Pending" {
        println!("It is {state}.");
    }
    Ok(())
}

fn people(approval: &Approval) -> usize {
    let yes = approval.spec.decisions.iter().filter(|decision| decision.approved).map(|decision| &decision.user);
    yes.collect::<std::collections::BTreeSet<_>>().len()
}
