//! A document that all replicas agree on, in a Secret: its resource version decides who made it.

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What becomes of a document that is looked at.
pub enum Agreed<T> {
    Kept(T),
    /// With files for a server that mounts the Secret.
    Made(T, Vec<(String, Vec<u8>)>),
}

/// The document under that key, which `make` makes anew where it is due.
pub async fn agreed<T: Serialize + DeserializeOwned>(
    secrets: &Api<Secret>,
    name: &str,
    key: &str,
    make: impl FnOnce(Option<T>) -> anyhow::Result<Agreed<T>>,
) -> anyhow::Result<T> {
    let stored = secrets.get_opt(name).await.with_context(|| format!("Secret {name}"))?;
    let current = stored.as_ref().and_then(|secret| secret.data.as_ref()?.get(key)).map(|bytes| &bytes.0);
    let (document, files) = match make(current.and_then(|bytes| serde_json::from_slice(bytes).ok()))? {
        Agreed::Kept(document) => return Ok(document),
        Agreed::Made(document, files) => (document, files),
    };
    tracing::info!(secret = name, "was made anew");
    let whole = (key.to_owned(), serde_json::to_vec(&document)?);
    let data = std::iter::once(whole).chain(files).map(|(file, bytes)| (file, ByteString(bytes)));
    let data = Some(data.collect());
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
    Ok(document)
}
