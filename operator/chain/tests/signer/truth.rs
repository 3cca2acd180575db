//! What the chain says, beside what the outbox says.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Log, LogData, U64, U256};
use alloy_sol_types::{SolEvent, sol};
use countersign_chain::evm::{Expected, verify};
use countersign_chain::network::{Payment, Work};
use serde_json::{Value, json};
use sqlx::Row;

use crate::anvil::{CHAIN, PAYER};
use crate::bed::Bed;

sol! {
    event Paid(address indexed payer, bytes32 indexed id, address indexed to, address token, uint256 amount);
    event Anchored(address indexed by, bytes32 indexed digest);
}

/// How many are how, after all of it was found to be true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub paid: usize,
    /// Refused, or dead.
    pub unpaid: usize,
    pub anchored: usize,
    /// Anchors that are not.
    pub unanchored: usize,
    /// Transactions of the account that were reverted.
    pub reverted: usize,
    /// What others did with the account's key.
    pub strange: usize,
}

struct Event {
    log: Log,
    transaction: String,
    block: u64,
}

fn from<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

impl Bed {
    async fn events(&self) -> Vec<Event> {
        let filter = json!([{ "address": self.anvil.router, "fromBlock": "0x0", "toBlock": "latest" }]);
        let logs = self.anvil.rpc("eth_getLogs", filter).await;
        let event = |log: &Value| Event {
            log: Log {
                address: self.anvil.router,
                data: LogData::new_unchecked(from(&log["topics"]), from(&log["data"])),
            },
            transaction: from(&log["transactionHash"]),
            block: from::<U64>(&log["blockNumber"]).to(),
        };
        logs.as_array().unwrap().iter().map(event).collect()
    }

    /// Of those that are not over: states, and why.
    pub async fn left(&self) -> String {
        let query = "select o.id || ' ' || o.state || ' nonces ' || coalesce((select string_agg(s.nonce::text, ',')
                       from submissions s where s.outbox = o.id), '-') || ' ' || coalesce(o.last_error, '')
                     from outbox o where o.state in ('Waiting', 'Submitted') order by o.id";
        sqlx::query_scalar::<_, String>(query).fetch_all(self.owner.pool()).await.unwrap().join("\n")
    }

    /// That the outbox, the chain and the balances say the same, and that nothing is left to do.
    pub async fn truth(&self) -> Standing {
        let mut standing = Standing::default();
        let events = self.events().await;
        let mut unclaimed: Vec<&Event> = events.iter().filter(|event| is::<Paid>(event)).collect();
        let rows = "select o.id, o.payment, o.state, o.transaction, o.place, o.evidence, o.last_error, a.digest, a.size
                    from outbox o left join anchors a on a.id = o.anchor order by o.id";
        let mut sums: BTreeMap<Address, U256> = BTreeMap::new();
        for row in sqlx::query(rows).fetch_all(self.owner.pool()).await.unwrap() {
            let (id, state): (i64, String) = (row.get("id"), row.get("state"));
            let (transaction, place): (Option<String>, Option<i64>) = (row.get("transaction"), row.get("place"));
            let why = row.get::<Option<String>, _>("last_error").unwrap_or_default();
            let work = match row.get::<Option<String>, _>("payment") {
                Some(payment) => {
                    let kept = self.payments.iter().find(|kept| kept.id.to_string() == payment).unwrap();
                    Work::Pay(Payment { id: kept.id.0, token: kept.token, to: kept.to, amount: kept.amount.0 })
                }
                None => Work::Anchor(row.get::<Vec<u8>, _>("digest").try_into().unwrap()),
            };
            let found: Vec<&Event> = events.iter().filter(|event| is_of(event, &work)).collect();
            let shown = match (&work, state.as_str()) {
                (Work::Pay(payment), "Confirmed") => {
                    assert_eq!(found.len(), 1, "{id}: it says that it is paid, {} times", found.len());
                    *sums.entry(payment.to).or_default() += payment.amount;
                    standing.paid += 1;
                    true
                }
                (Work::Pay(_), "Refused" | "Dead") => {
                    assert_eq!(found.len(), 0, "{id}: it says that nothing was paid: {state}, {why}");
                    assert!(!why.is_empty(), "{id}: {state}");
                    standing.unpaid += 1;
                    false
                }
                (Work::Anchor(_), "Confirmed") => {
                    standing.anchored += 1;
                    true
                }
                (Work::Anchor(_), "Refused" | "Dead") => {
                    standing.unanchored += 1;
                    false
                }
                (_, _) => panic!("{id} is left: {state}, {why}"),
            };
            unclaimed.retain(|event| !is_of(event, &work));
            if shown {
                let (transaction, place) = (transaction.unwrap(), u64::try_from(place.unwrap()).unwrap());
                let there = |event: &&&Event| event.transaction == transaction && event.block == place;
                assert!(found.iter().any(|event| there(&event)), "{id}: {transaction} at {place} shows nothing");
                let expected = Expected {
                    work: &work,
                    chain_id: Some(CHAIN),
                    router: Some(self.anvil.router),
                    account: Some(PAYER),
                };
                let proved = verify(&row.get::<Vec<u8>, _>("evidence"), &expected).unwrap();
                let block = self.anvil.rpc("eth_getBlockByNumber", json!([U64::from(place), false])).await;
                assert_eq!(proved.block_hash, from::<B256>(&block["hash"]), "{id}: not of this chain");
            }
            if let (Work::Anchor(_), size) = (&work, row.get::<Option<i64>, _>("size")) {
                let size = u64::try_from(size.unwrap()).unwrap();
                let told = self.owner.anchors_of(size, size).await.unwrap();
                assert_eq!(told.iter().any(|anchored| anchored.size == size), shown, "{id}: shown otherwise");
            }
        }
        assert!(unclaimed.is_empty(), "{} payments that nobody asked for", unclaimed.len());
        for (recipient, sum) in sums {
            assert_eq!(self.anvil.balance(recipient).await, sum, "{recipient}");
        }
        self.accounts(&mut standing, &events).await;
        self.log(&standing).await;
        standing
    }

    /// Every wei of the payer, over all blocks.
    async fn accounts(&self, standing: &mut Standing, events: &[Event]) {
        let mut spent = U256::ZERO;
        let mut through = U256::ZERO;
        for number in 1..=self.anvil.height().await {
            let block = self.anvil.rpc("eth_getBlockByNumber", json!([U64::from(number), true])).await;
            for sent in block["transactions"].as_array().unwrap() {
                if from::<Address>(&sent["from"]) != PAYER {
                    continue;
                }
                let receipt = self.anvil.rpc("eth_getTransactionReceipt", json!([sent["hash"]])).await;
                spent += from::<U256>(&receipt["gasUsed"]) * from::<U256>(&receipt["effectiveGasPrice"]);
                let ours = from::<Address>(&sent["to"]) == self.anvil.router;
                if receipt["status"] == "0x1" {
                    spent += from::<U256>(&sent["value"]);
                    through += if ours { from::<U256>(&sent["value"]) } else { U256::ZERO };
                } else {
                    standing.reverted += 1;
                }
                standing.strange += usize::from(!ours);
            }
        }
        let paid = events.iter().filter_map(|event| Paid::decode_log(&event.log).ok());
        assert_eq!(through, paid.map(|paid| paid.amount).sum::<U256>());
        assert_eq!(self.anvil.start - self.anvil.balance(PAYER).await, spent);
    }

    /// That the log tells each payment's end, and each signature, once; and no nonce was signed for two.
    async fn log(&self, standing: &Standing) {
        let told =
            "select count(*) from log_entries e join log_payloads p on p.entry = e.id where e.kind = 'endPayment'
                    and convert_from(p.body, 'UTF8')::jsonb #>> '{event,state}' = 'Confirmed'";
        assert_eq!(usize::try_from(self.scalar(told).await).unwrap(), standing.paid);
        let signed = "select count(*) from submissions s join outbox o on o.id = s.outbox where o.payment is not null";
        let told = "select count(*) from log_entries where kind = 'signPayment'";
        assert!(self.scalar(told).await >= self.scalar(signed).await, "some of it may be from before a backup");
        let shared = "select count(*) from (select from submissions group by account, nonce
                      having count(distinct outbox) > 1) as s";
        assert_eq!(self.scalar(shared).await, 0);
    }
}

fn is<E: SolEvent>(event: &Event) -> bool {
    E::decode_log(&event.log).is_ok()
}

/// Whether it is an event of this, by the payer.
fn is_of(event: &Event, work: &Work) -> bool {
    match work {
        Work::Pay(payment) => Paid::decode_log(&event.log).is_ok_and(|paid| {
            let same = paid.payer == PAYER && paid.id == payment.id;
            assert!(!same || (paid.to, paid.amount) == (payment.to, payment.amount), "another sum");
            same
        }),
        Work::Anchor(digest) => Anchored::decode_log(&event.log)
            .is_ok_and(|anchored| anchored.by == PAYER && anchored.digest == B256::from(*digest)),
    }
}
