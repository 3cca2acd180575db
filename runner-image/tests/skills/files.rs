//! `fs_read` and `fs_write`: a real folder, and every way out of it that was thought of.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::skill::{Ran, run};

/// A workspace beside a file that is none of its business.
struct Files {
    outside: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("workspace")).unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        Files { outside }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.outside.path().join("workspace").join(path)
    }

    fn read(&self, input: Value) -> Ran {
        run("fs_read", &input.to_string(), &[("COUNTERSIGN_WORKSPACE", self.at(""))])
    }

    fn write(&self, input: Value) -> Ran {
        run("fs_write", &input.to_string(), &[("COUNTERSIGN_WORKSPACE", self.at(""))])
    }

    /// Both skills refuse it, and what is outside stays as it was.
    #[track_caller]
    fn refuse(&self, path: &str, message: &str) {
        self.read(json!({"path": path})).fails(message);
        for mode in ["create", "overwrite"] {
            let ran = self.write(json!({"path": path, "content": "x", "mode": mode}));
            assert!(!ran.success && ran.error.starts_with("input.path: "), "{mode}: {}", ran.error);
        }
        assert!(!self.write(json!({"path": path, "content": "x", "append": true})).success);
        assert_eq!(std::fs::read_to_string(self.outside.path().join("secret")).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(self.outside.path()).unwrap().count(), 2);
    }
}

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn what_is_written_is_read() {
    let files = Files::new();
    let written = files.write(json!({"path": "a/b/ü.txt", "content": "hello"})).output();
    assert_eq!(written, json!({"path": "a/b/ü.txt", "bytes": 5, "sha256": HELLO}));
    let read = files.read(json!({"path": "a/b/ü.txt"})).output();
    assert_eq!(read, json!({"path": "a/b/ü.txt", "content": "hello", "bytes": 5, "sha256": HELLO}));
    let base64 = files.read(json!({"path": "a/b/ü.txt", "encoding": "base64"})).output();
    assert_eq!(base64["content"], "aGVsbG8=");
    assert_eq!(std::fs::read_to_string(files.at("a/b/ü.txt")).unwrap(), "hello");
}

#[test]
fn bytes_that_are_no_text_travel_as_base64() {
    let files = Files::new();
    files.write(json!({"path": "b", "content": "/wA=", "encoding": "base64"})).output();
    assert_eq!(std::fs::read(files.at("b")).unwrap(), [0xff, 0]);
    files.read(json!({"path": "b"})).fails(r#"input.encoding: "b" is not UTF-8; write base64"#);
    assert_eq!(files.read(json!({"path": "b", "encoding": "base64"})).output()["content"], "/wA=");
}

#[test]
fn nothing_is_overwritten_by_mistake() {
    let files = Files::new();
    files.write(json!({"path": "a", "content": "one two"})).output();
    let message = r#"input.path: "a" is there already; write mode overwrite, or append true"#;
    files.write(json!({"path": "a", "content": "x"})).fails(message);
    files.write(json!({"path": "a", "content": "x", "mode": "create"})).fails(message);
    assert_eq!(std::fs::read_to_string(files.at("a")).unwrap(), "one two");
    let over = files.write(json!({"path": "a", "content": "hel", "mode": "overwrite"})).output();
    assert_eq!(over["bytes"], 3);
    let more = files.write(json!({"path": "a", "content": "lo", "append": true})).output();
    assert_eq!(more, json!({"path": "a", "bytes": 5, "sha256": HELLO}), "of the whole file");
    assert_eq!(files.write(json!({"path": "new", "content": "hello", "append": true})).output()["bytes"], 5);
}

#[test]
fn no_path_leaves_the_workspace() {
    let files = Files::new();
    let outside = files.outside.path();
    symlink("/etc/passwd", files.at("absolute")).unwrap();
    symlink("../secret", files.at("up")).unwrap();
    symlink(outside, files.at("folder")).unwrap();
    symlink("up", files.at("chain")).unwrap();
    symlink("/proc/self/cwd", files.at("magic")).unwrap();
    symlink("../new", files.at("dangling")).unwrap();
    for path in ["absolute", "up", "folder/secret", "chain", "magic/secret"] {
        let message = format!("input.path: {path:?}: a path led outside of the filesystem");
        files.refuse(path, &message);
    }
    files
        .write(json!({"path": "dangling", "content": "x", "mode": "overwrite"}))
        .fails_with("input.path: \"dangling\"");
    files.write(json!({"path": "folder/made/x", "content": "x"})).fails_with("input.path: \"folder/made/x\"");
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 2);

    let long = "x".repeat(256);
    let deep = "x/".repeat(600) + "x";
    for (path, why) in [
        ("", r#""" is empty; name a file of the workspace"#),
        ("/etc/passwd", r#""/etc/passwd" is absolute; write it from the workspace's root, as a/b.txt"#),
        ("../secret", r#""../secret" has a part `..`, which could lead out of the workspace; write it without"#),
        (
            "a/../../secret",
            r#""a/../../secret" has a part `..`, which could lead out of the workspace; write it without"#,
        ),
        ("a/..", r#""a/.." has a part `..`, which could lead out of the workspace; write it without"#),
        ("./a", r#""./a" has a part that names nothing; write it as a/b.txt"#),
        ("a//b", r#""a//b" has a part that names nothing; write it as a/b.txt"#),
        ("a/", r#""a/" has a part that names nothing; write it as a/b.txt"#),
        ("a\0b", r#""a\0b" has a control character; leave it out"#),
        ("a\nb", r#""a\nb" has a control character; leave it out"#),
        (&long, "a name has more than 255 bytes; shorten it"),
        (&deep, "it has more than 1024 bytes; shorten it"),
    ] {
        files.refuse(path, &format!("input.path: {why}"));
    }
}

#[test]
fn a_link_that_stays_inside_is_followed() {
    let files = Files::new();
    files.write(json!({"path": "a/file", "content": "hello"})).output();
    symlink("a/file", files.at("link")).unwrap();
    assert_eq!(files.read(json!({"path": "link"})).output()["content"], "hello");
}

#[test]
fn what_is_no_file_is_not_opened() {
    let files = Files::new();
    std::fs::create_dir(files.at("folder")).unwrap();
    nix::unistd::mkfifo(&files.at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(files.at("socket")).unwrap();
    // A test that hangs here has found a pipe that was opened.
    for path in ["folder", "pipe", "socket"] {
        files.refuse(path, &format!("input.path: {path:?} is not a file; name one"));
    }
    let (zero, mode) = (nix::sys::stat::makedev(1, 5), nix::sys::stat::Mode::S_IRWXU);
    match nix::sys::stat::mknod(&files.at("device"), nix::sys::stat::SFlag::S_IFCHR, mode, zero) {
        Ok(()) => files.refuse("device", r#"input.path: "device" is not a file; name one"#),
        Err(error) => eprintln!("no device was tried: making one takes root ({error})"),
    }
    files.read(json!({"path": "none"})).fails(r#"input.path: "none": No such file or directory (os error 2)"#);
}

#[test]
fn what_does_not_fit_into_an_output_is_not_read() {
    let files = Files::new();
    let message = |path: &str| {
        format!(
            "input.path: {path:?}: more than fits into an output of 262144 bytes; make it smaller, or give the work to an image"
        )
    };
    std::fs::write(files.at("large"), vec![b'x'; 262_145]).unwrap();
    files.read(json!({"path": "large"})).fails(&message("large"));
    // Each of these is six bytes once it is JSON.
    std::fs::write(files.at("escaped"), vec![1; 50_000]).unwrap();
    files.read(json!({"path": "escaped"})).fails(&message("escaped"));
    assert_eq!(files.read(json!({"path": "escaped", "encoding": "base64"})).output()["bytes"], 50_000);
    std::fs::write(files.at("fits"), vec![b'x'; 262_000]).unwrap();
    let ran = files.read(json!({"path": "fits"}));
    assert_eq!(ran.output()["bytes"], 262_000);
    assert!(ran.output.trim_end().len() <= 262_144);
}

#[test]
fn wrong_inputs_name_the_field() {
    let files = Files::new();
    files.read(json!({})).fails("input: missing field `path`");
    files.read(json!({"path": 1})).fails("input.path: invalid type: integer `1`, expected a string");
    files
        .read(json!({"path": "a", "offset": 1}))
        .fails("input.offset: unknown field `offset`, expected `path` or `encoding`");
    files
        .read(json!({"path": "a", "encoding": "hex"}))
        .fails("input.encoding: unknown variant `hex`, expected `utf8` or `base64`");
    files.write(json!({"path": "a"})).fails("input: missing field `content`");
    files
        .write(json!({"path": "a", "content": "x", "mode": "replace"}))
        .fails("input.mode: unknown variant `replace`, expected `create` or `overwrite`");
    files
        .write(json!({"path": "a", "content": "x", "encoding": "base64"}))
        .fails_with("input.content: it is not base64: ");
    files
        .write(json!({"path": "a", "content": "x", "append": true, "mode": "create"}))
        .fails("input.mode: append keeps what is there and makes what is not; leave mode out");
    let none = run("fs_read", r#"{"path": "a"}"#, &[("COUNTERSIGN_WORKSPACE", "/tmp/no-such-workspace")]);
    none.fails("/tmp/no-such-workspace: there is no workspace; set spec.workspace in the Skill: No such file or directory (os error 2)");
    assert_eq!(std::fs::read_dir(files.at("")).unwrap().count(), 0);
}
