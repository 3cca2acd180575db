//! What happens beside the record of a Task: who leads, what is configured, which key signs, what sandboxes call, and
//! who took or erased what of the record.

use countersign_crds::{Identity, PaymentState};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::money::Money;
use crate::payment::{Payment, PaymentId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A replica of the operator began to act.
    Lead {
        replica: String,
        version: String,
        /// The image of every sandbox, by digest.
        runner_image: String,
        at: Timestamp,
    },
    /// A Policy, Skill, Agent or template Plan is now this.
    Configure {
        object: ObjectName,
        uid: String,
        generation: Option<i64>,
        /// SHA-256 over the spec's canonical JSON (RFC 8785); empty where it has none.
        digest: Option<Digest>,
        spec: Value,
        at: Timestamp,
    },
    /// Such an object is gone.
    Remove { object: ObjectName, at: Timestamp },
    /// The log's next checkpoints are signed by another key.
    RotateKey {
        old: String,
        new: String,
        /// A signed note of both keys that says so by itself.
        note: String,
        at: Timestamp,
    },
    /// Somebody took entries with their payloads away.
    Export {
        by: Identity,
        selection: Selection,
        /// Entries of the checkpoint that it was made against.
        size: u64,
        at: Timestamp,
    },
    /// An attempt's token was taken for a session with the broker; no other is given.
    OpenSession { attempt: String, at: Timestamp },
    /// A call is about to leave the broker.
    BeginCall {
        attempt: String,
        number: u32,
        method: String,
        /// Without its query.
        url: String,
        /// The most that it may cost.
        reserved: Money,
        at: Timestamp,
    },
    /// What came of a call.
    EndCall {
        attempt: String,
        number: u32,
        /// `answered`, or why not: a closed set of the broker's.
        outcome: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The address that it went to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        sent: u64,
        received: u64,
        cost: Money,
        at: Timestamp,
    },
    /// A payment that the attempt may make was asked for, and is handed to the signer.
    RequestPayment { attempt: String, payment: Box<Payment>, at: Timestamp },
    /// A transaction that makes a payment was signed; it is kept, and about to leave.
    SignPayment {
        payment: PaymentId,
        /// The account that pays.
        account: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<u64>,
        /// The transaction's hash.
        transaction: String,
        at: Timestamp,
    },
    /// What became of a payment.
    EndPayment {
        payment: PaymentId,
        state: PaymentState,
        /// Where it is confirmed: the transaction, the block, and what proves that this block holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<Box<PaymentReceipt>>,
        /// Where it is not: why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        at: Timestamp,
    },
    /// Somebody had what the signer gave up, or the network refused, tried again.
    RevivePayment { payment: PaymentId, by: Identity, at: Timestamp },
    /// What became of what was reserved for an attempt.
    Settle {
        attempt: String,
        state: Settled,
        reserved: Money,
        /// More than was reserved where a price turned out higher than it was said to be; left out where it is not
        /// known, and then all that was reserved stays counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Money>,
        at: Timestamp,
    },
    /// The payloads of a Task's entries are gone; the entries and their proofs are not.
    Erase {
        by: Identity,
        reason: String,
        /// The places of the entries in the log.
        entries: Vec<u64>,
        at: Timestamp,
    },
}

/// That a payment is final on its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentReceipt {
    pub transaction: String,
    /// The block's number; left out of a mock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// By the network's clock.
    pub confirmed_at: Timestamp,
    /// In the smallest unit of the network's coin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<String>,
    /// JSON of the network's own kind, as the documentation of proofs says; left out of a mock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Settled {
    Settled,
    /// Nothing ran.
    Released,
    /// Nobody knows yet.
    Unknown,
}

/// Which entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Selection {
    All,
    /// Of one Task, by its uid.
    Task(String),
    /// From this place on.
    From(u64),
}

/// Names an object of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    pub kind: String,
    /// Empty for a Skill.
    pub namespace: String,
    pub name: String,
}

impl Event {
    /// The name under which it is logged: a closed set, apart from that of the changes of a record.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Lead { .. } => "lead",
            Event::Configure { .. } => "configure",
            Event::Remove { .. } => "remove",
            Event::RotateKey { .. } => "rotateKey",
            Event::Export { .. } => "export",
            Event::OpenSession { .. } => "openSession",
            Event::BeginCall { .. } => "beginCall",
            Event::EndCall { .. } => "endCall",
            Event::RequestPayment { .. } => "requestPayment",
            Event::SignPayment { .. } => "signPayment",
            Event::EndPayment { .. } => "endPayment",
            Event::RevivePayment { .. } => "revivePayment",
            Event::Settle { .. } => "settle",
            Event::Erase { .. } => "erase",
        }
    }

    pub fn at(&self) -> Timestamp {
        match self {
            Event::Lead { at, .. }
            | Event::Configure { at, .. }
            | Event::Remove { at, .. }
            | Event::RotateKey { at, .. }
            | Event::Export { at, .. }
            | Event::OpenSession { at, .. }
            | Event::BeginCall { at, .. }
            | Event::EndCall { at, .. }
            | Event::RequestPayment { at, .. }
            | Event::SignPayment { at, .. }
            | Event::EndPayment { at, .. }
            | Event::RevivePayment { at, .. }
            | Event::Settle { at, .. }
            | Event::Erase { at, .. } => *at,
        }
    }
}
