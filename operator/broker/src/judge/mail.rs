//! One message for a mail server, as a sandbox hands it over.

use countersign_core::json::strict;
use lettre::Address;
use lettre::address::Envelope;
use serde::Deserialize;
use thiserror::Error;

/// Recipients of one message.
const MOST: usize = 100;

#[derive(Debug)]
pub struct Mail {
    pub envelope: Envelope,
    pub message: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MailError {
    #[error("the body must be {{\"from\": \"a@x\", \"to\": [\"b@y\"], \"message\": \"RFC 5322 text\"}}: {0}")]
    Shape(String),
    #[error("{0:?} is not a mail address")]
    Address(String),
    #[error("a message goes to 1 to {MOST} recipients")]
    Recipients,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    from: String,
    to: Vec<String>,
    message: String,
}

impl Mail {
    pub fn parse(body: &[u8]) -> Result<Mail, MailError> {
        let value = strict::parse(body).map_err(|error| MailError::Shape(error.to_string()))?;
        let Body { from, to, message } =
            serde_json::from_value(value).map_err(|error| MailError::Shape(error.to_string()))?;
        if !(1..=MOST).contains(&to.len()) {
            return Err(MailError::Recipients);
        }
        let to = to.iter().map(|to| address(to)).collect::<Result<Vec<_>, _>>()?;
        let envelope = Envelope::new(Some(address(&from)?), to).map_err(|_| MailError::Recipients)?;
        Ok(Mail { envelope, message: lines(&message).into_bytes() })
    }
}

fn address(text: &str) -> Result<Address, MailError> {
    let wrong = || MailError::Address(text.to_owned());
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// Every line ends as RFC 5322 says, so that no server finds the end of the message where another does not.
fn lines(message: &str) -> String {
    message.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_has_one_sender_and_recipients() {
        let body = json!({"from": "a@x.example", "to": ["b@y.example"], "message": "Subject: x\n\n.\r.\r\nend"});
        let mail = Mail::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(mail.envelope.from().unwrap().to_string(), "a@x.example");
        assert_eq!(mail.message, b"Subject: x\r\n\r\n.\r\n.\r\nend");
    }

    #[test]
    fn what_could_inject_a_command_is_refused() {
        let many: Vec<String> = (0..=MOST).map(|n| format!("b{n}@y.example")).collect();
        for (from, to) in [
            ("a@x.example\r\nRCPT TO:<z@z.example>", json!(["b@y.example"])),
            ("a@x.example", json!(["b@y.example>\r\nDATA"])),
            ("a@x.example", json!(["b@y.example\n"])),
            ("a@x.example> SIZE=1", json!(["b@y.example"])),
            ("a", json!(["b@y.example"])),
            ("", json!(["b@y.example"])),
            ("a@x.example", json!([])),
            ("a@x.example", json!(many)),
            ("a@x.example", json!("b@y.example")),
        ] {
            let body = json!({"from": from, "to": to, "message": ""});
            assert!(Mail::parse(body.to_string().as_bytes()).is_err(), "{body}");
        }
        for body in ["", "[]", r#"{"from":"a@x.example","from":"b@x.example","to":["b@y.example"],"message":""}"#] {
            assert!(Mail::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
