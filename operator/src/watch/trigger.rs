//! Tells the controller which Tasks to look at. On a follower nobody listens, and nothing is kept.

use std::sync::Mutex;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;

use countersign_core::status::is_over;

use crate::watch::caches::{Caches, GuardedTask, lock, reference};
use crate::watch::index::TaskKey;

#[derive(Default)]
pub struct Trigger {
    listener: Mutex<Option<UnboundedSender<ObjectRef<GuardedTask>>>>,
}

impl Trigger {
    /// From now on what is triggered is heard.
    pub fn listen(&self) -> UnboundedReceiver<ObjectRef<GuardedTask>> {
        let (sender, receiver) = unbounded();
        *lock(&self.listener) = Some(sender);
        receiver
    }

    pub fn task(&self, task: &TaskKey) {
        self.reference(reference(task));
    }

    pub fn reference(&self, reference: ObjectRef<GuardedTask>) {
        if let Some(listener) = lock(&self.listener).as_ref() {
            // The receiver goes only when the process does.
            let _ = listener.unbounded_send(reference);
        }
    }

    /// Every Task whose status does not say that it is over.
    pub fn unfinished(&self, caches: &Caches) {
        if lock(&self.listener).is_none() {
            return;
        }
        for task in caches.tasks.state() {
            let over = task.0.as_ref().is_ok_and(is_over);
            if !over {
                self.reference(ObjectRef::from_obj(task.as_ref()));
            }
        }
    }

    /// Every Task that there is.
    pub fn all(&self, caches: &Caches) {
        for task in caches.tasks.state() {
            self.reference(ObjectRef::from_obj(task.as_ref()));
        }
    }
}
