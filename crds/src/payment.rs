//! What a Skill may pay: out of which account, which assets, how much at once, and to whom.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::egress::money;

/// A payment is made by the signer, once for each run of a step, as the step's input says when it is judged and signed
/// for. The sandbox can only ask for it to be made; it sees no key and chooses nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.assets.all(a, self.assets.exists_one(b, b.name == a.name))")
    .message("each asset has a name of its own"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentContract {
    /// One of the networks that the chart's signer.networks lists; it has one account, whose key the signer holds.
    #[schemars(schema_with = "network")]
    pub network: String,
    /// Mock moves nothing and says so wherever the payment is shown.
    #[serde(default, skip_serializing_if = "PaymentMode::is_live")]
    pub mode: PaymentMode,
    /// What it may pay with, each with a limit and a price of its own.
    #[schemars(length(min = 1, max = 16))]
    pub assets: Vec<Asset>,
    /// Whom it may pay; anybody where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^0x[0-9a-fA-F]{40}$")))]
    pub recipients: Vec<String>,
}

/// Whether money moves.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PaymentMode {
    /// Money moves, and cannot be taken back.
    #[default]
    Live,
    /// Nothing is signed and nothing moves; the payment counts as confirmed at once.
    Mock,
}

impl PaymentMode {
    fn is_live(&self) -> bool {
        *self == PaymentMode::Live
    }

    /// The mode as kinds and the record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            PaymentMode::Live => "Live",
            PaymentMode::Mock => "Mock",
        }
    }
}

/// A network's own coin, or an ERC-20 token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asset {
    /// What inputs and people call it, such as ETH or USDC.
    #[schemars(length(max = 16), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9.-]*$"))]
    pub name: String,
    /// The token's contract; left out for the network's own coin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^0x[0-9a-fA-F]{40}$"))]
    pub token: Option<String>,
    /// How many decimal places one whole unit has: 18 for Ether, 6 for most stablecoins.
    #[schemars(range(max = 36))]
    pub decimals: u8,
    /// The most that one payment may be, in whole units.
    #[schemars(schema_with = "amount")]
    pub most: String,
    /// What one whole unit counts against budgets, in their currency; "0" where it does not count.
    #[schemars(schema_with = "money")]
    pub price: String,
}

/// How a step's payment stands.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PaymentStatus {
    /// Keccak-256 of the Task's uid, the step and the key: the router pays it once.
    #[schemars(length(max = 66))]
    pub id: String,
    /// Whether money moves.
    pub mode: PaymentMode,
    /// How far it has come.
    pub state: PaymentState,
    /// The transaction's hash, once it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub transaction: Option<String>,
    /// Why it is not paid, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
}

/// What became of what was handed to the signer.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// It is kept, and nothing was signed yet.
    Waiting,
    /// It was signed, and may be on the network; it is not final.
    Submitted,
    /// It is final.
    Confirmed,
    /// The network refused it for good: nothing moved.
    Refused,
    /// The signer gave it up before anything was signed: nothing moved.
    Dead,
}

impl PaymentState {
    /// Every state that there is.
    pub const ALL: [PaymentState; 5] = [
        PaymentState::Waiting,
        PaymentState::Submitted,
        PaymentState::Confirmed,
        PaymentState::Refused,
        PaymentState::Dead,
    ];

    /// The state as statuses, the record and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            PaymentState::Waiting => "Waiting",
            PaymentState::Submitted => "Submitted",
            PaymentState::Confirmed => "Confirmed",
            PaymentState::Refused => "Refused",
            PaymentState::Dead => "Dead",
        }
    }

    /// Whether it stays so, unless somebody revives it.
    pub fn is_over(self) -> bool {
        match self {
            PaymentState::Waiting | PaymentState::Submitted => false,
            PaymentState::Confirmed | PaymentState::Refused | PaymentState::Dead => true,
        }
    }
}

fn network(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"})
}

/// In whole units: as many places as the asset has.
fn amount(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 80, "pattern": "^[0-9]{1,42}(\\.[0-9]{1,36})?$"})
}
