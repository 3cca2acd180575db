//! Calls of the kernel that no library has: seccomp's user notification (seccomp_unotify(2)), the passing of its
//! descriptor, and the closing of all others. All unsafe code of the runner is in this file.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub id: u64,
    /// Of the thread that called.
    pub pid: u32,
    pub number: i64,
    pub arguments: [u64; 6],
}

/// What becomes of a call that waits.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It returns 0, and nothing was done.
    Done,
    Refused(Errno),
    /// The kernel does it, as if nobody had been asked.
    Continue,
}

/// The flags to install a filter with whose calls can be answered; `None` where the kernel has no such filters.
pub fn offered() -> Option<libc::c_ulong> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let killable = listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    [killable, listener].into_iter().find(|flags| knows(*flags)).filter(|_| adds_and_answers())
}

/// A kernel that knows the flags goes on to read the filter, and finds none.
fn knows(flags: libc::c_ulong) -> bool {
    // SAFETY: the kernel checks the address before it reads, and null is no address.
    #[expect(unsafe_code, reason = "no library asks for this")]
    let result = unsafe {
        let nothing = std::ptr::null::<libc::sock_fprog>();
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing)
    };
    Errno::result(result) == Err(Errno::EFAULT)
}

/// `SECCOMP_ADDFD_FLAG_SEND` came with Linux 5.14, and nothing but a listener could be asked for it.
fn adds_and_answers() -> bool {
    let Ok(kernel) = nix::sys::utsname::uname() else { return false };
    let release = kernel.release().to_string_lossy();
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 14)
}

/// Puts the filter in force, and returns where its calls wait. The descriptor is closed on exec.
pub fn install(program: &[libc::sock_filter], flags: libc::c_ulong) -> nix::Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program is as long as it says and the kernel only reads it; the descriptor that comes is nobody else's.
    #[expect(unsafe_code, reason = "no library installs a filter with a listener")]
    unsafe {
        let result = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        let listener = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
        Ok(OwnedFd::from_raw_fd(listener))
    }
}

/// The next call. `ENOENT` where its thread was killed meanwhile.
pub fn receive(listener: BorrowedFd) -> nix::Result<Call> {
    let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    // The kernel wants it zeroed.
    let mut call = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
    // SAFETY: the number says what is pointed to, and its size.
    #[expect(unsafe_code, reason = "no library has this call")]
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
    Errno::result(result)?;
    Ok(Call { id: call.id, pid: call.pid, number: call.data.nr.into(), arguments: call.data.args })
}

/// Whether the call still waits: what was read of its process was of that process.
pub fn waits(listener: BorrowedFd, id: u64) -> bool {
    // SAFETY: the number says what is pointed to, and its size.
    #[expect(unsafe_code, reason = "no library has this call")]
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    result == 0
}

pub fn answer(listener: BorrowedFd, id: u64, answer: Answer) -> nix::Result<()> {
    let (error, flags) = match answer {
        Answer::Done => (0, 0),
        Answer::Refused(errno) => (-(errno as i32), 0),
        Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the number says what is pointed to, and its size.
    #[expect(unsafe_code, reason = "no library has this call")]
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    Errno::result(result).map(drop)
}

/// Answers the call with a descriptor of its own for `file`, in one step.
pub fn give(listener: BorrowedFd, id: u64, file: BorrowedFd, close_on_exec: bool) -> nix::Result<()> {
    let mut added = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    // SAFETY: the number says what is pointed to, and its size.
    #[expect(unsafe_code, reason = "no library has this call")]
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut added) };
    Errno::result(result).map(drop)
}

/// Sends a descriptor to whoever holds the other end.
pub fn hand_over(to: BorrowedFd, descriptor: BorrowedFd) -> nix::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Waits for the descriptor that the other end hands over; `None` where that ended without.
pub fn take_over(from: &UnixStream) -> nix::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut vectors = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = recvmsg::<()>(from.as_fd().as_raw_fd(), &mut vectors, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let [descriptor] = descriptors.as_slice()
        {
            // SAFETY: the kernel has just made it for this process, and nobody else knows its number.
            #[expect(unsafe_code, reason = "nix gives numbers")]
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(*descriptor) }));
        }
    }
    Ok(None)
}

/// The descriptor that was left open for this process under a number. It goes no further.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: only whether the number is open is asked; nothing owns or closes it here.
    #[expect(unsafe_code, reason = "a descriptor across exec is a number")]
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and this process, at its start, has no other owner for it.
    #[expect(unsafe_code, reason = "a descriptor across exec is a number")]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What a program that is started from here could inherit, by whosever mistake, it does not.
pub fn close_on_exec() -> nix::Result<()> {
    // SAFETY: only flags are set, and exec closes what nobody uses any longer by then.
    #[expect(unsafe_code, reason = "no library has this call")]
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    match Errno::result(result) {
        // Before Linux 5.11, where Landlock is not there either.
        Err(Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        other => other.map(drop),
    }
}
