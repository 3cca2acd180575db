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

/// One thing that happens beside a Task's record, as the log tells it; in JSON `kind` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A replica of the operator began to act.
    Lead {
        /// The name of the replica's pod.
        replica: String,
        /// The operator's version, such as `1.2.3`.
        version: String,
        /// The image of every sandbox, by digest.
        runner_image: String,
        /// When it began to act (UTC).
        at: Timestamp,
    },
    /// A Policy, Skill, Agent or template Plan is now this.
    Configure {
        /// The Policy, Skill, Agent or template Plan.
        object: ObjectName,
        /// The object's `metadata.uid`.
        uid: String,
        /// The object's `metadata.generation`; `None` where it has none.
        generation: Option<i64>,
        /// SHA-256 over the spec's canonical JSON (RFC 8785); empty where it has none.
        digest: Option<Digest>,
        /// The object's whole spec; null where it has none, or none with a canonical form (RFC 8785).
        spec: Value,
        /// When it was seen (UTC).
        at: Timestamp,
    },
    /// Such an object is gone.
    Remove {
        /// The Policy, Skill, Agent or template Plan.
        object: ObjectName,
        /// When it was seen to be gone (UTC).
        at: Timestamp,
    },
    /// The log's next checkpoints are signed by another key.
    RotateKey {
        /// The key that signed until then, as a verifier key (C2SP signed-note).
        old: String,
        /// The key that signs from then on, as a verifier key (C2SP signed-note).
        new: String,
        /// A signed note of both keys that says so by itself.
        note: String,
        /// When the keys changed (UTC).
        at: Timestamp,
    },
    /// Somebody took entries with their payloads away.
    Export {
        /// Who took them.
        by: Identity,
        /// Which entries were taken.
        selection: Selection,
        /// Entries of the checkpoint that it was made against.
        size: u64,
        /// When the export began (UTC).
        at: Timestamp,
    },
    /// An attempt's token was taken for a session with the broker; no other is given.
    OpenSession {
        /// The key of the attempt.
        attempt: String,
        /// When the session began (UTC).
        at: Timestamp,
    },
    /// A call is about to leave the broker.
    BeginCall {
        /// The key of the attempt.
        attempt: String,
        /// Which call of the attempt it is, from 1.
        number: u32,
        /// The method with which the sandbox asked for it; `PAY` of a payment.
        method: String,
        /// Without its query.
        url: String,
        /// The most that it may cost.
        reserved: Money,
        /// When the broker was about to connect (UTC).
        at: Timestamp,
    },
    /// What came of a call.
    EndCall {
        /// The key of the attempt.
        attempt: String,
        /// Which call of the attempt it is, from 1.
        number: u32,
        /// `answered`, of a payment `paid` or `not-paid`, or why there is no answer: a closed set of the broker's.
        outcome: String,
        /// The status code of the HTTP answer; left out where there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The address that it went to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// How many bytes of the request's body, or of the mail, were sent.
        sent: u64,
        /// How many bytes of the answer's body were received.
        received: u64,
        /// What the call cost, in the budget's currency, to the millionth; what was reserved beyond it is given back.
        cost: Money,
        /// When the call ended (UTC).
        at: Timestamp,
    },
    /// A payment that the attempt may make was asked for, and is handed to the signer.
    RequestPayment {
        /// The key of the attempt.
        attempt: String,
        /// The payment, as it was recorded with the attempt.
        payment: Box<Payment>,
        /// When it was asked for (UTC).
        at: Timestamp,
    },
    /// A transaction that makes a payment was signed; it is kept, and about to leave.
    SignPayment {
        /// The payment's id.
        payment: PaymentId,
        /// The account that pays.
        account: String,
        /// The account's nonce that the transaction uses; left out where the network counts none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<u64>,
        /// The transaction's hash.
        transaction: String,
        /// When it was signed (UTC).
        at: Timestamp,
    },
    /// What became of a payment.
    EndPayment {
        /// The payment's id.
        payment: PaymentId,
        /// What became of it.
        state: PaymentState,
        /// Where it is confirmed: the transaction, the block, and what proves that this block holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<Box<PaymentReceipt>>,
        /// Where it is not: why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// When that was found (UTC).
        at: Timestamp,
    },
    /// Somebody had what the signer gave up, or the network refused, tried again.
    RevivePayment {
        /// The payment's id.
        payment: PaymentId,
        /// Who had it tried again.
        by: Identity,
        /// When they did (UTC).
        at: Timestamp,
    },
    /// What became of what was reserved for an attempt.
    Settle {
        /// The key of the attempt.
        attempt: String,
        /// What became of the reservation.
        state: Settled,
        /// What was reserved, in the budget's currency, to the millionth.
        reserved: Money,
        /// More than was reserved where a price turned out higher than it was said to be; left out where it is not
        /// known, and then all that was reserved stays counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Money>,
        /// When that was recorded (UTC).
        at: Timestamp,
    },
    /// The payloads of a Task's entries are gone; the entries and their proofs are not.
    Erase {
        /// Who had them erased: `postgresql:` and the role that did it.
        by: Identity,
        /// Why, in the words of whoever did it.
        reason: String,
        /// The places of the entries in the log.
        entries: Vec<u64>,
        /// When they were erased (UTC).
        at: Timestamp,
    },
}

/// That a payment is final on its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentReceipt {
    /// The hash of the transaction that made it, as the network knows it.
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
    /// What the attempt cost is known and counted; the rest was given back.
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
    /// All that there are.
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
    /// The object's kind: `Policy`, `Skill`, `Agent` or `Plan`.
    pub kind: String,
    /// Empty for a Skill.
    pub namespace: String,
    /// The object's name.
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

    /// When it happened (UTC).
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
