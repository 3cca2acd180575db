//! Who may sign for which risk is RBAC: the verb `approve` on `riskclasses/NAME` of our group.

use countersign_crds::{GROUP, RiskClass};
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::Client;

use super::review::Refusal;
use crate::rights;

/// Asks the API server whether this user may approve work of that risk in the namespace.
pub async fn may_approve(client: &Client, user: &UserInfo, namespace: &str, risk: RiskClass) -> Result<(), Refusal> {
    match rights::allowed(client, user, risk.approval_right(namespace)).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => {
            let message = format!("spec.approved: it cannot be known whether you may sign ({error}); try again");
            return Err(Refusal { code: 503, message });
        }
    }
    Err(Refusal::forbidden(&format!(
        "spec.approved: you may not sign for work of risk {}; it takes the verb approve on riskclasses/{} of {GROUP} in namespace {namespace}",
        risk.as_str(),
        risk.resource_name()
    )))
}
