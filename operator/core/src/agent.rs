//! Which Agent a Task is of. A requester that is a subject of an Agent acts as that one or not at all; anybody else may
//! name one.

use countersign_crds::{AgentReference, AgentSpec, Identity};
use thiserror::Error;

use crate::blocked::BlockedReason;
use crate::escape::shown;

/// An Agent, with where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingAgent {
    /// The Agent's namespace.
    pub namespace: String,
    /// The Agent's name.
    pub name: String,
    /// The Agent's spec, as it is now.
    pub spec: AgentSpec,
}

/// On whose behalf a Task is carried out.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Acting {
    /// Its requester's alone.
    #[default]
    Alone,
    /// This Agent, which bounds what the Task may do.
    Agent(Box<ActingAgent>),
    /// It cannot be said of which Agent it is: nothing of it starts until that is mended.
    Unclear(ActingError),
}

impl Acting {
    /// That of the Agent of this place.
    pub fn of(namespace: &str, name: &str, spec: AgentSpec) -> Acting {
        Acting::Agent(Box::new(ActingAgent { namespace: namespace.to_owned(), name: name.to_owned(), spec }))
    }

    /// The Agent, where there is one.
    pub fn agent(&self) -> Option<&ActingAgent> {
        match self {
            Acting::Agent(agent) => Some(agent),
            Acting::Alone | Acting::Unclear(_) => None,
        }
    }
}

/// Why it cannot be said of which Agent a Task is, in words for whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ActingError {
    /// The requester is a subject of more than one Agent.
    #[error(
        "spec.requester: {user} is a subject of several Agents ({agents}); keep it in spec.subjects of one of them"
    )]
    Several {
        /// The requester's user name, fit to be shown.
        user: String,
        /// The Agents, each as `NAMESPACE/NAME`, with commas between them.
        agents: String,
    },
    /// The Task names another Agent than the one that its requester is a subject of.
    #[error("spec.agentRef: {user} acts as the Agent {bound}, and the Task names {named}; leave it out")]
    Another {
        /// The requester's user name, fit to be shown.
        user: String,
        /// The Agent that it acts as, as `NAMESPACE/NAME`.
        bound: String,
        /// The Agent that the Task names, as `NAMESPACE/NAME`.
        named: String,
    },
    /// The Task names an Agent that is not there.
    #[error("spec.agentRef: there is no Agent {name:?} in namespace {namespace}; create it")]
    Missing {
        /// The namespace in which it was looked for.
        namespace: String,
        /// The name that the Task gives.
        name: String,
    },
}

impl ActingError {
    /// By which word nothing starts.
    pub fn reason(&self) -> BlockedReason {
        match self {
            ActingError::Several { .. } => BlockedReason::AgentAmbiguous,
            ActingError::Another { .. } => BlockedReason::AgentMismatch,
            ActingError::Missing { .. } => BlockedReason::AgentNotFound,
        }
    }
}

/// An Agent by its place, with what it says of itself.
pub type Placed<'a> = (&'a str, &'a str, &'a AgentSpec);

/// The Agent that `requester` is a subject of, if it is of one. A Task in `namespace` may name it, and no other.
///
/// # Errors
/// Where it is a subject of several, or the Task names another.
pub fn bound<'a>(
    namespace: &str,
    named: Option<&AgentReference>,
    requester: Option<&Identity>,
    agents: impl IntoIterator<Item = Placed<'a>>,
) -> Result<Option<Placed<'a>>, ActingError> {
    let Some(Identity { user, uid: _, groups }) = requester else { return Ok(None) };
    let includes = |(_, _, spec): &Placed<'_>| spec.subjects.iter().any(|subject| subject.includes(user, groups));
    let bound: Vec<Placed<'a>> = agents.into_iter().filter(includes).collect();
    let place = |namespace: &str, name: &str| format!("{namespace}/{name}");
    match (bound.as_slice(), named) {
        ([], _) => Ok(None),
        ([one], None) => Ok(Some(*one)),
        ([one], Some(named)) => {
            let (bound, named) = (place(one.0, one.1), place(placed(named, namespace), &named.name));
            if bound == named {
                return Ok(Some(*one));
            }
            Err(ActingError::Another { user: shown(user), bound, named })
        }
        (several, _) => {
            let mut agents: Vec<String> = several.iter().map(|(namespace, name, _)| place(namespace, name)).collect();
            agents.sort();
            Err(ActingError::Several { user: shown(user), agents: agents.join(", ") })
        }
    }
}

/// As [`bound`], and of a requester that is bound to none, the Agent that its Task names.
pub fn acting<'a>(
    namespace: &str,
    named: Option<&AgentReference>,
    requester: Option<&Identity>,
    agents: impl IntoIterator<Item = Placed<'a>> + Clone,
) -> Acting {
    let found = match bound(namespace, named, requester, agents.clone()) {
        Err(error) => return Acting::Unclear(error),
        Ok(Some(bound)) => bound,
        Ok(None) => {
            let Some(named) = named else { return Acting::Alone };
            let namespace = placed(named, namespace);
            let mut agents = agents.into_iter();
            match agents.find(|(place, name, _)| *place == namespace && *name == named.name) {
                Some(found) => found,
                None => {
                    let (namespace, name) = (namespace.to_owned(), named.name.clone());
                    return Acting::Unclear(ActingError::Missing { namespace, name });
                }
            }
        }
    };
    let (namespace, name, spec) = found;
    Acting::of(namespace, name, spec.clone())
}

/// The namespace that a reference in `from` leads to.
fn placed<'a>(reference: &'a AgentReference, from: &'a str) -> &'a str {
    reference.namespace.as_deref().unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(subjects: Value) -> AgentSpec {
        serde_json::from_value(json!({"allowedSkills": [], "subjects": subjects})).unwrap()
    }

    fn acts(user: &str, groups: &[&str], named: Option<(&str, Option<&str>)>) -> String {
        let agents = [
            ("ops", "robot", spec(json!([{"kind": "ServiceAccount", "name": "bot", "namespace": "apps"}]))),
            ("ops", "flux", spec(json!([{"kind": "User", "name": "flux"}, {"kind": "Group", "name": "ci"}]))),
            ("team", "ci", spec(json!([{"kind": "Group", "name": "builders"}]))),
            ("team", "free", spec(json!([]))),
        ];
        let agents = agents.iter().map(|(namespace, name, spec)| (*namespace, *name, spec));
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let requester = Identity { user: user.to_owned(), uid: None, groups };
        let named = named
            .map(|(name, namespace)| AgentReference { name: name.to_owned(), namespace: namespace.map(str::to_owned) });
        match acting("team", named.as_ref(), Some(&requester), agents) {
            Acting::Alone => "alone".to_owned(),
            Acting::Agent(agent) => format!("{}/{}", agent.namespace, agent.name),
            Acting::Unclear(error) => format!("{}: {error}", error.reason().as_str()),
        }
    }

    #[test]
    fn who_is_bound_acts_as_its_agent_and_who_is_not_as_the_one_it_names() {
        let bot = "system:serviceaccount:apps:bot";
        for (user, groups, named, expected) in [
            ("alice", &[][..], None, "alone"),
            ("alice", &[], Some(("free", None)), "team/free"),
            ("alice", &[], Some(("free", Some("team"))), "team/free"),
            ("alice", &[], Some(("robot", Some("ops"))), "ops/robot"),
            (
                "alice",
                &[],
                Some(("robot", None)),
                "AgentNotFound: spec.agentRef: there is no Agent \"robot\" in namespace team",
            ),
            (bot, &[], None, "ops/robot"),
            (bot, &[], Some(("robot", Some("ops"))), "ops/robot"),
            (
                bot,
                &[],
                Some(("robot", None)),
                "AgentMismatch: spec.agentRef: system:serviceaccount:apps:bot acts as the Agent ops/robot, and the Task names team/robot",
            ),
            (bot, &[], Some(("free", None)), "AgentMismatch"),
            ("system:serviceaccount:team:bot", &[], None, "alone"),
            ("system:serviceaccount:apps:bot:x", &[], None, "alone"),
            ("bot", &["apps"], None, "alone"),
            ("flux", &[], None, "ops/flux"),
            ("bob", &["ci"], None, "ops/flux"),
            ("flux", &["ci"], None, "ops/flux"),
            (
                "bob",
                &["ci", "builders"],
                None,
                "AgentAmbiguous: spec.requester: bob is a subject of several Agents (ops/flux, team/ci)",
            ),
            ("bob", &["ci", "builders"], Some(("ci", None)), "AgentAmbiguous"),
        ] {
            let found = acts(user, groups, named);
            assert!(found.starts_with(expected), "{user} {groups:?} {named:?}: {found}");
        }
    }

    #[test]
    fn nobody_known_is_bound_to_nothing() {
        let everybody = spec(json!([{"kind": "User", "name": ""}]));
        assert_eq!(acting("team", None, None, [("ops", "a", &everybody)]), Acting::Alone);
    }
}
