//! Many at once: one update at a time, and never two histories.

use std::sync::{Arc, Barrier};

use crate::history::{FORK, History, assert_one, key, request};
use crate::process::Process;

#[test]
fn of_many_submissions_at_once_one_history_is_cosigned() {
    let (mut conflicts, log) = (0, [key(7).verifying_key().to_string()]);
    for round in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let witness = Process::start(folder.path(), &log);
        assert_eq!(witness.add(&request(0, FORK, History::Honest).encode()).status, 200);
        // All begin with the same size, and none follows from another.
        let bodies: Vec<(u64, History, String)> = (FORK + 1..FORK + 9)
            .flat_map(|size| [History::Honest, History::Other].map(|history| (size, history)))
            .map(|(size, history)| (size, history, request(FORK, size, history).encode()))
            .collect();
        let start = Arc::new(Barrier::new(bodies.len()));
        let threads = bodies.into_iter().map(|(size, history, body)| {
            let (start, address) = (Arc::clone(&start), witness.address.clone());
            std::thread::spawn(move || {
                start.wait();
                (size, history, crate::process::post(&address, &body).unwrap())
            })
        });
        let answers: Vec<_> = threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect();
        let cosigned: Vec<(u64, History)> = answers
            .iter()
            .filter(|(_, _, answer)| answer.status == 200)
            .map(|(size, history, _)| (*size, *history))
            .collect();
        assert_eq!(cosigned.len(), 1, "round {round}: each began with what was cosigned last: {answers:?}");
        assert_one(&cosigned);
        let told = format!("{}\n", cosigned[0].0);
        for (_, _, answer) in answers.iter().filter(|(_, _, answer)| answer.status != 200) {
            assert_eq!((answer.status, &answer.body), (409, &told), "round {round}");
            conflicts += 1;
        }
    }
    assert_eq!(conflicts, 75);
}
