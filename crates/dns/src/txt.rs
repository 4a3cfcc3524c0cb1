//! TXT records of others, asked of chosen name servers: for proofs that a domain is somebody's.
//!
//! Our own zones take no part: what proves something must stand in the public name system.

use std::str::FromStr as _;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::question::{Question, Transport};
use crate::upstream::{Forwarder, Servers, Upstream};

/// Asks for TXT records.
#[derive(Debug)]
pub struct TxtClient(Forwarder);

/// What name servers say of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txt {
    /// These texts; none: there are no TXT records, or there is no such name.
    Texts(Vec<String>),
    /// Nothing that could be understood, for this reason.
    Unknown(&'static str),
}

impl TxtClient {
    /// One that asks these servers.
    pub fn new(servers: Servers) -> Self {
        Self(Forwarder::new(Upstream { servers, rules: Vec::new() }))
    }

    /// The texts at `name`, aliases followed. Takes at most four seconds.
    pub async fn lookup(&self, name: &str) -> Txt {
        let Ok(mut name) = Name::from_str(name) else { return Txt::Unknown("not a name") };
        name.set_fqdn(true);
        let first = self.ask(&name, Transport::Udp).await;
        match first {
            Ok(message) if message.metadata.truncation => {
                self.ask(&name, Transport::Tcp).await.map_or_else(Txt::Unknown, |message| texts(&message))
            }
            first => first.map_or_else(Txt::Unknown, |message| texts(&message)),
        }
    }

    async fn ask(&self, name: &Name, transport: Transport) -> Result<Message, &'static str> {
        let mut metadata = Metadata::new(0, MessageType::Query, OpCode::Query);
        metadata.recursion_desired = true;
        let query = Query::query(name.clone(), RecordType::TXT);
        let question = Question { metadata, query, edns: None, transport };
        let (bytes, _) = self.0.ask(&question).await.map_err(|_| "no name server answers")?;
        Message::from_vec(&bytes).map_err(|_| "the answer cannot be read")
    }
}

fn texts(message: &Message) -> Txt {
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        _ => return Txt::Unknown("the name servers of the domain fail"),
    }
    let text = |record: &hickory_proto::rr::Record| match &record.data {
        // One text may come in pieces of 255 bytes.
        RData::TXT(txt) => {
            let bytes: Vec<u8> = txt.txt_data.iter().flat_map(|piece| piece.iter().copied()).collect();
            String::from_utf8(bytes).ok()
        }
        _ => None,
    };
    Txt::Texts(message.answers.iter().filter_map(text).collect())
}
