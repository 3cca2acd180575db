//! One HTTP request, and what was answered. Redirects are followed only where the input says so, each through the broker.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, USER_AGENT,
};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Client, HttpUrl};

/// A skill's output is not longer.
const ANSWER_BYTES: usize = 256 * 1024;
const MOST_REDIRECTS: u8 = 5;
/// What is handed on of the answer's headers.
const SHOWN: [&str; 8] =
    ["content-type", "etag", "last-modified", "link", "location", "retry-after", "www-authenticate", "x-request-id"];
/// These say how a message travels, which is not a skill's matter (RFC 9110, section 7.6.1).
const TRAVEL: [&str; 9] =
    ["connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    url: HttpUrl,
    #[serde(default)]
    method: Verb,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    query: BTreeMap<String, Parameter>,
    body: Option<Value>,
    text: Option<String>,
    expect_status: Option<Vec<u16>>,
    #[serde(default)]
    follow_redirects: u8,
}

#[derive(Serialize)]
pub struct Output {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    content: Content,
    bytes: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Content {
    Json(Value),
    Text(String),
    Base64(String),
    #[serde(untagged)]
    Nothing {},
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    fn method(self) -> Method {
        match self {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Options => Method::OPTIONS,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        }
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct Headers(HeaderMap);

impl TryFrom<BTreeMap<String, String>> for Headers {
    type Error = String;

    fn try_from(given: BTreeMap<String, String>) -> Result<Headers, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let name = HeaderName::try_from(&name).map_err(|_| format!("{name:?} is not a header's name"))?;
            let of = name.as_str();
            if TRAVEL.contains(&of) || of.starts_with("proxy-") || of.starts_with("countersign-") {
                return Err(format!("{of:?} is not for a skill to set; leave it out"));
            }
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("the value of {of:?} has a line break or another control character"))?;
            headers.insert(name, value);
        }
        Ok(Headers(headers))
    }
}

/// A value of the query, as CEL makes them.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct Parameter(String);

impl TryFrom<Value> for Parameter {
    type Error = String;

    fn try_from(value: Value) -> Result<Parameter, String> {
        match value {
            Value::String(text) => Ok(Parameter(text)),
            Value::Number(_) | Value::Bool(_) => Ok(Parameter(value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(format!("{value} is neither a string nor a number nor true or false"))
            }
        }
    }
}

/// A request as it goes out, the first or one that a redirect led to.
struct Hop {
    method: Method,
    url: HttpUrl,
    headers: HeaderMap,
    body: Bytes,
}

pub async fn run(client: Client, input: Input) -> anyhow::Result<Output> {
    let expected = input.expect_status.clone();
    let follow = input.follow_redirects;
    let mut hop = first(input)?;
    for _ in 0..=follow {
        let Hop { method, url, headers, body } = &hop;
        let answer = client.send(method.clone(), &url.0, headers.clone(), body.clone()).await?;
        let status = answer.status();
        match answer.header("location").filter(|_| follow > 0 && redirects(status)) {
            Some(location) => hop = hop.led_by(status, location)?,
            None if expected.is_none() && (status.is_success() || status.is_redirection()) => {
                return output(answer).await;
            }
            None if expected.is_some_and(|expected| expected.contains(&status.as_u16())) => {
                return output(answer).await;
            }
            None => return Err(answer.failure().await),
        }
    }
    bail!("input.followRedirects: more than {follow} redirects; the last one led to {}", hop.url.0)
}

fn first(input: Input) -> anyhow::Result<Hop> {
    let Input { mut url, method, headers: Headers(mut headers), query, body, text, expect_status, follow_redirects } =
        input;
    if follow_redirects > MOST_REDIRECTS {
        bail!("input.followRedirects: {follow_redirects} is more than {MOST_REDIRECTS}");
    }
    if let Some(status) = expect_status.into_iter().flatten().find(|status| !(200..=599).contains(status)) {
        bail!("input.expectStatus: {status} is not the status of an answer; write some of 200 to 599");
    }
    if !query.is_empty() {
        url.0.query_pairs_mut().extend_pairs(query.iter().map(|(name, Parameter(value))| (name, value)));
    }
    let (kind, body) = match (body, text) {
        (Some(_), Some(_)) => bail!("input.text: there is a body already; leave one of them out"),
        (Some(body), None) => ("application/json", body.to_string()),
        (None, Some(text)) => ("text/plain; charset=utf-8", text),
        (None, None) => ("", String::new()),
    };
    if !kind.is_empty() {
        if matches!(method, Verb::Get | Verb::Head) {
            bail!("input.body: a {} has none; write method POST, PUT or PATCH, or leave it out", method.method());
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    }
    Ok(Hop { method: method.method(), url, headers, body: body.into() })
}

/// 300 leaves the choice to people, 304 and 305 are no redirects.
fn redirects(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

impl Hop {
    /// The request that a redirect asks for (RFC 9110, section 15.4).
    fn led_by(self, status: StatusCode, location: &str) -> anyhow::Result<Hop> {
        let Hop { mut method, url, mut headers, mut body } = self;
        let next = url.0.join(location).map(String::from).map_err(|error| error.to_string());
        let next = next.and_then(HttpUrl::try_from).map_err(anyhow::Error::msg);
        let next = next.with_context(|| format!("{method} {}: it redirects to {location:?}", url.0))?;
        let rewritten = match status {
            StatusCode::SEE_OTHER => method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
            _ => false,
        };
        if rewritten {
            method = Method::GET;
            body = Bytes::new();
            for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, LAST_MODIFIED] {
                headers.remove(name);
            }
        }
        if next.0.origin() != url.0.origin() {
            // Whatever else was said to the first host (credentials above all) is not for the second.
            let harmless = [ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, USER_AGENT];
            headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect::<HeaderMap>();
            headers =
                harmless.into_iter().filter_map(|name| headers.remove(&name).map(|value| (name, value))).collect();
        }
        Ok(Hop { method, url: next, headers, body })
    }
}

async fn output(answer: super::http::Answer) -> anyhow::Result<Output> {
    let (status, is_json) = (answer.status().as_u16(), answer.is_json());
    let headers = SHOWN.into_iter().filter_map(|name| Some((name, answer.header(name)?.to_owned()))).collect();
    let body = answer.bytes(ANSWER_BYTES).await?;
    let bytes = body.len();
    let json = || serde_json::from_slice(&body).ok().filter(|value| is_json && keeps(value));
    let content = match (json(), std::str::from_utf8(&body)) {
        _ if body.is_empty() => Content::Nothing {},
        (Some(value), _) => Content::Json(value),
        (None, Ok(text)) => Content::Text(text.to_owned()),
        (None, Err(_)) => Content::Base64(base64::engine::general_purpose::STANDARD.encode(&body)),
    };
    Ok(Output { status, headers, content, bytes })
}

/// Whether every reader keeps its integers (RFC 7493); what would be changed on the way is handed on as text.
fn keeps(value: &Value) -> bool {
    const GREATEST: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= GREATEST),
        Value::Array(items) => items.iter().all(keeps),
        Value::Object(fields) => fields.values().all(keeps),
    }
}
