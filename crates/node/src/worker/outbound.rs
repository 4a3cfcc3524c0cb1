//! From the TUN to the link: find the way, cut a super-packet into segments, seal each, and for
//! destinations behind relays put the routed header in front.
//!
//! ```text
//! straight:                       [hdr 16 | prefix 4 | inner packet | tag 16]
//! routed:  [clear 16 | sealed 44 + first 16 of the record | tag 16 | rest of the record]
//! ```
//! The record is sealed 76 bytes into its slot; its first 16 bytes then move in front of the
//! link's tag, so that nothing else is copied.

use std::time::Duration;

use sinew_forwarding::offload::{Checksum, Split};
use sinew_forwarding::{Cause, check_outbound};
use sinew_overlay::Slot;
use sinew_types::{DropReason, Instant, InterfaceId, MeshAddr};
use sinew_wire::ip::PacketInfo;
use sinew_wire::record::{DATA_OVERHEAD, HEADER_LEN, PREFIX_LEN, Prefix, TAG_LEN};
use sinew_wire::routed::{BODY_HEAD, HOP_LIMIT, ROUTED_OVERHEAD, RoutedHeader, Watermark, Waypoints};
use sinew_wire::virtio::VirtioNetHdr;

use super::tally::Sum;
use super::{Egress, Hop, Inner, MIN_INNER_MTU, Report, View, Worker, frag};

/// For so long after the last sign of life, packets for a peer without a path are held.
const BETWEEN_PATHS: Duration = Duration::from_secs(10);

/// Bytes of a FRAG record around its piece.
const FRAG_OVERHEAD: usize = sinew_wire::frag::FRAG_OVERHEAD;

impl Worker {
    /// Takes one packet (or super-packet) that the local kernel sent into a device.
    pub(crate) fn outbound(
        &mut self,
        view: &View<'_>,
        from: InterfaceId,
        vnet: VirtioNetHdr,
        packet: &mut [u8],
    ) {
        let result = match from {
            InterfaceId::NODE => self.outbound_mesh(view, vnet, packet),
            workload => self.outbound_network(view, workload, vnet, packet),
        };
        self.note(result);
    }

    fn outbound_mesh(
        &mut self,
        view: &View<'_>,
        vnet: VirtioNetHdr,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let dst = check_outbound(&view.local, packet)?;
        let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
        self.inbound.outbound(packet, &info, view.now);
        let inner = Inner { interface: InterfaceId::NODE, network: 0, mtu: view.device_mtu };
        self.carry(view, inner, &dst, vnet, packet, &info)
    }

    /// Sends a packet that may go to the node at `dst`, or keeps it until it can.
    pub(super) fn carry(
        &mut self,
        view: &View<'_>,
        inner: Inner,
        dst: &MeshAddr,
        vnet: VirtioNetHdr,
        packet: &mut [u8],
        info: &PacketInfo,
    ) -> Result<(), DropReason> {
        let egress = match view.egress(dst) {
            Ok(egress) if view.is_bound(dst, inner.network) => egress,
            Ok(_) | Err(DropReason::NoSession) => return self.miss(*dst, inner, vnet, packet),
            // A path that was lost a moment ago is being looked for.
            Err(DropReason::NoRoute) if view.is_between_paths(dst) => {
                return self.miss(*dst, inner, vnet, packet);
            }
            Err(reason) => {
                self.answer(inner.interface, packet, Cause::of(reason), view.now);
                return Err(reason);
            }
        };
        // A report is a hint (protocol A4): the packet goes out all the same.
        let trouble = self.trouble_with(dst, view.now);
        self.answer(inner.interface, packet, trouble, view.now);
        let mtu = view.inner_mtu(dst, &egress, inner.mtu);
        let result = match self.may_go_whole(&egress, &vnet, packet, view.now) {
            Some(head) => self.send_whole(view, inner, &egress, head, packet, info.ecn),
            None => self.send_segments(view, inner, &egress, &vnet, packet, info, mtu),
        };
        if result == Err(DropReason::TooBig) {
            self.answer(inner.interface, packet, Some(Cause::TooBig { mtu }), view.now);
        }
        result
    }

    #[allow(clippy::too_many_arguments)] // What, whereto, and how.
    fn send_segments(
        &mut self,
        view: &View<'_>,
        inner: Inner,
        egress: &Egress<'_>,
        vnet: &VirtioNetHdr,
        packet: &mut [u8],
        info: &PacketInfo,
        mtu: u16,
    ) -> Result<(), DropReason> {
        let (flow, ecn) = (self.flow_key.hash(info), info.ecn);
        let mut split = Split::new(vnet, packet, usize::from(mtu))?;
        let head = if egress.routed { ROUTED_OVERHEAD } else { 0 };
        let (longest, before, mut records) = (split.longest(), self.tx.len(), 0);
        loop {
            let slot = self.tx.slot(head + DATA_OVERHEAD + longest);
            let at = head + HEADER_LEN + PREFIX_LEN;
            let Some(segment) = split.write_into(&mut slot[at..at + longest], Checksum::Partial) else {
                self.tx.abandon(head + DATA_OVERHEAD + longest);
                break;
            };
            self.tx.abandon(longest - segment.len);
            let total = head + DATA_OVERHEAD + segment.len;
            // One by one: what is left of a super-packet tells its sender of the loss at once.
            if let Err(reason) = self.meters.draw_own(&egress.link.addr, total, view.now) {
                self.tx.abandon(total);
                self.drops.count(reason);
                continue;
            }
            let prefix = inner.prefix(segment.csum_partial);
            self.seal_slot(view, egress, prefix, flow, ecn, total)?;
            records += 1;
        }
        // What a limit has swallowed whole was not sent: nobody must wait for an answer to it.
        if records > 0 {
            self.sent(view, egress, Sum { records, bytes: self.tx.len() - before });
        }
        Ok(())
    }

    /// Seals the record that lies in the last `total` bytes of the transmit queue and commits it.
    fn seal_slot(
        &mut self,
        view: &View<'_>,
        egress: &Egress<'_>,
        prefix: Prefix,
        flow: u16,
        ecn: u8,
        total: usize,
    ) -> Result<(), DropReason> {
        let head = if egress.routed { ROUTED_OVERHEAD } else { 0 };
        let via = egress.routed.then_some(egress.link.addr);
        let lane = match self.lanes.get(egress.session, via, view.now) {
            Ok(lane) => lane,
            Err(reason) => {
                self.tx.abandon(total);
                return Err(reason);
            }
        };
        let slot = self.tx.last_mut(total);
        if let Err(reason) = lane.seal(prefix, &mut slot[head..]) {
            self.tx.abandon(total);
            return Err(reason);
        }
        if egress.routed {
            let header = routed_header(view, egress.session.addr, egress.link.adj.unwrap_or(0), flow, ecn);
            return self.wrap_slot(egress, &header, ecn, total);
        }
        self.commit(egress, ecn, total)
    }

    /// Puts the routed header around the body that starts [`ROUTED_OVERHEAD`] bytes into the last
    /// `total` bytes of the queue.
    fn wrap_slot(
        &mut self,
        egress: &Egress<'_>,
        header: &RoutedHeader,
        ecn: u8,
        total: usize,
    ) -> Result<(), DropReason> {
        let result = match self.lanes.link(egress.link) {
            Ok(lane) => {
                let slot = self.tx.last_mut(total);
                slot.copy_within(ROUTED_OVERHEAD..ROUTED_OVERHEAD + BODY_HEAD, ROUTED_OVERHEAD - TAG_LEN);
                lane.seal_routed(header, slot)
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = result {
            self.tx.abandon(total);
            return Err(reason);
        }
        self.commit(egress, ecn, total)
    }

    /// Queues a sealed datagram, cut into fragments if the link is too small for it.
    fn commit(&mut self, egress: &Egress<'_>, ecn: u8, total: usize) -> Result<(), DropReason> {
        if total <= egress.payload {
            self.tx.commit(egress.to, ecn, total);
            return Ok(());
        }
        let mut record = core::mem::take(&mut self.scratch);
        record.clear();
        record.extend_from_slice(self.tx.last_mut(total));
        self.tx.abandon(total);
        let result = self.send_fragments(egress, ecn, &record);
        self.scratch = record;
        result
    }

    /// Cuts one sealed record into pieces (protocol A4, FRAG): only what an inner 1280 needs.
    pub(super) fn send_fragments(
        &mut self,
        egress: &Egress<'_>,
        ecn: u8,
        record: &[u8],
    ) -> Result<(), DropReason> {
        let most = usize::from(MIN_INNER_MTU)
            + DATA_OVERHEAD
            + ROUTED_OVERHEAD
            + 8 * sinew_wire::routed::MAX_WAYPOINTS;
        let room = egress.payload.saturating_sub(FRAG_OVERHEAD);
        let size =
            frag::cut(record.len(), room).filter(|_| record.len() <= most).ok_or(DropReason::TooBig)?;
        self.frag_id = self.frag_id.wrapping_add(1);
        let count = record.len().div_ceil(size);
        for (index, piece) in record.chunks(size).enumerate() {
            let lane = self.lanes.link(egress.link)?;
            let total = piece.len() + FRAG_OVERHEAD;
            let slot = self.tx.slot(total);
            slot[HEADER_LEN..HEADER_LEN + piece.len()].copy_from_slice(piece);
            if let Err(reason) = lane.seal_frag(index as u8, index + 1 == count, self.frag_id, slot) {
                self.tx.abandon(total);
                return Err(reason);
            }
            self.tx.commit(egress.to, ecn, total);
        }
        Ok(())
    }

    /// Sends a whole body (handshake, control record, error report) to a node behind a relay.
    pub(crate) fn send_routed(
        &mut self,
        view: &View<'_>,
        dst: &MeshAddr,
        body: &[u8],
    ) -> Result<(), DropReason> {
        let Hop { link, to, adj, payload } = view.hop_toward(dst)?;
        let egress = Egress { session: link, link, to, payload, routed: true, transit: true };
        let header = routed_header(view, *dst, adj, 0, 0);
        let total = ROUTED_OVERHEAD + body.len();
        self.tx.slot(total)[ROUTED_OVERHEAD..].copy_from_slice(body);
        self.wrap_slot(&egress, &header, 0, total)?;
        self.sent(view, &egress, Sum::one(total));
        Ok(())
    }

    /// Accounts for what went out.
    pub(super) fn sent(&mut self, view: &View<'_>, egress: &Egress<'_>, sum: Sum) {
        // A relay's own session with the next hop carries nothing of what passes through.
        if !egress.transit {
            egress.session.traffic.on_data(view.now.as_micros(), sum.records, sum.bytes);
        }
        self.account_link(view, &egress.link.addr, sum);
    }

    fn miss(
        &mut self,
        dst: MeshAddr,
        inner: Inner,
        vnet: VirtioNetHdr,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let kept = self.reports.with_bytes(packet, |range| Report::Miss { dst, inner, vnet, range });
        if kept { Ok(()) } else { Err(DropReason::HoldQueue) }
    }

    /// Answers the sender at a local device with an ICMP error, within its rate limit.
    pub(crate) fn answer(&mut self, to: InterfaceId, packet: &[u8], cause: Option<Cause>, now: Instant) {
        let Some(cause) = cause else { return };
        let answers = match to {
            InterfaceId::NODE => Some(&mut self.answers),
            workload => self.devices.get_mut(&workload).map(|own| &mut own.answers),
        };
        if let Some(answer) = answers.and_then(|answers| answers.answer(cause, packet, now))
            && !self.tun.push(to, &VirtioNetHdr::default(), &answer)
        {
            self.drops.count(DropReason::TunQueue);
        }
    }
}

fn routed_header(view: &View<'_>, dst: MeshAddr, adj: u8, flow: u16, ecn: u8) -> RoutedHeader {
    let watermark = view.fib.get(&dst).map_or(Watermark::WORST, |entry| Watermark::of(entry.fd));
    RoutedHeader {
        dst,
        src: view.local,
        watermark,
        hop_limit: HOP_LIMIT,
        ecn,
        rescue: false,
        prio: 0,
        flow,
        mode: 0,
        adj,
        waypoints: Waypoints::NONE,
    }
}

impl View<'_> {
    /// Whether the session with `dst` has lost its only path so lately that it may be back in time for
    /// what is sent now: whoever retransmits would otherwise wait for twice as long as the network.
    fn is_between_paths(&self, dst: &MeshAddr) -> bool {
        let lately = |us| self.now.since(Instant::from_micros(us)) < BETWEEN_PATHS;
        let session = self.keys.session(dst).filter(|session| session.epoch.is_some());
        session.is_some_and(|session| session.path.is_none() && lately(session.traffic.last_rx_us()))
    }

    /// Whether the node at `dst` knows our number for a private network; everybody knows the mesh.
    fn is_bound(&self, dst: &MeshAddr, network: Slot) -> bool {
        network == 0 || self.networks.snapshot.outgoing(dst, network)
    }

    /// Largest inner packet for `dst` by this way from a device with this MTU; never under 1280, for
    /// FRAG carries that.
    fn inner_mtu(&self, dst: &MeshAddr, egress: &Egress<'_>, device: u16) -> u16 {
        let fits = if egress.routed {
            let link = egress.payload.saturating_sub(ROUTED_OVERHEAD + DATA_OVERHEAD);
            usize::from(self.fib.get(dst).map_or(MIN_INNER_MTU, |entry| entry.mtu)).min(link)
        } else {
            egress.payload.saturating_sub(DATA_OVERHEAD)
        };
        (fits.min(usize::from(device)) as u16).max(MIN_INNER_MTU)
    }
}
