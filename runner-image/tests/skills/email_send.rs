//! `email_send` up to what it hands to the runner; the broker's tests have the mail server.

use serde_json::{Value, json};

use crate::proxy::{Place, Proxy, fixed};
use crate::skill::{Ran, through};

fn accepted() -> Place {
    let body = json!({"accepted": ["b@example.org"], "response": "250 2.0.0 queued"}).to_string();
    fixed(200, &[("content-type", "application/json")], body)
}

fn send(input: &Value) -> (Proxy, Ran) {
    let proxy = Proxy::new(&[("smtps://mail.example.com", accepted()), ("smtp://mail.example.com:587", accepted())]);
    let ran = through(&proxy, "email_send", input);
    (proxy, ran)
}

fn mail(field: &str, value: Value) -> Value {
    let mut input = json!({
        "server": "smtps://mail.example.com", "from": "Watch <a@example.com>", "to": ["b@example.org"],
        "subject": "Balance", "text": "It is low.\n",
    });
    input[field] = value;
    input
}

fn message(proxy: &Proxy) -> String {
    proxy.seen()[0].json()["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_message_goes_out_as_rfc_5322_says() {
    let mut input = mail("cc", json!(["Ünal <c@example.org>"]));
    input["subject"] = json!("Größe");
    input["headers"] = json!({"X-Task": "t-1", "Reply-To": "r@example.com"});
    let (proxy, ran) = send(&input);
    assert_eq!(proxy.lines(), ["POST smtps://mail.example.com/"]);
    let body = proxy.seen()[0].json();
    assert_eq!(body["from"], "a@example.com");
    assert_eq!(body["to"], json!(["b@example.org", "c@example.org"]));
    let id = ran.output()["messageId"].as_str().unwrap().to_owned();
    assert_eq!(ran.output()["accepted"], json!(["b@example.org"]));
    assert!(id.starts_with('<') && id.ends_with("@example.com>") && id.len() == 64 + 14, "{id}");
    let text = message(&proxy);
    let (head, content) = text.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head.split("\r\n").collect();
    for line in [
        format!("Message-ID: {id}").as_str(),
        "From: Watch <a@example.com>",
        "To: b@example.org",
        "Subject: =?utf-8?b?R3LDtsOfZQ==?=",
        "x-task: t-1",
        "reply-to: r@example.com",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(lines.contains(&line), "{line} is not in\n{head}");
    }
    assert!(head.contains("Date: ") && head.contains("<c@example.org>"), "{head}");
    assert_eq!(content, "It is low.\r\n");
    assert!(text.is_ascii());
}

#[test]
fn a_repeat_has_the_same_message_id_and_anything_else_another() {
    let id = |input: &Value| send(input).1.output()["messageId"].as_str().unwrap().to_owned();
    let first = id(&mail("text", json!("It is low.\n")));
    assert_eq!(id(&mail("text", json!("It is low.\n"))), first);
    for (field, value) in [
        ("text", json!("It is lower.\n")),
        ("subject", json!("Other")),
        ("to", json!(["b@example.org", "d@example.org"])),
        ("cc", json!(["d@example.org"])),
        ("from", json!("a2@example.com")),
        ("html", json!("<p>")),
        ("headers", json!({"x-a": "1"})),
        ("server", json!("smtp://mail.example.com:587")),
    ] {
        assert_ne!(id(&mail(field, value)), first, "{field}");
    }
}

#[test]
fn html_goes_beside_the_text() {
    let (proxy, ran) = send(&mail("html", json!("<p>It is lów.</p>")));
    ran.output();
    let text = message(&proxy);
    assert!(text.contains("Content-Type: multipart/alternative;"), "{text}");
    let plain = text.find("Content-Type: text/plain").unwrap();
    assert!(plain < text.find("Content-Type: text/html").unwrap(), "the last one is the preferred one (RFC 2046)");
    assert!(text.is_ascii());
}

#[test]
fn nothing_of_the_input_becomes_a_header_of_its_own() {
    let evil = "x\r\nBcc: victim@example.net";
    let with = |field: &str, value: Value| mail(field, value);
    let table = [
        (
            with("subject", json!(evil)),
            r#"input.subject: "x\r\nBcc: victim@example.net" has a line break or another control character; leave it out"#,
        ),
        (
            with("subject", json!("x\nBcc: v")),
            r#"input.subject: "x\nBcc: v" has a line break or another control character; leave it out"#,
        ),
        (
            with("from", json!("a@example.com\r\nBcc: v@example.net")),
            r#"input.from: "a@example.com\r\nBcc: v@example.net" has a line break or another control character; leave it out"#,
        ),
        (
            with("to", json!(["b@example.org\nBcc: v"])),
            r#"input.to[0]: "b@example.org\nBcc: v" has a line break or another control character; leave it out"#,
        ),
        (
            with("headers", json!({"x-a": evil})),
            r#"input.headers.x-a: "x\r\nBcc: victim@example.net" has a line break or another control character; leave it out"#,
        ),
        (
            with("headers", json!({"x-a: 1\r\nbcc": "v"})),
            r#"input.headers.x-a: 1\r\nbcc: "x-a: 1\r\nbcc" is not a header's name"#,
        ),
        (
            with("headers", json!({"Bcc": "v@example.net"})),
            r#"input.headers.Bcc: "Bcc" is not for headers to set; there is a field of the input for it, or nothing"#,
        ),
        (
            with("headers", json!({"content-type": "text/html"})),
            r#"input.headers.content-type: "content-type" is not for headers to set; there is a field of the input for it, or nothing"#,
        ),
        (
            with("headers", json!({"Message-Id": "<1@a>"})),
            r#"input.headers.Message-Id: "Message-Id" is not for headers to set; there is a field of the input for it, or nothing"#,
        ),
    ];
    for (input, message) in table {
        let (proxy, ran) = send(&input);
        ran.fails(message);
        assert!(proxy.seen().is_empty());
    }
    // In the text it is only text.
    let (proxy, ran) = send(&mail("text", json!("\r\nBcc: victim@example.net\r\n.\r\nQUIT\r\n")));
    ran.output();
    assert!(!message(&proxy).split_once("\r\n\r\n").unwrap().0.contains("victim"));
    assert_eq!(proxy.seen()[0].json()["to"], json!(["b@example.org"]));
}

#[test]
fn wrong_inputs_name_the_field() {
    let server = |text: &str| {
        format!("input.server: {text:?} is not a mail server; write smtps://HOST or smtp://HOST, with :PORT if need be")
    };
    let many: Vec<String> = (0..101).map(|index| format!("b{index}@example.org")).collect();
    let table = [
        (json!({}), "input: missing field `server`".to_owned()),
        (mail("bcc", json!([])), "input.bcc: unknown field `bcc`, expected one of `server`, `from`, `to`, `cc`, `subject`, `text`, `html`, `headers`".to_owned()),
        (mail("server", json!("mail.example.com")), server("mail.example.com")),
        (mail("server", json!("https://mail.example.com")), server("https://mail.example.com")),
        (mail("server", json!("smtps://mail.example.com/inbox")), server("smtps://mail.example.com/inbox")),
        (mail("server", json!("smtps:mail")), server("smtps:mail")),
        (mail("server", json!("smtps://me:pw@mail.example.com")), "input.server: it carries a user or a password; the broker shows credentials, so name the Secret in the Skill's spec.egress[].credential and leave them out here".to_owned()),
        (mail("to", json!([])), "input.to: there is nobody; write at least one address".to_owned()),
        (mail("to", json!(many)), "input.to: 101 recipients are more than 100".to_owned()),
        (mail("to", json!("b@example.org")), "input.to: invalid type: string \"b@example.org\", expected a sequence".to_owned()),
        (mail("from", json!("nobody")), "input.from: \"nobody\" is not a mail address: Invalid input".to_owned()),
    ];
    for (input, message) in table {
        let (proxy, ran) = send(&input);
        ran.fails(&message);
        assert!(proxy.seen().is_empty());
    }
    let proxy = Proxy::new(&[("smtps://mail.example.com", fixed(502, &[], "550 no such user"))]);
    through(&proxy, "email_send", &mail("cc", json!([])))
        .fails("POST smtps://mail.example.com: answered 502 Bad Gateway: 550 no such user");
    through(&Proxy::new(&[]), "email_send", &mail("cc", json!([]))).fails("POST smtps://mail.example.com: the broker refused it (egress-denied): the Skill lists no egress to mail.example.com; add it to spec.egress");
}
