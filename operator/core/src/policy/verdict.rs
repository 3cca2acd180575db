//! What the Policies say of one step.

use countersign_crds::{ApprovalRequirement, Effect, PolicyMode, Required, RiskClass, Rule};
use serde_json::{Map, Value};

use super::set::{CompiledPolicy, PolicySet};
use crate::approval::Ask;
use crate::cel::{EvalError, Expression, Fence, Variables};
use crate::digest::Digest;
use crate::record::RuleDecision;

/// The strongest effect of all rules that matched, and every rule that did.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub effect: Effect,
    /// The highest risk of the rules that matched and bind.
    pub risk: RiskClass,
    /// What the rules that ask for signatures ask for.
    pub ask: Ask,
    pub rules: Vec<RuleDecision>,
}

impl PolicySet {
    /// Judges one step of a Task in `namespace`. An error here is the evaluator's, never the step's: it
    /// is worth another try, and until then nothing is allowed.
    pub fn judge(&self, namespace: &str, variables: &Variables, fence: &Fence) -> Result<Verdict, EvalError> {
        let digest = self.digest(namespace);
        let mut rules = Vec::new();
        let mut binding: Vec<(Effect, RiskClass)> = Vec::new();
        let mut ask: Option<Ask> = None;
        let mut cluster_speaks = false;
        for policy in self.applying(namespace) {
            for (rule, expression) in policy.spec.rules.iter().zip(&policy.rules) {
                let Some(decision) = decide_rule(policy, rule, expression, variables, fence, digest)? else {
                    continue;
                };
                let binds = match policy.spec.mode {
                    PolicyMode::Enforce => policy.binds_cluster || decision.effect != Effect::Allow,
                    PolicyMode::Audit => false,
                };
                if binds {
                    cluster_speaks |= policy.binds_cluster;
                    binding.push((decision.effect, decision.risk));
                    if decision.effect == Effect::RequireApproval {
                        let this = asks(rule);
                        ask = Some(ask.map_or_else(|| this.clone(), |ask| ask.and(&this)));
                    }
                }
                rules.push(decision);
            }
        }
        // A namespace's own Policy can only tighten: where no rule of the cluster matched, nothing is allowed.
        if !cluster_speaks {
            let default = no_match(digest);
            binding.push((default.effect, default.risk));
            rules.push(default);
        }
        let effect = binding.iter().map(|(effect, _)| *effect).max().unwrap_or(Effect::Deny);
        let risk = binding.iter().map(|(_, risk)| *risk).max().unwrap_or_default();
        Ok(Verdict { effect, risk, ask: ask.unwrap_or_default(), rules })
    }
}

/// What one rule asks for.
fn asks(rule: &Rule) -> Ask {
    let default = Ask::default();
    let Some(ApprovalRequirement { count, groups, service_accounts, scope, expires_after }) = &rule.approval else {
        return default;
    };
    Ask {
        required: Required {
            count: *count,
            groups: groups.clone(),
            service_accounts: service_accounts.clone(),
            // Known of the Task, not of the rule.
            excluded: Vec::new(),
        },
        scope: *scope,
        // A duration that does not parse was refused when the rule was compiled, and then the rule denies.
        expires_after: expires_after.as_deref().and_then(|text| text.parse().ok()).unwrap_or(default.expires_after),
    }
}

/// `None` where the rule does not match.
fn decide_rule(
    policy: &CompiledPolicy,
    rule: &Rule,
    expression: &Result<Expression, String>,
    variables: &Variables,
    fence: &Fence,
    policies: Digest,
) -> Result<Option<RuleDecision>, EvalError> {
    let decision = |effect, message: Option<String>, saw| RuleDecision {
        policy: policy.name.clone(),
        rule: rule.name.clone(),
        effect,
        mode: policy.spec.mode,
        risk: rule.risk,
        message,
        saw,
        policies,
    };
    let expression = match expression {
        Ok(expression) => expression,
        Err(message) => return Ok(Some(decision(Effect::Deny, Some(message.clone()), Map::new()))),
    };
    match fence.evaluate_bool(expression, variables) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(decision(rule.effect, rule.message.clone(), saw(expression, variables)))),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            let message = format!("the rule could not be evaluated, and an error denies: {error}");
            Ok(Some(decision(Effect::Deny, Some(bounded(message)), saw(expression, variables))))
        }
    }
}

fn no_match(policies: Digest) -> RuleDecision {
    RuleDecision {
        policy: "default".to_owned(),
        rule: "no-rule-matched".to_owned(),
        effect: Effect::Deny,
        mode: PolicyMode::Enforce,
        risk: RiskClass::default(),
        message: Some("no rule of any Policy allows it; add a rule to a Policy in the operator's namespace".to_owned()),
        saw: Map::new(),
        policies,
    }
}

/// The values that an expression names, each cut to a size that a record can bear.
fn saw(expression: &Expression, variables: &Variables) -> Map<String, Value> {
    let value_at = |path: &crate::cel::Path| {
        let mut value = variables.get(path.root())?;
        for segment in path.segments().iter().skip(1) {
            value = value.get(segment)?;
        }
        Some(value.clone())
    };
    let cut = |value: Value| {
        let text = value.to_string();
        if text.len() <= 256 { value } else { Value::String(bounded(text)) }
    };
    expression.references().iter().take(16).filter_map(|path| Some((path.to_string(), cut(value_at(path)?)))).collect()
}

fn bounded(mut text: String) -> String {
    if text.len() > 256 {
        let end = (0..=253).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
