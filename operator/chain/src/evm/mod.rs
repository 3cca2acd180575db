//! Chains that are like Ethereum. Payments go through a router (contracts/Router.sol) that refuses a second one with
//! the same id, so whatever goes wrong here, and whatever a node says, an id is paid once. What is called done is proved
//! against the hash of a block: a node can hide what happened, but it must make up a whole block to claim what did not.

mod abi;
mod evidence;
mod fees;
mod key;
mod node;
mod poll;
mod prepare;
mod prove;
mod seen;
mod settings;
mod trie;

use std::sync::atomic::{AtomicBool, Ordering};

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{Address, B256, U256, keccak256};
use countersign_core::payment::PaymentNetwork;
use jiff::Timestamp;

pub use evidence::{EvidenceError, Expected, Proved, verify};
pub use key::{Key, KeyError, SecretKey};
pub use node::{Node, NodeError};
pub use settings::Settings;

use crate::network::{Network, Payment, Polled, Receipt, Submission, Trouble, Work};
use seen::Elsewhere;

/// One network with one account.
pub struct Evm<K> {
    settings: Settings,
    node: Node,
    key: K,
    /// Whether one of its blocks was proved since this began.
    provable: AtomicBool,
}

impl<K: Key> Evm<K> {
    /// `client` must have timeouts, and bring its own TLS.
    pub fn new(settings: Settings, client: reqwest::Client, key: K) -> Evm<K> {
        let node = Node::new(&settings.name, client, settings.url.clone());
        Evm { settings, node, key, provable: AtomicBool::new(false) }
    }

    /// For what else a node is asked.
    pub fn node(&self) -> &Node {
        &self.node
    }

    async fn check_chain(&self) -> Result<(), Trouble> {
        self.node.check_chain(self.settings.chain_id).await
    }

    /// Some networks have transactions of their own kinds, and some nodes do not tell receipts: what is done there could
    /// never be proved, so it is not begun.
    async fn check_provable(&self) -> Result<(), Trouble> {
        if !self.provable.load(Ordering::Relaxed) {
            self.contents(self.node.head().await?.hash).await?;
            self.provable.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<K: Key> Network for Evm<K> {
    fn account(&self) -> Option<String> {
        Some(format!("eip155:{}:{}", self.settings.chain_id, self.key.address()))
    }

    fn stands_for(&self) -> Option<PaymentNetwork> {
        let Settings { chain_id, router, .. } = &self.settings;
        Some(PaymentNetwork { chain_id: *chain_id, router: *router, account: self.key.address() })
    }

    async fn next_nonce(&self) -> Result<u64, Trouble> {
        self.check_chain().await?;
        self.node.nonce(self.key.address(), BlockNumberOrTag::Latest).await
    }

    async fn done(&self, work: &Work) -> Result<Option<Receipt>, Trouble> {
        let payment = match work {
            Work::Anchor(_) => return Ok(None),
            Work::Pay(payment) => payment,
        };
        self.check_chain().await?;
        let head = self.node.head().await?;
        let Payment { id, .. } = payment;
        let router = self.settings.router;
        match self.elsewhere(payment, &head).await? {
            Elsewhere::No => Ok(None),
            Elsewhere::Done(receipt) => Ok(Some(receipt)),
            Elsewhere::Shallow(has, needs) => Err(Trouble::NotNow(format!(
                "{id} was paid through {router} before; it has {has} of {needs} confirmations: wait"
            ))),
            Elsewhere::Other(why) => Err(Trouble::Permanent(why)),
        }
    }

    async fn prepare(
        &self,
        work: &Work,
        nonce: Option<u64>,
        before: &[Submission],
        now: Timestamp,
    ) -> Result<Submission, Trouble> {
        self.sign(work, nonce, before, now).await
    }

    async fn submit(&self, submission: &Submission) -> Result<Option<Receipt>, Trouble> {
        let hash = transaction(submission)?;
        if keccak256(&submission.body) != hash {
            return Err(damaged(submission));
        }
        self.check_chain().await?;
        match self.node.send(&submission.body).await {
            Ok(known) if known == hash => Ok(None),
            Ok(known) => Err(self.node.nonsense(&format!("that {hash} is {known}"))),
            Err(NodeError::Said { name: _, said }) if for_poll(&said.message) => Ok(None),
            Err(NodeError::Said { name, said }) if short_of_coin(&said.message) => Err(self.too_little_coin(&name)),
            Err(error) => Err(error.into()),
        }
    }

    async fn poll(&self, work: &Work, submissions: &[Submission], now: Timestamp) -> Result<Polled, Trouble> {
        Ok(self.see(work, submissions, now).await?.decide())
    }
}

impl<K: Key> Evm<K> {
    fn too_little_coin(&self, name: &str) -> Trouble {
        let account = self.key.address();
        Trouble::NotNow(format!("{account} has too little of the coin of {name} for this and its gas: send it some"))
    }
}

/// What `poll` tells better than the answer to sending: the node knows it, or something else has its place, or it offers
/// too little. Geth, Nethermind, Erigon, Besu, Reth and Anvil have words of their own for each.
fn for_poll(said: &str) -> bool {
    const WORDS: [&str; 13] = [
        "already known",
        "already imported",
        "already exists",
        "alreadyknown",
        "already in mempool",
        "already in the pool",
        "known transaction",
        "nonce too low",
        "nonce is too low",
        "oldnonce",
        "underpriced",
        "max fee per gas less than block base fee",
        "feetoolow",
    ];
    let said = said.to_lowercase();
    WORDS.iter().any(|words| said.contains(words))
}

fn short_of_coin(said: &str) -> bool {
    let said = said.to_lowercase();
    ["insufficient funds", "insufficient balance", "insufficientfunds"].iter().any(|words| said.contains(words))
}

fn transaction(submission: &Submission) -> Result<B256, Trouble> {
    submission.transaction.parse().map_err(|_| damaged(submission))
}

fn damaged(submission: &Submission) -> Trouble {
    Trouble::Permanent(format!("what was kept of {} is damaged: put it back from a backup", submission.transaction))
}

/// What nobody can be paid, whatever the network.
fn check(work: &Work, router: Address) -> Result<(), Trouble> {
    let Work::Pay(Payment { id: _, token, to, amount }) = work else { return Ok(()) };
    let never = |why: String| Err(Trouble::Permanent(why));
    if *to == Address::ZERO || *to == router {
        never(format!("{to} cannot be paid: it is {}", if *to == router { "the router" } else { "nobody's" }))
    } else if *amount == U256::ZERO {
        never("nothing cannot be paid: the amount is zero".to_owned())
    } else if *token == Some(Address::ZERO) {
        never("the zero address is no token".to_owned())
    } else {
        Ok(())
    }
}
