//! What takes a right of its own is asked of the API server's authorizers: signing for a risk, and acting as an Agent.

use countersign_crds::{AgentReference, GROUP, OwnedReference, RiskClass, Task};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::api::PartialObjectMeta;
use kube::{Api, Client};

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
    /// The Task without which it is nobody's.
    of: Option<OwnedReference>,
}

impl Right {
    /// To sign for work of that risk, of a Task that is there: the verb `approve` on `riskclasses/NAME` of our group.
    pub fn to_approve(namespace: &str, risk: RiskClass, task: &OwnedReference) -> Right {
        let deed = format!("sign for work of risk {}", risk.as_str());
        Right { what: risk.approval_right(namespace), field: "spec.approved", deed, of: Some(task.clone()) }
    }

    /// To name an Agent in a Task of that namespace: the verb `use` on `agents/NAME`.
    pub fn to_act_as(namespace: &str, agent: &AgentReference) -> Right {
        Right {
            what: agent.use_right(namespace),
            field: "spec.agentRef",
            deed: format!("act as the Agent {}", agent.name),
            of: None,
        }
    }

    fn missing(&self) -> Refusal {
        let Right { what, field, deed, of: _ } = self;
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let (verb, resource, name, namespace) =
            (part(&what.verb), part(&what.resource), part(&what.name), part(&what.namespace));
        Refusal::forbidden(&format!(
            "{field}: you may not {deed}; it takes the verb {verb} on {resource}/{name} of {GROUP} in namespace {namespace}"
        ))
    }
}

/// Asks the API server whether this user has the right, and whether what it is of is there.
pub async fn demand(client: &Client, user: &UserInfo, right: &Right) -> Result<(), Refusal> {
    let unknown = |error: kube::Error| {
        let message = format!("{}: it cannot be known whether you may ({error}); try again", right.field);
        Refusal { code: 503, message }
    };
    if !rights::allowed(client, user, right.what.clone()).await.map_err(unknown)? {
        return Err(right.missing());
    }
    let Some(of) = &right.of else { return Ok(()) };
    // What a Task leaves behind is nobody's to sign.
    let tasks: Api<Task> = Api::namespaced(client.clone(), right.what.namespace.as_deref().unwrap_or_default());
    let task = tasks.get_metadata_opt(&of.name).await.map_err(unknown)?;
    let there = |task: &PartialObjectMeta<Task>| {
        task.metadata.uid.as_ref() == Some(&of.uid) && task.metadata.deletion_timestamp.is_none()
    };
    if task.as_ref().is_some_and(there) {
        return Ok(());
    }
    let message = format!("{}: the Task {} that it is of is gone, and nothing of it will run", right.field, of.name);
    Err(Refusal::invalid(&message))
}
