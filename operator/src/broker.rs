//! What sandboxes are told of the broker: where it is, by what they know it, and the token by which it knows them. The
//! operator makes its certificate and the key of the tokens; the broker mounts both.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use countersign_core::token::TokenKey;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Client;
use kube::api::Api;
use serde::Serialize;

use crate::keys::{self, Kept, Shared};
use crate::serve::certs;
use crate::serve::http::Readiness;

const CERTIFICATE: &str = "countersign-broker-tls";
const PORT: u16 = 8443;
const EVERY: Duration = Duration::from_secs(30);

/// The broker, as the operator knows it.
#[derive(Debug)]
pub struct Broker {
    pub trust: Trust,
    pub tokens: TokenKey,
}

/// What a pod's own spec says of the broker, so that nobody can put another in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trust {
    version: u32,
    url: String,
    server_name: String,
    /// PEM.
    ca: String,
}

impl Trust {
    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.url.strip_prefix("https://")?.parse().ok()
    }

    /// The same broker gives the same text.
    pub fn document(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

/// Makes or loads what belongs to the broker, and follows it for as long as the process lives.
pub async fn keep(client: Client, namespace: String, service: String, shared: Shared<Broker>, readiness: Readiness) {
    readiness.set(TokenKey::CONDITION, Err("its key is not loaded yet".to_owned()));
    loop {
        let known = shared.get().is_some();
        match load(&client, &namespace, &service).await {
            Ok(broker) => {
                shared.set(broker);
                readiness.set(TokenKey::CONDITION, Ok(()));
            }
            Err(error) if known => tracing::warn!(error = %format!("{error:#}"), "the broker was not looked at"),
            Err(error) => readiness.set(TokenKey::CONDITION, Err(format!("{error:#}"))),
        }
        tokio::time::sleep(if shared.get().is_some() { EVERY } else { Duration::from_secs(1) }).await;
    }
}

async fn load(client: &Client, namespace: &str, service: &str) -> anyhow::Result<Broker> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let server_name = format!("{service}.{namespace}.svc");
    let ca = certs::keep_for(&secrets, CERTIFICATE, &server_name).await?;
    let tokens = keys::load(&secrets).await.with_context(|| format!("Secret {}", TokenKey::SECRET))?;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = services.get(service).await.with_context(|| format!("Service {service}"))?;
    // A sandbox resolves no names.
    let address = found.spec.and_then(|spec| spec.cluster_ip).filter(|address| address != "None");
    let address = address.with_context(|| format!("Service {service} has no clusterIP; do not make it headless"))?;
    let host = if address.contains(':') { format!("[{address}]") } else { address };
    let url = format!("https://{host}:{PORT}");
    Ok(Broker { trust: Trust { version: 1, url, server_name, ca }, tokens })
}
