//! How the two layers of Policy are combined: the cluster's rules, and what a namespace's own rules add.

use countersign_crds::Effect;

use crate::approval::Ask;

/// What the rules of one layer come to: the strongest effect of those that matched and bind.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Layer {
    /// No rule of it matched.
    #[default]
    Silent,
    /// It may run.
    Allow,
    /// Only what its Skill's `downgradeTo` names may run in its place.
    Downgrade,
    /// What all of its rules that ask for signatures ask for.
    RequireApproval(Ask),
    /// It may not run.
    Deny,
}

impl Layer {
    /// This layer and one more rule of it, which asks for `ask` where its effect is `RequireApproval`.
    #[must_use]
    pub fn with(self, effect: Effect, ask: impl FnOnce() -> Ask) -> Layer {
        match (self, effect) {
            (Layer::Deny, _) | (_, Effect::Deny) => Layer::Deny,
            (Layer::RequireApproval(before), Effect::RequireApproval) => Layer::RequireApproval(before.and(&ask())),
            (_, Effect::RequireApproval) => Layer::RequireApproval(ask()),
            (before @ Layer::RequireApproval(_), Effect::Allow | Effect::Downgrade) => before,
            (Layer::Downgrade, Effect::Allow) | (_, Effect::Downgrade) => Layer::Downgrade,
            (Layer::Silent | Layer::Allow, Effect::Allow) => Layer::Allow,
        }
    }

    fn ask(self) -> Option<Ask> {
        match self {
            Layer::RequireApproval(ask) => Some(ask),
            Layer::Silent | Layer::Allow | Layer::Downgrade | Layer::Deny => None,
        }
    }
}

/// What Policy says of a step with one Skill.
#[derive(Clone, Debug, PartialEq)]
pub enum Combined {
    /// It may not run.
    Denied,
    /// It may run, on these conditions.
    Allowed {
        /// Only the Skill's `downgradeTo` may run in its place, which is judged in turn.
        downgrade: bool,
        /// The signatures without which nothing runs, in whatever Skill's place.
        ask: Option<Ask>,
    },
}

/// Combines the layers. Each binds by its own strongest effect, so what one asks for is never outweighed by the other:
///
/// | cluster \ namespace | Silent, Allow | Downgrade | RequireApproval | Deny |
/// |---|---|---|---|---|
/// | Silent, Deny | denied | denied | denied | denied |
/// | Allow | allowed | downgraded | signed for | denied |
/// | Downgrade | downgraded | downgraded | downgraded and signed for | denied |
/// | RequireApproval | signed for | downgraded and signed for | signed for, as both ask | denied |
#[must_use]
pub fn combine(cluster: Layer, namespace: Layer) -> Combined {
    match (&cluster, &namespace) {
        // Only the cluster's rules allow.
        (Layer::Silent | Layer::Deny, _) | (_, Layer::Deny) => Combined::Denied,
        (_, Layer::Silent | Layer::Allow | Layer::Downgrade | Layer::RequireApproval(_)) => Combined::Allowed {
            downgrade: cluster == Layer::Downgrade || namespace == Layer::Downgrade,
            ask: both(cluster.ask(), namespace.ask()),
        },
    }
}

/// All that either asks for.
pub(crate) fn both(one: Option<Ask>, other: Option<Ask>) -> Option<Ask> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.and(&other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFECTS: [Effect; 4] = [Effect::Allow, Effect::Downgrade, Effect::RequireApproval, Effect::Deny];

    fn layer(effects: &[Effect]) -> Layer {
        effects.iter().fold(Layer::Silent, |layer, effect| layer.with(*effect, Ask::default))
    }

    #[test]
    fn a_layer_is_its_strongest_effect_in_whatever_order_its_rules_stand() {
        for first in EFFECTS {
            for second in EFFECTS {
                assert_eq!(layer(&[first, second]), layer(&[first.max(second)]), "{first:?}, {second:?}");
            }
        }
    }

    #[test]
    fn the_combination_is_what_its_table_says() {
        let (silent, allow, downgrade, deny) = (Layer::Silent, Layer::Allow, Layer::Downgrade, Layer::Deny);
        let sign = Layer::RequireApproval(Ask::default());
        let allowed = |downgrade, signed: bool| Combined::Allowed { downgrade, ask: signed.then(Ask::default) };
        let columns = [&silent, &allow, &downgrade, &sign, &deny];
        let table = [
            (&silent, [Combined::Denied, Combined::Denied, Combined::Denied, Combined::Denied, Combined::Denied]),
            (&deny, [Combined::Denied, Combined::Denied, Combined::Denied, Combined::Denied, Combined::Denied]),
            (
                &allow,
                [
                    allowed(false, false),
                    allowed(false, false),
                    allowed(true, false),
                    allowed(false, true),
                    Combined::Denied,
                ],
            ),
            (
                &downgrade,
                [
                    allowed(true, false),
                    allowed(true, false),
                    allowed(true, false),
                    allowed(true, true),
                    Combined::Denied,
                ],
            ),
            (
                &sign,
                [
                    allowed(false, true),
                    allowed(false, true),
                    allowed(true, true),
                    allowed(false, true),
                    Combined::Denied,
                ],
            ),
        ];
        for (cluster, row) in table {
            for (namespace, expected) in columns.into_iter().zip(row) {
                assert_eq!(combine(cluster.clone(), namespace.clone()), expected, "{cluster:?}, {namespace:?}");
            }
        }
    }
}
