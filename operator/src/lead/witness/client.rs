//! Speaks `add-checkpoint` (<https://c2sp.org/tlog-witness>) with one witness. Its connection is kept open.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderValue, Request as HttpRequest, StatusCode, header};
use countersign_core::tlog::witness::Request;
use countersign_service::causes::told;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::metrics::Submitted;
use crate::settings;

/// For all of an exchange.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sixteen lines of the longest kind of signature.
const MOST_BYTES: usize = 128 * 1024;
const SIZE: &str = "text/x.tlog.size";

pub struct Client {
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
}

pub enum Answer {
    /// Signature lines, not believed yet.
    Lines(String),
    /// It cosigned another size last than the request began with.
    Cosigned { size: u64 },
}

/// Why there is no cosignature.
#[derive(Debug)]
pub struct Failed {
    pub outcome: Submitted,
    pub why: String,
}

impl Client {
    pub fn new(witness: &settings::Witness) -> Client {
        let settings::Witness { url, key: _, tls } = witness;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .build();
        Client { http: Http::builder(TokioExecutor::new()).build(connector), url: url.clone() }
    }

    pub async fn add(&self, request: &Request) -> Result<Answer, Failed> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        exchange.unwrap_or_else(|_| {
            let why = format!("{} did not answer within {} s", self.url, PATIENCE.as_secs());
            Err(Failed { outcome: Submitted::Timeout, why })
        })
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, Failed> {
        let failed = |outcome, why: String| Failed { outcome, why: format!("{}: {why}", self.url) };
        let request = HttpRequest::post(format!("{}/add-checkpoint", self.url))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
            .header(header::USER_AGENT, HeaderValue::from_static("countersign"))
            .body(Full::new(Bytes::from(request.encode())));
        let request = request.map_err(|error| failed(Submitted::Unreachable, error.to_string()))?;
        let response = self.http.request(request).await;
        let response = response.map_err(|error| failed(Submitted::Unreachable, told(&error)))?;
        let status = response.status();
        let is_size = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == SIZE);
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| failed(Submitted::Unreachable, error.to_string()))?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        match status {
            StatusCode::OK => Ok(Answer::Lines(text.into_owned())),
            StatusCode::CONFLICT if is_size => match text.trim_end_matches('\n').parse() {
                Ok(size) => Ok(Answer::Cosigned { size }),
                Err(_) => Err(failed(Submitted::Refused, format!("it tells no size: {text:?}"))),
            },
            other => {
                let said: String = text.chars().take(200).collect();
                Err(failed(Submitted::Refused, format!("{other}: {}", said.trim())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
