//! Whether a call is in the Skill's egress, within every Policy's limit, and of the Skill's effect class.

use std::net::IpAddr;

use countersign_core::record::Launch;
use countersign_crds::{EffectClass, Egress, EgressLimit, Method};
use thiserror::Error;

use super::rpc::{self, RpcError};
use super::target::{Target, TargetHost};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub target: &'a Target,
    /// As it stands in the request.
    pub method: &'a str,
    /// `None` while it has not been read.
    pub body: Option<&'a [u8]>,
}

/// What the first look says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// By this entry of the egress.
    Allowed(&'a Egress),
    /// It depends on the body, which must be read first.
    NeedsBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    #[error("Skill {skill} has no egress to host {host}; add an entry with host: {host} to its spec.egress")]
    Host { skill: String, host: String },
    #[error("Skill {skill} may not speak {scheme} to {host}; add an entry with that protocol to its spec.egress")]
    Protocol { skill: String, host: String, scheme: &'static str },
    #[error("Skill {skill} may not use port {port} of {host}; add an entry with port: {port} to its spec.egress")]
    Port { skill: String, host: String, port: u16 },
    #[error("Skill {skill} may not reach path {path} of {host}; add it to paths of that entry of its spec.egress")]
    Path { skill: String, host: String, path: String },
    #[error("path {path} of {host} could mean two things: {why}; write it plainly")]
    DoubtfulPath { host: String, path: String, why: &'static str },
    #[error("Skill {skill} may not send {method} to {host}; add it to methods of that entry of its spec.egress")]
    Method { skill: String, host: String, method: String },
    #[error(
        "Skill {skill} may not call JSON-RPC method {method:?} of {host}; add it to jsonRpc of that entry of its spec.egress"
    )]
    RpcMethod { skill: String, host: String, method: String },
    #[error("Skill {skill} may send only JSON-RPC to {host}: {error}")]
    Rpc { skill: String, host: String, error: RpcError },
    #[error(
        "Skill {skill} is of effect Read and may not {what}; give it another effect, for which people may have to sign"
    )]
    Effect { skill: String, what: String },
    #[error("a Policy does not let Skills {method} {url}; add it to the egress that each of the Policies allows")]
    Policy { method: String, url: String },
}

/// The judgement of everything but the address, which is known only after the name was resolved.
pub fn allow<'a>(launch: &'a Launch, asked: &Asked<'_>) -> Result<Verdict<'a>, Denied> {
    let Launch { skill, contract, limits, .. } = launch;
    let mut best: Option<(u8, Denied)> = None;
    for egress in &contract.egress {
        match entry(skill, egress, asked) {
            Ok(verdict) => {
                effect(skill, contract.effect, egress, asked)?;
                limited(limits, asked)?;
                return Ok(verdict);
            }
            // Of several entries the one that came nearest says what is missing.
            Err(denied) if best.as_ref().is_none_or(|(depth, _)| denied.depth() > *depth) => {
                best = Some((denied.depth(), denied));
            }
            Err(_) => {}
        }
    }
    let nowhere = || Denied::Host { skill: skill.clone(), host: asked.target.host.to_string() };
    Err(best.map_or_else(nowhere, |(_, denied)| denied))
}

fn entry<'a>(skill: &str, egress: &'a Egress, asked: &Asked<'_>) -> Result<Verdict<'a>, Denied> {
    let Asked { target, method, body } = *asked;
    let (skill, host) = (skill.to_owned(), target.host.to_string());
    if !is_host(&egress.host, &target.host) {
        return Err(Denied::Host { skill, host });
    }
    if egress.protocol != target.protocol {
        return Err(Denied::Protocol { skill, host, scheme: target.protocol.scheme() });
    }
    if egress.port() != target.port {
        return Err(Denied::Port { skill, host, port: target.port });
    }
    if !target.path.is_listed(&egress.paths) {
        return Err(no_path(skill, target));
    }
    if target.is_mail() || !egress.json_rpc.is_empty() {
        if method != Method::Post.as_str() {
            return Err(Denied::Method { skill, host, method: method.to_owned() });
        }
    } else if !is_method(egress.methods(), method) {
        return Err(Denied::Method { skill, host, method: method.to_owned() });
    }
    if egress.json_rpc.is_empty() {
        return Ok(Verdict::Allowed(egress));
    }
    let Some(body) = body else { return Ok(Verdict::NeedsBody) };
    let called = rpc::methods(body).map_err(|error| Denied::Rpc { skill: skill.clone(), host: host.clone(), error })?;
    match called.into_iter().find(|method| !egress.json_rpc.contains(method)) {
        Some(method) => Err(Denied::RpcMethod { skill, host, method }),
        None => Ok(Verdict::Allowed(egress)),
    }
}

fn no_path(skill: String, target: &Target) -> Denied {
    let (host, path) = (target.host.to_string(), target.path.as_str().to_owned());
    match target.path.doubt() {
        Some(doubt) => Denied::DoubtfulPath { host, path, why: doubt.as_str() },
        None => Denied::Path { skill, host, path },
    }
}

/// The effect class once more, whatever let the Skill itself in.
fn effect(skill: &str, class: EffectClass, egress: &Egress, asked: &Asked<'_>) -> Result<(), Denied> {
    match class {
        EffectClass::Write | EffectClass::External | EffectClass::Irreversible => return Ok(()),
        EffectClass::Read => {}
    }
    let denied = |what: String| Err(Denied::Effect { skill: skill.to_owned(), what });
    if asked.target.is_mail() {
        return denied("send mail".to_owned());
    }
    if egress.json_rpc.is_empty() {
        let reads = [Method::Get, Method::Head, Method::Options];
        return if is_method(&reads, asked.method) { Ok(()) } else { denied(format!("send {}", asked.method)) };
    }
    // A body that was not read yet comes by here again.
    let Some(called) = asked.body.and_then(|body| rpc::methods(body).ok()) else { return Ok(()) };
    match called.iter().find(|method| !rpc::READ_ONLY.contains(&method.as_str())) {
        Some(method) => denied(format!("call JSON-RPC method {method:?}")),
        None => Ok(()),
    }
}

/// Every Policy that has a list must let it through.
fn limited(limits: &[Vec<EgressLimit>], asked: &Asked<'_>) -> Result<(), Denied> {
    let target = asked.target;
    let lets = |limit: &EgressLimit| {
        let EgressLimit { host, methods, paths } = limit;
        // Mail has neither method nor path, so what names some means something else.
        let method = methods.is_empty() || (!target.is_mail() && is_method(methods, asked.method));
        let path = paths.is_empty() || (!target.is_mail() && target.path.is_listed(paths));
        is_host(host, &target.host) && method && path
    };
    if limits.iter().all(|policy| policy.iter().any(lets)) {
        return Ok(());
    }
    Err(Denied::Policy { method: asked.method.to_owned(), url: target.recorded() })
}

/// Names by themselves or below `*.`; addresses only where they are listed as such, as bits and not as text.
fn is_host(pattern: &str, host: &TargetHost) -> bool {
    match host {
        TargetHost::Address(address) => pattern.parse::<IpAddr>().is_ok_and(|listed| listed == *address),
        TargetHost::Name(name) => match pattern.strip_prefix("*.") {
            Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => name == pattern,
        },
    }
}

fn is_method(list: &[Method], method: &str) -> bool {
    list.iter().any(|listed| listed.as_str() == method)
}

impl Denied {
    /// How much of the call was well before this was not.
    fn depth(&self) -> u8 {
        match self {
            Denied::Host { .. } => 0,
            Denied::Protocol { .. } => 1,
            Denied::Port { .. } => 2,
            Denied::Path { .. } | Denied::DoubtfulPath { .. } => 3,
            Denied::Method { .. } => 4,
            Denied::Rpc { .. } | Denied::RpcMethod { .. } => 5,
            Denied::Effect { .. } | Denied::Policy { .. } => 6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::launch;
    use serde_json::{Value, json};

    fn judge(contract: Value, limits: Value, method: &str, url: &str, body: Option<&str>) -> String {
        let launch = launch(contract, limits);
        let target = Target::parse(url.as_bytes()).unwrap();
        let asked = Asked { target: &target, method, body: body.map(str::as_bytes) };
        match allow(&launch, &asked) {
            Ok(Verdict::Allowed(egress)) => format!("by {}", egress.host),
            Ok(Verdict::NeedsBody) => "needs body".to_owned(),
            Err(denied) => format!("{denied:?}").split([' ', '{']).next().unwrap().to_owned(),
        }
    }

    #[test]
    fn hosts_protocols_ports_paths_and_methods() {
        let contract = json!({"effect": "External", "egress": [
            {"host": "api.example", "methods": ["GET", "POST"], "paths": ["/v1/*"]},
            {"host": "*.wild.example"},
            {"host": "10.0.0.1", "protocol": "Http", "port": 8080},
            {"host": "2001:db8::1"},
            {"host": "mail.example", "protocol": "Smtp"},
        ]});
        for (method, url, expected) in [
            ("GET", "https://api.example/v1/x", "by api.example"),
            ("POST", "https://API.example:443/v1/", "by api.example"),
            ("GET", "https://api.example/v1/x?url=https://evil.example/", "by api.example"),
            ("PUT", "https://api.example/v1/x", "Method"),
            ("get", "https://api.example/v1/x", "Method"),
            ("TRACE", "https://api.example/v1/x", "Method"),
            ("CONNECT", "https://api.example/v1/x", "Method"),
            ("GET", "https://api.example/v2", "Path"),
            ("GET", "https://api.example/", "Path"),
            ("GET", "https://api.example/v1/../admin", "DoubtfulPath"),
            ("GET", "https://api.example/v1/%2e%2e/admin", "DoubtfulPath"),
            ("GET", "https://api.example/v1/..%2fadmin", "DoubtfulPath"),
            ("GET", "https://api.example:8443/v1/x", "Port"),
            ("GET", "http://api.example/v1/x", "Protocol"),
            ("GET", "http://api.example:443/v1/x", "Protocol"),
            ("GET", "https://api.example.evil.example/v1/x", "Host"),
            ("GET", "https://evil-api.example/v1/x", "Host"),
            ("GET", "https://api.example./v1/x", "Host"),
            ("GET", "https://evil.example/?api.example/v1/x", "Host"),
            ("GET", "https://evil.example/#api.example/v1/x", "Host"),
            ("GET", "https://a.wild.example/", "by *.wild.example"),
            ("HEAD", "https://a.b.wild.example/any/..%2fpath", "by *.wild.example"),
            ("POST", "https://a.wild.example/", "Method"),
            ("GET", "https://wild.example/", "Host"),
            ("GET", "https://.wild.example/", "Host"),
            ("GET", "https://evilwild.example/", "Host"),
            ("GET", "http://10.0.0.1:8080/", "by 10.0.0.1"),
            ("GET", "http://0xa000001:8080/", "by 10.0.0.1"),
            ("GET", "http://167772161:8080/", "by 10.0.0.1"),
            ("GET", "http://10.0.0.2:8080/", "Host"),
            ("GET", "http://[::ffff:10.0.0.1]:8080/", "Host"),
            ("GET", "https://10.0.0.1:8080/", "Protocol"),
            ("GET", "https://[2001:db8:0:0::1]/", "by 2001:db8::1"),
            ("GET", "https://[2001:db8::2]/", "Host"),
            ("POST", "smtp://mail.example/", "by mail.example"),
            ("POST", "smtp://mail.example:25/", "Port"),
            ("POST", "smtps://mail.example:587/", "Protocol"),
            ("GET", "smtp://mail.example/", "Method"),
            ("GET", "https://mail.example:587/", "Protocol"),
            ("GET", "https://127.0.0.1/", "Host"),
            ("GET", "https://localhost/", "Host"),
            ("GET", "https://169.254.169.254/latest/meta-data/", "Host"),
        ] {
            assert_eq!(judge(contract.clone(), json!([]), method, url, None), expected, "{method} {url}");
        }
        assert_eq!(judge(json!({"effect": "Write"}), json!([]), "GET", "https://a.example/", None), "Host");
    }

    #[test]
    fn a_pattern_never_holds_an_address() {
        for pattern in ["*.0.0.1", "*.1", "*", "*.", "127.0.0.*"] {
            let contract = json!({"effect": "Write", "egress": [{"host": pattern}]});
            assert_eq!(judge(contract, json!([]), "GET", "https://127.0.0.1/", None), "Host", "{pattern}");
        }
    }

    #[test]
    fn json_rpc_is_judged_by_its_methods() {
        let contract = json!({"effect": "External", "egress": [
            {"host": "node.example", "jsonRpc": ["eth_call", "eth_getBalance"]},
            {"host": "node.example", "jsonRpc": ["eth_sendRawTransaction"], "paths": ["/send"]},
        ]});
        let call = |method: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        let (read, send) = (call("eth_call"), call("eth_sendRawTransaction"));
        let both = format!("[{read},{send}]");
        let twice = format!("[{read},{}]", call("eth_getBalance"));
        for (method, path, body, expected) in [
            ("POST", "", None, "needs body"),
            ("POST", "", Some(read.as_str()), "by node.example"),
            ("POST", "", Some(twice.as_str()), "by node.example"),
            ("POST", "", Some(send.as_str()), "RpcMethod"),
            ("POST", "", Some(both.as_str()), "RpcMethod"),
            ("POST", "send", Some(send.as_str()), "by node.example"),
            ("POST", "send", Some(both.as_str()), "RpcMethod"),
            ("POST", "", Some("eth_call"), "Rpc"),
            ("GET", "", Some(read.as_str()), "Method"),
            ("PUT", "", Some(read.as_str()), "Method"),
        ] {
            let url = format!("https://node.example/{path}");
            let found = judge(contract.clone(), json!([]), method, &url, body);
            assert_eq!(found, expected, "{method} {path} {body:?}");
        }
    }

    #[test]
    fn a_skill_that_reads_only_reads_whatever_its_egress_says() {
        let contract = json!({"effect": "Read", "egress": [
            {"host": "a.example", "methods": ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "PUT", "PATCH"]},
            {"host": "node.example", "jsonRpc": ["eth_call", "eth_sendRawTransaction"]},
            {"host": "mail.example", "protocol": "Smtps"},
        ]});
        let call = |method: &str| Some(format!(r#"[{{"jsonrpc":"2.0","method":"{method}"}}]"#));
        for (method, url, body, expected) in [
            ("GET", "https://a.example/", None, "by a.example"),
            ("HEAD", "https://a.example/", None, "by a.example"),
            ("OPTIONS", "https://a.example/", None, "by a.example"),
            ("POST", "https://a.example/", None, "Effect"),
            ("DELETE", "https://a.example/", None, "Effect"),
            ("PUT", "https://a.example/", None, "Effect"),
            ("PATCH", "https://a.example/", None, "Effect"),
            ("POST", "https://node.example/", None, "needs body"),
            ("POST", "https://node.example/", call("eth_call"), "by node.example"),
            ("POST", "https://node.example/", call("eth_sendRawTransaction"), "Effect"),
            ("POST", "smtps://mail.example/", None, "Effect"),
        ] {
            let found = judge(contract.clone(), json!([]), method, url, body.as_deref());
            assert_eq!(found, expected, "{method} {url} {body:?}");
        }
    }

    #[test]
    fn every_policy_must_let_it_through() {
        let contract = json!({"effect": "External", "egress": [
            {"host": "*.example", "methods": ["GET", "POST"]}, {"host": "mail.example", "protocol": "Smtps"},
            {"host": "mail.other", "protocol": "Smtps"}, {"host": "mail.paths", "protocol": "Smtps"},
        ]});
        let limits = json!([
            [{"host": "*.example"}, {"host": "mail.other", "methods": ["POST"]}, {"host": "mail.paths", "paths": ["/*"]}],
            [{"host": "a.example", "methods": ["GET"], "paths": ["/ok/*"]}, {"host": "b.example"},
             {"host": "mail.example"}, {"host": "mail.other"}, {"host": "mail.paths"}],
        ]);
        for (method, url, expected) in [
            ("GET", "https://a.example/ok/1", "by *.example"),
            ("GET", "https://a.example/ok/..%2f1", "Policy"),
            ("GET", "https://a.example/no", "Policy"),
            ("POST", "https://a.example/ok/1", "Policy"),
            ("POST", "https://b.example/x", "by *.example"),
            ("GET", "https://c.example/", "Policy"),
            ("POST", "smtps://mail.example/", "by mail.example"),
            ("POST", "smtps://mail.other/", "Policy"),
            ("POST", "smtps://mail.paths/", "Policy"),
        ] {
            assert_eq!(judge(contract.clone(), limits.clone(), method, url, None), expected, "{method} {url}");
        }
        let nothing = judge(contract, json!([[]]), "GET", "https://b.example/", None);
        assert_eq!(nothing, "Policy", "an empty list allows nothing");
    }

    #[test]
    fn a_refusal_says_what_to_add() {
        let contract = json!({"effect": "Write", "egress": [{"host": "a.example", "paths": ["/x"]}]});
        let launch = launch(contract, json!([]));
        let target = Target::parse(b"https://a.example/y").unwrap();
        let denied = allow(&launch, &Asked { target: &target, method: "GET", body: None }).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "Skill caller may not reach path /y of a.example; add it to paths of that entry of its spec.egress"
        );
    }
}
