//! Super-packets that cross a stream whole (kind 6, protocol A4.3).
//!
//! A stream loses no fragments one by one, so what the local kernel hands over as one need not be
//! cut: one record instead of forty, and the far kernel gets it as it was. Over datagrams or
//! relays this would lose 64 KB with each lost fragment, hence only where the session's path is
//! one direct stream. What the peer says of its making is judged by `offload::super_packet`.

use sinew_forwarding::offload::{Checksum, Split, super_packet};
use sinew_session::{Arrival, OpenEpoch};
use sinew_types::{DropReason, Instant, InterfaceId};
use sinew_wire::record::{DATA_OVERHEAD, HEADER_LEN, Kind, PREFIX_LEN, Prefix, SUPER_LEN, SuperHeader};
use sinew_wire::virtio::VirtioNetHdr;

use super::tally::Sum;
use super::{Egress, Inner, MIN_INNER_MTU, View, Worker};

/// Longest record of kind 6 (protocol A4.8): below what a u16 length can say.
const RECORD_MAX: usize = 65_000;

impl Worker {
    /// The header for sending this packet whole, or `None` if it has to be split: also where the
    /// link's limit has no room for all of it, so that not all of it is lost.
    pub(super) fn may_go_whole(
        &mut self,
        egress: &Egress<'_>,
        vnet: &VirtioNetHdr,
        packet: &[u8],
        now: Instant,
    ) -> Option<SuperHeader> {
        let session = egress.session;
        let record = DATA_OVERHEAD + SUPER_LEN + packet.len();
        let fits = record <= RECORD_MAX && record <= usize::from(session.rx_max);
        if !fits || egress.routed || !session.stream {
            return None;
        }
        let head = super_packet::offer(vnet, packet, stream_mtu(egress.payload))?;
        self.meters.draw_own(&egress.link.addr, record, now).is_ok().then_some(head)
    }

    /// Seals a super-packet as one record.
    pub(super) fn send_whole(
        &mut self,
        view: &View<'_>,
        inner: Inner,
        egress: &Egress<'_>,
        head: SuperHeader,
        packet: &[u8],
        ecn: u8,
    ) -> Result<(), DropReason> {
        let total = DATA_OVERHEAD + SUPER_LEN + packet.len();
        let lane = self.lanes.get(egress.session, None, view.now)?;
        let slot = self.tx.slot(total);
        let payload = HEADER_LEN + PREFIX_LEN;
        slot[payload..payload + SUPER_LEN].copy_from_slice(&head.emit());
        slot[payload + SUPER_LEN..][..packet.len()].copy_from_slice(packet);
        if let Err(reason) = lane.seal(Prefix { network: inner.network, ..Prefix::new(Kind::Super) }, slot) {
            self.tx.abandon(total);
            return Err(reason);
        }
        self.tx.commit(egress.to, ecn, total);
        self.sent(view, egress, Sum::one(total));
        Ok(())
    }

    /// Takes a super-packet from a peer: the checks of any packet, then what a kernel would ask.
    pub(super) fn deliver_whole(
        &mut self,
        view: &View<'_>,
        epoch: &OpenEpoch,
        from: Arrival,
        network: Option<u32>,
        payload: &mut [u8],
    ) -> Result<(), DropReason> {
        // A4.3: only where the path is one direct stream.
        let Arrival::Direct(path) = from else { return Err(DropReason::BadOffload) };
        if !path.carrier.is_stream() {
            return Err(DropReason::BadOffload);
        }
        let head = SuperHeader::parse(payload).map_err(|_| DropReason::BadOffload)?;
        let packet = &mut payload[SUPER_LEN..];
        let (info, sink) = self.admit(view, epoch, network, packet)?;
        let vnet = super_packet::accept(head, packet, stream_mtu(view.payload(epoch.addr())))?;
        // What came before it on this flow goes before it.
        self.flush_coalescer();
        if sink.offloads.takes(info.protocol) {
            return if self.tun.push(sink.interface, &vnet, packet) {
                Ok(())
            } else {
                Err(DropReason::TunQueue)
            };
        }
        self.deliver_cut(sink.interface, &vnet, packet, usize::from(u16::MAX))
    }

    /// For a TUN that takes no super-packets, or no packets above `mtu`: finished packets.
    pub(super) fn deliver_cut(
        &mut self,
        to: InterfaceId,
        vnet: &VirtioNetHdr,
        packet: &mut [u8],
        mtu: usize,
    ) -> Result<(), DropReason> {
        let mut split = Split::new(vnet, packet, mtu)?;
        let mut segment = core::mem::take(&mut self.scratch);
        segment.resize(split.longest(), 0);
        let mut full = false;
        while let Some(cut) = split.write_into(&mut segment, Checksum::Complete) {
            full |= !self.tun.push(to, &VirtioNetHdr::default(), &segment[..cut.len]);
        }
        self.scratch = segment;
        if full { Err(DropReason::TunQueue) } else { Ok(()) }
    }
}

/// Largest single packet on a stream whose records may be this long.
fn stream_mtu(payload: usize) -> usize {
    payload.saturating_sub(DATA_OVERHEAD).max(usize::from(MIN_INNER_MTU))
}
