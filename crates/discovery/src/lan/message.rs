//! Multicast DNS messages with a node record inside: a service `_sinew._udp.local` whose TXT record is
//! the node record itself (RFC 6762, RFC 6763).
//!
//! Other programs speak on the same port all day. What is not about our service is passed over; what is
//! is judged by the one who gets it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{PTR, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sinew_wire::directory::RECORD_MAX;

/// Largest message that is looked at: an Ethernet frame's.
pub(super) const MESSAGE_MAX: usize = 1500;
/// Seconds for which others may keep what is said.
const TTL: u32 = 120;
/// Longest string of a TXT record.
const STRING: usize = 255;
const SERVICE: &str = "_sinew._udp.local.";

/// What a message means to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Somebody asks who is here.
    Question,
    /// Somebody says who it is.
    Record(Vec<u8>),
}

fn service() -> Option<Name> {
    Name::from_ascii(SERVICE).ok()
}

/// Asks who is here.
pub(super) fn question() -> Option<Vec<u8>> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(service()?, RecordType::PTR));
    message.to_vec().ok()
}

/// Says who we are. `label` tells apart those on one network, and names nobody.
pub(super) fn announcement(label: &str, record: &[u8]) -> Option<Vec<u8>> {
    let service = service()?;
    let instance = Name::from_ascii(label).ok()?.append_domain(&service).ok()?;
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    message.add_answer(Record::from_rdata(service, TTL, RData::PTR(PTR(instance.clone()))));
    let strings = record.chunks(STRING).collect();
    message.add_answer(Record::from_rdata(instance, TTL, RData::TXT(TXT::from_bytes(strings))));
    message.to_vec().ok()
}

/// Reads what somebody sent to the group.
pub(super) fn read(bytes: &[u8]) -> Option<Heard> {
    // Most of what is said there is not for us: it is not even taken apart.
    if bytes.len() > MESSAGE_MAX || !bytes.windows(6).any(|part| part == b"_sinew") {
        return None;
    }
    // The parser is not ours. Should it trip over something, then only over that one message.
    catch_unwind(AssertUnwindSafe(|| judge(bytes))).ok().flatten()
}

fn judge(bytes: &[u8]) -> Option<Heard> {
    let message = Message::from_vec(bytes).ok()?;
    let service = service()?;
    if message.metadata.message_type == MessageType::Query {
        let ours = |query: &Query| *query.name() == service && query.query_type() == RecordType::PTR;
        return message.queries.iter().any(ours).then_some(Heard::Question);
    }
    let texts = message.all_sections().filter_map(|record| match &record.data {
        RData::TXT(text) if service.zone_of(&record.name) => Some(text.txt_data.concat()),
        _ => None,
    });
    texts.filter(|text| !text.is_empty() && text.len() <= RECORD_MAX).map(Heard::Record).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_arrives_as_it_was_said_and_fits_the_smallest_link() {
        for len in [1, 255, 256, RECORD_MAX] {
            let record: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let message = announcement("0011223344556677", &record).unwrap();
            assert!(message.len() <= 1232, "{} bytes", message.len());
            assert_eq!(read(&message), Some(Heard::Record(record)));
        }
        assert_eq!(read(&question().unwrap()), Some(Heard::Question));
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"_sinew"), None);
        let mut other = Message::new(0, MessageType::Query, OpCode::Query);
        other.add_query(Query::query(Name::from_ascii("_ipp._tcp.local.").unwrap(), RecordType::PTR));
        assert_eq!(read(&other.to_vec().unwrap()), None);
        let long = announcement("x", &[7; RECORD_MAX + 1]).unwrap();
        assert_eq!(read(&long), None);
        let good = announcement("x", &[7; RECORD_MAX]).unwrap();
        for len in 0..good.len() {
            assert_eq!(read(&good[..len]), None, "cut to {len}");
        }
    }
}
