//! What of a message's head goes on to the other side.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderName, HeaderValue};

/// The broker's own names.
const OWN: &str = "countersign-";
/// By which an answer of the broker itself is told from one of the destination's.
pub const REFUSED: HeaderName = HeaderName::from_static("countersign-refused");
pub const URL: HeaderName = HeaderName::from_static("countersign-url");
/// The skill's `Authorization`; the plain one is the session's.
pub const SKILLS_AUTHORIZATION: HeaderName = HeaderName::from_static("countersign-authorization");

/// Of one connection only (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A skill's request for the broker. Its host is in the URL, and what it expects was the proxy's to answer.
pub fn request(mut from: HeaderMap, to: &mut HeaderMap) {
    drop_hop_by_hop(&mut from);
    from.remove(HOST);
    from.remove(EXPECT);
    let mut name = None;
    for (next, value) in from {
        // A name is told once, before its first value.
        name = next.or(name);
        match &name {
            Some(name) if *name == AUTHORIZATION => to.append(SKILLS_AUTHORIZATION, value),
            Some(name) if !name.as_str().starts_with(OWN) => to.append(name.clone(), value),
            Some(_) | None => false,
        };
    }
}

/// An answer for the skill.
pub fn response(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(OWN) && **name != REFUSED).cloned().collect();
    for name in own {
        headers.remove(name);
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.get_all(CONNECTION).iter().flat_map(names).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn names(value: &HeaderValue) -> Vec<HeaderName> {
    let text = value.to_str().unwrap_or_default();
    text.split(',').filter_map(|name| name.trim().parse().ok()).collect()
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

    #[test]
    fn only_what_is_for_the_destination_goes_on() {
        let mut from = map(&[
            ("host", "a"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic eDp5"),
            ("countersign-url", "https://elsewhere/"),
            ("countersign-authorization", "forged"),
            ("authorization", "Bearer mine"),
            ("accept", "text/plain"),
        ]);
        from.append("accept", HeaderValue::from_static("text/html"));
        let mut to = map(&[("authorization", "Bearer session")]);
        request(from, &mut to);
        let mut expected = map(&[("authorization", "Bearer session"), ("countersign-authorization", "Bearer mine")]);
        expected.append("accept", HeaderValue::from_static("text/plain"));
        expected.append("accept", HeaderValue::from_static("text/html"));
        assert_eq!(to, expected);
    }

    #[test]
    fn of_the_brokers_own_an_answer_keeps_the_refusal() {
        let mut headers = map(&[
            ("transfer-encoding", "chunked"),
            ("countersign-refused", "egress-denied"),
            ("countersign-price", "1"),
            ("content-type", "text/plain"),
        ]);
        response(&mut headers);
        assert_eq!(headers, map(&[("countersign-refused", "egress-denied"), ("content-type", "text/plain")]));
    }
}
