//! The cluster as kubectl would reach it.

use anyhow::Context;
use countersign_crds::{Approval, RiskClass, Task};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::Connection;

pub struct Cluster {
    client: Client,
    pub namespace: String,
}

impl Cluster {
    pub async fn connect(connection: &Connection) -> anyhow::Result<Cluster> {
        let Connection { namespace, context, as_user, as_groups } = connection;
        let mut config = match context {
            Some(_) => {
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(Kubeconfig::read()?, &options).await?
            }
            None => Config::infer().await.context("no cluster: set KUBECONFIG, or --context")?,
        };
        config.auth_info.impersonate.clone_from(as_user);
        config.auth_info.impersonate_groups = (!as_groups.is_empty()).then(|| as_groups.clone());
        let namespace = namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config)?, namespace })
    }

    pub fn approvals(&self) -> Api<Approval> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn all_approvals(&self) -> Api<Approval> {
        Api::all(self.client.clone())
    }

    pub fn tasks(&self) -> Api<Task> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Who the API server says this is.
    pub async fn me(&self) -> anyhow::Result<UserInfo> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let status = review.context("who you are cannot be asked")?.status;
        Ok(status.and_then(|status| status.user_info).unwrap_or_default())
    }

    /// Whether this user may sign for that risk in the namespace.
    pub async fn may_approve(&self, namespace: &str, risk: RiskClass) -> anyhow::Result<bool> {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(risk.approval_right(namespace)),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await.context("your rights cannot be asked")?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
