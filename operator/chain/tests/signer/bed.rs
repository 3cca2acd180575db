//! A record, a chain, and drivers between them that can die.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, U256, keccak256};
use countersign_chain::driver::{NetworkWorker, Pace};
use countersign_chain::evm::{Evm, Key, SecretKey, Settings};
use countersign_chain::metrics::Metrics;
use countersign_core::money::Money;
use countersign_core::payment::{Amount, Payment, PaymentId, PaymentNetwork};
use countersign_core::record::Change;
use countersign_core::tlog::SigningKey;
use countersign_crds::{Identity, PaymentMode};
use countersign_store::{Admitted, Limit, LogKeys, Role, Store};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use reqwest::Url;

use crate::anvil::{Anvil, CHAIN, GWEI, KEY, client};
use crate::database::{Database, open};
use crate::knife::Knife;
use crate::node::{Door, Node};
use crate::postgres::Wire;
use crate::story;

pub const NETWORK: &str = "main";
/// What a round takes, by the driver's clock, and after how long what is not in a block is replaced; in seconds.
pub const ROUND: i64 = 5;
pub const STALL: u64 = 60;
/// Wei for a unit of gas.
pub const MOST_FEE: u128 = 100 * GWEI;
/// More rounds than anything takes.
const ROUNDS: usize = 300;

/// How signers are set up.
#[derive(Clone)]
pub struct Terms {
    pub confirmations: u64,
    /// For a request to the node.
    pub timeout: Duration,
    /// As often as a signer tries what nothing was signed for.
    pub tries: u32,
    pub limit: Option<Limit>,
    pub anchors: bool,
}

impl Default for Terms {
    fn default() -> Terms {
        let limit = Limit { decimals: 18, payment: U256::from(10).pow(U256::from(24)), daily: U256::MAX };
        Terms { confirmations: 2, timeout: Duration::from_secs(20), tries: 1_000, limit: Some(limit), anchors: false }
    }
}

pub struct Bed {
    pub anvil: Anvil,
    pub node: Node,
    pub owner: Store,
    broker: Store,
    /// HOST:PORT of PostgreSQL, and the database there.
    server: String,
    name: String,
    database: Database,
    pub payments: Vec<Payment>,
    admitted: Vec<Admitted>,
    pub terms: Terms,
    /// By which the driver's clock is ahead, in seconds.
    pub ahead: AtomicI64,
    /// Whether the newest checkpoint is to be anchored before it is over.
    anchors: AtomicBool,
}

/// The n-th, to somebody who is paid nothing else.
pub fn payment(n: usize) -> Payment {
    Payment {
        id: PaymentId::of(story::UID, &format!("pay-{n}"), ""),
        network: NETWORK.into(),
        on: None,
        mode: PaymentMode::Live,
        asset: "ETH".into(),
        token: None,
        decimals: 18,
        to: Address::from_word(keccak256(format!("recipient {n}"))),
        amount: Amount(U256::from(1_000_000 + n)),
        price: Money::from_micros(1),
    }
}

pub fn payments(count: usize) -> Vec<Payment> {
    (0..count).map(payment).collect()
}

/// As people see it.
pub fn by() -> Identity {
    Identity { user: "alice".into(), uid: None, groups: Vec::new() }
}

fn log_keys() -> LogKeys {
    LogKeys { current: SigningKey::new("countersign.test/log", [7; 32]).unwrap(), next: None }
}

impl Bed {
    /// Each of the payments is one that an attempt was let in for; none is asked for yet.
    pub async fn new(payments: Vec<Payment>, terms: Terms) -> Bed {
        Bed::on(Anvil::start(&["--no-mining"]).await, payments, terms).await
    }

    pub async fn on(anvil: Anvil, payments: Vec<Payment>, terms: Terms) -> Bed {
        let account = SecretKey::parse(KEY).unwrap().address();
        let on = PaymentNetwork { chain_id: CHAIN, router: anvil.router, account };
        let there = |payment: Payment| Payment { on: payment.on.or(Some(on)), ..payment };
        let payments: Vec<Payment> = payments.into_iter().map(there).collect();
        let database = Database;
        let url = database.empty().await;
        let owner = open(url.clone(), 4);
        owner.migrate().await.unwrap();
        let (_, place) = url.split_once('@').unwrap();
        let (server, name) = place.split_once('/').unwrap();
        let (server, name) = (server.to_owned(), name.to_owned());
        // One at a time, as the roles are shared by all databases.
        static ROLES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let one = ROLES.lock().await;
        owner.grant(Role::Broker, &role("broker", &server, &name)).await.unwrap();
        owner.grant(Role::Signer, &role("signer", &server, &name)).await.unwrap();
        drop(one);
        let broker = open(role("broker", &server, &name), 4);
        let steps: Vec<String> = (0..payments.len()).map(|n| format!("pay-{n}")).collect();
        let changes: Vec<Change> = story::paying(&steps, &payments).into_iter().flatten().collect();
        owner.commit(story::UID, None, &changes).await.unwrap();
        let mut admitted = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            let of = broker.admitted(&format!("key-{step}-1")).await.unwrap().unwrap();
            let mut secret = [0; 32];
            secret[..8].copy_from_slice(&n.to_be_bytes());
            broker.open_session(&of, &secret, Timestamp::now()).await.unwrap();
            admitted.push(of);
        }
        let node = Node::new(anvil.url.clone(), client(Duration::from_secs(60)));
        let (ahead, anchors) = (AtomicI64::new(0), AtomicBool::new(false));
        Bed { anvil, node, owner, broker, server, name, database, payments, admitted, terms, ahead, anchors }
    }

    /// As fine as PostgreSQL keeps it.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now() + SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst));
        now.round(TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Trunc)).unwrap()
    }

    /// As the broker does, whenever the sandbox asks.
    pub async fn ask(&self, n: usize) {
        let payment = &self.payments[n];
        self.broker.request_payment(&self.admitted[n], payment, None, Timestamp::now()).await.unwrap();
    }

    pub async fn ask_all(&self) {
        for n in 0..self.payments.len() {
            self.ask(n).await;
        }
    }

    /// The log grows, and is signed; signers that anchor have that to anchor.
    pub async fn checkpoint(&self) {
        self.execute(
            "with e as (insert into log_entries (kind, at, body) values ('filler', now(), 'more') returning id)
             insert into log_pending select id from e",
        )
        .await;
        self.owner.sequence(&log_keys(), Timestamp::now(), 1_000_000).await.unwrap().unwrap();
        self.anchors.store(self.terms.anchors, Ordering::SeqCst);
    }

    pub async fn execute(&self, statement: &str) {
        self.database.execute(&self.owner, statement).await.unwrap();
    }

    pub async fn scalar(&self, query: &str) -> i64 {
        self.database.scalar(&self.owner, query).await
    }

    /// Whoever had taken something is long gone.
    pub async fn due(&self) {
        self.execute("update outbox set next_try = now() where state in ('Waiting', 'Submitted')").await;
    }

    pub async fn is_over(&self) -> bool {
        let waits = "select count(*) from outbox where state in ('Waiting', 'Submitted')";
        let owed = "select count(*) from log_checkpoints c where c.size = (select max(size) from log_checkpoints)
                    and not exists (select from anchors a where a.size = c.size)";
        self.scalar(waits).await == 0 && (!self.anchors.load(Ordering::SeqCst) || self.scalar(owed).await == 0)
    }

    /// The n-th payment's state, and why.
    pub async fn standing(&self, n: usize) -> (String, String) {
        sqlx::query_as("select state, coalesce(last_error, '') from outbox where payment = $1")
            .bind(self.payments[n].id.to_string())
            .fetch_one(self.owner.pool())
            .await
            .unwrap()
    }

    /// The transactions that were signed for it, the newest last.
    pub async fn signed(&self, n: usize) -> Vec<(i64, String)> {
        let query = "select s.nonce, s.transaction from submissions s join outbox o on o.id = s.outbox
                     where o.payment = $1 order by s.id";
        let id = self.payments[n].id.to_string();
        sqlx::query_as(query).bind(id).fetch_all(self.owner.pool()).await.unwrap()
    }

    pub async fn revive(&self, n: usize) {
        let id: i64 = sqlx::query_scalar("select id from outbox where payment = $1")
            .bind(self.payments[n].id.to_string())
            .fetch_one(self.owner.pool())
            .await
            .unwrap();
        assert!(self.owner.revive_outbox(id, &by(), Timestamp::now()).await.unwrap());
    }

    /// The signer's view of the record, over no wire.
    pub fn record(&self) -> Store {
        open(role("signer", &self.server, &self.name), 4)
    }

    /// A new life, which knows what is on record and nothing else.
    pub async fn signer(&self, knife: &Arc<Knife>) -> Signer {
        let wire = Wire::start(self.server.clone(), Arc::clone(knife)).await;
        let door = self.node.door(Arc::clone(knife)).await;
        let store = open(role("signer", &format!("127.0.0.1:{}", wire.port), &self.name), 4);
        let pace = Pace { tries: self.terms.tries, ..PACE };
        let worker = self.worker(door.url.clone(), store, pace, self.terms.anchors.then_some(Duration::ZERO));
        Signer { worker, knife: Arc::clone(knife), _wire: wire, _door: door }
    }

    pub fn worker(
        &self,
        url: Url,
        store: Store,
        pace: Pace,
        anchors: Option<Duration>,
    ) -> NetworkWorker<Evm<SecretKey>> {
        let settings = Settings {
            name: NETWORK.to_owned(),
            url,
            chain_id: CHAIN,
            router: self.anvil.router,
            deployed_at: 1,
            log_range: NonZeroU64::new(50).unwrap(),
            confirmations: NonZeroU64::new(self.terms.confirmations).unwrap(),
            max_fee_per_gas: MOST_FEE,
            max_gas: 500_000,
            stall: Duration::from_secs(STALL),
        };
        NetworkWorker {
            name: NETWORK.to_owned(),
            network: Evm::new(settings, client(self.terms.timeout), SecretKey::parse(KEY).unwrap()),
            limits: self.terms.limit.into_iter().map(|limit| (None, limit)).collect::<BTreeMap<_, _>>(),
            anchors,
            store,
            pace,
            metrics: Metrics::new().unwrap(),
        }
    }

    /// A signer that nothing happens to, until all is over.
    pub async fn calm(&self) {
        self.node.honest();
        assert_eq!(self.signer(&Knife::none()).await.work(self).await, End::Over);
    }
}

const PACE: Pace = Pace {
    idle: Duration::from_millis(5),
    poll: Duration::from_millis(5),
    first: Duration::from_millis(5),
    longest: Duration::from_millis(20),
    tries: 0,
    patience: Duration::from_secs(40),
};

fn role(name: &str, server: &str, database: &str) -> String {
    format!("postgres://countersign_signer_test_{name}:test@{server}/{database}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is left to do.
    Over,
    Died,
}

pub struct Signer {
    pub worker: NetworkWorker<Evm<SecretKey>>,
    knife: Arc<Knife>,
    _wire: Wire,
    _door: Door,
}

impl Signer {
    /// One round of the driver, with all that waits due, and a block after it. Whether the driver lives.
    pub async fn round(&self, bed: &Bed) -> bool {
        bed.due().await;
        let lives = self.step(bed).await;
        bed.anvil.mine(1).await;
        bed.ahead.fetch_add(ROUND, Ordering::SeqCst);
        lives
    }

    /// One round, and nothing else.
    pub async fn step(&self, bed: &Bed) -> bool {
        let clock = || bed.now();
        tokio::select! {
            biased;
            () = self.knife.death() => false,
            ended = self.worker.round(&clock) => {
                assert!(ended.is_ok() || self.knife.fell(), "{ended:?}");
                true
            }
        }
    }

    pub async fn work(&self, bed: &Bed) -> End {
        for _ in 0..ROUNDS {
            if !self.round(bed).await {
                return End::Died;
            }
            if bed.is_over().await {
                return End::Over;
            }
        }
        panic!("it never ends: {}", bed.left().await);
    }
}
