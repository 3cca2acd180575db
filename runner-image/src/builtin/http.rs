//! HTTP through the runner's Unix socket, which takes absolute-form requests as a proxy does (RFC 9112, section 3.2.2),
//! `https` and `smtps` included: there is no TLS, no name resolution and no credential in the sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use url::Url;

/// Names the socket; the runner sets it where the Skill lists egress.
const SOCKET: &str = "COUNTERSIGN_EGRESS_SOCKET";
/// What the broker says itself carries this header, and problem details (RFC 9457).
const REFUSED: &str = "countersign-refused";
/// The most of an answer that is quoted in an error.
const QUOTED_BYTES: usize = 512;

/// The most of an answer that is read where only JSON of a known shape is expected.
pub const JSON_BYTES: usize = 4 << 20;

/// An `http` or `https` URL without credentials and fragment.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(pub Url);

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<HttpUrl, String> {
        let url = Url::parse(&text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{text:?} is not an http or https URL"));
        }
        without_credentials(url).map(HttpUrl)
    }
}

/// The URL without its fragment, which nobody sends.
pub fn without_credentials(mut url: Url) -> Result<Url, String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "it carries a user or a password; the broker shows credentials, so name the Secret in the Skill's \
                    spec.egress[].credential and leave them out here"
                .to_owned(),
        );
    }
    url.set_fragment(None);
    Ok(url)
}

pub fn json_headers() -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(ACCEPT, json.clone()), (CONTENT_TYPE, json)])
}

/// Each request has a connection of its own; the broker's side keeps those that are worth keeping.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn from_env() -> anyhow::Result<Client> {
        let socket: OsString = std::env::var_os(SOCKET)
            .ok_or_else(|| anyhow!("there is no way out of the sandbox ({SOCKET}); list spec.egress in the Skill"))?;
        Ok(Client { socket: socket.into() })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends it and returns what the destination answered; a refusal by the broker is an error.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let what = format!("{method} {url}");
        let mut request = Request::builder().method(method).uri(url.as_str()).body(Full::new(body.into()))?;
        *request.headers_mut() = headers;
        let authority = request.uri().authority().context("a URL without a host")?;
        let host = HeaderValue::from_str(authority.as_str())?;
        request.headers_mut().insert(HOST, host);
        let response = self.exchange(request).await.with_context(|| what.clone())?;
        let answer = Answer { what, response };
        match answer.response.headers().get(REFUSED).cloned() {
            None => Ok(answer),
            Some(reason) => Err(answer.refusal(&reason).await),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("cannot connect to the runner at {}", self.socket.display()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // How it ends shows in the request or the body.
        tokio::spawn(connection);
        sender.send_request(request).await.context("no answer")
    }
}

/// An answer whose body is still to be read.
pub struct Answer {
    what: String,
    response: Response<Incoming>,
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub fn is_json(&self) -> bool {
        let kind = self.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    }

    pub fn into_body(self) -> Incoming {
        self.response.into_body()
    }

    /// The whole body, where it has at most so many bytes.
    pub async fn bytes(self, most: usize) -> anyhow::Result<Bytes> {
        let Answer { what, response } = self;
        match Limited::new(response.into_body(), most).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => bail!("{what}: the answer has more than {most} bytes"),
            Err(error) => Err(anyhow!("{what}: the answer broke off: {error}")),
        }
    }

    pub async fn json<T: DeserializeOwned>(self, most: usize) -> anyhow::Result<T> {
        let (what, status) = (self.what.clone(), self.status());
        let bytes = self.bytes(most).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            anyhow!("{what}: the answer ({status}) is not what was expected: {error}: {}", quote(&bytes))
        })
    }

    /// An error that quotes the answer, for a status that means failure.
    pub async fn failure(self) -> anyhow::Error {
        let (what, status) = (self.what.clone(), self.status());
        match self.beginning().await {
            body if body.is_empty() => anyhow!("{what}: answered {status}"),
            body => anyhow!("{what}: answered {status}: {}", quote(&body)),
        }
    }

    async fn refusal(self, reason: &HeaderValue) -> anyhow::Error {
        let what = self.what.clone();
        let reason = reason.to_str().unwrap_or("?").to_owned();
        let body = self.beginning().await;
        let detail = match serde_json::from_slice(&body) {
            Ok(Problem { detail: Some(detail), title: _ }) => detail,
            Ok(Problem { detail: None, title: Some(title) }) => title,
            Ok(Problem { detail: None, title: None }) | Err(_) => quote(&body),
        };
        anyhow!("{what}: the broker refused it ({reason}): {detail}")
    }

    /// As much as an error needs; a body that breaks off is as good as its beginning.
    async fn beginning(self) -> Vec<u8> {
        let mut body = self.into_body();
        let mut bytes = Vec::new();
        while bytes.len() < 8 * QUOTED_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        bytes
    }
}

/// Problem details, as far as they are quoted.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED_BYTES)]);
    let more = if bytes.len() > QUOTED_BYTES { "…" } else { "" };
    format!("{}{more}", text.trim().escape_debug())
}
