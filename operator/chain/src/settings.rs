//! The signer's networks, from one YAML file that the chart writes. Each is read and checked once, and an error names the
//! place and the fix. Keys are files of their own: Secrets that nobody else mounts.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::Address;
use countersign_core::payment::{PaymentNetwork, address, whole};
use countersign_store::Limit;
use reqwest::Url;
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::evm::{self, Evm, Key, SecretKey};
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
    Field { network: String, field: String, why: String },
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EthereumEntry {
    url: String,
    chain_id: u64,
    router: String,
    /// Whose key it is: what people sign for is that this account pays.
    account: String,
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QubicEntry {
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimestampEntry {
    url: String,
    /// PEM.
    roots_file: PathBuf,
    policy: Option<String>,
    anchors: AnchorsEntry,
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

/// All networks of a file. What an error quotes of it is never more than a field, as an address may hold a password.
pub fn read(path: &Path, extra_roots: Option<&Path>) -> Result<Vec<Chosen>, SettingsError> {
    let failed = |why: String| SettingsError::File { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let file: Value = serde_saphyr::from_str(&text).map_err(|_| failed("is not YAML".to_owned()))?;
    let networks = file.get("networks").and_then(Value::as_array);
    let networks = networks.ok_or_else(|| failed("networks: is not a list".to_owned()))?;
    let client = client(extra_roots)?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for (index, network) in networks.iter().enumerate() {
        let network = choose(&format!("networks[{index}]"), network, &client)?;
        if chosen.iter().any(|other| other.name == network.name) {
            return Err(SettingsError::Twice(network.name));
        }
        chosen.push(network);
    }
    Ok(chosen)
}

/// Something wrong with one network.
struct Wrong<'a>(&'a str);

impl Wrong<'_> {
    fn field(&self, field: &str, why: impl ToString) -> SettingsError {
        SettingsError::Field { network: self.0.to_owned(), field: field.to_owned(), why: why.to_string() }
    }

    fn entry<T: DeserializeOwned>(&self, fields: Map<String, Value>) -> Result<T, SettingsError> {
        serde_path_to_error::deserialize(Value::Object(fields))
            .map_err(|error| self.field(&error.path().to_string(), error.inner()))
    }
}

fn choose(place: &str, network: &Value, client: &reqwest::Client) -> Result<Chosen, SettingsError> {
    let mut fields = network.as_object().cloned().ok_or_else(|| Wrong(place).field("", "is not an object"))?;
    let mut text = |field: &str| match fields.remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(Wrong(place).field(field, "is not a text")),
    };
    let (name, kind) = (text("name")?, text("type")?);
    let wrong = Wrong(&name);
    let (network, limits, anchors) = match kind.as_str() {
        "Ethereum" => ethereum(&name, wrong.entry(fields)?, client)?,
        "Qubic" => qubic(&wrong, wrong.entry(fields)?, client)?,
        "Timestamp" => timestamp(&wrong, wrong.entry(fields)?, client)?,
        other => return Err(wrong.field("type", format!("{other:?} is none of Ethereum, Qubic and Timestamp"))),
    };
    Ok(Chosen { name, network, limits, anchors })
}

type Parts = (Any, BTreeMap<Option<Address>, Limit>, Option<Duration>);

fn ethereum(name: &str, entry: EthereumEntry, client: &reqwest::Client) -> Result<Parts, SettingsError> {
    let EthereumEntry {
        url,
        chain_id,
        router,
        account,
        deployed_at,
        confirmations,
        max_fee_per_gas,
        max_gas,
        log_range,
        stall_seconds,
        key_file,
        limits,
        anchors,
    } = entry;
    let wrong = Wrong(name);
    let key = SecretKey::read(&key_file).map_err(|error| wrong.field("keyFile", error))?;
    let account = address(&account).map_err(|why| wrong.field("account", why))?;
    if account != key.address() {
        return Err(
            wrong.field("account", format!("the key is of {}; write that, or give it {account}'s", key.address()))
        );
    }
    let fee = whole(&max_fee_per_gas, GWEI).and_then(|fee| u128::try_from(fee).ok());
    let settings = evm::Settings {
        name: name.to_owned(),
        url: address_of(&url).map_err(|why| wrong.field("url", why))?,
        chain_id,
        router: address(&router).map_err(|why| wrong.field("router", why))?,
        deployed_at,
        log_range,
        confirmations,
        max_fee_per_gas: fee.ok_or_else(|| wrong.field("maxFeePerGas", "write gwei, such as \"50\""))?,
        max_gas,
        stall: Duration::from_secs(stall_seconds.get()),
    };
    let limits: Result<_, String> = limits.iter().map(limit).collect();
    let limits = limits.map_err(|why| wrong.field("limits", why))?;
    Ok((Any::Ethereum(Box::new(Evm::new(settings, client.clone(), key))), limits, anchors.as_ref().map(interval)))
}

fn qubic(wrong: &Wrong<'_>, entry: QubicEntry, client: &reqwest::Client) -> Result<Parts, SettingsError> {
    let QubicEntry { url, seed_file, destination, tick_offset, input_type, amount, final_ticks, anchors } = entry;
    let destination = destination.map(|text| text.parse()).transpose();
    let key = qubic::Key::read(&seed_file).map_err(|error| wrong.field("seedFile", error))?;
    let settings = qubic::Settings {
        url: address_of(&url).map_err(|why| wrong.field("url", why))?,
        destination: destination.map_err(|error: qubic::IdentityError| wrong.field("destination", error))?,
        tick_offset,
        input_type,
        amount: Amount::try_from(i64::from(amount)).map_err(|error| wrong.field("amount", error))?,
        final_ticks,
    };
    let qubic = Qubic::new(client.clone(), settings, key).map_err(|error| wrong.field("destination", error))?;
    Ok((Any::Qubic(Box::new(qubic)), BTreeMap::new(), Some(interval(&anchors))))
}

fn timestamp(wrong: &Wrong<'_>, entry: TimestampEntry, client: &reqwest::Client) -> Result<Parts, SettingsError> {
    let TimestampEntry { url, roots_file, policy, anchors } = entry;
    let pem = std::fs::read(&roots_file).map_err(|error| wrong.field("rootsFile", error))?;
    let policy = policy.map(|text| timestamp::ObjectIdentifier::new(&text)).transpose();
    let settings = timestamp::Settings {
        url: address_of(&url).map_err(|why| wrong.field("url", why))?,
        policy: policy.map_err(|error| wrong.field("policy", error))?,
        roots: Roots::from_pem(&pem).map_err(|error| wrong.field("rootsFile", error))?,
    };
    let authority = Authority::new(settings, client.clone());
    Ok((Any::Timestamp(Box::new(authority)), BTreeMap::new(), Some(interval(&anchors))))
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
    let limit = Limit { decimals: *decimals, payment: amount(per_payment)?, daily: amount(daily)? };
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

    fn stands_for(&self) -> Option<PaymentNetwork> {
        match self {
            Any::Ethereum(network) => network.stands_for(),
            Any::Qubic(network) => network.stands_for(),
            Any::Timestamp(network) => network.stands_for(),
        }
    }

    async fn next_nonce(&self) -> Result<u64, Trouble> {
        match self {
            Any::Ethereum(network) => network.next_nonce().await,
            Any::Qubic(network) => network.next_nonce().await,
            Any::Timestamp(network) => network.next_nonce().await,
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
