//! What a skill with a network gets where it asks for sockets: nothing that leaves the machine, whatever it tries.

use std::net::{TcpListener, UdpSocket};

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::harness::{Attempt, PYTHON, Ran, document, wait_for};

/// What the scripts below share.
const PRELUDE: &str = r#"
import ctypes, errno, json, os, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    result = function(*arguments)
    return result if result >= 0 else -ctypes.get_errno()
def family(descriptor):
    "As the kernel says it, twice."
    name, length = ctypes.create_string_buffer(128), ctypes.c_uint(128)
    assert call(libc.getsockname, descriptor, name, ctypes.byref(length)) == 0
    domain, size = ctypes.c_int(), ctypes.c_uint(4)
    assert call(libc.getsockopt, descriptor, 1, 39, ctypes.byref(domain), ctypes.byref(size)) == 0
    return [struct.unpack_from("H", name)[0], domain.value]
def inet(port, address="127.0.0.1"):
    return struct.pack("=H", 2) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)
"#;

fn attack(script: &str) -> Attempt {
    let script = format!("{PRELUDE}{script}");
    Attempt::new(document(&json!({"command": [PYTHON, "-c", script]}), &json!({}), 60, 1 << 20))
}

fn attacked(broker: &Broker, script: &str) -> Ran {
    attack(script).reaches(broker, "a-token").unprivileged().run()
}

#[test]
fn every_inet_socket_is_a_unix_one_and_others_cannot_be_had() {
    let broker = Broker::start();
    let script = r#"
had = {}
for wanted in range(0, 50):
    for kind in range(0, 12):
        for flags in (0, 0o4000, 0o2000000):
            for protocol in (0, 6, 17, 132, 255, 262):
                descriptor = call(libc.socket, wanted, kind | flags, protocol)
                if descriptor >= 0:
                    had.setdefault(f"{wanted} {kind}", set()).add(str(family(descriptor)))
                    os.close(descriptor)
                elif wanted != 1:
                    had.setdefault("refused", set()).add(errno.errorcode[-descriptor])
print(json.dumps({key: sorted(value) for key, value in sorted(had.items())}))
"#;
    let unix = json!(["[1, 1]"]);
    // Of its own family a skill has what there is: streams, datagrams (raw ones, too, are made so) and packets.
    let expected =
        json!({"1 1": unix, "1 2": unix, "1 3": unix, "1 5": unix, "10 1": unix, "2 1": unix, "refused": ["EPERM"]});
    assert_eq!(attacked(&broker, script).output(), expected);
}

#[test]
fn flags_are_as_asked() {
    let broker = Broker::start();
    let script = r#"
import fcntl
def flags(kind):
    descriptor = call(libc.socket, 2, kind, 0)
    return [bool(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC), bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK)]
print(json.dumps([flags(1), flags(1 | 0o2000000), flags(1 | 0o4000), flags(1 | 0o2004000), call(libc.socket, 2, 1 | 0x10000, 0) == -errno.EINVAL]))
"#;
    let expected = json!([[false, false], [true, false], [false, true], [true, true], true]);
    assert_eq!(attacked(&broker, script).output(), expected);
}

/// Listeners that nothing may reach, on loopback and on the node's own address where it has one.
fn decoys() -> Vec<TcpListener> {
    // Nothing is sent: it asks the kernel which address it would send from.
    let own = UdpSocket::bind("0.0.0.0:0").ok().filter(|socket| socket.connect("192.0.2.1:9").is_ok());
    let own = own.and_then(|socket| socket.local_addr().ok()).map(|address| address.ip());
    let listen = |address| {
        let listener = TcpListener::bind((address, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    };
    ["127.0.0.1".parse().ok(), own].into_iter().flatten().map(listen).collect()
}

fn untouched(decoys: &[TcpListener]) {
    for decoy in decoys {
        let reached = decoy.accept().map(|(_, from)| from);
        assert_eq!(reached.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_decoy_is_not_reached_whatever_is_tried() {
    let broker = Broker::start();
    let decoys = decoys();
    let targets: Vec<Value> = decoys
        .iter()
        .map(|decoy| decoy.local_addr().unwrap())
        .map(|address| json!([address.ip().to_string(), address.port()]))
        .collect();
    let script = format!("targets = {}\n", Value::from(targets))
        + r#"
said = []
for address, port in targets:
    # As anybody would: what answers is the proxy.
    stream = socket.create_connection((address, port))
    stream.sendall(f"GET /hello HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n".encode())
    said.append(json.loads(stream.makefile("rb").read().split(b"\r\n\r\n", 1)[1])["url"].split("/")[3])
    # Through a socket that is a Unix one from the start, and past what the runner was shown: the family changes in memory
    # while the call waits.
    shown = ctypes.create_string_buffer(inet(port, address))
    changing = True
    def change():
        while changing:
            struct.pack_into("=H", shown, 0, 1)
            struct.pack_into("=H", shown, 0, 2)
    thread = threading.Thread(target=change)
    thread.start()
    outcomes = set()
    for own in (1, 2, 10):
        for _ in range(300):
            descriptor = call(libc.socket, own, 1, 0)
            outcomes.add(call(libc.connect, descriptor, shown, 16))
            call(libc.sendto, descriptor, b"x", 1, 0, inet(port, address), 16)
            os.close(descriptor)
    changing = False
    thread.join()
    said.append(sorted(outcomes - {0, -errno.EINVAL, -errno.ECONNREFUSED, -errno.ENOENT, -errno.EISCONN, -errno.EPERM}))
    # TCP Fast Open connects by sending.
    stream = socket.socket()
    try:
        stream.sendto(b"x", 0x20000000, (address, port))
    except OSError:
        pass
print(json.dumps(said))
"#;
    let ran = attacked(&broker, &script);
    let expected: Vec<Value> = decoys.iter().flat_map(|_| [json!("hello"), json!([])]).collect();
    assert_eq!(ran.output(), Value::from(expected), "{}", ran.log);
    untouched(&decoys);
    // That they listen at all:
    for decoy in &decoys {
        let _stream = std::net::TcpStream::connect(decoy.local_addr().unwrap()).unwrap();
        wait_for("the decoy", || decoy.accept().ok());
    }
}

#[test]
fn nothing_listens_on_an_inet_address() {
    let broker = Broker::start();
    let script = r#"
stream = call(libc.socket, 2, 1, 0)
print(json.dumps([call(libc.bind, stream, inet(0), 16), call(libc.listen, stream, 1)]))
"#;
    assert_eq!(attacked(&broker, script).output(), json!([-libc::EINVAL, -libc::EINVAL]));
}

#[test]
fn unix_sockets_connect_as_before_and_errors_are_the_kernels() {
    let broker = Broker::start();
    let script = r#"
path = f"/tmp/countersign-{os.getpid()}.sock"
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
client = socket.socket(socket.AF_UNIX)
client.connect(path)
client.sendall(b"over unix")
said = [server.accept()[0].recv(100).decode()]
os.unlink(path)
stream = call(libc.socket, 1, 1, 0)
said += [call(libc.connect, stream, 1, 16), call(libc.connect, stream, inet(1), 1), call(libc.connect, 99, inet(1), 16) ]
# Options of a protocol that is not there count as set; others are real.
inet_stream = socket.socket()
inet_stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
inet_stream.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 16)
inet_stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 70000)
said.append(inet_stream.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
print(json.dumps(said))
"#;
    // That a descriptor is none is not looked at where the address is an inet one: nothing is done with it.
    let expected = json!(["over unix", -libc::EFAULT, -libc::EINVAL, 0, 140_000]);
    assert_eq!(attacked(&broker, script).output(), expected);
}

#[test]
fn threads_and_forks_at_once_all_get_an_answer() {
    let broker = Broker::start();
    let script = r#"
def hammer(outcomes):
    for _ in range(150):
        descriptor = call(libc.socket, 2, 1, 0)
        if descriptor < 0:
            outcomes.append(descriptor)
            continue
        outcomes.append(call(libc.connect, descriptor, inet(80), 16) if family(descriptor) == [1, 1] else 1)
        os.close(descriptor)
def crowd():
    outcomes = []
    threads = [threading.Thread(target=hammer, args=(outcomes,)) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(outcomes) == 1200 and set(outcomes) <= {0, -errno.EMFILE}
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os._exit(0 if crowd() else 1)
    children.append(child)
# One that is killed in the middle of it all disturbs nobody.
victim = os.fork()
if victim == 0:
    while True: hammer([])
codes = [os.waitpid(child, 0)[1] for child in children]
os.kill(victim, 9)
os.waitpid(victim, 0)
import urllib.request
print(json.dumps([codes, json.load(urllib.request.urlopen("https://api.test/after"))["url"]]))
"#;
    let output = attacked(&broker, script).output();
    assert_eq!(output, json!([[0, 0, 0, 0], "https://api.test/after"]));
}

#[test]
fn sockets_held_open_are_bounded_and_come_back() {
    let broker = Broker::start();
    let script = r#"
held = [call(libc.socket, 2, 1, 0) for _ in range(64)]
full = call(libc.socket, 2, 1, 0)
for descriptor in held: os.close(descriptor)
again = call(libc.socket, 2, 1, 0)
print(json.dumps([min(held) > 0, full, again > 0]))
"#;
    assert_eq!(attacked(&broker, script).output(), json!([true, -libc::EMFILE, true]));
}

#[test]
fn nothing_of_the_runner_is_left_open() {
    let broker = Broker::start();
    let script = r#"
print(json.dumps({number: os.readlink(f"/proc/self/fd/{number}").split(":")[0] for number in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{number}")}))
"#;
    let pipes = json!({"0": "pipe", "1": "pipe", "2": "pipe"});
    assert_eq!(attacked(&broker, script).output(), pipes);
    assert_eq!(attack(script).run().output(), pipes);
}

#[test]
fn a_filter_of_its_own_takes_nothing_over() {
    let broker = Broker::start();
    // A filter that allows all, with a listener: there is one already.
    let script = r#"
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
allow = Program(1, struct.pack("=HBBI", 6, 0, 0, 0x7fff0000))
number = 317 if os.uname().machine == "x86_64" else 277
listener = call(libc.syscall, number, 1, 8, ctypes.byref(allow))
quiet = call(libc.syscall, number, 1, 0, ctypes.byref(allow))
print(json.dumps([listener, quiet, family(call(libc.socket, 2, 1, 0)), call(libc.socket, 2, 2, 0)]))
"#;
    assert_eq!(attacked(&broker, script).output(), json!([-libc::EBUSY, 0, [1, 1], -libc::EPERM]));
}

#[test]
fn without_the_runner_there_is_nothing() {
    let broker = Broker::start();
    let attempt = attack("");
    let (ready, result) = (attempt.scratch().join("ready"), attempt.scratch().join("result"));
    let script =
        format!("{PRELUDE}ready, result = {:?}, {:?}\n", ready.display().to_string(), result.display().to_string())
            + r#"
parent = os.getppid()
held = call(libc.socket, 2, 1, 0)
open(ready, "w").close()
while os.getppid() == parent: pass
said = [held > 0, call(libc.socket, 2, 1, 0), call(libc.connect, held, inet(80), 16), call(libc.socket, 2, 2, 0)]
with open(result + ".part", "w") as file: json.dump(said, file)
os.rename(result + ".part", result)
"#;
    attempt.write(document(&json!({"command": [PYTHON, "-c", script]}), &json!({}), 60, 65_536));
    let attempt = attempt.reaches(&broker, "a-token");
    let mut runner = attempt.command().spawn().unwrap();
    wait_for("the skill", || ready.exists().then_some(()));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let said = wait_for("its result", || std::fs::read_to_string(&result).ok());
    let expected = json!([true, -libc::ENOSYS, -libc::ENOSYS, -libc::EPERM]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expected);
}

#[test]
fn it_works_as_in_a_pod_with_namespaces_of_processes_and_users() {
    let broker = Broker::start();
    let script = r#"
import urllib.request
said = [os.getppid(), json.load(urllib.request.urlopen("https://api.test/pod"))["url"], call(libc.socket, 2, 2, 0)]
print(json.dumps(said + [open("/proc/self/uid_map").read().split()[0]]))
"#;
    let unshare = ["unshare", "--user", "--map-user=65532", "--map-group=65532", "--pid", "--fork", "--mount-proc"];
    let ran = attack(script).reaches(&broker, "a-token").through(&unshare).run();
    assert_eq!(ran.output(), json!([1, "https://api.test/pod", -libc::EPERM, "65532"]));
    assert_eq!(ran.report["evidence"]["userNamespace"], true);
}

#[test]
fn where_the_kernel_asks_nobody_only_the_unix_socket_is_offered() {
    let broker = Broker::start();
    // A filter under which a filter with a listener is an invalid argument, as where the kernel does not know it.
    let older = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
number = 317 if os.uname().machine == "x86_64" else 277
lines = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 24), (0x45, 0, 1, 8), (6, 0, 0, 0x50016), (6, 0, 0, 0x7fff0000)]
code = b"".join(struct.pack("=HBBI", *line) for line in lines)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.syscall(number, 1, 0, ctypes.byref(Program(len(lines), code))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;
    let script = r#"
stream = socket.socket(socket.AF_UNIX)
stream.connect(os.environ["COUNTERSIGN_EGRESS_SOCKET"])
stream.sendall(b"GET https://api.test/older HTTP/1.1\r\nConnection: close\r\n\r\n")
url = json.loads(stream.makefile("rb").read().split(b"\r\n\r\n", 1)[1])["url"]
proxies = [name for name in os.environ if "proxy" in name.lower()]
print(json.dumps([url, proxies, call(libc.socket, 2, 1, 0), call(libc.socket, 10, 1, 0), call(libc.setsockopt, stream.fileno(), 6, 1, b"1234", 4)]))
"#;
    let attempt = attack(script).reaches(&broker, "a-token").unprivileged().through(&[PYTHON, "-c", older]);
    let expected = json!(["https://api.test/older", [], -libc::EPERM, -libc::EPERM, -libc::EOPNOTSUPP]);
    assert_eq!(attempt.run().output(), expected);
}
