//! A broker with a record, names, Secrets and an attempt of a Skill.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum_server::Handle;
use countersign_broker::broker::{Broker, Parts};
use countersign_broker::judge::address::Guard;
use countersign_broker::judge::breaker::BreakerSettings;
use countersign_broker::metrics::Metrics;
use countersign_broker::record::Admitted;
use countersign_broker::secrets::Secrets;
use countersign_broker::serve::certificate::{self, Certificate};
use countersign_broker::serve::router;
use countersign_broker::settings::Limits;
use countersign_broker::upstream::resolve::{Resolve, ResolveError};
use countersign_broker::upstream::trust::Trust;
use countersign_core::fingerprint::FingerprintKey;
use countersign_core::tlog::entry::TaskName;
use countersign_core::token::TokenKey;
use futures::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::client::Client;
use crate::record::Memory;

pub const ATTEMPT: &str = "attempt-1";
pub const NAME: &str = "broker.test.svc";
const KEY: [u8; 32] = [7; 32];

/// Names that answer as they are told, one answer after the other; the last one stays.
#[derive(Default)]
pub struct Names(Mutex<BTreeMap<String, VecDeque<Vec<IpAddr>>>>);

impl Names {
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), answers.iter().map(parse).collect());
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let mut names = self.0.lock().unwrap();
        let answer = names.get_mut(name).and_then(|answers| match answers.len() {
            0 | 1 => answers.front().cloned(),
            _ => answers.pop_front(),
        });
        Box::pin(async { answer.ok_or_else(|| ResolveError("no such name".to_owned())) })
    }
}

/// An authority of the tests' own, and what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, in PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        use rustls::pki_types::pem::PemObject;
        let (certificate, key) = self.issue(names);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

pub struct World {
    pub record: Memory,
    pub names: Arc<Names>,
    pub authority: Authority,
    pub folder: tempfile::TempDir,
    pub broker: Arc<Broker<Memory>>,
    pub address: SocketAddr,
    pub metrics: Metrics,
    pub certificate: Certificate,
}

pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        call: Duration::from_secs(20),
        request_bytes: 1024 * 1024,
        response_bytes: 1024 * 1024,
        buffer_bytes: 64 * 1024 * 1024,
        breaker: BreakerSettings { failures: 3, open: Duration::from_millis(300) },
    }
}

impl World {
    pub async fn new(contract: Value) -> World {
        World::with(contract, limits(), &[]).await
    }

    pub async fn with(contract: Value, limits: Limits, refused: &[&str]) -> World {
        let (record, names, authority) = (Memory::default(), Arc::new(Names::default()), Authority::new());
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.issue(&[NAME]);
        write(&folder.path().join("tls.crt"), &certificate);
        write(&folder.path().join("tls.key"), &key);
        let metrics = Metrics::new().unwrap();
        let resolver: Arc<dyn Resolve> = Arc::<Names>::clone(&names);
        let broker = Arc::new(Broker::new(Parts {
            record: record.clone(),
            tokens: TokenKey::new(KEY),
            secrets: Secrets::new(folder.path().join("secrets")),
            fingerprints: fingerprints(),
            resolver,
            guard: Guard::new(refused.iter().map(|range| range.parse().unwrap()).collect()),
            trust: Trust::new(authority.pem.as_bytes()).unwrap(),
            limits,
            metrics: metrics.clone(),
        }));
        let certificate = Certificate::load(folder.path()).unwrap();
        let handle = Handle::new();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (router, tls) = (router(Arc::clone(&broker)), certificate.tls.clone());
        let serving = handle.clone();
        tokio::spawn(async move { certificate::serve(router, any, tls, serving).await });
        let address = handle.listening().await.unwrap();
        let world = World { record, names, authority, folder, broker, address, metrics, certificate };
        world.admit(ATTEMPT, contract);
        world
    }

    /// Another attempt of a Skill.
    pub fn admit(&self, attempt: &str, contract: Value) {
        self.admit_launch(attempt, json!({"contract": contract}));
    }

    pub fn admit_launch(&self, attempt: &str, more: Value) {
        let mut launch = json!({"skill": "caller", "input": {}, "image": "i", "timeout_seconds": 60});
        launch.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let admitted = Admitted {
            attempt: attempt.to_owned(),
            task: TaskName { namespace: "ns".into(), name: "task".into(), uid: "uid".into() },
            pod_uid: format!("pod-of-{attempt}"),
            launch: serde_json::from_value(launch).unwrap(),
            over: false,
        };
        self.record.with(|state| state.attempts.insert(attempt.to_owned(), admitted));
    }

    pub fn token(&self, attempt: &str) -> String {
        TokenKey::new(KEY).token(attempt, &format!("pod-of-{attempt}"))
    }

    /// Every attempt was decided with the Secret as it is then.
    pub async fn secret(&self, secret: &str, key: &str, value: &str) {
        self.rotate(secret, key, value);
        let told = self.broker.secrets.fingerprints(fingerprints()).await;
        self.record.with(|state| {
            for attempt in state.attempts.values_mut() {
                attempt.launch.secrets.clone_from(&told);
            }
        });
    }

    /// No attempt was decided with that.
    pub fn rotate(&self, secret: &str, key: &str, value: &str) {
        let folder = self.folder.path().join("secrets").join(secret);
        std::fs::create_dir_all(&folder).unwrap();
        write(&folder.join(key), value);
    }

    /// A client with the session of the first attempt.
    pub async fn client(&self) -> Client {
        self.client_of(ATTEMPT).await
    }

    pub async fn client_of(&self, attempt: &str) -> Client {
        let mut client = Client::new(self.address, &self.authority.pem);
        let opened = client.open(attempt, &self.token(attempt)).await;
        assert_eq!(opened.status, 201, "{}", opened.text());
        client.session = Some(opened.json()["session"].as_str().unwrap().to_owned());
        client
    }

    /// Ends are recorded in tasks of their own.
    pub async fn settled(&self) {
        let idle = async {
            while self.record.with(|state| state.calls.iter().any(|call| call.outcome.is_none())) {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), idle).await.expect("every call ends");
    }

    pub fn outcomes(&self) -> Vec<String> {
        self.record.calls().into_iter().map(|call| call.outcome.unwrap_or_default()).collect()
    }
}

pub fn fingerprints() -> FingerprintKey {
    FingerprintKey::new(&[9; 32]).unwrap()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// An egress to a plain upstream on loopback.
pub fn loopback(host: &str, port: u16, more: Value) -> Value {
    let mut egress = json!({"host": host, "protocol": "Http", "port": port, "addresses": ["127.0.0.0/8"],
        "methods": ["GET", "HEAD", "POST", "PUT"]});
    egress.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    egress
}
