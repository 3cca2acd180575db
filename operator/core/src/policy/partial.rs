//! What can be said of a step while some of what rules read of it is not known yet.

use countersign_crds::{Effect, PolicyMode, PolicySpec, Rule};

use super::set::{CompiledPolicy, PolicySet, compile_rule};
use crate::cel::{Expression, Path};

/// The Policy that stands for rules of the cluster which may yet allow.
pub(crate) const NOT_KNOWN: &str = "not-known-yet";

/// A rule that cannot be judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenRule {
    pub policy: String,
    pub rule: Rule,
    pub mode: PolicyMode,
}

impl PolicySet {
    /// Whether this Policy, by `NAMESPACE/NAME`, may allow.
    pub(crate) fn may_allow(&self, policy: &str) -> bool {
        self.all().iter().any(|known| known.name == policy && known.binds_cluster)
    }

    /// The same without the rules that read something of which `unknown` says so, and those rules. Where one of them
    /// may allow what no other rule speaks of, a rule of [`NOT_KNOWN`] does, so that nothing is denied for want of it.
    pub(crate) fn without(&self, namespace: &str, unknown: impl Fn(&Path) -> bool) -> (PolicySet, Vec<OpenRule>) {
        let is_open = |rule: &Result<Expression, String>| {
            rule.as_ref().is_ok_and(|expression| expression.references().iter().any(&unknown))
        };
        let mut open = Vec::new();
        let mut may_allow = None;
        for policy in self.applying(namespace) {
            for (rule, _) in policy.spec.rules.iter().zip(&policy.rules).filter(|(_, compiled)| is_open(compiled)) {
                let CompiledPolicy { name, binds_cluster, spec, .. } = policy;
                open.push(OpenRule { policy: name.clone(), rule: rule.clone(), mode: spec.mode });
                if *binds_cluster && spec.mode == PolicyMode::Enforce && rule.effect != Effect::Deny {
                    may_allow = Some(policy);
                }
            }
        }
        let mut policies: Vec<CompiledPolicy> =
            self.all().iter().map(|policy| without_rules(policy, &is_open)).collect();
        policies.extend(may_allow.map(stand_in));
        (PolicySet::of(policies), open)
    }
}

fn without_rules(policy: &CompiledPolicy, is_open: &dyn Fn(&Result<Expression, String>) -> bool) -> CompiledPolicy {
    let CompiledPolicy { name, namespace, binds_cluster, spec, rules } = policy.clone();
    let kept = spec.rules.iter().cloned().zip(rules).filter(|(_, compiled)| !is_open(compiled));
    let (left, rules) = kept.unzip();
    CompiledPolicy { name, namespace, binds_cluster, spec: PolicySpec { rules: left, ..spec }, rules }
}

/// Allows whatever no other rule speaks of.
fn stand_in(policy: &CompiledPolicy) -> CompiledPolicy {
    let rule = Rule {
        name: NOT_KNOWN.to_owned(),
        matches: "true".to_owned(),
        effect: Effect::Allow,
        risk: countersign_crds::RiskClass::default(),
        message: None,
        approval: None,
    };
    CompiledPolicy {
        name: NOT_KNOWN.to_owned(),
        namespace: policy.namespace.clone(),
        binds_cluster: true,
        rules: vec![compile_rule(&rule, "match").map_err(|problem| problem.to_string())],
        spec: PolicySpec { mode: PolicyMode::Enforce, rules: vec![rule], egress: None, budget: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(cluster: serde_json::Value, own: serde_json::Value) -> PolicySet {
        let spec = |rules| serde_json::from_value(json!({ "rules": rules })).unwrap();
        let policies = [("ops", "c", spec(cluster)), ("team", "n", spec(own))];
        PolicySet::compile("ops", policies.map(|(namespace, name, spec)| (namespace.to_owned(), name.to_owned(), spec)))
    }

    #[test]
    fn what_cannot_be_judged_is_left_out_and_named() {
        let rule = |name: &str, matches: &str, effect: &str| json!({"name": name, "match": matches, "effect": effect});
        let reads_input = |path: &Path| path.starts_with(&["step", "input"]);
        for (cluster, own, open, stands_in) in [
            (json!([rule("a", "true", "Allow")]), json!([]), vec![], false),
            (json!([rule("a", "step.input.n > 3", "Allow")]), json!([]), vec!["a"], true),
            // What can only deny does not keep the default from denying.
            (json!([rule("a", "step.input.n > 3", "Deny")]), json!([]), vec!["a"], false),
            // A namespace's own Policy allows nothing.
            (json!([rule("a", "true", "Allow")]), json!([rule("b", "has(step.input.n)", "Allow")]), vec!["b"], false),
            (
                json!([rule("a", "true", "Allow"), rule("b", "step.input.all(k, k != '')", "RequireApproval")]),
                json!([rule("c", "step.name == 'x'", "Deny")]),
                vec!["b"],
                true,
            ),
        ] {
            let all = set(cluster.clone(), own);
            let (left, found) = all.without("team", reads_input);
            assert_eq!(found.iter().map(|open| open.rule.name.as_str()).collect::<Vec<_>>(), open, "{cluster}");
            assert_eq!(left.all().iter().any(|policy| policy.name == NOT_KNOWN), stands_in, "{cluster}");
            let rules = |set: &PolicySet| set.all().iter().map(|policy| policy.rules.len()).sum::<usize>();
            assert_eq!(rules(&left), rules(&all) - open.len() + usize::from(stands_in));
        }
    }
}
