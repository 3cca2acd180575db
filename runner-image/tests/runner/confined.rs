//! What a skill cannot do, tried from inside, as root and without a container around it: the runner's own layers alone.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Attempt, document, shell};

struct Sandbox(Attempt);

impl Sandbox {
    fn new() -> Sandbox {
        Sandbox(Attempt::shell("true"))
    }

    /// The report and the log of a script; `require` names the layers that must hold.
    fn run(&self, script: &str, require: Option<&str>) -> (Value, String) {
        self.0.write(document(&shell(script), &json!({}), 20, 65_536));
        let mut command = self.0.command();
        if let Some(require) = require {
            command.env("COUNTERSIGN_REQUIRE", require);
        }
        let ran = self.0.run_with(command, |_| {});
        (ran.report, ran.log)
    }

    fn report(&self) -> PathBuf {
        self.0.report()
    }

    /// What the script complains of on stderr; it must succeed otherwise.
    #[track_caller]
    fn says(&self, script: &str, expected: &str) {
        let (report, log) = self.run(script, None);
        assert!(log.contains(expected), "{script}: {log}{report}");
    }

    #[track_caller]
    fn gives(&self, script: &str, expected: &Value) {
        let (report, log) = self.run(script, None);
        assert_eq!(report["status"], "Succeeded", "{script}: {report}{log}");
        let output: Value = serde_json::from_str(report["output"]["inline"].as_str().unwrap()).unwrap();
        assert_eq!(&output, expected, "{script}: {log}");
    }
}

#[test]
fn which_layers_held_is_evidence() {
    let (report, _) = Sandbox::new().run("true", None);
    let evidence = &report["evidence"];
    assert_eq!((&evidence["noNewPrivs"], &evidence["seccomp"]), (&json!(true), &json!(true)), "{report}");
    assert!(evidence["landlock"].as_u64().unwrap() >= 1, "{report}");
    assert!(!evidence["kernel"].as_str().unwrap().is_empty(), "{report}");
}

#[test]
fn a_layer_that_is_required_and_missing_starts_nothing() {
    let sandbox = Sandbox::new();
    // Where the tests run in a user namespace themselves there is nothing that could be missing.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let fields: Vec<&str> = map.split_whitespace().collect();
    if fields == ["0", "0", "4294967295"] {
        let mark = "/tmp/countersign-started";
        let (report, _) = sandbox.run(&format!("touch {mark}"), Some("noNewPrivs,userNamespace"));
        assert_eq!(report["status"], "SandboxIncomplete", "{report}");
        assert!(report["message"].as_str().unwrap().contains("lacks [UserNamespace]"), "{report}");
        assert_eq!(report["evidence"]["userNamespace"], false);
        assert!(!std::path::Path::new(mark).exists(), "it was started");
    }
    let (report, _) = sandbox.run("true", Some("walls"));
    assert_eq!(report["status"], "InputInvalid", "{report}");
    assert!(report["message"].as_str().unwrap().contains("\"walls\" is not a layer of the sandbox"), "{report}");
}

#[test]
fn no_socket_but_a_unix_one_can_be_made() {
    let sandbox = Sandbox::new();
    // IPv4, IPv6, netlink, packet, vsock, Bluetooth, AF_ALG, XDP; streams, datagrams, raw.
    for family in [2, 10, 16, 17, 40, 31, 38, 44] {
        for kind in [1, 2, 3] {
            sandbox.says(&format!("perl -e 'socket(S, {family}, {kind}, 0) or die $!'"), "Operation not permitted");
        }
    }
    sandbox.gives("perl -e 'socket(S, 1, 1, 0) or die $!; print 1'", &json!(1));
    sandbox.gives("perl -e 'socketpair(A, B, 1, 1, 0) or die $!; print 1'", &json!(1));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_reaches_around_the_filter_is_refused() {
    let sandbox = Sandbox::new();
    // ptrace, process_vm_readv, bpf, keyctl, userfaultfd, unshare, setns, mount, io_uring_setup, perf_event_open, fsopen,
    // open_by_handle_at, pidfd_getfd, chroot; then socket and ptrace by their x32 numbers.
    for number in [101, 310, 321, 250, 323, 272, 308, 165, 425, 298, 430, 304, 438, 161, 0x4000_0029, 0x4000_0209] {
        let script = format!("perl -e 'syscall({number}, 0, 0, 0, 0, 0) == -1 or die; die $!'");
        sandbox.says(&script, "Operation not permitted");
    }
    // clone with a flag for a user namespace, and clone3, whose flags nobody can see.
    sandbox.says("perl -e 'syscall(56, 0x10000000, 0, 0, 0, 0) == -1 or die; die $!'", "Operation not permitted");
    sandbox.says("perl -e 'syscall(435, 0, 0) == -1 or die; die $!'", "Function not implemented");
    sandbox.says("unshare -r true", "Operation not permitted");
}

#[test]
fn nothing_is_written_but_scratch() {
    let sandbox = Sandbox::new();
    let report = sandbox.report().display().to_string();
    let forged = format!("echo '{{\"version\":1,\"attempt\":\"key\",\"status\":\"Succeeded\"}}' > {report}; exit 3");
    let (said, log) = sandbox.run(&forged, None);
    assert_eq!(said["status"], "Failed", "{said}");
    assert!(log.contains("Permission denied"), "{log}");
    for path in ["/etc/x", "/var/tmp/x", "/root/x", "/proc/sys/kernel/core_pattern", "/dev/x"] {
        sandbox.says(&format!("echo x > {path}"), "Permission denied");
    }
    sandbox.says(&format!("rm {report}"), "Permission denied");
    sandbox.says(&format!("mv {report} /tmp/x"), "Permission denied");
    sandbox.says(&format!("ln {report} {report}.x"), "Permission denied");
    sandbox.gives("f=/tmp/countersign-$$; echo 7 > $f; cat $f; rm $f; echo x > /dev/null", &json!(7));
}

#[test]
fn no_process_outside_is_read_or_told_anything() {
    let sandbox = Sandbox::new();
    // The runner is the parent; its environment names the document and the report.
    // CAP_PERFMON reads any environment; a pod has no capability at all.
    sandbox.says("setpriv --bounding-set=-all --inh-caps=-all cat /proc/$PPID/environ", "Permission denied");
    sandbox.says("cat /proc/$PPID/mem", "Permission denied");
    sandbox.says("ls -l /proc/$PPID/fd", "Permission denied");
    for signal in ["TERM", "KILL", "STOP"] {
        sandbox.says(&format!("kill -{signal} $PPID"), "Operation not permitted");
    }
}

#[test]
fn files_and_descriptors_are_bounded() {
    let sandbox = Sandbox::new();
    sandbox.gives("ulimit -n", &json!(1024));
    sandbox.gives("ulimit -c", &json!(0));
    let (report, log) =
        sandbox.run("f=/tmp/countersign-$$; head -c 100000000 /dev/zero > $f; stat -c %s $f >&2; rm $f", None);
    assert!(log.contains("67108864"), "{log}{report}");
    // Nor are limits raised again, or privileges gained.
    sandbox.says("ulimit -n 4096", "ulimit");
    sandbox.gives("sed -n 's/NoNewPrivs:[^0-9]*//p' /proc/self/status", &json!(1));
}
