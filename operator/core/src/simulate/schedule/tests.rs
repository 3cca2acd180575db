use super::*;
use proptest::prelude::*;

/// Each takes so long, and none starts before its time.
struct Fixed(Vec<(u64, Option<u64>)>);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Work for Fixed {
    fn begin(&mut self, step: usize, at: Duration, turn: Turn) -> Begin {
        match self.0[step] {
            (_, Some(start)) if at < seconds(start) => {
                Begin::Park { class: step.to_string(), wake: Wake::At(seconds(start)) }
            }
            (0, _) => Begin::Done,
            _ if turn == Turn::Ahead => Begin::Wait,
            (takes, _) => Begin::For(seconds(takes)),
        }
    }

    fn end(&mut self, _: usize, _: Duration) {}
}

fn times(steps: &[(&[usize], u64)], parallelism: u32) -> (Vec<u64>, u64, Vec<usize>) {
    let needs: Vec<BTreeSet<usize>> = steps.iter().map(|(needs, _)| needs.iter().copied().collect()).collect();
    let mut work = Fixed(steps.iter().map(|(_, takes)| (*takes, None)).collect());
    let times = schedule(&needs, parallelism, &mut work);
    (times.starts.iter().map(Duration::as_secs).collect(), times.end().as_secs(), times.critical_path())
}

#[test]
fn steps_run_side_by_side_as_far_as_the_plan_allows() {
    let diamond: &[(&[usize], u64)] = &[(&[], 2), (&[0], 5), (&[0], 3), (&[1, 2], 1)];
    assert_eq!(times(diamond, 10), (vec![0, 2, 2, 7], 8, vec![0, 1, 3]));
    assert_eq!(times(diamond, 1), (vec![0, 2, 7, 10], 11, vec![0, 1, 2, 3]), "the third waits for the second's place");
    let wide: &[(&[usize], u64)] = &[(&[], 4), (&[], 1), (&[], 2), (&[2], 1)];
    assert_eq!(times(wide, 2), (vec![0, 0, 1, 3], 4, vec![0]), "of those that end last, the first");
    assert_eq!(times(&[(&[], 0), (&[0], 0), (&[1], 3)], 1), (vec![0, 0, 0], 3, vec![0, 1, 2]), "some take no time");
    assert_eq!(times(&[], 1), (vec![], 0, vec![]));
}

#[test]
fn what_waits_for_a_time_keeps_nobody_else() {
    let needs = [BTreeSet::new(), BTreeSet::new(), BTreeSet::from([0])];
    let times = schedule(&needs, 1, &mut Fixed(vec![(2, Some(10)), (3, None), (1, None)]));
    assert_eq!(times.starts, [10, 0, 12].map(seconds));
    assert_eq!(times.critical_path(), [0, 2], "nothing of the Plan kept the first");
}

/// So much at once fits, and each of them takes one.
struct Purse {
    left: usize,
    tried: usize,
}

impl Work for Purse {
    fn begin(&mut self, _: usize, _: Duration, turn: Turn) -> Begin {
        self.tried += 1;
        match (self.left, turn) {
            (0, Turn::Start | Turn::Ahead) => return Begin::Park { class: "all".into(), wake: Wake::AtAnEnd },
            (_, Turn::Ahead) => return Begin::Wait,
            (_, Turn::Start | Turn::Forced) => {}
        }
        self.left = self.left.saturating_sub(1);
        Begin::For(seconds(1))
    }

    fn end(&mut self, _: usize, _: Duration) {
        self.left += 1;
    }
}

#[test]
fn of_those_that_wait_for_the_same_one_is_tried_after_the_other() {
    let mut purse = Purse { left: 2, tried: 0 };
    let times = schedule(&vec![BTreeSet::new(); 100], 10, &mut purse);
    assert_eq!(times.end(), seconds(50), "two at once");
    assert!(purse.tried <= 100 + 98 + 100, "{} tries", purse.tried);
    let mut nothing = Purse { left: 0, tried: 0 };
    let times = schedule(&vec![BTreeSet::new(); 3], 10, &mut nothing);
    assert!(times.end() > Duration::ZERO, "what nobody gives back is not waited for for ever");
}

proptest! {
    /// Whatever the Plan: no step starts before its needs have ended, no more run at once than may, and it takes
    /// as long as the longest chain at least and all of them one after the other at most.
    #[test]
    fn a_schedule_holds(
        steps in prop::collection::vec((0u64..5, prop::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..40),
        parallelism in 1u32..6,
    ) {
        let needs: Vec<BTreeSet<usize>> = steps.iter().enumerate()
            .map(|(i, (_, picks))| if i == 0 { BTreeSet::new() } else { picks.iter().map(|p| p.index(i)).collect() })
            .collect();
        let takes: Vec<u64> = steps.iter().map(|(takes, _)| *takes).collect();
        let times = schedule(&needs, parallelism, &mut Fixed(takes.iter().map(|t| (*t, None)).collect()));
        let mut longest = vec![0; takes.len()];
        for (step, needs) in needs.iter().enumerate() {
            for need in needs {
                prop_assert!(times.ends[*need] <= times.starts[step]);
            }
            longest[step] = takes[step] + needs.iter().map(|need| longest[*need]).max().unwrap_or(0);
            prop_assert_eq!(times.ends[step], times.starts[step] + seconds(takes[step]));
        }
        for second in 0..times.end().as_secs() {
            let at = seconds(second) + Duration::from_millis(500);
            let running = (0..takes.len()).filter(|s| times.starts[*s] < at && at < times.ends[*s]).count();
            prop_assert!(running <= parallelism as usize);
        }
        prop_assert!(times.end() >= seconds(longest.iter().copied().max().unwrap_or(0)));
        prop_assert!(times.end() <= seconds(takes.iter().sum()));
        let path = times.critical_path();
        let along: u64 = path.iter().map(|step| takes[*step]).sum();
        prop_assert_eq!(seconds(along), times.end(), "nothing waits without a step that it waits for");
    }
}
