//! From the bytes of a question to the bytes of its answer, or to the question that has to be
//! handed on. Whatever arrives, this neither panics nor allocates more than a few KiB.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::DNSClass;

use crate::answer::{self, Verdict};
use crate::question::{Question, Transport, UDP_MAX};
use crate::scope::Scope;
use crate::stats::Outcome;
use crate::zones::Zones;

/// Longest question, bytes. A name has 255, options of EDNS a few dozen.
pub(crate) const QUESTION_MAX: usize = 2048;

/// What to do with a message that came in.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Nothing goes back: it was not a question.
    Ignore,
    /// This goes back.
    Reply(Vec<u8>, Outcome),
    /// Somebody else has to be asked.
    Forward(Box<Question>),
}

/// Judges one message.
pub(crate) fn react(zones: &Zones, scope: &Scope, bytes: &[u8], transport: Transport) -> Reaction {
    // The parser is not ours. Should it trip over something, then only over that one question.
    catch_unwind(AssertUnwindSafe(|| judge(zones, scope, bytes, transport))).unwrap_or(Reaction::Ignore)
}

fn judge(zones: &Zones, scope: &Scope, bytes: &[u8], transport: Transport) -> Reaction {
    // An answer to an answer would be an answer: two servers could keep each other busy for ever.
    if bytes.len() < 12 || bytes.len() > QUESTION_MAX || bytes[2] & 0x80 != 0 {
        return Reaction::Ignore;
    }
    // RFC 9619: a query has exactly one question.
    if bytes[4..6] != [0, 1] {
        return header_only(bytes, ResponseCode::FormErr);
    }
    let Ok(mut message) = Message::from_vec(bytes) else {
        return header_only(bytes, ResponseCode::FormErr);
    };
    let Some(query) = message.queries.pop() else {
        return header_only(bytes, ResponseCode::FormErr);
    };
    let question = Question { metadata: message.metadata, query, edns: message.edns.take(), transport };
    let reply = |bytes: Option<Vec<u8>>, outcome| {
        bytes.map_or(Reaction::Ignore, |bytes| Reaction::Reply(bytes, outcome))
    };
    if question.metadata.op_code != OpCode::Query {
        return reply(question.code(ResponseCode::NotImp), Outcome::Refused);
    }
    if question.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return reply(question.code(ResponseCode::BADVERS), Outcome::Malformed);
    }
    if question.query.query_class() != DNSClass::IN {
        return reply(question.code(ResponseCode::Refused), Outcome::Refused);
    }
    match answer::answer(zones, scope, question.query.name(), question.query.query_type()) {
        Verdict::Forward => Reaction::Forward(Box::new(question)),
        Verdict::Ours(answer) => {
            let outcome = Outcome::of(&answer);
            reply(question.answer(answer), outcome)
        }
    }
}

/// An answer to something whose question could not be read.
fn header_only(bytes: &[u8], code: ResponseCode) -> Reaction {
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let message = Message::error_msg(id, OpCode::Query, code);
    message.to_vec().map_or(Reaction::Ignore, |bytes| Reaction::Reply(bytes, Outcome::Malformed))
}

/// The bytes of `question` as we put it to somebody else, under our own `id`. Options of the
/// client stay behind: they are between him and us.
pub(crate) fn outgoing(question: &Question, id: u16) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    let metadata: &mut Metadata = &mut message.metadata;
    metadata.recursion_desired = question.metadata.recursion_desired;
    metadata.checking_disabled = question.metadata.checking_disabled;
    metadata.authentic_data = question.metadata.authentic_data;
    message.add_query(question.query.clone());
    // Only for one who can read it; an OPT record in the answer would else be unasked for.
    if let Some(theirs) = &question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(theirs.max_payload().min(UDP_MAX)).set_dnssec_ok(question.dnssec());
        message.set_edns(edns);
    }
    message.to_vec().ok()
}

/// Whether `response` answers what [`outgoing`] asked under `id`; its code if so.
pub(crate) fn answers(question: &Question, id: u16, response: &[u8]) -> Option<ResponseCode> {
    if response.len() < 12 || response[..2] != id.to_be_bytes() || response[2] & 0x80 == 0 {
        return None;
    }
    let message = catch_unwind(|| Message::from_vec(response).ok()).unwrap_or(None)?;
    let same = |query: &hickory_proto::op::Query| {
        query.name() == question.query.name()
            && query.query_type() == question.query.query_type()
            && query.query_class() == question.query.query_class()
    };
    match message.queries.as_slice() {
        [query] if same(query) => Some(message.metadata.response_code),
        // Some servers repeat no question when they refuse; there is nothing in it to believe.
        [] if message.answers.is_empty() && message.metadata.response_code != ResponseCode::NoError => {
            Some(message.metadata.response_code)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
