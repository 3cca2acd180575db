//! The operator's API: where it is, who asks, and one request.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

use crate::{Connection, cluster};

/// Where the API is.
#[derive(Args)]
pub struct Server {
    /// The operator's API, such as https://localhost:8443 after `kubectl port-forward -n countersign-system svc/countersign 8443`
    #[arg(long, env = "COUNTERSIGN_SERVER", value_name = "URL")]
    server: Option<Uri>,
    /// A file with the token to read with; the kubeconfig's own where left out
    #[arg(long, env = "COUNTERSIGN_TOKEN_FILE", value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// A file with the certificates to trust the API by; those of the operator's webhook where left out
    #[arg(long, env = "COUNTERSIGN_CA_FILE", value_name = "FILE", requires = "server")]
    ca_file: Option<PathBuf>,
}

impl Server {
    /// `None` where nothing says where it is.
    pub async fn open(self, connection: &Connection) -> anyhow::Result<Option<Client>> {
        let Server { server, token_file, ca_file } = self;
        let Some(server) = server else { return Ok(None) };
        let read = |path: PathBuf| std::fs::read_to_string(&path).with_context(|| path.display().to_string());
        let (token, ca) = (token_file.map(read).transpose()?, ca_file.map(read).transpose()?);
        cluster::api(connection, server, token, ca).await.map(Some)
    }
}

/// RFC 9457.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// The body of the answer. Waits as long as the API says where it is asked too much.
pub async fn ask(client: &Client, method: Method, path: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    loop {
        let request = Request::builder().method(method.clone()).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_vec()))?;
        let response = client.send(request).await.with_context(|| format!("the API does not answer {path}"))?;
        let status = response.status();
        let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.into_body().collect().await?.to_bytes();
        match (status, after) {
            (StatusCode::TOO_MANY_REQUESTS, Some(seconds)) => {
                tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            }
            (status, _) if status.is_success() => return Ok(body.to_vec()),
            (status, _) => {
                let said = serde_json::from_slice::<Problem>(&body).map(|problem| problem.detail);
                bail!("{status}: {}", said.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned()));
            }
        }
    }
}
