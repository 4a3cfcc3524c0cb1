//! Documents, tickets, synchronisation and bindings of private networks (protocol A7): exact bytes,
//! refusals, and properties over random values.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use sinew_types::{Identity, Label, PeerUri};
use sinew_wire::Malformed;
use sinew_wire::document::{
    Attach, Body, DOCUMENT_HEADER_LEN, DOCUMENT_MAX, Document, Grant, Head, Invite, InviteMode, Member, Net,
    PolicySpec, ProtocolSpec, Range4, Revocation, Revoke, RuleSpec, SelectorSpec, Service, Subnet4, Workload,
    kind,
};
use sinew_wire::punch::{Candidate, CandidateKind, Guess, MAX_CANDIDATES, Mapping, Punch};
use sinew_wire::request::{Bind, BindRefusal, Redeem, RedeemReply, RedeemStatus, Request};
use sinew_wire::sync::{BUCKETS, IDS_MAX, SyncMessage, bucket_of};
use sinew_wire::ticket::{Contact, Ticket, TicketError, TicketMode};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn document(body: Vec<u8>) -> Document {
    Document {
        kind: kind::MEMBER,
        network: [1; 32],
        author: [2; 32],
        grant: [3; 32],
        subject: [4; 32],
        generation: 0x0001_0002,
        seq: 5,
        issued: 6,
        expires: 7,
        body,
        signature: [8; 64],
    }
}

fn emitted(document: &Document) -> Vec<u8> {
    let mut out = Vec::new();
    document.emit(&mut out);
    out
}

#[test]
fn a_document_has_the_layout_of_a7() {
    let document = document(vec![1, 1, 0, 9]);
    let bytes = emitted(&document);
    assert_eq!(hex(&bytes[..8]), "534e444301030000");
    for (at, byte) in [(8, 1), (40, 2), (72, 3), (104, 4)] {
        assert_eq!(bytes[at..at + 32], [byte; 32]);
    }
    let numbers = "020001000500000000000000060000000000000007000000000000000400";
    assert_eq!(hex(&bytes[136..DOCUMENT_HEADER_LEN]), numbers);
    assert_eq!(bytes[DOCUMENT_HEADER_LEN..], [&[1, 1, 0, 9][..], &[8; 64]].concat());
    assert_eq!(document.signed_bytes(), bytes[..bytes.len() - 64]);
    assert_eq!(document.emitted_len(), bytes.len());
    assert_eq!(Document::parse(&bytes), Ok(document));
}

#[test]
fn a_document_has_one_shape() {
    let good = emitted(&document(vec![1, 1, 0, 9, 2, 0, 0]));
    assert!(Document::parse(&good).is_ok());
    for (at, byte) in [(0, b'T'), (4, 2), (6, 1), (7, 1)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(Document::parse(&bad), Err(Malformed), "byte {at}");
    }
    assert_eq!(Document::parse(&good[..good.len() - 1]), Err(Malformed));
    assert_eq!(Document::parse(&[&good[..], &[0]].concat()), Err(Malformed));
    // Tags rise strictly and fields are whole.
    for body in [vec![1, 0, 0, 1, 0, 0], vec![2, 0, 0, 1, 0, 0], vec![1, 2, 0, 9], vec![1], vec![1, 0]] {
        assert_eq!(Document::parse(&emitted(&document(body.clone()))), Err(Malformed), "{body:?}");
    }
    let room = DOCUMENT_MAX - DOCUMENT_HEADER_LEN - 64;
    let filled = |len: usize| {
        let mut body = vec![1];
        body.extend(u16::try_from(len - 3).unwrap().to_le_bytes());
        body.resize(len, 0);
        Document::parse(&emitted(&document(body)))
    };
    assert!(filled(room).is_ok());
    assert_eq!(filled(room + 1), Err(Malformed), "it must fit one message");
}

#[test]
fn an_unknown_field_is_refused_unless_it_is_optional() {
    let body = Body::Revoke(Revoke { target: 3 }).emit();
    assert_eq!(hex(&body), "01010003");
    assert!(Body::parse(kind::REVOKE, &body).is_ok());
    let critical = [&body[..], &[0x7f, 0, 0]].concat();
    assert_eq!(Body::parse(kind::REVOKE, &critical), Err(Malformed));
    let optional = [&body[..], &[0x80, 0, 0]].concat();
    assert_eq!(Body::parse(kind::REVOKE, &optional), Ok(Some(Body::Revoke(Revoke { target: 3 }))));
    assert_eq!(Body::parse(kind::REVOKE, &[]), Err(Malformed), "the target is missing");
    assert_eq!(Body::parse(99, &[1, 2, 3]), Ok(None), "a kind of a later version");
}

#[test]
fn sets_are_listed_in_one_way() {
    let member = |groups: &[&str]| {
        let groups = groups.iter().map(|group| label(group)).collect();
        let body = Member { number: 1, subnet: None, groups, since: 0, ticket: None, name: None };
        Body::parse(kind::MEMBER, &Body::Member(body).emit())
    };
    assert!(member(&["a", "b"]).is_ok());
    assert_eq!(member(&["b", "a"]), Err(Malformed));
    assert_eq!(member(&["a", "a"]), Err(Malformed));
    let many: Vec<String> = (10..75).map(|n| format!("g{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(member(&many[..64]).is_ok());
    assert_eq!(member(&many), Err(Malformed), "65 groups");
}

#[test]
fn rules_have_ends_and_ranges_the_right_way_round() {
    let any = vec![SelectorSpec::Any];
    let rule = |from: &[SelectorSpec], ports: &[(u16, u16)]| {
        let (from, to, ports) = (from.to_vec(), any.clone(), ports.to_vec());
        let rule = RuleSpec { from, to, protocol: ProtocolSpec::Tcp, ports, allow: true };
        let body = Body::Policy(PolicySpec { default_allow: false, rules: vec![rule] });
        Body::parse(kind::POLICY, &body.emit())
    };
    assert!(rule(&any, &[(1, 1), (2, 3)]).is_ok());
    assert_eq!(rule(&[], &[]), Err(Malformed), "nobody");
    assert_eq!(rule(&any, &[(3, 2)]), Err(Malformed));
}

#[test]
fn requests_of_networks_have_the_layout_of_a7() {
    let shape = |request: &Request| {
        let mut out = Vec::new();
        request.emit(&mut out);
        hex(&out)
    };
    let (tag, member) = ([7; 16], [9; 32]);
    let bind = Bind { handle: 0x03_02_01, tag, member, head: (4, 5) };
    let expected = format!("08010203{}{}04000500000000000000", "07".repeat(16), "09".repeat(32));
    assert_eq!(shape(&Request::Bind(bind)), expected);
    assert_eq!(shape(&Request::BindAck { tag }), format!("09{}", "07".repeat(16)));
    let refused = Request::BindRefused { tag, refusal: BindRefusal::NotAMember };
    assert_eq!(shape(&refused), format!("0a{}02", "07".repeat(16)));
    let redeem = Redeem { network: [1; 32], ticket: [2; 32], signature: [3; 64], name: None };
    let expected = format!("0b{}{}{}", "01".repeat(32), "02".repeat(32), "03".repeat(64));
    assert_eq!(shape(&Request::Redeem(Box::new(redeem.clone()))), expected);
    let named = Redeem { name: Some(sinew_types::Label::parse("bob").unwrap()), ..redeem };
    assert_eq!(shape(&Request::Redeem(Box::new(named))), format!("{expected}626f62"));
    let reply = RedeemReply { ticket: [2; 32], status: RedeemStatus::Used, documents: vec![vec![5, 6]] };
    assert_eq!(shape(&Request::RedeemReply(reply)), format!("0c{}0402000506", "02".repeat(32)));
    assert_eq!(shape(&Request::Unbind { tag }), format!("0d{}", "07".repeat(16)));
}

#[test]
fn a_wish_for_a_name_is_a_label_or_nothing() {
    let redeem = Redeem { network: [1; 32], ticket: [2; 32], signature: [3; 64], name: None };
    let mut plain = Vec::new();
    Request::Redeem(Box::new(redeem.clone())).emit(&mut plain);
    for (wish, good) in [
        (&b""[..], true),
        (b"bob", true),
        (b"Bob", false),
        (b"a b", false),
        (b"\xff", false),
        (&[b'a'; 64], false),
    ] {
        let parsed = Request::parse(&[&plain[..], wish].concat());
        assert_eq!(parsed.is_ok(), good, "{wish:?}");
    }
}

#[test]
fn requests_about_direct_paths_have_the_layout_of_a10() {
    let shape = |request: &Request| {
        let mut out = Vec::new();
        request.emit(&mut out);
        assert_eq!(Request::parse(&out).as_ref(), Ok(request));
        hex(&out)
    };
    let mapped = |low: &str| format!("{}ffff{low}", "00".repeat(10));
    let v4 = "1.2.3.4:258".parse().unwrap();
    assert_eq!(shape(&Request::Observed { addr: v4 }), format!("0e{}0201", mapped("01020304")));
    let v6 = "[2001:db8::1]:3".parse().unwrap();
    let written = "20010db8000000000000000000000001";
    assert_eq!(shape(&Request::Observed { addr: v6 }), format!("0e{written}0300"));
    let punch = Punch {
        round: 1,
        rtt_us: 2,
        mapping: Mapping::AddressDependent,
        guess: Some(Guess { ip: v4.ip(), port: 258, step: -2 }),
        candidates: vec![
            Candidate { kind: CandidateKind::Local, addr: v6 },
            Candidate { kind: CandidateKind::Other(9), addr: v4 },
        ],
    };
    let guess = format!("fe{}0201", mapped("01020304"));
    let candidates =
        format!("02{}{}", format_args!("01{written}0300"), format_args!("09{}0201", mapped("01020304")));
    let expected = format!("0100000002000000{}{guess}{candidates}", "03");
    assert_eq!(shape(&Request::Punch(Box::new(punch.clone()))), format!("0f{expected}"));
    assert_eq!(shape(&Request::PunchReply(Box::new(punch))), format!("10{expected}"));
    let none = Punch { round: 7, rtt_us: 0, mapping: Mapping::Other(77), guess: None, candidates: vec![] };
    assert_eq!(shape(&Request::Punch(Box::new(none))), format!("0f07000000{}4d0000", "00".repeat(4)));
    assert_eq!(shape(&Request::PunchEnd { round: 7 }), "1107000000");
    let witness = Request::Witness { id: 7, node: [5; 32], ip: v4.ip() };
    assert_eq!(shape(&witness), format!("1207000000{}{}", "05".repeat(32), mapped("01020304")));
    assert_eq!(shape(&Request::WitnessReply { id: 7, seen: true }), "130700000001");
    assert_eq!(shape(&Request::WitnessReply { id: 7, seen: false }), "130700000000");
    assert!(Request::parse(&[0x13, 7, 0, 0, 0, 2]).is_err(), "yes or no");
    assert_eq!(shape(&Request::Scatter { round: 7, ports: 256 }), "14070000000001");
}

#[test]
fn records_of_nodes_are_few_and_short() {
    let emitted = |request: &Request| {
        let mut message = Vec::new();
        request.emit(&mut message);
        assert_eq!(Request::parse(&message).as_ref(), Ok(request));
        message
    };
    assert_eq!(emitted(&Request::RecordsAsk { count: 8 }), [0x20, 8]);
    let records = Request::Records(vec![vec![1, 2], vec![3]]);
    assert_eq!(emitted(&records), [0x21, 2, 0, 1, 2, 1, 0, 3]);
    let refused: [&[u8]; 3] = [&[0x21, 0, 0], &[0x21, 2, 0, 1], &[0x21, 44, 1]];
    for message in refused {
        assert!(Request::parse(message).is_err(), "{message:?}");
    }
    let many = [vec![0x21], [1, 0, 9].repeat(17)].concat();
    assert!(Request::parse(&many).is_err(), "seventeen records");
}

#[test]
fn candidates_are_few() {
    let punch = |count: u8| {
        let mut message = vec![0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, count];
        message.extend([1; 19].repeat(usize::from(count)));
        Request::parse(&message)
    };
    assert!(punch(MAX_CANDIDATES as u8).is_ok());
    assert_eq!(punch(MAX_CANDIDATES as u8 + 1), Err(Malformed));
    assert_eq!(punch(255), Err(Malformed));
}

#[test]
fn handle_0_is_the_mesh_itself_and_no_network() {
    let bind = Bind { handle: 0, tag: [1; 16], member: [2; 32], head: (0, 0) };
    let mut out = Vec::new();
    Request::Bind(bind).emit(&mut out);
    assert_eq!(Request::parse(&out), Err(Malformed));
}

#[test]
fn messages_of_class_1_have_the_layout_of_a7() {
    let shape = |message: &SyncMessage| {
        let mut out = Vec::new();
        message.emit(&mut out);
        hex(&out)
    };
    let tag = [7; 16];
    let head = "07".repeat(16);
    let buckets = Box::new([[1; 8]; BUCKETS]);
    let summary = SyncMessage::Summary { tag, head: (1, 2), buckets };
    assert_eq!(shape(&summary), format!("01{head}01000200000000000000{}", "01".repeat(512)));
    let inventory =
        SyncMessage::Inventory { tag, buckets: 3, low: [0; 32], high: [255; 32], ids: vec![[1; 32]] };
    let ends = format!("{}{}", "00".repeat(32), "ff".repeat(32));
    assert_eq!(shape(&inventory), format!("02{head}0300000000000000{ends}0100{}", "01".repeat(32)));
    let want = SyncMessage::Want { tag, ids: vec![[1; 32]] };
    assert_eq!(shape(&want), format!("03{head}0100{}", "01".repeat(32)));
    let documents = SyncMessage::Documents { tag, documents: vec![vec![5], vec![6, 7]] };
    assert_eq!(shape(&documents), format!("04{head}01000502000607"));
    assert_eq!((bucket_of(&[0; 32]), bucket_of(&[255; 32])), (0, BUCKETS - 1));
}

#[test]
fn ids_rise_and_are_bounded() {
    let want = |ids: Vec<[u8; 32]>| {
        let mut out = Vec::new();
        SyncMessage::Want { tag: [0; 16], ids }.emit(&mut out);
        SyncMessage::parse(&out)
    };
    assert!(want(vec![[1; 32], [2; 32]]).is_ok());
    assert_eq!(want(vec![[2; 32], [1; 32]]), Err(Malformed));
    assert_eq!(want(vec![[1; 32], [1; 32]]), Err(Malformed));
    let ids = |count: usize| {
        let id = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            id
        };
        (0..count).map(id).collect::<Vec<_>>()
    };
    assert!(want(ids(IDS_MAX)).is_ok());
    assert_eq!(want(ids(IDS_MAX + 1)), Err(Malformed));
    let empty = [&[4; 1][..], &[0; 16], &[0, 0]].concat();
    assert_eq!(SyncMessage::parse(&empty), Err(Malformed), "a document of no bytes");
    assert!(matches!(SyncMessage::parse(&[9, 1]), Ok(SyncMessage::Other { kind: 9, .. })));
    assert_eq!(SyncMessage::parse(&[]), Err(Malformed));
}

fn uri(n: u8) -> PeerUri {
    let node = Identity::from_seed([n; 32]).node_id();
    format!("sinew://{node}@192.0.2.{n}:7463?via=udp").parse().expect("a URI")
}

fn ticket(mode: TicketMode) -> Ticket {
    let contact = Contact { node: *uri(1).node.as_bytes(), endpoints: vec![uri(1)] };
    Ticket {
        network: [1; 32],
        name: label("lab"),
        mode,
        head: (2, 3),
        expires: 4,
        secret: (mode != TicketMode::Pinned).then_some([5; 32]),
        contacts: vec![contact],
        documents: vec![vec![6; 10]],
    }
}

#[test]
fn a_ticket_is_one_line_and_every_slip_of_the_hand_is_seen() {
    for mode in [TicketMode::Pinned, TicketMode::Counted, TicketMode::Bearer] {
        let ticket = ticket(mode);
        let text = ticket.to_text();
        assert!(text.starts_with("sinewnet1") && !text.contains(char::is_whitespace));
        assert_eq!(text.parse(), Ok(ticket));
        for at in 9..text.len() {
            let old = text.as_bytes()[at];
            let other = if old == b'a' { 'b' } else { 'a' };
            let mut changed = text.to_string();
            changed.replace_range(at..=at, &other.to_string());
            assert_eq!(changed.parse::<Ticket>(), Err(TicketError::Damaged), "at {at}");
            let missing = [&text[..at], &text[at + 1..]].concat();
            assert!(missing.parse::<Ticket>().is_err(), "without {at}");
        }
    }
    let long = "sinewnet1".to_owned() + &"a".repeat(70_000);
    assert_eq!(long.parse::<Ticket>(), Err(TicketError::TooLong));
}

#[test]
fn a_contact_s_endpoint_names_the_contact() {
    let mut ticket = ticket(TicketMode::Counted);
    ticket.contacts[0].endpoints = vec![uri(2)];
    assert_eq!(ticket.to_text().parse::<Ticket>(), Err(TicketError::Damaged));
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    prop::collection::btree_set("[a-z][a-z0-9-]{0,8}[a-z0-9]", 0..4)
        .prop_map(|set| set.iter().map(|text| label(text)).collect())
}

fn name() -> impl Strategy<Value = Label> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|text| label(&text))
}

fn key() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn selector() -> impl Strategy<Value = SelectorSpec> {
    prop_oneof![
        Just(SelectorSpec::Any),
        name().prop_map(SelectorSpec::Group),
        name().prop_map(SelectorSpec::Workload),
        key().prop_map(SelectorSpec::Member),
    ]
}

fn rule() -> impl Strategy<Value = RuleSpec> {
    let list = || prop::collection::vec(selector(), 1..4);
    let protocol = prop_oneof![
        Just(ProtocolSpec::Any),
        Just(ProtocolSpec::Icmp),
        Just(ProtocolSpec::Tcp),
        Just(ProtocolSpec::Udp),
        prop::sample::select(vec![0u8, 1, 47, 58, 255]).prop_map(ProtocolSpec::Number),
    ];
    let ports = prop::collection::vec(any::<(u16, u16)>().prop_map(|(a, b)| (a.min(b), a.max(b))), 0..4);
    (list(), list(), protocol, ports, any::<bool>()).prop_map(|(from, to, protocol, ports, allow)| RuleSpec {
        from,
        to,
        protocol,
        ports,
        allow,
    })
}

fn subnet() -> impl Strategy<Value = Option<Subnet4>> {
    prop::option::of((any::<u32>(), 8u8..=30).prop_map(|(bits, len)| {
        let first = Ipv4Addr::from(bits >> (32 - len) << (32 - len));
        Subnet4 { first, len }
    }))
}

fn workload() -> impl Strategy<Value = Workload> {
    let service = (name(), any::<u8>(), any::<u16>()).prop_map(|(name, protocol, port)| Service {
        name,
        protocol,
        port,
    });
    let services = prop::collection::btree_set(service, 0..4).prop_map(|set| set.into_iter().collect());
    let addresses = (prop::option::of(any::<u32>()), any::<u128>());
    let rest = (prop::option::of(labels()), any::<[bool; 2]>(), any::<u64>());
    (name(), addresses, rest, services).prop_map(|(name, (v4, v6), (groups, flags, since), services)| {
        Workload {
            name,
            ipv4: v4.map(Ipv4Addr::from),
            ipv6: Ipv6Addr::from(v6),
            groups,
            services,
            keyed: flags[0],
            removed: flags[1],
            since,
        }
    })
}

fn invite() -> impl Strategy<Value = Invite> {
    let acceptors = prop::collection::vec(key(), 0..=3);
    (any::<[bool; 2]>(), any::<u16>(), labels(), acceptors, prop::option::of(any::<u16>()), subnet())
        .prop_map(|([bearer, approval], uses, groups, acceptors, number, subnet)| Invite {
            mode: if bearer { InviteMode::Bearer } else { InviteMode::Counted },
            uses,
            groups,
            acceptors,
            approval,
            number,
            subnet,
        })
}

fn body() -> impl Strategy<Value = Body> {
    let range = (any::<u32>(), 8u8..=28, 1u8..=16).prop_map(|(bits, len, more)| Range4 {
        first: Ipv4Addr::from(bits >> (32 - len) << (32 - len)),
        len,
        member_len: (len + more).min(30),
    });
    let net = (name(), prop::option::of(range), any::<bool>())
        .prop_map(|(name, range, strict)| Body::Net(Net { name, range, strict }));
    let grant = (any::<u16>(), any::<(u16, u16)>(), prop::option::of(any::<u32>()))
        .prop_map(|(scopes, numbers, longest)| Body::Grant(Grant { scopes, numbers, longest }));
    let member =
        (any::<u16>(), subnet(), labels(), any::<u64>(), prop::option::of(key()), prop::option::of(name()))
            .prop_map(|(number, subnet, groups, since, ticket, name)| {
                Body::Member(Member { number, subnet, groups, since, ticket, name })
            });
    let policy = (any::<bool>(), prop::collection::vec(rule(), 0..4))
        .prop_map(|(default_allow, rules)| Body::Policy(PolicySpec { default_allow, rules }));
    let line = (any::<u8>(), any::<[u8; 6]>(), any::<u32>())
        .prop_map(|(target, hint, generation)| Revocation { target, hint, generation });
    let head = (key(), prop::collection::btree_set(line, 0..5))
        .prop_map(|(digest, lines)| Body::Head(Head { digest, revocations: lines.into_iter().collect() }));
    let attach = (key(), prop::collection::vec(any::<u8>(), 64)).prop_map(|(host, signature)| {
        Body::Attach(Attach { host, signature: signature.try_into().expect("64 bytes") })
    });
    prop_oneof![
        net,
        grant,
        member,
        any::<u8>().prop_map(|target| Body::Revoke(Revoke { target })),
        policy,
        workload().prop_map(Body::Workload),
        head,
        invite().prop_map(Body::Invite),
        attach,
    ]
}

fn sync() -> impl Strategy<Value = SyncMessage> {
    let tag = || any::<[u8; 16]>();
    let ids = || prop::collection::btree_set(key(), 0..5).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    let documents = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..4);
    let buckets = prop::collection::vec(any::<[u8; 8]>(), BUCKETS);
    prop_oneof![
        (tag(), any::<(u16, u64)>(), buckets).prop_map(|(tag, head, buckets)| {
            let buckets = Box::new(buckets.try_into().expect("64 buckets"));
            SyncMessage::Summary { tag, head, buckets }
        }),
        (tag(), any::<u64>(), key(), key(), ids()).prop_map(|(tag, buckets, low, high, ids)| {
            SyncMessage::Inventory { tag, buckets, low, high, ids }
        }),
        (tag(), ids()).prop_map(|(tag, ids)| SyncMessage::Want { tag, ids }),
        (tag(), documents).prop_map(|(tag, documents)| SyncMessage::Documents { tag, documents }),
    ]
}

proptest! {
    #[test]
    fn bodies_round_trip(body in body()) {
        prop_assert_eq!(Body::parse(body.kind(), &body.emit()), Ok(Some(body)));
    }

    #[test]
    fn messages_of_class_1_round_trip(message in sync()) {
        let mut out = Vec::new();
        message.emit(&mut out);
        prop_assert_eq!(SyncMessage::parse(&out), Ok(message));
    }

    #[test]
    fn bindings_round_trip(handle in 1u32..1 << 24, tag: [u8; 16], member: [u8; 32], head: (u16, u64)) {
        let request = Request::Bind(Bind { handle, tag, member, head });
        let mut out = Vec::new();
        request.emit(&mut out);
        prop_assert_eq!(Request::parse(&out), Ok(request));
    }

    #[test]
    fn random_bodies_never_panic_and_have_one_spelling(
        kind in 1u8..11,
        fields in prop::collection::vec((0u8..10, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut body = Vec::new();
        for (tag, value) in fields {
            body.push(tag);
            body.extend((value.len() as u16).to_le_bytes());
            body.extend(value);
        }
        if let Ok(Some(value)) = Body::parse(kind, &body) {
            prop_assert_eq!(value.emit(), body);
        }
    }

    #[test]
    fn random_messages_never_panic_and_have_one_spelling(
        first in 0u8..15,
        mut bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..700),
    ) {
        bytes.insert(0, first);
        let mut out = Vec::new();
        if let Ok(message) = SyncMessage::parse(&bytes) {
            message.emit(&mut out);
            prop_assert_eq!(&out, &bytes);
        }
        out.clear();
        if let Ok(request) = Request::parse(&bytes) {
            request.emit(&mut out);
            prop_assert_eq!(&out, &bytes);
        }
        let _ = (Document::parse(&bytes), Ticket::parse(&bytes));
    }
}
