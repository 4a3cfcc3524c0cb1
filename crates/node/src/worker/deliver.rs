//! The last step inward: an authenticated inner packet on its way to the local kernel.

use sinew_forwarding::offload::Sink;
use sinew_forwarding::{check_inbound, ecn as rfc6040};
use sinew_session::OpenEpoch;
use sinew_types::{DropReason, InterfaceId};
use sinew_wire::ip::PacketInfo;
use sinew_wire::virtio::VirtioNetHdr;

use super::{View, Worker};

impl Worker {
    /// Whether the packet, of the mesh or of a private network by the sender's handle, is what its
    /// sender may send (protocol A4.2, A7) and we let in; how it parses, and where it goes.
    pub(super) fn admit(
        &mut self,
        view: &View<'_>,
        epoch: &OpenEpoch,
        network: Option<u32>,
        packet: &[u8],
    ) -> Result<(PacketInfo, Sink), DropReason> {
        if let Some(handle) = network {
            return self.admit_network(view, epoch.addr(), handle, packet);
        }
        check_inbound(epoch.addr(), &view.local, packet)?;
        let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
        self.inbound.inbound(packet, &info, view.now)?;
        Ok((info, Sink::node(self.offloads)))
    }

    /// Hands an admitted packet to the coalescer, which rebuilds all offload metadata from its own
    /// parse (protocol A4.7).
    pub(super) fn deliver(
        &mut self,
        view: &View<'_>,
        epoch: &OpenEpoch,
        ecn: u8,
        network: Option<u32>,
        csum_partial: bool,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let (info, sink) = self.admit(view, epoch, network, packet)?;
        rfc6040::apply(packet, ecn)?;
        let (tun, mut full) = (&mut self.tun, false);
        let mut emit =
            |to: InterfaceId, vnet: &VirtioNetHdr, merged: &[u8]| full |= !tun.push(to, vnet, merged);
        self.coalescer.push_parsed(packet, &info, csum_partial, sink, &mut emit)?;
        if full { Err(DropReason::TunQueue) } else { Ok(()) }
    }

    /// Ends the batch: nothing waits in the coalescer for packets that may never come.
    pub(super) fn flush_coalescer(&mut self) {
        let (tun, drops) = (&mut self.tun, &mut self.drops);
        self.coalescer.flush(&mut |to, vnet, merged| {
            if !tun.push(to, vnet, merged) {
                drops.count(DropReason::TunQueue);
            }
        });
    }
}
