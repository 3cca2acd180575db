//! An event for somebody else's endpoint, with a key by which a repeat is recognised. The broker signs it.

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{Client, HttpUrl, json_headers};
use crate::output::sha256;

const KEY_BYTES: usize = 255;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    url: HttpUrl,
    event: String,
    payload: Value,
    idempotency_key: Option<Key>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    status: u16,
    idempotency_key: String,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Key(String);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Key, String> {
        if text.is_empty() || text.len() > KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{text:?} is not a key; write 1 to {KEY_BYTES} printable ASCII characters without spaces"
            ));
        }
        Ok(Key(text))
    }
}

pub async fn run(client: Client, input: Input) -> anyhow::Result<Output> {
    let Input { url, event, payload, idempotency_key } = input;
    let Key(key) = match idempotency_key {
        Some(key) => key,
        None => Key(sha256(&serde_json_canonicalizer::to_vec(
            &json!({"url": url.0.as_str(), "event": event, "payload": payload}),
        )?)),
    };
    // In canonical form, so that a repeat has the same bytes and a signature over them can be compared.
    let body = serde_json_canonicalizer::to_vec(&json!({"type": event, "data": payload}))?;
    let mut headers = json_headers();
    headers.insert(HeaderName::from_static("idempotency-key"), HeaderValue::from_str(&key)?);
    // The same, as receivers of https://www.standardwebhooks.com look for it; the broker's signature is over it too.
    headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::from_str(&key)?);
    let answer = client.send(Method::POST, &url.0, headers, body).await?;
    if !answer.status().is_success() {
        return Err(answer.failure().await);
    }
    Ok(Output { status: answer.status().as_u16(), idempotency_key: key })
}
