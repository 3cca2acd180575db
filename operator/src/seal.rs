//! The key with which the webhook seals decisions: one Secret for all replicas, made at the first start.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use countersign_core::approval::Seal;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::http::Readiness;

const SECRET: &str = "countersign-seal";
const KEY: &str = "ed25519.key";
/// How often to look whether somebody replaced the key.
const EVERY: Duration = Duration::from_secs(30);

/// The seal, once it is loaded.
#[derive(Clone, Default)]
pub struct SharedSeal {
    seal: Arc<RwLock<Option<Arc<Seal>>>>,
}

impl SharedSeal {
    pub fn get(&self) -> Option<Arc<Seal>> {
        self.seal.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, seal: Seal) {
        *self.seal.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(seal));
    }
}

/// Makes or loads the key, and follows it for as long as the process lives.
pub async fn keep(client: Client, namespace: String, shared: SharedSeal, readiness: Readiness) {
    const NAME: &str = "seal";
    readiness.set(NAME, Err("its key is not loaded yet".to_owned()));
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    loop {
        let loaded = load(&secrets).await;
        let known = shared.get().is_some();
        match loaded {
            Ok(seal) => {
                shared.set(seal);
                readiness.set(NAME, Ok(()));
            }
            Err(error) if known => tracing::warn!(error = %format!("{error:#}"), "the seal's key was not looked at"),
            Err(error) => readiness.set(NAME, Err(format!("{error:#}"))),
        }
        tokio::time::sleep(if shared.get().is_some() { EVERY } else { Duration::from_secs(1) }).await;
    }
}

async fn load(secrets: &Api<Secret>) -> anyhow::Result<Seal> {
    let context = || format!("Secret {SECRET}");
    let secret = match secrets.get_opt(SECRET).await.with_context(context)? {
        Some(secret) => secret,
        // A conflict means that another replica was faster; the next look takes what it made.
        None => secrets.create(&PostParams::default(), &made()?).await.with_context(context)?,
    };
    let key = secret.data.as_ref().and_then(|data| data.get(KEY));
    let key = key.with_context(|| format!("Secret {SECRET} has no {KEY}; delete it, and a new one is made"))?;
    Seal::from_secret(&key.0).with_context(context)
}

fn made() -> anyhow::Result<Secret> {
    let mut key = [0; 32];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error:?}"))?;
    tracing::info!("a key for the seal was made");
    Ok(Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some([(KEY.to_owned(), ByteString(key.to_vec()))].into()),
        ..Secret::default()
    })
}
