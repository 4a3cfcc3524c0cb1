use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::answer::react;
use super::*;

fn ask(texts: &Texts, name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let answer = react(texts, &message.to_vec().unwrap(), true).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn values(message: &Message) -> Vec<String> {
    let text = |record: &hickory_proto::rr::Record| match &record.data {
        RData::TXT(text) => Some(text.to_string()),
        _ => None,
    };
    message.answers.iter().filter_map(text).collect()
}

#[test]
fn texts_come_and_go_and_share_a_name() {
    let texts = Texts::new("ns.gw.example.org");
    let name = "_acme-challenge.gw.example.org";
    texts.set_hosts(&["*.gw.example.org"]);
    let empty = ask(&texts, name, RecordType::TXT);
    assert_eq!((empty.metadata.response_code, empty.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(empty.authorities.len(), 1, "with the zone's SOA");
    texts.set(name, "one");
    texts.set("_Acme-Challenge.GW.example.org", "two");
    let both = ask(&texts, "_aCme-challenge.gw.EXAMPLE.org", RecordType::TXT);
    assert_eq!(values(&both), ["one", "two"]);
    assert!(both.metadata.authoritative && !both.metadata.recursion_available);
    assert_eq!(both.queries[0].name().to_ascii(), "_aCme-challenge.gw.EXAMPLE.org.", "spelt as asked");
    texts.clear(name, "one");
    assert_eq!(values(&ask(&texts, name, RecordType::TXT)), ["two"]);
    texts.clear(name, "two");
    assert_eq!(values(&ask(&texts, name, RecordType::TXT)), [""; 0]);
    assert_eq!(texts.counts(), TextCounts { answered: 2, empty: 2, refused: 0 });
}

#[test]
fn only_names_we_were_told_of_exist() {
    let texts = Texts::new("ns.gw.example.org");
    texts.set_hosts(&["a.example"]);
    texts.set("_acme-challenge.b.example", "x");
    for (name, kind, code, records) in [
        ("_acme-challenge.a.example", RecordType::SOA, ResponseCode::NoError, 1),
        ("_acme-challenge.a.example", RecordType::NS, ResponseCode::NoError, 1),
        ("_acme-challenge.a.example", RecordType::A, ResponseCode::NoError, 0),
        ("_acme-challenge.a.example", RecordType::ANY, ResponseCode::NoError, 0),
        ("x._acme-challenge.a.example", RecordType::TXT, ResponseCode::NXDomain, 0),
        ("_acme-challenge.b.example", RecordType::TXT, ResponseCode::NoError, 1),
        ("a.example", RecordType::A, ResponseCode::Refused, 0),
        ("_acme-challenge.c.example", RecordType::TXT, ResponseCode::Refused, 0),
        ("example", RecordType::NS, ResponseCode::Refused, 0),
        (".", RecordType::NS, ResponseCode::Refused, 0),
    ] {
        let answer = ask(&texts, name, kind);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, records), "{name} {kind}");
        assert_eq!(answer.metadata.authoritative, code != ResponseCode::Refused, "{name}");
    }
    // A proof's own name goes with it, unless its host stands in the list.
    texts.clear("_acme-challenge.b.example", "x");
    let gone = ask(&texts, "_acme-challenge.b.example", RecordType::TXT);
    assert_eq!(gone.metadata.response_code, ResponseCode::Refused);
    texts.set_hosts(&[""; 0]);
    let gone = ask(&texts, "_acme-challenge.a.example", RecordType::TXT);
    assert_eq!(gone.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_is_no_question_gets_no_answer_or_an_error_and_none_is_large() {
    let texts = Texts::new("ns.example");
    texts.set_hosts(&["a.example"]);
    (0..40).for_each(|n| texts.set("_acme-challenge.a.example", &format!("{n:0>43}")));
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii("_acme-challenge.a.example").unwrap();
    message.add_query(Query::query(name, RecordType::TXT));
    let bytes = message.to_vec().unwrap();
    let answer = react(&texts, &bytes, true).unwrap();
    assert!(answer.len() <= 512 && Message::from_vec(&answer).unwrap().metadata.truncation);
    let whole = Message::from_vec(&react(&texts, &bytes, false).unwrap()).unwrap();
    assert_eq!(values(&whole).len(), VALUES_MAX);
    let mut response = bytes.clone();
    response[2] |= 0x80;
    assert_eq!(react(&texts, &response, true), None, "an answer");
    assert_eq!(react(&texts, &bytes[..11], true), None, "too short");
    for at in 12..bytes.len() {
        let cut = react(&texts, &bytes[..at], true).unwrap();
        assert_eq!(cut[3] & 15, 1, "cut at {at}: a format error");
    }
    let mut two = bytes.clone();
    two[5] = 2;
    assert_eq!(react(&texts, &two, true).unwrap()[3] & 15, 1, "two questions");
    let mut update = bytes;
    update[2] |= 5 << 3;
    assert_eq!(react(&texts, &update, true).unwrap()[3] & 15, 4, "an update");
}
