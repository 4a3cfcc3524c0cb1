//! From the link inward: what kind of datagram is it, whose key opens it, and where does it go.

use sinew_session::Arrival;
use sinew_types::{DropReason, MeshAddr, PathAddr};
use sinew_wire::record::{DataHeader, Kind, MSG_DATA};
use sinew_wire::{error, frag, handshake, routed};

use super::onward::{Fate, Onward, Run};
use super::{Incoming, Report, Transmit, View, Worker};

impl Worker {
    /// Takes the records that came together over a stream.
    ///
    /// A bad one never ends its batch.
    pub(crate) fn inbound<'b>(
        &mut self,
        view: &View<'_>,
        from: PathAddr,
        records: impl Iterator<Item = &'b mut [u8]>,
    ) {
        for record in records {
            let fate = self.datagram(view, Arrival::Direct(from), 0, record, false);
            if let Some(Onward { to, ecn }) = self.note(fate).flatten() {
                self.tx.push(to, ecn, record);
            }
        }
        self.settle(view);
        self.flush_coalescer();
    }

    /// Takes the datagrams of `stride` bytes each that one source sent together. The last run of those that
    /// now lie there sealed for a next hop is returned; what came before it is in the transmit queue.
    pub(crate) fn inbound_batch<'b>(
        &mut self,
        view: &View<'_>,
        from: PathAddr,
        ecn: u8,
        batch: &'b mut [u8],
        stride: usize,
    ) -> Option<Transmit<'b>> {
        let (mut run, mut start) = (None::<Run>, 0);
        while start < batch.len() {
            let range = start..batch.len().min(start + stride.max(1));
            start = range.end;
            let fate = self.datagram(view, Arrival::Direct(from), ecn, &mut batch[range.clone()], false);
            let Some(onward) = self.note(fate).flatten() else { continue };
            if !run.as_mut().is_some_and(|run| run.extend(onward, &range))
                && let Some(ended) = run.replace(Run::of_one(onward, range))
            {
                self.tx.push_all(&ended.within(batch));
            }
        }
        self.settle(view);
        self.flush_coalescer();
        run?.send(batch, &mut self.tx)
    }

    /// One datagram, or one routed body (`nested`), or one reassembled record.
    pub(super) fn datagram(
        &mut self,
        view: &View<'_>,
        from: Arrival,
        ecn: u8,
        datagram: &mut [u8],
        nested: bool,
    ) -> Fate {
        match *datagram.first().ok_or(DropReason::Malformed)? {
            MSG_DATA => self.data(view, from, ecn, datagram).map(|()| None),
            handshake::MSG_HS1 | handshake::MSG_HS2 | handshake::MSG_COOKIE => {
                let kept = self.reports.with_bytes(datagram, |range| Report::Handshake { from, range });
                if kept { Ok(None) } else { Err(DropReason::TableFull) }
            }
            // A4: no nesting of routed records or fragments in a routed body.
            routed::MSG_ROUTED | frag::MSG_FRAG if nested => Err(DropReason::Nested),
            routed::MSG_ROUTED => self.routed(view, from, ecn, datagram),
            frag::MSG_FRAG => self.fragment(view, from, ecn, datagram).map(|()| None),
            // A4: error reports exist only as routed bodies.
            error::MSG_ERR if nested => {
                let kept = self.reports.with_bytes(datagram, |range| Report::Error { range });
                if kept { Ok(None) } else { Err(DropReason::TableFull) }
            }
            _ => Err(DropReason::UnknownType),
        }
    }

    fn data(
        &mut self,
        view: &View<'_>,
        from: Arrival,
        ecn: u8,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let header = DataHeader::parse(datagram).map_err(|_| DropReason::Malformed)?;
        let Some(Incoming { epoch, .. }) = view.incoming(header.receiver) else { return self.unknown(from) };
        let opened = epoch.open(datagram)?;
        self.received(view, epoch, from, opened.first, datagram.len());
        let payload = opened.range.clone();
        match opened.prefix.kind {
            Kind::Keepalive => Ok(()),
            kind @ (Kind::Mesh | Kind::Network) => {
                let network = (kind == Kind::Network).then_some(opened.prefix.network);
                let csum_partial = opened.prefix.csum_partial;
                self.deliver(view, epoch, ecn, network, csum_partial, &mut datagram[payload])
            }
            kind @ (Kind::Control | Kind::Probe | Kind::Handshake) => {
                let (index, wire_len) = (header.receiver, datagram.len());
                let report = |range| Report::Control { index, from, kind, range, wire_len };
                let kept = self.reports.with_bytes(&datagram[payload], report);
                if kept { Ok(()) } else { Err(DropReason::TableFull) }
            }
            Kind::Super => {
                // A7: a network's super-packets carry its handle, the mesh's none.
                let network = Some(opened.prefix.network).filter(|&handle| handle != 0);
                self.deliver_whole(view, epoch, from, network, &mut datagram[payload])
            }
        }
    }

    pub(super) fn unknown(&mut self, from: Arrival) -> Result<(), DropReason> {
        self.reports.push(match from {
            Arrival::Direct(from) => Report::UnknownIndex { from },
            Arrival::Routed { src, .. } => Report::UnknownRoutedIndex { src },
        });
        Err(DropReason::UnknownIndex)
    }

    fn fragment(
        &mut self,
        view: &View<'_>,
        from: Arrival,
        ecn: u8,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let header = frag::FragHeader::parse(datagram).map_err(|_| DropReason::Malformed)?;
        let Some(Incoming { epoch, .. }) = view.incoming(header.receiver) else { return self.unknown(from) };
        let opened = epoch.open_frag(datagram)?;
        self.received(view, epoch, from, opened.first, datagram.len());
        let (id, index, last) = (header.frag_id, usize::from(header.piece), header.last);
        let link: MeshAddr = *epoch.addr();
        let record = self.reassembly.push(link, id, index, last, &datagram[opened.range.clone()], view.now);
        self.drops.add(DropReason::Fragment, self.reassembly.take_lost());
        match record? {
            None => Ok(()),
            // What was cut is a DATA or ROUTED record of this very link (A4); its own keys say so again.
            Some(mut record) => match record.first() {
                Some(&(MSG_DATA | routed::MSG_ROUTED)) => {
                    if let Some(Onward { to, ecn }) = self.datagram(view, from, ecn, &mut record, false)? {
                        self.tx.push(to, ecn, &record);
                    }
                    Ok(())
                }
                _ => Err(DropReason::Malformed),
            },
        }
    }
}
