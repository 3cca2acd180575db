//! The Policies of the cluster, compiled once when they change.

use countersign_crds::{EgressLimit, PolicyBudget, PolicyMode, PolicySpec, Rule};
use serde_json::json;

use super::vocabulary;
use crate::cel::Expression;
use crate::digest::{self, Digest};
use crate::problem::Problem;
use crate::time::GoDuration;

/// Every Policy that there is, ready to judge.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Vec<CompiledPolicy>,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledPolicy {
    /// `NAMESPACE/NAME`.
    pub name: String,
    pub namespace: String,
    /// Stands in the operator's namespace, so it binds every namespace and may allow.
    pub binds_cluster: bool,
    pub spec: PolicySpec,
    /// One for each rule; what does not compile denies, with this message.
    pub rules: Vec<Result<Expression, String>>,
}

impl PolicySet {
    /// Compiles Policies given as (namespace, name, spec).
    pub fn compile(
        operator_namespace: &str,
        policies: impl IntoIterator<Item = (String, String, PolicySpec)>,
    ) -> PolicySet {
        let mut policies: Vec<CompiledPolicy> = policies
            .into_iter()
            .map(|(namespace, name, spec)| CompiledPolicy {
                name: format!("{namespace}/{name}"),
                binds_cluster: namespace == operator_namespace,
                namespace,
                rules: spec.rules.iter().map(|rule| compile_rule(rule, "match").map_err(|p| p.to_string())).collect(),
                spec,
            })
            .collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        PolicySet { policies }
    }

    /// The Policies that bear on a namespace.
    pub(super) fn applying<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a CompiledPolicy> {
        self.policies.iter().filter(move |policy| policy.binds_cluster || policy.namespace == namespace)
    }

    /// Where Skills may go at most in a namespace: each list is one Policy's, and every one of them must allow.
    pub fn egress_limits(&self, namespace: &str) -> Vec<Vec<EgressLimit>> {
        let binding = self.applying(namespace).filter(|policy| policy.spec.mode == PolicyMode::Enforce);
        binding.filter_map(|policy| policy.spec.egress.clone()).collect()
    }

    /// What may be spent in a namespace, and in all of them: each Policy's budget with its name.
    pub fn budgets<'a>(&'a self, namespace: &'a str) -> Vec<(&'a str, PolicyBudget)> {
        let binding = self.applying(namespace).filter(|policy| policy.spec.mode == PolicyMode::Enforce);
        let budget = |policy: &'_ CompiledPolicy| {
            let PolicyBudget { cluster, namespace } = policy.spec.budget.clone()?;
            // A namespace's own Policy says nothing of others.
            Some(PolicyBudget { cluster: cluster.filter(|_| policy.binds_cluster), namespace })
        };
        binding.filter_map(|policy| Some((policy.name.as_str(), budget(policy)?))).collect()
    }

    /// SHA-256 over RFC 8785 JSON of all that bears on a namespace, so that a signature is bound to the
    /// rules that it was given under.
    pub fn digest(&self, namespace: &str) -> Digest {
        // A budget is held against the price when an attempt is decided, whatever it was when people signed.
        let spec = |policy: &CompiledPolicy| PolicySpec { budget: None, ..policy.spec.clone() };
        let all: Vec<_> = self.applying(namespace).map(|p| json!({"policy": p.name, "spec": spec(p)})).collect();
        // A Policy's spec holds strings and enums only, so it always has a canonical form.
        digest::of_json(&json!(all)).unwrap_or_else(|_| Digest::of_bytes(json!(all).to_string()))
    }
}

/// Compiles one rule's expression and durations; `field` is the path of its `match`.
pub fn compile_rule(rule: &Rule, field: &str) -> Result<Expression, Problem> {
    let expires = rule.approval.as_ref().and_then(|a| a.expires_after.as_deref());
    if let Some(error) = expires.and_then(|text| text.parse::<GoDuration>().err()) {
        return Err(Problem::new(field.replace("match", "approval.expiresAfter"), error.to_string()));
    }
    let expression = Expression::parse(&rule.matches, &vocabulary())
        .map_err(|error| Problem::new(field, format!("rule {:?}: {error}", rule.name)))?;
    Ok(expression)
}
