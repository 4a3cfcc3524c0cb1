use super::*;
use proptest::prelude::*;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

const PSK: [u8; 32] = [0x50; 32];
const PAYLOAD1: [u8; 64] = [0x11; 64];
const PAYLOAD2: [u8; 64] = [0x22; 64];

fn alice() -> Identity {
    Identity::from_seed([1; 32])
}

fn bob() -> Identity {
    Identity::from_seed([2; 32])
}

fn start() -> (Initiator, [u8; NOISE1_LEN]) {
    Initiator::start(&alice(), &bob().node_id(), &PSK, &PAYLOAD1, [0xa; 32]).unwrap()
}

fn answer(message: &[u8; NOISE1_LEN]) -> ([u8; NOISE2_LEN], SplitKeys) {
    let received = Responder::read(&bob(), &PSK, message, [0xb; 32]).unwrap();
    received.responder.reply(&PAYLOAD2).unwrap()
}

fn read(message: &[u8; NOISE1_LEN]) -> Result<Received, HandshakeError> {
    Responder::read(&bob(), &PSK, message, [0xb; 32])
}

/// The name of the mirror image -A of A: the same X25519 key, another NodeId.
fn mirror(node: &NodeId) -> NodeId {
    let mut bytes = *node.as_bytes();
    bytes[31] ^= 0x80;
    NodeId::parse(&bytes).unwrap()
}

#[test]
fn both_sides_end_with_mirrored_keys_and_each_others_payload() {
    let (mut initiator, hs1) = start();
    let received = read(&hs1).unwrap();
    assert_eq!(received.payload, PAYLOAD1);
    assert_eq!(received.x25519, alice().node_id().x25519());
    let (hs2, theirs) = received.responder.reply(&PAYLOAD2).unwrap();
    let (ours, payload) = initiator.finish(&hs2).unwrap();
    assert_eq!(payload, PAYLOAD2);
    assert_eq!(ours.send, theirs.receive);
    assert_eq!(ours.receive, theirs.send);
    assert_ne!(ours.send, ours.receive, "each direction has its own key");
    assert_eq!(ours.hash, theirs.hash);
}

#[test]
fn the_same_seeds_give_the_same_bytes_and_others_do_not() {
    let (again, other) = (start().1, |seed: u8| {
        Initiator::start(&alice(), &bob().node_id(), &PSK, &PAYLOAD1, [seed; 32]).unwrap().1
    });
    assert_eq!(start().1, again);
    assert_ne!(other(0xa)[..32], other(0xb)[..32]);
    let reply = |seed: u8| {
        Responder::read(&bob(), &PSK, &again, [seed; 32]).unwrap().responder.reply(&PAYLOAD2).unwrap().0
    };
    assert_eq!(reply(1), reply(1));
    assert_ne!(reply(1)[..32], reply(2)[..32]);
}

#[test]
fn the_sign_bit_restores_the_identity_that_x25519_lost() {
    for seed in 0..16 {
        let identity = Identity::from_seed([seed; 32]);
        let node = identity.node_id();
        let (_, hs1) = Initiator::start(&identity, &bob().node_id(), &PSK, &PAYLOAD1, [0xa; 32]).unwrap();
        let key = read(&hs1).unwrap().x25519;
        assert_eq!(NodeId::from_x25519(&key, node.sign_bit()), Ok(node));
        assert_eq!(NodeId::from_x25519(&key, !node.sign_bit()), Ok(mirror(&node)));
        assert_ne!(mirror(&node), node);
    }
}

#[test]
fn a_message_for_the_mirror_image_of_a_node_is_not_for_it() {
    let image = mirror(&bob().node_id());
    assert_eq!(image.x25519(), bob().node_id().x25519(), "the trap this test is about");
    let (_, hs1) = Initiator::start(&alice(), &image, &PSK, &PAYLOAD1, [0xa; 32]).unwrap();
    assert_eq!(read(&hs1).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn a_message_for_another_node_does_not_read() {
    let (_, hs1) = Initiator::start(&alice(), &alice().node_id(), &PSK, &PAYLOAD1, [0xa; 32]).unwrap();
    assert_eq!(read(&hs1).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn another_mesh_secret_fails_at_the_answer() {
    let (mut initiator, hs1) = start();
    let received = Responder::read(&bob(), &[0; 32], &hs1, [0xb; 32]).unwrap();
    let (hs2, _) = received.responder.reply(&PAYLOAD2).unwrap();
    assert_eq!(initiator.finish(&hs2).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn any_changed_byte_of_hs1_is_refused() {
    let (_, hs1) = start();
    for at in 0..NOISE1_LEN {
        let mut bent = hs1;
        bent[at] ^= 1;
        assert!(read(&bent).is_err(), "byte {at}");
    }
}

#[test]
fn forged_answers_leave_the_attempt_usable() {
    let (mut initiator, hs1) = start();
    let (genuine, theirs) = answer(&hs1);
    for at in 0..NOISE2_LEN {
        let mut forged = genuine;
        forged[at] ^= 1;
        assert!(initiator.finish(&forged).is_err(), "byte {at}");
    }
    assert_eq!(initiator.finish(&[0; NOISE2_LEN]).unwrap_err(), HandshakeError::LowOrder);
    assert_eq!(initiator.finish(&[0xff; NOISE2_LEN]).unwrap_err(), HandshakeError::Forged);
    // An answer by somebody who holds the mesh secret and saw HS1, but is not Bob.
    let mallory = Identity::from_seed([3; 32]);
    let (_, other) = Initiator::start(&alice(), &mallory.node_id(), &PSK, &PAYLOAD1, [0xa; 32]).unwrap();
    let received = Responder::read(&mallory, &PSK, &other, [0xb; 32]).unwrap();
    let (hs2, _) = received.responder.reply(&PAYLOAD2).unwrap();
    assert_eq!(initiator.finish(&hs2).unwrap_err(), HandshakeError::Forged);

    let (ours, payload) = initiator.finish(&genuine).unwrap();
    assert_eq!(payload, PAYLOAD2);
    assert_eq!((ours.send, ours.receive, ours.hash), (theirs.receive, theirs.send, theirs.hash));
}

#[test]
fn an_answer_to_an_earlier_attempt_does_not_fit() {
    let (_, first) = start();
    let (old, _) = answer(&first);
    let (mut initiator, _) =
        Initiator::start(&alice(), &bob().node_id(), &PSK, &PAYLOAD1, [0xc; 32]).unwrap();
    assert_eq!(initiator.finish(&old).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn a_finished_handshake_gives_no_second_set_of_keys() {
    let (mut initiator, hs1) = start();
    let (hs2, _) = answer(&hs1);
    initiator.finish(&hs2).unwrap();
    assert_eq!(initiator.finish(&hs2).unwrap_err(), HandshakeError::Finished);
}

#[test]
fn a_low_order_ephemeral_is_refused() {
    let (_, mut hs1) = start();
    hs1[..32].fill(0);
    assert_eq!(read(&hs1).unwrap_err(), HandshakeError::LowOrder);
}

/// An initiator whose static key is the point of order 1: `ss` and `se` are zero for everybody, so
/// it needs no secret at all. Everything else it does right.
struct LowOrderStatic(Resolver);

struct LowOrderDh(Box<dyn Dh>, bool);

impl CryptoResolver for LowOrderStatic {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(LowOrderDh(self.0.resolve_dh(choice)?, false)))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.0.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        self.0.resolve_cipher(choice)
    }
}

impl Dh for LowOrderDh {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, _: &[u8]) {
        self.1 = true;
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        self.0.generate(rng)
    }
    fn pubkey(&self) -> &[u8] {
        if self.1 { &[0; 32] } else { self.0.pubkey() }
    }
    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        if self.1 {
            out[..32].fill(0);
            return Ok(());
        }
        self.0.dh(pubkey, out)
    }
}

#[test]
fn a_low_order_static_key_is_refused() {
    let mut hs1 = [0; NOISE1_LEN];
    let length =
        Builder::with_resolver(PROTOCOL.parse().unwrap(), Box::new(LowOrderStatic(Resolver::new(&[4; 32]))))
            .local_private_key(&[0; 32])
            .and_then(|builder| builder.psk(2, &PSK))
            .unwrap()
            .prologue(&prologue(&bob().node_id()))
            .unwrap()
            .remote_public_key(&bob().node_id().x25519())
            .unwrap()
            .build_initiator()
            .unwrap()
            .write_message(&PAYLOAD1, &mut hs1)
            .unwrap();
    assert_eq!(length, NOISE1_LEN);
    assert_eq!(read(&hs1).unwrap_err(), HandshakeError::LowOrder);
}

#[test]
fn the_prologue_names_the_responder() {
    let id = bob().node_id();
    assert_eq!(prologue(&id), *[b"sinew/hs/v1\0".as_slice(), id.as_bytes()].concat());
}

#[test]
fn handshakes_may_move_between_threads_and_print_no_secret() {
    fn movable<T: Send + Sync>(_: &T) {}
    let (mut initiator, hs1) = start();
    let received = read(&hs1).unwrap();
    movable(&initiator);
    movable(&received.responder);
    assert_eq!(format!("{initiator:?} {:?}", received.responder), "Initiator Responder");
    let (keys, _) = initiator.finish(&answer(&hs1).0).unwrap();
    movable(&keys);
    assert_eq!(format!("{keys:?}"), "SplitKeys");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_messages_are_refused_without_a_panic(
        hs1 in proptest::collection::vec(any::<u8>(), NOISE1_LEN),
        hs2 in proptest::collection::vec(any::<u8>(), NOISE2_LEN),
    ) {
        prop_assert!(read(hs1.as_slice().try_into().unwrap()).is_err());
        let (mut initiator, _) = start();
        prop_assert!(initiator.finish(hs2.as_slice().try_into().unwrap()).is_err());
    }
}
