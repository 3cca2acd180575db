//! How a Secret's value is shown to an upstream.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use countersign_core::digest::hex;
use countersign_crds::{Credential, CredentialScheme};
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use sha2::Sha256;
use thiserror::Error;

use super::redact::Redactor;

/// Where a signature of the body goes if nothing else is said.
const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A Secret's value, without the line break that editors leave at its end. Shows itself in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    #[error("key {key} of Secret {secret} is empty")]
    Empty { secret: String, key: String },
    #[error("key {key} of Secret {secret} has characters that no header can carry")]
    NotAHeader { secret: String, key: String },
    #[error("username {0:?} has a colon or a control character, which Basic authentication cannot carry")]
    Username(String),
    #[error("credential of Secret {secret}: mail needs a username, as the login; add it to the Skill's egress")]
    NoLogin { secret: String },
    #[error("credential of Secret {secret}: signatures are for web requests; mail takes a username and scheme Value")]
    SignedMail { secret: String },
    #[error("the request is signed with its header webhook-id, so it must have one, of printable ASCII without a dot")]
    WebhookId,
}

impl SecretValue {
    pub fn new(mut bytes: Vec<u8>) -> SecretValue {
        if bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        SecretValue(bytes)
    }
}

/// Adds a credential to a web request. `body` and `unix` count only for a signature.
pub fn show(
    credential: &Credential,
    value: &SecretValue,
    headers: &mut HeaderMap,
    body: &[u8],
    unix: i64,
) -> Result<(), CredentialError> {
    let Credential { secret, key, header, username, scheme } = credential;
    let SecretValue(bytes) = value;
    let not_a_header = || CredentialError::NotAHeader { secret: secret.clone(), key: key.clone() };
    if bytes.is_empty() {
        return Err(CredentialError::Empty { secret: secret.clone(), key: key.clone() });
    }
    let named = header.as_deref().map(|name| HeaderName::from_bytes(name.as_bytes()).map_err(|_| not_a_header()));
    let named = named.transpose()?;
    let (name, text) = match (scheme, username, named) {
        (CredentialScheme::HmacSha256, _, named) => {
            let signature = format!("sha256={}", hex(&mac(bytes, &[body])));
            (named.unwrap_or(SIGNATURE), signature.into_bytes())
        }
        (CredentialScheme::StandardWebhook, _, _) => {
            let id = headers.get(WEBHOOK_ID).filter(|id| is_id(id.as_bytes())).ok_or(CredentialError::WebhookId)?;
            let time = unix.to_string();
            let signed = mac(&webhook_key(bytes), &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
            let id = id.clone();
            // One of each, whatever the sandbox sent.
            headers.insert(WEBHOOK_ID, id);
            headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(unix));
            (WEBHOOK_SIGNATURE, format!("v1,{}", STANDARD.encode(signed)).into_bytes())
        }
        (CredentialScheme::Value, Some(username), _) => {
            let login = [checked(username)?.as_bytes(), b":", bytes].concat();
            (AUTHORIZATION, format!("Basic {}", STANDARD.encode(login)).into_bytes())
        }
        (CredentialScheme::Value, None, Some(named)) => (named, bytes.clone()),
        (CredentialScheme::Value, None, None) => (AUTHORIZATION, [b"Bearer ", bytes.as_slice()].concat()),
    };
    let mut value = HeaderValue::from_bytes(&text).map_err(|_| not_a_header())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Whether the whole body must be there before the head can be written.
pub fn signs(credential: &Credential) -> bool {
    match credential.scheme {
        CredentialScheme::Value => false,
        CredentialScheme::HmacSha256 | CredentialScheme::StandardWebhook => true,
    }
}

/// The user and password of a mail server.
pub fn login(credential: &Credential, value: &SecretValue) -> Result<(String, String), CredentialError> {
    let Credential { secret, key, header: _, username, scheme } = credential;
    let SecretValue(bytes) = value;
    match scheme {
        CredentialScheme::Value => {}
        CredentialScheme::HmacSha256 | CredentialScheme::StandardWebhook => {
            return Err(CredentialError::SignedMail { secret: secret.clone() });
        }
    }
    let username = username.as_ref().ok_or_else(|| CredentialError::NoLogin { secret: secret.clone() })?;
    let password = String::from_utf8(bytes.clone()).ok().filter(|text| !text.chars().any(char::is_control));
    match password {
        Some(password) if !password.is_empty() => Ok((checked(username)?.to_owned(), password)),
        Some(_) => Err(CredentialError::Empty { secret: secret.clone(), key: key.clone() }),
        None => Err(CredentialError::NotAHeader { secret: secret.clone(), key: key.clone() }),
    }
}

/// What takes this credential out of answers.
pub fn redactor(credential: &Credential, value: &SecretValue) -> Result<Redactor, aho_corasick::BuildError> {
    let SecretValue(bytes) = value;
    let shown = match (&credential.username, credential.scheme) {
        // As Basic sends it.
        (Some(username), CredentialScheme::Value) => [username.as_bytes(), b":", bytes].concat(),
        (_, CredentialScheme::StandardWebhook) => webhook_key(bytes),
        (_, CredentialScheme::HmacSha256) | (None, CredentialScheme::Value) => bytes.clone(),
    };
    Redactor::new(bytes, &shown)
}

fn checked(username: &str) -> Result<&str, CredentialError> {
    if username.contains(':') || username.chars().any(char::is_control) {
        return Err(CredentialError::Username(username.to_owned()));
    }
    Ok(username)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(error) => unreachable!("HMAC takes a key of any length: {error}"),
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// `whsec_` and base64, or the key itself.
fn webhook_key(value: &[u8]) -> Vec<u8> {
    let encoded = value.strip_prefix(b"whsec_");
    let trimmed = encoded.map(|encoded| encoded.strip_suffix(b"==").or(encoded.strip_suffix(b"=")).unwrap_or(encoded));
    trimmed.and_then(|encoded| STANDARD_NO_PAD.decode(encoded).ok()).unwrap_or_else(|| value.to_vec())
}

/// Without a dot, so that the signed text can be cut in one way only.
fn is_id(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn credential(more: Value) -> Credential {
        let mut all = json!({"secret": "s", "key": "k"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.as_bytes().to_vec())
    }

    fn shown(more: Value, text: &str, sent: &[(&'static str, &'static str)]) -> Result<HeaderMap, CredentialError> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers: HeaderMap = sent.iter().map(pair).collect();
        show(&credential(more), &value(text), &mut headers, b"{}", 1_700_000_000)?;
        Ok(headers)
    }

    #[test]
    fn each_scheme_has_its_header() {
        for (more, name, expected) in [
            (json!({}), "authorization", "Bearer abc"),
            (json!({"header": "X-Api-Key"}), "x-api-key", "abc"),
            (json!({"header": "Authorization"}), "authorization", "abc"),
            (json!({"username": "Aladdin"}), "authorization", "Basic QWxhZGRpbjphYmM="),
            (
                json!({"scheme": "HmacSha256"}),
                "x-hub-signature-256",
                // As `printf '{}' | openssl dgst -sha256 -hmac abc` says.
                "sha256=19092633e5aa9a849dfcc9d2df4e76db2df1fcba7f38915f2c7833bd8a510f2f",
            ),
            (
                json!({"scheme": "HmacSha256", "header": "X-Signature"}),
                "x-signature",
                "sha256=19092633e5aa9a849dfcc9d2df4e76db2df1fcba7f38915f2c7833bd8a510f2f",
            ),
        ] {
            let headers = shown(more, "abc\r\n", &[]).unwrap();
            assert_eq!((headers.len(), headers[name].to_str().unwrap()), (1, expected));
            assert!(headers[name].is_sensitive());
        }
    }

    #[test]
    fn a_standard_webhook_is_signed_with_its_id_and_the_time() {
        let scheme = json!({"scheme": "StandardWebhook"});
        let forged = [("webhook-id", "msg_1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,forged")];
        // As `printf 'msg_1.1700000000.{}' | openssl dgst -sha256 -hmac abc -binary | base64` says.
        for key in ["abc", "whsec_YWJj", "whsec_YWJj\n"] {
            let headers = shown(scheme.clone(), key, &forged).unwrap();
            assert_eq!(headers["webhook-signature"], "v1,dWBzc6Wq1qY3RhXpsQmvNUUlNaNww3B2e4l6GLDJMZI=", "{key}");
            assert_eq!(headers["webhook-timestamp"], "1700000000");
            assert_eq!(headers.len(), 3);
        }
        for sent in [vec![], vec![("webhook-id", "")], vec![("webhook-id", "a.1")], vec![("webhook-id", "a b")]] {
            assert_eq!(shown(scheme.clone(), "abc", &sent).unwrap_err(), CredentialError::WebhookId, "{sent:?}");
        }
    }

    #[test]
    fn what_cannot_be_shown_is_an_error_without_the_value() {
        for (more, text) in [
            (json!({}), ""),
            (json!({}), "\n"),
            (json!({}), "hidden\r\nX: 1"),
            (json!({}), "hidden\0"),
            (json!({"username": "a:b"}), "hidden"),
            (json!({"username": "a\nb"}), "hidden"),
        ] {
            let error = shown(more, text, &[]).unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
        assert_eq!(format!("{:?}", value("hidden")), "[redacted]");
    }

    #[test]
    fn mail_needs_a_login() {
        let mail = credential(json!({"username": "me@example.org"}));
        assert_eq!(login(&mail, &value("pw\n")), Ok(("me@example.org".to_owned(), "pw".to_owned())));
        assert!(login(&credential(json!({})), &value("pw")).is_err());
        assert!(login(&credential(json!({"username": "u", "scheme": "HmacSha256"})), &value("pw")).is_err());
        for wrong in ["", "a\0b", "a\r\nRCPT TO:<x@y>"] {
            assert!(login(&mail, &value(wrong)).is_err(), "{wrong:?}");
        }
    }
}
