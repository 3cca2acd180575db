//! What goes over the wire, as RFC 3161 names it.

use std::time::Duration;

use der::asn1::{BitString, Int, ObjectIdentifier, OctetString, Uint};
use der::oid::db::rfc5912::ID_SHA_256;
use der::{Any, Encode, Sequence, Tag, Tagged};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use x509_cert::ext::Extensions;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::algorithm;

/// MessageImprint, of SHA-256 only.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Imprint {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

impl Imprint {
    pub(super) fn of(digest: &[u8; 32]) -> der::Result<Imprint> {
        let algorithm = AlgorithmIdentifierOwned { oid: ID_SHA_256, parameters: Some(Any::null()) };
        Ok(Imprint { algorithm, digest: OctetString::new(digest.as_slice())? })
    }

    pub(super) fn sha256(&self) -> Option<[u8; 32]> {
        let known = algorithm::plain(&self.algorithm) == Some(ID_SHA_256);
        self.digest.as_bytes().try_into().ok().filter(|_| known)
    }
}

/// TimeStampReq. It never has extensions.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Request {
    pub(super) version: u8,
    pub(super) imprint: Imprint,
    #[asn1(optional = "true")]
    pub(super) policy: Option<ObjectIdentifier>,
    pub(super) nonce: u64,
    pub(super) certificates: bool,
}

/// TimeStampResp.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Response {
    pub(super) status: Status,
    #[asn1(optional = "true")]
    pub(super) token: Option<Any>,
}

/// PKIStatusInfo.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Status {
    pub(super) status: u8,
    #[asn1(optional = "true")]
    pub(super) text: Option<Vec<String>>,
    #[asn1(optional = "true")]
    pub(super) failure: Option<BitString>,
}

/// TSTInfo: what is signed.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Info {
    pub(super) version: u8,
    pub(super) policy: ObjectIdentifier,
    pub(super) imprint: Imprint,
    pub(super) serial: Uint,
    pub(super) time: Any,
    #[asn1(optional = "true")]
    pub(super) accuracy: Option<Accuracy>,
    #[asn1(default = "Default::default")]
    pub(super) ordering: bool,
    #[asn1(optional = "true")]
    pub(super) nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) authority: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) extensions: Option<Extensions>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct Accuracy {
    #[asn1(optional = "true")]
    seconds: Option<u32>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    millis: Option<u16>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    micros: Option<u16>,
}

impl Accuracy {
    /// `None` where a part has a value that it cannot have.
    pub(super) fn duration(&self) -> Option<Duration> {
        let Accuracy { seconds, millis, micros } = self;
        let fits = |part: &Option<u16>| part.is_none_or(|value| (1..=999).contains(&value));
        (fits(millis) && fits(micros)).then(|| {
            Duration::from_secs(seconds.unwrap_or(0).into())
                + Duration::from_millis(millis.unwrap_or(0).into())
                + Duration::from_micros(micros.unwrap_or(0).into())
        })
    }
}

/// A nonce as ours are; `None` of any other.
pub(super) fn nonce(nonce: &Int) -> Option<u64> {
    use der::Decode;
    u64::from_der(&nonce.to_der().ok()?).ok()
}

/// A GeneralizedTime as RFC 3161, section 2.4.2, wants it: `YYYYMMDDhhmmss[.s...]Z` without trailing zeros. Finer than a
/// nanosecond there is none here.
pub(super) fn time(value: &Any) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.value()).ok().filter(|_| value.tag() == Tag::GeneralizedTime)?;
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((_, fraction)) if fraction.is_empty() || fraction.len() > 9 || fraction.ends_with('0') => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (text.strip_suffix('Z')?, ""),
    };
    if whole.len() != 14 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let two = |from: usize| whole.get(from..from + 2)?.parse::<i8>().ok();
    let year = whole.get(..4)?.parse().ok()?;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    let civil = DateTime::new(year, two(4)?, two(6)?, two(8)?, two(10)?, two(12)?, nanos).ok()?;
    Offset::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_must_be_written() {
        for (text, expected) in [
            ("20230607112626Z", "2023-06-07T11:26:26Z"),
            ("20230607112626.5Z", "2023-06-07T11:26:26.5Z"),
            ("20240229235959.123456789Z", "2024-02-29T23:59:59.123456789Z"),
            ("20500101000000.001Z", "2050-01-01T00:00:00.001Z"),
        ] {
            let value = Any::new(Tag::GeneralizedTime, text.as_bytes()).unwrap();
            assert_eq!(time(&value), Some(expected.parse().unwrap()), "{text}");
        }
        for wrong in [
            "",
            "Z",
            "20230607112626",
            "202306071126Z",
            "20230607112626+0100",
            "20230607112626.Z",
            "20230607112626.50Z",
            "20230607112626,5Z",
            "20230607112626.1234567891Z",
            "20230607112626.5.5Z",
            "20230229112626Z",
            "20231307112626Z",
            "20230607240000Z",
            "20230607112660Z",
            "+0230607112626Z",
            "2023060711262\u{661}Z",
            "20230607112626Z\0",
        ] {
            let value = Any::new(Tag::GeneralizedTime, wrong.as_bytes()).unwrap();
            assert_eq!(time(&value), None, "{wrong}");
        }
        assert_eq!(time(&Any::new(Tag::UtcTime, b"20230607112626Z".as_slice()).unwrap()), None);
    }

    #[test]
    fn accuracies_have_parts_below_a_thousand() {
        for (seconds, millis, micros, expected) in [
            (None, None, None, Some(0)),
            (Some(1), Some(500), Some(100), Some(1_500_100)),
            (None, Some(999), None, Some(999_000)),
            (Some(u32::MAX), None, Some(1), Some(u64::from(u32::MAX) * 1_000_000 + 1)),
            (Some(1), Some(0), None, None),
            (Some(1), Some(1000), None, None),
            (Some(1), None, Some(1000), None),
        ] {
            let accuracy = Accuracy { seconds, millis, micros };
            assert_eq!(accuracy.duration(), expected.map(Duration::from_micros), "{accuracy:?}");
        }
    }
}
