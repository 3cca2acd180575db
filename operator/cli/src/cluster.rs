//! The cluster as kubectl would reach it.

use anyhow::Context;
use countersign_crds::{Approval, RiskClass, Task};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::Connection;

pub struct Cluster {
    client: Client,
    pub namespace: String,
}

impl Cluster {
    pub async fn connect(connection: &Connection) -> anyhow::Result<Cluster> {
        let Connection { namespace, context, as_user, as_groups } = connection;
        let mut config = config(context.as_deref()).await?;
        config.auth_info.impersonate.clone_from(as_user);
        config.auth_info.impersonate_groups = (!as_groups.is_empty()).then(|| as_groups.clone());
        let namespace = namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config)?, namespace })
    }

    pub fn client(&self) -> Client {
        self.client.clone()
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

async fn config(context: Option<&str>) -> anyhow::Result<Config> {
    match context {
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            Ok(Config::from_custom_kubeconfig(Kubeconfig::read()?, &options).await?)
        }
        None => Config::infer().await.context("no cluster: set KUBECONFIG, or --context"),
    }
}

/// The namespace that is meant: the one that is given, or the context's own.
pub async fn namespace(connection: &Connection) -> String {
    if let Some(namespace) = &connection.namespace {
        return namespace.clone();
    }
    // What needs no cluster has no context either.
    config(connection.context.as_deref()).await.map_or_else(|_| "default".to_owned(), |config| config.default_namespace)
}

/// A client of the operator's API: who one is comes from the kubeconfig, and whom to trust from the cluster.
pub async fn api(
    connection: &Connection,
    server: http::Uri,
    token: Option<String>,
    ca: Option<String>,
) -> anyhow::Result<Client> {
    let mut config = match (&token, &ca) {
        // Nothing of a kubeconfig is needed.
        (Some(_), Some(_)) => Config::new(server.clone()),
        _ => config(connection.context.as_deref()).await?,
    };
    let (trusted, name) = match ca {
        Some(ca) => (ca, None),
        None => trust(&Client::try_from(config.clone())?).await?,
    };
    let certificates = CertificateDer::pem_slice_iter(trusted.as_bytes());
    let certificates = certificates.map(|certificate| Ok(certificate?.to_vec()));
    config.root_cert =
        Some(certificates.collect::<anyhow::Result<_>>().context("the certificates to trust the API by")?);
    config.tls_server_name = name;
    if let Some(token) = token {
        config.auth_info = AuthInfo { token: Some(token.trim().to_owned().into()), ..AuthInfo::default() };
    }
    config.cluster_url = server;
    Ok(Client::try_from(config)?)
}

/// The operator's certificate authority, as the API server trusts it, and the name that its certificate is for.
async fn trust(client: &Client) -> anyhow::Result<(String, Option<String>)> {
    const NAME: &str = "countersign";
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let found = webhooks.get(NAME).await.with_context(|| {
        format!("whom to trust as the API cannot be read off the ValidatingWebhookConfiguration {NAME}; give --ca-file")
    })?;
    let hook = found.webhooks.unwrap_or_default().into_iter().next().context("it has no webhook; give --ca-file")?;
    let ca = hook.client_config.ca_bundle.context("it has no caBundle; give --ca-file")?;
    let name = hook.client_config.service.map(|service| format!("{}.{}.svc", service.name, service.namespace));
    Ok((String::from_utf8(ca.0).context("its caBundle is not PEM")?, name))
}
