//! Who may sign for which risk is RBAC: the verb `approve` on `riskclasses/NAME` of our group.

use countersign_crds::{GROUP, RiskClass};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::review::Refusal;

/// Asks the API server whether this user may approve work of that risk in the namespace.
pub async fn may_approve(client: &Client, user: &UserInfo, namespace: &str, risk: RiskClass) -> Result<(), Refusal> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let asked = reviews.create(&PostParams::default(), &review(user, namespace, risk)).await;
    let status = match asked {
        Ok(review) => review.status,
        Err(error) => {
            let message = format!("spec.approved: it cannot be known whether you may sign ({error}); try again");
            return Err(Refusal { code: 503, message });
        }
    };
    if status.is_some_and(|status| status.allowed) {
        return Ok(());
    }
    Err(Refusal::forbidden(&format!(
        "spec.approved: you may not sign for work of risk {}; it takes the verb approve on riskclasses/{} of {GROUP} in namespace {namespace}",
        risk.as_str(),
        risk.resource_name()
    )))
}

fn review(user: &UserInfo, namespace: &str, risk: RiskClass) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username.clone(),
            groups: user.groups.clone(),
            uid: user.uid.clone(),
            extra: user.extra.clone(),
            resource_attributes: Some(risk.approval_right(namespace)),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
