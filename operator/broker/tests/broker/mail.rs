//! Mail, handed to a real mail server (Exim) over TLS, or to nobody.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::client::Answered;
use crate::upstream::Upstream;
use crate::world::{ATTEMPT, World};

const NAME: &str = "mail.example";
const PASSWORD: &str = "s3cr3t/value+42";

/// Speaks TLS from the first byte, after STARTTLS, or not at all, each at a port of its own.
struct Exim {
    smtps: u16,
    starttls: u16,
    plain: u16,
    folder: PathBuf,
    _process: Child,
}

impl Exim {
    async fn start(world: &World, certificate_of: &str) -> Exim {
        let folder = world.folder.path().join("exim");
        for part in ["spool", "mail"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        std::fs::set_permissions(folder.join("mail"), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::set_permissions(world.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (certificate, key) = world.authority.issue(&[certificate_of]);
        std::fs::write(folder.join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
        // All three are held until all are known, so that they differ.
        let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [smtps, starttls, plain] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let owner = std::fs::metadata(&folder).unwrap();
        // It delivers as anybody but root.
        let (keeper, group) = if owner.uid() == 0 { (65534, 65534) } else { (owner.uid(), owner.gid()) };
        let configuration = format!(
            "primary_hostname = {NAME}
             exim_user = {uid}
             exim_group = {gid}
             keep_environment =
             spool_directory = {folder}/spool
             log_file_path = {folder}/exim-%s.log
             pid_file_path = {folder}/exim.pid
             local_interfaces = 127.0.0.1
             daemon_smtp_ports = {smtps} : {starttls} : {plain}
             tls_on_connect_ports = {smtps}
             tls_advertise_hosts = ${{if eq{{$received_port}}{{{plain}}}{{}}{{*}}}}
             tls_certificate = {folder}/cert.pem
             tls_privatekey = {folder}/key.pem
             acl_smtp_rcpt = check
             begin acl
             check:
               deny message = no such user as {PASSWORD}
                    local_parts = nobody
               deny message = log in first
                    !authenticated = *
               accept
             begin routers
             all:
               driver = accept
               transport = keep
             begin transports
             keep:
               driver = appendfile
               file = {folder}/mail/inbox
               user = {keeper}
               group = {group}
               envelope_to_add
             begin authenticators
             plain:
               driver = plaintext
               public_name = PLAIN
               server_condition = ${{if and{{{{eq{{$auth2}}{{me}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
               server_set_id = $auth2
            ",
            uid = owner.uid(),
            gid = owner.gid(),
            folder = folder.display(),
        );
        let file = folder.join("exim.conf");
        std::fs::write(
            &file,
            configuration.lines().map(|line| line.trim_start().to_owned() + "\n").collect::<String>(),
        )
        .unwrap();
        let process = Command::new("exim4")
            .arg("-C")
            .arg(&file)
            .arg("-bdf")
            .kill_on_drop(true)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the tests need Exim; apt-get install exim4-daemon-light");
        let listening = async {
            for port in [smtps, starttls, plain] {
                while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), listening).await.expect("Exim listens");
        Exim { smtps, starttls, plain, folder, _process: process }
    }

    /// What was delivered, once this much of it is there.
    async fn inbox(&self, until: &str) -> String {
        let path = self.folder.join("mail/inbox");
        let arrived = async {
            loop {
                let inbox = std::fs::read(&path).unwrap_or_default();
                let inbox = String::from_utf8_lossy(&inbox).into_owned();
                if inbox.contains(until) {
                    return inbox;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("the mail arrives")
    }
}

fn contract(ports: &[(&str, u16)]) -> Value {
    let egress = |(protocol, port): &(&str, u16)| {
        json!({"host": NAME, "protocol": protocol, "port": port, "addresses": ["127.0.0.1/32"],
            "credential": {"secret": "mail", "key": "password", "username": "me"}})
    };
    json!({"effect": "External", "egress": ports.iter().map(egress).collect::<Vec<_>>()})
}

async fn world_with_exim(certificate_of: &str) -> (World, Exim) {
    let world = World::new(json!({"effect": "External"})).await;
    world.names.set(NAME, &[&["127.0.0.1"]]);
    let exim = Exim::start(&world, certificate_of).await;
    let ports = [("Smtps", exim.smtps), ("Smtp", exim.starttls), ("Smtp", exim.plain)];
    world.admit(ATTEMPT, contract(&ports));
    world.secret("mail", "password", &format!("{PASSWORD}\n")).await;
    (world, exim)
}

async fn send(client: &crate::client::Client, scheme: &str, port: u16, to: &str, message: &str) -> Answered {
    let body = json!({"from": "a@x.example", "to": [to], "message": message}).to_string();
    client.post(&format!("{scheme}://{NAME}:{port}/"), body).await
}

#[tokio::test]
async fn a_message_is_delivered_over_tls_with_a_login_that_the_sandbox_never_sees() {
    let (world, exim) = world_with_exim(NAME).await;
    let client = world.client().await;
    for (scheme, port) in [("smtps", exim.smtps), ("smtp", exim.starttls)] {
        let message =
            format!("From: a@x.example\nTo: b@y.example\nSubject: by {scheme}\n\nhello\n.\nMAIL FROM:<c@z.example>\n");
        let answer = send(&client, scheme, port, "b@y.example", &message).await;
        assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(["b@y.example"])), "{}", answer.text());
        assert!(answer.json()["response"].as_str().unwrap().starts_with("250 "), "{}", answer.text());
        let inbox = exim.inbox(&format!("Subject: by {scheme}")).await;
        assert!(
            inbox.contains("Envelope-to: b@y.example") && inbox.contains("hello\n.\nMAIL FROM"),
            "one message: {inbox}"
        );
    }
    for call in world.record.calls() {
        assert_eq!((call.method.as_str(), call.outcome.as_deref(), call.status), ("POST", Some("answered"), Some(250)));
        assert!(call.address.is_some_and(|address| address.starts_with("127.0.0.1:")));
        assert!(call.sent > 0);
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_neither_login_nor_message() {
    let (world, exim) = world_with_exim(NAME).await;
    let client = world.client().await;
    let refused = send(&client, "smtp", exim.plain, "b@y.example", "Subject: x\n\nx").await;
    assert_eq!((refused.status, refused.refused().as_str()), (502, "unreachable"));
    assert!(refused.text().contains("offers no TLS"), "{}", refused.text());
    assert_eq!(world.outcomes(), ["unreachable"]);
    let log = std::fs::read_to_string(exim.folder.join("exim-main.log")).unwrap();
    assert!(!log.contains("a@x.example") && !log.contains("A=plain"), "{log}");
}

#[tokio::test]
async fn a_server_that_says_no_is_quoted_without_the_password() {
    let (world, exim) = world_with_exim(NAME).await;
    let client = world.client().await;
    let rejected = send(&client, "smtps", exim.smtps, "nobody@y.example", "Subject: x\n\nx").await;
    assert_eq!((rejected.status, rejected.refused().as_str()), (502, "mail-rejected"));
    let text = rejected.text();
    assert!(text.contains("[redacted by the broker]") && !text.contains(PASSWORD), "{text}");
    world.secret("mail", "password", "wrong").await;
    let rejected = send(&client, "smtps", exim.smtps, "b@y.example", "Subject: x\n\nx").await;
    assert_eq!(rejected.refused(), "mail-rejected");
    let ends: Vec<_> = world.record.calls().into_iter().map(|call| (call.outcome.unwrap(), call.status)).collect();
    assert_eq!(ends, [("mail-rejected".to_owned(), Some(550)), ("mail-rejected".to_owned(), Some(535))]);
}

#[tokio::test]
async fn a_certificate_of_another_name_gets_nothing() {
    let (world, exim) = world_with_exim("other.example").await;
    let client = world.client().await;
    for (scheme, port) in [("smtps", exim.smtps), ("smtp", exim.starttls)] {
        let refused = send(&client, scheme, port, "b@y.example", "Subject: x\n\nx").await;
        assert_eq!(refused.refused(), "unreachable", "{}", refused.text());
    }
    let log = std::fs::read_to_string(exim.folder.join("exim-main.log")).unwrap();
    assert!(!log.contains("a@x.example") && !log.contains("A=plain"), "{log}");
}

#[tokio::test]
async fn mail_is_judged_like_everything_else() {
    let decoy = Upstream::decoy("127.0.0.2:0".parse().unwrap()).await;
    let port = decoy.address.port();
    let world = World::new(contract(&[("Smtps", port), ("Smtp", port)])).await;
    world.secret("mail", "password", PASSWORD).await;
    let client = world.client().await;
    for answer in [&["127.0.0.2"][..], &["127.0.0.1", "127.0.0.2"], &["::ffff:127.0.0.2"], &["169.254.169.254"]] {
        world.names.set(NAME, &[answer]);
        for scheme in ["smtps", "smtp"] {
            let refused = send(&client, scheme, port, "b@y.example", "x").await;
            assert_eq!(refused.refused(), "address-refused", "{answer:?}");
        }
    }
    assert_eq!(decoy.connections(), 0);
    for (body, reason) in [
        ("", "bad-request"),
        ("{}", "bad-request"),
        (r#"{"from":"a@x.example\r\nDATA","to":["b@y.example"],"message":""}"#, "bad-request"),
    ] {
        assert_eq!(client.post(&format!("smtps://{NAME}:{port}/"), body).await.refused(), reason, "{body}");
    }
    assert_eq!(client.get(&format!("smtps://{NAME}:{port}/")).await.refused(), "egress-denied");
    assert_eq!(send(&client, "smtps", port + 1, "b@y.example", "x").await.refused(), "egress-denied");
}
