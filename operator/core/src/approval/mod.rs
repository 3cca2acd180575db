//! Signatures: who may give one, when there are enough, and how one that was given is told from one that was
//! merely written down.

mod readable;
mod seal;
mod sign;
mod tally;

pub use readable::readable;
pub use seal::{Seal, SealError};
pub use sign::{Answer, Refused, Signer, may_sign};
pub use tally::{Missing, Tally, is_new, people, tally};

use countersign_crds::{ApprovalScope, ApprovalSpec, Identity, RbacSubject, Required};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::escape::shown;
use crate::time::GoDuration;

/// How long signatures are awaited where no rule says otherwise.
pub const DEFAULT_EXPIRY: GoDuration = GoDuration::from_secs(24 * 60 * 60);

/// What the rules that ask for signatures ask for, all together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenAsk", into = "WrittenAsk")]
pub struct Ask {
    /// Whose signatures it takes.
    pub required: Required,
    /// Whether one signature may be for several steps.
    pub scope: ApprovalScope,
    /// How long the signatures are awaited, from when they are asked for.
    pub expires_after: GoDuration,
}

/// An [`Ask`] as it is written where it is signed for: `required` is how many.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenAsk {
    required: u32,
    groups: Vec<String>,
    service_accounts: Vec<String>,
    excluded: Vec<RbacSubject>,
    scope: ApprovalScope,
    expires_after: GoDuration,
}

impl From<Ask> for WrittenAsk {
    fn from(ask: Ask) -> WrittenAsk {
        let Ask { required, scope, expires_after } = ask;
        let Required { count, groups, service_accounts, excluded } = required;
        WrittenAsk { required: count, groups, service_accounts, excluded, scope, expires_after }
    }
}

impl From<WrittenAsk> for Ask {
    fn from(written: WrittenAsk) -> Ask {
        let WrittenAsk { required, groups, service_accounts, excluded, scope, expires_after } = written;
        Ask { required: Required { count: required, groups, service_accounts, excluded }, scope, expires_after }
    }
}

impl Default for Ask {
    /// One person's signature for one step, within a day.
    fn default() -> Ask {
        let required = Required { count: 1, groups: Vec::new(), service_accounts: Vec::new(), excluded: Vec::new() };
        Ask { required, scope: ApprovalScope::Step, expires_after: DEFAULT_EXPIRY }
    }
}

impl Ask {
    /// The same, but never for more than one step: the step itself asks to be looked at alone.
    pub fn and_for_each_step(self) -> Ask {
        Ask { scope: ApprovalScope::Step, ..self }
    }

    /// Both at once: whatever satisfies it satisfies each of them.
    pub fn and(self, other: &Ask) -> Ask {
        let Ask { required, scope, expires_after } = self;
        let Required { count, mut groups, mut service_accounts, mut excluded } = required;
        groups.extend(other.required.groups.iter().cloned());
        groups.sort();
        groups.dedup();
        service_accounts.retain(|account| other.required.service_accounts.contains(account));
        excluded.extend(other.required.excluded.iter().cloned());
        excluded.sort();
        excluded.dedup();
        Ask {
            required: Required { count: count.max(other.required.count), groups, service_accounts, excluded },
            scope: match (scope, other.scope) {
                (ApprovalScope::Plan, ApprovalScope::Plan) => ApprovalScope::Plan,
                (ApprovalScope::Step, _) | (_, ApprovalScope::Step) => ApprovalScope::Step,
            },
            expires_after: expires_after.min(other.expires_after),
        }
    }
}

/// What an Approval holds a signature against.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What is to be signed: `sha256:` and 64 lower-case hexadecimal digits.
    pub digest: &'a str,
    /// Who asked for the work, and so never signs.
    pub requester: &'a Identity,
    /// Whose signatures it takes.
    pub required: &'a Required,
    /// From when on no signature counts (UTC).
    pub expires_at: Timestamp,
}

impl<'a> Terms<'a> {
    /// Those of an Approval's object.
    pub fn of(spec: &'a ApprovalSpec) -> Terms<'a> {
        Terms {
            digest: &spec.digest,
            requester: &spec.requester,
            required: &spec.required,
            expires_at: spec.expires_at.0,
        }
    }
}

/// The `NAMESPACE/NAME` of a service account's user name; `None` for everybody else.
fn service_account(user: &str) -> Option<String> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(format!("{namespace}/{name}"))
}

/// Whether this signature could count at all: not the requester's, nor that of anybody behind the requester, and of a
/// service account only where it is listed.
fn eligible(terms: &Terms<'_>, signer: Signer<'_>) -> Result<(), Refused> {
    let Required { count: _, groups: _, service_accounts, excluded } = terms.required;
    if signer.user == terms.requester.user {
        return Err(Refused::Requester(shown(signer.user)));
    }
    if excluded.iter().any(|subject| subject.includes(signer.user, signer.groups)) {
        return Err(Refused::BehindRequester(shown(signer.user)));
    }
    match service_account(signer.user).filter(|account| !service_accounts.contains(account)) {
        Some(account) => Err(Refused::ServiceAccount(account)),
        None => Ok(()),
    }
}
