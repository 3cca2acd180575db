//! What an authority answers.

use der::{Decode, Encode};
use reqwest::StatusCode;
use thiserror::Error;

use super::chain::Roots;
use super::verify::{self, Stamp, StampError};
use super::wire::{Request, Response, Status};
use crate::network::Trouble;

/// PKIFailureInfo, as far as RFC 3161, section 2.4.2, has it: the bit, what it says, and whether that stays so for the
/// same request.
const FAILURES: [(usize, &str, bool); 8] = [
    (0, "the digest's algorithm is not known there", true),
    (2, "the request is not permitted or supported there", true),
    (5, "the request has the wrong format", true),
    (14, "its clock is not available", false),
    (15, "the policy is not offered there", true),
    (16, "an extension is not known there", true),
    (17, "what was asked for in addition is not available", false),
    (25, "it has failed inside", false),
];

/// What is quoted of an authority's own words, in characters.
const QUOTED: usize = 200;

/// Why an answer is no stamp.
#[derive(Debug, Error)]
pub(super) enum AnswerError {
    #[error("the time stamp authority cannot be reached: {0}")]
    Unreachable(String),
    #[error("the time stamp authority answers {0}")]
    Status(StatusCode),
    #[error("the time stamp authority answers with {0:?}, not application/timestamp-reply")]
    ContentType(String),
    #[error("the time stamp authority's answer is longer than {0} bytes")]
    TooLarge(usize),
    #[error("the time stamp authority's answer cannot be read: {0}")]
    Der(#[from] der::Error),
    #[error("the time stamp authority grants a stamp, but gives none")]
    NoToken,
    #[error("the time stamp authority refuses (status {status}): {}", .why.join("; "))]
    Refused { status: u8, why: Vec<String>, lasting: bool },
    #[error("the time stamp authority's stamp does not hold: {0}")]
    Stamp(#[from] StampError),
    #[error("the time stamp authority's stamp is the answer to another request")]
    Nonce,
    #[error("the time stamp authority's stamp is by another policy: {0}")]
    Policy(der::asn1::ObjectIdentifier),
}

impl From<AnswerError> for Trouble {
    fn from(error: AnswerError) -> Trouble {
        let said = error.to_string();
        match error {
            AnswerError::Refused { status: _, why: _, lasting: true } => Trouble::Permanent(said),
            AnswerError::Refused { status: _, why: _, lasting: false }
            | AnswerError::Unreachable(_)
            | AnswerError::Status(_)
            | AnswerError::ContentType(_)
            | AnswerError::TooLarge(_)
            | AnswerError::Der(_)
            | AnswerError::NoToken
            | AnswerError::Stamp(_)
            | AnswerError::Nonce
            | AnswerError::Policy(_) => Trouble::Unavailable(said),
        }
    }
}

/// The stamp in the answer (a TimeStampResp) to a request, and its token.
pub(super) fn read(answer: &[u8], request: &Request, roots: &Roots) -> Result<(Stamp, Vec<u8>), AnswerError> {
    let Response { status, token } = Response::from_der(answer)?;
    // granted, grantedWithMods: which modifications there are is seen below.
    if !matches!(status.status, 0 | 1) {
        return Err(refusal(status));
    }
    let token = token.ok_or(AnswerError::NoToken)?.to_der()?;
    let Request { version: _, imprint, policy, nonce, certificates: _ } = request;
    let digest = imprint.sha256().ok_or(StampError::Digest)?;
    let (stamp, of) = verify::read(&token, &digest, roots)?;
    if of != Some(*nonce) {
        return Err(AnswerError::Nonce);
    }
    if policy.is_some_and(|policy| policy != stamp.policy) {
        return Err(AnswerError::Policy(stamp.policy));
    }
    Ok((stamp, token))
}

fn refusal(status: Status) -> AnswerError {
    let Status { status, text, failure } = status;
    let set: Vec<usize> = failure
        .iter()
        .flat_map(|failure| failure.bits().enumerate())
        .filter_map(|(bit, set)| set.then_some(bit))
        .collect();
    let known = |bit: &usize| FAILURES.iter().find(|(known, _, _)| known == bit);
    let mut why: Vec<String> = set
        .iter()
        .map(|bit| known(bit).map_or_else(|| format!("failure {bit}"), |(_, said, _)| (*said).to_owned()))
        .collect();
    // Escaped, as it is somebody else's.
    let quote = |text: String| format!("{:?}", text.chars().take(QUOTED).collect::<String>());
    why.extend(text.into_iter().flatten().take(4).map(quote));
    if why.is_empty() {
        why.push("it does not say why".to_owned());
    }
    AnswerError::Refused { status, why, lasting: set.iter().filter_map(known).any(|(_, _, lasting)| *lasting) }
}
