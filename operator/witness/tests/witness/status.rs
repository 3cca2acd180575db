//! Every answer that the specification has, from the binary over a socket.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use countersign_core::tlog::witness::Request;
use countersign_core::tlog::{CosigningKey, SigningKey, WitnessKey};

use crate::history::{History, key, request, tree};
use crate::process::{Answer, BINARY, Process, command, post, public, send};

fn known() -> Vec<String> {
    vec![key(7).verifying_key().to_string()]
}

#[test]
fn each_request_gets_the_answer_that_the_specification_has_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut witness = Process::start(folder.path(), &known());
    let honest = |old, size| request(old, size, History::Honest);
    let other = |old, size| request(old, size, History::Other);
    let stranger = SigningKey::new("log.example/other", [9; 32]).unwrap();
    let unknown = Request {
        old: 0,
        proof: Vec::new(),
        checkpoint: stranger.sign("log.example/other\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"),
    };
    let by_another = Request { checkpoint: tree(7, History::Honest).0.sign(&key(8)), ..honest(0, 7) };
    let bent = Request { proof: Vec::new(), ..honest(7, 9) };
    let (size, text) = ("text/x.tlog.size", "text/plain; charset=utf-8");
    for (what, body, status, content_type, answer) in [
        ("nothing", String::new(), 400, text, "no empty line"),
        ("an old size beyond", honest(8, 7).encode(), 400, text, "old 8 is more than the 7 entries"),
        ("another log", unknown.encode(), 404, text, "is not known here"),
        ("an unknown key", by_another.encode(), 403, text, "not signed by a key that is known"),
        ("from what was never cosigned", honest(3, 7).encode(), 409, size, "0\n"),
        ("the first", honest(0, 7).encode(), 200, text, "\u{2014} witness.example/w1 "),
        ("from nothing again", honest(0, 9).encode(), 409, size, "7\n"),
        ("the same again", honest(7, 7).encode(), 200, text, "\u{2014} witness.example/w1 "),
        ("without a proof", bent.encode(), 422, text, "does not follow"),
        ("a fork of that size", other(7, 7).encode(), 409, size, "7\n"),
        ("a fork that is larger", other(7, 9).encode(), 422, text, "does not follow"),
        ("more", honest(7, 9).encode(), 200, text, "\u{2014} witness.example/w1 "),
        ("rolled back", honest(9, 7).encode(), 400, text, "old 9 is more than"),
        ("rolled back, honestly", honest(7, 7).encode(), 409, size, "9\n"),
    ] {
        let Answer { status: found, content_type: of, body: said } = witness.add(&body);
        assert_eq!((found, of.as_str()), (status, content_type), "{what}: {said}");
        assert!(said.contains(answer), "{what}: {said}");
    }
    // What it answered holds, and is of now.
    let (again, checkpoint) = (honest(9, 9), tree(9, History::Honest).0.sign(&key(7)));
    let line = witness.add(&again.encode()).body;
    let found = public().find(&format!("{checkpoint}{line}")).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 60..=now).contains(&found.time) && found.line == line, "{line}");

    let get = |path: &str| {
        send(&witness.address, format!("GET {path} HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap()
    };
    assert_eq!((get("/healthz").status, get("/add-checkpoint").status, get("/").status), (200, 405, 404));
    let metrics = get("/metrics").body;
    for (outcome, count) in [
        ("cosigned", 4),
        ("malformed", 3),
        ("unknown-log", 1),
        ("unsigned", 1),
        ("stale", 3),
        ("split-view", 1),
        ("bad-proof", 2),
        ("not-kept", 0),
    ] {
        let line = format!("countersign_witness_checkpoints_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(metrics.contains("countersign_witness_log_size{log=\"0\"} 9\n"), "{metrics}");

    let mut told = String::new();
    while !told.contains("split view") {
        assert_ne!(witness.logs.read_line(&mut told).unwrap(), 0, "{told}");
    }
    assert!(
        told.contains("\"level\":\"ERROR\"") && told.contains("log.example/one\\n7\\n"),
        "with what the log signed: {told}"
    );
    assert!(witness.end());
}

#[test]
fn what_is_no_text_or_too_long_or_too_slow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Process::start(folder.path(), &known());
    let head = |length: usize| {
        format!("POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")
    };
    let answer = send(&witness.address, &[head(3).as_bytes(), b"old\xff"[..3].as_ref()].concat()).unwrap();
    assert_eq!(answer.status, 400);
    let answer = send(&witness.address, &[head(4).as_bytes(), b"old\xff"].concat()).unwrap();
    assert!(answer.status == 400 && answer.body.contains("UTF-8"), "{answer:?}");
    let long = format!("old 0\n\n{}", "a".repeat(200_000));
    let answer = post(&witness.address, &long).unwrap();
    assert_eq!(answer.status, 413, "{answer:?}");

    // Two that dawdle: one with its head, one with its body.
    let dawdle = |begin: String| {
        let address = witness.address.clone();
        std::thread::spawn(move || {
            let (start, mut answer) = (Instant::now(), String::new());
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream.write_all(begin.as_bytes()).unwrap();
            stream.read_to_string(&mut answer).unwrap();
            (start.elapsed(), answer)
        })
    };
    let slow = [dawdle("POST /add-checkpoint HT".into()), dawdle(head(100) + "old 0\n")];
    let [(first, _), (second, answer)] = slow.map(|thread| thread.join().unwrap());
    assert!(first < Duration::from_secs(30) && second < Duration::from_secs(30), "{first:?} {second:?}");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(witness.add(&request(0, 3, History::Honest).encode()).status, 200, "others are served");
}

#[test]
fn a_log_that_changes_its_key_is_known_by_both() {
    let folder = tempfile::tempdir().unwrap();
    let signed = |old, size, secret| {
        Request { checkpoint: tree(size, History::Honest).0.sign(&key(secret)), ..request(old, size, History::Honest) }
            .encode()
    };
    let witness = Process::start(folder.path(), &known());
    assert_eq!(witness.add(&signed(0, 3, 7)).status, 200);
    assert_eq!(witness.add(&signed(3, 4, 8)).status, 403);
    assert!(witness.end());
    let both = [key(7), key(8)].map(|key| key.verifying_key().to_string());
    let witness = Process::start(folder.path(), &both);
    assert_eq!(witness.add(&signed(3, 4, 8)).status, 200, "and it remembers what the first key signed");
    assert_eq!(witness.add(&signed(4, 5, 7)).status, 200);
}

#[test]
fn a_new_key_is_printed_as_others_read_it() {
    let output = Command::new(BINARY)
        .args(["generate-key", "witness.example/new"])
        .env("COUNTERSIGN_WITNESS_DATA_DIR", "/set/too")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let [secret, key] = printed.lines().collect::<Vec<_>>().try_into().unwrap();
    let secret: CosigningKey = secret.parse().unwrap();
    assert_eq!(secret.witness_key(), key.parse::<WitnessKey>().unwrap());
    assert_eq!(secret.witness_key().name(), "witness.example/new");
    let output = Command::new(BINARY).args(["generate-key", "a name"]).output().unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("must not be empty, nor hold")
    );
}

#[test]
fn it_does_not_start_where_it_could_cosign_a_fork() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = |folder: &std::path::Path, why: &str| {
        let mut command = command(folder, &known());
        let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{why}: {said}");
    };
    refuses(&folder.path().join("missing"), "make it once, on a disk that stays");
    let witness = Process::start(folder.path(), &known());
    assert_eq!(witness.add(&request(0, 7, History::Honest).encode()).status, 200);
    refuses(folder.path(), "in use by another witness");
    assert!(witness.end());
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = files.into_iter().find(|path| path.file_name().unwrap().len() == 64).unwrap();
    let note = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, &note[..note.len() / 2]).unwrap();
    refuses(folder.path(), "is not the checkpoint that was kept");
    std::fs::write(&kept, note.replace("log.example/one\n", "log.example/two\n")).unwrap();
    refuses(folder.path(), "and not of \"log.example/one\"");
}
