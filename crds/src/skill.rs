//! Skill: a capability and its contract.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::meta::{duration, free_object};

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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// How long one attempt may run.
    #[serde(default = "default_timeout")]
    #[schemars(schema_with = "duration")]
    pub timeout: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    #[serde(default)]
    pub resources: Resources,
    /// The Skill that takes this one's place where a Policy rule says Downgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub downgrade_to: Option<String>,
}

fn default_timeout() -> String {
    "5m".into()
}

/// What a Skill does to the world.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectClass {
    Read,
    Write,
    External,
    Irreversible,
}

impl EffectClass {
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
    pub name: BuiltinName,
    /// For `json_transform`: a jq program that turns the input into the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub program: Option<String>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BuiltinName {
    /// Computes the output with a jq program.
    JsonTransform,
    /// Acknowledges an action and its parameters; it has no effect.
    GenericAction,
}

/// Any image with a command: input on stdin, output on stdout, JSON both.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// By digest: a tag could change after it was signed for.
    #[schemars(length(max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9./:_-]*@sha256:[0-9a-f]{64}$"))]
    pub reference: String,
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

/// Requests and limits alike.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    #[serde(default = "default_cpu")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]+m?$"))]
    pub cpu: String,
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
