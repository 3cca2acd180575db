//! Has another key sign the log from now on: the operator logs it, signed by both keys, and then signs with the new one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};

use crate::cluster::Cluster;
use crate::output::say;

const SECRET: &str = "countersign-log";
const KEY: &str = "ed25519.key";
const NEXT: &str = "next.ed25519.key";
/// The operator looks at the Secret twice in this time.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_secs(1);

pub async fn run(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let mut secret = secrets.get(SECRET).await.with_context(|| format!("Secret {SECRET} in {namespace}"))?;
    let data: &mut BTreeMap<String, ByteString> = secret.data.get_or_insert_default();
    if data.contains_key(NEXT) {
        bail!("Secret {SECRET} has a {NEXT} already; the operator is to make it the current key first");
    }
    let mut key = [0u8; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    data.insert(NEXT.to_owned(), ByteString(key.to_vec()));
    secrets.replace(SECRET, &PostParams::default(), &secret).await.with_context(|| format!("Secret {SECRET}"))?;
    say(&format!(
        "The next key is in Secret {SECRET}; waiting for the operator to log it and sign with it (up to 90 s)."
    ));
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let data = secrets.get(SECRET).await?.data.unwrap_or_default();
        if data.get(KEY).is_some_and(|current| current.0 == key) {
            say(
                "Done: the log's checkpoints are signed by the new key. Whoever trusts the old one follows it to this one.",
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("the operator has not taken the key over; its log says why")
}
