//! The Policies of the cluster, compiled once when they change.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use countersign_crds::{EgressLimit, PolicyBudget, PolicyMode, PolicySpec, Rule};
use serde_json::json;

use super::vocabulary;
use crate::bounds::EXPIRES_AFTER;
use crate::cel::Expression;
use crate::digest::{self, Digest};
use crate::problem::Problem;

/// Every Policy that there is, ready to judge.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// By name.
    policies: Vec<CompiledPolicy>,
    /// For each namespace that has a Policy of its own, and for all others: computed once, when it is asked for.
    digests: BTreeMap<String, OnceLock<Digest>>,
    elsewhere: OnceLock<Digest>,
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
        let policies = policies.into_iter();
        PolicySet::of(
            policies.map(|(namespace, name, spec)| compile(operator_namespace, namespace, &name, spec)).collect(),
        )
    }

    pub(super) fn of(mut policies: Vec<CompiledPolicy>) -> PolicySet {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let digests = policies.iter().map(|policy| (policy.namespace.clone(), OnceLock::new())).collect();
        PolicySet { policies, digests, elsewhere: OnceLock::new() }
    }

    /// The same with these Policies added, each in the place of the one of its namespace and name.
    #[must_use]
    pub fn with(
        &self,
        operator_namespace: &str,
        policies: impl IntoIterator<Item = (String, String, PolicySpec)>,
    ) -> PolicySet {
        let policies = policies.into_iter();
        let added: BTreeMap<String, CompiledPolicy> = policies
            .map(|(namespace, name, spec)| compile(operator_namespace, namespace, &name, spec))
            .map(|policy| (policy.name.clone(), policy))
            .collect();
        let kept = self.policies.iter().filter(|policy| !added.contains_key(&policy.name)).cloned();
        PolicySet::of(kept.chain(added.values().cloned()).collect())
    }

    pub(super) fn all(&self) -> &[CompiledPolicy] {
        &self.policies
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
        let known = self.digests.get(namespace).unwrap_or(&self.elsewhere);
        *known.get_or_init(|| self.compute_digest(namespace))
    }

    fn compute_digest(&self, namespace: &str) -> Digest {
        // A budget is held against the price when an attempt is decided, whatever it was when people signed.
        let spec = |policy: &CompiledPolicy| PolicySpec { budget: None, ..policy.spec.clone() };
        let all: Vec<_> = self.applying(namespace).map(|p| json!({"policy": p.name, "spec": spec(p)})).collect();
        // A Policy's spec holds strings and enums only, so it always has a canonical form.
        digest::of_json(&json!(all)).unwrap_or_else(|_| Digest::of_bytes(json!(all).to_string()))
    }
}

fn compile(operator_namespace: &str, namespace: String, name: &str, spec: PolicySpec) -> CompiledPolicy {
    CompiledPolicy {
        name: format!("{namespace}/{name}"),
        binds_cluster: namespace == operator_namespace,
        namespace,
        rules: spec.rules.iter().map(|rule| compile_rule(rule, "match").map_err(|p| p.to_string())).collect(),
        spec,
    }
}

/// Compiles one rule's expression and durations; `field` is the path of its `match`.
pub fn compile_rule(rule: &Rule, field: &str) -> Result<Expression, Problem> {
    let expires = rule.approval.as_ref().and_then(|a| a.expires_after.as_deref());
    let field_of = || field.replace("match", "approval.expiresAfter");
    if let Some(problem) = expires.and_then(|text| EXPIRES_AFTER.problem(field_of(), text)) {
        return Err(problem);
    }
    let expression = Expression::parse_bool(&rule.matches, vocabulary())
        .map_err(|error| Problem::new(field, format!("rule {:?}: {error}", rule.name)))?;
    Ok(expression)
}
