//! Which of many sources (connections, devices) have something to do.
//!
//! Every source is polled with a waker of its own that notes its number here and wakes the one
//! task that owns them all, so a turn looks only at sources that were woken.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

#[derive(Debug, Default)]
struct Marked {
    /// In order of marking, so that busy sources take turns.
    order: VecDeque<u32>,
    members: BTreeSet<u32>,
    owner: Option<Waker>,
}

/// Numbers of sources to look at, each at most once.
#[derive(Debug, Default)]
pub struct ReadySet(Mutex<Marked>);

struct Marker {
    local: u32,
    set: Arc<ReadySet>,
}

impl Wake for Marker {
    fn wake(self: Arc<Self>) {
        self.set.mark(self.local);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set.mark(self.local);
    }
}

impl ReadySet {
    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A waker that marks `local`.
    pub fn waker(self: &Arc<Self>, local: u32) -> Waker {
        Waker::from(Arc::new(Marker { local, set: Arc::clone(self) }))
    }

    /// Notes that `local` may have something to do.
    pub fn mark(&self, local: u32) {
        let mut marked = self.lock();
        if marked.members.insert(local) {
            marked.order.push_back(local);
        }
        let owner = marked.owner.take();
        drop(marked);
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// The next one to look at; it may be marked again from now on.
    pub fn take(&self) -> Option<u32> {
        let mut marked = self.lock();
        let local = marked.order.pop_front()?;
        marked.members.remove(&local);
        Some(local)
    }

    /// How many are to be looked at.
    pub fn len(&self) -> usize {
        self.lock().order.len()
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whom to wake at the next mark.
    pub fn set_owner(&self, owner: &Waker) {
        let mut marked = self.lock();
        match &mut marked.owner {
            Some(old) => old.clone_from(owner),
            none => *none = Some(owner.clone()),
        }
    }

    /// Wakes the owner without a mark.
    pub fn wake_owner(&self) {
        let owner = self.lock().owner.take();
        if let Some(owner) = owner {
            owner.wake();
        }
    }
}
