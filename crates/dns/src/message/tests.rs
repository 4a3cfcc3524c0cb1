//! Bytes in, bytes out: what is not a question, sizes, spelling, and what comes from upstream.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RecordType};
use sinew_types::Rng;

use super::*;
use crate::answer::address_record;
use crate::zones::{DOMAIN_DEFAULT, Host, NetworkZone};

const SHOP: [u8; 32] = [1; 32];

/// `db` has one address, `many` a hundred.
fn zones() -> Zones {
    let mut shop = NetworkZone::new(SHOP, "shop", vec![]).unwrap();
    shop.add("db", Host { addresses: vec![[10, 1, 0, 1].into()], ..Host::default() }).unwrap();
    let many = (0..100).map(|at| IpAddr::from([10, 1, 1, at])).collect();
    shop.add("many", Host { addresses: many, ..Host::default() }).unwrap();
    let mut zones = Zones::new(DOMAIN_DEFAULT).unwrap();
    zones.insert(Arc::new(shop));
    zones
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn ask(bytes: &[u8], transport: Transport) -> Reaction {
    react(&zones(), &Scope::workload("web", SHOP), bytes, transport)
}

fn reply(message: &Message, transport: Transport) -> (Vec<u8>, Message) {
    match ask(&message.to_vec().unwrap(), transport) {
        Reaction::Reply(bytes, _) => {
            let message = Message::from_vec(&bytes).unwrap();
            (bytes, message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_repeats_the_question_as_it_was_spelt() {
    let asked = query("dB.ShOp.SiNeW.iNtErNaL", RecordType::A);
    let (bytes, answer) = reply(&asked, Transport::Udp);
    assert_eq!(answer.metadata.id, 0x1234);
    assert!(
        answer.metadata.authoritative
            && answer.metadata.recursion_available
            && answer.metadata.recursion_desired
    );
    assert!(answer.queries[0].name().eq_case(asked.queries[0].name()));
    assert!(answer.answers[0].name.eq_case(asked.queries[0].name()));
    assert_eq!(bytes[12..38], asked.to_vec().unwrap()[12..38], "byte for byte");
    assert!(answer.edns.is_none(), "not asked for");
}

#[test]
fn an_answer_fits_what_the_client_can_take() {
    let many = || query("many.shop.sinew.internal", RecordType::A);
    let cases = [
        (many(), Transport::Udp, 512, true),
        (with_edns(many(), 100), Transport::Udp, 512, true),
        (with_edns(many(), 1000), Transport::Udp, 1000, true),
        (with_edns(many(), 65535), Transport::Udp, 1232, true),
        (many(), Transport::Tcp, 65535, false),
        (query("db.shop.sinew.internal", RecordType::A), Transport::Udp, 512, false),
    ];
    for (message, transport, limit, truncated) in cases {
        let (bytes, answer) = reply(&message, transport);
        assert!(bytes.len() <= limit, "{} > {limit}", bytes.len());
        assert_eq!(answer.metadata.truncation, truncated, "{limit}");
        assert_eq!(answer.answers.is_empty(), truncated);
        assert_eq!(answer.edns.is_some(), message.edns.is_some());
    }
}

#[test]
fn what_is_no_question_gets_no_answer() {
    let mut response = query("db.shop.sinew.internal", RecordType::A).to_vec().unwrap();
    response[2] |= 0x80;
    for bytes in [&b""[..], &[0; 11], &response, &vec![0; QUESTION_MAX + 1]] {
        assert!(matches!(ask(bytes, Transport::Udp), Reaction::Ignore), "{} bytes", bytes.len());
    }
}

#[test]
fn each_kind_of_wrong_question_has_its_code() {
    let good = || query("db.shop.sinew.internal", RecordType::A);
    let mut two = good();
    two.add_query(two.queries[0].clone());
    let mut none = good();
    none.queries.clear();
    let mut update = good();
    update.metadata.op_code = OpCode::Update;
    let mut chaos = good();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut version = with_edns(good(), 1232);
    version.edns.as_mut().unwrap().set_version(1);
    let cases = [
        (two, ResponseCode::FormErr),
        (none, ResponseCode::FormErr),
        (update, ResponseCode::NotImp),
        (chaos, ResponseCode::Refused),
        (version, ResponseCode::BADVERS),
        (query("db.shop.sinew.internal", RecordType::AXFR), ResponseCode::Refused),
    ];
    for (message, code) in cases {
        let (_, answer) = reply(&message, Transport::Udp);
        // 16 has two names, BADVERS and BADSIG.
        assert_eq!(u16::from(answer.metadata.response_code), u16::from(code));
        assert_eq!(answer.metadata.id, 0x1234);
    }
    let mut cut = good().to_vec().unwrap();
    cut.truncate(20);
    assert!(matches!(ask(&cut, Transport::Udp), Reaction::Reply(_, Outcome::Malformed)));
}

#[test]
fn no_bytes_make_it_panic_or_answer_at_length() {
    let zones = zones();
    let scope = Scope::workload("web", SHOP);
    let good = with_edns(query("_x._tcp.db.shop.sinew.internal", RecordType::SRV), 4096).to_vec().unwrap();
    let mut rng = Rng::new([7; 32]);
    let mut replies = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=rng.u64() % 4 {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = rng.u64().to_le_bytes()[0];
        }
        bytes.truncate(usize::try_from(rng.u64()).unwrap() % (bytes.len() * 2) + 1);
        if let Reaction::Reply(answer, _) = judge(&zones, &scope, &bytes, Transport::Udp) {
            assert!(answer.len() <= 1232);
            replies += 1;
        }
    }
    assert!(replies > 1000, "{replies}");
}

fn question(message: &Message, transport: Transport) -> Question {
    match ask(&message.to_vec().unwrap(), transport) {
        Reaction::Forward(question) => *question,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_is_handed_on_without_what_is_between_the_client_and_us() {
    let mut asked = with_edns(query("www.Example.org", RecordType::AAAA), 4096);
    asked.metadata.checking_disabled = true;
    let edns = asked.edns.as_mut().unwrap();
    edns.set_dnssec_ok(true);
    edns.options_mut().insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(65001, vec![1, 2, 3]));
    let sent = Message::from_vec(&outgoing(&question(&asked, Transport::Udp), 77).unwrap()).unwrap();
    assert_eq!(sent.metadata.id, 77);
    assert!(sent.metadata.recursion_desired && sent.metadata.checking_disabled);
    assert!(sent.queries[0].name().eq_case(asked.queries[0].name()));
    let edns = sent.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
    assert_eq!(edns.max_payload(), 1232);
    let plain = outgoing(&question(&query("example.org", RecordType::A), Transport::Udp), 1).unwrap();
    assert!(Message::from_vec(&plain).unwrap().edns.is_none());
}

#[test]
fn only_an_answer_to_our_own_question_is_believed() {
    let asked = question(&query("example.org", RecordType::A), Transport::Udp);
    let answer = |name: &str, kind| {
        let mut message = query(name, kind);
        message.metadata.id = 77;
        message.metadata.message_type = MessageType::Response;
        let owner = message.queries[0].name().clone();
        message.add_answer(address_record(&owner, [192, 0, 2, 1].into(), 60));
        message
    };
    let bytes = |message: Message| message.to_vec().unwrap();
    let good = bytes(answer("EXAMPLE.org", RecordType::A));
    assert_eq!(answers(&asked, 77, &good), Some(ResponseCode::NoError));
    assert_eq!(answers(&asked, 78, &good), None, "another id");
    let mut still_a_question = good.clone();
    still_a_question[2] &= 0x7f;
    let mut unasked = answer("example.org", RecordType::A);
    unasked.queries.clear();
    for wrong in [
        bytes(answer("example.net", RecordType::A)),
        bytes(answer("example.org", RecordType::AAAA)),
        bytes(unasked),
        still_a_question,
        good[..11].to_vec(),
        good[..good.len() - 3].to_vec(),
    ] {
        assert_eq!(answers(&asked, 77, &wrong), None);
    }
    let mut refused = Message::error_msg(77, OpCode::Query, ResponseCode::Refused);
    assert_eq!(answers(&asked, 77, &refused.to_vec().unwrap()), Some(ResponseCode::Refused));
    refused.metadata.response_code = ResponseCode::NoError;
    assert_eq!(answers(&asked, 77, &refused.to_vec().unwrap()), None);
}

#[test]
fn an_answer_from_elsewhere_gets_the_clients_id_and_spelling_and_is_cut_to_his_size() {
    let asked = question(&query("WwW.example.ORG", RecordType::A), Transport::Udp);
    let mut answer = query("www.example.org", RecordType::A);
    answer.metadata.id = 77;
    let whole = asked.relay(&answer.to_vec().unwrap()).unwrap();
    assert_eq!(whole, query("WwW.example.ORG", RecordType::A).to_vec().unwrap());
    assert_eq!(asked.relay(&[0; 512]).unwrap()[..3], [0x12, 0x34, 0]);
    let cut = Message::from_vec(&asked.relay(&[0; 513]).unwrap()).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(cut.metadata.id, 0x1234);
}
