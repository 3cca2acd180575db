//! What an ended pod came to, and whether to try again.

use std::sync::Arc;
use std::time::Duration;

use countersign_crds::{Retry, Step};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::json::{canonical, strict};
use crate::observed::{PodEnd, Report, ReportOutput, ReportStatus};
use crate::record::{
    AttemptOutcome, AttemptRecord, AttemptState, Evidence, Launch, Output, OutputReference, StepRecord,
};
use crate::sandbox::OUTPUT_LIMIT_BYTES;
use crate::schema::Schema;
use crate::time::GoDuration;

pub(super) struct Result {
    pub outcome: AttemptOutcome,
    pub message: Option<String>,
    pub output: Option<Output>,
    pub evidence: Option<Box<Evidence>>,
    pub workspace: Option<Digest>,
    /// Why its step fails for it, where that is more than that the attempt failed.
    pub reason: Option<&'static str>,
}

/// An output that cannot be kept, whether the runner finds that or we do.
const OUTPUT_INVALID: &str = "OutputInvalid";

impl Result {
    pub fn failed(outcome: AttemptOutcome, message: impl Into<String>) -> Result {
        Result { outcome, message: Some(message.into()), output: None, evidence: None, workspace: None, reason: None }
    }
}

/// Reads the runner's report; without one, Kubernetes' own words.
pub(super) fn examine(key: &str, launch: &Launch, end: &PodEnd) -> Result {
    let Some(report) = &end.report else {
        let outcome = match end.reason.as_str() {
            "DeadlineExceeded" => AttemptOutcome::TimedOut,
            _ => AttemptOutcome::Failed,
        };
        return Result::failed(outcome, format!("the runner left no report: {}", end.reason));
    };
    let Report { version, attempt, status, message, output, evidence, workspace, finished_at: _ } = report;
    if *version != 1 || attempt != key {
        return Result::failed(AttemptOutcome::Failed, "the report is not of this attempt; it counts for nothing");
    }
    let failed = |outcome| Result::failed(outcome, message.clone());
    let result = match status {
        ReportStatus::Succeeded => {
            let Some(output) = output else {
                return Result::failed(AttemptOutcome::Failed, "the report says Succeeded and holds no output");
            };
            match verify(launch, output, end.output.as_ref()) {
                Ok(output) => Result {
                    outcome: AttemptOutcome::Succeeded,
                    message: None,
                    output: Some(output),
                    evidence: None,
                    workspace: *workspace,
                    reason: None,
                },
                Err(Unfit { reason, message }) => Result { reason, ..Result::failed(AttemptOutcome::Failed, message) },
            }
        }
        ReportStatus::TimedOut => failed(AttemptOutcome::TimedOut),
        ReportStatus::Cancelled => failed(AttemptOutcome::Cancelled),
        ReportStatus::OutputInvalid => Result { reason: Some(OUTPUT_INVALID), ..failed(AttemptOutcome::Failed) },
        ReportStatus::Failed
        | ReportStatus::OutputTooLarge
        | ReportStatus::InputInvalid
        | ReportStatus::SandboxIncomplete
        | ReportStatus::BrokerRefused => failed(AttemptOutcome::Failed),
    };
    Result { evidence: evidence.clone(), ..result }
}

/// Why an output is not taken.
struct Unfit {
    reason: Option<&'static str>,
    message: String,
}

impl From<String> for Unfit {
    fn from(message: String) -> Unfit {
        Unfit { reason: None, message }
    }
}

/// The output is what the report says it is, and what the contract asks for.
fn verify(
    launch: &Launch,
    reported: &ReportOutput,
    fetched: Option<&std::result::Result<Arc<[u8]>, String>>,
) -> std::result::Result<Output, Unfit> {
    let bytes: &[u8] = match (&reported.inline, fetched) {
        (Some(inline), _) => inline.as_bytes(),
        (None, Some(Ok(bytes))) => bytes,
        (None, Some(Err(error))) => {
            return Err(format!("the output could not be read from the pod's log: {error}").into());
        }
        (None, None) => return Err("the output was not read from the pod's log".to_owned().into()),
    };
    if bytes.len() > OUTPUT_LIMIT_BYTES as usize {
        return Err(format!("the output is larger than {OUTPUT_LIMIT_BYTES} bytes").into());
    }
    let digest = Digest::of_bytes(bytes);
    if digest.hex() != reported.sha256 {
        return Err("the output is not the one that the report's digest is of".to_owned().into());
    }
    let value: Value = strict::parse(bytes).map_err(|error| Unfit {
        reason: Some(OUTPUT_INVALID),
        message: format!("the output is not strict JSON: {error}"),
    })?;
    let schema = &launch.contract.output;
    if !schema.is_empty() {
        let schema = Schema::compile(&json!(schema)).map_err(|error| format!("the Skill's output schema: {error}"))?;
        schema.validate(&value).map_err(|violations| {
            let first = violations.first().map(|v| format!("output {}: {}", v.path, v.message)).unwrap_or_default();
            format!("the output breaks the Skill's contract: {first}")
        })?;
    }
    let canonical = canonical::to_vec(&value).map_err(|error| error.to_string())?;
    let size = u32::try_from(canonical.len()).map_err(|error| error.to_string())?;
    Ok(Output { reference: OutputReference { digest: Digest::of_bytes(&canonical), bytes: size }, value })
}

/// When to try again, if at all: only what is idempotent, and what never started.
pub(super) fn retry_at(
    now: Timestamp,
    step: &Step,
    launch: &Launch,
    record: &StepRecord,
    attempt: &AttemptRecord,
    outcome: AttemptOutcome,
) -> Option<Timestamp> {
    let retry = step.retry.as_ref()?;
    let again = match outcome {
        AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Unknown => launch.contract.idempotent,
        // Once its pod was let in, an old view cannot tell that it has not started after all.
        AttemptOutcome::NotStarted => launch.contract.idempotent || !attempt.launched(),
        AttemptOutcome::Succeeded | AttemptOutcome::Cancelled | AttemptOutcome::Voided => false,
    };
    // What was voided was decided anew, and is no try; everything else is, whether or not it came to start.
    let voided = |a: &&AttemptRecord| matches!(a.state, AttemptState::Finished { outcome: AttemptOutcome::Voided, .. });
    let voided = record.attempts.iter().filter(voided).count();
    let used = u32::try_from(record.attempts.len() - voided).unwrap_or(u32::MAX);
    (again && used <= retry.limit).then(|| now + pause(retry, used, &attempt.key))
}

/// Exponential backoff; the jitter is drawn from the attempt's key, so that it can be replayed.
fn pause(retry: &Retry, tried: u32, key: &str) -> SignedDuration {
    let parse = |text: &str, default| text.parse::<GoDuration>().map_or(default, GoDuration::get);
    let base = parse(&retry.backoff, Duration::from_secs(1));
    let most = parse(&retry.max_backoff, Duration::from_secs(300));
    let grown = base.saturating_mul(1u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX)).min(most);
    let draw = u32::from(Digest::of_bytes(key).as_bytes()[0]);
    let jitter = grown / 2 * draw / 255;
    let micros = i64::try_from((grown + jitter).as_micros()).unwrap_or(i64::MAX);
    SignedDuration::from_micros(micros)
}
