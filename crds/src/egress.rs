//! Where a Skill may go, what it shows there, and what that costs: all of it through the broker.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One destination that the broker lets a Skill reach.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.jsonRpc) || self.jsonRpc.size() == 0 || self.protocol in ['Https', 'Http']")
    .message("jsonRpc goes with protocol Https or Http"))]
#[x_kube(validation = Rule::new("self.protocol in ['Https', 'Http'] || (!has(self.methods) && !has(self.paths))")
    .message("methods and paths go with protocol Https or Http; leave them out"))]
#[x_kube(validation = Rule::new("!has(self.jsonRpc) || self.jsonRpc.size() == 0 || !has(self.methods)")
    .message("jsonRpc means POST of these methods only; leave methods out"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// A host name; `*.` and a domain for every name below it; or an IP address.
    #[schemars(schema_with = "host")]
    pub host: String,
    /// What is spoken there; Https where left out.
    #[serde(default)]
    pub protocol: Protocol,
    /// The protocol's own where left out: 443, 80, 465, 587.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port")]
    pub port: Option<u16>,
    /// GET and HEAD where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub methods: Vec<Method>,
    /// Each whole, or ending in `*` for all that begins so; every path where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256), regex(pattern = r"^/[^*?#\s]*\*?$")))]
    pub paths: Vec<String>,
    /// Only JSON-RPC 2.0 requests of these methods, sent by POST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_./-]+$")))]
    pub json_rpc: Vec<String>,
    /// Address ranges (CIDR) that the host may resolve to although they are not public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 3, max = 49), regex(pattern = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")))]
    pub addresses: Vec<String>,
    /// What the broker shows there; the sandbox never sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
}

impl Egress {
    /// The port, or the protocol's own.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.protocol {
            Protocol::Https => 443,
            Protocol::Http => 80,
            Protocol::Smtps => 465,
            Protocol::Smtp => 587,
        })
    }

    /// The methods that are allowed where it says nothing.
    pub fn methods(&self) -> &[Method] {
        if self.methods.is_empty() { &[Method::Get, Method::Head] } else { &self.methods }
    }
}

/// As people read it before they sign: what it does where, and what it shows there.
impl std::fmt::Display for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let methods = || self.methods().iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
        let (what, scheme) = match self.protocol {
            Protocol::Https | Protocol::Http if !self.json_rpc.is_empty() => {
                (format!("JSON-RPC {}", self.json_rpc.join(", ")), self.protocol.scheme())
            }
            Protocol::Https | Protocol::Http => (methods(), self.protocol.scheme()),
            Protocol::Smtps | Protocol::Smtp => ("mail".to_owned(), self.protocol.scheme()),
        };
        write!(f, "{what} to {scheme}://{}:{}", self.host, self.port())?;
        if !self.paths.is_empty() {
            write!(f, " {}", self.paths.join(" "))?;
        }
        if !self.addresses.is_empty() {
            write!(f, ", also at {}", self.addresses.join(", "))?;
        }
        match &self.credential {
            Some(Credential { secret, key, header: _, username: _, scheme: _ }) => {
                write!(f, ", showing Secret {secret} ({key})")
            }
            None => Ok(()),
        }
    }
}

impl Protocol {
    /// The scheme of its URLs: `https`, `http`, `smtps` or `smtp`.
    pub fn scheme(self) -> &'static str {
        match self {
            Protocol::Https => "https",
            Protocol::Http => "http",
            Protocol::Smtps => "smtps",
            Protocol::Smtp => "smtp",
        }
    }
}

impl Method {
    /// The method as a request line has it, in upper case (RFC 9110).
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// What is spoken with a destination, and how that is protected on its way.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP over TLS (RFC 9110).
    #[default]
    Https,
    /// Without TLS.
    Http,
    /// Mail over TLS from the first byte (RFC 8314).
    Smtps,
    /// Mail that must turn to TLS by STARTTLS (RFC 3207).
    Smtp,
}

/// The methods of RFC 9110 and RFC 5789 that a proxy can judge.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads (RFC 9110).
    Get,
    /// Reads what a GET would, without the content (RFC 9110).
    Head,
    /// Asks what may be asked (RFC 9110).
    Options,
    /// Hands over content, for the destination to do something with (RFC 9110).
    Post,
    /// Puts content in the place of what was there (RFC 9110).
    Put,
    /// Alters a part of what is there (RFC 5789).
    Patch,
    /// Removes what is there (RFC 9110).
    Delete,
}

/// A value of a Secret in the operator's namespace, one of those that the broker was given.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.username) || !has(self.header)")
    .message("username means Basic authentication (RFC 7617), which has a header of its own; leave header out"))]
#[x_kube(validation = Rule::new("self.scheme != 'StandardWebhook' || (!has(self.username) && !has(self.header))")
    .message("scheme StandardWebhook has headers of its own; leave header and username out"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// The name of the Secret, which must be among the chart's `broker.secrets`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub secret: String,
    /// The key in the Secret's `data` under which the value stands.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
    /// The header that carries it; `Authorization: Bearer …` where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
    /// With the value as password: Basic authentication, and for mail the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub username: Option<String>,
    /// How it is shown; `StandardWebhook` has headers of its own.
    #[serde(default)]
    pub scheme: CredentialScheme,
}

/// How a credential is shown.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CredentialScheme {
    /// The value itself.
    #[default]
    Value,
    /// As the key of a signature over the body, as GitHub has it: `x-hub-signature-256: sha256=HEX(HMAC-SHA-256(key,
    /// BODY))`, or the header that is named.
    HmacSha256,
    /// As the key of a signature over the message's id, the time and the body, as <https://www.standardwebhooks.com>
    /// has it: `webhook-signature: v1,BASE64(HMAC-SHA-256(key, "ID.UNIX.BODY"))` and `webhook-timestamp: UNIX`. The
    /// sandbox sends `webhook-id`; the value is `whsec_BASE64`, or the key itself.
    StandardWebhook,
}

/// A narrower list that a Policy holds every Skill to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressLimit {
    /// A host name; `*.` and a domain for every name below it; or an IP address.
    #[schemars(schema_with = "host")]
    pub host: String,
    /// Every method where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub methods: Vec<Method>,
    /// Every path where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256), regex(pattern = r"^/[^*?#\s]*\*?$")))]
    pub paths: Vec<String>,
}

/// What running it costs, in the currency of the budget: decimal strings with at most six places.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cost {
    /// The most that one attempt may cost, which is reserved before it starts; a call that would go beyond is refused.
    /// "0" says that it costs nothing.
    #[schemars(schema_with = "money")]
    pub ceiling: String,
    /// Of each attempt whose pod was let in, whatever it does; part of the ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub per_attempt: Option<String>,
    /// Of each call that leaves the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub per_call: Option<String>,
    /// Of a million tokens that a language model reads; such a call must set `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub per_million_input_tokens: Option<String>,
    /// Of a million tokens that it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub per_million_output_tokens: Option<String>,
}

pub(crate) fn money(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 19, "pattern": "^[0-9]{1,12}(\\.[0-9]{1,6})?$"})
}

fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535})
}

fn host(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": "^((\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*|[0-9a-f:]+(\\.[0-9]+){0,3})$",
    })
}
