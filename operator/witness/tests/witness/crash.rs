//! Crashes: whatever the step, what was cosigned stays one history.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use countersign_witness::folder::FolderError;
use countersign_witness::metrics::Metrics;
use countersign_witness::witness::{Step, Witness};
use nix::sys::signal::{Signal, raise};

use crate::history::{FORK, History, assert_one, key, request};
use crate::process::{Process, key as witness_key, post, public};

fn open(folder: &Path) -> Witness {
    let start = Instant::now();
    loop {
        match Witness::open(witness_key(), folder, vec![key(7).verifying_key()], Metrics::new().unwrap()) {
            Ok(witness) => return witness,
            // Another test that starts a process just now holds a copy of the lock until that process has begun.
            Err(FolderError::InUse(_)) if start.elapsed() < Duration::from_secs(10) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Not a test of its own: the process that `a_crash_at_each_step` kills.
#[test]
#[ignore = "run by another test"]
fn child() {
    let Ok(folder) = std::env::var("WITNESS_FOLDER") else { return };
    let dies_at: usize = std::env::var("WITNESS_STEP").unwrap().parse().unwrap();
    let request = std::fs::read_to_string(format!("{folder}.request")).unwrap();
    let witness = open(Path::new(&folder)).at_each_step(move |step| {
        if step == Step::ALL[dies_at] {
            raise(Signal::SIGKILL).unwrap();
        }
    });
    println!("ANSWERED {:?}", witness.add(&request).is_ok());
}

#[test]
fn a_crash_at_each_step_leaves_what_was_or_what_is_and_never_a_fork() {
    let mut crashes = 0;
    for first in [None, Some(FORK), Some(FORK + 2)] {
        for (dies_at, step) in Step::ALL.into_iter().enumerate() {
            for then in [History::Other, History::Honest] {
                let parent = tempfile::tempdir().unwrap();
                let folder = parent.path().join("data");
                std::fs::create_dir(&folder).unwrap();
                let mut cosigned = Vec::new();
                let mut size = 0;
                if let Some(first) = first {
                    open(&folder).add(&request(0, first, History::Honest).encode()).unwrap();
                    cosigned.push((first, History::Honest));
                    size = first;
                }
                let crashed = request(size, 9, History::Honest).encode();
                std::fs::write(parent.path().join("data.request"), crashed).unwrap();
                let output = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "crash::child", "--ignored", "--nocapture"])
                    .env("WITNESS_FOLDER", &folder)
                    .env("WITNESS_STEP", dies_at.to_string())
                    .output()
                    .unwrap();
                assert_eq!(output.status.signal(), Some(9), "{step:?}: {output:?}");
                assert!(!String::from_utf8_lossy(&output.stdout).contains("ANSWERED"), "{step:?}");
                crashes += 1;

                // It comes back with the old or the new, and the lock is free.
                let witness = open(&folder);
                let kept = match step {
                    Step::Judged | Step::Written | Step::Synced => size,
                    Step::Renamed | Step::Kept | Step::Signed => 9,
                };
                let now = if then == History::Honest { History::Other } else { History::Honest };
                for history in [then, now] {
                    for (old, new) in [(kept, 9), (kept, 12), (9, 12), (12, 12), (9, 9)] {
                        if witness.add(&request(old, new, history).encode()).is_ok() {
                            cosigned.push((new, history));
                        }
                    }
                }
                assert_one(&cosigned);
                assert!(cosigned.iter().any(|(new, _)| *new == 12), "{step:?}: it goes on: {cosigned:?}");
                if kept == 9 {
                    let only_honest = cosigned.iter().all(|(_, history)| *history == History::Honest);
                    assert!(only_honest, "{step:?}: what was kept binds, though nobody was answered: {cosigned:?}");
                }
            }
        }
    }
    println!("{crashes} crashes, no fork cosigned");
    assert_eq!(crashes, 36);
}

/// Submits one history after the other, size by size, until the process is gone.
fn submit(address: &str, history: History, cosigned: &mpsc::Sender<(u64, History)>) {
    let mut old = 0;
    let mut size = FORK;
    while let Ok(answer) = post(address, &request(old, size, history).encode()) {
        match answer.status {
            200 => {
                public().find_among(&answer.body, &request(0, size, history).checkpoint).unwrap();
                // Who listens may have heard enough.
                let _ = cosigned.send((size, history));
                (old, size) = (size, size + 1);
            }
            409 => {
                let told = answer.body.trim().parse().unwrap();
                // The same size again, with another root.
                size = if told == old { told + 1 } else { size.max(told) };
                old = told;
            }
            // It follows from no history that was cosigned; try from the next size on, as a liar would.
            422 => size += 1,
            other => panic!("{other}: {answer:?}"),
        }
        size = size.max(old);
    }
}

#[test]
fn killed_at_any_moment_under_two_histories_it_cosigns_one() {
    let log = [key(7).verifying_key().to_string()];
    let (mut kills, mut total) = (0, 0);
    for _ in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let mut cosigned = Vec::new();
        for enough in [1, 2, 3, 5] {
            let witness = Process::start(folder.path(), &log);
            let (told, heard) = mpsc::channel();
            let clients = [History::Honest, History::Other].map(|history| {
                let (address, told) = (witness.address.clone(), told.clone());
                std::thread::spawn(move || submit(&address, history, &told))
            });
            drop(told);
            cosigned.extend((0..enough).map(|_| heard.recv().unwrap()));
            witness.kill();
            kills += 1;
            clients.into_iter().for_each(|client| client.join().unwrap());
            cosigned.extend(heard);
        }
        assert_one(&cosigned);
        total += cosigned.len();
    }
    println!("{kills} kills, {total} cosignatures, each of one history");
    assert!(total >= 60);
}
