//! Keeps certificates and the webhook's path where they are needed: in Secrets for all replicas and for the broker, in
//! the servers, and in the webhook configurations for the API server to trust and to call.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::agreed::{Agreed, agreed};
use super::issue::{Bundle, Due, due, issue};
use crate::serve::admission::way::{Door, MUTATE, VALIDATE, Way};
use crate::settings::{Certificates, Settings};

#[cfg(test)]
mod tests;

const SECRET: &str = "countersign-webhook-tls";
const PATH_SECRET: &str = "countersign-webhook-path";
const PATH_KEY: &str = "path.json";
const KEY: &str = "bundle.json";
/// The name of both webhook configurations.
const CONFIGURATION: &str = "countersign";
/// How often to look whether anything is due, or another replica renewed it.
pub const EVERY: Duration = Duration::from_secs(10);
/// For how long a replica may fail to look: after that it may know neither the path nor the certificate of the day.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// For how long a configuration must have told a path before the one before it is answered no more.
const SEEN: Duration = Duration::from_secs(60);

/// Keeps the webhook where the API server finds it: its path, its certificate, and the trust in that.
pub struct Keeper {
    client: Client,
    namespace: String,
    hosts: Vec<String>,
    certificates: Certificates,
    door: Door,
    loaded: Option<Bundle>,
    /// Since when the configurations tell the newest path.
    told: Option<Instant>,
}

/// What both configurations are to tell.
struct Wanted<'a> {
    way: &'a Way,
    now: Timestamp,
    /// Left to somebody else where the certificate is somebody else's.
    trust: Option<&'a str>,
}

/// What a configuration told before it was set right.
#[derive(Clone, Copy)]
struct Found {
    newest_path: bool,
    trust: bool,
}

impl Keeper {
    pub fn new(client: Client, settings: &Settings, door: Door) -> Keeper {
        let (namespace, service) = (settings.namespace.clone(), &settings.webhook.service);
        let hosts = [format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
        let certificates = settings.webhook.certificates.clone();
        Keeper { client, namespace, hosts: hosts.to_vec(), certificates, door, loaded: None, told: None }
    }

    /// Makes what is due, loads what is new, and sees to it that the API server knows and trusts it before it needs to.
    pub async fn refresh(&mut self, server: &RustlsConfig) -> anyhow::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let now = Timestamp::now();
        let way = path(&secrets, now).await?;
        // Answered before it is told.
        self.door.open(&way.answered(self.told.is_some_and(|since| since.elapsed() >= SEEN)));
        match self.certificates.clone() {
            Certificates::Own => {
                let bundle = current(&secrets, SECRET, &self.hosts).await?;
                let found = self.configure(&Wanted { way: &way, now, trust: Some(&bundle.trust()) }).await?;
                self.load(bundle, found, server).await?;
            }
            Certificates::Provided(folder) => {
                self.configure(&Wanted { way: &way, now, trust: None }).await?;
                serve_provided(&folder, server).await?;
            }
        }
        Ok(())
    }

    /// A certificate of an authority that the API server was told of only now waits until that has spread: the one that
    /// is loaded is trusted meanwhile.
    async fn load(&mut self, bundle: Bundle, found: Found, server: &RustlsConfig) -> anyhow::Result<()> {
        let waits = self.loaded.as_ref().is_some_and(|loaded| loaded.ca != bundle.ca) && !found.trust;
        if waits || self.loaded.as_ref() == Some(&bundle) {
            return Ok(());
        }
        let Bundle { ca: _, old_ca: _, serving } = &bundle;
        let (certificate, key) = (serving.certificate.clone().into_bytes(), serving.key.clone().into_bytes());
        server.reload_from_pem(certificate, key).await.context("the serving certificate cannot be loaded")?;
        tracing::info!(not_after = %serving.not_after, "a serving certificate was loaded");
        self.loaded = Some(bundle);
        Ok(())
    }

    async fn configure(&mut self, wanted: &Wanted<'_>) -> anyhow::Result<Found> {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let installed = mutating.get(CONFIGURATION).await.context("MutatingWebhookConfiguration countersign")?;
        let webhooks = installed.webhooks.iter().flatten().map(|w| (w.name.as_str(), &w.client_config)).collect();
        let one = set(&mutating, MUTATE, webhooks, wanted).await?;
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let installed = validating.get(CONFIGURATION).await.context("ValidatingWebhookConfiguration countersign")?;
        let webhooks = installed.webhooks.iter().flatten().map(|w| (w.name.as_str(), &w.client_config)).collect();
        let other = set(&validating, VALIDATE, webhooks, wanted).await?;
        let found = Found { newest_path: one.newest_path && other.newest_path, trust: one.trust && other.trust };
        self.told = found.newest_path.then(|| self.told.unwrap_or_else(Instant::now));
        Ok(found)
    }
}

/// The path that all replicas agree on.
async fn path(secrets: &Api<Secret>, now: Timestamp) -> anyhow::Result<Way> {
    let make = |current: Option<Way>| -> anyhow::Result<Agreed<Way>> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        match (Way::renewed(now, current.as_ref(), random), current) {
            (None, Some(way)) => Ok(Agreed::Kept(way)),
            (Some(way), _) => Ok(Agreed::Made(way, Vec::new())),
            (None, None) => bail!("no path was made"),
        }
    };
    agreed(secrets, PATH_SECRET, PATH_KEY, make).await
}

/// The certificates that all replicas agree on.
async fn current(secrets: &Api<Secret>, name: &str, hosts: &[String]) -> anyhow::Result<Bundle> {
    let make = |bundle: Option<Bundle>| -> anyhow::Result<Agreed<Bundle>> {
        let now = Timestamp::now();
        let due = due(now, bundle.as_ref());
        if let (Some(bundle), Due::Nothing) = (&bundle, due) {
            return Ok(Agreed::Kept(bundle.clone()));
        }
        let bundle = issue(now, bundle, due, hosts).context("no certificate could be made")?;
        // For a server that mounts them.
        let files = [("tls.crt", &bundle.serving.certificate), ("tls.key", &bundle.serving.key)];
        let files = files.map(|(file, text)| (file.to_owned(), text.clone().into_bytes()));
        Ok(Agreed::Made(bundle, files.to_vec()))
    };
    agreed(secrets, name, KEY, make).await
}

/// Keeps the certificate of a server of ours that only our own clients talk to; returns what they are to trust.
pub async fn keep_for(secrets: &Api<Secret>, name: &str, host: &str) -> anyhow::Result<String> {
    Ok(current(secrets, name, &[host.to_owned()]).await?.trust())
}

/// Sets path and trust of every webhook of a configuration, by name, where they are not what they may be; says what they
/// were.
async fn set<K>(
    api: &Api<K>,
    root: &str,
    webhooks: Vec<(&str, &WebhookClientConfig)>,
    wanted: &Wanted<'_>,
) -> anyhow::Result<Found>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let Wanted { way, now, trust } = wanted;
    let path = |webhook: &WebhookClientConfig| {
        let path = webhook.service.as_ref()?.path.as_ref()?;
        path.strip_prefix(root).map(str::to_owned)
    };
    let every = |fits: &dyn Fn(&WebhookClientConfig) -> bool| webhooks.iter().all(|(_, webhook)| fits(webhook));
    let found = Found {
        newest_path: every(&|webhook| path(webhook).is_some_and(|path| way.is_newest(&path))),
        trust: every(&|webhook| {
            trust.is_none_or(|trust| webhook.ca_bundle.as_ref().is_some_and(|found| found.0 == trust.as_bytes()))
        }),
    };
    let path_fits = every(&|webhook| path(webhook).is_some_and(|path| way.may_tell(*now, &path)));
    if path_fits && found.trust {
        return Ok(found);
    }
    let entry = |name: &str| {
        let mut called = json!({"service": {"path": format!("{root}{}", way.told(*now))}});
        if let Some(trust) = trust {
            called["caBundle"] = json!(STANDARD.encode(trust));
        }
        json!({"name": name, "clientConfig": called})
    };
    let patch = json!({"webhooks": webhooks.iter().map(|(name, _)| entry(name)).collect::<Vec<_>>()});
    api.patch(CONFIGURATION, &PatchParams::default(), &Patch::Strategic(patch)).await.context("clientConfig")?;
    Ok(found)
}

/// Loads a certificate that somebody else keeps in a folder, again and again, as it may be renewed.
async fn serve_provided(folder: &Path, server: &RustlsConfig) -> anyhow::Result<()> {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    if !certificate.exists() {
        bail!("{} is not there; mount the certificate", certificate.display());
    }
    server.reload_from_pem_file(certificate, key).await.context("the provided certificate cannot be loaded")
}
