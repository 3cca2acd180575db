//! One message, handed to a mail server through the broker, which logs in there.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use hyper::Method;
use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::http::{Client, JSON_BYTES, json_headers, without_credentials};
use crate::output::sha256;

const MOST_RECIPIENTS: usize = 100;
/// These are made from the input's own fields, or by the servers on the way.
const OURS: [&str; 13] = [
    "bcc",
    "cc",
    "date",
    "dkim-signature",
    "from",
    "message-id",
    "mime-version",
    "received",
    "return-path",
    "sender",
    "subject",
    "to",
    "x-original-to",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    server: MailServer,
    from: Person,
    to: Vec<Person>,
    #[serde(default)]
    cc: Vec<Person>,
    subject: Line,
    text: String,
    html: Option<String>,
    #[serde(default)]
    headers: BTreeMap<Name, Line>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    message_id: String,
    accepted: Vec<String>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct MailServer(Url);

impl TryFrom<String> for MailServer {
    type Error = String;

    fn try_from(text: String) -> Result<MailServer, String> {
        let wrong =
            || format!("{text:?} is not a mail server; write smtps://HOST or smtp://HOST, with :PORT if need be");
        let url = Url::parse(&text).map_err(|_| wrong())?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if !matches!(url.scheme(), "smtps" | "smtp") || !url.has_host() || !bare {
            return Err(wrong());
        }
        without_credentials(url).map(MailServer)
    }
}

/// `a@example.com` or `Name <a@example.com>`.
#[derive(Deserialize)]
#[serde(try_from = "Line")]
struct Person(Mailbox);

impl TryFrom<Line> for Person {
    type Error = String;

    fn try_from(Line(text): Line) -> Result<Person, String> {
        let parsed = text.parse().map_err(|error| format!("{text:?} is not a mail address: {error}"));
        parsed.map(Person)
    }
}

/// Text that cannot become a second header.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Line(String);

impl TryFrom<String> for Line {
    type Error = String;

    fn try_from(text: String) -> Result<Line, String> {
        match text.chars().any(char::is_control) {
            true => Err(format!("{text:?} has a line break or another control character; leave it out")),
            false => Ok(Line(text)),
        }
    }
}

/// Of a header that is the sender's to choose, in lower case.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Name, String> {
        let name = text.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("{text:?} is not a header's name"));
        }
        if OURS.contains(&name.as_str()) || name.starts_with("content-") || name.starts_with("resent-") {
            return Err(format!(
                "{text:?} is not for headers to set; there is a field of the input for it, or nothing"
            ));
        }
        Ok(Name(name))
    }
}

/// What the runner answers for a mail server.
#[derive(Deserialize)]
struct Accepted {
    accepted: Vec<String>,
}

pub async fn run(client: Client, input: Input) -> anyhow::Result<Output> {
    let server = input.server.0.clone();
    let (message_id, message) = compose(input)?;
    let envelope = message.envelope();
    let from = envelope.from().context("a message without a sender")?;
    let text = String::from_utf8(message.formatted()).context("a message that is not text")?;
    let to: Vec<String> = envelope.to().iter().map(ToString::to_string).collect();
    let body = json!({"from": from.to_string(), "to": to, "message": text});
    let answer = client.send(Method::POST, &server, json_headers(), body.to_string()).await?;
    if !answer.status().is_success() {
        return Err(answer.failure().await);
    }
    let Accepted { accepted } = answer.json(JSON_BYTES).await?;
    Ok(Output { message_id, accepted })
}

fn compose(input: Input) -> anyhow::Result<(String, Message)> {
    // The same content has the same Message-ID, by which a repeat is recognised.
    let digest = digest(&input)?;
    let Input { server: _, from: Person(from), to, cc, subject: Line(subject), text, html, headers } = input;
    match to.len() + cc.len() {
        _ if to.is_empty() => bail!("input.to: there is nobody; write at least one address"),
        count if count > MOST_RECIPIENTS => bail!("input.to: {count} recipients are more than {MOST_RECIPIENTS}"),
        _ => {}
    }
    let message_id = format!("<{digest}@{}>", from.email.domain());
    let mut builder = Message::builder().message_id(Some(message_id.clone())).from(from).subject(subject);
    for Person(to) in to {
        builder = builder.to(to);
    }
    for Person(cc) in cc {
        builder = builder.cc(cc);
    }
    for (Name(name), Line(value)) in headers {
        let name = HeaderName::new_from_ascii(name.clone()).map_err(|_| anyhow!("input.headers: {name:?}"))?;
        builder = builder.raw_header(HeaderValue::new(name, value));
    }
    let message = match html {
        None => builder.header(ContentType::TEXT_PLAIN).body(text),
        Some(html) => builder.multipart(
            MultiPart::alternative()
                .boundary(digest)
                .singlepart(SinglePart::plain(text))
                .singlepart(SinglePart::html(html)),
        ),
    };
    Ok((message_id, message.context("the message cannot be built")?))
}

fn digest(input: &Input) -> anyhow::Result<String> {
    let Input { server, from, to, cc, subject, text, html, headers } = input;
    let people = |people: &[Person]| people.iter().map(|Person(person)| person.to_string()).collect::<Vec<_>>();
    let headers: BTreeMap<_, _> = headers.iter().map(|(Name(name), Line(value))| (name, value)).collect();
    let canonical = serde_json_canonicalizer::to_vec(&json!({
        "server": server.0.as_str(), "from": from.0.to_string(), "to": people(to), "cc": people(cc),
        "subject": subject.0, "text": text, "html": html, "headers": headers,
    }))?;
    Ok(sha256(&canonical))
}
