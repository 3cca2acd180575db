//! Runs a command in a process group of its own and sees it to its end: timeout, signals, orphans.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::runtime::Runtime;

use crate::{frames, output};

/// How long what is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long the pipes of a process that ended may stay open.
const DRAIN: Duration = Duration::from_secs(2);

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub cause: Cause,
    /// The exit code, or 128 and the signal.
    pub code: i32,
    /// What it wrote to stdout, up to a byte more than the limit.
    pub output: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Of itself.
    Exited,
    TimedOut,
    /// The runner was told to end.
    Cancelled,
    OutputTooLarge,
    /// A process that it left behind keeps its stdout open.
    OutputOpen,
}

enum Event {
    Signal(i32),
    Output(Vec<u8>),
    /// The log was relayed to its end.
    Log,
    /// What was waited for is there.
    Ready,
}

/// Signals, output and log of a skill's process, from before it is started, so that none is missed.
pub struct ProcessEvents {
    events: Sender<Event>,
    inbox: Receiver<Event>,
}

impl ProcessEvents {
    /// Waits for what has to be done before or after the skill; `None` where the runner was told to end first.
    pub fn until<T: Send + 'static>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let events = self.events.clone();
        let (result, done) = channel();
        let task = runtime.spawn(async move {
            // Nobody waits any longer once the runner was told to end.
            let _ = result.send(work.await);
            let _ = events.send(Event::Ready);
        });
        loop {
            match self.inbox.recv() {
                Ok(Event::Ready) => return done.try_recv().ok(),
                Ok(Event::Signal(SIGTERM | SIGINT)) | Err(_) => break,
                // Of the probe, or of a skill that has ended.
                Ok(Event::Signal(_) | Event::Output(_) | Event::Log) => {}
            }
        }
        task.abort();
        None
    }
}

/// What to start.
pub struct Start {
    pub command: Command,
    /// For its stdin.
    pub input: Vec<u8>,
    /// What it inherits, which nobody here keeps.
    pub inherited: Option<OwnedFd>,
    /// What its log must not show.
    pub secrets: Vec<String>,
}

pub fn listen() -> std::io::Result<ProcessEvents> {
    let (events, inbox) = channel();
    watch_signals(events.clone())?;
    Ok(ProcessEvents { events, inbox })
}

/// Sees a skill from its start to its end. An error means that nothing was started.
pub fn supervise(events: &ProcessEvents, start: Start, timeout: Duration, limit: usize) -> std::io::Result<Ended> {
    use std::os::unix::process::CommandExt;
    let Start { mut command, input, inherited, secrets } = start;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    drop(inherited);
    attach(&mut child, input, secrets, limit, events.events.clone());
    Ok(Watch::new(&child, timeout, limit).run(&events.inbox))
}

fn watch_signals(events: Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

fn attach(child: &mut Child, input: Vec<u8>, secrets: Vec<String>, limit: usize, events: Sender<Event>) {
    use std::io::Write;
    if let Some(mut stdin) = child.stdin.take() {
        // A skill need not read its input.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    if let Some(stderr) = child.stderr.take() {
        let events = events.clone();
        thread::spawn(move || {
            frames::relay_log(stderr, &secrets);
            // The watch may be over already.
            let _ = events.send(Event::Log);
        });
    }
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let bytes = output::read_bounded(stdout, limit).unwrap_or_default();
            // The watch may be over already.
            let _ = events.send(Event::Output(bytes));
        });
    }
}

struct Watch {
    pid: Pid,
    limit: usize,
    deadline: Instant,
    kill_at: Option<Instant>,
    drain_until: Option<Instant>,
    cause: Option<Cause>,
    code: Option<i32>,
    output: Option<Vec<u8>>,
    logged: bool,
}

impl Watch {
    fn new(child: &Child, timeout: Duration, limit: usize) -> Watch {
        Watch {
            pid: Pid::from_raw(child.id().cast_signed()),
            limit,
            deadline: Instant::now() + timeout,
            kill_at: None,
            drain_until: None,
            cause: None,
            code: None,
            output: None,
            logged: false,
        }
    }

    fn run(mut self, inbox: &Receiver<Event>) -> Ended {
        loop {
            let wait = self.next_instant().saturating_duration_since(Instant::now());
            match inbox.recv_timeout(wait) {
                Ok(Event::Signal(SIGCHLD)) => self.reap(),
                Ok(Event::Signal(_)) => self.end(Cause::Cancelled),
                Ok(Event::Output(bytes)) => {
                    if bytes.len() > self.limit {
                        self.end(Cause::OutputTooLarge);
                    }
                    self.output = Some(bytes);
                }
                Ok(Event::Log) => self.logged = true,
                // Nothing is waited for while the skill runs.
                Ok(Event::Ready) => {}
                Err(RecvTimeoutError::Timeout) => self.on_time(),
                // The signal thread holds a sender as long as the process lives.
                Err(RecvTimeoutError::Disconnected) => self.kill_group(),
            }
            if let Some(ended) = self.ended() {
                return ended;
            }
        }
    }

    fn next_instant(&self) -> Instant {
        self.drain_until.or(self.kill_at).unwrap_or(self.deadline)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.drain_until.is_some() {
            return;
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_group();
            self.kill_at = Some(now + GRACE);
        } else if self.cause.is_none() && self.deadline <= now {
            self.end(Cause::TimedOut);
        }
    }

    /// Tells the whole group to end; the first cause is the one that counts.
    fn end(&mut self, cause: Cause) {
        if self.code.is_some() || self.cause.is_some() {
            return;
        }
        self.cause = Some(cause);
        self.kill_at = Some(Instant::now() + GRACE);
        // The group may be gone already, and then so is the child.
        let _ = killpg(self.pid, Signal::SIGTERM);
    }

    /// Nothing of the skill outlives it. As PID 1 that reaches what left the group, too.
    fn kill_group(&self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        if std::process::id() == 1 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }

    /// Reaps every process that ended: the skill, and orphans that became ours.
    fn reap(&mut self) {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid == self.pid {
                self.code = Some(code);
                self.drain_until = Some(Instant::now() + DRAIN);
                self.kill_group();
            }
        }
    }

    fn ended(&mut self) -> Option<Ended> {
        let code = self.code?;
        let drained = self.drain_until.is_some_and(|until| until <= Instant::now());
        if !self.logged && !drained {
            return None;
        }
        let (output, open) = match (self.output.take(), drained) {
            (Some(output), _) => (output, false),
            (None, true) => (Vec::new(), true),
            (None, false) => return None,
        };
        let too_large = output.len() > self.limit;
        let cause = match self.cause {
            Some(cause) => cause,
            None if open => Cause::OutputOpen,
            None if too_large => Cause::OutputTooLarge,
            None => Cause::Exited,
        };
        Some(Ended { cause, code, output })
    }
}
