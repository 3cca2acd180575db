//! What takes a right of its own is asked of the API server's authorizers: signing for a risk, and acting as an Agent.

use countersign_crds::{AgentReference, GROUP, RiskClass};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::Client;

use super::review::Refusal;
use crate::rights;

/// A right without which a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Right {
    pub what: ResourceAttributes,
    /// The field that takes it.
    field: &'static str,
    /// What the sender may not do without it, in words.
    deed: String,
}

impl Right {
    /// To sign for work of that risk: the verb `approve` on `riskclasses/NAME` of our group.
    pub fn to_approve(namespace: &str, risk: RiskClass) -> Right {
        let deed = format!("sign for work of risk {}", risk.as_str());
        Right { what: risk.approval_right(namespace), field: "spec.approved", deed }
    }

    /// To name an Agent in a Task of that namespace: the verb `use` on `agents/NAME`.
    pub fn to_act_as(namespace: &str, agent: &AgentReference) -> Right {
        Right {
            what: agent.use_right(namespace),
            field: "spec.agentRef",
            deed: format!("act as the Agent {}", agent.name),
        }
    }

    fn missing(&self) -> Refusal {
        let Right { what, field, deed } = self;
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let (verb, resource, name, namespace) =
            (part(&what.verb), part(&what.resource), part(&what.name), part(&what.namespace));
        Refusal::forbidden(&format!(
            "{field}: you may not {deed}; it takes the verb {verb} on {resource}/{name} of {GROUP} in namespace {namespace}"
        ))
    }
}

/// Asks the API server whether this user has the right.
pub async fn demand(client: &Client, user: &UserInfo, right: &Right) -> Result<(), Refusal> {
    match rights::allowed(client, user, right.what.clone()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(right.missing()),
        Err(error) => {
            let message = format!("{}: it cannot be known whether you may ({error}); try again", right.field);
            Err(Refusal { code: 503, message })
        }
    }
}
