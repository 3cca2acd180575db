//! The one way out, with the clients that people have: unchanged, behind the variables that every skill gets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::broker::{Broker, LARGE_CHUNK, LARGE_CHUNKS, Seen, TOGETHER};
use crate::harness::{Attempt, PYTHON, Ran, sha256, wait_for};

fn python(script: &str) -> Attempt {
    Attempt::new(crate::harness::document(&json!({"command": [PYTHON, "-c", script]}), &json!({}), 60, 1 << 20))
}

/// Runs it as in a pod, with a token of its own.
fn reach(broker: &Broker, attempt: Attempt) -> Ran {
    attempt.reaches(broker, "a-token").unprivileged().run()
}

fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn curl_goes_through_unchanged() {
    let broker = Broker::start();
    let script = "curl -sS -H 'Authorization: Bearer mine' -H 'countersign-url: https://elsewhere.test/' \
                  -d '{\"a\":1}' 'https://api.test/v1/x?y=1'; curl -sS http://plain.test:8080/p >&2; \
                  curl -sSk https://127.0.0.1:9/by-address >&2; curl -sS --http2 -I https://api.test:444/head >&2";
    let ran = reach(&broker, Attempt::shell(script));
    assert_eq!(ran.output()["url"], "https://api.test/v1/x?y=1", "{}", ran.log);
    let seen = broker.seen();
    let calls: Vec<_> = seen.iter().map(|seen| (seen.method.as_str(), seen.url.as_str(), seen.bytes)).collect();
    assert_eq!(
        calls,
        [
            ("POST", "https://api.test/v1/x?y=1", 7),
            ("GET", "http://plain.test:8080/p", 0),
            ("GET", "https://127.0.0.1:9/by-address", 0),
            ("HEAD", "https://api.test:444/head", 0)
        ]
    );
    assert_eq!(header(&seen[0], "countersign-authorization"), Some("Bearer mine"));
    assert_eq!(header(&seen[0], "authorization"), Some("Bearer session-of-a-token"));
    assert_eq!(header(&seen[0], "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(header(&seen[1], "proxy-connection"), None);
    assert_eq!(broker.state.sessions.lock().unwrap().as_slice(), [json!({"attempt": "key", "token": "a-token"})]);
    assert!(!ran.log.contains("countersign-price"), "{}", ran.log);
}

#[test]
fn python_goes_through_and_verifies_certificates() {
    let broker = Broker::start();
    let script = r#"
import json, ssl, urllib.request, http.client
answers = [json.load(urllib.request.urlopen(url)) for url in ("https://api.test/urllib", "http://api.test/plain")]
connection = http.client.HTTPSConnection("127.0.0.1", 3128)
connection.set_tunnel("kept.test", 443)
for at in range(3):
    connection.request("PUT", f"/{at}", body=b"x" * at)
    answers.append(json.load(connection.getresponse()))
# Not for another host than the tunnel is to, and not where another authority is trusted.
others = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
others.load_verify_locations("/etc/ssl/certs/ca-certificates.crt")
refused = []
for name, context in (("other.test", ssl.create_default_context()), ("kept.test", others)):
    tunnel = http.client.HTTPConnection("127.0.0.1", 3128)
    tunnel.set_tunnel("kept.test", 443)
    tunnel.connect()
    try:
        context.wrap_socket(tunnel.sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        refused.append(error.verify_message)
print(json.dumps({"urls": [answer["url"] for answer in answers], "refused": refused}))
"#;
    let output = reach(&broker, python(script)).output();
    assert_eq!(
        output["urls"],
        json!([
            "https://api.test/urllib",
            "http://api.test/plain",
            "https://kept.test/0",
            "https://kept.test/1",
            "https://kept.test/2"
        ])
    );
    let refused = output["refused"].as_array().unwrap();
    assert!(refused[0].as_str().unwrap().contains("Hostname mismatch"), "{output}");
    assert!(refused[1].as_str().unwrap().contains("unable to get local issuer certificate"), "{output}");
}

#[test]
fn the_unix_socket_takes_whole_urls_without_tls() {
    let broker = Broker::start();
    let script = r#"
import json, os, socket
urls = []
def ask(request):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(os.environ["COUNTERSIGN_EGRESS_SOCKET"])
    stream.sendall(request.encode())
    answer = stream.makefile("rb").read().split(b"\r\n\r\n", 1)
    return answer[0].split(b"\r\n")[0].decode(), json.loads(answer[1])
def url(target, more=""):
    status, body = ask(f"POST {target} HTTP/1.1\r\n{more}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}")
    return body.get("url", status + " " + body.get("type", ""))
print(json.dumps([url("https://api.test/a", "Host: ignored.test\r\n"), url("smtps://mail.test/"), url("smtp://mail.test:587/"),
    url("/path?q", "Host: origin.test\r\n"), url("/path"), url("*", "Host: origin.test\r\n")]))
"#;
    let output = reach(&broker, python(script)).output();
    assert_eq!(
        output,
        json!([
            "https://api.test/a",
            "smtps://mail.test/",
            "smtp://mail.test:587/",
            "https://origin.test/path?q",
            "HTTP/1.1 400 Bad Request bad-request",
            "HTTP/1.1 400 Bad Request bad-request"
        ])
    );
}

#[test]
fn a_head_has_bounds() {
    let broker = Broker::start();
    let script = r#"
import json, http.client
def status(headers):
    connection = http.client.HTTPConnection("127.0.0.1", 3128)
    connection.request("GET", "http://api.test/", headers=headers)
    return connection.getresponse().status
print(json.dumps([status({f"X-{at}": "1" for at in range(150)}), status({"X": "x" * 100_000}), status({"X": "x" * 50_000})]))
"#;
    assert_eq!(reach(&broker, python(script)).output(), json!([431, 431, 200]));
    assert_eq!(broker.seen().len(), 1);
}

#[test]
fn events_arrive_before_their_stream_ends() {
    let broker = Broker::start();
    // The second event is sent only once the first has been read.
    let script = r#"
import json, urllib.request
events = urllib.request.urlopen("https://events.test/")
first = events.readline()
urllib.request.urlopen("https://release.test/").read()
print(json.dumps([first.decode(), events.read().decode()]))
"#;
    assert_eq!(reach(&broker, python(script)).output(), json!(["data: first\n", "\ndata: second\n\n"]));
}

#[test]
fn large_bodies_are_streamed_both_ways() {
    let broker = Broker::start();
    let script = "down=$(curl -sS https://large.test/ | sha256sum | cut -c 1-64); \
                  head -c 20000000 /dev/zero | curl -sS -T - https://api.test/up >&2; echo \"\\\"$down\\\"\"";
    let output = reach(&broker, Attempt::shell(script)).output();
    assert_eq!(output, sha256(vec![7; LARGE_CHUNK * LARGE_CHUNKS]));
    let up = broker.seen().pop().unwrap();
    assert_eq!((up.bytes, up.sha256), (20_000_000, sha256(vec![0; 20_000_000])));
}

#[test]
fn connections_are_served_side_by_side() {
    let broker = Broker::start();
    // None of them is answered before all have come.
    let script =
        format!("for at in $(seq {TOGETHER}); do curl -sS https://meet.test/ & done | grep -o met | wc -l; wait");
    assert_eq!(reach(&broker, Attempt::shell(&script)).output(), json!(TOGETHER));
}

#[test]
fn a_refusal_says_whose_it_is() {
    let broker = Broker::start();
    let script = "for host in denied gone; do \
                  curl -sS -o /tmp/$$ -w '%{http_code} %header{countersign-refused}\\n' https://$host.test/ >&2; \
                  cat /tmp/$$ >&2; rm /tmp/$$; done; echo 1";
    let ran = reach(&broker, Attempt::shell(script));
    assert_eq!(ran.output(), json!(1));
    for said in
        ["403 egress-denied", "is not in the Skill's egress", "502 broker-unreachable", "lost before it answered"]
    {
        assert!(ran.log.contains(said), "{said}: {}", ran.log);
    }
}

#[test]
fn a_refusal_comes_before_the_whole_body_was_sent() {
    let broker = Broker::start();
    let script = "for at in $(seq 20); do head -c 20000000 /dev/zero \
                  | curl -sS -o /dev/null -w '%{http_code}\\n' -T - https://full.test/ 2>/dev/null; done | sort | uniq -c >&2; echo 1";
    let ran = reach(&broker, Attempt::shell(script));
    assert_eq!(ran.output(), json!(1));
    assert!(ran.log.contains("20 413"), "{}", ran.log);
}

#[test]
fn a_broker_that_went_away_is_told() {
    let broker = Broker::start();
    let mut attempt = Attempt::shell("true");
    let (ready, gone) = (attempt.scratch().join("ready"), attempt.scratch().join("gone"));
    attempt.write(crate::harness::document(
        &crate::harness::shell(&format!(
            "touch {}; until [ -e {} ]; do sleep 0.02; done; curl -sS https://api.test/",
            ready.display(),
            gone.display()
        )),
        &json!({}),
        30,
        65_536,
    ));
    attempt = attempt.reaches(&broker, "a-token").unprivileged();
    let ran = attempt.run_with(attempt.command(), |_| {
        wait_for("the skill", || ready.exists().then_some(()));
        drop(broker);
        std::fs::write(&gone, "").unwrap();
    });
    let said = ran.output();
    assert_eq!((&said["type"], &said["status"]), (&json!("broker-unreachable"), &json!(502)), "{said}");
    assert!(said["detail"].as_str().unwrap().contains("cannot be reached"), "{said}");
}

/// A skill that leaves a mark where it was started.
fn marked(broker: &Broker, token: &str) -> (Attempt, std::path::PathBuf) {
    let attempt = Attempt::shell("true");
    let mark = attempt.scratch().join("started");
    let script = crate::harness::shell(&format!("touch {}", mark.display()));
    attempt.write(crate::harness::document(&script, &json!({}), 30, 65_536));
    (attempt.reaches(broker, token), mark)
}

#[test]
fn a_token_that_somebody_used_starts_nothing() {
    let broker = Broker::start();
    for (token, status, says) in [
        ("mine", "Succeeded", ""),
        ("mine", "BrokerRefused", "somebody else has used this attempt's token"),
        ("unknown", "BrokerRefused", "the token is not known (401 Unauthorized); the skill was not started"),
    ] {
        let (attempt, mark) = marked(&broker, token);
        attempt.run().is(status, says);
        assert_eq!(mark.exists(), status == "Succeeded", "{token}");
    }
}

#[test]
fn a_broker_that_is_not_there_yet_is_waited_for() {
    let broker = Broker::start();
    *broker.state.absent.lock().unwrap() = 3;
    let (attempt, mark) = marked(&broker, "late");
    attempt.run().is("Succeeded", "");
    assert!(mark.exists());
    assert_eq!(*broker.state.absent.lock().unwrap(), 0);
    assert_eq!(broker.state.sessions.lock().unwrap().len(), 1);
}

#[test]
fn a_broker_that_stays_away_or_is_another_starts_nothing() {
    let (broker, other) = (Broker::start(), Broker::start());
    let mut document = broker.document();
    document["ca"] = other.document()["ca"].clone();
    let (attempt, mark) = marked(&broker, "mine");
    let ran = attempt.with("COUNTERSIGN_BROKER", document).run();
    ran.is("SandboxIncomplete", "invalid peer certificate");
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
    assert!(!mark.exists() && broker.state.sessions.lock().unwrap().is_empty());

    let (attempt, mark) = marked(&broker, "mine");
    drop(broker);
    let ran = attempt.run();
    ran.is("SandboxIncomplete", "cannot be reached");
    assert!(ran.took > Duration::from_secs(15) && ran.took < Duration::from_secs(40), "{:?}", ran.took);
    assert!(!mark.exists());
}

#[test]
fn told_to_end_while_it_waits_for_the_broker_it_ends() {
    let broker = Broker::start();
    *broker.state.absent.lock().unwrap() = usize::MAX;
    let (attempt, mark) = marked(&broker, "mine");
    let ran = attempt.run_with(attempt.command(), |pid| {
        let asked = || (*broker.state.absent.lock().unwrap() < usize::MAX).then_some(());
        wait_for("the runner", asked);
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    });
    ran.is("Cancelled", "before the skill was started");
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
    assert!(!mark.exists());
}

#[test]
fn what_opens_doors_is_out_of_reach_and_out_of_the_log() {
    let broker = Broker::start();
    let script = "for file in environ mem maps auxv; do cat /proc/$PPID/$file; done 2>&1 | sort | uniq -c >&2; ls /proc/$PPID/fd >&2; \
         stat -c 'owner %u' /proc/$PPID/mem >&2; env | grep -c 'COUNTERSIGN_TOKEN\\|COUNTERSIGN_BROKER\\|session' >&2; \
         echo told the-token and session-of-the-token >&2; echo 1";
    let ran = Attempt::shell(script).reaches(&broker, "the-token").unprivileged().run();
    assert_eq!(ran.output(), json!(1));
    for file in ["environ", "mem", "maps", "auxv", "fd"] {
        let refused = ran.log.lines().any(|line| line.contains(&format!("/{file}': Permission denied")))
            || ran.log.lines().any(|line| line.contains(&format!("/{file}: Permission denied")));
        assert!(refused, "{file}: {}", ran.log);
    }
    // Nor where there is no Landlock: what cannot be dumped is root's.
    assert!(ran.log.contains("\"owner 0\""), "{}", ran.log);
    assert!(ran.lines().any(|line| line["log"] == "0"), "{}", ran.log);
    assert!(ran.log.contains("told [redacted] and [redacted]"), "{}", ran.log);
    assert!(!ran.log.contains("the-token"), "{}", ran.log);
}

#[test]
fn the_offer_is_named_in_the_environment() {
    let broker = Broker::start();
    let script = "import json, os; print(json.dumps({name: value for name, value in os.environ.items() \
                  if any(part in name.upper() for part in ('PROXY', 'CA', 'CERT', 'COUNTERSIGN'))}))";
    let attempt = python(script).reaches(&broker, "a-token").unprivileged();
    let offer = attempt.scratch().join("egress").display().to_string();
    let env = attempt.run().output();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        assert_eq!(env[name], "http://127.0.0.1:3128", "{name}");
    }
    for name in [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "AWS_CA_BUNDLE",
    ] {
        assert_eq!(env[name], format!("{offer}/ca.pem"), "{name}");
    }
    assert_eq!((&env["NO_PROXY"], &env["no_proxy"]), (&json!(""), &json!("")));
    assert_eq!(env["COUNTERSIGN_EGRESS_SOCKET"], format!("{offer}/egress.sock"));
    let none = python(script).run().output();
    assert!(none["HTTP_PROXY"].is_null() && none["COUNTERSIGN_EGRESS_SOCKET"].is_null(), "{none}");
    let Value::Object(env) = env else { panic!("{env}") };
    let own = |name: &&String| name.starts_with("COUNTERSIGN_") && !name.starts_with("COUNTERSIGN_TEST_");
    let own: Vec<_> = env.keys().filter(own).collect();
    assert_eq!(own, ["COUNTERSIGN_EGRESS_SOCKET"]);
}
