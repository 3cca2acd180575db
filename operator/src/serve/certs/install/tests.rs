//! The order in which an authority is trusted and its certificate served, before an API server that notes at each write
//! what is served just then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use jiff::SignedDuration;
use serde_json::Value;

use super::*;
use crate::watch::caches::lock;

const HOST: &str = "countersign.ops.svc";
const CONFIGURATIONS: [&str; 2] = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];

/// What the API server holds, and what it saw.
struct Cluster {
    /// By the last parts of their paths.
    objects: Mutex<BTreeMap<String, Value>>,
    /// Of the two configurations, those that refuse to be written.
    closed: Mutex<Vec<&'static str>>,
    server: RustlsConfig,
    /// Each configuration that was written, and what was served then: the address of what TLS is done with.
    written: Mutex<Vec<(String, usize)>>,
}

impl Cluster {
    async fn new() -> Arc<Cluster> {
        // Another test may have been faster.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let first = made(None);
        let (certificate, key) = (first.serving.certificate.clone(), first.serving.key.clone());
        let server = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes()).await.unwrap();
        let webhook = |root: &str| {
            json!({"name": "a.countersign.dev", "admissionReviewVersions": ["v1"],
            "sideEffects": "None", "clientConfig": {"service": {"name": "countersign", "namespace": "ops", "path": root}}})
        };
        let configuration = |root: &str| json!({"metadata": {"name": CONFIGURATION}, "webhooks": [webhook(root)]});
        let objects = [
            (format!("{}/countersign", CONFIGURATIONS[0]), configuration(MUTATE)),
            (format!("{}/countersign", CONFIGURATIONS[1]), configuration(VALIDATE)),
        ];
        let cluster = Cluster {
            objects: Mutex::new(objects.into()),
            closed: Mutex::default(),
            server,
            written: Mutex::default(),
        };
        cluster.keep(&first);
        Arc::new(cluster)
    }

    /// Another replica keeps this in the Secret.
    fn keep(&self, bundle: &Bundle) {
        let data = json!({KEY: STANDARD.encode(serde_json::to_vec(bundle).unwrap())});
        let secret = json!({"metadata": {"name": SECRET, "resourceVersion": "1"}, "data": data});
        lock(&self.objects).insert(format!("secrets/{SECRET}"), secret);
    }

    fn served(&self) -> usize {
        Arc::as_ptr(&self.server.get_inner()).addr()
    }

    /// Whether both configurations trust this authority.
    fn trusts(&self, bundle: &Bundle) -> bool {
        CONFIGURATIONS.iter().all(|name| {
            let objects = lock(&self.objects);
            let told = &objects[&format!("{name}/countersign")]["webhooks"][0]["clientConfig"]["caBundle"];
            let pem = told.as_str().map(|text| STANDARD.decode(text).unwrap()).unwrap_or_default();
            String::from_utf8(pem).unwrap().contains(&bundle.ca.certificate)
        })
    }

    async fn answer(self: Arc<Self>, request: Request<kube::client::Body>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().rsplitn(3, '/').collect();
        let sent: Option<Value> = serde_json::from_slice(&body.collect_bytes().await.unwrap()).ok();
        let name = |one: &Value| one["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (status, object) = match (parts.method, sent) {
            (Method::POST, Some(sent)) => {
                lock(&self.objects).insert(format!("{}/{}", path[0], name(&sent)), sent.clone());
                (StatusCode::CREATED, sent)
            }
            (Method::PATCH, Some(sent)) => self.patch(path[1], &sent),
            (Method::GET, _) => match lock(&self.objects).get(&format!("{}/{}", path[1], path[0])) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => refused(StatusCode::NOT_FOUND),
            },
            (method, sent) => panic!("{method} {}: {sent:?}", parts.uri),
        };
        let mut response = Response::new(Body::from(object.to_string()));
        *response.status_mut() = status;
        Ok(response)
    }

    fn patch(&self, resource: &str, sent: &Value) -> (StatusCode, Value) {
        if lock(&self.closed).contains(&resource) {
            return refused(StatusCode::FORBIDDEN);
        }
        lock(&self.written).push((resource.to_owned(), self.served()));
        let mut objects = lock(&self.objects);
        let object = objects.get_mut(&format!("{resource}/countersign")).unwrap();
        let called = &mut object["webhooks"][0]["clientConfig"];
        let new = &sent["webhooks"][0]["clientConfig"];
        called["caBundle"] = new["caBundle"].clone();
        called["service"]["path"] = new["service"]["path"].clone();
        (StatusCode::OK, object.clone())
    }
}

fn refused(status: StatusCode) -> (StatusCode, Value) {
    let reason = if status == StatusCode::NOT_FOUND { "NotFound" } else { "Forbidden" };
    (
        status,
        json!({"kind": "Status", "status": "Failure", "reason": reason, "code": status.as_u16(), "message": reason}),
    )
}

/// The certificates after these ones, of an authority of their own.
fn made(before: Option<&Bundle>) -> Bundle {
    // In the past, so that no clock finds them worn or not valid yet.
    let now = Timestamp::now() - SignedDuration::from_hours(1);
    issue(now, before.cloned(), Due::Everything, &[HOST.to_owned()]).unwrap()
}

fn keeper(cluster: &Arc<Cluster>) -> Keeper {
    let answering = Arc::clone(cluster);
    let client = Client::new(tower::service_fn(move |request| Arc::clone(&answering).answer(request)), "ops");
    Keeper {
        client,
        namespace: "ops".to_owned(),
        hosts: vec![HOST.to_owned()],
        certificates: Certificates::Own,
        door: Door::default(),
        loaded: None,
        told: None,
    }
}

#[tokio::test]
async fn a_new_authority_is_trusted_by_both_configurations_before_its_certificate_is_served() {
    let cluster = Cluster::new().await;
    let mut keeper = keeper(&cluster);
    keeper.refresh(&cluster.server).await.unwrap();
    let first = keeper.loaded.clone().unwrap();
    assert!(cluster.trusts(&first), "what is served first is trusted, too");
    let served = cluster.served();
    lock(&cluster.written).clear();

    let second = made(Some(&first));
    assert_ne!(second.ca, first.ca);
    cluster.keep(&second);
    keeper.refresh(&cluster.server).await.unwrap();
    let before = |name: &str| (name.to_owned(), served);
    assert_eq!(*lock(&cluster.written), CONFIGURATIONS.map(before), "told while the old one is served");
    assert!(cluster.trusts(&second) && cluster.trusts(&first), "and replicas that serve the old one are trusted");
    assert_eq!(cluster.served(), served, "told only now, it has to spread");
    keeper.refresh(&cluster.server).await.unwrap();
    assert_ne!(cluster.served(), served, "now that it is trusted");
    assert_eq!(keeper.loaded, Some(second));
    assert_eq!(lock(&cluster.written).len(), 2, "nothing more had to be told");
}

#[tokio::test]
async fn while_one_configuration_cannot_be_told_of_an_authority_the_old_certificate_is_served() {
    for closed in CONFIGURATIONS {
        let cluster = Cluster::new().await;
        let mut keeper = keeper(&cluster);
        keeper.refresh(&cluster.server).await.unwrap();
        let (first, served) = (keeper.loaded.clone().unwrap(), cluster.served());
        let second = made(Some(&first));
        cluster.keep(&second);
        lock(&cluster.closed).push(closed);
        for _ in 0..3 {
            assert!(keeper.refresh(&cluster.server).await.is_err(), "{closed}");
            assert_eq!((cluster.served(), cluster.trusts(&second)), (served, false), "{closed}");
        }
        lock(&cluster.closed).clear();
        keeper.refresh(&cluster.server).await.unwrap();
        assert_eq!((cluster.served(), cluster.trusts(&second)), (served, true), "{closed}");
        keeper.refresh(&cluster.server).await.unwrap();
        assert_ne!(cluster.served(), served, "{closed}");
    }
}

#[tokio::test]
async fn the_first_certificate_is_served_only_after_both_configurations_trust_it() {
    let cluster = Cluster::new().await;
    let mut keeper = keeper(&cluster);
    let served = cluster.served();
    lock(&cluster.closed).push(CONFIGURATIONS[1]);
    assert!(keeper.refresh(&cluster.server).await.is_err());
    assert_eq!((cluster.served(), keeper.loaded.is_none()), (served, true));
    lock(&cluster.closed).clear();
    keeper.refresh(&cluster.server).await.unwrap();
    assert_ne!(cluster.served(), served);
    assert!(lock(&cluster.written).iter().all(|(_, then)| *then == served));
}
