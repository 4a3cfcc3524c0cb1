//! Findings of protocol B that the machine's own tests leave to a look from outside: what a lane
//! is as a type, and what many routed handshakes may take of the gate.

use std::sync::Arc;
use std::time::Duration;

use sinew_noise::mac::{mac2, psk_id};
use sinew_noise::{HandshakeMac, Initiator};
use sinew_session::{Arrival, Config, SealLane, Sessions, To};
use sinew_types::{DropReason, Identity, Instant, MeshAddr, NodeId};
use sinew_wire::handshake::{Cookie, Hs1, Hs1Payload, MSG_COOKIE, MSG_HS2};

const UNIX: u64 = 1_800_000_000_000_000;
const START: Instant = Instant::from_micros(1_000_000);

/// Does not compile if `SealLane` is `Clone`: the name then has two meanings (finding 6).
#[test]
fn a_lane_cannot_be_copied() {
    trait Meaning<A> {
        fn one() {}
    }
    struct OfClone;
    impl<T: ?Sized> Meaning<()> for T {}
    impl<T: Clone> Meaning<OfClone> for T {}
    <SealLane as Meaning<_>>::one();
}

fn identity(number: u32) -> Identity {
    let mut seed = [0x5a; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Identity::from_seed(seed)
}

/// A genuine opening by identity `number`, and the address it must come from.
fn opening(to: &NodeId, number: u32) -> (Vec<u8>, MeshAddr) {
    stamped(to, number, UNIX)
}

fn stamped(to: &NodeId, number: u32, stamp: u64) -> (Vec<u8>, MeshAddr) {
    let own = identity(number);
    let payload = Hs1Payload {
        stamp,
        assoc_own: 1,
        assoc_peer: 0,
        sign_bit: own.node_id().sign_bit(),
        stub: false,
        wants_adjacency: false,
        ciphers: 1,
        ver_min: 1,
        ver_max: 1,
        max_lanes: 16,
        rx_max: 1500,
        psk_id: psk_id(&[0; 32]),
        features: 0,
        generation: 1,
    };
    let noise = Initiator::start(&own, to, &[0; 32], &payload.emit(), [number as u8; 32]).expect("a key").1;
    let mut hs1 = Hs1 { sender: number + 1, noise, mac1: [0; 16], mac2: [0; 16] };
    hs1.mac1 = HandshakeMac::new(to, &[0; 32]).mac1(Hs1::mac1_input(&hs1.emit()));
    (hs1.emit().to_vec(), own.node_id().address())
}

struct Gate {
    sessions: Sessions,
    id: NodeId,
}

impl Gate {
    fn new() -> Self {
        let identity = Arc::new(identity(1_000_000));
        let id = identity.node_id();
        Self { sessions: Sessions::new(Config::new(identity), [1; 32], UNIX, START), id }
    }

    /// The opening of `number` by way of `ingress`.
    fn knock(&mut self, number: u32, ingress: NodeId, now: Instant) -> Result<(), DropReason> {
        let (mut message, src) = opening(&self.id, number);
        self.sessions.handle_handshake(Arrival::Routed { src, ingress }, &mut message, now)
    }

    fn answers(&mut self) -> Vec<(To, u8)> {
        let mut buf = Vec::new();
        let next = || {
            buf.clear();
            let transmit = self.sessions.poll_transmit(&mut buf)?;
            Some((transmit.to, buf[0]))
        };
        std::iter::from_fn(next).collect()
    }
}

#[test]
fn one_ingress_that_floods_leaves_the_gate_open_for_the_others() {
    let mut gate = Gate::new();
    let (loud, quiet) = (identity(1).node_id(), identity(2).node_id());
    let at = |ms: u64| START + Duration::from_millis(ms);
    gate.knock(10, loud, at(0)).expect("nobody asks much");
    gate.knock(11, quiet, at(0)).expect("nobody asks much");
    let refused =
        (100..500).filter(|&n| gate.knock(n, loud, at(100)) == Err(DropReason::RateLimited)).count();
    assert!(refused > 100, "{refused} of 400 refused");
    for n in 1000..1010 {
        assert_eq!(gate.knock(n, quiet, at(101)), Ok(()), "number {n}");
    }
}

#[test]
fn a_cookie_over_relays_is_bound_to_the_address_it_was_given_to() {
    let mut gate = Gate::new();
    let ingress = identity(1).node_id();
    gate.sessions.set_queued(512, START);
    let (message, src) = opening(&gate.id, 10);
    let routed = |src| Arrival::Routed { src, ingress };
    let refused = gate.sessions.handle_handshake(routed(src), &mut message.clone(), START);
    assert_eq!(refused, Err(DropReason::CookieRequired));
    let mut bytes = Vec::new();
    assert!(gate.sessions.poll_transmit(&mut bytes).is_some());
    let cookie = Cookie::parse(&bytes).expect("a cookie");
    // The relay that carries it can open it: it knows the name and has seen mac1.
    let mac1 = *message[168..].first_chunk().expect("HS1");
    let opened = HandshakeMac::new(&gate.id, &[0; 32]).open_cookie(&cookie.salt, &mac1, &cookie.sealed);
    let opened = opened.expect("the cookie of this HS1");
    let with_cookie = |mut message: Vec<u8>| {
        let mac = mac2(&opened, &message[..184]);
        message[184..].copy_from_slice(&mac);
        message
    };
    // For another source that it carries the cookie is worth nothing.
    let (other, elsewhere) = opening(&gate.id, 11);
    let stolen = gate.sessions.handle_handshake(routed(elsewhere), &mut with_cookie(other), START);
    assert_eq!(stolen, Err(DropReason::CookieRequired));
    let honest = gate.sessions.handle_handshake(routed(src), &mut with_cookie(message), START);
    assert_eq!(honest, Ok(()));
    let kinds = gate.answers();
    assert_eq!(kinds, [(To::Routed(elsewhere), MSG_COOKIE), (To::Routed(src), MSG_HS2)]);
}

/// Only a record proves the initiator: what an opening alone says of time is forgotten with it, or
/// a replay from the future would cost everybody a round trip for ever (findings 1 and 2).
#[test]
fn the_stamp_of_an_opening_that_was_never_confirmed_is_forgotten() {
    let mut gate = Gate::new();
    let ingress = identity(1).node_id();
    let (mut future, src) = stamped(&gate.id, 10, UNIX * 2);
    let from = Arrival::Routed { src, ingress };
    assert_eq!(gate.sessions.handle_handshake(from, &mut future, START), Ok(()));
    let (mut present, _) = opening(&gate.id, 10);
    let early = gate.sessions.handle_handshake(from, &mut present.clone(), START);
    assert_eq!(early, Err(DropReason::StaleHandshake), "while the other is pending");
    let later = START + Duration::from_secs(11);
    gate.sessions.handle_timeout(later);
    assert_eq!(gate.sessions.handle_handshake(from, &mut present, later), Ok(()));
}
