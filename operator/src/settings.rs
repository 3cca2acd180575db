//! The operator's settings, from the environment. Each is read and checked once.

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

#[derive(Clone, Debug)]
pub struct Settings {
    /// This replica's name, by which it holds the lease.
    pub pod_name: String,
    /// The operator's own namespace: Policies here bind the whole cluster.
    pub namespace: String,
    /// `system:serviceaccount:NAMESPACE:NAME` of the operator itself.
    pub service_account: String,
    pub database_url: Secret,
    /// The runner's image, by digest.
    pub runner_image: String,
    pub webhook: Webhook,
    pub job_ttl_seconds: i32,
    pub start_deadline_seconds: i64,
    pub concurrency: u16,
    /// What one reader of the record may ask for.
    pub api_requests_per_second: u32,
    pub user_namespaces: bool,
    /// Whether nothing runs where a pod could reach more than the broker.
    pub require_network_policy: bool,
    /// Where there is none, Skills that go anywhere wait for it.
    pub broker: Option<Broker>,
}

#[derive(Clone, Debug)]
pub struct Broker {
    pub service: String,
    /// The Secrets that it was given, in the operator's namespace.
    pub secrets: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Webhook {
    pub service: String,
    pub certificates: Certificates,
}

/// Who makes the webhook's certificate.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// The operator.
    Own,
    /// Somebody else, such as cert-manager, who mounts `tls.crt` and `tls.key` here.
    Provided(PathBuf),
}

/// Shows itself in no log.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Debug, PartialEq, Eq, Error)]
#[error("{variable}: {problem}")]
pub struct SettingError {
    variable: String,
    problem: String,
}

impl Settings {
    /// Reads the settings through `get`, which is `std::env::var` outside tests.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Settings, SettingError> {
        let source = Source { get: &get };
        let namespace = source.required("POD_NAMESPACE", "set it to the pod's namespace with the downward API")?;
        Ok(Settings {
            pod_name: source.required("POD_NAME", "set it to the pod's name with the downward API")?,
            service_account: source
                .optional("COUNTERSIGN_SERVICE_ACCOUNT")
                .unwrap_or_else(|| format!("system:serviceaccount:{namespace}:countersign")),
            namespace,
            database_url: source.database_url()?,
            runner_image: source.runner_image()?,
            webhook: Webhook {
                service: source.optional("COUNTERSIGN_WEBHOOK_SERVICE").unwrap_or_else(|| "countersign".to_owned()),
                certificates: source.certificates()?,
            },
            job_ttl_seconds: source.number("COUNTERSIGN_JOB_TTL_SECONDS", 3600, 60..=604_800)?,
            start_deadline_seconds: source.number("COUNTERSIGN_START_DEADLINE_SECONDS", 300, 5..=86_400)?,
            concurrency: source.number("COUNTERSIGN_CONCURRENCY", 32, 1..=1024)?,
            api_requests_per_second: source.number("COUNTERSIGN_API_REQUESTS_PER_SECOND", 20, 1..=10_000)?,
            user_namespaces: source.flag("COUNTERSIGN_USER_NAMESPACES", true)?,
            require_network_policy: source.flag("COUNTERSIGN_REQUIRE_NETWORK_POLICY", false)?,
            broker: source.optional("COUNTERSIGN_BROKER_SERVICE").map(|service| {
                let secrets = source.optional("COUNTERSIGN_BROKER_SECRETS").unwrap_or_default();
                let secrets = secrets.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                Broker { service, secrets }
            }),
        })
    }
}

struct Source<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

fn wrong(variable: &str, problem: impl Into<String>) -> SettingError {
    SettingError { variable: variable.to_owned(), problem: problem.into() }
}

impl Source<'_> {
    fn optional(&self, variable: &str) -> Option<String> {
        (self.get)(variable).filter(|value| !value.is_empty())
    }

    fn required(&self, variable: &str, fix: &str) -> Result<String, SettingError> {
        self.optional(variable).ok_or_else(|| wrong(variable, format!("is not set; {fix}")))
    }

    fn database_url(&self) -> Result<Secret, SettingError> {
        const NAME: &str = "COUNTERSIGN_DATABASE_URL";
        let url = self.required(NAME, "set it to postgres://USER:PASSWORD@HOST:PORT/DATABASE")?;
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Secret(url));
        }
        Err(wrong(NAME, "is not a PostgreSQL URL; it begins with postgres://"))
    }

    fn runner_image(&self) -> Result<String, SettingError> {
        const NAME: &str = "COUNTERSIGN_RUNNER_IMAGE";
        let image = self.required(NAME, "set it to the runner's image by digest, NAME@sha256:…")?;
        let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
        if digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Ok(image);
        }
        Err(wrong(NAME, format!("{image:?} is not by digest; a tag could change, so write NAME@sha256:…")))
    }

    fn certificates(&self) -> Result<Certificates, SettingError> {
        const NAME: &str = "COUNTERSIGN_WEBHOOK_CERTIFICATES";
        match self.optional(NAME).as_deref() {
            None | Some("self") => Ok(Certificates::Own),
            Some("provided") => {
                let folder = self.required("COUNTERSIGN_TLS_DIR", "it is where tls.crt and tls.key are mounted")?;
                Ok(Certificates::Provided(folder.into()))
            }
            Some(other) => Err(wrong(NAME, format!("{other:?} is not known; use self or provided"))),
        }
    }

    fn number<T>(&self, variable: &str, default: T, range: std::ops::RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.optional(variable) else { return Ok(default) };
        match text.parse::<T>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(wrong(
                variable,
                format!("{text:?} is not a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    fn flag(&self, variable: &str, default: bool) -> Result<bool, SettingError> {
        match self.optional(variable).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(wrong(variable, format!("{other:?} is neither true nor false"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let image = format!("r/runner@sha256:{}", "a".repeat(64));
        let mut all = std::collections::BTreeMap::from([
            ("POD_NAME", "countersign-0"),
            ("POD_NAMESPACE", "ops"),
            ("COUNTERSIGN_DATABASE_URL", "postgres://u:p@h/d"),
            ("COUNTERSIGN_RUNNER_IMAGE", image.as_str()),
        ]);
        all.extend(changes.iter().copied());
        Settings::read(|name| all.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn defaults_are_sound_and_the_password_is_not_shown() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.service_account, "system:serviceaccount:ops:countersign");
        assert_eq!((settings.job_ttl_seconds, settings.concurrency), (3600, 32));
        assert!(!format!("{settings:?}").contains("u:p"));
    }

    #[test]
    fn each_error_names_the_variable_and_the_fix() {
        for (variable, value, fix) in [
            ("POD_NAME", "", "downward API"),
            ("COUNTERSIGN_DATABASE_URL", "mysql://x", "postgres://"),
            ("COUNTERSIGN_RUNNER_IMAGE", "r/runner:v1", "NAME@sha256:"),
            ("COUNTERSIGN_WEBHOOK_CERTIFICATES", "none", "self or provided"),
            ("COUNTERSIGN_JOB_TTL_SECONDS", "1", "from 60 to 604800"),
            ("COUNTERSIGN_CONCURRENCY", "many", "from 1 to 1024"),
            ("COUNTERSIGN_USER_NAMESPACES", "yes", "neither true nor false"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable) && error.contains(fix), "{error}");
        }
        let error = read(&[("COUNTERSIGN_WEBHOOK_CERTIFICATES", "provided")]).unwrap_err();
        assert!(error.to_string().starts_with("COUNTERSIGN_TLS_DIR"), "{error}");
    }
}
