//! What the judge said of a step, as far as a simulation tells it on.

use std::time::Duration;

use countersign_crds::{Required, RiskClass};
use jiff::Timestamp;

use super::simulation::Reason;
use crate::budget::BudgetDecision;
use crate::judge::{Judgement, Prepared};
use crate::policy::{NOT_KNOWN, OpenRule};
use crate::record::RuleDecision;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruling {
    pub says: Says,
    /// The Skill that it was about in the end.
    pub skill: String,
    pub reasons: Vec<Reason>,
    /// The rules that cannot be judged yet.
    pub undetermined: Vec<Reason>,
    /// Whether nothing but those could allow it.
    pub only_by_open_rules: bool,
    pub budget: Option<BudgetDecision>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Says {
    Skip { message: String },
    Invalid { reason: &'static str, message: String },
    Denied { message: String },
    Deferred { until: Option<Timestamp> },
    NotYet { message: String },
    Permitted { timeout: Duration },
    NeedsApproval { timeout: Duration, required: Required, risk: RiskClass },
}

impl Says {
    /// Whether it would run, at this moment or after a signature.
    pub fn runs(&self) -> bool {
        match self {
            Says::Permitted { .. } | Says::NeedsApproval { .. } => true,
            Says::Skip { .. }
            | Says::Invalid { .. }
            | Says::Denied { .. }
            | Says::Deferred { .. }
            | Says::NotYet { .. } => false,
        }
    }

    /// Whether it stands in the way of the whole Task.
    pub fn stops(&self) -> bool {
        match self {
            Says::Invalid { .. } | Says::Denied { .. } | Says::NotYet { .. } => true,
            Says::Skip { .. } | Says::Deferred { .. } | Says::Permitted { .. } | Says::NeedsApproval { .. } => false,
        }
    }
}

/// `speaks` of a rule that could be judged and may allow.
pub(super) fn ruling(
    skill: &str,
    judgement: &Judgement,
    undetermined: Vec<Reason>,
    speaks: &dyn Fn(&RuleDecision) -> bool,
) -> Ruling {
    let plain = |says, rules: &[RuleDecision], budget: Option<&BudgetDecision>| Ruling {
        says,
        skill: budget.map_or_else(|| skill.to_owned(), |budget| budget.skill.clone()),
        only_by_open_rules: rules.iter().any(|rule| rule.policy == NOT_KNOWN) && !rules.iter().any(speaks),
        reasons: rules.iter().filter(|rule| rule.policy != NOT_KNOWN).map(reason).collect(),
        undetermined: undetermined.clone(),
        budget: budget.cloned(),
    };
    let prepared = |prepared: &Prepared| {
        let Prepared { binding, rules, budget, .. } = prepared;
        let timeout = Duration::from_secs(u64::from(binding.timeout_seconds));
        let says = match &binding.ask {
            None => Says::Permitted { timeout },
            Some(ask) => Says::NeedsApproval { timeout, required: ask.required.clone(), risk: binding.risk },
        };
        Ruling { skill: binding.skill.name.clone(), ..plain(says, rules, budget.as_deref()) }
    };
    match judgement {
        Judgement::Skip => plain(Says::Skip { message: "its when is false".to_owned() }, &[], None),
        Judgement::Invalid { reason, message } => plain(Says::Invalid { reason, message: message.clone() }, &[], None),
        Judgement::Denied { message, rules, budget } => {
            plain(Says::Denied { message: message.clone() }, rules, budget.as_deref())
        }
        Judgement::Blocked { blocked, budget: Some(budget) } => {
            plain(Says::Deferred { until: blocked.until }, &[], Some(budget))
        }
        Judgement::Blocked { blocked, budget: None } => {
            plain(Says::NotYet { message: blocked.message.clone() }, &[], None)
        }
        Judgement::Ready(ready) => prepared(ready),
    }
}

fn reason(rule: &RuleDecision) -> Reason {
    Reason {
        policy: rule.policy.clone(),
        rule: rule.rule.clone(),
        effect: rule.effect,
        mode: rule.mode,
        message: rule.message.clone(),
    }
}

pub(super) fn open_reason(open: &OpenRule) -> Reason {
    Reason {
        policy: open.policy.clone(),
        rule: open.rule.name.clone(),
        effect: open.rule.effect,
        mode: open.mode,
        message: open.rule.message.clone(),
    }
}
