//! The broker's settings, from the environment. Each is read and checked once.

use std::path::PathBuf;
use std::time::Duration;

use countersign_crds::{Credential, CredentialScheme};
use countersign_service::settings::{Secret, SettingError, Source, wrong};
use countersign_store::Timeouts;
use ipnet::IpNet;

use crate::alerts::webhook::Webhook;
use crate::judge::breaker::BreakerSettings;
use crate::judge::target::Target;
use crate::secrets::Secrets;

#[derive(Clone, Debug)]
pub struct Settings {
    pub database_url: Secret,
    pub timeouts: Timeouts,
    /// Where `tls.crt` and `tls.key` are mounted.
    pub tls_dir: PathBuf,
    /// 32 bytes that the operator has too.
    pub key_file: PathBuf,
    pub secrets_dir: PathBuf,
    /// 32 bytes or more that only the brokers have.
    pub fingerprint_key_file: PathBuf,
    /// Certificates (PEM) that are trusted beside the public ones.
    pub trusted_ca_file: Option<PathBuf>,
    /// Ranges that are refused although they look public.
    pub refused: Vec<IpNet>,
    pub limits: Limits,
    /// Where alerts of budgets go; nowhere where it is `None`.
    pub webhook: Option<Webhook>,
}

/// What one call may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connect: Duration,
    /// A whole call; the attempt's own timeout where that is shorter.
    pub call: Duration,
    pub request_bytes: usize,
    pub response_bytes: u64,
    /// Of requests that must be read before they can be judged, all together.
    pub buffer_bytes: usize,
    pub breaker: BreakerSettings,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(10),
            call: Duration::from_secs(300),
            request_bytes: 8 * MIB,
            response_bytes: 32 * MIB as u64,
            buffer_bytes: 64 * MIB,
            breaker: BreakerSettings { failures: 5, open: Duration::from_secs(30) },
        }
    }
}

impl Settings {
    /// Reads the settings through `get`, which is `std::env::var` outside tests.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Settings, SettingError> {
        let source = Source(&get);
        Ok(Settings {
            database_url: source.database_url("COUNTERSIGN_DATABASE_URL")?,
            timeouts: Timeouts::read(|name, default, range| source.number(name, default, range))?,
            tls_dir: source.required("COUNTERSIGN_TLS_DIR", "it is where tls.crt and tls.key are mounted")?.into(),
            key_file: source
                .required("COUNTERSIGN_BROKER_KEY_FILE", "it is where the key of the tokens is mounted")?
                .into(),
            secrets_dir: source.optional("COUNTERSIGN_SECRETS_DIR").unwrap_or_else(|| "/secrets".to_owned()).into(),
            fingerprint_key_file: source
                .required(
                    "COUNTERSIGN_FINGERPRINT_KEY_FILE",
                    "it is where the key of the Secrets' fingerprints is mounted",
                )?
                .into(),
            trusted_ca_file: source.optional("COUNTERSIGN_TRUSTED_CA_FILE").map(PathBuf::from),
            refused: ranges(&source, "COUNTERSIGN_REFUSED_CIDRS")?,
            limits: limits(&source)?,
            webhook: webhook(&source)?,
        })
    }
}

fn webhook(source: &Source<'_>) -> Result<Option<Webhook>, SettingError> {
    const URL: &str = "COUNTERSIGN_ALERTS_URL";
    let Some(url) = source.optional(URL) else { return Ok(None) };
    let target = Target::parse(url.as_bytes()).map_err(|error| wrong(URL, error.to_string()))?;
    if target.is_mail() {
        return Err(wrong(URL, "is of a mail server; write https://HOST/PATH"));
    }
    let addresses = ranges(source, "COUNTERSIGN_ALERTS_ADDRESSES")?;
    let secret = source.required("COUNTERSIGN_ALERTS_SECRET", "it is the Secret whose value signs alerts")?;
    let folder = source.optional("COUNTERSIGN_ALERTS_SECRETS_DIR").unwrap_or_else(|| "/alerts".to_owned());
    Ok(Some(Webhook {
        target,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        credential: Credential {
            secret,
            key: source.optional("COUNTERSIGN_ALERTS_KEY").unwrap_or_else(|| "secret".to_owned()),
            header: None,
            username: None,
            scheme: CredentialScheme::StandardWebhook,
        },
        secrets: Secrets::of_alerts(folder.into()),
    }))
}

fn ranges(source: &Source<'_>, variable: &str) -> Result<Vec<IpNet>, SettingError> {
    let text = source.optional(variable).unwrap_or_default();
    let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
    let parse = |range: &str| {
        range.parse().map_err(|_| wrong(variable, format!("{range:?} is not a range; write one such as 10.0.0.0/8")))
    };
    ranges.map(parse).collect()
}

fn limits(source: &Source<'_>) -> Result<Limits, SettingError> {
    let Limits { connect, call, request_bytes, response_bytes, buffer_bytes, breaker } = Limits::default();
    let BreakerSettings { failures, open } = breaker;
    let seconds = |variable, default: Duration, most| {
        source.number(variable, default.as_secs(), 1..=most).map(Duration::from_secs)
    };
    Ok(Limits {
        connect: seconds("COUNTERSIGN_CONNECT_TIMEOUT_SECONDS", connect, 60)?,
        call: seconds("COUNTERSIGN_CALL_TIMEOUT_SECONDS", call, 300)?,
        request_bytes: source.number("COUNTERSIGN_REQUEST_BYTES", request_bytes, 1024..=64 * MIB)?,
        response_bytes: source.number("COUNTERSIGN_RESPONSE_BYTES", response_bytes, 1024..=1024 * MIB as u64)?,
        buffer_bytes: source.number("COUNTERSIGN_BUFFER_BYTES", buffer_bytes, MIB..=4096 * MIB)?,
        breaker: BreakerSettings {
            failures: source.number("COUNTERSIGN_BREAKER_FAILURES", failures, 1..=1000)?,
            open: seconds("COUNTERSIGN_BREAKER_SECONDS", open, 3600)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let mut all = std::collections::BTreeMap::from([
            ("COUNTERSIGN_DATABASE_URL", "postgres://u:p@h/d"),
            ("COUNTERSIGN_TLS_DIR", "/tls"),
            ("COUNTERSIGN_BROKER_KEY_FILE", "/key/token.key"),
            ("COUNTERSIGN_FINGERPRINT_KEY_FILE", "/fingerprints/key"),
        ]);
        all.extend(changes.iter().copied());
        Settings::read(|name| all.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn defaults_are_sound_and_the_password_is_not_shown() {
        let settings = read(&[("COUNTERSIGN_REFUSED_CIDRS", "10.0.0.0/8, fd00::/8,")]).unwrap();
        assert_eq!(settings.secrets_dir, PathBuf::from("/secrets"));
        assert_eq!((settings.refused.len(), settings.limits.call.as_secs()), (2, 300));
        assert!(!format!("{settings:?}").contains("u:p"));
    }

    #[test]
    fn alerts_go_nowhere_without_a_url_and_its_path_is_not_shown() {
        let secret = ("COUNTERSIGN_ALERTS_SECRET", "alerts");
        assert!(read(&[secret]).unwrap().webhook.is_none());
        assert!(read(&[secret, ("COUNTERSIGN_ALERTS_URL", "")]).unwrap().webhook.is_none());
        let url = ("COUNTERSIGN_ALERTS_URL", "https://hooks.example.com/T0/very-hidden");
        assert!(read(&[url]).unwrap_err().to_string().starts_with("COUNTERSIGN_ALERTS_SECRET"));
        let settings = read(&[secret, url, ("COUNTERSIGN_ALERTS_ADDRESSES", "10.1.0.0/16,")]).unwrap();
        let webhook = settings.webhook.as_ref().unwrap();
        assert_eq!(webhook.addresses, ["10.1.0.0/16"]);
        assert_eq!((webhook.credential.secret.as_str(), webhook.credential.key.as_str()), ("alerts", "secret"));
        assert!(format!("{settings:?}").contains("hooks.example.com") && !format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn each_error_names_the_variable_and_the_fix() {
        for (variable, value, fix) in [
            ("COUNTERSIGN_DATABASE_URL", "mysql://x", "postgres://"),
            ("COUNTERSIGN_TLS_DIR", "", "tls.crt"),
            ("COUNTERSIGN_BROKER_KEY_FILE", "", "mounted"),
            ("COUNTERSIGN_FINGERPRINT_KEY_FILE", "", "mounted"),
            ("COUNTERSIGN_REFUSED_CIDRS", "10.0.0.0", "10.0.0.0/8"),
            ("COUNTERSIGN_CALL_TIMEOUT_SECONDS", "301", "from 1 to 300"),
            ("COUNTERSIGN_REQUEST_BYTES", "1", "from 1024"),
            ("COUNTERSIGN_ALERTS_URL", "hooks.example.com", "https://"),
            ("COUNTERSIGN_ALERTS_URL", "smtps://mail.example.com", "https://"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable) && error.contains(fix), "{error}");
        }
    }
}
