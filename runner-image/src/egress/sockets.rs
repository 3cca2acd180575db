//! Answers the skill's calls for inet sockets: what it gets is one end of a Unix stream, with the proxy at the other. No
//! inet socket exists that a mistake here could let out.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::proxy::Proxy;
use crate::confine::kernel::{self, Answer, Call};

/// How long a call waits while the proxy serves all that it can.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes the listener over from the process that becomes the skill, and answers until the skill has ended.
pub fn serve(from: UnixStream, proxy: Arc<Proxy>, runtime: Handle) -> std::io::Result<()> {
    let answers = move || {
        // Without the listener every such call of the skill fails: the kernel has nobody to ask.
        if let Ok(Some(listener)) = kernel::take_over(&from) {
            drop(from);
            answer_all(&Arc::new(listener), &proxy, &runtime);
        }
    };
    std::thread::Builder::new().name("sockets".to_owned()).spawn(answers).map(drop)
}

fn answer_all(listener: &Arc<OwnedFd>, proxy: &Arc<Proxy>, runtime: &Handle) {
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let events = ready[0].revents().unwrap_or(PollFlags::POLLERR);
        if !events.contains(PollFlags::POLLIN) {
            if events.is_empty() {
                continue;
            }
            // Nobody is left who could ask.
            return;
        }
        match kernel::receive(listener.as_fd()) {
            Ok(call) => answer(call, listener, proxy, runtime),
            Err(Errno::ENOENT | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn answer(call: Call, listener: &Arc<OwnedFd>, proxy: &Arc<Proxy>, runtime: &Handle) {
    match call.number {
        libc::SYS_connect => reply(listener, call.id, connect(&call, listener)),
        libc::SYS_socket => drop(runtime.spawn(socket(call, Arc::clone(listener), Arc::clone(proxy)))),
        _ => reply(listener, call.id, Answer::Refused(Errno::EPERM)),
    }
}

/// Who asked may be gone by now.
fn reply(listener: &OwnedFd, id: u64, answer: Answer) {
    let _ = kernel::answer(listener.as_fd(), id, answer);
}

/// Where to an inet address, it is connected already; all else is the kernel's to do. The address may change after it was
/// read, which lets nothing out: to an inet address no Unix socket connects.
fn connect(call: &Call, listener: &OwnedFd) -> Answer {
    let [_, address, length, ..] = call.arguments;
    let mut family = [0; 2];
    let mut read = || File::open(format!("/proc/{}/mem", call.pid))?.read_exact_at(&mut family, address);
    // Too short for a family, an address that is none: the kernel says what is wrong with it.
    if (length as u32) < 2 || read().is_err() || !kernel::waits(listener.as_fd(), call.id) {
        return Answer::Continue;
    }
    match i32::from(u16::from_ne_bytes(family)) {
        libc::AF_INET | libc::AF_INET6 => Answer::Done,
        _ => Answer::Continue,
    }
}

async fn socket(call: Call, listener: Arc<OwnedFd>, proxy: Arc<Proxy>) {
    if let Err(errno) = give(&call, &listener, proxy).await {
        reply(&listener, call.id, Answer::Refused(errno));
    }
}

async fn give(call: &Call, listener: &OwnedFd, proxy: Arc<Proxy>) -> Result<(), Errno> {
    let [_, kind, ..] = call.arguments;
    let kind = (kind as u32).cast_signed();
    if kind & !(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let seat = timeout(PATIENCE, proxy.seat()).await.ok().flatten().ok_or(Errno::EMFILE)?;
    let made = || {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(kind & libc::SOCK_NONBLOCK != 0)?;
        Ok((tokio::net::UnixStream::from_std(ours)?, theirs))
    };
    let (ours, theirs) =
        made().map_err(|error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOBUFS)))?;
    kernel::give(listener.as_fd(), call.id, theirs.as_fd(), kind & libc::SOCK_CLOEXEC != 0)?;
    tokio::spawn(proxy.serve(ours, seat));
    Ok(())
}
