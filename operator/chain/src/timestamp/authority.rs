//! An authority as a network: whatever is to be seen by everybody, it stamps.

use alloy_primitives::hex;
use aws_lc_rs::digest;
use countersign_service::causes::told;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, StatusCode, Url};

use super::answer::{self, AnswerError};
use super::chain::Roots;
use super::wire::{Imprint, Request};
use crate::network::{Network, Polled, Receipt, Submission, Trouble, Work};

/// Of an answer, in bytes.
const MOST: usize = 64 * 1024;
const QUERY: &str = "application/timestamp-query";
const REPLY: &str = "application/timestamp-reply";

#[derive(Clone, Debug)]
pub struct Settings {
    /// HTTP will do, as what is signed is checked and bound to the request.
    pub url: Url,
    /// By which it has to work; `None` if by any.
    pub policy: Option<ObjectIdentifier>,
    pub roots: Roots,
}

pub struct Authority {
    settings: Settings,
    client: Client,
}

impl Authority {
    /// The client has its timeouts already.
    pub fn new(settings: Settings, client: Client) -> Authority {
        Authority { settings, client }
    }

    async fn ask(&self, body: &[u8]) -> Result<Vec<u8>, AnswerError> {
        // The address may hold a key.
        let unreachable = |error: reqwest::Error| AnswerError::Unreachable(told(&error.without_url()));
        let request = self.client.post(self.settings.url.clone()).header(CONTENT_TYPE, QUERY).header(ACCEPT, REPLY);
        let mut response = request.body(body.to_vec()).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(AnswerError::Status(response.status()));
        }
        let kind = response.headers().get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()));
        let kind = kind.unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(REPLY) {
            return Err(AnswerError::ContentType(essence.chars().take(100).collect()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if answer.len() + chunk.len() > MOST {
                return Err(AnswerError::TooLarge(MOST));
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

fn digest_of(work: &Work) -> Result<&[u8; 32], Trouble> {
    match work {
        Work::Anchor(digest) => Ok(digest),
        Work::Pay(_) => Err(Trouble::Permanent("a time stamp authority pays nobody".to_owned())),
    }
}

impl Network for Authority {
    fn account(&self) -> Option<String> {
        None
    }

    async fn next_nonce(&self) -> Result<u64, Trouble> {
        Err(Trouble::Permanent("a time stamp authority counts no nonces".to_owned()))
    }

    /// Nobody can know: an authority keeps no record that it could be asked for.
    async fn done(&self, work: &Work) -> Result<Option<Receipt>, Trouble> {
        digest_of(work).map(|_| None)
    }

    /// Always a request of its own: nothing is replaced, and a stamp may be asked for twice.
    async fn prepare(
        &self,
        work: &Work,
        _nonce: Option<u64>,
        _before: &[Submission],
        now: Timestamp,
    ) -> Result<Submission, Trouble> {
        let imprint = Imprint::of(digest_of(work)?);
        let nonce = getrandom::u64().map_err(|error| Trouble::Unavailable(format!("no randomness: {error}")))?;
        let encode = |imprint| Request { version: 1, imprint, policy: self.settings.policy, nonce, certificates: true };
        let body = imprint.and_then(|imprint| encode(imprint).to_der());
        let body = body.map_err(|error| Trouble::Permanent(format!("the request cannot be written: {error}")))?;
        let transaction = hex::encode(digest::digest(&digest::SHA256, &body));
        Ok(Submission { body, transaction, nonce: None, max_fee: None, tip: None, place: None, at: now })
    }

    /// Whatever the answer, it is final: a stamp that holds, or none.
    async fn submit(&self, submission: &Submission) -> Result<Option<Receipt>, Trouble> {
        let request = Request::from_der(&submission.body)
            .map_err(|error| Trouble::Permanent(format!("what was kept is no request for a time stamp: {error}")))?;
        let answer = self.ask(&submission.body).await?;
        let (stamp, token) = answer::read(&answer, &request, &self.settings.roots).map_err(Trouble::from)?;
        Ok(Some(Receipt { transaction: stamp.serial, place: None, at: stamp.time, fee: None, evidence: token }))
    }

    /// What was not received is asked for again.
    async fn poll(&self, work: &Work, _submissions: &[Submission], _now: Timestamp) -> Result<Polled, Trouble> {
        digest_of(work).map(|_| Polled::Missing)
    }
}
