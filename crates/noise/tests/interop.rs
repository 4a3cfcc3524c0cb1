//! Our handshake against snow on snow's own primitives, which share no code with ours: either side
//! may be either implementation.

#![allow(clippy::unwrap_used)]

use sinew_noise::handshake::{Initiator, NOISE1_LEN, NOISE2_LEN, Responder};
use sinew_types::{Identity, NodeId};
use snow::resolvers::DefaultResolver;
use snow::{Builder, HandshakeState};

const PSK: [u8; 32] = [0x50; 32];

fn pair(seed: u8) -> (Identity, Identity) {
    (Identity::from_seed([seed; 32]), Identity::from_seed([seed + 100; 32]))
}

/// The stock machine, set up from the protocol's text alone.
fn stock(own: &Identity, responder: &NodeId, initiator: bool) -> HandshakeState {
    let (secret, remote) = (own.x25519_secret(), responder.x25519());
    let prologue = [b"sinew/hs/v1\0".as_slice(), responder.as_bytes()].concat();
    let protocol = "Noise_IKpsk2_25519_ChaChaPoly_SHA256".parse().unwrap();
    let builder = Builder::with_resolver(protocol, Box::new(DefaultResolver))
        .local_private_key(secret.as_slice())
        .and_then(|builder| builder.prologue(&prologue))
        .and_then(|builder| builder.psk(2, &PSK))
        .unwrap();
    if initiator {
        builder.remote_public_key(&remote).unwrap().build_initiator().unwrap()
    } else {
        builder.build_responder().unwrap()
    }
}

#[test]
fn our_initiator_meets_a_stock_responder() {
    for seed in 0..8 {
        let (alice, bob) = pair(seed);
        let (mut initiator, hs1) =
            Initiator::start(&alice, &bob.node_id(), &PSK, &[1; 64], [seed; 32]).unwrap();
        let mut stock = stock(&bob, &bob.node_id(), false);
        let (mut payload, mut hs2) = ([0; 64], [0; NOISE2_LEN]);
        assert_eq!(stock.read_message(&hs1, &mut payload), Ok(64));
        assert_eq!(payload, [1; 64]);
        assert_eq!(stock.get_remote_static(), Some(alice.node_id().x25519().as_slice()));
        assert_eq!(stock.write_message(&[2; 64], &mut hs2), Ok(NOISE2_LEN));

        let (keys, payload) = initiator.finish(&hs2).unwrap();
        assert_eq!(payload, [2; 64]);
        assert_eq!(keys.hash, stock.get_handshake_hash());
        assert_eq!((*keys.send, *keys.receive), stock.dangerously_get_raw_split());
    }
}

#[test]
fn a_stock_initiator_meets_our_responder() {
    for seed in 0..8 {
        let (alice, bob) = pair(seed);
        let mut stock = stock(&alice, &bob.node_id(), true);
        let mut hs1 = [0; NOISE1_LEN];
        assert_eq!(stock.write_message(&[1; 64], &mut hs1), Ok(NOISE1_LEN));

        let received = Responder::read(&bob, &PSK, &hs1, [seed; 32]).unwrap();
        assert_eq!(received.payload, [1; 64]);
        assert_eq!(received.x25519, alice.node_id().x25519());
        let (hs2, keys) = received.responder.reply(&[2; 64]).unwrap();

        let mut payload = [0; 64];
        assert_eq!(stock.read_message(&hs2, &mut payload), Ok(64));
        assert_eq!(payload, [2; 64]);
        assert_eq!(keys.hash, stock.get_handshake_hash());
        assert_eq!((*keys.receive, *keys.send), stock.dangerously_get_raw_split());
    }
}
