//! What of a message's head goes on to the other side.

use hyper::HeaderMap;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED,
    HOST, HeaderName, HeaderValue,
};

use super::redact::Redactor;

/// The broker's own names.
const OWN: &str = "countersign-";
pub const URL: HeaderName = HeaderName::from_static("countersign-url");
/// By which an answer of the broker itself is told from one of the destination's.
pub const REFUSED: HeaderName = HeaderName::from_static("countersign-refused");
/// The sandbox's `Authorization`; the plain one is the session's.
const SANDBOX_AUTHORIZATION: HeaderName = HeaderName::from_static("countersign-authorization");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Of one connection only (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// By these some servers take another method, path, host or client than those that were judged.
const OVERRIDES: [&str; 13] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
];

/// How much of an answer the broker must be able to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Nothing,
    /// For a price or a credential; so the answer must come as it is.
    Body,
}

/// A sandbox's request for its destination, as it stands before the credential is added. `keep_authorization` where the
/// egress has no credential of its own.
pub fn request(from: &HeaderMap, authority: &HeaderValue, keep_authorization: bool, reads: Reads) -> HeaderMap {
    let named = named(from);
    let mut to = HeaderMap::with_capacity(from.len() + 1);
    to.insert(HOST, authority.clone());
    for (name, value) in from {
        let text = name.as_str();
        let dropped = HOP_BY_HOP.contains(&text)
            || OVERRIDES.contains(&text)
            || named.contains(name)
            || text.starts_with(OWN)
            || [HOST, AUTHORIZATION, CONTENT_LENGTH, EXPECT, FORWARDED].contains(name);
        if !dropped {
            to.append(name.clone(), value.clone());
        }
    }
    if keep_authorization && let Some(value) = from.get(SANDBOX_AUTHORIZATION) {
        to.insert(AUTHORIZATION, value.clone());
    }
    match reads {
        Reads::Nothing => {}
        Reads::Body => {
            to.insert(ACCEPT_ENCODING, IDENTITY);
        }
    }
    to
}

/// A judged body is JSON and nothing else, whatever the sandbox calls it.
pub fn as_json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// Whether a body comes as it is.
pub fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().all(|value| value == IDENTITY)
}

/// A destination's answer for the sandbox.
pub fn response(from: &HeaderMap, redactor: Option<&Redactor>) -> HeaderMap {
    let named = named(from);
    let mut to = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let text = name.as_str();
        if HOP_BY_HOP.contains(&text) || named.contains(name) || text.starts_with(OWN) {
            continue;
        }
        match redactor {
            None => {
                to.append(name.clone(), value.clone());
            }
            // The body may become longer or shorter, and is sent in chunks.
            Some(_) if *name == CONTENT_LENGTH => {}
            Some(redactor) if redactor.is_clean(text) => {
                if let Ok(clean) = HeaderValue::from_bytes(&redactor.whole(value.as_bytes())) {
                    to.append(name.clone(), clean);
                }
            }
            Some(_) => {}
        }
    }
    to
}

/// The headers that `Connection` names.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = |value: &HeaderValue| -> Vec<HeaderName> {
        value.to_str().unwrap_or_default().split(',').filter_map(|name| name.trim().parse().ok()).collect()
    };
    headers.get_all(CONNECTION).iter().flat_map(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    const SENT: [(&str, &str); 18] = [
        ("host", "broker"),
        ("authorization", "Bearer session"),
        ("countersign-url", "https://a.example/"),
        ("countersign-authorization", "Bearer mine"),
        ("countersign-refused", "forged"),
        ("connection", "close, X-Mine"),
        ("x-mine", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("te", "trailers"),
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "Basic eDp5"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("forwarded", "for=127.0.0.1"),
        ("accept-encoding", "gzip"),
        ("accept", "text/plain"),
    ];

    #[test]
    fn only_what_is_for_the_destination_goes_on() {
        let authority = HeaderValue::from_static("a.example");
        let expected = map(&[
            ("host", "a.example"),
            ("authorization", "Bearer mine"),
            ("accept-encoding", "gzip"),
            ("accept", "text/plain"),
        ]);
        assert_eq!(request(&map(&SENT), &authority, true, Reads::Nothing), expected);
        let expected = map(&[("host", "a.example"), ("accept-encoding", "identity"), ("accept", "text/plain")]);
        assert_eq!(request(&map(&SENT), &authority, false, Reads::Body), expected);
    }

    #[test]
    fn an_answer_keeps_its_own_headers_without_the_credential() {
        let from = map(&[
            ("transfer-encoding", "chunked"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("countersign-refused", "forged"),
            ("location", "http://169.254.169.254/?k=hunter2"),
            ("x-hunter2", "1"),
            ("content-length", "7"),
        ]);
        let redactor = Redactor::new(b"hunter2", b"u:hunter2").unwrap();
        let expected = map(&[("location", "http://169.254.169.254/?k=[redacted by the broker]")]);
        assert_eq!(response(&from, Some(&redactor)), expected);
        assert_eq!(response(&from, None)["content-length"], "7");
        assert!(!response(&from, None).contains_key("countersign-refused"));
    }

    #[test]
    fn an_encoding_is_seen() {
        assert!(is_plain(&map(&[])) && is_plain(&map(&[("content-encoding", "identity")])));
        assert!(!is_plain(&map(&[("content-encoding", "gzip")])));
    }
}
