//! The TUN devices of this node: its own, and one for each interface of each workload.
//!
//! The node's own device carries the bulk of a machine that has no workloads, so it is asked
//! directly. Workloads may be many and mostly silent: each is polled with a waker of its own that
//! notes its number, so that a turn costs what is ready and not what is open.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use sinew_carrier::ReadySet;
use sinew_node::Node;
use sinew_tun::{Tun as _, TunDevice};
use sinew_types::{DropReason, InterfaceId};

/// One workload's device, with the waker that notes its number.
struct Watched {
    device: TunDevice,
    waker: Waker,
    traffic: Cell<Traffic>,
}

/// Bytes of packets, from the workload's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// All devices by the number that the node knows them by.
pub(crate) struct Interfaces {
    own: Option<TunDevice>,
    workloads: BTreeMap<InterfaceId, Watched>,
    ready: Arc<ReadySet>,
}

impl Interfaces {
    pub(crate) fn new(own: Option<TunDevice>) -> Self {
        Self { own, workloads: BTreeMap::new(), ready: Arc::default() }
    }

    /// Takes a workload's device in.
    pub(crate) fn add(&mut self, id: InterfaceId, device: TunDevice) {
        let waker = self.ready.waker(id.0);
        self.workloads.insert(id, Watched { device, waker, traffic: Cell::default() });
        self.ready.mark(id.0);
    }

    /// Lets a workload's device go; the kernel keeps a persistent one.
    pub(crate) fn remove(&mut self, id: InterfaceId) {
        self.workloads.remove(&id);
    }

    /// The device, if it is still there.
    pub(crate) fn get(&self, id: InterfaceId) -> Option<&TunDevice> {
        if id == InterfaceId::NODE {
            return self.own.as_ref();
        }
        self.workloads.get(&id).map(|watched| &watched.device)
    }

    /// What went over a workload's device.
    pub(crate) fn traffic(&self, id: InterfaceId) -> Traffic {
        self.workloads.get(&id).map(|watched| watched.traffic.get()).unwrap_or_default()
    }

    /// Notes a frame that was read.
    pub(crate) fn on_read(&self, id: InterfaceId, frame: usize) {
        self.note(id, |traffic| traffic.sent += packet_bytes(frame));
    }

    fn note(&self, id: InterfaceId, change: impl FnOnce(&mut Traffic)) {
        if let Some(watched) = self.workloads.get(&id) {
            let mut traffic = watched.traffic.get();
            change(&mut traffic);
            watched.traffic.set(traffic);
        }
    }

    /// Has the device looked at again: it may hold more than was read in one turn.
    pub(crate) fn look_again(&self, id: InterfaceId) {
        if id != InterfaceId::NODE {
            self.ready.mark(id.0);
        }
    }

    /// Whether the node's own device has something to read.
    pub(crate) fn poll_own(&self, cx: &mut Context<'_>) -> Poll<InterfaceId> {
        match &self.own {
            Some(own) => own.poll_readable(cx).map(|_| InterfaceId::NODE),
            None => Poll::Pending,
        }
    }

    /// The next workload with something to read; to be looked at again when that was done.
    pub(crate) fn poll_workloads(&self, cx: &mut Context<'_>) -> Poll<InterfaceId> {
        if self.workloads.is_empty() {
            return Poll::Pending;
        }
        self.ready.set_owner(cx.waker());
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.take().map(InterfaceId) else { break };
            let Some(watched) = self.workloads.get(&id) else { continue };
            if watched.device.poll_readable(&mut Context::from_waker(&watched.waker)).is_ready() {
                return Poll::Ready(id);
            }
        }
        Poll::Pending
    }

    /// Waits for the end of the node's own device.
    pub(crate) async fn own_gone(&self) -> io::Result<()> {
        match &self.own {
            Some(own) => own.readable().await,
            None => std::future::pending().await,
        }
    }

    /// Writes what the node has for the local kernel.
    pub(crate) fn write_all(&self, node: &mut Node) {
        let mut dropped = 0;
        while let Some((id, frame)) = node.poll_tun() {
            if self.get(id).is_none_or(|device| device.try_write(frame).is_err()) {
                dropped += 1;
            } else if id != InterfaceId::NODE {
                self.note(id, |traffic| traffic.received += packet_bytes(frame.len()));
            }
        }
        node.count_drops(DropReason::TunQueue, dropped);
    }
}

/// A frame without its virtio header.
fn packet_bytes(frame: usize) -> u64 {
    frame.saturating_sub(sinew_tun::HEADER_LEN) as u64
}
