//! Keeps the certificates where they are needed: in Secrets for all replicas and for the broker, in the TLS server, and
//! in the webhook configurations for the API server to trust.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::issue::{Bundle, due, issue};

const SECRET: &str = "countersign-webhook-tls";
const KEY: &str = "bundle.json";
/// The name of both webhook configurations.
const CONFIGURATION: &str = "countersign";
/// How often to look whether anything is due, or another replica renewed it.
pub const EVERY: Duration = Duration::from_secs(30);

/// Keeps the operator's own certificates.
pub struct Keeper {
    client: Client,
    namespace: String,
    hosts: Vec<String>,
    loaded: Option<Bundle>,
}

impl Keeper {
    pub fn new(client: Client, namespace: &str, service: &str) -> Keeper {
        let hosts = [format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
        Keeper { client, namespace: namespace.to_owned(), hosts: hosts.to_vec(), loaded: None }
    }

    /// Makes what is due, loads what is new, and sees to it that the API server trusts it.
    pub async fn refresh(&mut self, server: &RustlsConfig) -> anyhow::Result<()> {
        let bundle = current(&Api::namespaced(self.client.clone(), &self.namespace), SECRET, &self.hosts).await?;
        if self.loaded.as_ref() != Some(&bundle) {
            let Bundle { ca: _, old_ca: _, serving } = &bundle;
            let certificate = serving.certificate.clone().into_bytes();
            let key = serving.key.clone().into_bytes();
            server.reload_from_pem(certificate, key).await.context("the serving certificate cannot be loaded")?;
            tracing::info!(not_after = %serving.not_after, "a serving certificate was loaded");
        }
        self.trust(&bundle.trust()).await?;
        self.loaded = Some(bundle);
        Ok(())
    }

    async fn trust(&self, bundle: &str) -> anyhow::Result<()> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(bundle);
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = mutating.get(CONFIGURATION).await.context("MutatingWebhookConfiguration countersign")?;
        let webhooks =
            configuration.webhooks.iter().flatten().map(|w| (w.name.as_str(), w.client_config.ca_bundle.as_ref()));
        patch(&mutating, webhooks.collect(), bundle, &encoded).await?;
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration =
            validating.get(CONFIGURATION).await.context("ValidatingWebhookConfiguration countersign")?;
        let webhooks =
            configuration.webhooks.iter().flatten().map(|w| (w.name.as_str(), w.client_config.ca_bundle.as_ref()));
        patch(&validating, webhooks.collect(), bundle, &encoded).await
    }
}

/// The bundle that all replicas agree on; the Secret's resource version decides who made it.
async fn current(secrets: &Api<Secret>, name: &str, hosts: &[String]) -> anyhow::Result<Bundle> {
    let stored = secrets.get_opt(name).await.with_context(|| format!("Secret {name}"))?;
    let bundle = stored.as_ref().and_then(|secret| secret.data.as_ref()?.get(KEY)).map(|bytes| &bytes.0);
    let bundle: Option<Bundle> = bundle.and_then(|bytes| serde_json::from_slice(bytes).ok());
    let now = Timestamp::now();
    let due = due(now, bundle.as_ref());
    if let (Some(bundle), super::issue::Due::Nothing) = (&bundle, due) {
        return Ok(bundle.clone());
    }
    let bundle = issue(now, bundle, due, hosts).context("no certificate could be made")?;
    tracing::info!(secret = name, ?due, "certificates were made");
    let entry = |name: &str, value: Vec<u8>| (name.to_owned(), ByteString(value));
    let data = [
        entry(KEY, serde_json::to_vec(&bundle)?),
        // For a server that mounts them.
        entry("tls.crt", bundle.serving.certificate.clone().into_bytes()),
        entry("tls.key", bundle.serving.key.clone().into_bytes()),
    ];
    let data = Some(data.into());
    let params = PostParams::default();
    let written = match stored {
        None => {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            secrets.create(&params, &Secret { metadata, data, ..Secret::default() }).await
        }
        Some(secret) => secrets.replace(name, &params, &Secret { data, ..secret }).await,
    };
    // A conflict means that another replica was faster; the next look takes what it made.
    written.with_context(|| format!("Secret {name}"))?;
    Ok(bundle)
}

/// Keeps the certificate of a server of ours that only our own clients talk to; returns what they are to trust.
pub async fn keep_for(secrets: &Api<Secret>, name: &str, host: &str) -> anyhow::Result<String> {
    Ok(current(secrets, name, &[host.to_owned()]).await?.trust())
}

/// Sets the bundle of every webhook of a configuration, by name, where it is another one.
async fn patch<K>(
    api: &Api<K>,
    webhooks: Vec<(&str, Option<&ByteString>)>,
    bundle: &str,
    encoded: &str,
) -> anyhow::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    if webhooks.iter().all(|(_, current)| current.is_some_and(|current| current.0 == bundle.as_bytes())) {
        return Ok(());
    }
    let entry = |name: &str| json!({"name": name, "clientConfig": {"caBundle": encoded}});
    let patch = json!({"webhooks": webhooks.iter().map(|(name, _)| entry(name)).collect::<Vec<_>>()});
    api.patch(CONFIGURATION, &PatchParams::default(), &Patch::Strategic(patch)).await.context("caBundle")?;
    Ok(())
}

/// Loads a certificate that somebody else keeps in a folder, again and again, as it may be renewed.
pub async fn serve_provided(folder: &Path, server: &RustlsConfig) -> anyhow::Result<()> {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    if !certificate.exists() {
        bail!("{} is not there; mount the certificate", certificate.display());
    }
    server.reload_from_pem_file(certificate, key).await.context("the provided certificate cannot be loaded")
}
