//! The signer's networks, from one YAML file that the chart writes. Each is read and checked once, and an error names the
//! place and the fix. Keys are files of their own: Secrets that nobody else mounts.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::Address;
use countersign_core::payment::{address, whole};
use countersign_store::Limit;
use reqwest::Url;
use rustls::ClientConfig;
use serde::Deserialize;
use thiserror::Error;

use crate::evm::{self, Evm, SecretKey};
use crate::network::{Network, Polled, Receipt, Submission, Trouble, Work};
use crate::qubic::{self, Amount, Qubic};
use crate::timestamp::{self, Authority, Roots};

/// Decimal places of a gwei, in wei.
const GWEI: u8 = 9;
/// For one request to a network.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("{path}: {why}")]
    File { path: PathBuf, why: String },
    #[error("networks.{network}.{field}: {why}")]
    Field { network: String, field: &'static str, why: String },
    #[error("networks: {0:?} stands twice; each has a name of its own")]
    Twice(String),
}

/// A network with all that belongs to it.
pub struct Chosen {
    pub name: String,
    pub network: Any,
    pub limits: BTreeMap<Option<Address>, Limit>,
    pub anchors: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    networks: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields, rename_all_fields = "camelCase")]
enum Entry {
    Ethereum {
        name: String,
        url: String,
        chain_id: u64,
        router: String,
        #[serde(default)]
        deployed_at: u64,
        #[serde(default = "confirmations")]
        confirmations: NonZeroU64,
        /// In gwei: billionths of the chain's coin.
        max_fee_per_gas: String,
        #[serde(default = "max_gas")]
        max_gas: u64,
        #[serde(default = "log_range")]
        log_range: NonZeroU64,
        #[serde(default = "stall_seconds")]
        stall_seconds: NonZeroU64,
        key_file: PathBuf,
        #[serde(default)]
        limits: Vec<LimitEntry>,
        anchors: Option<AnchorsEntry>,
    },
    Qubic {
        name: String,
        url: String,
        seed_file: PathBuf,
        destination: Option<String>,
        #[serde(default = "tick_offset")]
        tick_offset: NonZeroU32,
        #[serde(default)]
        input_type: u16,
        /// 0 or 1, in QU.
        #[serde(default)]
        amount: u8,
        #[serde(default = "final_ticks")]
        final_ticks: u32,
        anchors: AnchorsEntry,
    },
    Timestamp {
        name: String,
        url: String,
        /// PEM.
        roots_file: PathBuf,
        policy: Option<String>,
        anchors: AnchorsEntry,
    },
}

/// What is signed for of one asset at most, in whole units.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LimitEntry {
    /// The token's contract; left out for the chain's own coin.
    token: Option<String>,
    decimals: u8,
    per_payment: String,
    daily: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnchorsEntry {
    interval_seconds: NonZeroU64,
}

fn confirmations() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(11)
}

fn max_gas() -> u64 {
    500_000
}

fn log_range() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(9_999)
}

fn stall_seconds() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(119)
}

fn tick_offset() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(19)
}

fn final_ticks() -> u32 {
    10
}

/// All networks of a file.
pub fn read(path: &Path, extra_roots: Option<&Path>) -> Result<Vec<Chosen>, SettingsError> {
    let File { networks } = parse(path, &file(path)?)?;
    let client = client(extra_roots)?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for entry in networks {
        let network = choose(entry, &client)?;
        if chosen.iter().any(|other| other.name == network.name) {
            return Err(SettingsError::Twice(network.name));
        }
        chosen.push(network);
    }
    Ok(chosen)
}

fn parse(path: &Path, text: &str) -> Result<File, SettingsError> {
    serde_saphyr::from_str(text).map_err(|error| SettingsError::File { path: path.to_owned(), why: error.to_string() })
}

fn file(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|error| SettingsError::File { path: path.to_owned(), why: error.to_string() })
}

fn choose(entry: Entry, client: &reqwest::Client) -> Result<Chosen, SettingsError> {
    match entry {
        Entry::Ethereum {
            name,
            url,
            chain_id,
            router,
            deployed_at,
            confirmations,
            max_fee_per_gas,
            max_gas,
            log_range,
            stall_seconds,
            key_file,
            limits,
            anchors,
        } => {
            let wrong = |field, why: String| SettingsError::Field { network: name.clone(), field, why };
            let key = SecretKey::read(&key_file).map_err(|error| wrong("keyFile", error.to_string()))?;
            let fee = whole(&max_fee_per_gas, GWEI).and_then(|fee| u128::try_from(fee).ok());
            let limits = limits.iter().map(limit).collect::<Result<_, String>>();
            let settings = evm::Settings {
                name: name.clone(),
                url: address_of(&url).map_err(|why| wrong("url", why))?,
                chain_id,
                router: address(&router).map_err(|why| wrong("router", why))?,
                deployed_at,
                log_range,
                confirmations,
                max_fee_per_gas: fee.ok_or_else(|| wrong("maxFeePerGas", "write gwei, such as \"50\"".to_owned()))?,
                max_gas,
                stall: Duration::from_secs(stall_seconds.get()),
            };
            Ok(Chosen {
                network: Any::Ethereum(Box::new(Evm::new(settings, client.clone(), key))),
                limits: limits.map_err(|why| wrong("limits", why))?,
                anchors: anchors.as_ref().map(interval),
                name,
            })
        }
        Entry::Qubic { name, url, seed_file, destination, tick_offset, input_type, amount, final_ticks, anchors } => {
            let wrong = |field, why: String| SettingsError::Field { network: name.clone(), field, why };
            let destination = destination.map(|text| text.parse());
            let key = qubic::Key::read(&seed_file).map_err(|error| wrong("seedFile", error.to_string()))?;
            let settings = qubic::Settings {
                url: address_of(&url).map_err(|why| wrong("url", why))?,
                destination: destination
                    .transpose()
                    .map_err(|error: qubic::IdentityError| wrong("destination", error.to_string()))?,
                tick_offset,
                input_type,
                amount: match amount {
                    0 => Amount::Nothing,
                    1 => Amount::One,
                    more => return Err(wrong("amount", format!("{more} QU would be given away; write 0 or 1"))),
                },
                final_ticks,
            };
            let qubic = Qubic::new(client.clone(), settings, key);
            let network = Any::Qubic(Box::new(qubic.map_err(|error| wrong("destination", error.to_string()))?));
            Ok(Chosen { network, limits: BTreeMap::new(), anchors: Some(interval(&anchors)), name })
        }
        Entry::Timestamp { name, url, roots_file, policy, anchors } => {
            let wrong = |field, why: String| SettingsError::Field { network: name.clone(), field, why };
            let pem = std::fs::read(&roots_file).map_err(|error| wrong("rootsFile", error.to_string()))?;
            let policy = policy.map(|text| timestamp::ObjectIdentifier::new(&text)).transpose();
            let settings = timestamp::Settings {
                url: address_of(&url).map_err(|why| wrong("url", why))?,
                policy: policy.map_err(|error| wrong("policy", error.to_string()))?,
                roots: Roots::from_pem(&pem).map_err(|error| wrong("rootsFile", error.to_string()))?,
            };
            let network = Any::Timestamp(Box::new(Authority::new(settings, client.clone())));
            Ok(Chosen { network, limits: BTreeMap::new(), anchors: Some(interval(&anchors)), name })
        }
    }
}

fn interval(AnchorsEntry { interval_seconds }: &AnchorsEntry) -> Duration {
    Duration::from_secs(interval_seconds.get())
}

fn address_of(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("{other} is not spoken; write http:// or https://")),
    }
}

fn limit(entry: &LimitEntry) -> Result<(Option<Address>, Limit), String> {
    let LimitEntry { token, decimals, per_payment, daily } = entry;
    let amount = |text: &str| whole(text, *decimals).ok_or_else(|| format!("{text:?} is no amount of whole units"));
    let limit = Limit { payment: amount(per_payment)?, daily: amount(daily)? };
    Ok((token.as_deref().map(address).transpose()?, limit))
}

/// With the public roots, and those of a file beside them; without redirects, which could lead anywhere.
pub fn client(extra_roots: Option<&Path>) -> Result<reqwest::Client, SettingsError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_roots {
        use rustls::pki_types::pem::PemObject;
        let failed = |why: String| SettingsError::File { path: path.to_owned(), why };
        let certificates = rustls::pki_types::CertificateDer::pem_file_iter(path);
        for certificate in certificates.map_err(|error| failed(error.to_string()))? {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
    }
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .build();
    client.map_err(|error| SettingsError::File { path: PathBuf::from("the HTTP client"), why: error.to_string() })
}

/// Whichever it is.
pub enum Any {
    Ethereum(Box<Evm<SecretKey>>),
    Qubic(Box<Qubic>),
    Timestamp(Box<Authority>),
}

impl Network for Any {
    fn account(&self) -> Option<String> {
        match self {
            Any::Ethereum(network) => network.account(),
            Any::Qubic(network) => network.account(),
            Any::Timestamp(network) => network.account(),
        }
    }

    async fn floor(&self) -> Result<u64, Trouble> {
        match self {
            Any::Ethereum(network) => network.floor().await,
            Any::Qubic(network) => network.floor().await,
            Any::Timestamp(network) => network.floor().await,
        }
    }

    async fn done(&self, work: &Work) -> Result<Option<Receipt>, Trouble> {
        match self {
            Any::Ethereum(network) => network.done(work).await,
            Any::Qubic(network) => network.done(work).await,
            Any::Timestamp(network) => network.done(work).await,
        }
    }

    async fn prepare(
        &self,
        work: &Work,
        nonce: Option<u64>,
        before: &[Submission],
        now: jiff::Timestamp,
    ) -> Result<Submission, Trouble> {
        match self {
            Any::Ethereum(network) => network.prepare(work, nonce, before, now).await,
            Any::Qubic(network) => network.prepare(work, nonce, before, now).await,
            Any::Timestamp(network) => network.prepare(work, nonce, before, now).await,
        }
    }

    async fn submit(&self, submission: &Submission) -> Result<Option<Receipt>, Trouble> {
        match self {
            Any::Ethereum(network) => network.submit(submission).await,
            Any::Qubic(network) => network.submit(submission).await,
            Any::Timestamp(network) => network.submit(submission).await,
        }
    }

    async fn poll(&self, work: &Work, submissions: &[Submission], now: jiff::Timestamp) -> Result<Polled, Trouble> {
        match self {
            Any::Ethereum(network) => network.poll(work, submissions, now).await,
            Any::Qubic(network) => network.poll(work, submissions, now).await,
            Any::Timestamp(network) => network.poll(work, submissions, now).await,
        }
    }
}

#[cfg(test)]
mod tests;
