//! A judge that reads its answer off the Skill: `allow:1`, `approve:2`, `both:2`, `deny:3`. The number makes two
//! contracts differ, as an edit would. `approve` takes one signature for the step; `both` takes those of two
//! people, one of them of security, and may be signed for with other steps.

use std::collections::BTreeMap;

use countersign_core::approval::Ask;
use countersign_core::binding::{Binding, Ruling, Work};
use countersign_core::blocked::BlockedReason;
use countersign_core::budget::{Weighed, WhenAffordable};
use countersign_core::digest::Digest;
use countersign_core::judge::{Case, Judge, Judgement, Prepared};
use countersign_core::time::GoDuration;
use countersign_crds::{ApprovalScope, Required};

pub(crate) struct TableJudge {
    /// The evaluator has no time for anything.
    pub busy: bool,
    /// Which is then taken for a fault of the Plan: a defect.
    pub invalid: bool,
}

/// What no step of a simulated world ever fails for.
pub(crate) const FAULT: &str = "InvalidExpression";
pub(crate) const TIMEOUT_SECONDS: u32 = 30;
pub(crate) const EXPIRY_SECONDS: u32 = 300;

impl Judge for TableJudge {
    fn judge(&self, case: &Case<'_>) -> Judgement {
        if self.busy && self.invalid {
            return Judgement::Invalid { reason: FAULT, message: "not finished within 100 ms".into() };
        }
        if self.busy {
            return Judgement::blocked(BlockedReason::EvaluatorTimedOut, "not finished within 100 ms");
        }
        let Some(contract) = case.skills.get(&case.step.skill) else {
            return Judgement::blocked(BlockedReason::SkillNotInstalled, "the Skill is not installed");
        };
        let answer = contract.description.clone().unwrap_or_default();
        let work = Work {
            skill: case.step.skill.clone(),
            contract: contract.clone(),
            input: case.step.input.clone(),
            image: case.runner_image.to_owned(),
            timeout_seconds: TIMEOUT_SECONDS,
            secrets: BTreeMap::new(),
            workspace: (case.workspace)(),
            payment: None,
        };
        let ask = match answer.split(':').next() {
            Some("approve") => Some(ask(1, &[], ApprovalScope::Step)),
            Some("both") => Some(ask(2, &["security"], ApprovalScope::Plan)),
            _ => None,
        };
        let binding = Binding::of(case, work, Ruling { ask, ..Ruling::default() });
        let Ok(digest) = binding.digest() else {
            return Judgement::Invalid { reason: "InvalidInput", message: "its input has no canonical form".into() };
        };
        let prepared = Box::new(Prepared {
            input_digest: Digest::of_bytes("{}"),
            binding,
            digest,
            limits: Vec::new(),
            rules: Vec::new(),
            budget: None,
        });
        let prepared = match answer.split(':').next() {
            Some("allow" | "approve" | "both") => match case.budget_view.weigh(&case.step.skill, contract) {
                Weighed::Free => prepared,
                Weighed::Fits(decision) => Box::new(Prepared { budget: Some(Box::new(decision)), ..*prepared }),
                Weighed::Over { decision, later: WhenAffordable::At(until) } => {
                    return Judgement::deferred(decision, Some(until));
                }
                Weighed::Over { decision, later: WhenAffordable::GivenBack } => {
                    return Judgement::deferred(decision, None);
                }
                Weighed::Over { decision, later: WhenAffordable::Never } => {
                    let budget = Some(Box::new(decision));
                    return Judgement::Denied { message: "over budget".into(), rules: Vec::new(), budget };
                }
                Weighed::Unpriced(message) => return Judgement::Denied { message, rules: Vec::new(), budget: None },
            },
            _ => prepared,
        };
        match answer.split(':').next() {
            Some("allow" | "approve" | "both") => Judgement::Ready(prepared),
            Some("skip") => Judgement::Skip,
            _ => Judgement::Denied { message: answer, rules: Vec::new(), budget: None },
        }
    }
}

fn ask(count: u32, groups: &[&str], scope: ApprovalScope) -> Ask {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let required = Required { count, groups, service_accounts: Vec::new(), excluded: Vec::new() };
    Ask { required, scope, expires_after: GoDuration::from_secs(EXPIRY_SECONDS) }
}

/// How many people it takes for a Skill of this description.
pub(crate) fn people_for(description: Option<&str>) -> usize {
    match description.and_then(|answer| answer.split(':').next()) {
        Some("approve") => 1,
        Some("both") => 2,
        _ => 0,
    }
}
