//! Where a call goes, read from its URL in one way only: what is judged here is what is connected to and sent.

use std::net::IpAddr;

use countersign_crds::Protocol;
use thiserror::Error;
use url::{Host, Url};

use super::path::RequestPath;

/// A destination, with every disguise of its host undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub protocol: Protocol,
    pub host: TargetHost,
    pub port: u16,
    pub path: RequestPath,
    query: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// Lower case, in ASCII (IDNA).
    Name(String),
    Address(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("the URL is not UTF-8 or has control characters or spaces; percent-encode them")]
    Characters,
    #[error("the URL has a backslash, which readers understand differently; write / or %5C")]
    Backslash,
    #[error("the URL is longer than {MOST} bytes")]
    TooLong,
    #[error("the URL cannot be read: {0}")]
    Unreadable(String),
    #[error("the URL has a user or password; the broker adds credentials itself, as the Skill's egress says")]
    UserInfo,
    #[error("{0:?} is not a scheme that the broker speaks; use https, http, smtps or smtp")]
    Scheme(String),
    #[error("a mail server has no path; write smtps://HOST:PORT/")]
    MailPath,
}

/// Of a URL.
const MOST: usize = 16 * 1024;

impl Target {
    pub fn parse(url: &[u8]) -> Result<Target, TargetError> {
        let url = std::str::from_utf8(url).map_err(|_| TargetError::Characters)?;
        if url.len() > MOST {
            return Err(TargetError::TooLong);
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(TargetError::Characters);
        }
        if url.contains('\\') {
            return Err(TargetError::Backslash);
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(TargetError::Unreadable("it has no scheme; write https://HOST/PATH".to_owned()));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "https" => Target::web(Protocol::Https, url),
            "http" => Target::web(Protocol::Http, url),
            "smtps" => Target::mail(Protocol::Smtps, 465, rest),
            "smtp" => Target::mail(Protocol::Smtp, 587, rest),
            other => Err(TargetError::Scheme(other.to_owned())),
        }
    }

    fn web(protocol: Protocol, text: &str) -> Result<Target, TargetError> {
        let url = Url::parse(text).map_err(|error| TargetError::Unreadable(error.to_string()))?;
        // An empty user is a disguise too: https://@host and https://:@host.
        if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
            return Err(TargetError::UserInfo);
        }
        let host = url.host().map(|host| TargetHost::of(host.to_owned()));
        let (Some(host), Some(port)) = (host, url.port_or_known_default()) else {
            return Err(TargetError::Unreadable("it has no host".to_owned()));
        };
        let path = RequestPath::new(url.path(), raw_path(text));
        Ok(Target { protocol, host, port, path, query: url.query().map(str::to_owned) })
    }

    /// The URL standard reads hosts of its own schemes only, so a mail server's is read by itself.
    fn mail(protocol: Protocol, default: u16, rest: &str) -> Result<Target, TargetError> {
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        if authority.contains(['/', '?', '#']) {
            return Err(TargetError::MailPath);
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        let unreadable = |error: String| TargetError::Unreadable(error);
        let port = match port {
            None => default,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| unreadable(format!("{port:?} is not a port")))?
            }
            Some(port) => return Err(unreadable(format!("{port:?} is not a port"))),
        };
        let host = Host::parse(host).map_err(|error| unreadable(error.to_string()))?;
        Ok(Target { protocol, host: TargetHost::of(host), port, path: RequestPath::new("/", "/"), query: None })
    }

    /// What stands in the request's first line.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path.as_str()),
            None => self.path.as_str().to_owned(),
        }
    }

    /// As `Host` carries it: the port only where it is not the protocol's own.
    pub fn authority(&self) -> String {
        let own = match self.protocol {
            Protocol::Https => 443,
            Protocol::Http => 80,
            Protocol::Smtps => 465,
            Protocol::Smtp => 587,
        };
        if self.port == own { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// For the record: without its query, which may hold what is nobody's business.
    pub fn recorded(&self) -> String {
        format!("{}://{}{}", self.protocol.scheme(), self.authority(), self.path.as_str())
    }

    pub fn is_mail(&self) -> bool {
        match self.protocol {
            Protocol::Https | Protocol::Http => false,
            Protocol::Smtps | Protocol::Smtp => true,
        }
    }
}

impl TargetHost {
    fn of(host: Host<String>) -> TargetHost {
        match host {
            Host::Domain(name) => TargetHost::Name(name),
            Host::Ipv4(address) => TargetHost::Address(address.into()),
            Host::Ipv6(address) => TargetHost::Address(address.into()),
        }
    }
}

/// As in a URL.
impl std::fmt::Display for TargetHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TargetHost::Name(name) => f.write_str(name),
            TargetHost::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            TargetHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn after_scheme(url: &str) -> &str {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    // The URL standard takes any number of them.
    rest.trim_start_matches('/')
}

fn authority(url: &str) -> &str {
    let rest = after_scheme(url);
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// The path as it was written, before anything in it was resolved.
fn raw_path(url: &str) -> &str {
    let rest = after_scheme(url);
    let rest = &rest[authority(url).len()..];
    &rest[..rest.find(['?', '#']).unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url.as_bytes())
    }

    #[test]
    fn every_disguise_of_an_address_is_undone() {
        for (url, host) in [
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://2130706433/", "127.0.0.1"),
            ("https://0x7f000001/", "127.0.0.1"),
            ("https://0X7F.0.0.1/", "127.0.0.1"),
            ("https://0177.0.0.1/", "127.0.0.1"),
            ("https://017700000001/", "127.0.0.1"),
            ("https://127.1/", "127.0.0.1"),
            ("https://127.0.1/", "127.0.0.1"),
            ("https://127.0.0.1./", "127.0.0.1"),
            ("https://0x7f.0x0.0x0.0x1/", "127.0.0.1"),
            ("https://0/", "0.0.0.0"),
            ("https://%31%32%37.0.0.1/", "127.0.0.1"),
            ("https://%30x7f000001/", "127.0.0.1"),
            ("https://①②⑦.⓪.⓪.①/", "127.0.0.1"),
            ("https://127。0。0。1/", "127.0.0.1"),
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://2852039166/", "169.254.169.254"),
            ("https://0xa9fea9fe/", "169.254.169.254"),
            ("https://0251.0376.0251.0376/", "169.254.169.254"),
            ("https://169.16689662/", "169.254.169.254"),
            ("https://[::1]/", "[::1]"),
            ("https://[0:0:0:0:0:0:0:1]/", "[::1]"),
            ("https://[::ffff:127.0.0.1]/", "[::ffff:127.0.0.1]"),
            ("https://[::ffff:7f00:1]/", "[::ffff:127.0.0.1]"),
            ("https://[fd00:ec2::254]/", "[fd00:ec2::254]"),
            ("HTTPS://EXAMPLE.com/", "example.com"),
            ("https:///example.com/", "example.com"),
            ("https://bücher.example/", "xn--bcher-kva.example"),
            ("https://ex%61mple.com/", "example.com"),
            ("https://example.com./", "example.com."),
            ("smtp://2130706433:587/", "127.0.0.1"),
            ("smtps://0x7f.1", "127.0.0.1"),
            ("smtps://[::ffff:a9fe:a9fe]/", "[::ffff:169.254.169.254]"),
        ] {
            assert_eq!(parse(url).map(|target| target.host.to_string()), Ok(host.to_owned()), "{url}");
        }
    }

    #[test]
    fn what_readers_understand_differently_is_refused() {
        for (url, error) in [
            ("https://good.example@evil.example/", TargetError::UserInfo),
            ("https://user:pass@example.com/", TargetError::UserInfo),
            ("https://@example.com/", TargetError::UserInfo),
            ("https://:@example.com/", TargetError::UserInfo),
            (
                "https://good.example%40evil.example/",
                TargetError::Unreadable("invalid international domain name".into()),
            ),
            ("https:\\\\example.com\\", TargetError::Backslash),
            ("https://good.example\\@evil.example/", TargetError::Backslash),
            ("https://exam\tple.com/", TargetError::Characters),
            ("https://example.com/a b", TargetError::Characters),
            (" https://example.com/", TargetError::Characters),
            ("https://example.com/\r\nX: 1", TargetError::Characters),
            ("ftp://example.com/", TargetError::Scheme("ftp".into())),
            ("file:///etc/passwd", TargetError::Scheme("file".into())),
            ("gopher://127.0.0.1:25/", TargetError::Scheme("gopher".into())),
            ("smtp://example.com/path", TargetError::MailPath),
            ("smtp://example.com?x", TargetError::MailPath),
            ("smtp://u:p@example.com/", TargetError::UserInfo),
        ] {
            assert_eq!(parse(url), Err(error), "{url}");
        }
        for url in [
            "",
            "example.com",
            "https:",
            "https://",
            "//example.com/",
            "https://256.1.1.1/",
            "https://1.2.3.4.5/",
            "https://0x100000000/",
            "https://[::1",
            "https://[::1%25eth0]/",
            "https://exa mple/",
            "https://ex<ample/",
            "https://example.com:99999/",
            "https://example.com:x/",
            "https://ex%00ample/",
            "smtp://:25/",
            "smtp://example.com:-1/",
            "https://xn--/",
            "https://example.com:80:80/",
        ] {
            assert!(parse(url).is_err(), "{url}: {:?}", parse(url));
        }
        assert_eq!(Target::parse(b"https://example.com/\xff"), Err(TargetError::Characters));
        assert_eq!(parse(&format!("https://example.com/{}", "a".repeat(MOST))), Err(TargetError::TooLong));
    }

    #[test]
    fn what_is_sent_is_what_was_judged() {
        for (url, sent, authority, recorded) in [
            ("https://a.example", "/", "a.example", "https://a.example/"),
            ("https://a.example:443/x?q=1#f", "/x?q=1", "a.example", "https://a.example/x"),
            ("http://a.example:8080/?", "/?", "a.example:8080", "http://a.example:8080/"),
            ("https://[2001:db8::1]:8443/", "/", "[2001:db8::1]:8443", "https://[2001:db8::1]:8443/"),
            ("https://a.example/x/../y/./%2e%2e/z", "/z", "a.example", "https://a.example/z"),
            ("smtp://mail.example", "/", "mail.example", "smtp://mail.example/"),
            ("smtps://mail.example:2465/", "/", "mail.example:2465", "smtps://mail.example:2465/"),
        ] {
            let target = parse(url).unwrap();
            let found = (target.path_and_query(), target.authority(), target.recorded());
            assert_eq!(found, (sent.to_owned(), authority.to_owned(), recorded.to_owned()), "{url}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_read_is_a_fixpoint(url in "(https?|smtps?)://[a-z0-9.%@:\\[\\]/?#\\\\]{0,40}") {
            if let Ok(target) = parse(&url) {
                let again = parse(&target.recorded()).unwrap();
                prop_assert_eq!(again.host, target.host);
                prop_assert_eq!(again.port, target.port);
                prop_assert_eq!(again.path.as_str(), target.path.as_str());
            }
        }

        #[test]
        fn any_spelling_of_an_address_is_that_address(address: u32, spelling in 0..4) {
            let [a, b, c, d] = address.to_be_bytes();
            let host = match spelling {
                0 => address.to_string(),
                1 => format!("{address:#x}"),
                2 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
                _ => format!("{a}.{}", address & 0xff_ffff),
            };
            let expected = TargetHost::Address(std::net::Ipv4Addr::from(address).into());
            prop_assert_eq!(parse(&format!("https://{host}/")).unwrap().host, expected);
        }
    }
}
