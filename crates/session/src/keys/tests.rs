use std::sync::Arc;

use sinew_noise::{Cipher, RecordKey};
use sinew_types::{DropReason, Identity, MeshAddr};
use sinew_wire::record::{DATA_OVERHEAD, HEADER_LEN, Kind, PREFIX_LEN, Prefix, TAG_LEN};
use sinew_wire::routed::{Layout, ROUTED_OVERHEAD, RoutedHeader, Watermark, Waypoints};

use super::*;
use crate::window::COUNTER_LIMIT;

fn pair(lanes: u8, cipher: Cipher) -> (Arc<SealEpoch>, OpenEpoch) {
    let peer = Identity::from_seed([1; 32]).node_id();
    let key = || RecordKey::derive(&[7; 32], cipher, &[9; 32]);
    let open = OpenEpoch::new(peer, 5, key(), lanes, Arc::new(Traffic::default()));
    (Arc::new(SealEpoch::new(1, 5, key(), [9; 32], lanes)), open)
}

fn data(lane: &mut SealLane, payload: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; DATA_OVERHEAD + payload.len()];
    buf[HEADER_LEN + PREFIX_LEN..][..payload.len()].copy_from_slice(payload);
    lane.seal(Prefix::new(Kind::Mesh), &mut buf).unwrap();
    buf
}

#[test]
fn a_record_opens_once_and_only_unaltered() {
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        let (seal, open) = pair(4, cipher);
        let mut lane = seal.take_lane().unwrap();
        let record = data(&mut lane, b"payload");
        for at in 0..record.len() {
            let mut bad = record.clone();
            bad[at] ^= 1;
            assert!(open.open(&mut bad).is_err(), "byte {at} altered");
        }
        let mut good = record.clone();
        let opened = open.open(&mut good).unwrap();
        assert_eq!((&good[opened.range], opened.first), (&b"payload"[..], true));
        assert_eq!(open.open(&mut record.clone()), Err(DropReason::Replayed));
        assert!(open.open(&mut data(&mut lane, b"")).unwrap().first, "the notice may have been lost");
        open.confirm();
        assert!(!open.open(&mut data(&mut lane, b"")).unwrap().first);
    }
}

#[test]
fn each_lane_has_a_window_of_its_own_and_lanes_above_the_agreed_number_are_refused() {
    let (seal, open) = pair(2, Cipher::ChaCha20Poly1305);
    let (mut a, mut b) = (seal.take_lane().unwrap(), seal.take_lane().unwrap());
    assert!(seal.take_lane().is_none());
    assert!(seal.is_worn(), "a worker without a lane asks for a new epoch");
    let early = data(&mut a, b"slow path");
    b.skip(1 << 20);
    open.open(&mut data(&mut b, b"fast path")).unwrap();
    open.open(&mut early.clone()).unwrap();
    let (seal, _) = pair(16, Cipher::ChaCha20Poly1305);
    let mut third = std::iter::repeat_with(|| seal.take_lane().unwrap()).nth(2).unwrap();
    assert_eq!(open.open(&mut data(&mut third, b"")), Err(DropReason::BadLane));
}

#[test]
fn a_lane_stops_before_the_limits_of_its_cipher() {
    let (seal, open) = pair(1, Cipher::Aes256Gcm);
    let mut lane = seal.take_lane().unwrap();
    lane.skip(COUNTER_LIMIT - 1);
    open.open(&mut data(&mut lane, b"last")).unwrap();
    assert_eq!(lane.seal(Prefix::new(Kind::Mesh), &mut [0; 64]), Err(DropReason::LaneExhausted));
    assert!(seal.is_worn());
}

#[test]
fn a_dead_key_seals_and_opens_nothing_even_in_an_old_snapshot() {
    let (seal, open) = pair(1, Cipher::Aes256Gcm);
    let mut lane = seal.take_lane().unwrap();
    let mut record = data(&mut lane, b"x");
    let open = Arc::new(open);
    let mut table = KeyTable::default();
    table.insert_epoch(Arc::clone(&open));
    let snapshot = table.clone();
    table.remove_epoch(5);
    assert!(table.get(5).is_none());
    assert_eq!(snapshot.get(5).unwrap().open(&mut record), Err(DropReason::KeyExpired));
    seal.kill();
    assert_eq!(lane.seal(Prefix::new(Kind::Mesh), &mut [0; 64]), Err(DropReason::KeyExpired));
}

fn header(waypoints: &[u64]) -> RoutedHeader {
    let addr = |seed| MeshAddr::of(&Identity::from_seed([seed; 32]).node_id());
    RoutedHeader {
        dst: addr(1),
        src: addr(2),
        watermark: Watermark::WORST,
        hop_limit: 64,
        ecn: 0,
        rescue: false,
        prio: 0,
        flow: 7,
        mode: 0,
        adj: 3,
        waypoints: Waypoints::new(waypoints).unwrap(),
    }
}

fn routed(lane: &mut SealLane, header: &RoutedHeader, body: &[u8]) -> Vec<u8> {
    let count = header.waypoints.count();
    let mut datagram = vec![0; ROUTED_OVERHEAD + 8 * usize::from(count) + body.len()];
    let layout = Layout::of(count, datagram.len()).unwrap();
    datagram[layout.body_head].copy_from_slice(&body[..16]);
    datagram[layout.body_rest].copy_from_slice(&body[16..]);
    lane.seal_routed(header, &mut datagram).unwrap();
    datagram
}

#[test]
fn a_relay_reseals_the_buffer_it_opened() {
    let body: Vec<u8> = (0..100).collect();
    for waypoints in [&[][..], &[1, 2, 3, 4]] {
        let (seal, open) = pair(2, Cipher::ChaCha20Poly1305);
        let mut lane = seal.take_lane().unwrap();
        let mut datagram = routed(&mut lane, &header(waypoints), &body);
        let opened = open.open_routed(&mut datagram).unwrap();
        assert_eq!(&datagram[opened.body.clone()], body);
        let next = RoutedHeader { hop_limit: 63, ..opened.header };
        lane.seal_routed(&next, &mut datagram).unwrap();
        let again = open.open_routed(&mut datagram).unwrap();
        assert_eq!((again.header, &datagram[again.body]), (next, &body[..]));
    }
}

#[test]
fn a_used_waypoint_leaves_the_buffer_from_its_front() {
    let body: Vec<u8> = (0..100).collect();
    let (seal, open) = pair(2, Cipher::ChaCha20Poly1305);
    let mut lane = seal.take_lane().unwrap();
    let mut datagram = routed(&mut lane, &header(&[1, 2]), &body);
    open.open_routed(&mut datagram).unwrap();
    lane.seal_routed(&header(&[2]), &mut datagram[8..]).unwrap();
    let opened = open.open_routed(&mut datagram[8..]).unwrap();
    assert_eq!(&datagram[8..][opened.body], body);
}

#[test]
fn a_body_can_be_neither_stretched_nor_spliced_under_a_captured_header() {
    let body: Vec<u8> = (0..100).collect();
    let (seal, open) = pair(1, Cipher::ChaCha20Poly1305);
    let mut lane = seal.take_lane().unwrap();
    let datagram = routed(&mut lane, &header(&[]), &body);
    let stretched = [&datagram[..], &[0; 4]].concat();
    let mut spliced = datagram.clone();
    let end = spliced.len() - TAG_LEN;
    spliced[end..].fill(0);
    for mut bad in [stretched, spliced, datagram[..datagram.len() - 1].to_vec()] {
        assert_eq!(open.open_routed(&mut bad), Err(DropReason::Forged));
    }
    assert!(open.open_routed(&mut datagram.clone()).is_ok());
}

#[test]
fn a_fragment_opens_with_its_header() {
    let (seal, open) = pair(1, Cipher::ChaCha20Poly1305);
    let mut buf = vec![7; 16 + 100 + 16];
    seal.take_lane().unwrap().seal_frag(1, true, 99, &mut buf).unwrap();
    let opened = open.open_frag(&mut buf).unwrap();
    assert_eq!((opened.header.piece, opened.header.last, opened.header.frag_id), (1, true, 99));
    assert_eq!(&buf[opened.range], [7; 100]);
}

#[test]
fn a_table_copies_itself_only_when_something_changes() {
    let (seal, _) = pair(1, Cipher::ChaCha20Poly1305);
    let peer = Identity::from_seed([1; 32]).node_id();
    let view = SessionView {
        peer,
        addr: peer.address(),
        epoch: Some(seal),
        generation: 1,
        path: None,
        validated: Vec::new(),
        adj: None,
        stub: false,
        traffic: Arc::default(),
        rx_max: 1500,
        stream: false,
    };
    let mut table = KeyTable::default();
    table.insert_session(view.clone());
    let snapshot = table.clone();
    table.insert_session(view.clone());
    assert!(table.is_same(&snapshot));
    table.insert_session(SessionView { adj: Some(1), ..view });
    assert!(!table.is_same(&snapshot));
    assert_eq!(snapshot.session(&peer.address()).unwrap().adj, None);
}
