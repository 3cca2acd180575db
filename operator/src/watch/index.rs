//! What the watches saw, kept small: a view of each object, grouped by the Task that it belongs to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::runtime::watcher::Event;

/// Names a Task: its place and its incarnation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<V> {
    pub task: TaskKey,
    pub name: String,
    pub view: V,
}

/// Views of the objects of one kind. A relist replaces everything at once, so that nothing vanishes while
/// it is under way.
#[derive(Debug)]
pub struct Index<V> {
    tasks: HashMap<String, Group<V>>,
    relist: Option<HashMap<String, Group<V>>>,
}

#[derive(Debug)]
struct Group<V> {
    task: TaskKey,
    views: BTreeMap<String, V>,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        Index { tasks: HashMap::new(), relist: None }
    }
}

impl<V: Clone + PartialEq> Index<V> {
    /// Takes in one event of a watch; returns the Tasks for which something is now different.
    pub fn take<K>(&mut self, event: &Event<K>, entry: impl Fn(&K) -> Option<Entry<V>>) -> BTreeSet<TaskKey> {
        match event {
            Event::Init => {
                self.relist = Some(HashMap::new());
                BTreeSet::new()
            }
            Event::InitApply(object) => {
                if let (Some(relist), Some(entry)) = (&mut self.relist, entry(object)) {
                    insert(relist, entry);
                }
                BTreeSet::new()
            }
            Event::InitDone => {
                let Some(relist) = self.relist.take() else { return BTreeSet::new() };
                let before = std::mem::replace(&mut self.tasks, relist);
                let all = before.values().chain(self.tasks.values()).map(|group| group.task.clone());
                all.collect::<BTreeSet<_>>().into_iter().filter(|task| !same(&before, &self.tasks, task)).collect()
            }
            Event::Apply(object) => {
                let Some(entry) = entry(object) else { return BTreeSet::new() };
                let known = self.tasks.get(&entry.task.uid).and_then(|group| group.views.get(&entry.name));
                if known == Some(&entry.view) {
                    return BTreeSet::new();
                }
                let task = entry.task.clone();
                insert(&mut self.tasks, entry);
                BTreeSet::from([task])
            }
            Event::Delete(object) => {
                let Some(entry) = entry(object) else { return BTreeSet::new() };
                let Some(group) = self.tasks.get_mut(&entry.task.uid) else { return BTreeSet::new() };
                group.views.remove(&entry.name);
                if group.views.is_empty() {
                    self.tasks.remove(&entry.task.uid);
                }
                BTreeSet::from([entry.task])
            }
        }
    }

    /// The views of one Task's objects, by name.
    pub fn of(&self, task_uid: &str) -> BTreeMap<String, V> {
        self.tasks.get(task_uid).map(|group| group.views.clone()).unwrap_or_default()
    }
}

fn insert<V>(tasks: &mut HashMap<String, Group<V>>, entry: Entry<V>) {
    let Entry { task, name, view } = entry;
    let group = tasks.entry(task.uid.clone()).or_insert_with(|| Group { task, views: BTreeMap::new() });
    group.views.insert(name, view);
}

fn same<V: PartialEq>(a: &HashMap<String, Group<V>>, b: &HashMap<String, Group<V>>, task: &TaskKey) -> bool {
    a.get(&task.uid).map(|group| &group.views) == b.get(&task.uid).map(|group| &group.views)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &(&str, &str, u32)) -> Option<Entry<u32>> {
        let (task, name, view) = *object;
        let task = TaskKey { namespace: "ns".into(), name: task.into(), uid: task.into() };
        Some(Entry { task, name: name.into(), view })
    }

    fn names(touched: BTreeSet<TaskKey>) -> Vec<String> {
        touched.into_iter().map(|task| task.name).collect()
    }

    #[test]
    fn a_relist_replaces_everything_at_once_and_names_what_differs() {
        let mut index = Index::default();
        for object in [("a", "1", 1), ("b", "1", 1), ("c", "1", 1)] {
            assert_eq!(names(index.take(&Event::Apply(object), entry)), [object.0]);
        }
        assert!(index.take::<(&str, &str, u32)>(&Event::Init, entry).is_empty());
        for object in [("a", "1", 1), ("b", "1", 2)] {
            assert!(index.take(&Event::InitApply(object), entry).is_empty());
            assert_eq!(index.of("c").len(), 1, "nothing vanishes during the relist");
        }
        assert_eq!(names(index.take::<(&str, &str, u32)>(&Event::InitDone, entry)), ["b", "c"]);
        assert_eq!(index.of("b")["1"], 2);
        assert!(index.of("c").is_empty());
    }

    #[test]
    fn what_looks_the_same_wakes_nobody_and_a_deletion_does() {
        let mut index = Index::default();
        assert_eq!(names(index.take(&Event::Apply(("a", "1", 1)), entry)), ["a"]);
        assert!(index.take(&Event::Apply(("a", "1", 1)), entry).is_empty());
        assert_eq!(names(index.take(&Event::Delete(("a", "1", 1)), entry)), ["a"]);
        assert!(index.of("a").is_empty());
    }
}
