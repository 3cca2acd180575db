//! Takes a credential out of what an upstream answers, wherever chunks begin and end.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use countersign_core::digest::hex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Most encoders leave these four as they are (RFC 3986, section 2.3).
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
pub const REDACTED: &str = "[redacted by the broker]";

/// Every form of a credential that must not be seen.
#[derive(Clone, Debug)]
pub struct Redactor {
    forms: Vec<Vec<u8>>,
    finder: AhoCorasick,
}

/// A body that is passing.
#[derive(Debug)]
pub struct Stream {
    redactor: Redactor,
    /// What could be the beginning of a form.
    held: BytesMut,
}

impl Redactor {
    /// `value` is the credential, and `shown` what was sent of it, such as `user:password`.
    pub fn new(value: &[u8], shown: &[u8]) -> Result<Redactor, aho_corasick::BuildError> {
        let mut forms: Vec<Vec<u8>> = [value, shown].into_iter().flat_map(spellings).collect();
        forms.retain(|form| !form.is_empty());
        forms.sort_unstable();
        forms.dedup();
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms)?;
        Ok(Redactor { forms, finder })
    }

    pub fn whole(&self, bytes: &[u8]) -> Vec<u8> {
        self.finder.replace_all_bytes(bytes, &vec![REDACTED; self.forms.len()])
    }

    pub fn text(&self, text: &str) -> String {
        self.finder.replace_all(text, &vec![REDACTED; self.forms.len()])
    }

    /// Whether there is nothing to redact, in a name that does not mind case either.
    pub fn is_clean(&self, name: &str) -> bool {
        let lower = name.to_ascii_lowercase();
        self.forms.iter().all(|form| !contains(lower.as_bytes(), &form.to_ascii_lowercase()))
    }

    pub fn stream(self) -> Stream {
        Stream { redactor: self, held: BytesMut::new() }
    }

    /// How many bytes at the end could be the beginning of a form.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let begins =
            |suffix: &[u8]| self.forms.iter().any(|form| form.len() > suffix.len() && form.starts_with(suffix));
        let longest = self.forms.iter().map(Vec::len).max().unwrap_or(1) - 1;
        (1..=longest.min(bytes.len())).rev().find(|length| begins(&bytes[bytes.len() - length..])).unwrap_or(0)
    }
}

impl Stream {
    /// What of it can be passed on.
    pub fn push(&mut self, chunk: &[u8]) -> Bytes {
        self.held.extend_from_slice(chunk);
        let bytes = self.held.split().freeze();
        let open = bytes.len() - self.redactor.open_end(&bytes);
        let mut passed = BytesMut::with_capacity(bytes.len());
        let mut from = 0;
        for found in self.redactor.finder.find_iter(&bytes) {
            // A longer form may begin where this one does; the next chunk tells.
            if found.start() >= open {
                break;
            }
            passed.extend_from_slice(&bytes[from..found.start()]);
            passed.extend_from_slice(REDACTED.as_bytes());
            from = found.end();
        }
        let until = open.max(from);
        passed.extend_from_slice(&bytes[from..until]);
        self.held.extend_from_slice(&bytes[until..]);
        passed.freeze()
    }

    /// What was held, once nothing more comes.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.held.split();
        self.redactor.whole(&rest).into()
    }
}

/// As it is, in base64, percent-encoded, in hexadecimal, and as JSON writes it.
fn spellings(value: &[u8]) -> Vec<Vec<u8>> {
    let encoded = percent_encode(value, NON_ALPHANUMERIC).to_string();
    let gentle = percent_encode(value, &RESERVED).to_string();
    let digits = hex(value);
    let json = serde_json::to_string(&String::from_utf8_lossy(value)).unwrap_or_default();
    let json = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or_default().to_owned();
    let texts = [
        STANDARD_NO_PAD.encode(value),
        URL_SAFE_NO_PAD.encode(value),
        lower_escapes(&encoded),
        lower_escapes(&gentle),
        encoded,
        gentle,
        digits.to_uppercase(),
        digits,
        json,
    ];
    texts.into_iter().map(String::into_bytes).chain([value.to_vec()]).collect()
}

/// `%2f` for `%2F`.
fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2.min(part.len()));
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    lower
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "s3cr3t/Key+42=\"x";

    fn redactor() -> Redactor {
        Redactor::new(SECRET.as_bytes(), format!("user:{SECRET}").as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_goes() {
        let basic = STANDARD_NO_PAD.encode(format!("user:{SECRET}"));
        for text in [
            SECRET.to_owned(),
            format!("user:{SECRET}"),
            STANDARD_NO_PAD.encode(SECRET),
            URL_SAFE_NO_PAD.encode(SECRET),
            basic.clone(),
            hex(SECRET.as_bytes()),
            hex(SECRET.as_bytes()).to_uppercase(),
            "s3cr3t%2FKey%2B42%3D%22x".to_owned(),
            "s3cr3t%2fKey%2b42%3d%22x".to_owned(),
            serde_json::json!(SECRET).as_str().map(|_| "s3cr3t/Key+42=\\\"x".to_owned()).unwrap(),
        ] {
            let found = String::from_utf8(redactor().whole(format!("<{text}>").as_bytes())).unwrap();
            let rest = found.strip_prefix(&format!("<{REDACTED}")).and_then(|rest| rest.strip_suffix('>'));
            assert!(rest.is_some_and(|rest| rest.len() < 3), "{text}: {found}");
        }
        assert!(!redactor().is_clean(&format!("x-{}", SECRET.to_lowercase())));
        assert!(redactor().is_clean("x-anything-else"));
    }

    #[test]
    fn what_cannot_begin_a_secret_passes_at_once() {
        let mut stream = redactor().stream();
        assert_eq!(stream.push(b"data: first\n\n"), "data: first\n\n");
        assert_eq!(stream.push(b"s3cr"), "");
        assert_eq!(stream.push(b"et"), "s3cret");
        assert_eq!(stream.push(b" s3"), " ");
        assert_eq!(stream.finish(), "s3");
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            secret in "[ab]{2,6}", parts in prop::collection::vec(prop_oneof![Just(None), "[abc]{0,5}".prop_map(Some)], 1..12),
            cuts in prop::collection::vec(0..200_usize, 0..12),
        ) {
            let redactor = Redactor::new(secret.as_bytes(), format!("u:{secret}").as_bytes()).unwrap();
            let text: String = parts.iter().map(|part| part.clone().unwrap_or_else(|| secret.clone())).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]).collect();
            cuts.sort_unstable();
            let mut stream = redactor.clone().stream();
            let (mut passed, mut from) = (Vec::new(), 0);
            for cut in cuts {
                passed.extend_from_slice(&stream.push(&text.as_bytes()[from..cut]));
                from = cut;
            }
            passed.extend_from_slice(&stream.finish());
            prop_assert_eq!(&passed, &redactor.whole(text.as_bytes()));
            let passed = String::from_utf8(passed).unwrap();
            // The marker itself has letters of the alphabet here.
            prop_assert!(passed.split(REDACTED).all(|between| !between.contains(&secret)));
        }
    }
}
