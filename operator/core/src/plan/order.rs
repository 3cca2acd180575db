//! Which steps come before which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use countersign_crds::Step;

/// The steps of one Plan by name, to follow their needs.
pub(crate) struct Order<'a> {
    steps: BTreeMap<&'a str, &'a Step>,
}

impl<'a> Order<'a> {
    /// The order of these steps, whose names are unique.
    pub fn of(steps: &'a [Step]) -> Order<'a> {
        Order { steps: steps.iter().map(|step| (step.name.as_str(), step)).collect() }
    }

    /// The step of that name.
    pub fn step(&self, name: &str) -> Option<&'a Step> {
        self.steps.get(name).copied()
    }

    /// Whether a step has always ended before this one starts: it is needed, or this one is a finally step and that
    /// one is not.
    pub fn comes_before(&self, step: &Step, name: &str) -> bool {
        let ordinary = || self.step(name).is_some_and(|before| !before.finally);
        // The nearest are looked at first: it is mostly one of them.
        let mut needed = self.needed_by(step);
        (step.finally && ordinary()) || needed.any(|before| before == name)
    }

    /// Every step that this one needs, and that those need, the nearest first.
    pub fn needed_by<'s>(&'s self, step: &'s Step) -> impl Iterator<Item = &'s str> {
        let mut seen = BTreeSet::new();
        let mut open: VecDeque<&str> = step.all_needs().map(|need| need.step).collect();
        std::iter::from_fn(move || {
            while let Some(name) = open.pop_front() {
                if seen.insert(name) {
                    open.extend(self.steps.get(name).into_iter().flat_map(|step| step.all_needs()).map(|n| n.step));
                    return Some(name);
                }
            }
            None
        })
    }
}
