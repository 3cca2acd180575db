//! One attempt, from its document to its report.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use crate::confine::{self, Evidence, Grants, Layer};
use crate::contract::{Attempt, INLINE_BYTES, Output, Report, Status, TERMINATION_MESSAGE_BYTES};
use crate::prepare::{Folders, Prepared, prepare};
use crate::supervise::{Cause, Ended, ProcessEvents, Start, listen, supervise};
use crate::{egress, frames, output, workspace};

/// Names the layers that must hold, in the pod's own spec.
const REQUIRE: &str = "COUNTERSIGN_REQUIRE";
const ATTEMPT_FILE: &str = "COUNTERSIGN_ATTEMPT_FILE";
const ATTEMPT_SHA256: &str = "COUNTERSIGN_ATTEMPT_SHA256";
const TERMINATION_LOG: &str = "COUNTERSIGN_TERMINATION_LOG";
const EGRESS_FOLDER: &str = "COUNTERSIGN_EGRESS_FOLDER";
const WORKSPACE: &str = "COUNTERSIGN_WORKSPACE";
/// What is the runner's to know.
const OWN_ENV: [&str; 8] = [
    REQUIRE,
    ATTEMPT_FILE,
    ATTEMPT_SHA256,
    TERMINATION_LOG,
    EGRESS_FOLDER,
    WORKSPACE,
    egress::BROKER,
    egress::TOKEN_FILE,
];

/// What came of it, before it is a report.
struct Outcome {
    status: Status,
    exit_code: Option<i32>,
    message: String,
    output: Option<String>,
    workspace: Option<String>,
    evidence: Option<Evidence>,
}

impl Outcome {
    fn failed(status: Status, message: impl Into<String>) -> Outcome {
        Outcome { status, exit_code: None, message: message.into(), output: None, workspace: None, evidence: None }
    }
}

pub fn run() -> ExitCode {
    let started = Timestamp::now();
    // Beside Landlock, for where there is none: what it remembers is nobody's to read. It cannot fail.
    let _ = nix::sys::prctl::set_dumpable(false);
    let (attempt, outcome) = match read_attempt() {
        Ok(attempt) => {
            let outcome = attempt_once(&attempt);
            (attempt.attempt, outcome)
        }
        Err(message) => (String::new(), Outcome::failed(Status::InputInvalid, message)),
    };
    let succeeded = outcome.status == Status::Succeeded;
    let message = report(attempt, outcome, started);
    let path = from_env(TERMINATION_LOG, "/dev/termination-log");
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
    let path = from_env(ATTEMPT_FILE, "/countersign/input/attempt.json");
    let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // The file could have been put there by somebody else; the pod's own spec could not.
    if let Ok(expected) = std::env::var(ATTEMPT_SHA256)
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
    if let Err(message) = program(attempt) {
        return failed(message);
    }
    let required = match required() {
        Ok(required) => required,
        Err(message) => return failed(message),
    };
    // As PID 1 it is deaf to signals until it says that it hears them.
    let events = match listen() {
        Ok(events) => events,
        Err(error) => return Outcome::failed(Status::Failed, format!("signals cannot be heard: {error}")),
    };
    let evidence = match probe(&required) {
        Ok(evidence) => evidence,
        Err((message, evidence)) => {
            return Outcome { evidence, ..Outcome::failed(Status::SandboxIncomplete, message) };
        }
    };
    let outcome = carry_out(attempt, &events).unwrap_or_else(|(status, message)| Outcome::failed(status, message));
    Outcome { evidence: Some(evidence), ..outcome }
}

/// Prepares, starts and sees to its end. An error is from before the start.
fn carry_out(attempt: &Attempt, events: &ProcessEvents) -> Result<Outcome, (Status, String)> {
    let folders = Folders {
        egress: from_env(EGRESS_FOLDER, "/tmp/.countersign"),
        workspace: from_env(WORKSPACE, workspace::FOLDER),
    };
    let mut prepared = prepare(attempt, &folders, events)?;
    let start = start(attempt, prepared.as_mut()).map_err(|message| (Status::InputInvalid, message))?;
    let timeout = Duration::from_secs(attempt.timeout_seconds);
    let ended = supervise(events, start, timeout, attempt.output_limit_bytes)
        .map_err(|error| (Status::Failed, format!("the skill could not be started: {error}")))?;
    let outcome = judge(attempt, ended);
    match (prepared, outcome.status) {
        (Some(prepared), Status::Succeeded) => Ok(match prepared.keep(events) {
            Ok(workspace) => Outcome { workspace, ..outcome },
            Err((status, message)) => Outcome { exit_code: outcome.exit_code, ..Outcome::failed(status, message) },
        }),
        _ => Ok(outcome),
    }
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

/// The program that the attempt names, and what it is called with.
fn program(attempt: &Attempt) -> Result<(OsString, Vec<String>), String> {
    let skill = &attempt.skill;
    match (&skill.builtin, &skill.command) {
        (Some(name), None) => {
            let arguments = ["builtin", name].map(str::to_owned).into_iter().chain(skill.program.clone());
            Ok((own()?.into(), arguments.collect()))
        }
        (None, Some(words)) => match words.as_slice() {
            [program, arguments @ ..] => Ok((program.into(), arguments.to_vec())),
            [] => Err("skill.command is empty; name a program".to_owned()),
        },
        _ => Err("skill: set exactly one of builtin and command".to_owned()),
    }
}

fn start(attempt: &Attempt, prepared: Option<&mut Prepared>) -> Result<Start, String> {
    let (program, arguments) = program(attempt)?;
    let inherited = prepared.as_ref().and_then(|prepared| prepared.offer.sockets.as_ref());
    let grants = Grants {
        sockets: inherited.map(AsFd::as_fd),
        workspace: prepared.as_ref().and_then(|prepared| prepared.workspace()),
    };
    let mut command = confine::wrap(&own()?, &grants, &program);
    command.args(arguments);
    if attempt.skill.builtin.is_some() {
        command.env_clear();
    }
    for name in OWN_ENV {
        command.env_remove(name);
    }
    let (mut inherited, mut secrets) = (None, Vec::new());
    if let Some(prepared) = prepared {
        command.envs(prepared.offer.env.drain(..));
        inherited = prepared.offer.sockets.take();
        secrets.append(&mut prepared.secrets);
    }
    Ok(Start { command, input: attempt.input.to_string().into_bytes(), inherited, secrets })
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
                workspace: None,
                evidence: None,
            },
            Err((status, message)) => failed(status, message),
        },
    }
}

/// The termination message. An output that it cannot hold goes to the log, in frames, before it.
fn report(attempt: String, outcome: Outcome, started: Timestamp) -> String {
    let Outcome { status, exit_code, message, output, workspace, evidence } = outcome;
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
        workspace,
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
