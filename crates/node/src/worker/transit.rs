//! Routed records: ours to open, or somebody else's to pass on.
//!
//! A relay opens only the link header, asks the FIB, and seals the header again for the next
//! link; the end-to-end record inside stays as it is.

use core::ops::Range;
use std::time::Duration;

use sinew_forwarding::{Verdict, ecn as rfc6040, forwarded, transit};
use sinew_session::Arrival;
use sinew_types::{DropReason, MeshAddr};
use sinew_wire::error::{ErrorCode, ErrorReport};
use sinew_wire::record::DataHeader;
use sinew_wire::routed::{ROUTED_OVERHEAD, RoutedClear, RoutedHeader, WAYPOINT_LEN, Watermark};

use super::onward::{Fate, Onward};
use super::{Egress, Hop, Incoming, View, Worker};

/// Error reports to one destination: at most ten a second (protocol A4).
pub(super) const ERROR_INTERVAL: Duration = Duration::from_millis(100);

impl Worker {
    /// A routed record straight from a neighbour.
    pub(super) fn routed(&mut self, view: &View<'_>, from: Arrival, ecn: u8, datagram: &mut [u8]) -> Fate {
        let clear = RoutedClear::parse(datagram).map_err(|_| DropReason::Malformed)?;
        let Some(Incoming { epoch, session }) = view.incoming(clear.receiver) else {
            return self.unknown(from).map(|()| None);
        };
        let opened = epoch.open_routed(datagram)?;
        self.received(view, epoch, from, opened.first, datagram.len());
        let link = session.ok_or(DropReason::WrongAdjacency)?;
        // A3: routed records carry the number of the adjacency; a closed or older one is refused.
        if link.adj != Some(opened.header.adj) {
            return Err(DropReason::WrongAdjacency);
        }
        let mut header = opened.header;
        // RFC 6040: the mark of this hop's outer header joins the one the record carries.
        header.ecn = rfc6040::merge(header.ecn, ecn)?;
        let body = opened.body;
        match transit(view.fib, view.class, &header) {
            Verdict::Local => {
                let from = Arrival::Routed { src: header.src, ingress: *epoch.peer() };
                self.datagram(view, from, header.ecn, &mut datagram[body], true)
            }
            Verdict::Forward { next_hop, watermark } => {
                self.forward(view, &next_hop, &header, watermark, datagram, body)
            }
            Verdict::Refuse(reason, report) => {
                if let Some(code) = report {
                    self.report_error(view, code, 0, &header, &datagram[body]);
                }
                Err(reason)
            }
        }
    }

    /// Seals the record for the next hop where it lies.
    fn forward(
        &mut self,
        view: &View<'_>,
        next_hop: &MeshAddr,
        header: &RoutedHeader,
        watermark: Watermark,
        datagram: &mut [u8],
        body: Range<usize>,
    ) -> Fate {
        let Some(Hop { link, to, adj, payload }) = view.hop(next_hop) else {
            self.report_error(view, ErrorCode::NoRoute, 0, header, &datagram[body]);
            return Err(DropReason::NoRoute);
        };
        let egress = Egress { session: link, link, to, payload, routed: true, transit: true };
        if datagram.len() > payload && !fits_in_fragments(datagram.len()) {
            // A4: the largest body that would have passed.
            let room =
                payload.saturating_sub(ROUTED_OVERHEAD + WAYPOINT_LEN * header.waypoints.as_slice().len());
            self.report_error(view, ErrorCode::TooBig, room as u16, header, &datagram[body]);
            return Err(DropReason::TooBig);
        }
        self.meters.draw_transit(next_hop, datagram.len(), view.now)?;
        let header = forwarded(header, watermark, adj);
        self.lanes.link(link)?.seal_routed(&header, datagram)?;
        let whole = datagram.len() <= payload;
        if !whole {
            self.send_fragments(&egress, header.ecn, datagram)?;
        }
        self.passed_on(view, &link.addr, datagram.len());
        Ok(whole.then_some(Onward { to, ecn: header.ecn }))
    }

    /// Tells the source what became of its record (a hint to it, no more).
    fn report_error(
        &mut self,
        view: &View<'_>,
        code: ErrorCode,
        mtu: u16,
        header: &RoutedHeader,
        body: &[u8],
    ) {
        // A4: about records alone; nobody would believe one about anything else.
        let Ok(record) = DataHeader::parse(body) else { return };
        if !self.errors.allow(header.src, view.now) {
            return;
        }
        let report = ErrorReport { code, mtu, record };
        let result = self.send_routed(view, &header.src, &report.emit());
        self.note(result);
    }
}

/// Whether a routed record is small enough to be one that carries an inner 1280: only those are cut.
fn fits_in_fragments(len: usize) -> bool {
    use sinew_wire::record::DATA_OVERHEAD;
    use sinew_wire::routed::{MAX_WAYPOINTS, ROUTED_OVERHEAD};
    len <= usize::from(super::MIN_INNER_MTU) + DATA_OVERHEAD + ROUTED_OVERHEAD + 8 * MAX_WAYPOINTS
}
