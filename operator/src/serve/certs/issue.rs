//! Makes certificates and says when they are due: a CA for a year, a serving certificate for ninety days,
//! each replaced when a third of its life is left.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const CA_DAYS: i32 = 365;
const SERVING_DAYS: i32 = 90;

/// All that is kept of the certificates, as one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundle {
    pub ca: Signed,
    /// Still trusted, so that a replica that has not loaded the new one yet goes on serving.
    pub old_ca: Option<String>,
    pub serving: Signed,
}

/// A certificate and its key, PEM both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signed {
    pub certificate: String,
    pub key: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Bundle {
    /// What clients are to trust.
    pub fn trust(&self) -> String {
        format!("{}{}", self.ca.certificate, self.old_ca.as_deref().unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Serving,
    Everything,
}

/// What is due at this instant.
pub(super) fn due(now: Timestamp, bundle: Option<&Bundle>) -> Due {
    match bundle {
        None => Due::Everything,
        Some(bundle) if worn(now, &bundle.ca) => Due::Everything,
        Some(bundle) if worn(now, &bundle.serving) => Due::Serving,
        Some(_) => Due::Nothing,
    }
}

fn worn(now: Timestamp, signed: &Signed) -> bool {
    let life = signed.not_after.duration_since(signed.not_before);
    now < signed.not_before || now >= signed.not_after - life / 3
}

/// Makes what is due.
pub(super) fn issue(now: Timestamp, old: Option<Bundle>, due: Due, hosts: &[String]) -> Result<Bundle, rcgen::Error> {
    match (old, due) {
        (Some(bundle), Due::Nothing) => Ok(bundle),
        (Some(Bundle { ca, old_ca, serving: _ }), Due::Serving) => {
            let serving = serving(now, &ca, hosts)?;
            Ok(Bundle { ca, old_ca, serving })
        }
        (old, Due::Everything | Due::Nothing | Due::Serving) => {
            let ca = authority(now)?;
            let serving = serving(now, &ca, hosts)?;
            Ok(Bundle { ca, old_ca: old.map(|bundle| bundle.ca.certificate), serving })
        }
    }
}

fn authority(now: Timestamp) -> Result<Signed, rcgen::Error> {
    let key = KeyPair::generate()?;
    let (mut params, not_before, not_after) = dated(now, CA_DAYS, Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "countersign-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Signed { certificate, key: key.serialize_pem(), not_before, not_after })
}

fn serving(now: Timestamp, ca: &Signed, hosts: &[String]) -> Result<Signed, rcgen::Error> {
    let (mut ca_params, ..) = dated(now, CA_DAYS, Vec::new())?;
    ca_params.distinguished_name.push(DnType::CommonName, "countersign-ca");
    let issuer = Issuer::new(ca_params, KeyPair::from_pem(&ca.key)?);
    let key = KeyPair::generate()?;
    let (mut params, not_before, not_after) = dated(now, SERVING_DAYS, hosts.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "countersign");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Signed { certificate, key: key.serialize_pem(), not_before, not_after })
}

/// Valid from an hour ago, for clocks that are behind.
fn dated(
    now: Timestamp,
    days: i32,
    hosts: Vec<String>,
) -> Result<(CertificateParams, Timestamp, Timestamp), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let not_before = now - SignedDuration::from_hours(1);
    let not_after = now + DAY * days;
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    Ok((params, not_before, not_after))
}

fn date(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<String> {
        vec!["countersign.ops.svc".to_owned()]
    }

    #[test]
    fn what_is_due_follows_from_the_clock() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let bundle = issue(start, None, due(start, None), &hosts()).unwrap();
        for (day, expected) in
            [(0, Due::Nothing), (59, Due::Nothing), (61, Due::Serving), (240, Due::Serving), (244, Due::Everything)]
        {
            assert_eq!(due(start + DAY * day, Some(&bundle)), expected, "day {day}");
        }
        assert_eq!(due(start - DAY, Some(&bundle)), Due::Everything, "a clock that went back");
    }

    #[test]
    fn a_new_authority_leaves_the_old_one_trusted() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = issue(start, None, Due::Everything, &hosts()).unwrap();
        let renewed = issue(start + DAY * 70, Some(first.clone()), Due::Serving, &hosts()).unwrap();
        assert_eq!(renewed.ca, first.ca);
        assert_ne!(renewed.serving, first.serving);
        let second = issue(start + DAY * 250, Some(renewed), Due::Everything, &hosts()).unwrap();
        assert!(second.trust().contains(&first.ca.certificate));
        assert!(second.trust().contains(&second.ca.certificate));
        assert_eq!(second.trust().matches("BEGIN CERTIFICATE").count(), 2);
    }
}
