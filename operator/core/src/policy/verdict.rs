//! What the Policies say of one step.

use countersign_crds::{ApprovalRequirement, Effect, PolicyMode, Required, RiskClass, Rule};
use serde_json::{Map, Value};

use super::layers::{Combined, Layer, combine};
use super::set::{CompiledPolicy, PolicySet};
use crate::approval::Ask;
use crate::binding::BoundRule;
use crate::cel::{CelEvaluator, EvalError, Expression, Variables};
use crate::digest::Digest;
use crate::record::RuleDecision;

/// What all Policies together say of a step, and every rule that matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What the rules of the cluster and those of the namespace come to together.
    pub combined: Combined,
    /// The highest risk of the rules that matched and bind.
    pub risk: RiskClass,
    /// Every rule that matched, even if only in mode Audit; where none of the cluster's binds, one that says so.
    pub rules: Vec<RuleDecision>,
    /// Those of them that bind, by content.
    pub bound: Vec<BoundRule>,
}

impl PolicySet {
    /// Judges one step of a Task in `namespace`.
    ///
    /// # Errors
    /// Where the evaluator failed at a rule that binds, never the step: it is worth another try, and until then nothing
    /// is allowed.
    pub fn judge(
        &self,
        namespace: &str,
        variables: &Variables,
        evaluator: &CelEvaluator,
    ) -> Result<Verdict, (String, EvalError)> {
        let digest = self.digest(namespace);
        let mut rules = Vec::new();
        let mut risk = RiskClass::default();
        let mut bound = Vec::new();
        let (mut cluster, mut own) = (Layer::Silent, Layer::Silent);
        for policy in self.applying(namespace) {
            for (rule, expression) in policy.spec.rules.iter().zip(&policy.rules) {
                let Some(decision) = decide_rule(policy, rule, expression, variables, evaluator, digest)
                    .map_err(|error| (format!("the rule {:?} of the Policy {:?}", rule.name, policy.name), error))?
                else {
                    continue;
                };
                match policy.spec.mode {
                    PolicyMode::Audit => {}
                    // A namespace's own Policy allows nothing, so what it says is of no consequence for the risk.
                    PolicyMode::Enforce if !policy.binds_cluster && decision.effect == Effect::Allow => {}
                    PolicyMode::Enforce => {
                        risk = risk.max(decision.risk);
                        let (policy_name, egress) = (policy.name.clone(), policy.spec.egress.clone());
                        bound.push(BoundRule { policy: policy_name, rule: rule.clone(), egress });
                        let layer = if policy.binds_cluster { &mut cluster } else { &mut own };
                        *layer = std::mem::take(layer).with(decision.effect, || asks(rule));
                    }
                }
                rules.push(decision);
            }
        }
        if cluster == Layer::Silent {
            rules.push(no_match(digest));
        }
        Ok(Verdict { combined: combine(cluster, own), risk, rules, bound })
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
    evaluator: &CelEvaluator,
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
    let error = match evaluator.evaluate_bool(expression, variables) {
        Ok(false) => return Ok(None),
        Ok(true) => return Ok(Some(decision(rule.effect, rule.message.clone(), saw(expression, variables)))),
        Err(error) => error,
    };
    match policy.spec.mode {
        PolicyMode::Enforce if error.is_transient() => Err(error),
        // What binds nothing holds nothing up either.
        PolicyMode::Enforce | PolicyMode::Audit => {
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
