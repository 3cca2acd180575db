//! Keys of the operator's own: each in a Secret for all replicas, made at the first start.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use countersign_core::approval::Seal;
use countersign_core::digest::hex;
use countersign_core::tlog::SigningKey;
use countersign_core::token::TokenKey;
use countersign_store::LogKeys;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::serve::http::Readiness;

/// The 32 bytes of an Ed25519 secret key.
const KEY: &str = "ed25519.key";
/// The 32 bytes of the key of attempts' tokens.
const TOKENS: &str = "token.key";
/// The key that follows it, where one is to.
const NEXT: &str = "next.ed25519.key";
/// The name under which the log's key signs.
const NAME: &str = "name";
/// How often to look whether somebody replaced a key.
const EVERY: Duration = Duration::from_secs(30);

/// A key that is kept in a Secret.
pub trait Kept: Sized + Send + Sync + 'static {
    /// The Secret's name, and that of the condition of `/readyz`.
    const SECRET: &'static str;
    const CONDITION: &'static str;

    fn read(data: &dyn Fn(&str) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Self>;
    fn make() -> anyhow::Result<Vec<(&'static str, Vec<u8>)>>;
}

/// With which the webhook seals decisions.
impl Kept for Seal {
    const SECRET: &'static str = "countersign-seal";
    const CONDITION: &'static str = "seal";

    fn read(data: &dyn Fn(&str) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Seal> {
        Ok(Seal::from_secret(&data(KEY)?)?)
    }

    fn make() -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
        Ok(vec![(KEY, random::<32>()?.to_vec())])
    }
}

/// With which the sequencer signs checkpoints. Their name is the log's, and tells it from every other.
impl Kept for LogKeys {
    const SECRET: &'static str = "countersign-log";
    const CONDITION: &'static str = "log";

    fn read(data: &dyn Fn(&str) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<LogKeys> {
        let name = String::from_utf8(data(NAME)?).with_context(|| format!("{NAME} is not UTF-8"))?;
        let key = |field: &str, secret: Vec<u8>| {
            let secret: [u8; 32] = secret.try_into().map_err(|_| anyhow::anyhow!("{field} must have 32 bytes"))?;
            Ok::<_, anyhow::Error>(SigningKey::new(&name, secret)?)
        };
        let next = data(NEXT).ok().map(|secret| key(NEXT, secret)).transpose()?;
        Ok(LogKeys { current: key(KEY, data(KEY)?)?, next })
    }

    fn make() -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
        let id = hex(&random::<8>()?);
        Ok(vec![(KEY, random::<32>()?.to_vec()), (NAME, format!("countersign.dev/log/{id}").into_bytes())])
    }
}

/// By which the broker knows attempts; it mounts the Secret.
impl Kept for TokenKey {
    const SECRET: &'static str = "countersign-broker";
    const CONDITION: &'static str = "broker";

    fn read(data: &dyn Fn(&str) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<TokenKey> {
        let key = data(TOKENS)?.try_into().map_err(|_| anyhow::anyhow!("{TOKENS} must have 32 bytes"))?;
        Ok(TokenKey::new(key))
    }

    fn make() -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
        Ok(vec![(TOKENS, random::<32>()?.to_vec())])
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(bytes)
}

/// A key, once it is loaded.
pub struct Shared<K> {
    key: Arc<RwLock<Option<Arc<K>>>>,
}

impl<K> Clone for Shared<K> {
    fn clone(&self) -> Self {
        Shared { key: Arc::clone(&self.key) }
    }
}

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Shared { key: Arc::default() }
    }
}

impl<K> Shared<K> {
    pub fn get(&self) -> Option<Arc<K>> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, key: K) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }
}

/// Makes or loads a key, and follows it for as long as the process lives.
pub async fn keep<K: Kept>(client: Client, namespace: String, shared: Shared<K>, readiness: Readiness) {
    readiness.set(K::CONDITION, Err("its key is not loaded yet".to_owned()));
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    loop {
        let known = shared.get().is_some();
        match load::<K>(&secrets).await.with_context(|| format!("Secret {}", K::SECRET)) {
            Ok(key) => {
                shared.set(key);
                readiness.set(K::CONDITION, Ok(()));
            }
            Err(error) if known => tracing::warn!(error = %format!("{error:#}"), "a key was not looked at"),
            Err(error) => readiness.set(K::CONDITION, Err(format!("{error:#}"))),
        }
        tokio::time::sleep(if shared.get().is_some() { EVERY } else { Duration::from_secs(1) }).await;
    }
}

/// Makes the key at the first start.
pub async fn load<K: Kept>(secrets: &Api<Secret>) -> anyhow::Result<K> {
    let secret = match secrets.get_opt(K::SECRET).await? {
        Some(secret) => secret,
        None => {
            tracing::info!(secret = K::SECRET, "a key was made");
            let metadata = ObjectMeta { name: Some(K::SECRET.to_owned()), ..ObjectMeta::default() };
            let data = K::make()?.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value))).collect();
            let secret = Secret { metadata, data: Some(data), ..Secret::default() };
            // A conflict means that another replica was faster; the next look takes what it made.
            secrets.create(&PostParams::default(), &secret).await?
        }
    };
    let data = secret.data.unwrap_or_default();
    K::read(&|name| data.get(name).map(|value| value.0.clone()).with_context(|| format!("it has no {name}")))
}

/// Makes the log's next key its current one, once checkpoints are signed by it.
pub async fn promote(client: Client, namespace: &str, keys: &LogKeys) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let mut secret = secrets.get(LogKeys::SECRET).await?;
    let data = secret.data.get_or_insert_default();
    let Some(next) = data.get(NEXT).cloned() else { return Ok(()) };
    let found = LogKeys::read(&|name| data.get(name).map(|value| value.0.clone()).with_context(|| name.to_owned()))?;
    let verifying = |key: Option<&SigningKey>| key.map(SigningKey::verifying_key);
    anyhow::ensure!(
        verifying(found.next.as_ref()) == verifying(keys.next.as_ref()),
        "{NEXT} of Secret {} was replaced while it began to sign; put it back",
        LogKeys::SECRET
    );
    data.insert(KEY.to_owned(), next);
    data.remove(NEXT);
    // Its resourceVersion goes with it, so that nobody else's change is lost.
    secrets.replace(LogKeys::SECRET, &PostParams::default(), &secret).await?;
    tracing::info!("the log's next key is its current one");
    Ok(())
}
