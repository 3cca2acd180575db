//! The operator's settings, from the environment. Each is read and checked once.

pub mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;

use countersign_core::payment::PaymentNetwork;
use countersign_service::settings::{Secret, SettingError, Source, wrong};
use countersign_store::Timeouts;

pub use self::witness::Witness;

#[derive(Clone, Debug)]
pub struct Settings {
    /// This replica's name, by which it holds the lease.
    pub pod_name: String,
    /// The operator's own namespace: Policies here bind the whole cluster.
    pub namespace: String,
    /// `system:serviceaccount:NAMESPACE:NAME` of the operator itself.
    pub service_account: String,
    pub database_url: Secret,
    pub timeouts: Timeouts,
    /// The runner's image, by digest.
    pub runner_image: String,
    pub webhook: Webhook,
    pub job_ttl_seconds: i32,
    pub start_deadline_seconds: i64,
    /// How long something that is missing (a Skill, a Secret, an Agent, a template) is waited for.
    pub planning_deadline_seconds: i64,
    pub concurrency: u16,
    /// What one reader of the record may ask for.
    pub api_requests_per_second: u32,
    pub user_namespaces: bool,
    /// Whether nothing runs where a pod could reach more than the broker.
    pub require_network_policy: bool,
    /// The Service of the broker. Where there is none, Skills that go anywhere wait for it.
    pub broker: Option<String>,
    /// The networks that the signer pays on, and what each name stands for; none where there is no signer.
    pub networks: BTreeMap<String, PaymentNetwork>,
    /// Who cosigns the log's checkpoints.
    pub witnesses: Vec<Witness>,
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

impl Settings {
    /// Reads the settings through `get`, which is `std::env::var` outside tests.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Settings, SettingError> {
        let source = Source(&get);
        let namespace = source.required("POD_NAMESPACE", "set it to the pod's namespace with the downward API")?;
        Ok(Settings {
            pod_name: source.required("POD_NAME", "set it to the pod's name with the downward API")?,
            service_account: source
                .optional("COUNTERSIGN_SERVICE_ACCOUNT")
                .unwrap_or_else(|| format!("system:serviceaccount:{namespace}:countersign")),
            namespace,
            database_url: source.database_url("COUNTERSIGN_DATABASE_URL")?,
            timeouts: Timeouts::read(|name, default, range| source.number(name, default, range))?,
            runner_image: runner_image(&source)?,
            webhook: Webhook {
                service: source.optional("COUNTERSIGN_WEBHOOK_SERVICE").unwrap_or_else(|| "countersign".to_owned()),
                certificates: certificates(&source)?,
            },
            job_ttl_seconds: source.number("COUNTERSIGN_JOB_TTL_SECONDS", 3600, 60..=604_800)?,
            start_deadline_seconds: source.number("COUNTERSIGN_START_DEADLINE_SECONDS", 300, 5..=86_400)?,
            planning_deadline_seconds: source.number("COUNTERSIGN_PLANNING_DEADLINE_SECONDS", 3600, 10..=604_800)?,
            concurrency: source.number("COUNTERSIGN_CONCURRENCY", 32, 1..=1024)?,
            api_requests_per_second: source.number("COUNTERSIGN_API_REQUESTS_PER_SECOND", 20, 1..=10_000)?,
            user_namespaces: source.flag("COUNTERSIGN_USER_NAMESPACES", true)?,
            require_network_policy: source.flag("COUNTERSIGN_REQUIRE_NETWORK_POLICY", false)?,
            broker: source.optional("COUNTERSIGN_BROKER_SERVICE"),
            networks: networks(&source)?,
            witnesses: witness::read(&source)?,
        })
    }
}

/// As JSON, each name with its chain, its router and its account.
fn networks(source: &Source<'_>) -> Result<BTreeMap<String, PaymentNetwork>, SettingError> {
    const NAME: &str = "COUNTERSIGN_NETWORKS";
    let Some(text) = source.optional(NAME) else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|error| {
        wrong(
            NAME,
            format!("{error}; write {{\"NAME\": {{\"chainId\": 1, \"router\": \"0x…\", \"account\": \"0x…\"}}}}"),
        )
    })
}

fn runner_image(source: &Source<'_>) -> Result<String, SettingError> {
    const NAME: &str = "COUNTERSIGN_RUNNER_IMAGE";
    let image = source.required(NAME, "set it to the runner's image by digest, NAME@sha256:…")?;
    let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
    if digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Ok(image);
    }
    Err(wrong(NAME, format!("{image:?} is not by digest; a tag could change, so write NAME@sha256:…")))
}

fn certificates(source: &Source<'_>) -> Result<Certificates, SettingError> {
    const NAME: &str = "COUNTERSIGN_WEBHOOK_CERTIFICATES";
    match source.optional(NAME).as_deref() {
        None | Some("self") => Ok(Certificates::Own),
        Some("provided") => {
            let folder = source.required("COUNTERSIGN_TLS_DIR", "it is where tls.crt and tls.key are mounted")?;
            Ok(Certificates::Provided(folder.into()))
        }
        Some(other) => Err(wrong(NAME, format!("{other:?} is not known; use self or provided"))),
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
            ("COUNTERSIGN_DATABASE_LOCK_SECONDS", "0", "from 1 to 600"),
            ("COUNTERSIGN_USER_NAMESPACES", "yes", "neither true nor false"),
            ("COUNTERSIGN_WITNESSES", "[{}]", "missing field `url`"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable) && error.contains(fix), "{error}");
        }
        let error = read(&[("COUNTERSIGN_WEBHOOK_CERTIFICATES", "provided")]).unwrap_err();
        assert!(error.to_string().starts_with("COUNTERSIGN_TLS_DIR"), "{error}");
    }
}
