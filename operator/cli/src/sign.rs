//! A signature: what it is for is shown first, and nothing else is signed than what was shown.

use anyhow::{Context, bail};
use countersign_core::approval::{Tally, Terms, tally};
use countersign_core::escape::shown;
use countersign_crds::{Approval, ApprovalSpec};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::output::say;
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
    say(&describe(Timestamp::now(), &approval));
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
    say(&format!("{name}: {verb} by {}; {}", shown(&me), progress(&signed.spec)));
    let (state, _) = state(&signed);
    if state != "Pending" {
        say(&format!("It is {state}."));
    }
    Ok(())
}

/// What its signatures amount to now.
fn progress(spec: &ApprovalSpec) -> String {
    match tally(&Terms::of(spec), &spec.decisions) {
        Tally::Waiting(missing) => format!("it waits for {missing}"),
        Tally::Reached => "it has the signatures that it takes".to_owned(),
        Tally::Rejected { .. } => "that is final".to_owned(),
    }
}
