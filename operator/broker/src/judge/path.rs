//! Paths, and the lists that they are held against. A path that two servers could understand differently matches no
//! list.

use percent_encoding::percent_decode_str;

/// A path as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath {
    sent: String,
    doubt: Option<Doubt>,
}

/// Why a path could mean something else to the server than to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    DotSegment,
    EncodedSeparator,
    EncodedTwice,
    Unreadable,
}

impl Doubt {
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::DotSegment => "it has a segment . or .., plain or encoded",
            Doubt::EncodedSeparator => "it has an encoded / or \\",
            Doubt::EncodedTwice => "it is encoded twice",
            Doubt::Unreadable => "it encodes what is not plain text",
        }
    }
}

impl RequestPath {
    /// `raw` is what the client wrote, before dot segments were resolved.
    pub fn new(sent: &str, raw: &str) -> RequestPath {
        RequestPath { sent: sent.to_owned(), doubt: doubt(raw).or_else(|| doubt(sent)) }
    }

    pub fn as_str(&self) -> &str {
        &self.sent
    }

    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Whether a list lets it through; an empty list lets every path through.
    pub fn is_listed(&self, list: &[String]) -> bool {
        list.is_empty() || (self.doubt.is_none() && list.iter().any(|pattern| self.matches(pattern)))
    }

    fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(beginning) => self.sent.starts_with(beginning),
            None => self.sent == pattern,
        }
    }
}

fn doubt(path: &str) -> Option<Doubt> {
    path.split('/').find_map(segment)
}

fn segment(segment: &str) -> Option<Doubt> {
    let Ok(decoded) = percent_decode_str(segment).decode_utf8() else { return Some(Doubt::Unreadable) };
    if decoded.chars().any(|c| c.is_control() || c == '\u{fffd}') {
        return Some(Doubt::Unreadable);
    }
    // U+FF0F and its like become separators where a server maps them to ASCII.
    if decoded.contains(['/', '\\', '\u{2044}', '\u{2215}', '\u{ff0f}', '\u{ff3c}']) {
        return Some(Doubt::EncodedSeparator);
    }
    // `..;x` is a dot segment where parameters of segments are cut off.
    let name = decoded.split(';').next().unwrap_or_default();
    let dots = |c: char| matches!(c, '.' | '\u{ff0e}' | '\u{2024}');
    if !name.is_empty() && name.chars().all(dots) {
        return Some(Doubt::DotSegment);
    }
    let twice = decoded.as_bytes().windows(3).any(|w| w[0] == b'%' && w[1..].iter().all(u8::is_ascii_hexdigit));
    twice.then_some(Doubt::EncodedTwice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RequestPath {
        RequestPath::new(text, text)
    }

    #[test]
    fn a_list_holds_whole_paths_and_beginnings() {
        let list = ["/v1/chat".to_owned(), "/public/*".to_owned()];
        for (text, listed) in [
            ("/v1/chat", true),
            ("/public/", true),
            ("/public/a/b", true),
            ("/public/a%20b", true),
            ("/public/ü", true),
            ("/public/a.b/..c", true),
            ("/v1/chat/", false),
            ("/v1/chat/more", false),
            ("/v1", false),
            ("/V1/chat", false),
            ("//v1/chat", false),
            ("/%761/chat", false),
            ("/public", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(path(text).is_listed(&list), listed, "{text}");
            assert!(path(text).is_listed(&[]), "{text}");
        }
        assert!(path("/anything").is_listed(&["/*".to_owned()]));
    }

    #[test]
    fn a_path_of_two_meanings_is_in_no_list() {
        for (text, doubt) in [
            ("/public/../admin", Doubt::DotSegment),
            ("/public/./admin", Doubt::DotSegment),
            ("/public/%2e%2e/admin", Doubt::DotSegment),
            ("/public/%2E./admin", Doubt::DotSegment),
            ("/public/.%2e", Doubt::DotSegment),
            ("/public/..;/admin", Doubt::DotSegment),
            ("/public/..;a=b/admin", Doubt::DotSegment),
            ("/public/%2e%2e;x/admin", Doubt::DotSegment),
            ("/public/.../admin", Doubt::DotSegment),
            ("/public/%ef%bc%8e%ef%bc%8e/admin", Doubt::DotSegment),
            ("/public/..%2fadmin", Doubt::EncodedSeparator),
            ("/public%2f..%2fadmin", Doubt::EncodedSeparator),
            ("/public/a%2Fb", Doubt::EncodedSeparator),
            ("/public/..%5cadmin", Doubt::EncodedSeparator),
            ("/public/..%5Cadmin", Doubt::EncodedSeparator),
            ("/public/a\\b", Doubt::EncodedSeparator),
            ("/public/..%ef%bc%8fadmin", Doubt::EncodedSeparator),
            ("/public/%252e%252e/admin", Doubt::EncodedTwice),
            ("/public/..%252fadmin", Doubt::EncodedTwice),
            ("/public/%25252e", Doubt::EncodedTwice),
            ("/public/%c0%ae%c0%ae/admin", Doubt::Unreadable),
            ("/public/%e0%80%ae/admin", Doubt::Unreadable),
            ("/public/%ff", Doubt::Unreadable),
            ("/public/%00", Doubt::Unreadable),
            ("/public/a%00.txt", Doubt::Unreadable),
            ("/public/%0d%0aX:1", Doubt::Unreadable),
        ] {
            let path = path(text);
            assert_eq!(path.doubt(), Some(doubt), "{text}");
            assert!(!path.is_listed(&["/*".to_owned()]), "{text}");
        }
        assert_eq!(
            RequestPath::new("/admin", "/public/../admin").doubt(),
            Some(Doubt::DotSegment),
            "as it was written"
        );
    }
}
