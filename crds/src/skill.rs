//! Skill: a capability and its contract.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::egress::{Cost, Egress};
use crate::meta::{duration, free_object};
use crate::payment::PaymentContract;

/// What runs, what goes in and comes out, what it does to the world, and what it may reach, cost and pay.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Skill",
    derive = "PartialEq",
    shortname = "cskill",
    category = "countersign",
    doc = "A capability contract: what a step may run, what goes in and what comes out.",
    printcolumn(name = "Effect", type_ = "string", json_path = ".spec.effect"),
    printcolumn(name = "Idempotent", type_ = "boolean", json_path = ".spec.idempotent"),
    printcolumn(name = "Builtin", type_ = "string", json_path = ".spec.builtin.name"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image.reference", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("has(self.builtin) != has(self.image)")
    .message("set exactly one of spec.builtin and spec.image"))]
#[x_kube(validation = Rule::new("self.effect != 'Read' || !has(self.egress) || self.egress.all(e, e.protocol in ['Https', 'Http'] && (!has(e.methods) || e.methods.all(m, m in ['GET', 'HEAD', 'OPTIONS'])))")
    .message("a Skill of effect Read sends GET, HEAD and OPTIONS only, or jsonRpc methods that read; change effect or egress"))]
#[x_kube(validation = Rule::new("self.effect != 'Read' || !has(self.egress) || self.egress.all(e, !has(e.jsonRpc) || e.jsonRpc.all(m, m in ['eth_blockNumber', 'eth_call', 'eth_chainId', 'eth_estimateGas', 'eth_feeHistory', 'eth_gasPrice', 'eth_getBalance', 'eth_getBlockByHash', 'eth_getBlockByNumber', 'eth_getCode', 'eth_getLogs', 'eth_getStorageAt', 'eth_getTransactionByHash', 'eth_getTransactionCount', 'eth_getTransactionReceipt', 'net_version']))")
    .message("a Skill of effect Read lists jsonRpc methods that are known to read only (eth_call, eth_getBalance, ...); change effect or egress"))]
#[x_kube(validation = Rule::new("!has(self.expectedDuration) || duration(self.expectedDuration) <= duration(self.timeout)")
    .message("expectedDuration is at most timeout, after which an attempt is ended"))]
#[x_kube(validation = Rule::new("!has(self.cost) || has(self.cost.perAttempt) || has(self.payment) || (has(self.egress) && self.egress.size() > 0)")
    .message("without egress and payment a Skill costs something by the attempt only: set cost.perAttempt, list egress, or leave cost out"))]
#[x_kube(validation = Rule::new("has(self.payment) == (has(self.builtin) && self.builtin.name in ['pay', 'onchain_action'])")
    .message("payment goes with the built-ins pay and onchain_action, which need it"))]
#[x_kube(validation = Rule::new("!has(self.payment) || self.effect == 'Irreversible' || (has(self.payment.mode) && self.payment.mode == 'Mock')")
    .message("a payment cannot be taken back: set effect Irreversible, or payment.mode Mock"))]
#[x_kube(validation = Rule::new("!has(self.payment) || self.idempotent")
    .message("a payment is made once however often it is asked for: set idempotent true"))]
#[x_kube(validation = Rule::new("!has(self.payment) || !has(self.egress) || self.egress.size() == 0")
    .message("a Skill that pays goes nowhere itself; leave egress out"))]
#[x_kube(validation = Rule::new("!has(self.overBudget) || self.overBudget == 'Defer' || has(self.cost)")
    .message("overBudget goes with cost; set cost, or leave overBudget out"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillSpec {
    /// What the Skill does, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// What it does to the world, at worst.
    pub effect: EffectClass,
    /// Whether running it twice is the same as once; only then is a failed attempt tried again.
    #[serde(default)]
    pub idempotent: bool,
    /// JSON Schema (2020-12) of the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub input: Map<String, Value>,
    /// JSON Schema (2020-12) of the output.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub output: Map<String, Value>,
    /// What runs, where the runner does the work itself; either this or `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
    /// What runs, where it is an image of your own; either this or `builtin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// How long one attempt may run.
    #[serde(default = "default_timeout")]
    #[schemars(schema_with = "duration")]
    pub timeout: String,
    /// The RuntimeClass of its pods, such as one for gVisor; the cluster's default where left out. It is taken to bring
    /// a sandbox of its own, so the runner insists neither on Landlock nor on a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// What its container gets.
    #[serde(default)]
    pub resources: Resources,
    /// Where it may go, through the broker; nowhere where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub egress: Vec<Egress>,
    /// How many calls a minute all its attempts together may make; as many as they like where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub calls_per_minute: Option<u32>,
    /// What it costs. Where it is left out although the Skill has egress or pays, a step is rejected as soon as any
    /// budget limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What it may pay; nothing where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentContract>,
    /// How long an attempt usually takes: for people, and for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub expected_duration: Option<String>,
    /// What of the Task's files it sees, in `/workspace`.
    #[serde(default, skip_serializing_if = "Workspace::is_none")]
    pub workspace: Workspace,
    /// What becomes of a step that does not fit its budget, and that nothing cheaper can take the place of.
    #[serde(default, skip_serializing_if = "OverBudget::is_default")]
    pub over_budget: OverBudget,
    /// The Skill that takes this one's place where a Policy rule says Downgrade, or where this one does not fit the
    /// budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub downgrade_to: Option<String>,
}

fn default_timeout() -> String {
    "5m".into()
}

/// The files that a Task's steps hand on to those that need them.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Workspace {
    /// It sees none of them.
    #[default]
    None,
    /// It sees what the steps that it needs left; what it changes is lost.
    Read,
    /// What it leaves is kept, by content, and handed on.
    Write,
}

impl Workspace {
    fn is_none(&self) -> bool {
        *self == Workspace::None
    }
}

/// What becomes of a step that does not fit its budget.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OverBudget {
    /// It waits for the next window; where there is none, or it would not fit there either, it is rejected.
    #[default]
    Defer,
    /// It is rejected at once.
    Reject,
}

impl OverBudget {
    fn is_default(&self) -> bool {
        *self == OverBudget::Defer
    }
}

/// What a Skill does to the world.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectClass {
    /// It changes nothing: what it sends are GET, HEAD, OPTIONS and JSON-RPC methods that only read.
    Read,
    /// It changes what is one's own, such as the Task's files.
    Write,
    /// It reaches others, with a message, an event or a prompt.
    External,
    /// What it does cannot be taken back, such as a payment.
    Irreversible,
}

impl EffectClass {
    /// The class as kinds, rules and the record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            EffectClass::Read => "Read",
            EffectClass::Write => "Write",
            EffectClass::External => "External",
            EffectClass::Irreversible => "Irreversible",
        }
    }
}

/// Work that the runner itself does.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.program) == (self.name == 'json_transform')")
    .message("program goes with name json_transform, which needs it"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Builtin {
    /// Which of the runner's built-ins.
    pub name: BuiltinName,
    /// For `json_transform`: a jq program that turns the input into the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub program: Option<String>,
}

/// What the runner can do itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BuiltinName {
    /// Computes the output with a jq program.
    JsonTransform,
    /// Acknowledges an action and its parameters; it has no effect.
    GenericAction,
    /// One HTTP request.
    HttpCall,
    /// A chat completion of a language model that speaks OpenAI's API.
    LlmInvoke,
    /// Reads a file of the workspace.
    FsRead,
    /// Writes a file of the workspace.
    FsWrite,
    /// A POST with an idempotency key.
    WebhookSend,
    /// One message, handed to a mail server.
    EmailSend,
    /// The balance of an account on an Ethereum chain, native or ERC-20.
    CheckBalance,
    /// One tool of a Model Context Protocol server.
    McpCall,
    /// A payment of an asset by name, in whole units.
    Pay,
    /// A payment of an asset by its contract, in its smallest unit.
    OnchainAction,
}

impl BuiltinName {
    /// As the runner knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            BuiltinName::JsonTransform => "json_transform",
            BuiltinName::GenericAction => "generic_action",
            BuiltinName::HttpCall => "http_call",
            BuiltinName::LlmInvoke => "llm_invoke",
            BuiltinName::FsRead => "fs_read",
            BuiltinName::FsWrite => "fs_write",
            BuiltinName::WebhookSend => "webhook_send",
            BuiltinName::EmailSend => "email_send",
            BuiltinName::CheckBalance => "check_balance",
            BuiltinName::McpCall => "mcp_call",
            BuiltinName::Pay => "pay",
            BuiltinName::OnchainAction => "onchain_action",
        }
    }
}

/// Any image with a command: input on stdin, output on stdout, JSON both.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// By digest: a tag could change after it was signed for.
    #[schemars(length(max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9./:_-]*@sha256:[0-9a-f]{64}$"))]
    pub reference: String,
    /// The program in the image and its arguments, in the place of the image's own entrypoint.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

/// Requests and limits alike.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// CPU cores, or with `m` thousandths of one; `50m` where left out.
    #[serde(default = "default_cpu")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]+m?$"))]
    pub cpu: String,
    /// Bytes, or with `Ki`, `Mi` or `Gi` multiples of 2^10, 2^20 or 2^30 of them; `64Mi` where left out.
    #[serde(default = "default_memory")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]+(Ki|Mi|Gi)?$"))]
    pub memory: String,
}

fn default_cpu() -> String {
    "50m".into()
}

fn default_memory() -> String {
    "64Mi".into()
}

impl Default for Resources {
    fn default() -> Self {
        Resources { cpu: default_cpu(), memory: default_memory() }
    }
}
