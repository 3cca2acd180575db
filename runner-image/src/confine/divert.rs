//! The filter that asks the runner: an inet stream socket and every `connect` wait for its answer, other inet sockets are
//! refused, and options that only an inet socket has count as set.

use libc::{c_int, sock_filter};

/// The offsets in `struct seccomp_data`; of an argument the lower half, as the kernel takes an `int` here.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST: u32 = 16;
const SECOND: u32 = 24;

/// `AUDIT_ARCH_AARCH64` and `AUDIT_ARCH_X86_64` of linux/audit.h.
const OWN_ARCH: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

/// `SOCK_TYPE_MASK` of the kernel: the rest of the argument are flags.
const KIND: u32 = 0xf;

/// Where a jump goes: to the next instruction, or to one of the verdicts at the end.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// So many instructions further on.
    Skip(u8),
    Allow,
    Ask,
    Refuse,
    Ignore,
    Kill,
}

/// The verdicts, in the order of [`To`].
const VERDICTS: [u32; 5] = [
    libc::SECCOMP_RET_ALLOW,
    libc::SECCOMP_RET_USER_NOTIF,
    libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(),
    libc::SECCOMP_RET_ERRNO,
    libc::SECCOMP_RET_KILL_PROCESS,
];

enum Line {
    Load(u32),
    And(u32),
    /// If equal to this, then there, else there.
    Is(u32, To, To),
}

pub fn program() -> Vec<sock_filter> {
    use Line::{And, Is, Load};
    let number = |number: libc::c_long| u32::try_from(number).unwrap_or(u32::MAX);
    let int = c_int::cast_unsigned;
    let lines = [
        Load(ARCH),
        Is(OWN_ARCH, To::Next, To::Kill),
        Load(NUMBER),
        Is(number(libc::SYS_connect), To::Ask, To::Next),
        Is(number(libc::SYS_setsockopt), To::Skip(8), To::Next),
        Is(number(libc::SYS_socket), To::Next, To::Allow),
        // socket(family, kind, …)
        Load(FIRST),
        Is(int(libc::AF_UNIX), To::Allow, To::Next),
        Is(int(libc::AF_INET), To::Skip(1), To::Next),
        Is(int(libc::AF_INET6), To::Next, To::Refuse),
        Load(SECOND),
        And(KIND),
        Is(int(libc::SOCK_STREAM), To::Ask, To::Refuse),
        // setsockopt(descriptor, level, …)
        Load(SECOND),
        Is(int(libc::IPPROTO_IP), To::Ignore, To::Next),
        Is(int(libc::IPPROTO_IPV6), To::Ignore, To::Next),
        Is(int(libc::IPPROTO_TCP), To::Ignore, To::Allow),
    ];
    let length = lines.len();
    let code = |bits: u32| bits as u16;
    let lines = lines.into_iter().enumerate().map(|(at, line)| match line {
        Load(offset) => sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: offset },
        And(mask) => sock_filter { code: code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K), jt: 0, jf: 0, k: mask },
        Is(value, yes, no) => sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            jt: distance(at, length, yes),
            jf: distance(at, length, no),
            k: value,
        },
    });
    let verdicts =
        VERDICTS.map(|verdict| sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k: verdict });
    lines.chain(verdicts).collect()
}

/// How many instructions to leave out.
fn distance(at: usize, length: usize, to: To) -> u8 {
    let verdict = match to {
        To::Next => return 0,
        To::Skip(lines) => return lines,
        To::Allow => 0,
        To::Ask => 1,
        To::Refuse => 2,
        To::Ignore => 3,
        To::Kill => 4,
    };
    // The whole program is shorter than a jump can be.
    (length - at - 1 + verdict) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says of a call: a small machine for the instructions that it is made of.
    fn verdict(arch: u32, number: libc::c_long, first: u32, second: u32) -> u32 {
        let program = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    accumulator = match k {
                        NUMBER => u32::try_from(number).unwrap(),
                        ARCH => arch,
                        FIRST => first,
                        SECOND => second,
                        other => panic!("{other} is not looked at"),
                    }
                }
                code if code == libc::BPF_ALU | libc::BPF_AND => accumulator &= k,
                code if code == libc::BPF_JMP | libc::BPF_JEQ => {
                    at += usize::from(if accumulator == k { jt } else { jf });
                }
                code if code == libc::BPF_RET => return k,
                other => panic!("{other} is not an instruction of ours"),
            }
        }
    }

    #[test]
    fn each_call_has_its_verdict() {
        let of = |number, first: c_int, second: c_int| {
            verdict(OWN_ARCH, number, first.cast_unsigned(), second.cast_unsigned())
        };
        let [allow, ask, refuse, ignore, kill] = VERDICTS;
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert_eq!(of(libc::SYS_socket, family, libc::SOCK_STREAM), ask);
            assert_eq!(of(libc::SYS_socket, family, libc::SOCK_STREAM | flags), ask);
            for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, 0] {
                assert_eq!(of(libc::SYS_socket, family, kind), refuse);
                assert_eq!(of(libc::SYS_socket, family, kind | flags), refuse);
            }
        }
        assert_eq!(of(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM), allow);
        for family in [libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, 44, 0, -1] {
            assert_eq!(of(libc::SYS_socket, family, libc::SOCK_STREAM), refuse);
        }
        assert_eq!(of(libc::SYS_connect, 3, 0), ask);
        for level in [libc::IPPROTO_IP, libc::IPPROTO_IPV6, libc::IPPROTO_TCP] {
            assert_eq!(of(libc::SYS_setsockopt, 3, level), ignore);
        }
        assert_eq!(of(libc::SYS_setsockopt, 3, libc::SOL_SOCKET), allow);
        assert_eq!(of(libc::SYS_read, libc::AF_INET, libc::SOCK_STREAM), allow);
        assert_eq!(verdict(0x4000_0003, libc::SYS_read, 0, 0), kill);
    }
}
