//! A step that may run: exactly what would run, and what a signature is bound to.

use std::collections::{BTreeMap, BTreeSet};

use countersign_crds::{Effect, PolicyMode, RbacSubject, RiskClass, SkillSpec, Step, StepApproval, Workspace};
use serde_json::{Map, Value, json};

use super::skills::Cleared;
use super::{Case, Early, Judgement, Prepared, blocked, invalid};
use crate::approval::Ask;
use crate::blocked::BlockedReason;
use crate::bounds::TIMEOUT;
use crate::digest;
use crate::escape::printable;
use crate::payment::{Payment, payment};
use crate::record::{Launch, RuleDecision};
use crate::sandbox::needs_broker;

/// Exactly what would run, and whether it takes a signature.
pub(super) fn prepare(
    case: &Case<'_>,
    name: &str,
    contract: &SkillSpec,
    input: Map<String, Value>,
    cleared: Cleared,
) -> Early<Judgement> {
    let Cleared { ask, risk, mut rules, budget } = cleared;
    let timeout = timeout(case.step, contract).map_err(|message| invalid("InvalidStep", message))?;
    let image = match &contract.image {
        Some(image) => image.reference.clone(),
        None => case.runner_image.to_owned(),
    };
    let policies = case.policies.digest(&case.task.namespace);
    if needs_broker(contract) && !case.broker {
        let message = format!(
            "the Skill {name:?} has egress, a payment or a workspace, and no broker is installed; set broker.enabled in the chart"
        );
        return Err(blocked(BlockedReason::BrokerNotInstalled, message));
    }
    let payment = payment(&case.task.uid, &case.step.name, contract, &input)
        .map_err(|message| invalid("InvalidInput", message))?;
    if let Some(Payment { network, .. }) = &payment
        && !case.networks.contains(network)
    {
        let message = format!(
            "the Skill {name:?} pays on the network {network:?}, which the signer does not know; list it in the chart's signer.networks"
        );
        return Err(blocked(BlockedReason::PaymentNetworkNotConfigured, message));
    }
    let secrets = secrets(case, contract)?;
    let limits = case.policies.egress_limits(&case.task.namespace);
    let workspace = if contract.workspace == Workspace::None { Vec::new() } else { (case.workspace)() };
    let mut binding = json!({
        "version": 1,
        "task": case.task.uid,
        "requester": case.request.requester.as_ref().map(|requester| &requester.user),
        "step": case.step,
        "input": input,
        "skill": {"name": name, "spec": contract},
        "image": image,
        "runner": case.runner_image,
        "secrets": secrets,
        "workspace": workspace,
        "policies": policies,
        "attempt": case.attempt,
    });
    if let Some(payment) = &payment {
        binding["payment"] = json!(payment);
    }
    let number = |error: crate::json::strict::StrictError| invalid("InvalidInput", format!("input: {error}"));
    let digest = digest::of_json(&binding).map_err(number)?;
    let input_digest = digest::of_json(&Value::Object(input.clone())).map_err(number)?;
    let plan_asks = case.step.approval == StepApproval::Always;
    if plan_asks {
        rules.push(RuleDecision {
            policy: "plan".to_owned(),
            rule: case.step.name.clone(),
            effect: Effect::RequireApproval,
            mode: PolicyMode::Enforce,
            risk: RiskClass::default(),
            message: Some("the step asks for a signature in any case".to_owned()),
            saw: Map::new(),
            policies,
        });
    }
    let launch = Launch {
        skill: name.to_owned(),
        contract: contract.clone(),
        input,
        image,
        timeout_seconds: timeout,
        limits,
        secrets,
        workspace,
        payment,
    };
    let prepared = Box::new(Prepared { launch, input_digest, binding, digest, risk, rules, budget });
    let mut ask = match (ask, plan_asks) {
        (None, false) => return Ok(Judgement::Permitted(prepared)),
        (None, true) => Ask::default(),
        (Some(ask), false) => ask,
        (Some(ask), true) => ask.and_for_each_step(),
    };
    if case.request.requester.is_none() {
        return Err(Judgement::Denied { message: UNKNOWN_REQUESTER.to_owned(), rules: prepared.rules, budget: None });
    }
    ask.required.excluded = excluded(case);
    if ask.required.groups.len() > MOST_GROUPS {
        let message = format!(
            "its rules together ask for {} groups; at most {MOST_GROUPS} can be represented, so ask for fewer",
            ask.required.groups.len()
        );
        return Err(Judgement::Denied { message, rules: prepared.rules, budget: None });
    }
    Ok(Judgement::NeedsApproval { prepared, ask })
}

/// Who stands behind the requester, and so never signs either: the owners of the Agent that asks, and for whom it says
/// that it asked.
fn excluded(case: &Case<'_>) -> Vec<RbacSubject> {
    let owners = case.agent.agent().into_iter().flat_map(|agent| agent.spec.owners.iter().cloned());
    let claim = case.request.on_behalf_of.as_deref().map(str::trim);
    // What people read names nobody by what they cannot see; it is shown as a claim all the same.
    let behind = claim.filter(|claim| !claim.is_empty() && printable(claim) == **claim);
    let all: BTreeSet<RbacSubject> = owners.chain(behind.map(RbacSubject::user)).collect();
    all.into_iter().collect()
}

/// What the broker will show for it: each Secret as it is now, so that a signature does not outlive it.
fn secrets(case: &Case<'_>, contract: &SkillSpec) -> Early<BTreeMap<String, String>> {
    let names = contract.egress.iter().filter_map(|egress| egress.credential.as_ref()).map(|shown| &shown.secret);
    let version = |name: &String| {
        let version = case.secrets.get(name).ok_or_else(|| {
            let message = format!(
                "the Secret {name:?} is not there or not given to the broker; create it in the operator's namespace and list it in the chart's broker.secrets"
            );
            blocked(BlockedReason::SecretNotFound, message)
        })?;
        Ok((name.clone(), version.clone()))
    };
    names.map(version).collect()
}

/// As many as an Approval's schema holds.
const MOST_GROUPS: usize = 10;

/// Without a requester nobody could be kept from signing for work of their own.
const UNKNOWN_REQUESTER: &str = "it needs a signature, and nobody knows who asked for it: the Task was created while the operator's webhook was away; delete it and create it again";

/// The step's own timeout can shorten the Skill's, never lengthen it.
fn timeout(step: &Step, contract: &SkillSpec) -> Result<u32, String> {
    let parse = |field: &str, text: &str| TIMEOUT.parse(text).map_err(|error| format!("{field}: {error}"));
    let skill = parse("the Skill's timeout", &contract.timeout)?;
    let step = step.timeout.as_deref().map(|text| parse("timeout", text)).transpose()?;
    let seconds = step.map_or(skill, |step| step.min(skill)).get().as_secs();
    u32::try_from(seconds).map_err(|error| error.to_string())
}
