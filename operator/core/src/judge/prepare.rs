//! A step that may run: exactly what would run, and what a signature is bound to.

use std::collections::{BTreeMap, BTreeSet};

use countersign_crds::{Effect, PolicyMode, RbacSubject, RiskClass, SkillSpec, Step, StepApproval, Workspace};
use serde_json::{Map, Value};

use super::skills::Cleared;
use super::{Case, Early, Judgement, Prepared, blocked, invalid};
use crate::approval::Ask;
use crate::binding::{Binding, Ruling, Work};
use crate::blocked::BlockedReason;
use crate::bounds::TIMEOUT;
use crate::digest;
use crate::escape::printable;
use crate::payment::{Payment, payment};
use crate::record::RuleDecision;
use crate::sandbox::needs_broker;

/// Exactly what would run, what the verdict rests on, and which signatures it takes.
pub(super) fn prepare(
    case: &Case<'_>,
    name: &str,
    contract: &SkillSpec,
    input: Map<String, Value>,
    cleared: Cleared,
) -> Early<Judgement> {
    let Cleared { ask, risk, mut rules, bound, budget } = cleared;
    let timeout_seconds = timeout(case.step, contract).map_err(|message| invalid("InvalidStep", message))?;
    let image = match &contract.image {
        Some(image) => image.reference.clone(),
        None => case.runner_image.to_owned(),
    };
    if needs_broker(contract) && !case.broker {
        let message = format!(
            "the Skill {name:?} has egress, a payment or a workspace, and no broker is installed; set broker.enabled in the chart"
        );
        return Err(blocked(BlockedReason::BrokerNotInstalled, message));
    }
    let payment = payment(&case.task.uid, &case.step.name, contract, &input)
        .map_err(|message| invalid("InvalidInput", message))?;
    let payment = payment.map(|payment| somewhere(case, name, payment)).transpose()?;
    let plan_asks = case.step.approval == StepApproval::Always;
    let ask = match (ask, plan_asks) {
        (None, false) => None,
        (None, true) => Some(Ask::default()),
        (Some(ask), false) => Some(ask),
        (Some(ask), true) => Some(ask.and_for_each_step()),
    };
    let ask = ask.map(|mut ask| {
        ask.required.excluded = excluded(case);
        ask
    });
    if plan_asks {
        rules.push(RuleDecision {
            policy: "plan".to_owned(),
            rule: case.step.name.clone(),
            effect: Effect::RequireApproval,
            mode: PolicyMode::Enforce,
            risk: RiskClass::default(),
            message: Some("the step asks for a signature in any case".to_owned()),
            saw: Map::new(),
            policies: case.policies.digest(&case.task.namespace),
        });
    }
    if let Some(message) = ask.as_ref().and_then(|ask| unsignable(case, ask)) {
        return Err(Judgement::Denied { message, rules, budget: None });
    }
    let number = |error: crate::json::strict::StrictError| invalid("InvalidInput", format!("input: {error}"));
    let input_digest = digest::of_json(&Value::Object(input.clone())).map_err(number)?;
    let work = Work {
        skill: name.to_owned(),
        contract: contract.clone(),
        input,
        image,
        timeout_seconds,
        secrets: secrets(case, contract)?,
        workspace: if contract.workspace == Workspace::None { Vec::new() } else { (case.workspace)() },
        payment,
    };
    let binding = Binding::of(case, work, Ruling { risk, ask, rules: bound });
    let digest = binding.digest().map_err(number)?;
    let limits = case.policies.egress_limits(&case.task.namespace);
    Ok(Judgement::Ready(Box::new(Prepared { input_digest, binding, digest, limits, rules, budget })))
}

/// The payment, with what the name of its network stands for.
fn somewhere(case: &Case<'_>, skill: &str, payment: Payment) -> Early<Payment> {
    let Some(on) = case.networks.get(&payment.network) else {
        let message = format!(
            "the Skill {skill:?} pays on the network {:?}, which the signer does not know; list it in the chart's signer.networks",
            payment.network
        );
        return Err(blocked(BlockedReason::PaymentNetworkNotConfigured, message));
    };
    Ok(Payment { on: Some(*on), ..payment })
}

/// Why nobody could sign for it.
fn unsignable(case: &Case<'_>, ask: &Ask) -> Option<String> {
    if case.request.requester.is_none() {
        return Some(UNKNOWN_REQUESTER.to_owned());
    }
    let groups = ask.required.groups.len();
    (groups > MOST_GROUPS).then(|| {
        format!(
            "its rules together ask for {groups} groups; at most {MOST_GROUPS} can be represented, so ask for fewer"
        )
    })
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
    let fingerprint = |name: &String| match case.secrets.get(name) {
        Some(Some(fingerprint)) => Ok((name.clone(), fingerprint.clone())),
        Some(None) => {
            let message = format!(
                "the brokers do not agree yet on what is in the Secret {name:?}, which was changed just now; they read it within two minutes"
            );
            Err(blocked(BlockedReason::SecretChanging, message))
        }
        None => {
            let message = format!(
                "the Secret {name:?} is not there or not given to the broker; create it in the operator's namespace and list it in the chart's broker.secrets"
            );
            Err(blocked(BlockedReason::SecretNotFound, message))
        }
    };
    names.map(fingerprint).collect()
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
