//! From the bytes of a question to those of its answer. Whatever arrives, this neither panics nor takes
//! more than a few KiB.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::Texts;

/// Longest question, bytes. A name has 255, options of EDNS a few dozen.
pub(super) const QUESTION_MAX: usize = 1024;

/// Longest datagram that we send, bytes: unfragmented through any path (DNS flag day 2020).
const UDP_MAX: u16 = 1232;
const UDP_PLAIN: u16 = 512;

/// Proofs live for seconds. What resolvers remember of the zone itself is no secret and may be older.
const TEXT_TTL: u32 = 1;
const ZONE_TTL: u32 = 300;
/// How long it may be remembered that there is no text: an order may begin at any moment.
const NEGATIVE_TTL: u32 = 1;

/// The answer to `bytes`, if it was a question.
pub(super) fn react(texts: &Texts, bytes: &[u8], udp: bool) -> Option<Vec<u8>> {
    // The parser is not ours. Should it trip over something, then only over that one question.
    catch_unwind(AssertUnwindSafe(|| judge(texts, bytes, udp))).unwrap_or(None)
}

fn judge(texts: &Texts, bytes: &[u8], udp: bool) -> Option<Vec<u8>> {
    // An answer to an answer would be an answer: two servers could keep each other busy for ever.
    if bytes.len() < 12 || bytes.len() > QUESTION_MAX || bytes[2] & 0x80 != 0 {
        return None;
    }
    let parsed = Message::from_vec(bytes).ok().filter(|message| message.queries.len() == 1);
    let Some(mut message) = parsed else {
        count(&texts.counters.refused);
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
    };
    let edns = message.edns.take();
    let query = message.queries.pop()?;
    let found = match () {
        () if message.metadata.op_code != OpCode::Query => Found::code(ResponseCode::NotImp),
        () if edns.as_ref().is_some_and(|edns| edns.version() != 0) => Found::code(ResponseCode::BADVERS),
        () if query.query_class() != DNSClass::IN => Found::code(ResponseCode::Refused),
        () => look_up(texts, &query),
    };
    count(match (found.code, found.records.is_empty()) {
        (ResponseCode::NoError, false) => &texts.counters.answered,
        (ResponseCode::NoError | ResponseCode::NXDomain, _) => &texts.counters.empty,
        _ => &texts.counters.refused,
    });
    encode(&message.metadata, query, edns.as_ref(), found, udp)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Found {
    code: ResponseCode,
    authoritative: bool,
    records: Vec<Record>,
    soa: Option<Record>,
}

impl Found {
    fn code(code: ResponseCode) -> Self {
        Self { code, authoritative: false, records: Vec::new(), soa: None }
    }
}

fn look_up(texts: &Texts, query: &Query) -> Found {
    let table = texts.table.load();
    let asked = query.name();
    let written = asked.to_lowercase().to_ascii();
    let written = written.trim_end_matches('.');
    // The zone is what follows the first `_acme-challenge.`: below it, nothing exists.
    let mut rest = Some(written);
    let zone = loop {
        match rest {
            None => return Found::code(ResponseCode::Refused),
            Some(name) if table.zones.contains_key(name) => break name,
            Some(name) => rest = name.split_once('.').map(|(_, rest)| rest),
        }
    };
    let labels = zone.split('.').count();
    let apex = asked.trim_to(labels);
    let mut found = Found { authoritative: true, ..Found::code(ResponseCode::NoError) };
    if zone.len() == written.len() {
        found.records = records(texts, &apex, query.query_type(), &table.zones[zone]);
    } else {
        found.code = ResponseCode::NXDomain;
    }
    if found.records.is_empty() {
        found.soa = Some(soa(texts, &apex, NEGATIVE_TTL));
    }
    found
}

fn records(
    texts: &Texts,
    apex: &Name,
    kind: RecordType,
    values: &std::collections::BTreeSet<String>,
) -> Vec<Record> {
    match kind {
        RecordType::TXT => {
            let text = |value: &String| RData::TXT(TXT::new(vec![value.clone()]));
            values.iter().map(|value| Record::from_rdata(apex.clone(), TEXT_TTL, text(value))).collect()
        }
        RecordType::NS => {
            vec![Record::from_rdata(apex.clone(), ZONE_TTL, RData::NS(NS(texts.server.clone())))]
        }
        RecordType::SOA => vec![soa(texts, apex, ZONE_TTL)],
        _ => Vec::new(),
    }
}

fn soa(texts: &Texts, apex: &Name, ttl: u32) -> Record {
    let mailbox = Name::from_ascii("hostmaster").and_then(|name| name.append_domain(&texts.server));
    let mailbox = mailbox.unwrap_or_else(|_| texts.server.clone());
    let data = SOA::new(texts.server.clone(), mailbox, 1, 3600, 600, 86_400, NEGATIVE_TTL);
    Record::from_rdata(apex.clone(), ttl, RData::SOA(data))
}

fn encode(asked: &Metadata, query: Query, edns: Option<&Edns>, found: Found, udp: bool) -> Option<Vec<u8>> {
    let mut message = Message::new(asked.id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::response_from_request(asked);
    message.metadata.recursion_available = false;
    message.metadata.response_code = found.code;
    message.metadata.authoritative = found.authoritative;
    // The name goes back as it was spelt: resolvers compare it (0x20).
    message.add_query(query);
    message.add_answers(found.records);
    message.add_authorities(found.soa.into_iter().collect::<Vec<_>>());
    if edns.is_some() {
        let mut ours = Edns::new();
        ours.set_max_payload(UDP_MAX);
        message.set_edns(ours);
    }
    let bytes = message.to_vec().ok()?;
    let limit = edns.map_or(UDP_PLAIN, |edns| edns.max_payload().clamp(UDP_PLAIN, UDP_MAX));
    if udp && bytes.len() > usize::from(limit) { message.truncate().to_vec().ok() } else { Some(bytes) }
}
