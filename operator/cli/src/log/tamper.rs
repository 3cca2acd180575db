//! Thousands of ways to tamper with an export, generated: each is found, and named rightly.

use std::fs;
use std::path::Path;

use countersign_core::event::Event;
use countersign_core::tlog::entry::{Sealed, TaskName, close};
use countersign_core::tlog::{Checkpoint, CompactRange, Line, SigningKey, Tile, Tiles, inclusion, leaf, rotate};
use countersign_crds::Identity;
use serde_json::json;
use tempfile::TempDir;

use super::bundle::{Bundle, CHECKPOINT, ENTRIES, KEY, ROTATIONS, read};
use super::consistency;
use super::failure::Failure;
use super::quorum::Demands;
use super::report::Report;
use super::verify::{Extent, verify};

pub fn key() -> SigningKey {
    SigningKey::new("countersign.dev/log/test", [7; 32]).unwrap()
}

pub fn sealed(n: u64) -> Sealed {
    let task = TaskName { namespace: "ns".into(), name: format!("task-{}", n % 3), uid: format!("uid-{}", n % 3) };
    let at = "2026-11-21T00:00:00Z".parse().unwrap();
    let salt = [u8::try_from(n % 251).unwrap(); 16];
    close("intend", at, Some(task), &json!({"kind": "intend", "step": format!("s{n}")}), [salt, salt]).unwrap()
}

/// An export of a log of this size: of all of it, or of one of its three Tasks.
pub fn bundle(size: u64, task: Option<u64>) -> Bundle {
    bundle_of(size, task, sealed)
}

/// The same of a log that holds these entries.
pub fn bundle_of(size: u64, task: Option<u64>, entry: impl Fn(u64) -> Sealed) -> Bundle {
    let (mut range, mut tiles, mut lines) = (CompactRange::default(), Tiles::new(), Vec::new());
    for index in 0..size {
        let Sealed { body, payload } = entry(index);
        range.append(leaf(&body), |appended| tiles.entry(appended.tile()).or_default().push(appended.hash));
        lines.push(Line { index, body, payload: Some(payload), proof: None });
    }
    let checkpoint = Checkpoint { origin: key().verifying_key().name().into(), size, root: range.root() };
    if let Some(task) = task {
        lines.retain(|line| line.index % 3 == task);
        for line in &mut lines {
            line.proof = Some(inclusion(&mut tiles, line.index, size).unwrap());
        }
        tiles.clear();
    }
    Bundle {
        checkpoint: checkpoint.sign(&key()),
        key: key().verifying_key().to_string(),
        lines,
        rotations: Vec::new(),
        anchors: Vec::new(),
        tiles,
        strangers: Vec::new(),
    }
}

fn write(bundle: &Bundle) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(CHECKPOINT), &bundle.checkpoint).unwrap();
    fs::write(folder.path().join(KEY), &bundle.key).unwrap();
    let lines: String = bundle.lines.iter().map(|line| line.encode() + "\n").collect();
    fs::write(folder.path().join(ENTRIES), lines).unwrap();
    if !bundle.rotations.is_empty() {
        let lines: String = bundle.rotations.iter().map(|line| line.encode() + "\n").collect();
        fs::write(folder.path().join(ROTATIONS), lines).unwrap();
    }
    for (tile, hashes) in &bundle.tiles {
        let path = folder.path().join(tile.path(hashes.len()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, Tile::encode(hashes)).unwrap();
    }
    folder
}

fn holds(folder: &Path) -> Result<(), String> {
    let bundle = read(folder).map_err(|error| format!("{error:#}"))?;
    verify(&bundle, &key().verifying_key()).map(drop).map_err(|failure| failure.to_string())
}

fn check(bundle: &Bundle) -> Result<(), Failure> {
    verify(bundle, &key().verifying_key()).map(drop)
}

/// The entry that is blamed.
fn blamed(bundle: &Bundle) -> u64 {
    match check(bundle) {
        Err(Failure::Entry { index, .. }) => index,
        other => panic!("no entry was blamed: {other:?}"),
    }
}

#[test]
fn what_nobody_touched_holds() {
    for size in [1, 2, 255, 256, 257, 600] {
        assert_eq!(holds(write(&bundle(size, None)).path()), Ok(()), "{size} entries");
        if size > 3 {
            assert_eq!(holds(write(&bundle(size, Some(1))).path()), Ok(()), "{size} entries, one Task");
        }
    }
}

/// A log of 40 in which one entry of the first Task says that these were erased, and whose payloads are gone.
fn erased(task: Option<u64>, eraser: u64, named: &[u64], gone: &[u64]) -> Bundle {
    let by = Identity { user: "clerk".into(), uid: None, groups: Vec::new() };
    let at = "2026-11-22T00:00:00Z".parse().unwrap();
    let event = json!(Event::Erase { by, reason: "asked for".into(), entries: named.to_vec(), at });
    let name = TaskName { namespace: "ns".into(), name: "task-0".into(), uid: "uid-0".into() };
    let entry = close("erase", at, Some(name), &event, [[1; 16], [2; 16]]).unwrap();
    let mut bundle = bundle_of(40, task, |n| if n == eraser { entry.clone() } else { sealed(n) });
    bundle.lines.iter_mut().filter(|line| gone.contains(&line.index)).for_each(|line| line.payload = None);
    bundle
}

#[test]
fn a_payload_is_erased_by_an_entry_that_says_so_or_was_taken_away() {
    for task in [None, Some(0)] {
        let honest = erased(task, 39, &[3, 6], &[3, 6]);
        assert_eq!(verify(&honest, &key().verifying_key()).unwrap().erased, 2);
        for (why, bundle, taken) in [
            ("nothing says so", erased(task, 39, &[], &[3, 6]), vec![3, 6]),
            ("another one is named", erased(task, 39, &[3, 6], &[3, 6, 9]), vec![9]),
            ("what says so is gone itself", erased(task, 39, &[3, 39], &[3, 39]), vec![3, 39]),
            ("it was said before", erased(task, 0, &[3], &[3]), vec![3]),
        ] {
            assert_eq!(check(&bundle), Err(Failure::Taken(taken)), "{why}");
        }
    }
    let others = erased(None, 39, &[3, 4], &[3, 4]);
    assert_eq!(check(&others), Err(Failure::Taken(vec![4])), "another Task's");
    let all: Vec<u64> = (0..40).collect();
    let said = check(&erased(None, 39, &all, &all)).unwrap_err().to_string();
    assert!(said.starts_with("entries 0, 1, 2, 3, 4, 5, 6, 7 and 32 more: the payload is gone"), "{said}");
    let said = check(&erased(None, 39, &[], &[7])).unwrap_err().to_string();
    assert!(said.starts_with("entry 7: the payload is gone, and no entry of the export says"), "{said}");
}

#[test]
fn every_byte_of_every_entry_is_held() {
    let mut flips = 0;
    for (whole, count) in [(bundle(300, None), 300), (bundle(40, Some(2)), 13)] {
        for at in (0..count).step_by(1 + count / 14) {
            for payload in [false, true] {
                let length =
                    if payload { whole.lines[at].payload.as_ref().unwrap().len() } else { whole.lines[at].body.len() };
                for byte in 0..length {
                    let mut bent = whole.clone();
                    let bytes =
                        if payload { bent.lines[at].payload.as_mut().unwrap() } else { &mut bent.lines[at].body };
                    bytes[byte] ^= 1 << (byte % 8);
                    assert_eq!(blamed(&bent), whole.lines[at].index, "byte {byte} of entry {at}, payload: {payload}");
                    flips += 1;
                }
            }
        }
    }
    println!("{flips} flipped bytes, each found and blamed on its entry");
    assert!(flips > 5_000, "{flips}");
}

#[test]
fn every_byte_of_every_file_is_held() {
    let mut flips = 0;
    for bundle in [bundle(9, None), bundle(9, Some(0))] {
        let folder = write(&bundle);
        let mut files = vec![folder.path().to_owned()];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            // The key is the reader's own here; the export's is not looked at.
            if path.ends_with(KEY) {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            for byte in 0..bytes.len() {
                let mut bent = bytes.clone();
                bent[byte] ^= 1 << (byte % 7);
                fs::write(&path, &bent).unwrap();
                assert!(holds(folder.path()).is_err(), "{}: byte {byte}", path.display());
                flips += 1;
            }
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(holds(folder.path()), Ok(()), "put back, it holds again");
    }
    println!("{flips} flipped bytes of files, each found");
    assert!(flips > 4_000, "{flips}");
}

#[test]
fn what_is_dropped_doubled_or_moved_is_named() {
    let whole = bundle(300, None);
    for at in (0..300usize).step_by(7) {
        let mut dropped = whole.clone();
        dropped.lines.remove(at);
        assert_eq!(blamed(&dropped), at as u64, "dropped");
        let mut doubled = whole.clone();
        doubled.lines.insert(at, whole.lines[at].clone());
        assert_eq!(blamed(&doubled), at as u64, "doubled");
        let mut cut = whole.clone();
        cut.lines.truncate(at);
        assert_eq!(blamed(&cut), at as u64, "truncated");
        let other = (at + 100) % 300;
        let mut swapped = whole.clone();
        let (a, b) = (swapped.lines[at].clone(), swapped.lines[other].clone());
        swapped.lines[at] = Line { index: a.index, ..b };
        swapped.lines[other] = Line { index: whole.lines[other].index, ..a };
        assert_eq!(blamed(&swapped), at.min(other) as u64, "swapped");
    }
    // Between Tasks: another Task's entry, with its own proof, among those of this one.
    let (mut mine, theirs) = (bundle(40, Some(0)), bundle(40, Some(1)));
    mine.lines[3] = theirs.lines[3].clone();
    assert_eq!(blamed(&mine), theirs.lines[3].index);
    let mut claimed = bundle(40, Some(0));
    claimed.lines[3].index += 3;
    assert_eq!(blamed(&claimed), 12, "another place");
    let mut beyond = bundle(40, None);
    beyond.lines.push(Line { index: 40, ..beyond.lines[39].clone() });
    assert_eq!(blamed(&beyond), 40);
}

#[test]
fn another_tree_or_another_key_is_not_this_log() {
    let checkpoint = |failure: Result<(), Failure>| matches!(failure, Err(Failure::Checkpoint(_)));
    let whole = bundle(40, None);
    // Replaced by the log's own, of another size.
    let older = Bundle { checkpoint: bundle(39, None).checkpoint, ..whole.clone() };
    assert_eq!(blamed(&older), 39, "beyond the checkpoint");
    let newer = Bundle { checkpoint: bundle(41, None).checkpoint, ..whole.clone() };
    assert_eq!(blamed(&newer), 40, "missing");
    // Signed by somebody else, or for another log.
    let root = Checkpoint::open(&whole.checkpoint, &key().verifying_key()).unwrap();
    let other = SigningKey::new("countersign.dev/log/test", [8; 32]).unwrap();
    assert!(checkpoint(check(&Bundle { checkpoint: root.sign(&other), ..whole.clone() })));
    let renamed = Checkpoint { origin: "countersign.dev/log/other".into(), ..root };
    assert!(checkpoint(check(&Bundle { checkpoint: renamed.sign(&key()), ..whole })));
}

fn numbered(secret: u8) -> SigningKey {
    SigningKey::new("countersign.dev/log/test", [secret; 32]).unwrap()
}

/// A log of 30 whose key was changed at the 10th and the 20th entry: the whole of it, or one Task's entries.
pub fn rotated(task: Option<u64>) -> Bundle {
    let (mut range, mut tiles, mut lines, mut rotations) =
        (CompactRange::default(), Tiles::new(), Vec::new(), Vec::new());
    for index in 0..30 {
        let Sealed { body, payload } = match index {
            10 | 20 => {
                let (old, new) = if index == 10 { (numbered(7), numbered(8)) } else { (numbered(8), numbered(9)) };
                rotation(&old, &new, &rotate(&old, &new).unwrap())
            }
            index => sealed(index),
        };
        range.append(leaf(&body), |appended| tiles.entry(appended.tile()).or_default().push(appended.hash));
        lines.push(Line { index, body, payload: Some(payload), proof: None });
    }
    for index in [10, 20] {
        let proof = Some(inclusion(&mut tiles, index, 30).unwrap());
        rotations.push(Line { proof, ..lines[usize::try_from(index).unwrap()].clone() });
    }
    let key = numbered(9);
    let checkpoint = Checkpoint { origin: key.verifying_key().name().into(), size: 30, root: range.root() };
    if let Some(task) = task {
        lines.retain(|line| line.index % 3 == task && line.index % 10 != 0);
        for line in &mut lines {
            line.proof = Some(inclusion(&mut tiles, line.index, 30).unwrap());
        }
        tiles.clear();
    }
    let first = numbered(7).verifying_key().to_string();
    Bundle {
        checkpoint: checkpoint.sign(&key),
        key: first,
        lines,
        rotations,
        anchors: Vec::new(),
        tiles,
        strangers: Vec::new(),
    }
}

fn rotation(old: &SigningKey, new: &SigningKey, note: &str) -> Sealed {
    let at = "2026-11-21T00:00:00Z".parse().unwrap();
    let (old, new) = (old.verifying_key().to_string(), new.verifying_key().to_string());
    let event = json!(Event::RotateKey { old, new, note: note.to_owned(), at });
    close("rotateKey", at, None, &event, [[1; 16], [2; 16]]).unwrap()
}

#[test]
fn a_new_key_is_followed_from_an_old_one_and_from_no_other() {
    for bundle in [rotated(None), rotated(Some(1))] {
        for (trusted, followed) in [(7, 2), (8, 1), (9, 0)] {
            let proved = verify(&bundle, &numbered(trusted).verifying_key()).unwrap();
            assert_eq!(proved.keys.followed(), followed, "from key {trusted}");
        }
        let stranger = verify(&bundle, &numbered(6).verifying_key()).unwrap_err().to_string();
        assert!(stranger.contains("is not signed by"), "{stranger}");
        let blamed = |bundle: &Bundle| match verify(bundle, &numbered(7).verifying_key()) {
            Err(Failure::Entry { index, .. }) => index,
            other => panic!("no entry was blamed: {other:?}"),
        };
        // What only the new key signed, or only the old one, or neither.
        for (old, new) in [(8, 8), (7, 7), (6, 6)] {
            let text = String::from_utf8(bundle.rotations[0].payload.clone().unwrap()).unwrap();
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            let note = event["event"]["note"].as_str().unwrap();
            let statement = note.split("\n\n").next().unwrap().to_owned() + "\n";
            let forged = if old == new { numbered(old).sign(&statement) } else { unreachable!() };
            let mut bent = bundle.clone();
            let Sealed { body, payload } = rotation(&numbered(7), &numbered(8), &forged);
            bent.rotations[0] = Line { body, payload: Some(payload), ..bundle.rotations[0].clone() };
            assert_eq!(blamed(&bent), 10, "signed by {old} only");
        }
        // Signed by both, and never logged.
        let mut unlogged = bundle.clone();
        let Sealed { body, payload } =
            rotation(&numbered(7), &numbered(8), &rotate(&numbered(7), &numbered(8)).unwrap());
        unlogged.rotations[0] = Line {
            body: [&body[..body.len() - 1], b"}"].concat(),
            payload: Some(payload),
            ..bundle.rotations[0].clone()
        };
        unlogged.rotations[0].index = 11;
        assert_eq!(blamed(&unlogged), 11);
        // Of a whole log the entries themselves tell.
        for dropped in [0, 1] {
            let mut without = bundle.clone();
            without.rotations.remove(dropped);
            match verify(&without, &numbered(7).verifying_key()) {
                Ok(proved) => assert!(proved.extent == Extent::Whole && proved.keys.followed() == 2),
                Err(failure) => assert!(matches!(failure, Failure::Checkpoint(_)) && without.tiles.is_empty()),
            }
        }
        let mut erased = bundle.clone();
        erased.rotations[1].payload = None;
        assert_eq!(blamed(&erased), 20);
        let folder = write(&bundle);
        for file in [ROTATIONS, CHECKPOINT] {
            let path = folder.path().join(file);
            let bytes = fs::read(&path).unwrap();
            for byte in 0..bytes.len() {
                let mut bent = bytes.clone();
                bent[byte] ^= 1 << (byte % 7);
                fs::write(&path, &bent).unwrap();
                let holds =
                    read(folder.path()).is_ok_and(|bundle| verify(&bundle, &numbered(7).verifying_key()).is_ok());
                assert!(!holds, "{file}: byte {byte}");
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
    // What was signed by the first key is still the beginning.
    let whole = rotated(None);
    let mut early = CompactRange::default();
    whole.lines.iter().take(5).for_each(|line| early.append(leaf(&line.body), |_| ()));
    let kept = Checkpoint { origin: "countersign.dev/log/test".into(), size: 5, root: early.root() }.sign(&numbered(7));
    assert!(consistency::check(&kept, &whole, &numbered(7).verifying_key()).is_ok());
    assert!(
        consistency::check(&kept, &whole, &numbered(9).verifying_key()).is_ok(),
        "whichever of its keys is trusted"
    );
    assert!(consistency::check(&kept, &whole, &numbered(6).verifying_key()).is_err());
}

#[test]
fn a_retired_key_signs_nothing_more_whether_its_rotation_is_told_or_hidden() {
    for told in [rotated(None), rotated(Some(1))] {
        let honest = Checkpoint::open(&told.checkpoint, &numbered(9).verifying_key()).unwrap();
        let hidden = Bundle { rotations: Vec::new(), ..told.clone() };
        for (retired, entry) in [(7, 10), (8, 20)] {
            let signed = |bundle: &Bundle| Bundle {
                checkpoint: honest.sign(&numbered(retired)),
                key: numbered(retired).verifying_key().to_string(),
                ..bundle.clone()
            };
            let refused = |bundle: &Bundle, trusted: u8| {
                verify(bundle, &numbered(trusted).verifying_key()).map(drop).map_err(|failure| failure.to_string())
            };
            for trusted in [retired, 9] {
                let said = refused(&signed(&told), trusted).unwrap_err();
                assert!(said.contains(&format!("which entry {entry} retired")), "{retired}, {trusted}: {said}");
            }
            let said = refused(&signed(&hidden), 9).unwrap_err();
            assert!(said.contains("retired") || said.contains("not signed by"), "today's key is trusted: {said}");
            let said = refused(&signed(&hidden), retired);
            match told.tiles.is_empty() {
                false => assert!(said.unwrap_err().contains(&format!("which entry {entry} retired"))),
                // Some entries cannot tell what others say: it is refused where the key was to be trusted.
                true => {
                    assert_eq!(said, Ok(()));
                    let (text, refusal) = trusting(&signed(&hidden), retired, false);
                    let first = text.lines().next().unwrap();
                    assert!(first.starts_with("Not proved: cannot tell whether this key was rotated"), "{first}");
                    assert!(refusal.is_some_and(|why| why.contains("which --key asks for")), "{text}");
                }
            }
        }
    }
    // What an anchor holds, or somebody kept, was signed in its key's own time or not at all.
    let proved = verify(&rotated(None), &numbered(7).verifying_key()).unwrap();
    for (key, size, holds) in
        [(7, 10, true), (7, 11, false), (8, 10, false), (8, 11, true), (8, 21, false), (9, 21, true)]
    {
        let checkpoint = Checkpoint { size, ..proved.checkpoint.clone() }.sign(&numbered(key));
        assert_eq!(proved.keys.open(&checkpoint).is_ok(), holds, "key {key} at size {size}");
    }
}

/// What `verify` says to a reader who trusts this key, or to one who trusts none, and why it refuses.
fn trusting(bundle: &Bundle, secret: u8, current: bool) -> (String, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, numbered(secret).verifying_key().to_string()).unwrap();
    let demands = Demands::read(bundle, Some(&file), None).unwrap().current(current);
    let proved = demands.by_any_key(|key| verify(bundle, key)).unwrap();
    let mut report = Report::default();
    demands.report(bundle, &mut report, &proved.to_string(), proved.tells_rotations()).unwrap();
    (report.to_string(), report.refusal())
}

#[test]
fn an_export_tells_of_every_rotation_or_cannot_tell_whether_its_key_is_retired() {
    let since = |from: u64| {
        let whole = rotated(None);
        let mut tiles = whole.tiles.clone();
        let mut since = Bundle { tiles: Tiles::new(), ..whole };
        since.lines.retain(|line| line.index >= from);
        for line in &mut since.lines {
            line.proof = Some(inclusion(&mut tiles, line.index, 30).unwrap());
        }
        since
    };
    // Its last key began with entry 20, so whoever sees all from 21 on sees any that follows.
    for (bundle, told) in [
        (rotated(None), true),
        (since(15), true),
        (since(21), true),
        (since(22), false),
        (rotated(Some(1)), false),
        (Bundle { lines: Vec::new(), ..since(29) }, false),
    ] {
        let proved = verify(&bundle, &numbered(9).verifying_key()).unwrap();
        assert_eq!(proved.tells_rotations(), told, "{:?}", proved.extent);
        let (text, refusal) = trusting(&bundle, 9, false);
        assert_eq!(refusal.is_none(), told, "{text}");
        assert_eq!(trusting(&bundle, 9, true).1, None, "the reader knows that it signs today");
        // Where no key is trusted, nothing was to be proved, and it is said all the same.
        let demands = Demands::read(&bundle, None, None).unwrap();
        let mut report = Report::default();
        demands.report(&bundle, &mut report, "", proved.tells_rotations()).unwrap();
        assert_eq!(report.refusal(), None);
        assert_eq!(report.to_string().lines().next().unwrap().contains("cannot tell whether this key"), !told);
    }
}

#[test]
fn an_export_of_nothing_new_says_so() {
    let mut nothing = bundle(40, None);
    nothing.lines.clear();
    assert_eq!(blamed(&nothing), 0, "the tree is there, and its entries are not");
    nothing.tiles.clear();
    let proved = verify(&nothing, &key().verifying_key()).unwrap();
    assert_eq!(proved.extent, Extent::Nothing);
    assert!(proved.to_string().ends_with("nothing was logged from entry 40 on."), "{proved}");
}

#[test]
fn files_that_something_converted_or_left_behind_are_named() {
    for bundle in [rotated(None), rotated(Some(1))] {
        let folder = write(&bundle);
        for file in [CHECKPOINT, KEY, ENTRIES, ROTATIONS] {
            let path = folder.path().join(file);
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.trim_end_matches('\n').to_owned() + "\n";
            fs::write(&path, lines.replace('\n', "\r\n")).unwrap();
            let error = format!("{:#}", read(folder.path()).unwrap_err());
            assert!(error.contains(file) && error.contains("its lines end in CRLF"), "{error}");
            fs::write(&path, text).unwrap();
        }
        for name in [".DS_Store", "tile/.DS_Store", "tile/0/Thumbs.db"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "of a file manager").unwrap();
        }
        let read = read(folder.path()).unwrap();
        assert_eq!(read.strangers, ["tile/.DS_Store", "tile/0/Thumbs.db"]);
        assert!(verify(&read, &numbered(7).verifying_key()).is_ok());
    }
    let error = read(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(error.contains("is not the folder of an export"), "{error}");
}

#[test]
fn what_claims_to_be_everything_since_then_is() {
    let since = |from: u64| {
        let mut bundle = bundle(40, None);
        let mut tiles = bundle.tiles.clone();
        bundle.lines.retain(|line| line.index >= from);
        for line in &mut bundle.lines {
            line.proof = Some(inclusion(&mut tiles, line.index, 40).unwrap());
        }
        bundle.tiles.clear();
        bundle
    };
    let proved = verify(&since(17), &key().verifying_key()).unwrap();
    assert_eq!(proved.extent, Extent::Part { from: Some(17), task: None });
    assert!(proved.to_string().contains("all of its entries from 17 on"), "{proved}");
    for at in 1..23 {
        let mut dropped = since(17);
        dropped.lines.remove(at);
        let failure = verify(&dropped, &key().verifying_key()).unwrap_err().to_string();
        assert!(
            failure.contains("is of another Task than the first") || failure.contains("is missing"),
            "{at}: {failure}"
        );
    }
}

#[test]
fn whoever_kept_a_checkpoint_notices_a_fork_and_a_rollback() {
    let key = key().verifying_key();
    let whole = bundle(300, None);
    for old in [1, 255, 256, 257, 300] {
        let kept = bundle(old, None).checkpoint;
        let said = consistency::check(&kept, &whole, &key).unwrap();
        assert!(said.contains(&format!("The first {old} of its 300")), "{said}");
    }
    let later = bundle(301, None).checkpoint;
    let rolled_back = consistency::check(&later, &whole, &key).unwrap_err().to_string();
    assert!(rolled_back.contains("rolled back: it had 301 entries and now has 300"), "{rolled_back}");
    // The same key signs another history.
    let mut forked = CompactRange::default();
    for index in 0..100 {
        forked.append(leaf(&sealed(if index == 50 { 51 } else { index }).body), |_| ());
    }
    let fork = Checkpoint { origin: key.name().into(), size: 100, root: forked.root() }.sign(&self::key());
    let rewritten = consistency::check(&fork, &whole, &key).unwrap_err().to_string();
    assert!(rewritten.contains("rewritten: its first 100 entries"), "{rewritten}");
}
