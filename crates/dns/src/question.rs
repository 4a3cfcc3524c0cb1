//! A question as it came in: what an answer must repeat, and how long it may be.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record};

use crate::answer::Answer;

/// Longest datagram that we send or ask for, bytes: fits unfragmented through any path
/// (DNS flag day 2020).
pub(crate) const UDP_MAX: u16 = 1232;

/// Longest answer in a datagram to somebody without EDNS (RFC 1035 4.2.1).
const UDP_PLAIN: u16 = 512;

/// How a question came, and so how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A question that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) metadata: Metadata,
    pub(crate) query: Query,
    pub(crate) edns: Option<Edns>,
    pub(crate) transport: Transport,
}

impl Question {
    /// Most bytes that its answer may have.
    pub(crate) fn limit(&self) -> usize {
        match (self.transport, &self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_PLAIN, UDP_MAX).into(),
            (Transport::Udp, None) => UDP_PLAIN.into(),
        }
    }

    /// Whether DNSSEC records are wanted.
    pub(crate) fn dnssec(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// An answer with no more than a code.
    pub(crate) fn code(&self, code: ResponseCode) -> Option<Vec<u8>> {
        let mut message = self.blank();
        message.metadata.response_code = code;
        self.encode(&message)
    }

    /// `answer` in bytes.
    pub(crate) fn answer(&self, answer: Answer) -> Option<Vec<u8>> {
        let mut message = self.blank();
        message.metadata.response_code = answer.code;
        message.metadata.authoritative = answer.authoritative;
        message.add_answers(answer.records);
        message.add_additionals(answer.extra);
        message.add_authorities(answer.soa.into_iter().collect::<Vec<Record>>());
        self.encode(&message)
    }

    /// A whole response from elsewhere, made to fit who asked here: his id, his spelling of the
    /// name, and no more bytes than he can take.
    pub(crate) fn relay(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() > self.limit() {
            let mut message = self.blank();
            message.metadata.truncation = true;
            return self.encode(&message);
        }
        let mut bytes = bytes.to_vec();
        bytes.get_mut(..2)?.copy_from_slice(&self.metadata.id.to_be_bytes());
        // The first name of a message is spelt out; those after it point to it.
        let spelt = spelling(self.query.name());
        if let Some(theirs) = bytes.get_mut(12..12 + spelt.len())
            && theirs.eq_ignore_ascii_case(&spelt)
        {
            theirs.copy_from_slice(&spelt);
        }
        Some(bytes)
    }

    fn blank(&self) -> Message {
        let mut message = Message::new(self.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.recursion_available = true;
        // The name goes back as it was spelt: clients compare it (0x20).
        message.add_query(self.query.clone());
        if let Some(theirs) = &self.edns {
            let mut ours = Edns::new();
            ours.set_max_payload(UDP_MAX).set_dnssec_ok(theirs.flags().dnssec_ok);
            message.set_edns(ours);
        }
        message
    }

    fn encode(&self, message: &Message) -> Option<Vec<u8>> {
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= self.limit() {
            return Some(bytes);
        }
        // Additional records are a courtesy; without them it may fit (RFC 2181 9).
        let mut shorter = message.clone();
        shorter.additionals.clear();
        let bytes = shorter.to_vec().ok()?;
        if bytes.len() <= self.limit() { Some(bytes) } else { message.truncate().to_vec().ok() }
    }
}

/// A name as it stands on the wire when it is spelt out.
fn spelling(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 1);
    for label in name {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}
