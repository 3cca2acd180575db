//! Expressions that were made to do harm, thrown at the evaluator by several namespaces at once: the process stays
//! within its memory, and whoever asks little is answered within a second.
//!
//! By default a few seconds with one seed. `COUNTERSIGN_SOAK_SECONDS=600 COUNTERSIGN_SEED=7` is for the soak.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_core::cel::{CelEvaluator, Expression, Variables, Vocabulary};
use serde_json::{Value, json};

/// What the operator's pod is limited to, and less than it.
const MOST_MEMORY: u64 = 256 << 20;

/// How long anybody else may wait.
const MOST_DELAY: Duration = Duration::from_secs(1);

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }
}

/// Expressions that are known to be dear, whole.
const CORPUS: [&str; 22] = [
    r"'x'.matches(r'\w{400}')",
    r"'x'.matches(r'\w{' + '400}')",
    r"task.list.all(n, 'x'.matches(r'\w{30}' + string(n)))",
    r"task.text.matches('[ab]*a[ab]{500}' + 'c')",
    r"task.text.matches(r'(\w+\s*)+$')",
    r"task.texts.all(t, t.matches('(a|aa)+$' + t))",
    r"'x'.matches(task.text)",
    "task.list.all(a, task.list.all(b, a + b >= 0))",
    "task.list.exists(a, task.list.exists(b, a + b < 0))",
    "task.list.map(a, task.list.map(b, a + b))",
    "task.list.map(a, task.list.filter(b, a + b < 0))",
    "task.list.map(a, task.text + string(a))",
    "task.list.map(a, [task.text, task.text])",
    "task.list.map(a, task.list)",
    "task.list + task.list + task.list + task.list + task.list",
    "[task.list, task.list, task.list, task.list].map(l, l + l)",
    "task.texts.map(t, t + t + t + t).map(t, t + t + t + t).map(t, t + t + t + t)",
    "{'a': task, 'b': task, 'c': task}",
    "task.list.filter(a, task.list.filter(b, a + b < 0) == [a])",
    "task.texts.all(a, task.texts.all(b, a != b + '' || a.contains(b)))",
    "task == task && task.list == task.list",
    "task.deep.map(k, task.deep)",
];

/// An expression of the language's own pieces, most of which go together.
fn generate(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        let leaves = [
            "task.list",
            "task.text",
            "task.texts",
            "task.deep",
            "task.n",
            "x",
            "y",
            "1",
            "2.5",
            "'ab'",
            "true",
            "null",
        ];
        return random.of(&leaves).to_owned();
    }
    let below = |random: &mut Random| generate(random, depth - 1);
    match random.below(9) {
        0 => {
            let (left, right) = (below(random), below(random));
            format!(
                "({left} {} {right})",
                random.of(&["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in"])
            )
        }
        1 => {
            let (range, body) = (below(random), below(random));
            let (of, variable) = (random.of(&["all", "exists", "exists_one", "map", "filter"]), random.of(&["x", "y"]));
            format!("{range}.{of}({variable}, {body})")
        }
        2 => {
            let pattern =
                random.of(&[r"\w{60}", "(a+)+$", "[ab]*a[ab]{99}c", r"\p{L}{20}", "(((a{20}){20}){20})", "."]);
            format!("string({}).matches(r'{pattern}'{})", below(random), random.of(&["", " + ''", " + string(task.n)"]))
        }
        3 => format!("[{}, {}, {}]", below(random), below(random), below(random)),
        4 => format!("{{'a': {}, 'b': {}}}", below(random), below(random)),
        5 => format!("({} ? {} : {})", below(random), below(random), below(random)),
        6 => format!("size({})", below(random)),
        7 => format!("dyn({})", below(random)),
        _ => format!("string({})", below(random)),
    }
}

/// As much as steps can give: a megabyte of each shape.
fn variables() -> Variables {
    let texts: Vec<String> = (0..2_000).map(|n| format!("{n:0>64}")).collect();
    let list: Vec<u32> = (0..50_000).collect();
    let deep: serde_json::Map<String, Value> =
        (0..5_000).map(|n| (format!("k{n}"), json!({"n": [n, {"m": n}]}))).collect();
    let text = "abba".repeat(100_000);
    Variables::new().with("task", json!({"list": list, "text": text, "texts": texts, "deep": deep, "n": 3}))
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap()
}

#[test]
fn who_floods_the_evaluator_takes_no_memory_and_keeps_nobody_waiting() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (seconds, seed) = (number("COUNTERSIGN_SOAK_SECONDS").unwrap_or(4), number("COUNTERSIGN_SEED").unwrap_or(1));
    let vocabulary = Vocabulary::new(["task"]);
    let (evaluator, large) = (CelEvaluator::new(), variables());
    let (stop, tried, parsed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let small = Variables::new().with("task", json!({"name": "pay", "amount": 12.5}));
    let rule = Expression::parse_bool("task.amount < 100 && task.name.matches('^p')", &vocabulary).unwrap();
    let (mut longest, mut asked) = (Duration::ZERO, 0_u32);
    std::thread::scope(|scope| {
        for n in 0..14_u64 {
            let (evaluator, stop, tried, parsed) = (evaluator.of(&format!("noisy-{}", n % 3)), &stop, &tried, &parsed);
            let (vocabulary, large) = (&vocabulary, &large);
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(n));
                while !stop.load(Ordering::Relaxed) {
                    let source = match random.below(2) {
                        0 => random.of(&CORPUS).to_owned(),
                        _ => {
                            let depth = 1 + random.below(4);
                            generate(&mut random, depth)
                        }
                    };
                    tried.fetch_add(1, Ordering::Relaxed);
                    if let Ok(expression) = Expression::parse(&source, vocabulary) {
                        parsed.fetch_add(1, Ordering::Relaxed);
                        let _ = evaluator.evaluate(&expression, large);
                    }
                }
            });
        }
        let quiet = evaluator.of("quiet");
        while Instant::now() < until {
            let begun = Instant::now();
            // What is not judged now is judged again in a moment, and that is part of the wait.
            loop {
                match quiet.evaluate_bool(&rule, &small) {
                    Ok(answer) => break assert!(answer),
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
            longest = longest.max(begun.elapsed());
            asked += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (tried, parsed, peak) = (tried.into_inner(), parsed.into_inner(), peak());
    println!(
        "seed {seed}, {seconds} s: {tried} expressions, {parsed} of them parsed; {asked} others asked, the slowest took {longest:?}; at most {} MiB",
        peak >> 20
    );
    assert!(parsed > 20 && asked > 20, "too little was done to say anything");
    assert!(longest < MOST_DELAY, "somebody waited {longest:?}");
    assert!(peak < MOST_MEMORY, "it took {} MiB", peak >> 20);
}
