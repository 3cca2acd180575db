//! One attempt, from its document to its report.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use jiff::Timestamp;

use crate::confine::{self, Evidence, Layer};
use crate::contract::{Attempt, INLINE_BYTES, Output, Report, Status, TERMINATION_MESSAGE_BYTES};
use crate::supervise::{Cause, Ended, listen, supervise};
use crate::{frames, output};

/// Names the layers that must hold, in the pod's own spec.
const REQUIRE: &str = "COUNTERSIGN_REQUIRE";

/// What came of it, before it is a report.
struct Outcome {
    status: Status,
    exit_code: Option<i32>,
    message: String,
    output: Option<String>,
    evidence: Option<Evidence>,
}

impl Outcome {
    fn failed(status: Status, message: impl Into<String>) -> Outcome {
        Outcome { status, exit_code: None, message: message.into(), output: None, evidence: None }
    }
}

pub fn run() -> ExitCode {
    let started = Timestamp::now();
    let (attempt, outcome) = match read_attempt() {
        Ok(attempt) => {
            let outcome = attempt_once(&attempt);
            (attempt.attempt, outcome)
        }
        Err(message) => (String::new(), Outcome::failed(Status::InputInvalid, message)),
    };
    let succeeded = outcome.status == Status::Succeeded;
    let message = report(attempt, outcome, started);
    let path = from_env("COUNTERSIGN_TERMINATION_LOG", "/dev/termination-log");
    if let Err(error) = std::fs::write(&path, message) {
        eprintln!("cannot write the report to {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn from_env(name: &str, default: &str) -> PathBuf {
    std::env::var_os(name).map_or_else(|| default.into(), PathBuf::from)
}

fn read_attempt() -> Result<Attempt, String> {
    let path = from_env("COUNTERSIGN_ATTEMPT_FILE", "/countersign/input/attempt.json");
    let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // The file could have been put there by somebody else; the pod's own spec could not.
    if let Ok(expected) = std::env::var("COUNTERSIGN_ATTEMPT_SHA256")
        && output::sha256(&bytes) != expected
    {
        return Err(format!("{} is not the document that this pod was made for", path.display()));
    }
    let attempt: Attempt = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    match attempt.version {
        1 => Ok(attempt),
        other => Err(format!("{}: version {other} is not known; this runner knows 1", path.display())),
    }
}

fn attempt_once(attempt: &Attempt) -> Outcome {
    let failed = |message: String| Outcome::failed(Status::InputInvalid, message);
    let command = match command(attempt) {
        Ok(command) => command,
        Err(message) => return failed(message),
    };
    let required = match required() {
        Ok(required) => required,
        Err(message) => return failed(message),
    };
    // As PID 1 it is deaf to signals until it says that it hears them.
    let ears = match listen() {
        Ok(ears) => ears,
        Err(error) => return Outcome::failed(Status::Failed, format!("signals cannot be heard: {error}")),
    };
    let evidence = match probe(&required) {
        Ok(evidence) => evidence,
        Err((message, evidence)) => {
            return Outcome { evidence, ..Outcome::failed(Status::SandboxIncomplete, message) };
        }
    };
    let input = attempt.input.to_string().into_bytes();
    let timeout = Duration::from_secs(attempt.timeout_seconds);
    let outcome = match supervise(ears, command, input, timeout, attempt.output_limit_bytes) {
        Ok(ended) => judge(attempt, ended),
        Err(error) => Outcome::failed(Status::Failed, format!("the skill could not be started: {error}")),
    };
    Outcome { evidence: Some(evidence), ..outcome }
}

/// The layers without which nothing is started, as the pod's own spec names them; all that need no cluster's help
/// where it names none.
fn required() -> Result<Vec<Layer>, String> {
    let Ok(names) = std::env::var(REQUIRE) else { return Ok(vec![Layer::NoNewPrivs, Layer::Seccomp, Layer::Landlock]) };
    let layer = |name: &str| {
        serde_json::from_value(name.into()).map_err(|_| format!("{REQUIRE}: {name:?} is not a layer of the sandbox"))
    };
    names.split(',').filter(|name| !name.is_empty()).map(layer).collect()
}

fn probe(required: &[Layer]) -> Result<Evidence, (String, Option<Evidence>)> {
    let evidence = own().and_then(|own| confine::probe(&own).map_err(|error| format!("{error:#}")));
    let evidence = evidence.map_err(|message| (message, None))?;
    let lacks = evidence.lacks(required);
    if lacks.is_empty() {
        return Ok(evidence);
    }
    Err((format!("the sandbox lacks {lacks:?}, without which the skill is not started"), Some(evidence)))
}

fn own() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("the runner's own file: {error}"))
}

fn command(attempt: &Attempt) -> Result<Command, String> {
    let skill = &attempt.skill;
    match (&skill.builtin, &skill.command) {
        (Some(name), None) => {
            let own = own()?;
            let mut command = confine::wrap(&own, own.as_os_str());
            command.arg("builtin").arg(name).args(&skill.program).env_clear();
            Ok(command)
        }
        (None, Some(words)) => {
            let [program, arguments @ ..] = words.as_slice() else {
                return Err("skill.command is empty; name a program".to_owned());
            };
            let mut command = confine::wrap(&own()?, program.as_ref());
            command.args(arguments);
            for name in
                ["COUNTERSIGN_ATTEMPT_FILE", "COUNTERSIGN_ATTEMPT_SHA256", "COUNTERSIGN_TERMINATION_LOG", REQUIRE]
            {
                command.env_remove(name);
            }
            Ok(command)
        }
        _ => Err("skill: set exactly one of builtin and command".to_owned()),
    }
}

fn judge(attempt: &Attempt, ended: Ended) -> Outcome {
    let Ended { cause, code, output } = ended;
    let limit = attempt.output_limit_bytes;
    let failed = |status, message: String| Outcome { exit_code: Some(code), ..Outcome::failed(status, message) };
    match cause {
        Cause::TimedOut => failed(Status::TimedOut, format!("not done after {} s", attempt.timeout_seconds)),
        Cause::Cancelled => failed(Status::Cancelled, "told to end".to_owned()),
        Cause::OutputTooLarge => failed(Status::OutputTooLarge, format!("the output has more than {limit} bytes")),
        Cause::OutputOpen => failed(Status::OutputInvalid, "a process left behind keeps the output open".to_owned()),
        Cause::Exited if code != 0 => failed(Status::Failed, format!("exit code {code}; see the pod's log")),
        Cause::Exited => match output::check(&output) {
            Ok(text) => Outcome {
                status: Status::Succeeded,
                exit_code: Some(code),
                message: String::new(),
                output: Some(text.to_owned()),
                evidence: None,
            },
            Err((status, message)) => failed(status, message),
        },
    }
}

/// The termination message. An output that it cannot hold goes to the log, in frames, before it.
fn report(attempt: String, outcome: Outcome, started: Timestamp) -> String {
    let Outcome { status, exit_code, message, output, evidence } = outcome;
    let described = output.as_ref().map(|text| Output {
        sha256: output::sha256(text.as_bytes()),
        size: text.len(),
        inline: (text.len() <= INLINE_BYTES).then(|| text.clone()),
    });
    let mut report = Report {
        version: 1,
        attempt: cut(&attempt, 128),
        status,
        exit_code,
        message: cut(&message, 512),
        output: described,
        evidence,
        started_at: started.to_string(),
        finished_at: Timestamp::now().to_string(),
    };
    let render = |report: &Report| serde_json::to_string(report).unwrap_or_default();
    let mut text = render(&report);
    if text.len() >= TERMINATION_MESSAGE_BYTES
        && let Some(output) = &mut report.output
    {
        // Escaping made it longer than it is.
        output.inline = None;
        text = render(&report);
    }
    if let (Some(bytes), Some(Output { inline: None, .. })) = (&output, &report.output) {
        frames::write_output(bytes.as_bytes());
    }
    text
}

/// At most so many bytes once escaped, cut between characters.
fn cut(text: &str, most: usize) -> String {
    let mut kept = String::new();
    let mut length = 0;
    for character in text.chars() {
        length += if character.is_control() || matches!(character, '"' | '\\') { 6 } else { character.len_utf8() };
        if length > most {
            kept.push('…');
            break;
        }
        kept.push(character);
    }
    kept
}
