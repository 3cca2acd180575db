//! Alerts of budgets, from the outbox in a real PostgreSQL to receivers on loopback addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_broker::alerts::webhook::Webhook;
use countersign_broker::alerts::{round, run};
use countersign_broker::broker::{Broker, Parts};
use countersign_broker::judge::address::Guard;
use countersign_broker::judge::target::Target;
use countersign_broker::metrics::Metrics;
use countersign_broker::secrets::Secrets;
use countersign_broker::upstream::resolve::Resolve;
use countersign_broker::upstream::trust::Trust;
use countersign_core::token::TokenKey;
use countersign_crds::{Credential, CredentialScheme};
use countersign_store::{Outbox, Store};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, open};
use crate::upstream::{Seen, Upstream, status, text};
use crate::world::{Authority, Names, limits};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// As if so much time had passed that everything is due.
const LATER: &str = "update alerts set next_try = now() where delivered_at is null and dead_at is null";

struct Site {
    database: Database,
    url: String,
    owner: Store,
    names: Arc<Names>,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Site {
    /// With so many alerts that are due.
    async fn new(alerts: u32) -> Site {
        let database = Database::new().await;
        let url = database.empty().await;
        let owner = open(url.clone());
        owner.migrate().await.unwrap();
        let insert = format!(
            r#"with b as (
                   insert into budgets (scope, subject, "window", starts_at, ends_at, "limit", spent, held)
                   select 'Namespace', 'team-' || n, 'Month', '2026-11-01T00:00:00Z', '2026-12-01T00:00:00Z',
                          10000000, 7950001, 50000
                   from generate_series(1, {alerts}) n returning id)
               insert into alerts (at, budget, percent, "limit", spent, held)
               select '2026-11-21T10:00:00Z', id, 80, 10000000, 7950001, 50000 from b order by id"#
        );
        database.execute(&owner, &insert).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("alerts")).unwrap();
        let secret = format!("whsec_{}\n", STANDARD.encode(KEY));
        std::fs::write(folder.path().join("alerts/secret"), secret).unwrap();
        Site { database, url, owner, names: Arc::default(), authority: Authority::new(), folder }
    }

    /// Another replica, with connections of its own.
    fn broker(&self) -> Arc<Broker<Store>> {
        let resolver: Arc<dyn Resolve> = Arc::<Names>::clone(&self.names);
        Arc::new(Broker::new(Parts {
            record: open(self.url.clone()),
            tokens: TokenKey::new([7; 32]),
            secrets: Secrets::new(self.folder.path().join("none")),
            fingerprints: crate::world::fingerprints(),
            resolver,
            guard: Guard::new(Vec::new()),
            trust: Trust::new(self.authority.pem.as_bytes()).unwrap(),
            limits: limits(),
            metrics: Metrics::new().unwrap(),
        }))
    }

    fn webhook(&self, url: &str, addresses: &[&str]) -> Webhook {
        Webhook {
            target: Target::parse(url.as_bytes()).unwrap(),
            addresses: addresses.iter().map(|range| (*range).to_owned()).collect(),
            credential: Credential {
                secret: "alerts".into(),
                key: "secret".into(),
                header: None,
                username: None,
                scheme: CredentialScheme::StandardWebhook,
            },
            secrets: Secrets::of_alerts(self.folder.path().to_owned()),
        }
    }

    async fn later(&self) {
        self.database.execute(&self.owner, LATER).await.unwrap();
    }

    async fn outbox(&self) -> Outbox {
        self.owner.outbox().await.unwrap()
    }

    async fn last_error(&self) -> String {
        sqlx::query_scalar("select last_error from alerts").fetch_one(self.owner.pool()).await.unwrap()
    }
}

/// As a receiver checks it.
fn verified(seen: &Seen) -> bool {
    use hmac::{Hmac, KeyInit, Mac};
    let header = |name: &str| seen.headers[name].to_str().unwrap().to_owned();
    let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY).unwrap();
    mac.update([id.as_bytes(), b".", time.as_bytes(), b".", &seen.body].concat().as_slice());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let age = Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    header("webhook-signature") == expected && (0..60).contains(&age)
}

fn ids(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for seen in seen {
        *ids.entry(seen.headers["webhook-id"].to_str().unwrap().to_owned()).or_default() += 1;
    }
    ids
}

#[tokio::test]
async fn an_alert_is_delivered_over_tls_and_its_signature_holds() {
    let site = Site::new(1).await;
    let acceptor = site.authority.acceptor(&["hooks.example"]);
    let receiver = Upstream::start("127.0.0.1", Some(acceptor), |_| async { status(204, &[]) }).await;
    site.names.set("hooks.example", &[&["127.0.0.1"]]);
    let url = format!("https://hooks.example:{}/T0/budgets?from=test", receiver.address.port());
    let (broker, webhook) = (site.broker(), site.webhook(&url, &["127.0.0.0/8"]));
    assert_eq!(round(&broker, &webhook).await.unwrap(), 0);
    assert_eq!(round(&broker, &webhook).await.unwrap(), 0, "once");
    let seen = receiver.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/T0/budgets?from=test"));
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert!(verified(&seen[0]), "{:?}", seen[0].headers);
    let body: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(
        body,
        json!({"type": "budget.alert", "timestamp": "2026-11-21T10:00:00Z", "data": {
            "scope": "Namespace", "subject": "team-1", "window": "Month", "startsAt": "2026-11-01T00:00:00Z",
            "endsAt": "2026-12-01T00:00:00Z", "percent": 80, "limit": "10", "spent": "7.950001", "held": "0.05"}})
    );
    let metrics = broker.metrics.render().unwrap();
    for line in [
        "countersign_broker_alerts_total{outcome=\"delivered\"} 1",
        "countersign_broker_alerts_total{outcome=\"rejected\"} 0",
        "countersign_broker_alerts_due 0",
        "countersign_broker_alerts_dead 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_receiver_that_fails_is_asked_again_under_the_same_id() {
    let site = Site::new(1).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let receiver = Upstream::start("127.0.0.1", None, move |_| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        async move { status(if first { 500 } else { 200 }, &[]) }
    })
    .await;
    let webhook = site.webhook(&receiver.url("/"), &["127.0.0.1/32"]);
    let broker = site.broker();
    assert_eq!(round(&broker, &webhook).await.unwrap(), 1, "it waits");
    assert!(site.last_error().await.contains("answered 500"), "{}", site.last_error().await);
    assert_eq!(round(&broker, &webhook).await.unwrap(), 1);
    assert_eq!(receiver.seen().len(), 1, "not before its time");
    site.later().await;
    assert_eq!(round(&broker, &webhook).await.unwrap(), 0);
    let seen = receiver.seen();
    assert_eq!((seen.len(), ids(&seen).len()), (2, 1));
    assert_eq!(seen[0].body, seen[1].body);
    assert!(seen.iter().all(verified));
    let metrics = broker.metrics.render().unwrap();
    assert!(metrics.contains("alerts_total{outcome=\"rejected\"} 1"), "{metrics}");
}

#[tokio::test]
async fn ten_tries_and_it_is_given_up() {
    let site = Site::new(1).await;
    let receiver = Upstream::start("127.0.0.1", None, |_| async { status(302, &[("location", "/there")]) }).await;
    let webhook = site.webhook(&receiver.url("/"), &["127.0.0.1/32"]);
    let broker = site.broker();
    for _ in 0..9 {
        assert_eq!(round(&broker, &webhook).await.unwrap(), 1);
        site.later().await;
    }
    assert_eq!(round(&broker, &webhook).await.unwrap(), 0);
    assert_eq!(site.outbox().await, Outbox { due: 0, dead: 1 });
    assert!(broker.metrics.render().unwrap().contains("countersign_broker_alerts_dead 1"));
    site.later().await;
    round(&broker, &webhook).await.unwrap();
    let seen = receiver.seen();
    assert_eq!((seen.len(), ids(&seen).len()), (10, 1));
    assert!(seen.iter().all(|seen| seen.path == "/"), "a redirect is not followed");
}

#[tokio::test]
async fn where_a_skill_may_not_go_no_alert_goes() {
    let decoy = Upstream::decoy("127.0.0.2:0".parse().unwrap()).await;
    let port = decoy.address.port();
    for (answers, listed, host) in [
        (["127.0.0.2"].as_slice(), [].as_slice(), "hooks.example"),
        (&["127.0.0.2"], &["127.0.0.1/32"], "hooks.example"),
        (&["127.0.0.1", "127.0.0.2"], &["127.0.0.1/32"], "hooks.example"),
        (&["169.254.169.254"], &[], "hooks.example"),
        (&[], &[], "127.0.0.2"),
        (&[], &[], "[::ffff:127.0.0.2]"),
    ] {
        let site = Site::new(1).await;
        site.names.set("hooks.example", &[answers]);
        let webhook = site.webhook(&format!("http://{host}:{port}/"), listed);
        let broker = site.broker();
        assert_eq!(round(&broker, &webhook).await.unwrap(), 1, "it waits until somebody mends it");
        let error = site.last_error().await;
        assert!(error.starts_with("alerts.webhook: ") && error.contains("list a range"), "{error}");
        assert!(broker.metrics.render().unwrap().contains("alerts_total{outcome=\"address-refused\"} 1"));
    }
    assert_eq!(decoy.connections(), 0);
}

#[tokio::test]
async fn what_cannot_be_signed_or_reached_is_not_sent_and_says_why() {
    let receiver = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let site = Site::new(1).await;
    let mut webhook = site.webhook(&receiver.url("/"), &["127.0.0.1/32"]);
    webhook.credential.key = "absent".into();
    let broker = site.broker();
    assert_eq!(round(&broker, &webhook).await.unwrap(), 1);
    let error = site.last_error().await;
    assert!(error.contains("key absent of Secret alerts") && error.contains("alerts.webhook.secret"), "{error}");
    assert_eq!(receiver.connections(), 0);
    // A certificate of another name.
    let stranger =
        Upstream::start("127.0.0.1", Some(site.authority.acceptor(&["other.example"])), |_| async { text("ok") }).await;
    site.names.set("hooks.example", &[&["127.0.0.1"]]);
    let url = format!("https://hooks.example:{}/", stranger.address.port());
    site.later().await;
    assert_eq!(round(&broker, &site.webhook(&url, &["127.0.0.1/32"])).await.unwrap(), 1);
    assert!(site.last_error().await.contains("cannot be reached"), "{}", site.last_error().await);
    assert_eq!(stranger.seen().len(), 0);
    let metrics = broker.metrics.render().unwrap();
    for outcome in ["unsigned", "unreachable"] {
        assert!(metrics.contains(&format!("alerts_total{{outcome=\"{outcome}\"}} 1")), "{metrics}");
    }
}

#[tokio::test]
async fn an_alert_whose_broker_was_killed_is_delivered_by_another() {
    let site = Site::new(1).await;
    let tries = AtomicUsize::new(0);
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Upstream::start("127.0.0.1", None, move |_| {
        arrived.send(()).unwrap();
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            text("ok")
        }
    })
    .await;
    let webhook = site.webhook(&receiver.url("/"), &["127.0.0.1/32"]);
    let killed = {
        let (broker, webhook) = (site.broker(), webhook.clone());
        tokio::spawn(async move { round(&broker, &webhook).await })
    };
    arrivals.recv().await.unwrap();
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    let other = site.broker();
    assert_eq!(round(&other, &webhook).await.unwrap(), 1);
    assert_eq!(receiver.seen().len(), 1, "as long as the first may still be at it, nobody else is");
    site.later().await;
    assert_eq!(round(&other, &webhook).await.unwrap(), 0);
    let seen = receiver.seen();
    assert_eq!((seen.len(), ids(&seen).len()), (2, 1), "at least once, and known by its id");
}

#[tokio::test]
async fn a_last_try_of_which_nothing_was_heard_is_the_last() {
    let site = Site::new(1).await;
    let receiver = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    // Ten brokers went away with it.
    site.database.execute(&site.owner, "update alerts set tries = 10").await.unwrap();
    let webhook = site.webhook(&receiver.url("/"), &["127.0.0.1/32"]);
    assert_eq!(round(&site.broker(), &webhook).await.unwrap(), 0);
    assert_eq!((site.outbox().await, receiver.connections()), (Outbox { due: 0, dead: 1 }, 0));
}

#[tokio::test]
async fn two_brokers_at_once_deliver_each_alert_once() {
    let site = Site::new(60).await;
    let receiver = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let webhook = site.webhook(&receiver.url("/"), &["127.0.0.1/32"]);
    let ending = CancellationToken::new();
    let brokers = [site.broker(), site.broker()];
    let running = brokers.clone().map(|broker| tokio::spawn(run(broker, webhook.clone(), ending.clone())));
    let delivered = async {
        while site.outbox().await != Outbox::default() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), delivered).await.expect("all are delivered");
    ending.cancel();
    for running in running {
        tokio::time::timeout(Duration::from_secs(5), running).await.expect("it ends when told to").unwrap();
    }
    let seen = receiver.seen();
    let ids = ids(&seen);
    assert_eq!((seen.len(), ids.len()), (60, 60));
    let subjects: BTreeSet<Vec<u8>> = seen.iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(subjects.len(), 60);
    let worked = brokers.iter().filter(|broker| !broker.metrics.render().unwrap().contains("delivered\"} 0")).count();
    assert_eq!(worked, 2, "both had a part in it");
}
